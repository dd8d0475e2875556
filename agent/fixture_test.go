// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/moby/moby/client"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/dynamic"
	"k8s.io/utils/ptr"

	"gitlab.com/dynors/sirrat/agent"
	"gitlab.com/dynors/sirrat/agent/enrol"
	"gitlab.com/dynors/sirrat/agent/internal/enginetest"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/authorization"
	"gitlab.com/dynors/sirrat/internal/composefile"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/envelope"
)

// host is a server that may join: what the Host controller would have made for it.
type host struct {
	testing.TB
	env   *cptest.Env
	name  string
	uid   string
	key   crypto.Signer
	token string
	dir   string
	log   *logs
	// pullStall is how long a pull may stand still; 0 for the default.
	pullStall time.Duration
	// stops end the agents that run in this process.
	stops []func()
}

func newHost(t testing.TB) *host {
	t.Helper()
	h := &host{TB: t, env: cptest.Start(t), name: fmt.Sprintf("t%08x", rand.Uint32()), uid: string(uuid.NewUUID()), dir: t.TempDir(), log: &logs{}}
	var public []byte
	var err error
	if h.key, _, public, err = envelope.GenerateKey(); err != nil {
		t.Fatal(err)
	}
	key, err := envelope.ParsePublicKey(string(public))
	if err != nil {
		t.Fatal(err)
	}
	namespace := v1alpha1.HostNamespace(h.name)
	core := h.env.Client.CoreV1()
	_, err1 := core.Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	_, err2 := core.ConfigMaps(namespace).Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.AuthorizationKeys},
		Data:       map[string]string{strings.TrimPrefix(key.ID, "sha256:"): string(public)},
	}, metav1.CreateOptions{})
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = core.Namespaces().Delete(context.Background(), namespace, metav1.DeleteOptions{})
		if t.Failed() {
			t.Log("the agent said:\n" + h.log.String())
		}
	})
	h.admit()
	return h
}

// admit gives the agent of the host's uid its rights, and makes the token with which it may join.
func (h *host) admit() {
	h.Helper()
	_, err := h.env.Client.RbacV1().RoleBindings(v1alpha1.HostNamespace(h.name)).Create(h.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "agent-"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "sirrat-agent"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: v1alpha1.AgentUser(h.name, h.uid)}},
	}, metav1.CreateOptions{})
	if err != nil {
		h.Fatal(err)
	}
	h.token = h.newToken(v1alpha1.EnrolGroupPrefix + h.name + ":" + h.uid)
}

// newToken makes a bootstrap token with extra groups.
func (h *host) newToken(groups ...string) string {
	h.Helper()
	id, secret := fmt.Sprintf("%06x", rand.Uint32N(1<<24)), fmt.Sprintf("%016x", rand.Uint64())
	_, err := h.env.Client.CoreV1().Secrets("kube-system").Create(h.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "bootstrap-token-" + id}, Type: corev1.SecretTypeBootstrapToken,
		StringData: map[string]string{
			"token-id": id, "token-secret": secret, "usage-bootstrap-authentication": "true",
			"auth-extra-groups": strings.Join(append(groups, "system:bootstrappers:sirrat"), ","),
			"expiration":        time.Now().Add(time.Hour).UTC().Format(time.RFC3339),
		},
	}, metav1.CreateOptions{})
	if err != nil {
		h.Fatal(err)
	}
	return id + "." + secret
}

// answer approves or denies the host's requests for certificates until the test ends, as the enrolment controller does.
func (h *host) answer(approve bool) {
	ctx := h.Context()
	condition := certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "Test", Message: "by the test",
	}
	if !approve {
		condition.Type, condition.Message = certificatesv1.CertificateDenied, "the host has an agent already"
	}
	csrs := h.env.Client.CertificatesV1().CertificateSigningRequests()
	watch, err := csrs.Watch(ctx, metav1.ListOptions{})
	if err != nil {
		h.Fatal(err)
	}
	go func() {
		defer watch.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case event := <-watch.ResultChan():
				csr, ok := event.Object.(*certificatesv1.CertificateSigningRequest)
				if ok && strings.HasPrefix(csr.Name, "sirrat-agent-"+h.name+"-") && len(csr.Status.Conditions) == 0 {
					csr.Status.Conditions = append(csr.Status.Conditions, condition)
					_, _ = csrs.UpdateApproval(ctx, csr.Name, csr, metav1.UpdateOptions{})
				}
			}
		}
	}()
}

func (h *host) joinOptions() agent.JoinOptions {
	return agent.JoinOptions{
		Request: enrol.Request{Server: h.env.ControlPlane.LocalURL(), Token: h.token, CAHash: h.env.ControlPlane.CAHash(), UserAgent: "test"},
		DataDir: h.dir,
	}
}

// join enrols the host; the token's and the role's way into the API server's caches may take a moment.
func (h *host) join() {
	h.Helper()
	h.answer(true)
	enginetest.Wait(h, "the host to join", func() error {
		return agent.Join(h.Context(), h.joinOptions(), func(format string, args ...any) { h.log.add(fmt.Sprintf(format, args...)) })
	})
}

// run runs the agent in this process until the returned function is called.
func (h *host) run() (stop func()) {
	h.Helper()
	return h.runWith(h.options())
}

func (h *host) runWith(o agent.Options) (stop func()) {
	h.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- agent.Run(ctx, o) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				h.Error("run: ", err)
			}
		case <-time.After(enginetest.Deadline):
			h.Error("the agent does not stop")
		}
	})
	h.Cleanup(stop)
	h.stops = append(h.stops, stop)
	return stop
}

func (h *host) options() agent.Options {
	return agent.Options{
		DataDir: h.dir, Heartbeat: 2 * time.Second, PullStall: h.pullStall, Policy: h.policyFile(), Version: "test", Log: h.log.logger(),
	}
}

