// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

const (
	approveQA         = v1alpha1.ApprovalPrefix + "qa"
	approveProduction = v1alpha1.ApprovalPrefix + "production"
	rejectQA          = v1alpha1.RejectionPrefix + "qa"
	rejectProduction  = v1alpha1.RejectionPrefix + "production"
	breakQA           = v1alpha1.BreakGlassPrefix + "qa"
	breakProduction   = v1alpha1.BreakGlassPrefix + "production"
)

// way is one of the requests by which an annotation can reach a release that may or may not exist yet.
type way struct {
	name    string
	creates bool
	write   func(ctx context.Context, c client.Client, r *v1alpha1.Release, key, value string) error
}

var ways = []way{
	{"create", true, func(ctx context.Context, c client.Client, r *v1alpha1.Release, key, value string) error {
		return c.Create(ctx, release(r.Namespace, r.Name, key, value))
	}},
	{"apply of a new one", true, serverSideApply},
	{"merge patch", false, func(ctx context.Context, c client.Client, r *v1alpha1.Release, key, value string) error {
		return annotate(ctx, c, r, map[string]any{key: value})
	}},
	{"JSON patch", false, func(ctx context.Context, c client.Client, r *v1alpha1.Release, key, value string) error {
		patch, err := json.Marshal([]map[string]any{
			{"op": "add", "path": "/metadata/annotations/" + strings.ReplaceAll(key, "/", "~1"), "value": value},
		})
		if err != nil {
			return err
		}
		return c.Patch(ctx, r.DeepCopy(), client.RawPatch(types.JSONPatchType, patch))
	}},
	{"server-side apply", false, serverSideApply},
	{"replace", false, func(ctx context.Context, c client.Client, r *v1alpha1.Release, key, value string) error {
		r = r.DeepCopy()
		if err := c.Get(ctx, client.ObjectKeyFromObject(r), r); err != nil {
			return err
		}
		r.Annotations[key] = value
		return c.Update(ctx, r)
	}},
}

func serverSideApply(ctx context.Context, c client.Client, r *v1alpha1.Release, key, value string) error {
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(), "kind": "Release", "spec": map[string]any{"commit": commit},
	}}
	object.SetName(r.Name)
	object.SetNamespace(r.Namespace)
	if key != "" {
		object.SetAnnotations(map[string]string{key: value})
	}
	return c.Apply(ctx, client.ApplyConfigurationFromUnstructured(object), client.FieldOwner("somebody"), client.ForceOwnership)
}

// annotate is `kubectl annotate`; a nil removes the annotation.
func annotate(ctx context.Context, c client.Client, r *v1alpha1.Release, values map[string]any) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": values}})
	if err != nil {
		return err
	}
	return c.Patch(ctx, r.DeepCopy(), client.RawPatch(types.MergePatchType, patch))
}

// step is an annotation by a user; nil removes it.
type step struct {
	user  string
	key   string
	value any
}

