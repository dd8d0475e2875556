// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"io/fs"
	"slices"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/config"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
)

// access is a question to the authorizer. Kinds of SIRRAT are meant where group is empty and the resource is theirs.
type access struct {
	user     string
	groups   []string
	verb     string
	group    string
	resource string // with /subresource
	name     string
	ns       string
}

func allowed(t *testing.T, a access) bool {
	t.Helper()
	resource, sub, _ := strings.Cut(a.resource, "/")
	if a.group == "" && slices.Contains(kinds, resource) {
		a.group = v1alpha1.Group
	}
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: a.user, Groups: append([]string{"system:authenticated"}, a.groups...),
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace: a.ns, Verb: a.verb, Group: a.group, Resource: resource, Subresource: sub, Name: a.name,
		},
	}}
	got, err := cptest.Start(t).Client.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), review, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return got.Status.Allowed
}

var (
	kinds  = []string{"projects", "environments", "qualitygates", "ciresults", "releases", "pvs", "hosts", "rollouts"}
	reads  = []string{"get", "list", "watch"}
	writes = []string{"create", "update", "patch", "delete", "deletecollection"}
)

// rights are the verbs that a person has in the project beyond reading; what is not in the table is refused.
var rights = map[string]map[string][]string{
	viewer: {},
	dev:    {"releases": {"create", "update", "patch"}},
	qa:     {"releases": {"update", "patch"}, "pvs": {"update", "patch"}},
	cto: {
		"releases": {"update", "patch"}, "pvs": {"update", "patch"},
		"environments": {"create", "update", "patch", "delete"}, "qualitygates": {"create", "update", "patch", "delete"},
		"configmaps": {"create", "update", "patch", "delete"}, "secrets": {"create", "update", "patch", "delete"},
	},
	signer: {"pvs": {"patch"}},
}

func TestRolesOfAProject(t *testing.T) {
	ns, other := newProject(t), newProject(t)
	bind(t, ns, "sirrat-viewer", "only-here@dynors.com")
	resources := slices.Concat(kinds, []string{"secrets", "configmaps", "serviceaccounts", "events"})
	for user, granted := range rights {
		for _, resource := range resources {
			for _, verb := range writes {
				want := slices.Contains(granted[resource], verb)
				if got := allowed(t, access{user: user, verb: verb, resource: resource, ns: ns}); got != want {
					t.Errorf("%s may %s %s: %v, want %v", user, verb, resource, got, want)
				}
				if resource != "events" && slices.Contains(kinds, resource) &&
					allowed(t, access{user: user, verb: verb, resource: resource + "/status", ns: ns}) {
					t.Errorf("%s may %s %s/status", user, verb, resource)
				}
			}
		}
		for _, verb := range reads {
			if allowed(t, access{user: user, verb: verb, resource: "secrets", ns: ns}) {
				t.Errorf("%s may %s secrets", user, verb)
			}
			if want := user != signer; allowed(t, access{user: user, verb: verb, resource: "releases", ns: ns}) != want {
				t.Errorf("%s may %s releases: %v, want %v", user, verb, !want, want)
			}
			if !allowed(t, access{user: user, verb: verb, resource: "pvs", ns: ns}) {
				t.Errorf("%s may not %s pvs", user, verb)
			}
			for _, resource := range []string{"projects", "hosts", "namespaces", "rollouts", "secrets", "releases"} {
				if allowed(t, access{user: user, verb: verb, resource: resource}) {
					t.Errorf("%s may %s %s of the whole cluster", user, verb, resource)
				}
			}
		}
	}
	if allowed(t, access{user: "only-here@dynors.com", verb: "get", resource: "releases", ns: other}) {
		t.Error("a member of one project may read another")
	}
}

func TestWhoMayApprove(t *testing.T) {
	ns := newProject(t)
	bind(t, ns, "sirrat-operator", "operator@dynors.com")
	for _, gate := range []string{"ci", "qa", "client", "production", "of-our-own"} {
		for user, want := range map[string]map[string]bool{
			viewer: {}, dev: {}, signer: {}, "operator@dynors.com": {},
			qa:  {"approve": gate == "qa" || gate == "client"},
			cto: {"approve": true, "breakglass": true},
		} {
			for _, verb := range []string{"approve", "breakglass"} {
				if got := allowed(t, access{user: user, verb: verb, resource: "qualitygates", name: gate, ns: ns}); got != want[verb] {
					t.Errorf("%s may %s at %s: %v, want %v", user, verb, gate, got, want[verb])
				}
			}
		}
	}
}

