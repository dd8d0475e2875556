// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// upholder may create PVs, as the controllers do, and has none of the custom verbs.
const upholder = "upholder@dynors.com"

func paperOf(user string) *v1alpha1.PaperPV {
	return &v1alpha1.PaperPV{Decision: v1alpha1.PVAccepted, SignedBy: "Claire Client", SignedOn: "2026-11-20", ScanHash: digest('9'), UploadedBy: user}
}

// pvWay is one of the requests by which a paper or an annotation can reach a PV. what holds spec.paper or
// metadata.annotations, as a merge patch does.
type pvWay struct {
	name    string
	creates bool
	write   func(ctx context.Context, c client.Client, pv *v1alpha1.PV, what map[string]any) error
}

var pvWays = []pvWay{
	{"create", true, func(ctx context.Context, c client.Client, pv *v1alpha1.PV, what map[string]any) error {
		return c.Create(ctx, with(pv, what))
	}},
	{"apply of a new one", true, applyPV},
	{"merge patch", false, func(ctx context.Context, c client.Client, pv *v1alpha1.PV, what map[string]any) error {
		text, err := json.Marshal(what)
		if err != nil {
			return err
		}
		return c.Patch(ctx, pv.DeepCopy(), merge("%s", text))
	}},
	{"JSON patch", false, func(ctx context.Context, c client.Client, pv *v1alpha1.PV, what map[string]any) error {
		var ops []map[string]any
		if paper, found, _ := unstructured.NestedMap(what, "spec", "paper"); found {
			ops = append(ops, map[string]any{"op": "add", "path": "/spec/paper", "value": paper})
		}
		if annotations, found, _ := unstructured.NestedMap(what, "metadata", "annotations"); found {
			ops = append(ops, map[string]any{"op": "add", "path": "/metadata/annotations", "value": annotations})
		}
		text, err := json.Marshal(ops)
		if err != nil {
			return err
		}
		return c.Patch(ctx, pv.DeepCopy(), client.RawPatch(types.JSONPatchType, text))
	}},
	{"server-side apply", false, applyPV},
	{"replace", false, func(ctx context.Context, c client.Client, pv *v1alpha1.PV, what map[string]any) error {
		read := &v1alpha1.PV{}
		if err := c.Get(ctx, client.ObjectKeyFromObject(pv), read); err != nil {
			return err
		}
		return c.Update(ctx, with(read, what))
	}},
}

// with is the PV with what a merge patch says.
func with(pv *v1alpha1.PV, what map[string]any) *v1alpha1.PV {
	out := pv.DeepCopy()
	if paper, found, _ := unstructured.NestedMap(what, "spec", "paper"); found {
		out.Spec.Paper = &v1alpha1.PaperPV{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(paper, out.Spec.Paper); err != nil {
			panic(err)
		}
	}
	if annotations, found, _ := unstructured.NestedStringMap(what, "metadata", "annotations"); found {
		out.Annotations = annotations
	}
	return out
}

func applyPV(ctx context.Context, c client.Client, pv *v1alpha1.PV, what map[string]any) error {
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(with(pv, what))
	if err != nil {
		return err
	}
	delete(object, "status")
	u := &unstructured.Unstructured{Object: object}
	u.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("PV"))
	u.SetManagedFields(nil)
	u.SetResourceVersion("")
	u.SetUID("")
	u.SetCreationTimestamp(metav1.Time{})
	u.SetGeneration(0)
	unstructured.RemoveNestedField(u.Object, "metadata", "creationTimestamp")
	return c.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.FieldOwner("somebody"), client.ForceOwnership)
}

func asPatch(t *testing.T, paper *v1alpha1.PaperPV) map[string]any {
	t.Helper()
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(paper)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]any{"spec": map[string]any{"paper": object}}
}

func asLift(key, value string) map[string]any {
	return map[string]any{"metadata": map[string]any{"annotations": map[string]any{key: value}}}
}

// paperProject is a project with somebody who may create PVs and nothing more.
func paperProject(t *testing.T) string {
	t.Helper()
	ns := newProject(t)
	bind(t, ns, "sirrat-controller", upholder)
	eventually(t, "the role takes effect", func() error {
		return as(t, upholder).Create(t.Context(), newPV(ns, "probe"), client.DryRunAll)
	})
	return ns
}