// releaseAfter creates a release on which the steps were accepted.
func releaseAfter(t *testing.T, ns, name string, steps ...step) *v1alpha1.Release {
	t.Helper()
	r := release(ns, name, "", "")
	if err := as(t, dev).Create(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	for _, s := range steps {
		if err := annotate(t.Context(), as(t, s.user), r, map[string]any{s.key: s.value}); err != nil {
			t.Fatalf("%s sets %s: %v", s.user, s.key, err)
		}
	}
	return r
}

func annotationsOf(t *testing.T, r *v1alpha1.Release) map[string]string {
	t.Helper()
	got := &v1alpha1.Release{}
	if err := controller(t).Get(t.Context(), client.ObjectKeyFromObject(r), got); err != nil {
		t.Fatal(err)
	}
	return got.Annotations
}

// THREATS cases 1 and 2, in every way that an annotation can be written.
func TestForgedApprovalsAreRefusedInEveryWay(t *testing.T) {
	ns := newProject(t)
	cases := []struct{ name, user, key, value, want string }{
		{"without the verb", dev, approveQA, dev, "may not set or remove " + approveQA},
		{"without the verb, in the name of one who has it", dev, approveQA, qa, "may not set or remove " + approveQA},
		{"for another gate", lead, approveProduction, lead, "may not set or remove " + approveProduction},
		{"in another's name", lead, approveQA, qa, "in your own name"},
		{"in another's name beside one's own", lead, approveQA, lead + "," + qa, "in your own name"},
		{"rejection without the verb", dev, rejectQA, dev + ": bad", "may not set or remove " + rejectQA},
		{"rejection in another's name", lead, rejectQA, qa + ": bad", "in your own name"},
		{"rejection without a reason", lead, rejectQA, lead + ": ", "needs a reason"},
		{"break-glass without the verb", lead, breakQA, lead + ": fire", "may not set or remove " + breakQA},
	}
	for w, way := range ways {
		for i, c := range cases {
			t.Run(way.name+"/"+c.name, func(t *testing.T) {
				r := release(ns, fmt.Sprintf("forged-%d-%d", w, i), "", "")
				if !way.creates {
					r = releaseAfter(t, ns, r.Name)
				}
				wantRefused(t, way.write(t.Context(), as(t, c.user), r, c.key, c.value), "sirrat-approvals", c.want)
			})
		}
	}
}

func TestOwnApprovalIsAcceptedInEveryWay(t *testing.T) {
	ns := newProject(t)
	for w, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			r := release(ns, fmt.Sprintf("own-%d", w), "", "")
			if !way.creates {
				r = releaseAfter(t, ns, r.Name)
			}
			wantAccepted(t, way.write(t.Context(), as(t, lead), r, approveQA, lead))
			if got := annotationsOf(t, r)[approveQA]; got != lead {
				t.Errorf("the annotation is %q, want %q", got, lead)
			}
		})
	}
}

// A status is not a back door, not even for those who may write it.
func TestStatusCarriesNoAnnotation(t *testing.T) {
	ns := newProject(t)
	r := releaseAfter(t, ns, "status")
	patch := merge(`{"metadata":{"annotations":{%q:%q}},"status":{"next":"x"}}`, approveQA, qa)
	for _, user := range []string{viewer, dev, qa, cto, signer} {
		wantRefused(t, as(t, user).Status().Patch(t.Context(), r.DeepCopy(), patch), "releases/status")
	}
	wantAccepted(t, controller(t).Status().Patch(t.Context(), r.DeepCopy(), patch))
	replaced := &v1alpha1.Release{}
	if err := controller(t).Get(t.Context(), client.ObjectKeyFromObject(r), replaced); err != nil {
		t.Fatal(err)
	}
	replaced.Annotations = map[string]string{approveQA: qa}
	replaced.Status.Next = "y"
	wantAccepted(t, controller(t).Status().Update(t.Context(), replaced))
	if got := annotationsOf(t, r); got[approveQA] != "" || got[v1alpha1.AnnotationCreatedBy] != dev {
		t.Errorf("annotations changed through /status: %v", got)
	}
}

