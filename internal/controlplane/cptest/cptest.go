// SPDX-License-Identifier: Apache-2.0

// Package cptest gives tests a real control plane: one per test process, on a
// temporary directory and a free port, started when the first test asks for it.
//
//	func TestMain(m *testing.M) { cptest.Main(m, cptest.Install(config.CRDs)) }
//
//	func TestSomething(t *testing.T) {
//		env := cptest.Start(t)
//		ns := env.Namespace(t)
//		...
//	}
//
// Tests share the control plane and the process, so each works in a namespace of
// its own and gives cluster-scoped objects names of its own. It is imported by
// tests only.
package cptest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"gitlab.com/dynors/sirrat/internal/controlplane"
)

const (
	// Deadline bounds every wait of this package. It is far above what any of
	// them takes, for machines under load.
	Deadline = 5 * time.Minute
	poll     = 20 * time.Millisecond
)

// Env is a running control plane.
type Env struct {
	ControlPlane *controlplane.ControlPlane
	// DataDir is removed at the end of Main.
	DataDir string
	// Config is ControlPlane.RESTConfig: the whole API, without rate limit.
	Config *rest.Config
	Client kubernetes.Interface
}

// Setup prepares a control plane after its start, before any test sees it.
type Setup func(context.Context, *Env) error

// shared is the control plane of this process.
var shared struct {
	once   sync.Once
	inMain bool
	setup  []Setup
	env    *Env
	err    error
}

// Main runs the tests, stops the control plane if one was started, removes its
// directory and exits. It is the whole of a TestMain.
func Main(m *testing.M, setup ...Setup) {
	shared.inMain, shared.setup = true, setup
	code := m.Run()
	if err := shared.env.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stop the control plane:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// Start returns the control plane of this test process. The first call starts it
// and runs the setups of Main.
func Start(t testing.TB) *Env {
	t.Helper()
	if !shared.inMain {
		t.Fatal("cptest.Start needs a TestMain that calls cptest.Main, which stops the control plane")
	}
	shared.once.Do(func() { shared.env, shared.err = start(shared.setup) })
	if shared.err != nil {
		t.Fatalf("start the control plane: %v", shared.err)
	}
	return shared.env
}

func start(setups []Setup) (*Env, error) {
	dir, err := os.MkdirTemp("", "sirrat-test-")
	if err != nil {
		return nil, err
	}
	env := &Env{DataDir: dir}
	ctx, cancel := context.WithTimeout(context.Background(), 2*Deadline)
	defer cancel()
	env.ControlPlane, err = controlplane.Start(ctx, controlplane.Options{DataDir: dir, Bind: "127.0.0.1:0", Logger: logr.Discard()})
	if err != nil {
		return env, err
	}
	env.Config = env.ControlPlane.RESTConfig()
	if env.Client, err = kubernetes.NewForConfig(env.Config); err != nil {
		return env, err
	}
	for _, setup := range setups {
		if err := setup(ctx, env); err != nil {
			return env, err
		}
	}
	return env, nil
}

func (e *Env) stop() error {
	if e == nil {
		return nil
	}
	var err error
	if e.ControlPlane != nil {
		ctx, cancel := context.WithTimeout(context.Background(), Deadline)
		defer cancel()
		err = e.ControlPlane.Stop(ctx)
	}
	return errors.Join(err, os.RemoveAll(e.DataDir))
}

// Namespace creates a namespace with a name of its own and deletes it, without
// waiting for its end, when the test is over.
func (e *Env) Namespace(t testing.TB) string {
	t.Helper()
	ns, err := e.Client.CoreV1().Namespaces().Create(t.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("create a namespace: %v", err)
	}
	t.Cleanup(func() {
		err := e.Client.CoreV1().Namespaces().Delete(context.Background(), ns.Name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			t.Errorf("delete namespace %s: %v", ns.Name, err)
		}
	})
	return ns.Name
}

// User returns a configuration that authenticates as user with a client
// certificate, as a kubeconfig from `sirrat user` does. The user has no rights
// until RBAC gives some.
func (e *Env) User(t testing.TB, user string, groups ...string) *rest.Config {
	t.Helper()
	data, err := controlplane.IssueKubeconfig(e.DataDir, user, groups, "", time.Hour)
	if err != nil {
		t.Fatalf("issue a kubeconfig: %v", err)
	}
	config, err := clientcmd.RESTConfigFromKubeConfig(data)
	if err != nil {
		t.Fatalf("read the kubeconfig: %v", err)
	}
	config.QPS, config.Burst = -1, -1
	return config
}

// Wait polls check until it returns nil, and fails the test with its last error
// when Deadline has passed.
func Wait(t testing.TB, what string, check func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Deadline)
	defer cancel()
	if err := until(ctx, check); err != nil {
		t.Fatalf("wait for %s: %v", what, err)
	}
}

// until polls check until it returns nil or ctx ends.
func until(ctx context.Context, check func(context.Context) error) error {
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for {
		last := check(ctx)
		if last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), last)
		case <-ticker.C:
		}
	}
}