// A paper speaks for the client: only those may announce one who may, in their own name, whichever way it is written.
func TestForgedPapersAreRefusedInEveryWay(t *testing.T) {
	ns := paperProject(t)
	cases := []struct{ name, user, by, want string }{
		{"without the verb", upholder, upholder, "may not set, change or remove the paper"},
		{"without the verb, in the name of one who has it", upholder, qa, "may not set, change or remove the paper"},
		{"with the verb, in another's name", "system:admin", qa, "in your own name only"},
	}
	for w, way := range pvWays {
		for i, c := range cases {
			t.Run(way.name+"/"+c.name, func(t *testing.T) {
				pv := newPV(ns, fmt.Sprintf("forged-%d-%d", w, i))
				if !way.creates {
					pv = mustCreate(t, pv)
				}
				user := as(t, c.user)
				if c.user == "system:admin" {
					user = as(t, c.user, "system:masters")
				}
				wantRefused(t, way.write(t.Context(), user, pv, asPatch(t, paperOf(c.by))), "sirrat-pv", c.want)
			})
		}
	}
	pv := mustCreate(t, newPV(ns, "members"))
	for _, user := range []string{viewer, dev} {
		wantRefused(t, pvWays[2].write(t.Context(), as(t, user), pv, asPatch(t, paperOf(user))), "cannot patch")
	}
	wantRefused(t, pvWays[2].write(t.Context(), as(t, signer), pv, asPatch(t, paperOf(signer))), "may not set, change or remove the paper")
	wantRefused(t, pvWays[2].write(t.Context(), as(t, qa), pv, asPatch(t, paperOf(qa2))), "in your own name only", qa)
}

func TestOwnPaperIsAcceptedInEveryWay(t *testing.T) {
	ns := paperProject(t)
	bindVerbs(t, ns, "upload-"+ns, upholder, "upload")
	for w, way := range pvWays {
		t.Run(way.name, func(t *testing.T) {
			pv := newPV(ns, fmt.Sprintf("own-%d", w))
			if !way.creates {
				pv = mustCreate(t, pv)
			}
			eventually(t, "the right to upload", func() error {
				return way.write(t.Context(), as(t, upholder), pv, asPatch(t, paperOf(upholder)))
			})
		})
	}
	for _, user := range []string{qa, cto} {
		pv := mustCreate(t, newPV(ns, "by-"+strings.Split(user, "@")[0]))
		wantAccepted(t, pvWays[2].write(t.Context(), as(t, user), pv, asPatch(t, paperOf(user))))
	}
}

func TestWhoMayTakeAPaperBack(t *testing.T) {
	ns := paperProject(t)
	remove := merge(`{"spec":{"paper":null}}`)
	announced := func(name, by string) *v1alpha1.PV {
		pv := newPV(ns, name)
		pv = mustCreate(t, pv)
		wantAccepted(t, pvWays[2].write(t.Context(), as(t, by), pv, asPatch(t, paperOf(by))))
		return pv
	}
	pv := announced("one", qa)
	wantRefused(t, as(t, signer).Patch(t.Context(), pv.DeepCopy(), remove), "may not set, change or remove the paper")
	wantRefused(t, as(t, upholder).Patch(t.Context(), pv.DeepCopy(), remove), "may not set, change or remove the paper")
	// Another's statement is not to be reworded under that name, only replaced under one's own.
	wantRefused(t, as(t, cto).Patch(t.Context(), pv.DeepCopy(), merge(`{"spec":{"paper":{"signedBy":"Somebody"}}}`)), "in your own name only")
	wantAccepted(t, as(t, cto).Patch(t.Context(), pv.DeepCopy(), merge(`{"spec":{"paper":{"uploadedBy":%q}}}`, cto)))
	wantAccepted(t, as(t, qa).Patch(t.Context(), pv.DeepCopy(), remove))

	// The uploader may take it back after having lost the verb.
	const once = "once@dynors.com"
	bind(t, ns, "sirrat-client", once) // patch, and no custom verb
	pv = newPV(ns, "two")
	pv.Spec.Paper = paperOf("system:admin")
	if err := as(t, "system:admin", "system:masters").Create(t.Context(), pv); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the right to patch", func() error {
		return as(t, once).Patch(t.Context(), pv.DeepCopy(), merge(`{"metadata":{"annotations":{"x":"y"}}}`))
	})
	wantRefused(t, as(t, once).Patch(t.Context(), pv.DeepCopy(), remove), "may not set, change or remove the paper")
	bind(t, ns, "sirrat-client", "system:admin")
	eventually(t, "the right to patch", func() error {
		return as(t, "system:admin").Patch(t.Context(), pv.DeepCopy(), merge(`{"metadata":{"annotations":{"x":"z"}}}`))
	})
	wantRefused(t, as(t, "system:admin").Patch(t.Context(), pv.DeepCopy(), merge(`{"spec":{"paper":{"signedBy":"Somebody"}}}`)), "may not set, change")
	wantAccepted(t, as(t, "system:admin").Patch(t.Context(), pv.DeepCopy(), remove))
}