func TestRefusedChanges(t *testing.T) {
	ns := newProject(t)
	approved := []step{{qa, approveQA, qa}}
	both := []step{{qa, approveQA, qa}, {qa2, approveQA, qa + "," + qa2}}
	rejected := []step{{qa, rejectQA, qa + ": invoices are wrong"}}
	many := qa + "," + strings.Repeat("x,", 40) + qa2
	cases := []struct {
		name   string
		before []step
		try    step
		want   string
	}{
		// Withdrawing
		{"withdraw another's", approved, step{qa2, approveQA, nil}, "withdrawn by its own user"},
		{"withdraw another's, as CTO", approved, step{cto, approveQA, nil}, "withdrawn by its own user"},
		{"withdraw another's, without the verb", approved, step{dev, approveQA, nil}, "may not set or remove"},
		{"put oneself in another's place", approved, step{qa2, approveQA, qa2}, "withdrawn by its own user"},
		{"drop the other from the list", both, step{qa2, approveQA, qa2}, "withdrawn by its own user"},
		{"drop both", both, step{qa2, approveQA, nil}, "withdrawn by its own user"},
		// Lists
		{"space before", approved, step{qa2, approveQA, qa + ", " + qa2}, "without spaces"},
		{"space after", nil, step{qa2, approveQA, qa2 + " "}, "without spaces"},
		{"twice the same", nil, step{qa2, approveQA, qa2 + "," + qa2}, "repeated"},
		{"another's twice", approved, step{qa2, approveQA, qa + "," + qa + "," + qa2}, "repeated"},
		{"empty first", nil, step{qa2, approveQA, "," + qa2}, "empty"},
		{"empty last", nil, step{qa2, approveQA, qa2 + ","}, "empty"},
		{"nothing", nil, step{qa2, approveQA, ""}, "remove the annotation"},
		{"nothing instead of own", approved, step{qa, approveQA, ""}, "remove the annotation"},
		{"semicolon", approved, step{qa2, approveQA, qa + ";" + qa2}, "own name"},
		{"blank between", approved, step{qa2, approveQA, qa + " " + qa2}, "own name"},
		{"line end", approved, step{qa2, approveQA, qa + "\n" + qa2}, "approval is a list"},
		{"zero width space", nil, step{qa2, approveQA, qa2 + "\u200b"}, "approval is a list"},
		{"no-break space", nil, step{qa2, approveQA, qa2 + "\u00a0"}, "approval is a list"},
		{"other case", nil, step{qa2, approveQA, strings.ToUpper(qa2)}, "own name"},
		{"part of the name", nil, step{qa2, approveQA, "qa2"}, "own name"},
		{"everybody", nil, step{qa2, approveQA, "*"}, "own name"},
		{"too many", approved, step{qa2, approveQA, many}, "at most 32"},
		// Keys
		{"key in another case", nil, step{cto, "Approval.sirrat.dynors.com/qa", cto}, "name of a gate"},
		{"gate in another case", nil, step{cto, v1alpha1.ApprovalPrefix + "QA", cto}, "name of a gate"},
		{"gate with a dot", nil, step{cto, v1alpha1.ApprovalPrefix + "qa.x", cto}, "name of a gate"},
		{"gate with an underscore", nil, step{cto, v1alpha1.RejectionPrefix + "qa_x", cto + ": bad"}, "name of a gate"},
		{"gate too long", nil, step{cto, v1alpha1.ApprovalPrefix + strings.Repeat("g", 60), cto}, "name of a gate"},
		{"gate of a similar name", nil, step{qa, approveQA + "2", qa}, "may not set or remove"},
		// Rejections
		{"name only", nil, step{qa, rejectQA, qa}, "in your own name"},
		{"no space", nil, step{qa, rejectQA, qa + ":bad"}, "in your own name"},
		{"empty", nil, step{qa, rejectQA, ""}, "in your own name"},
		{"reason without a name", nil, step{qa, rejectQA, "invoices are wrong"}, "in your own name"},
		{"name as a prefix of another", nil, step{qa, rejectQA, qa + ".example: bad"}, "in your own name"},
		{"blank reason", nil, step{qa, rejectQA, qa + ":    "}, "needs a reason"},
		{"reason of dots", nil, step{qa, rejectQA, qa + ": ..."}, "needs a reason"},
		{"invisible reason", nil, step{qa, rejectQA, qa + ": \u200b\u00a0"}, "needs a reason"},
		{"line end in a reason", nil, step{qa, rejectQA, qa + ": a\nb"}, "control characters"},
		{"tabulator in a reason", nil, step{qa, rejectQA, qa + ": a\tb"}, "control characters"},
		{"escape in a reason", nil, step{qa, rejectQA, qa + ": a\x1b[31mb"}, "control characters"},
		{"right-to-left mark in a reason", nil, step{qa, rejectQA, qa + ": a\u202eb"}, "control characters"},
		{"too long a reason", nil, step{qa, rejectQA, qa + ": " + strings.Repeat("é", 1001)}, "1 to 1000"},
		{"lifted without the verb", rejected, step{dev, rejectQA, nil}, "may not set or remove"},
		{"replaced in the same name", rejected, step{qa2, rejectQA, qa + ": all is well"}, "in your own name"},
		{"for another gate", nil, step{qa, rejectProduction, qa + ": bad"}, "may not set or remove"},
		// Break-glass
		{"break-glass by QA", nil, step{qa, breakQA, qa + ": fire"}, "may not set or remove"},
		{"break-glass in another's name", nil, step{cto, breakProduction, qa + ": fire"}, "in your own name"},
		{"break-glass without a reason", nil, step{cto, breakProduction, cto + ": "}, "needs a reason"},
		{"break-glass taken back by QA", []step{{cto, breakQA, cto + ": fire"}}, step{qa, breakQA, nil}, "may not set or remove"},
	}
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := releaseAfter(t, ns, fmt.Sprintf("refused-%d", i), c.before...)
			before := annotationsOf(t, r)
			err := annotate(t.Context(), as(t, c.try.user), r, map[string]any{c.try.key: c.try.value})
			wantRefused(t, err, "sirrat-approvals", c.want)
			if after := annotationsOf(t, r); !maps.Equal(before, after) {
				t.Errorf("annotations changed from %v to %v", before, after)
			}
		})
	}
}

