// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/apitoken"
)

// Pipelines: a token is printed once, alone, and checks until it is revoked.
func TestToken(t *testing.T) {
	k := newKit(t)
	k.project = k.Namespace(t)
	k.bind(t, operator, "sirrat-operator", "")

	o := k.as(t, operator, nil, "token", "create", k.project, "--name", "gitlab", "--expires", "24h")
	o.expect(t, 0, "SIRRAT_API_TOKEN")
	plaintext := strings.TrimSuffix(o.out, "\n")
	id, err := apitoken.ID(plaintext)
	if err != nil {
		t.Fatalf("%q on stdout: %v", o.out, err)
	}
	if strings.Contains(o.err, plaintext) {
		t.Error("the token is on stderr too")
	}
	var secret corev1.Secret
	key := client.ObjectKey{Namespace: k.project, Name: apitoken.SecretName(id)}
	if err := k.client.Get(t.Context(), key, &secret); err != nil {
		t.Fatal(err)
	}
	if err := apitoken.Check(&secret, plaintext, apitoken.ScopePipeline, time.Now()); err != nil {
		t.Errorf("the token does not check: %v", err)
	}
	list := k.as(t, admin, nil, "token", "list", k.project)
	list.expect(t, 0, id, "gitlab", "(in ")
	if bytes.Contains([]byte(list.out), secret.Data[apitoken.DataHash]) || strings.Contains(list.out, plaintext) {
		t.Errorf("the list tells too much: %s", list.out)
	}
	k.as(t, admin, nil, "token", "list", k.project, "-o", "yaml").expect(t, 0, "id: "+id)
	k.as(t, admin, nil, "token", "revoke", k.project, "nosuch00").expect(t, 1, "there is no token")
	k.as(t, admin, nil, "token", "revoke", k.project, id).expect(t, 0, "is revoked")
	if err := k.client.Get(t.Context(), key, &secret); client.IgnoreNotFound(err) != nil || err == nil {
		t.Errorf("the Secret is still there: %v", err)
	}
	k.as(t, admin, nil, "token", "list", k.project).expect(t, 0, "has no token")
	k.as(t, admin, nil, "token", "create", "nowhere").expect(t, 1, `there is no project "nowhere"`)
	k.as(t, admin, nil, "token", "create", "No/Such").expect(t, 1, "at most 40 characters")
	k.as(t, dev, nil, "token", "create", k.project).expect(t, 1, "forbidden", "Ask the operator")
}

// Servers: the join command names this control plane and enrols this host.
func TestHost(t *testing.T) {
	k := newKit(t)
	k.bind(t, operator, "sirrat-operator", "")
	host := "vps-e2e"

	k.as(t, operator, nil, "host", "list").expect(t, 0)
	k.as(t, operator, nil, "host", "add", host).expect(t, 2, "--project says")
	o := k.as(t, operator, nil, "host", "add", host, "--project", "supergest-001",
		"--label", v1alpha1.LabelEnvironment+"=production", "--ttl", "10m")
	o.expect(t, 0, "Host "+host+" created", "this machine only")
	words := strings.Fields(o.out)
	want := []string{"sirrat-agent", "join", k.Config.Host, "--token", "", "--ca-hash", k.ControlPlane.CAHash()}
	if len(words) != len(want) {
		t.Fatalf("stdout is %q", o.out)
	}
	for i, w := range want {
		if w != "" && words[i] != w {
			t.Errorf("word %d is %q, want %q", i, words[i], w)
		}
	}
	var object v1alpha1.Host
	if err := k.client.Get(t.Context(), client.ObjectKey{Name: host}, &object); err != nil {
		t.Fatal(err)
	}
	checkJoinToken(t, k, words[4], &object)

	k.as(t, operator, nil, "host", "add", host, "--server", "https://sirrat.example:6443").
		expect(t, 0, "exists", "join https://sirrat.example:6443")
	k.as(t, operator, nil, "host", "add", host, "--project", "other").expect(t, 1, "may run only supergest-001", "kubectl edit host")
	k.as(t, operator, nil, "host", "add", host, "--label", "a=b").expect(t, 1, "kubectl label host")
	k.as(t, operator, nil, "host", "add", "Bad_Name", "--project", "p").expect(t, 1, "Bad_Name")
	k.as(t, operator, nil, "host", "list").expect(t, 0, host, "supergest-001")
	k.as(t, operator, nil, "host", "list", "-o", "wide").expect(t, 0, v1alpha1.LabelEnvironment+"=production")
	k.as(t, operator, nil, "host", "list", "-o", "json").expect(t, 0, `"kind": "List"`, `"kind": "Host"`)

	k.as(t, operator, nil, "host", "remove", host).expect(t, 1, "--yes")
	k.as(t, operator, []string{"n"}, "host", "remove", host).expect(t, 1, "not confirmed")
	k.as(t, operator, []string{"y"}, "host", "remove", host).expect(t, 0, "is removed")
	k.as(t, operator, nil, "host", "remove", "nothing", "--yes").expect(t, 1, `there is no host "nothing"`)
}

func checkJoinToken(t *testing.T, k *kit, token string, host *v1alpha1.Host) {
	t.Helper()
	id, secretPart, _ := strings.Cut(token, ".")
	secret, err := k.Client.CoreV1().Secrets(metav1.NamespaceSystem).Get(t.Context(), "bootstrap-token-"+id, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"token-id": id, "token-secret": secretPart, "usage-bootstrap-authentication": "true",
		"auth-extra-groups": "system:bootstrappers:sirrat,system:bootstrappers:sirrat:" + host.Name + ":" + string(host.UID),
	} {
		if got := string(secret.Data[key]); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	if secret.Type != "bootstrap.kubernetes.io/token" || secret.Labels[v1alpha1.LabelHost] != host.Name {
		t.Errorf("type %s, labels %v", secret.Type, secret.Labels)
	}
	if at, err := time.Parse(time.RFC3339, string(secret.Data["expiration"])); err != nil || time.Until(at) > 10*time.Minute {
		t.Errorf("expires %s (%v)", secret.Data["expiration"], err)
	}
}
