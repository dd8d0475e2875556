// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// otherUser, in the environment, names a folder whose socket this program, run as another user, is to be turned away from.
// It says turnedAway when it was.
const (
	otherUser  = "SIRRAT_SOCKET_OF_ANOTHER_USER"
	turnedAway = "turned away"
)

func TestMain(m *testing.M) {
	dir := os.Getenv(otherUser)
	if dir == "" {
		os.Exit(m.Run())
	}
	if err := Get(context.Background(), dir, "/echo", nil, nil); err == nil || errors.Is(err, ErrNotRunning) {
		fmt.Printf("the answer was %v", err)
		os.Exit(1)
	}
	fmt.Print(turnedAway)
}

func serve(t *testing.T, dir string) {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /echo", func(w http.ResponseWriter, r *http.Request) { Answer(w, r.URL.Query().Get("say")) })
	mux.HandleFunc("POST /refuse", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "not today", http.StatusConflict) })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, dir, mux) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func ask(t *testing.T, dir string) string {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		var said string
		err := Get(t.Context(), dir, "/echo", url.Values{"say": {"hello & good bye"}}, &said)
		if err == nil {
			return said
		}
		if !errors.Is(err, ErrNotRunning) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func TestAsk(t *testing.T) {
	for name, dir := range map[string]string{
		"short path": filepath.Join(t.TempDir(), "data"),
		"long path":  filepath.Join(t.TempDir(), strings.Repeat("long", 40)),
	} {
		t.Run(name, func(t *testing.T) {
			if err := Get(t.Context(), dir, "/echo", nil, nil); err == nil {
				t.Error("something answers before it runs")
			}
			serve(t, dir)
			if said := ask(t, dir); said != "hello & good bye" {
				t.Errorf("said %q", said)
			}
			if err := Post(t.Context(), dir, "/refuse", nil, nil); err == nil || !strings.Contains(err.Error(), "not today") {
				t.Errorf("refused with %v", err)
			}
			for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, Name): 0o600} {
				info, err := os.Stat(path)
				if err != nil || info.Mode().Perm() != want {
					t.Errorf("%s: %v, %v", path, info.Mode(), err)
				}
			}
		})
	}
}

// What a killed agent left does not stand in the way, and says that nobody is there.
func TestLeftSocket(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mknod(filepath.Join(dir, Name), syscall.S_IFSOCK|0o600, 0); err != nil {
		t.Fatal(err)
	}
	if err := Get(t.Context(), dir, "/echo", nil, nil); !errors.Is(err, ErrNotRunning) {
		t.Errorf("left socket: %v", err)
	}
	serve(t, dir)
	if said := ask(t, dir); said != "hello & good bye" {
		t.Errorf("said %q", said)
	}
}

func TestAdmitted(t *testing.T) {
	for _, c := range []struct {
		uid, self int
		want      bool
	}{{0, 1000, true}, {1000, 1000, true}, {1001, 1000, false}, {1000, 0, false}, {0, 0, true}} {
		if got := admitted(c.uid, c.self); got != c.want {
			t.Errorf("user %d at an agent of %d: %v", c.uid, c.self, got)
		}
	}
}

// Another user is turned away although somebody opened folder and socket to everybody.
func TestOtherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	dir, err := os.MkdirTemp("", "sirrat-socket-") // t.TempDir is closed to others higher up
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	serve(t, dir)
	ask(t, dir)
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(filepath.Join(dir, Name), 0o666)); err != nil { //nolint:gosec // the mistake that is tested
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "test")
	content, err := os.ReadFile(self)
	if err == nil {
		err = os.WriteFile(copied, content, 0o755) //nolint:gosec // to be run by another user
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(copied)
	cmd.Env, cmd.Dir = append(os.Environ(), otherUser+"="+dir), dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 12345, Gid: 12345}}
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != turnedAway {
		t.Errorf("%v: %s", err, out)
	}
}