func TestAcceptedChanges(t *testing.T) {
	ns := newProject(t)
	cases := []struct {
		name  string
		steps []step
		want  map[string]string
	}{
		{"two approvers in turn", []step{{qa, approveQA, qa}, {qa2, approveQA, qa + "," + qa2}}, map[string]string{approveQA: qa + "," + qa2}},
		{"the second in front", []step{{qa, approveQA, qa}, {qa2, approveQA, qa2 + "," + qa}}, map[string]string{approveQA: qa2 + "," + qa}},
		{"own withdrawal", []step{{qa, approveQA, qa}, {qa, approveQA, nil}}, map[string]string{}},
		{
			"own withdrawal from a list",
			[]step{{qa, approveQA, qa}, {qa2, approveQA, qa + "," + qa2}, {qa, approveQA, qa2}},
			map[string]string{approveQA: qa2},
		},
		{"given again", []step{{qa, approveQA, qa}, {qa, approveQA, nil}, {qa, approveQA, qa}}, map[string]string{approveQA: qa}},
		{"CTO at a gate of any name", []step{{cto, v1alpha1.ApprovalPrefix + "of-our-own", cto}}, map[string]string{v1alpha1.ApprovalPrefix + "of-our-own": cto}},
		{"rejection", []step{{qa, rejectQA, qa + ": « n'imprime pas » — 100 %, voilà 👩‍💻"}}, map[string]string{rejectQA: qa + ": « n'imprime pas » — 100 %, voilà 👩‍💻"}},
		{"rejection of 1000 characters", []step{{qa, rejectQA, qa + ": " + strings.Repeat("é", 1000)}}, map[string]string{rejectQA: qa + ": " + strings.Repeat("é", 1000)}},
		{"rejection lifted by its user", []step{{qa, rejectQA, qa + ": bad"}, {qa, rejectQA, nil}}, map[string]string{}},
		{"rejection lifted by another approver", []step{{qa, rejectQA, qa + ": bad"}, {qa2, rejectQA, nil}}, map[string]string{}},
		{"rejection taken over", []step{{qa, rejectQA, qa + ": bad"}, {cto, rejectQA, cto + ": worse"}}, map[string]string{rejectQA: cto + ": worse"}},
		{"rejected beside an approval", []step{{qa, approveQA, qa}, {qa2, rejectQA, qa2 + ": bad"}}, map[string]string{approveQA: qa, rejectQA: qa2 + ": bad"}},
		{"break-glass", []step{{cto, breakProduction, cto + ": down"}}, map[string]string{breakProduction: cto + ": down"}},
		{"break-glass taken back", []step{{cto, breakProduction, cto + ": down"}, {cto, breakProduction, nil}}, map[string]string{}},
		{"other annotations are free", []step{{qa, approveQA, qa}, {dev, v1alpha1.AnnotationRetry, "dev@1"}}, map[string]string{approveQA: qa}},
		{"other prefixes are free", []step{{dev, "approval.example.com/qa", dev}}, map[string]string{}},
	}
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := annotationsOf(t, releaseAfter(t, ns, fmt.Sprintf("accepted-%d", i), c.steps...))
			maps.DeleteFunc(got, func(key, _ string) bool {
				return !strings.HasPrefix(key, v1alpha1.ApprovalPrefix) && !strings.HasPrefix(key, v1alpha1.RejectionPrefix) &&
					!strings.HasPrefix(key, v1alpha1.BreakGlassPrefix)
			})
			if !maps.Equal(got, c.want) {
				t.Errorf("the release carries %v, want %v", got, c.want)
			}
		})
	}
}

