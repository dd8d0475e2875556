// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// uid is what the tests' hosts have for a uid.
const uid = "0b4f9c3e-5f0e-4b43-9a5d-1f6f3a2c7d11"

// newHost makes the namespace of a host with a rollout and a secret, and returns a client of its agent.
func newHost(t *testing.T, host string) (ns string, agent client.WithWatch) {
	t.Helper()
	ns = v1alpha1.HostNamespace(host)
	mustCreate(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}})
	t.Cleanup(func() {
		if err := controller(t).Delete(context.Background(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}); err != nil {
			t.Errorf("delete namespace %s: %v", ns, err)
		}
	})
	bind(t, ns, "sirrat-agent", v1alpha1.AgentUser(host, uid))
	mustCreate(t, newRollout(ns, "first"))
	mustCreate(t, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "delivered", Namespace: ns}})
	agent = as(t, v1alpha1.AgentUser(host, uid), v1alpha1.AgentGroup)
	eventually(t, "the role takes effect", func() error { return agent.List(t.Context(), &v1alpha1.RolloutList{}, client.InNamespace(ns)) })
	return ns, agent
}

func newRollout(ns, name string) *v1alpha1.Rollout {
	return &v1alpha1.Rollout{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name},
		Spec: v1alpha1.RolloutSpec{
			Project: "supergest-001", ProjectUID: "1", Environment: "production",
			Release:  v1alpha1.RolloutRelease{Name: "a1b2c3d", UID: "2", Commit: commit},
			Sequence: 1, BundleHash: digest('1'), ComposeProject: "supergest", Compose: "services: {}", ComposeHash: digest('2'),
			Images: []v1alpha1.ServiceImage{{Service: "backend", Image: "registry.example/backend@" + digest('3')}}, Authorization: "{}",
			Strategy: v1alpha1.RolloutStrategy{Timeout: metav1.Duration{Duration: time.Minute}},
		},
	}
}

// A host whose name begins with another's, so that a comparison by prefix would show.
const (
	hostA = "vps-client-1"
	hostB = "vps-client-1b"
)

func TestAgentInItsOwnNamespace(t *testing.T) {
	ns, agent := newHost(t, hostA)
	rollout := &v1alpha1.Rollout{}
	wantAccepted(t, agent.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "first"}, rollout))
	rollout.Status.Phase = v1alpha1.RolloutHealthy
	wantAccepted(t, agent.Status().Update(t.Context(), rollout))
	wantAccepted(t, agent.Status().Patch(t.Context(), rollout.DeepCopy(), merge(`{"status":{"phase":"Unhealthy"}}`)))
	watch, err := agent.Watch(t.Context(), &v1alpha1.RolloutList{}, client.InNamespace(ns))
	wantAccepted(t, err)
	watch.Stop()
	wantAccepted(t, agent.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "delivered"}, &corev1.Secret{}))
	wantAccepted(t, agent.List(t.Context(), &corev1.ConfigMapList{}, client.InNamespace(ns)))
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: v1alpha1.AgentLease}}
	wantAccepted(t, agent.Create(t.Context(), lease))
	wantAccepted(t, agent.Update(t.Context(), lease))
	wantAccepted(t, agent.Create(t.Context(), &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: ns, Name: "pulled"},
		InvolvedObject: corev1.ObjectReference{Namespace: ns, Name: "first"},
	}))

	wantRefused(t, agent.Patch(t.Context(), rollout.DeepCopy(), merge(`{"metadata":{"labels":{"x":"y"}}}`)), "cannot patch")
	wantRefused(t, agent.Create(t.Context(), newRollout(ns, "own")), "cannot create")
	wantRefused(t, agent.Delete(t.Context(), rollout.DeepCopy()), "cannot delete")
	wantRefused(t, agent.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "own"}}), "cannot create")
	wantRefused(t, agent.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "other"}, &coordinationv1.Lease{}), "cannot get")
}