// bindVerbs gives a user custom verbs on PVs.
func bindVerbs(t *testing.T, ns, name, user string, verbs ...string) {
	t.Helper()
	role := &unstructured.Unstructured{Object: map[string]any{"rules": []any{map[string]any{
		"apiGroups": []any{v1alpha1.Group}, "resources": []any{"pvs"}, "verbs": func() (out []any) {
			for _, v := range verbs {
				out = append(out, v)
			}
			return out
		}(),
	}}}}
	role.SetAPIVersion("rbac.authorization.k8s.io/v1")
	role.SetKind("ClusterRole")
	role.SetName(name)
	mustCreate(t, role)
	bind(t, ns, name, user)
}

const lift1 = v1alpha1.LiftedPrefix + "1"

// reserved creates a PV that the client accepted with two reservations.
func reserved(t *testing.T, ns, name string) *v1alpha1.PV {
	t.Helper()
	pv := mustCreate(t, newPV(ns, name))
	now := metav1.Now()
	pv.Status = v1alpha1.PVStatus{
		Decision: v1alpha1.PVAcceptedWithReservations, SignedBy: "Client signatory", SignedAt: &now, SignatureHash: digest('b'),
		Reservations: []v1alpha1.Reservation{{Text: "logo is blurred"}, {Text: "slow"}},
	}
	if err := controller(t).Status().Update(t.Context(), pv); err != nil {
		t.Fatal(err)
	}
	return pv
}

func TestForgedLiftsAreRefusedInEveryWay(t *testing.T) {
	ns := paperProject(t)
	cases := []struct{ name, user, value, want string }{
		{"without the verb", upholder, upholder + ": done", "may not set or remove " + lift1},
		{"without the verb, in another's name", upholder, qa + ": done", "may not set or remove " + lift1},
		{"in another's name", "", qa + ": done", "in your own name"},
	}
	for w, way := range pvWays {
		for i, c := range cases {
			t.Run(way.name+"/"+c.name, func(t *testing.T) {
				name, want := fmt.Sprintf("forged-%d-%d", w, i), c.want
				pv := newPV(ns, name)
				if !way.creates {
					pv = reserved(t, ns, name)
				}
				user := as(t, c.user)
				if c.user == "" {
					user = controller(t)
				}
				if way.creates && c.user == "" {
					want = "no reservation of that number"
				}
				wantRefused(t, way.write(t.Context(), user, pv, asLift(lift1, c.value)), "sirrat-pv", want)
			})
		}
	}
}