// A developer goes on working on a release that others approved.
func TestApprovalsDoNotStandInTheWay(t *testing.T) {
	ns := newProject(t)
	r := releaseAfter(t, ns, "approved", step{qa, approveQA, qa}, step{cto, rejectProduction, cto + ": not before Monday"})
	wantAccepted(t, as(t, dev).Patch(t.Context(), r.DeepCopy(), merge(`{"spec":{"version":"v1.3.0"}}`)))
	wantAccepted(t, serverSideApply(t.Context(), as(t, dev), r, "team.example.com/ticket", "42"))
	if got := annotationsOf(t, r); got[approveQA] != qa {
		t.Errorf("the approval is gone: %v", got)
	}
}

// A replace that leaves annotations out is a withdrawal.
func TestReplaceWithoutAnnotations(t *testing.T) {
	ns := newProject(t)
	r := releaseAfter(t, ns, "replaced", step{qa, approveQA, qa})
	for user, want := range map[string]string{dev: "may not set or remove", qa2: "withdrawn by its own user"} {
		bare := release(ns, r.Name, "", "")
		bare.ResourceVersion = func() string {
			current := &v1alpha1.Release{}
			if err := as(t, user).Get(t.Context(), client.ObjectKeyFromObject(r), current); err != nil {
				t.Fatal(err)
			}
			return current.ResourceVersion
		}()
		wantRefused(t, as(t, user).Update(t.Context(), bare), "sirrat-approvals", want)
	}
}

// THREATS case 4: approvals are not carried over to another object of the same name.
func TestApprovalsAreNotCopiedToARecreatedRelease(t *testing.T) {
	ns := newProject(t)
	old := releaseAfter(t, ns, "again", step{qa, approveQA, qa}, step{cto, approveProduction, cto})
	annotations := annotationsOf(t, old)
	wantAccepted(t, controller(t).Delete(t.Context(), old))
	for user, want := range map[string]string{dev: "may not set or remove", lead: approveProduction} {
		copied := release(ns, "again", "", "")
		copied.Annotations = maps.Clone(annotations)
		delete(copied.Annotations, v1alpha1.AnnotationCreatedBy)
		wantRefused(t, as(t, user).Create(t.Context(), copied), "sirrat-approvals", want)
	}
	wantRefused(t, as(t, lead).Create(t.Context(), release(ns, "again", approveQA, qa)), "in your own name")
	fresh := release(ns, "again", "", "")
	wantAccepted(t, as(t, dev).Create(t.Context(), fresh))
	if fresh.UID == old.UID || fresh.Annotations[approveQA] != "" {
		t.Errorf("the new release has uid %s (old %s) and annotations %v", fresh.UID, old.UID, fresh.Annotations)
	}
}