func TestAgentReachesNothingElse(t *testing.T) {
	nsA, agentA := newHost(t, hostA+"-x")
	nsB, _ := newHost(t, hostB+"-x")
	project := newProject(t)
	inB, inProject := client.InNamespace(nsB), client.InNamespace(project)
	for what, err := range map[string]error{
		"rollouts of B":     agentA.List(t.Context(), &v1alpha1.RolloutList{}, inB),
		"a rollout of B":    agentA.Get(t.Context(), client.ObjectKey{Namespace: nsB, Name: "first"}, &v1alpha1.Rollout{}),
		"secrets of B":      agentA.List(t.Context(), &corev1.SecretList{}, inB),
		"a secret of B":     agentA.Get(t.Context(), client.ObjectKey{Namespace: nsB, Name: "delivered"}, &corev1.Secret{}),
		"configmaps of B":   agentA.List(t.Context(), &corev1.ConfigMapList{}, inB),
		"status of B":       agentA.Status().Patch(t.Context(), newRollout(nsB, "first"), merge(`{"status":{"phase":"Healthy"}}`)),
		"lease of B":        agentA.Create(t.Context(), &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: nsB, Name: "agent"}}),
		"all rollouts":      agentA.List(t.Context(), &v1alpha1.RolloutList{}),
		"all secrets":       agentA.List(t.Context(), &corev1.SecretList{}),
		"namespaces":        agentA.List(t.Context(), &corev1.NamespaceList{}),
		"its own namespace": agentA.Get(t.Context(), client.ObjectKey{Name: nsA}, &corev1.Namespace{}),
		"projects":          agentA.List(t.Context(), &v1alpha1.ProjectList{}),
		"hosts":             agentA.List(t.Context(), &v1alpha1.HostList{}),
		"its own host":      agentA.Get(t.Context(), client.ObjectKey{Name: hostA + "-x"}, &v1alpha1.Host{}),
		"releases":          agentA.List(t.Context(), &v1alpha1.ReleaseList{}, inProject),
		"project's secrets": agentA.List(t.Context(), &corev1.SecretList{}, inProject),
		"kube-system":       agentA.List(t.Context(), &corev1.SecretList{}, client.InNamespace("kube-system")),
		"all requests":      agentA.List(t.Context(), &certificatesv1.CertificateSigningRequestList{}),
		"own roles":         agentA.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: nsA, Name: "x"}}),
	} {
		t.Run(what, func(t *testing.T) { wantRefused(t, err, "cannot") })
	}
}

// Another object of the same name is another host: the old agent's certificate is worth nothing there.
func TestAgentOfARecreatedHost(t *testing.T) {
	ns, _ := newHost(t, "recreated")
	old := as(t, v1alpha1.AgentUser("recreated", "11111111-5f0e-4b43-9a5d-1f6f3a2c7d11"), v1alpha1.AgentGroup)
	wantRefused(t, old.List(t.Context(), &v1alpha1.RolloutList{}, client.InNamespace(ns)), "cannot list")
}

// A binding made by mistake does not let an agent speak for another host, nor act as a person.
func TestMistakenBindings(t *testing.T) {
	const host = "mistaken"
	nsA, agent := newHost(t, host)
	user := v1alpha1.AgentUser(host, uid)
	nsB, _ := newHost(t, host+"-b")
	bind(t, nsB, "sirrat-agent", user)
	bind(t, nsA, "sirrat-cto", "", v1alpha1.AgentGroup)
	project := newProject(t)
	bind(t, project, "sirrat-cto", user)
	bind(t, project, "sirrat-developer", user)
	eventually(t, "the roles take effect", func() error {
		if err := agent.List(t.Context(), &v1alpha1.RolloutList{}, client.InNamespace(nsB)); err != nil {
			return err
		}
		return agent.List(t.Context(), &v1alpha1.ReleaseList{}, client.InNamespace(project))
	})
	status := merge(`{"status":{"phase":"Healthy"}}`)
	wantRefused(t, agent.Status().Patch(t.Context(), newRollout(nsB, "first"), status), "sirrat-agents", "its own host")
	wantAccepted(t, agent.Status().Patch(t.Context(), newRollout(nsA, "first"), status))
	r := releaseAfter(t, project, "judged")
	wantRefused(t, annotate(t.Context(), agent, r, map[string]any{approveProduction: user}), "sirrat-agents")
	wantRefused(t, agent.Create(t.Context(), release(project, "own", "", "")), "sirrat-agents")
	// The group without an agent's name, and an agent's name that is not one.
	for _, name := range []string{"dev@dynors.com", "sirrat:host:" + host, user + ":x", "x:" + user} {
		bind(t, nsA, "sirrat-agent", name)
		odd := as(t, name, v1alpha1.AgentGroup)
		eventually(t, "the role takes effect", func() error { return odd.List(t.Context(), &v1alpha1.RolloutList{}, client.InNamespace(nsA)) })
		wantRefused(t, odd.Status().Patch(t.Context(), newRollout(nsA, "first"), status), "sirrat-agents")
	}
}

func signingRequest(t *testing.T, name, signer string, usages ...certificatesv1.KeyUsage) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: v1alpha1.AgentUser(hostA, uid), Organization: []string{v1alpha1.AgentGroup}},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	return &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), SignerName: signer, Usages: usages,
		},
	}
}

