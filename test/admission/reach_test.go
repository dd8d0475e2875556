// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"slices"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
)

// agentMay is all that an agent may do with resources: "<group>/<resource> <verb>", in its own namespace.
var agentMay = []string{
	"sirrat.dynors.com/rollouts get", "sirrat.dynors.com/rollouts list", "sirrat.dynors.com/rollouts watch",
	"sirrat.dynors.com/rollouts/status get", "sirrat.dynors.com/rollouts/status patch", "sirrat.dynors.com/rollouts/status update",
	"/secrets get", "/secrets list", "/secrets watch", "/configmaps get", "/configmaps list", "/configmaps watch",
	"coordination.k8s.io/leases create", "/events create", "/events patch", "events.k8s.io/events create", "events.k8s.io/events patch",
}

// everybodyMay is what every authenticated user may ask, about himself or to ask for a certificate: cluster-wide.
var everybodyMay = []string{
	"authentication.k8s.io/selfsubjectreviews create",
	"authorization.k8s.io/selfsubjectaccessreviews create", "authorization.k8s.io/selfsubjectrulesreviews create",
	"certificates.k8s.io/certificatesigningrequests create", "certificates.k8s.io/certificatesigningrequests get",
}

// verbs beyond those that discovery names.
var verbs = []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "approve", "sign", "bind", "escalate", "impersonate", "breakglass"}

// TestReachOfAnAgent walks every resource and subresource that the API serves, in every namespace and cluster-wide, and finds
// exactly what is listed above.
func TestReachOfAnAgent(t *testing.T) {
	const host = "reach"
	own, _ := newHost(t, host)
	other, _ := newHost(t, host+"-b")
	project := newProject(t)
	env := cptest.Start(t)
	config := rest.CopyConfig(env.Config)
	config.Impersonate = rest.ImpersonationConfig{UserName: v1alpha1.AgentUser(host, uid), Groups: []string{v1alpha1.AgentGroup, "system:authenticated"}}
	agent, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	_, lists, err := env.Client.Discovery().ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	may := func(a authorizationv1.ResourceAttributes) bool {
		t.Helper()
		review, err := agent.AuthorizationV1().SelfSubjectAccessReviews().Create(t.Context(), &authorizationv1.SelfSubjectAccessReview{
			Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &a},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return review.Status.Allowed
	}
	found := map[string][]string{} // by namespace, "" for the cluster
	asked := 0
	for _, list := range lists {
		group, _, isGroup := strings.Cut(list.GroupVersion, "/")
		if !isGroup {
			group = ""
		}
		for _, resource := range list.APIResources {
			name, sub, _ := strings.Cut(resource.Name, "/")
			// A right in all namespaces is one cluster-wide; where there are namespaces, each of these is tried.
			places := []string{""}
			if resource.Namespaced {
				places = append(places, own, other, project, "kube-system", "default", v1alpha1.SystemNamespace)
			}
			for _, place := range places {
				for _, verb := range verbs {
					asked++
					if may(authorizationv1.ResourceAttributes{Group: group, Resource: name, Subresource: sub, Namespace: place, Verb: verb}) {
						found[place] = append(found[place], group+"/"+resource.Name+" "+verb)
					}
				}
			}
		}
	}
	t.Logf("%d questions about %d groups", asked, len(lists))
	for place, got := range found {
		want := []string{}
		switch place {
		case own:
			want = agentMay
		case "":
			want = everybodyMay
		}
		slices.Sort(got)
		sorted := slices.Sorted(slices.Values(want))
		if got = slices.Compact(got); !slices.Equal(got, sorted) {
			t.Errorf("in %q:\n%s\nwant:\n%s", place, strings.Join(got, "\n"), strings.Join(sorted, "\n"))
		}
	}
	if len(found[own]) == 0 || len(found[""]) == 0 {
		t.Error("nothing is allowed at all: the questions are wrong")
	}
	// One Lease may be renewed, and no other.
	for name, allowed := range map[string]bool{v1alpha1.AgentLease: true, "other": false} {
		for _, verb := range []string{"get", "update", "patch"} {
			a := authorizationv1.ResourceAttributes{Group: "coordination.k8s.io", Resource: "leases", Namespace: own, Name: name, Verb: verb}
			if may(a) != allowed {
				t.Errorf("%s of the lease %s is not %v", verb, name, allowed)
			}
		}
	}
	for _, path := range []string{"/metrics", "/configz", "/logs", "/debug/pprof", "/flagz", "/statusz"} {
		review, err := agent.AuthorizationV1().SelfSubjectAccessReviews().Create(t.Context(), &authorizationv1.SelfSubjectAccessReview{
			Spec: authorizationv1.SelfSubjectAccessReviewSpec{NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: path, Verb: "get"}},
		}, metav1.CreateOptions{})
		if err != nil || review.Status.Allowed {
			t.Errorf("%s: %v", path, err)
		}
	}
}