// An authorizer check is dear in CEL: the policy spreads them, up to 8, and says so beyond.
func TestSeveralGatesAtOnce(t *testing.T) {
	ns := newProject(t)
	change := func(n int) map[string]any {
		values := map[string]any{}
		for i := range n {
			switch prefix := []string{v1alpha1.ApprovalPrefix, v1alpha1.RejectionPrefix, v1alpha1.BreakGlassPrefix}[i%3]; prefix {
			case v1alpha1.ApprovalPrefix:
				values[fmt.Sprintf("%sgate-%d", prefix, i)] = cto
			default:
				values[fmt.Sprintf("%sgate-%d", prefix, i)] = cto + ": because"
			}
		}
		return values
	}
	wantAccepted(t, annotate(t.Context(), as(t, cto), releaseAfter(t, ns, "eight"), change(8)))
	wantRefused(t, annotate(t.Context(), as(t, cto), releaseAfter(t, ns, "nine"), change(9)), "fewer at a time")
	// Whichever of the eight it is, one that is not allowed refuses all.
	for missing := range 8 {
		user := fmt.Sprintf("all-but-%d@dynors.com", missing)
		values, gates := map[string]any{}, []string{}
		for i := range 8 {
			values[fmt.Sprintf("%sgate-%d", v1alpha1.ApprovalPrefix, i)] = user
			if i != missing {
				gates = append(gates, fmt.Sprintf("gate-%d", i))
			}
		}
		approver(t, ns, user, gates)
		r := releaseAfter(t, ns, fmt.Sprintf("all-but-%d", missing))
		wantRefused(t, annotate(t.Context(), as(t, user), r, values), "may not set or remove")
		delete(values, fmt.Sprintf("%sgate-%d", v1alpha1.ApprovalPrefix, missing))
		wantAccepted(t, annotate(t.Context(), as(t, user), r, values))
	}
}

// approver gives a user the verb approve on some gates and waits until it counts.
func approver(t *testing.T, ns, user string, gates []string) {
	t.Helper()
	mustCreate(t, &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: user, Namespace: ns},
		Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{v1alpha1.Group}, Resources: []string{"releases"}, Verbs: []string{"patch"}},
			{APIGroups: []string{v1alpha1.Group}, Resources: []string{"qualitygates"}, ResourceNames: gates, Verbs: []string{"approve"}},
		},
	})
	mustCreate(t, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: user, Namespace: ns},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: user},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: user}},
	})
	eventually(t, "the role of "+user+" takes effect", func() error {
		if !allowed(t, access{user: user, verb: "approve", resource: "qualitygates", name: gates[0], ns: ns}) {
			return errors.New("not yet")
		}
		return nil
	})
}

// Names that would read as two, or as a name and a reason.
func TestUserNamesThatCannotApprove(t *testing.T) {
	ns := newProject(t)
	for i, user := range []string{"a,b", "a: b", " a", "a ", "a\tb", "a\u202eb", "a  b", strings.Repeat("a", 254)} {
		r := releaseAfter(t, ns, fmt.Sprintf("name-%d", i))
		c := as(t, user, "system:masters")
		wantRefused(t, annotate(t.Context(), c, r, map[string]any{approveQA: user}), "this user name cannot approve")
		wantRefused(t, annotate(t.Context(), c, r, map[string]any{rejectQA: user + ": bad"}), "this user name cannot approve")
	}
	for i, user := range []string{"Jean Dupont", "oidc:jean@dynors.com", "system:serviceaccount:ci:bot", "https://idp.example#jean", "é"} {
		r := releaseAfter(t, ns, fmt.Sprintf("good-name-%d", i))
		c := as(t, user, "system:masters")
		wantAccepted(t, annotate(t.Context(), c, r, map[string]any{approveQA: user}))
		wantAccepted(t, annotate(t.Context(), c, r, map[string]any{rejectQA: user + ": bad"}))
	}
}

// The verb is asked for in the project of the release, and administrators write in their own name like everybody.
func TestApprovalIsLimitedToTheProject(t *testing.T) {
	ns, other := newProject(t), newProject(t)
	outsider := as(t, "outsider@dynors.com", "outsiders")
	bind(t, ns, "sirrat-cto", "outsider@dynors.com")
	bind(t, other, "sirrat-developer", "outsider@dynors.com")
	mine, theirs := releaseAfter(t, ns, "mine"), releaseAfter(t, other, "theirs")
	eventually(t, "the roles take effect", func() error {
		return annotate(t.Context(), outsider, mine, map[string]any{approveProduction: "outsider@dynors.com"})
	})
	wantRefused(t, annotate(t.Context(), outsider, theirs, map[string]any{approveProduction: "outsider@dynors.com"}),
		"may not set or remove", "of project "+other)
	wantRefused(t, annotate(t.Context(), controller(t), theirs, map[string]any{approveProduction: cto}), "in your own name")
	wantRefused(t, annotate(t.Context(), controller(t), mine, map[string]any{approveProduction: nil}), "withdrawn by its own user")
}