// Whether the name asked for is the requester's is for the controller that approves: CEL cannot read a request.
func TestWhatMayBeAskedToBeSigned(t *testing.T) {
	const renewer = "renewer"
	newHost(t, renewer) // without its role an agent may not even ask: its access was revoked
	applicants := map[string]client.Client{
		"enrolling": as(t, "system:bootstrap:abcdef", "system:bootstrappers", "system:bootstrappers:sirrat", v1alpha1.EnrolGroupPrefix+hostA+":"+uid),
		"renewing":  as(t, v1alpha1.AgentUser(renewer, uid), v1alpha1.AgentGroup),
	}
	const clientSigner = "kubernetes.io/kube-apiserver-client"
	for _, gone := range []string{v1alpha1.AgentUser(renewer, "11111111-5f0e-4b43-9a5d-1f6f3a2c7d11"), v1alpha1.AgentUserAfter(renewer, uid, 1), v1alpha1.AgentUser(renewer+"b", uid)} {
		revoked := as(t, gone, v1alpha1.AgentGroup)
		wantRefused(t, revoked.Create(t.Context(), signingRequest(t, "revoked", clientSigner, certificatesv1.UsageClientAuth)), "sirrat-agents", "was revoked")
	}
	for who, applicant := range applicants {
		t.Run(who, func(t *testing.T) {
			good := signingRequest(t, "good-"+who, clientSigner, certificatesv1.UsageClientAuth)
			wantAccepted(t, applicant.Create(t.Context(), good))
			wantAccepted(t, applicant.Get(t.Context(), client.ObjectKeyFromObject(good), good))
			wantAccepted(t, applicant.Create(t.Context(), signingRequest(t, "usages-"+who, clientSigner,
				certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment, certificatesv1.UsageClientAuth)))
			for name, bad := range map[string]*certificatesv1.CertificateSigningRequest{
				"a node's signer":     signingRequest(t, "bad-"+who, "kubernetes.io/kube-apiserver-client-kubelet", certificatesv1.UsageClientAuth),
				"a serving signer":    signingRequest(t, "bad-"+who, "kubernetes.io/kubelet-serving", certificatesv1.UsageServerAuth),
				"somebody's signer":   signingRequest(t, "bad-"+who, "example.com/ca", certificatesv1.UsageClientAuth),
				"a serving usage":     signingRequest(t, "bad-"+who, clientSigner, certificatesv1.UsageClientAuth, certificatesv1.UsageServerAuth),
				"a CA's usage":        signingRequest(t, "bad-"+who, clientSigner, certificatesv1.UsageClientAuth, certificatesv1.UsageCertSign),
				"no client's usage":   signingRequest(t, "bad-"+who, clientSigner, certificatesv1.UsageDigitalSignature),
				"a usage of anything": signingRequest(t, "bad-"+who, clientSigner, certificatesv1.UsageAny),
			} {
				t.Run(name, func(t *testing.T) {
					wantRefused(t, applicant.Create(t.Context(), bad), "sirrat-agents", "client certificate only")
				})
			}
			wantRefused(t, applicant.List(t.Context(), &certificatesv1.CertificateSigningRequestList{}), "cannot list")
			wantRefused(t, applicant.Delete(t.Context(), good), "cannot delete")
			good.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{
				Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "Mine",
			}}
			wantRefused(t, applicant.SubResource("approval").Update(t.Context(), good))
		})
	}
	// Nor with rights that RBAC should not have given.
	mighty := as(t, v1alpha1.AgentUser(hostA, uid), v1alpha1.AgentGroup, "system:masters")
	request := signingRequest(t, "mighty", clientSigner, certificatesv1.UsageClientAuth)
	wantAccepted(t, mighty.Create(t.Context(), request))
	wantRefused(t, mighty.Delete(t.Context(), request), "sirrat-agents", "not change, approve or delete")
	wantRefused(t, mighty.Patch(t.Context(), request.DeepCopy(), merge(`{"metadata":{"labels":{"x":"y"}}}`)), "sirrat-agents")
	request.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{
		Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "Mine",
	}}
	wantRefused(t, mighty.SubResource("approval").Update(t.Context(), request), "sirrat-agents")

	enrolling := applicants["enrolling"]
	wantRefused(t, enrolling.List(t.Context(), &v1alpha1.HostList{}), "cannot list")
	wantRefused(t, enrolling.List(t.Context(), &corev1.SecretList{}), "cannot list")
	other := as(t, "system:bootstrap:fedcba", "system:bootstrappers", "system:bootstrappers:others")
	wantRefused(t, other.Create(t.Context(), signingRequest(t, "other", clientSigner, certificatesv1.UsageClientAuth)), "cannot create")
}
