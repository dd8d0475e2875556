// SPDX-License-Identifier: Apache-2.0

package pullcreds

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/moby/moby/client"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kube "sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/agent"
	"gitlab.com/dynors/sirrat/agent/enrol"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/hostpolicy"
	"gitlab.com/dynors/sirrat/internal/pullcreds"
	"gitlab.com/dynors/sirrat/internal/pullcreds/pullcredstest"
	"gitlab.com/dynors/sirrat/internal/registry/registrytest"
	"gitlab.com/dynors/sirrat/test/testbed"
)

// release makes a release of an image that runs, and returns its commit.
func (w *world) release(hub *registrytest.Registry, app []byte, digit string) string {
	w.Helper()
	commit := strings.Repeat(digit, 40)
	path := strings.TrimPrefix(w.repository(), w.provider.Host()+"/")
	image := testbed.Image(w, [][]byte{testbed.Layer(w, "app", 0o755, app)}, func(f *v1.ConfigFile) {
		f.Config.Env = append(f.Config.Env, "VERSION="+digit)
	})
	w.must(remote.Write(hub.Ref(path, "dev-"+commit[:7]), image))
	w.create(&v1alpha1.Release{
		ObjectMeta: metav1.ObjectMeta{Name: commit[:7], Namespace: w.project, Annotations: map[string]string{v1alpha1.AnnotationCreatedBy: "sirrat:server"}},
		Spec:       v1alpha1.ReleaseSpec{Commit: commit},
	})
	return commit
}

// serve has Debian's docker-registry answer at the provider's address, to whoever has a live credential.
func (w *world) serve() *registrytest.Registry {
	w.Helper()
	hub := registrytest.Debian(w)
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: hub.Host})
	w.provider.Serve(proxy)
	return hub
}

// orders are the Rollouts of a host for dev, by release.
func (w *world) orders(ctx context.Context, host string) (map[string]v1alpha1.Rollout, error) {
	var list v1alpha1.RolloutList
	err := w.c.List(ctx, &list, kube.InNamespace(v1alpha1.HostNamespace(w.host(host))))
	out := map[string]v1alpha1.Rollout{}
	for _, ro := range list.Items {
		out[ro.Spec.Release.Name] = ro
	}
	return out, err
}

// A Rollout is sent once its host can pull, and until then the environment says what it waits for.
func TestRolloutWaitsForCredential(t *testing.T) {
	w := newWorld(t, v1alpha1.PullProviderHarbor)
	hub := w.serve()
	w.provider.Misbehave(pullcredstest.Refusing("POST", 403))
	w.join("a")
	w.told("dev", metav1.ConditionFalse, v1alpha1.ReasonProviderDenied)
	commit := w.release(hub, []byte("nothing that runs"), "a")
	cptest.Wait(t, "the environment to say what it waits for", func(ctx context.Context) error {
		var e v1alpha1.Environment
		if err := w.c.Get(ctx, kube.ObjectKey{Namespace: w.project, Name: "dev"}, &e); err != nil {
			return err
		}
		if !strings.Contains(e.Status.Waiting, "host "+w.host("a")+" has no valid credential") || !strings.Contains(e.Status.Waiting, "403") {
			var r v1alpha1.ReleaseList
			_ = w.c.List(ctx, &r, kube.InNamespace(w.project))
			return fmt.Errorf("waits for %q; %+v", e.Status.Waiting, r.Items)
		}
		return nil
	})
	if got, err := w.orders(t.Context(), "a"); err != nil || len(got) != 0 {
		t.Errorf("sent all the same: %d, %v", len(got), err)
	}
	w.provider.Misbehave(nil)
	w.poke()
	cptest.Wait(t, "the order", func(ctx context.Context) error {
		got, err := w.orders(ctx, "a")
		if ro, ok := got[commit[:7]]; !ok || ro.Spec.RegistrySecretRef != v1alpha1.PullSecret(w.project, "dev") {
			return fmt.Errorf("%d orders, %w", len(got), err)
		}
		return nil
	})
	w.discreet()
}

