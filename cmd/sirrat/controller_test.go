// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/install"
)

func TestMain(m *testing.M) {
	cptest.Main(m, func(ctx context.Context, e *cptest.Env) error { return install.Apply(ctx, e.Config) })
}

// TestController runs `sirrat controller` against a cluster that it did not start: it takes the lease, answers over HTTP,
// stops when told and gives the lease back.
func TestController(t *testing.T) {
	env := cptest.Start(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- runController(ctx, controllerFlags{kubeconfig: env.ControlPlane.AdminKubeconfigPath(), httpBind: address, publicURL: "https://sirrat.example", archive: filepath.Join(t.TempDir(), "archive"), leaderElect: true})
	}()
	cptest.Wait(t, "the controller to be ready", func(ctx context.Context) error { return get(ctx, "http://"+address+"/readyz") })
	holder := func(ctx context.Context) (*coordinationv1.Lease, error) {
		return env.Client.CoordinationV1().Leases(v1alpha1.SystemNamespace).Get(ctx, "sirrat-controller", metav1.GetOptions{})
	}
	cptest.Wait(t, "the lease to be held", func(ctx context.Context) error {
		lease, err := holder(ctx)
		if err == nil && (lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "") {
			return fmt.Errorf("held by nobody")
		}
		return err
	})
	// The pages of releases are served beside the API.
	resp, err := http.Get("http://" + address + "/releases/nowhere/nothing/x")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound || resp.Header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("a page: %s, %s", resp.Status, resp.Header.Get("Content-Type"))
	}
	// Anybody with an account finds the HTTP API.
	anybody, err := kubernetes.NewForConfig(env.User(t, "anybody@dynors.com"))
	if err != nil {
		t.Fatal(err)
	}
	info, err := anybody.CoreV1().ConfigMaps(v1alpha1.SystemNamespace).Get(t.Context(), v1alpha1.InfoConfigMap, metav1.GetOptions{})
	if err != nil || info.Data[v1alpha1.InfoURL] != "https://sirrat.example" {
		t.Errorf("the address of the HTTP API: %+v, %v", info, err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("ended with %v", err)
	}
	lease, err := holder(t.Context())
	if err != nil || *lease.Spec.HolderIdentity != "" {
		t.Errorf("the lease was not given back: %+v, %v", lease, err)
	}
}

func get(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return nil
}

func TestUserKubeconfig(t *testing.T) {
	env := cptest.Start(t)
	cmd := newCommand()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetArgs([]string{"user", "kubeconfig", "qa@dynors.com", "--data-dir", env.DataDir})
	if err := cmd.Execute(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), env.ControlPlane.LocalURL()) {
		t.Errorf("does not name the server:\n%.300s", out.String())
	}
	cmd.SetArgs([]string{"user", "kubeconfig", "system:masters", "--data-dir", env.DataDir})
	if err := cmd.Execute(); err == nil {
		t.Error("a system user was handed out")
	}
}

func TestPublicURL(t *testing.T) {
	for text, good := range map[string]bool{
		"": true, "https://sirrat.dynors.com": true, "http://10.0.0.1:8080/sirrat": true,
		"sirrat.dynors.com": false, "ftp://x": false, "https://": false, "https://user:secret@x": false, "https://x?y": false, "https://x#y": false,
	} {
		if err := checkPublicURL(text); (err == nil) != good {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestServerRefusesTakenPort(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dir := filepath.Join(t.TempDir(), "data")
	err = runServer(t.Context(), serverFlags{dataDir: dir, httpBind: listener.Addr().String()})
	if err == nil || !strings.Contains(err.Error(), "--http-bind") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a data directory was left behind")
	}
}

func TestAllowedAddresses(t *testing.T) {
	guard, err := egressFlags{networks: []string{"10.1.0.0/16", "127.0.0.1"}}.guard()
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]bool{"10.1.2.3": true, "127.0.0.1": true, "10.2.0.1": false, "127.0.0.2": false, "169.254.169.254": false} {
		if got := guard.Allows(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %t", address, got)
		}
	}
	dir := filepath.Join(t.TempDir(), "data")
	err = runServer(t.Context(), serverFlags{dataDir: dir, egress: egressFlags{networks: []string{"gitlab.example"}}})
	if err == nil || !strings.Contains(err.Error(), "--allow-private-addresses") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a data directory was left behind")
	}
}
