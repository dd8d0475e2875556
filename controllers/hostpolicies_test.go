// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"encoding/json"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/hostpolicy"
)

// Each host of an environment is judged by what its agent reported, and by the default until it did.
func TestRefusedByHosts(t *testing.T) {
	labels := map[string]string{"tier": "production"}
	env := v1alpha1.Environment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "production"},
		Spec:       v1alpha1.EnvironmentSpec{Hosts: &metav1.LabelSelector{MatchLabels: labels}},
	}
	host := func(name string, agent *v1alpha1.AgentInfo) v1alpha1.Host {
		return v1alpha1.Host{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Spec: v1alpha1.HostSpec{Projects: []string{"shop"}},
			Status: v1alpha1.HostStatus{Agent: agent},
		}
	}
	open := hostpolicy.Effective(v1alpha1.HostPolicy{BindPaths: []string{"/srv"}, EnvFiles: []string{"/etc/shop"}})
	other := host("elsewhere", nil)
	other.Labels = nil
	m := material{compose: "services: {web: {image: a, env_file: /etc/shop/app.env, volumes: [\"/srv/data:/data\"]}}", values: map[string]string{}}
	f := newFreezer(nil, []byte("salt"))
	for name, c := range map[string]struct {
		hosts []v1alpha1.Host
		want  []string
	}{
		"none":         {[]v1alpha1.Host{other}, []string{"a host without a policy: services.web.volumes"}},
		"not reported": {[]v1alpha1.Host{host("a", nil), other}, []string{"host a: services.web.volumes"}},
		"older agent":  {[]v1alpha1.Host{host("a", &v1alpha1.AgentInfo{AgentVersion: "v0"})}, []string{"host a: services.web.volumes"}},
		"allowed":      {[]v1alpha1.Host{host("a", &v1alpha1.AgentInfo{Policy: &open})}, nil},
		"one of two":   {[]v1alpha1.Host{host("a", &v1alpha1.AgentInfo{Policy: &open}), host("b", nil)}, []string{"host b: services.web.volumes"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, judged := range policiesOf(env, c.hosts) {
				for range 2 { // what is remembered is the same
					text, err := f.refusedBy(t.Context(), env, m, nil, judged.policy)
					if err != nil {
						t.Fatal(err)
					}
					if text != "" {
						got = append(got, judged.name+text)
					}
				}
			}
			if len(got) != 2*len(c.want) {
				t.Fatalf("refusals %q, want %q", got, c.want)
			}
			for i, want := range c.want {
				if !strings.HasPrefix(got[2*i], want) || got[2*i] != got[2*i+1] {
					t.Errorf("refusals %q, want %q", got, want)
				}
			}
		})
	}
	if refs, err := f.references(t.Context(), env, m); err != nil || refs["web"] != "a" {
		t.Errorf("a compose file that hosts refuse cannot be frozen: %v, %v", refs, err)
	}
}

// What an agent reports of its policy is bounded and checked: it can make no status that the API server refuses.
func TestPolicyOfAgentInfo(t *testing.T) {
	parse := func(info v1alpha1.AgentInfo) *v1alpha1.AgentInfo {
		text, err := json.Marshal(info)
		if err != nil {
			t.Fatal(err)
		}
		return parseAgentInfo(string(text))
	}
	good := parse(v1alpha1.AgentInfo{Policy: &v1alpha1.HostPolicy{Ports: []string{}, Window: &v1alpha1.Window{}}})
	if good == nil || good.Policy == nil || good.Policy.Ports == nil || len(good.Policy.Ports) != 0 || good.Policy.Window.TimeZone == "" {
		t.Errorf("%+v", good)
	}
	if again := parse(*good); !sameStatus(again, good) {
		t.Errorf("read twice: %+v and %+v", good, again)
	}
	bad := parse(v1alpha1.AgentInfo{Policy: &v1alpha1.HostPolicy{Window: &v1alpha1.Window{TimeZone: "Mars"}}})
	if bad == nil || bad.Policy != nil || !strings.Contains(bad.PolicyProblem, "window.timeZone") {
		t.Errorf("%+v", bad)
	}
	if large := parse(v1alpha1.AgentInfo{PolicyProblem: strings.Repeat("x", maxAgentInfo)}); large != nil {
		t.Errorf("%d bytes were read", maxAgentInfo)
	}
}

// An environment with a registry of its own is judged by what its hosts pull: the project's images from there, others from
// where the compose file says.
func TestRefusedByRegistriesOfHosts(t *testing.T) {
	env := v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "production"}}
	m := material{compose: "services: {web: {image: \"registry.example/shop/web:latest\"}, db: {image: \"postgres:16\"}}", values: map[string]string{}}
	f := newFreezer(nil, []byte("salt"))
	policy := hostpolicy.Effective(v1alpha1.HostPolicy{Registries: []string{"harbor.client.example/shop", "postgres"}})
	for name, c := range map[string]struct {
		moved map[string]string
		want  string
	}{
		"as written": {nil, "services.web.image"},
		"moved":      {map[string]string{"registry.example/shop/web": "harbor.client.example/shop/web"}, ""},
		"elsewhere":  {map[string]string{"registry.example/shop/web": "harbor.example/shop/web"}, "services.web.image"},
	} {
		text, err := f.refusedBy(t.Context(), env, m, c.moved, policy)
		if err != nil {
			t.Fatal(err)
		}
		if c.want == "" && text != "" || !strings.Contains(text, c.want) || strings.Contains(text, "services.db") {
			t.Errorf("%s: %q, want %q", name, text, c.want)
		}
	}
}