// An agent pulls from a real registry with what was delivered, and, without being told or started again, with what took its
// place.
func TestAgentPullsAfterRenewal(t *testing.T) {
	engine, err := client.New(client.FromEnv)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = engine.Close() })
	if _, err := engine.Ping(t.Context(), client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		if testing.Short() {
			t.Skip("no Docker engine answers: ", err)
		}
		t.Fatal("this test needs a Docker engine ($DOCKER_HOST or the default socket), or -short: ", err)
	}
	w := newWorld(t, v1alpha1.PullProviderGitLab)
	hub, app := w.serve(), testbed.Build(t).App
	t.Cleanup(func() { remove(t, engine, w.project+"-dev") })
	said := w.enrolled("a")
	first := w.served("a/dev", "a/production")["a/dev"]

	w.healthy(w.release(hub, app, "a"))
	if got := w.provider.Pullers(); !slices.Contains(got, first.Username) {
		t.Errorf("%v pulled, not %s", got, first.Username)
	}

	w.move(17 * time.Hour)
	w.kept(4)
	w.move(pullcreds.Grace + time.Minute)
	w.kept(2)
	second := w.served("a/dev", "a/production")["a/dev"]
	if second == first || w.provider.Takes(first.Username, first.Password) {
		t.Fatal("nothing was renewed")
	}
	w.healthy(w.release(hub, app, "b"))
	if got := w.provider.Pullers(); !slices.Contains(got, second.Username) || slices.Contains(got, first.Username) {
		t.Errorf("%v pulled, not %s", got, second.Username)
	}
	w.discreet()
	for _, l := range []login{first, second} {
		if strings.Contains(said.String(), l.Password) {
			t.Error("the agent's log has a password")
		}
	}
}

// healthy waits until the agent reports so of a commit.
func (w *world) healthy(commit string) {
	w.Helper()
	testbed.Wait(w, commit[:7]+" to be healthy", func() error {
		got, err := w.orders(w.Context(), "a")
		ro, ok := got[commit[:7]]
		switch {
		case err != nil:
			return err
		case !ok:
			return fmt.Errorf("it is not ordered: %s", w.conditions())
		case ro.Status.Phase != v1alpha1.RolloutHealthy:
			return fmt.Errorf("%s: %s %v", ro.Status.Phase, ro.Status.Message, ro.Status.LastLogs)
		}
		return nil
	})
}

// enrolled runs an agent in this process as a host that joined as servers do.
func (w *world) enrolled(name string) *testbed.Buffer {
	w.Helper()
	h := &v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Name: w.host(name), Labels: map[string]string{"of": w.project}},
		Spec: v1alpha1.HostSpec{Projects: []string{w.project}, HeartbeatTimeout: metav1.Duration{Duration: 720 * time.Hour}}}
	w.create(h)
	id, secret := fmt.Sprintf("%06x", rand.Uint32N(1<<24)), fmt.Sprintf("%016x", rand.Uint64())
	w.create(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "bootstrap-token-" + id, Namespace: metav1.NamespaceSystem}, Type: corev1.SecretTypeBootstrapToken,
		StringData: map[string]string{
			"token-id": id, "token-secret": secret, "usage-bootstrap-authentication": "true",
			"auth-extra-groups": "system:bootstrappers:sirrat," + v1alpha1.EnrolGroup(h.Name, string(h.UID), 0),
		},
	})
	said, dir := &testbed.Buffer{}, w.TempDir()
	options := agent.JoinOptions{DataDir: dir, Request: enrol.Request{
		Server: w.env.ControlPlane.LocalURL(), Token: id + "." + secret, CAHash: w.env.ControlPlane.CAHash(), UserAgent: "test",
	}}
	testbed.Wait(w, "the host to join", func() error {
		return agent.Join(w.Context(), options, func(format string, args ...any) { fmt.Fprintf(said, format+"\n", args...) })
	})
	policy := filepath.Join(dir, "host-policy.yaml")
	w.must(os.WriteFile(policy, []byte(hostpolicy.Template), 0o600))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- agent.Run(ctx, agent.Options{
			DataDir: dir, Heartbeat: 2 * time.Second, Policy: policy, Version: "test",
			Log: funcr.New(func(prefix, args string) { fmt.Fprintln(said, prefix, args) }, funcr.Options{Verbosity: 1}),
		})
	}()
	w.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			w.Error("the agent: ", err)
		}
		if w.Failed() {
			w.Log("the agent said:\n" + said.String())
		}
	})
	return said
}

// remove removes what a compose project left on the engine.
func remove(t *testing.T, engine *client.Client, project string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	filters := client.Filters{}.Add("label", "com.docker.compose.project="+project)
	containers, err := engine.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: filters})
	if err != nil {
		t.Error(err)
	}
	for _, c := range containers.Items {
		if _, err := engine.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true}); err != nil {
			t.Log("remove container: ", err)
		}
		if _, err := engine.ImageRemove(ctx, c.ImageID, client.ImageRemoveOptions{Force: true, PruneChildren: true}); err != nil {
			t.Log("remove image: ", err)
		}
	}
	networks, err := engine.NetworkList(ctx, client.NetworkListOptions{Filters: filters})
	if err != nil {
		t.Error(err)
	}
	for _, n := range networks.Items {
		if _, err := engine.NetworkRemove(ctx, n.ID, client.NetworkRemoveOptions{}); err != nil {
			t.Log("remove network: ", err)
		}
	}
}