func TestLifts(t *testing.T) {
	ns := paperProject(t)
	pv := reserved(t, ns, "reserved")
	lift := func(user, key string, value any) error {
		text, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{key: value}}})
		if err != nil {
			t.Fatal(err)
		}
		return as(t, user).Patch(t.Context(), pv.DeepCopy(), merge("%s", text))
	}
	for key, want := range map[string]string{
		v1alpha1.LiftedPrefix + "0":   "1 to 64",
		v1alpha1.LiftedPrefix + "01":  "1 to 64",
		v1alpha1.LiftedPrefix + "65":  "1 to 64",
		v1alpha1.LiftedPrefix + "100": "1 to 64",
		v1alpha1.LiftedPrefix + "x":   "1 to 64",
		"Lifted.sirrat.dynors.com/1":  "1 to 64",
		"lifted.SIRRAT.dynors.com/1":  "1 to 64",
		v1alpha1.LiftedPrefix + "3":   "no reservation of that number",
		v1alpha1.LiftedPrefix + "64":  "no reservation of that number",
	} {
		wantRefused(t, lift(qa, key, qa+": done"), "sirrat-pv", want)
	}
	for value, want := range map[string]string{
		"":                             "in your own name",
		qa:                             "in your own name",
		qa + ":done":                   "in your own name",
		qa + ": ":                      "how",
		qa + ": ...":                   "how",
		qa + ": a\nb":                  "how",
		qa + ": \u202etxt":             "how",
		qa + ": " + long(1001):         "how",
		qa2 + ": done":                 "in your own name",
		" " + qa + ": done":            "in your own name",
		strings.ToUpper(qa) + ": done": "in your own name",
	} {
		wantRefused(t, lift(qa, lift1, value), "sirrat-pv", want)
	}
	wantRefused(t, lift(signer, lift1, signer+": done"), "may not set or remove "+lift1)
	wantRefused(t, lift(dev, lift1, dev+": done"), "cannot patch")
	wantAccepted(t, lift(qa, lift1, qa+": "+long(1000)))
	wantAccepted(t, lift(cto, v1alpha1.LiftedPrefix+"2", cto+": logo replaced in v1.3.1"))
	for _, user := range []string{qa, cto} {
		wantRefused(t, lift(user, lift1, nil), "stays settled")
		wantRefused(t, lift(user, lift1, user+": otherwise"), "stays settled")
	}
	wantRefused(t, controller(t).Patch(t.Context(), pv.DeepCopy(), merge(`{"metadata":{"annotations":null}}`)), "stays settled")
	// Around what is settled, life goes on.
	wantAccepted(t, as(t, signer).Patch(t.Context(), pv.DeepCopy(), merge(`{"metadata":{"annotations":{"team.example.com/note":"x"}}}`)))

	// Nothing can be settled in advance.
	open := mustCreate(t, newPV(ns, "open"))
	wantRefused(t, as(t, qa).Patch(t.Context(), open, merge(`{"metadata":{"annotations":{%q:%q}}}`, lift1, qa+": done")), "no reservation of that number")
}

func long(n int) string { return strings.Repeat("a", n) }

// The largest object that the API takes does not exceed what an admission policy may cost.
func TestManyLiftsAtOnce(t *testing.T) {
	ns := paperProject(t)
	pv := mustCreate(t, newPV(ns, "many"))
	now := metav1.Now()
	pv.Status = v1alpha1.PVStatus{Decision: v1alpha1.PVAcceptedWithReservations, SignedBy: "x", SignedAt: &now, SignatureHash: digest('b')}
	annotations := map[string]any{}
	for i := range 64 {
		pv.Status.Reservations = append(pv.Status.Reservations, v1alpha1.Reservation{Text: "x"})
		annotations[fmt.Sprint(v1alpha1.LiftedPrefix, i+1)] = qa + ": " + long(1000)
	}
	if err := controller(t).Status().Update(t.Context(), pv); err != nil {
		t.Fatal(err)
	}
	for i := range 1500 {
		annotations[fmt.Sprintf("team.example.com/%d", i)] = "x"
	}
	text, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": annotations}})
	if err != nil {
		t.Fatal(err)
	}
	wantAccepted(t, as(t, qa).Patch(t.Context(), pv, merge("%s", text)))
}

func TestWhoMaySpeakForTheClient(t *testing.T) {
	ns := newProject(t)
	for _, verb := range []string{"upload", "lift"} {
		for user, want := range map[string]bool{viewer: false, dev: false, signer: false, qa: true, cto: true} {
			if got := allowed(t, access{user: user, verb: verb, resource: "pvs", name: "a1b2c3d", ns: ns}); got != want {
				t.Errorf("%s may %s: %v, want %v", user, verb, got, want)
			}
		}
	}
	for user, want := range map[string]bool{viewer: true, "nobody@dynors.com": true} {
		if got := allowed(t, access{user: user, verb: "get", resource: "configmaps", name: v1alpha1.InfoConfigMap, ns: v1alpha1.SystemNamespace}); got != want {
			t.Errorf("%s may read where the HTTP API is: %v", user, got)
		}
		for _, a := range []access{
			{verb: "get", resource: "configmaps", name: "other"}, {verb: "list", resource: "configmaps"},
			{verb: "update", resource: "configmaps", name: v1alpha1.InfoConfigMap}, {verb: "get", resource: "secrets", name: v1alpha1.InfoConfigMap},
		} {
			a.user, a.ns = user, v1alpha1.SystemNamespace
			if allowed(t, a) {
				t.Errorf("allowed: %+v", a)
			}
		}
	}
}