// spawn runs the agent in a process of its own.
func (h *host) spawn() *exec.Cmd {
	h.Helper()
	self, err := os.Executable()
	if err != nil {
		h.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), runVariable+"="+h.dir)
	cmd.Stderr = h.log
	if err := cmd.Start(); err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGKILL)
		_ = cmd.Wait()
	})
	return cmd
}

// order is a Rollout in the making.
type order struct {
	project, environment, composeProject string
	sequence                             int64
	compose                              string
	images                               map[string]string
	values                               map[string]string
	secrets                              []string
	checks                               []v1alpha1.HealthCheck
	timeout                              time.Duration
	noWayBack                            bool
	remove                               *v1alpha1.Removal
	irreversible                         bool
	keep                                 *int32
	// strategy changes how the release replaces the one before.
	strategy       func(*v1alpha1.RolloutStrategy)
	registrySecret string
	// key signs instead of the host's own; host is whom it is for instead.
	key  crypto.Signer
	host *authorization.Host
	// tamper changes the spec after it was signed.
	tamper func(*v1alpha1.RolloutSpec)
}

func (h *host) order(project string) order {
	return order{project: project, environment: "dev", composeProject: project, sequence: 1, timeout: 4 * time.Minute}
}

var rollouts = schema.GroupVersionResource{Group: v1alpha1.Group, Version: "v1alpha1", Resource: "rollouts"}

func (h *host) objects() dynamic.ResourceInterface {
	h.Helper()
	c, err := dynamic.NewForConfig(h.env.Config)
	if err != nil {
		h.Fatal(err)
	}
	return c.Resource(rollouts).Namespace(v1alpha1.HostNamespace(h.name))
}

// signed is the spec of a Rollout, signed.
func (h *host) signed(o order) v1alpha1.RolloutSpec {
	h.Helper()
	spec := v1alpha1.RolloutSpec{
		Project: o.project, ProjectUID: "uid-of-" + o.project, Environment: o.environment, Sequence: o.sequence,
		Release:    v1alpha1.RolloutRelease{Name: fmt.Sprintf("r%d", o.sequence), UID: fmt.Sprintf("uid-%d", o.sequence), Commit: strings.Repeat("a", 40)},
		BundleHash: envelope.Hash([]byte(fmt.Sprint(o.compose, o.images, o.values))), ComposeProject: o.composeProject, Compose: o.compose,
		ComposeHash: composefile.Hash(o.compose), Irreversible: o.irreversible, Values: o.values, SecretRefs: o.secrets, RegistrySecretRef: o.registrySecret, HealthChecks: o.checks,
		Strategy: v1alpha1.RolloutStrategy{
			Strategy: "Recreate", MaxUnavailable: 1, AutoRollback: ptr.To(!o.noWayBack), Timeout: metav1.Duration{Duration: o.timeout}, Keep: o.keep,
		},
	}
	for service, image := range o.images {
		spec.Images = append(spec.Images, v1alpha1.ServiceImage{Service: service, Image: image})
	}
	if o.strategy != nil {
		o.strategy(&spec.Strategy)
	}
	if spec.Remove = o.remove; o.remove != nil {
		spec.Images, spec.Strategy = []v1alpha1.ServiceImage{}, v1alpha1.RolloutStrategy{}
	}
	to, key := authorization.Host{Name: h.name, UID: h.uid}, h.key
	if o.host != nil {
		to = *o.host
	}
	if o.key != nil {
		key = o.key
	}
	var err error
	if spec.Authorization, err = authorization.Sign(h.Context(), spec, to, time.Now(), nil, "", key); err != nil {
		h.Fatal(err)
	}
	if o.tamper != nil {
		o.tamper(&spec)
	}
	return spec
}

// send signs and creates a Rollout and returns its name.
func (h *host) send(o order) string {
	h.Helper()
	spec := h.signed(o)
	rollout := &v1alpha1.Rollout{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "Rollout"},
		ObjectMeta: metav1.ObjectMeta{GenerateName: o.project + "-"}, Spec: spec,
	}
	created, err := h.objects().Create(h.Context(), toUnstructured(h, rollout), metav1.CreateOptions{})
	if err != nil {
		h.Fatal(err)
	}
	return created.GetName()
}

func (h *host) status(name string) v1alpha1.RolloutStatus {
	h.Helper()
	return h.rollout(name).Status
}

// rollout as the control plane has it.
func (h *host) rollout(name string) v1alpha1.Rollout {
	h.Helper()
	object, err := h.objects().Get(h.Context(), name, metav1.GetOptions{})
	if err != nil {
		h.Fatal(err)
	}
	var rollout v1alpha1.Rollout
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &rollout); err != nil {
		h.Fatal(err)
	}
	return rollout
}

// await waits until a Rollout is in a phase, and fails at once when it ends in another one.
func (h *host) await(name, phase string) v1alpha1.RolloutStatus {
	h.Helper()
	var s v1alpha1.RolloutStatus
	enginetest.Wait(h, name+" to be "+phase, func() error {
		if s = h.status(name); s.Phase != phase {
			return fmt.Errorf("%s: %s %v", s.Phase, s.Message, s.LastLogs)
		}
		return nil
	})
	return s
}

// logs collects what an agent says.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) add(line string) { fmt.Fprintln(l, line) }

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logs) logger() logr.Logger {
	return funcr.New(func(prefix, args string) { l.add(time.Now().Format("05.000 ") + prefix + args) }, funcr.Options{Verbosity: 1})
}

func removeContainer(t testing.TB, engine *client.Client, id string) {
	t.Helper()
	if _, err := engine.ContainerRemove(t.Context(), id, client.ContainerRemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
}