func TestOperator(t *testing.T) {
	const user = "operator@dynors.com"
	mustCreate(t, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "test-operator"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "sirrat-operator"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: user}},
	})
	eventually(t, "the role takes effect", func() error { return as(t, user).List(t.Context(), &v1alpha1.ProjectList{}) })
	for _, a := range []access{
		{verb: "create", resource: "projects"}, {verb: "delete", resource: "hosts"}, {verb: "patch", resource: "qualitygates", ns: "x"},
		{verb: "create", resource: "secrets", ns: "kube-system"}, {verb: "list", resource: "rollouts", ns: "host-x"},
		{verb: "get", group: "admissionregistration.k8s.io", resource: "validatingadmissionpolicies"},
	} {
		if a.user = user; !allowed(t, a) {
			t.Errorf("refused: %+v", a)
		}
	}
	for _, a := range []access{
		{verb: "get", resource: "secrets", ns: "kube-system"}, {verb: "patch", resource: "secrets", ns: "kube-system"},
		{verb: "delete", resource: "secrets", ns: "kube-system"}, {verb: "create", resource: "ciresults", ns: "x"},
		{verb: "create", resource: "rollouts", ns: "host-x"}, {verb: "patch", resource: "pvs", ns: "x"},
		{verb: "patch", resource: "releases/status", ns: "x"}, {verb: "create", group: rbacv1.GroupName, resource: "rolebindings", ns: "x"},
		{verb: "update", group: "admissionregistration.k8s.io", resource: "validatingadmissionpolicies"},
		{verb: "update", group: "certificates.k8s.io", resource: "certificatesigningrequests/approval"},
	} {
		if a.user = user; allowed(t, a) {
			t.Errorf("allowed: %+v", a)
		}
	}
}

// The service account of `sirrat controller` binds the roles of SIRRAT and no other.
func TestControllerBindsOnlyOurRoles(t *testing.T) {
	const user = "system:serviceaccount:test:sirrat"
	ns := newProject(t)
	mustCreate(t, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "test-controller"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "sirrat-controller"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: user}},
	})
	eventually(t, "the role takes effect", func() error { return as(t, user).List(t.Context(), &v1alpha1.ProjectList{}) })
	binding := func(role string) *rbacv1.RoleBinding {
		return &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "bound-" + role, Namespace: ns},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
			Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "x"}},
		}
	}
	for _, role := range []string{"sirrat-viewer", "sirrat-developer", "sirrat-qa", "sirrat-cto", "sirrat-client", "sirrat-agent"} {
		wantAccepted(t, as(t, user).Create(t.Context(), binding(role)))
	}
	for _, role := range []string{"cluster-admin", "admin", "edit"} {
		wantRefused(t, as(t, user).Create(t.Context(), binding(role)))
	}
	for _, verb := range []string{"approve", "breakglass"} {
		if allowed(t, access{user: user, verb: verb, resource: "qualitygates", name: "qa", ns: ns}) {
			t.Errorf("the controller may %s", verb)
		}
	}
	for _, kind := range kinds {
		if !allowed(t, access{user: user, verb: "update", resource: kind + "/status", ns: ns}) {
			t.Errorf("the controller may not write %s/status", kind)
		}
	}
	for signer, want := range map[string]bool{"kubernetes.io/kube-apiserver-client": true, "kubernetes.io/kubelet-serving": false} {
		if got := allowed(t, access{user: user, verb: "approve", group: "certificates.k8s.io", resource: "signers", name: signer}); got != want {
			t.Errorf("the controller may approve for %s: %v, want %v", signer, got, want)
		}
	}
}

// What no role may hold, whatever else is edited: read from the files themselves.
func TestRolesHoldNothingByWildcard(t *testing.T) {
	statusWriters := map[string]string{"sirrat-controller": "*", "sirrat-agent": "rollouts/status"}
	for name, role := range clusterRoles(t) {
		for _, rule := range role.Rules {
			if slices.Contains(slices.Concat(rule.Verbs, rule.APIGroups, rule.Resources), "*") {
				t.Errorf("%s: a wildcard in %v", name, rule)
			}
			for _, verb := range []string{"impersonate", "escalate", "deletecollection"} {
				if slices.Contains(rule.Verbs, verb) {
					t.Errorf("%s: verb %s", name, verb)
				}
			}
			for _, resource := range rule.Resources {
				if may := statusWriters[name]; strings.HasSuffix(resource, "/status") && may != "*" && may != resource {
					t.Errorf("%s may write %s", name, resource)
				}
				if evidence := []string{"ciresults", "pvs", "rollouts"}; name != "sirrat-controller" &&
					slices.Contains(evidence, resource) && (slices.Contains(rule.Verbs, "create") || slices.Contains(rule.Verbs, "delete")) {
					t.Errorf("%s may create or delete %s", name, resource)
				}
			}
		}
	}
}

func clusterRoles(t *testing.T) map[string]*rbacv1.ClusterRole {
	t.Helper()
	files, err := fs.Glob(config.FS, "rbac/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no roles: %v", err)
	}
	roles := map[string]*rbacv1.ClusterRole{}
	for _, file := range files {
		data, err := fs.ReadFile(config.FS, file)
		if err != nil {
			t.Fatal(err)
		}
		for _, object := range decode(t, data) {
			if object.GetKind() != "ClusterRole" {
				continue
			}
			role := &rbacv1.ClusterRole{}
			if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, role, true); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			roles[role.Name] = role
		}
	}
	return roles
}
