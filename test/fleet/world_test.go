// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/controllers"
	"gitlab.com/dynors/sirrat/internal/cli"
	"gitlab.com/dynors/sirrat/internal/controlplane"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/test/testbed"
)

// projects that the servers may run, one or two a story.
var projects = []string{"orderly", "fragile", "tolerant", "paced", "neighbour", "rowdy", "closed", "absent"}

// fleetLabel is what environments select servers by.
const fleetLabel = "fleet"

// neverLost is how long a server may be silent: the stories move the controllers' clock by hours, and the agents live by the
// real one.
const neverLost = "720h"

// world is the control plane, a registry and three servers.
type world struct {
	testing.TB
	env        *cptest.Env
	client     client.WithWatch
	kubeconfig string
	programs   testbed.Programs
	// registry is its address, which is the same everywhere.
	registry string
	servers  []*server
}

// newWorld starts everything and lets the servers join.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{TB: t, kubeconfig: filepath.Join(t.TempDir(), "kubeconfig")}
	for _, name := range []string{"vps-a", "vps-b", "vps-c"} {
		s := &server{TB: t, name: name, engine: testbed.PrepareEngine(t), data: t.TempDir(), said: &testbed.Buffer{}}
		s.engine.Launch() // while the rest is made
		w.servers = append(w.servers, s)
	}

	w.programs = testbed.Build(t)
	w.env = cptest.Start(t)
	scheme, err := controllers.NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	if w.client, err = client.NewWithWatch(w.env.Config, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	admin, err := controlplane.IssueAdminKubeconfig(w.env.DataDir, "root@dynors.com", "", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.kubeconfig, admin, 0o600); err != nil {
		t.Fatal(err)
	}
	api, err := url.Parse(w.env.ControlPlane.LocalURL())
	if err != nil {
		t.Fatal(err)
	}
	listener := w.serveRegistry()
	for _, s := range w.servers {
		s.engine.Net.Forward(t, api.Host)
		s.engine.Net.Forward(t, listener.Addr().String())
		s.engine.Await()
		s.record()
		w.join(s)
		s.run(w.programs)
	}
	w.awaitReady()
	return w
}

// serveRegistry starts a registry for the controllers and, through Forward, the engines.
func (w *world) serveRegistry() net.Listener {
	w.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.Fatal(err)
	}
	hub := &http.Server{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0))), ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = hub.Serve(listener) }()
	w.Cleanup(func() { _ = hub.Close() })
	w.registry = listener.Addr().String()
	return listener
}

// join makes a server a host, by the command that an operator pastes there.
func (w *world) join(s *server) {
	w.Helper()
	args := []string{"host", "add", s.name, "--label", fleetLabel + "=web", "-o", "json"}
	for _, project := range projects {
		args = append(args, "--project", project)
	}
	var command struct {
		Server string   `json:"server"`
		Token  string   `json:"token"`
		CAHash []string `json:"caHash"`
	}
	if err := json.Unmarshal([]byte(w.sirrat(w, args...)), &command); err != nil {
		w.Fatal(err)
	}
	w.setHost(s, `{"spec":{"heartbeatTimeout":"`+neverLost+`"}}`)
	join := []string{"join", command.Server, "--token", command.Token, "--data-dir", s.data, "--docker-host", s.engine.Address(), "--service", "none"}
	for _, pin := range command.CAHash {
		join = append(join, "--ca-hash", pin)
	}
	s.engine.Net.Run(w, w.programs.Agent, join...)
}

func (w *world) awaitReady() {
	w.Helper()
	for _, s := range w.servers {
		testbed.Wait(w, s.name+" to be heard of", func() error {
			var host v1alpha1.Host
			if err := w.client.Get(w.Context(), client.ObjectKey{Name: s.name}, &host); err != nil {
				return err
			}
			return holds(host.Status.Conditions, v1alpha1.ConditionReady, "")
		})
	}
}

// setHost patches a server's Host.
func (w *world) setHost(s *server, patch string) {
	w.Helper()
	host := &v1alpha1.Host{}
	host.Name = s.name
	if err := w.client.Patch(context.Background(), host, client.RawPatch("application/merge-patch+json", []byte(patch))); err != nil {
		w.Fatal(err)
	}
}

// sirrat runs kubectl-sirrat as an administrator and returns what it prints.
func (w *world) sirrat(t testing.TB, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testbed.Deadline)
	defer cancel()
	var out, said bytes.Buffer
	world := cli.World{
		In: &bytes.Buffer{}, Out: &out, Err: &said, Getenv: func(string) string { return "" }, IsTerminal: func(any) bool { return false },
		Zone: time.UTC, Patience: testbed.Deadline,
	}
	if code := cli.Main(ctx, world, append([]string{"--kubeconfig", w.kubeconfig}, args...)); code != 0 {
		t.Fatalf("kubectl sirrat %q ends with %d: %s%s", args, code, out.String(), said.String())
	}
	return out.String()
}

// create makes objects.
func (w *world) create(t testing.TB, objects ...client.Object) {
	t.Helper()
	for _, o := range objects {
		if err := w.client.Create(t.Context(), o); err != nil {
			t.Fatal(fmt.Errorf("create %T %s: %w", o, o.GetName(), err))
		}
	}
}
