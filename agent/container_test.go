// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"gitlab.com/dynors/sirrat/agent/compose"
	"gitlab.com/dynors/sirrat/agent/internal/enginetest"
	"gitlab.com/dynors/sirrat/agent/update"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// boxedSocket is where the agent in a container has the engine's socket.
const boxedSocket = "/var/run/docker.sock"

// The agent's image joins and runs as docs/agent.md says: with the engine's socket, in a container that cannot be written, on
// the host's network. It deploys, heals, becomes a new version, and is still that when the container is started again.
func TestInContainer(t *testing.T) {
	t.Parallel()
	s := unjoinedServer(t)
	image := agentImage(t, s.raw)
	s.answer(true)
	enginetest.Wait(t, "the host to join", func() error {
		o := s.joinOptions()
		code, said := s.runBoxed(image, "join", o.Server, "--token", o.Token, "--ca-hash", o.CAHash, "--service", "none", "--data-dir", s.dir)
		if code != 0 {
			return fmt.Errorf("exit code %d: %s", code, said)
		}
		return nil
	})
	p := newPublisherFor(t, s)
	id := s.boxed(image, p.arguments()...)
	s.startBoxed(id)
	p.deploy()
	removeContainer(t, s.raw, p.served.ID)
	enginetest.Wait(t, "the container to be healed", func() error {
		if c := s.container("web"); c.ID == "" || c.ID == p.served.ID {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	s.serves("1")
	p.served = s.container("web")
	p.order("v1.1.0", build(t, t.TempDir(), "cmd/sirrat-agent", "v1.1.0"), p.key)
	p.comes("v1.1.0", update.Done, "", "v1.1.0")
	if _, err := s.raw.ContainerRestart(t.Context(), id, client.ContainerRestartOptions{}); err != nil {
		t.Fatal(err)
	}
	p.comes("v1.1.0", update.Done, "", "v1.1.0")
	p.untouched()
	s.await(s.send(s.webOrder(2, s.registry.Image(t, "app", "VERSION=2"))), v1alpha1.RolloutHealthy)
	s.serves("2")
}

// agentImage makes the image as `make image` does, of version v1.0.0, and loads it into the engine.
func agentImage(t *testing.T, engine *client.Client) (name string) {
	t.Helper()
	dir := t.TempDir()
	tag := strings.ToLower(filepath.Base(filepath.Dir(dir)))
	cmd := exec.Command("go", "run", "./hack/image", "-program", "sirrat-agent", "-tag", tag, "-arch", runtime.GOARCH, "-out", dir,
		"-ldflags", "-s -w -X gitlab.com/dynors/sirrat/internal/version.Version=v1.0.0")
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	name = "registry.gitlab.com/dynors/sirrat-agent:" + tag
	t.Cleanup(func() {
		if _, err := engine.ImageRemove(context.Background(), name, client.ImageRemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	})
	file, err := os.Open(filepath.Join(dir, "sirrat-agent-"+runtime.GOARCH+".tar"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	loaded, err := engine.ImageLoad(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(io.Discard, loaded)
	if err := errors.Join(err, loaded.Close()); err != nil {
		t.Fatal(err)
	}
	return name
}

// boxed makes a container of the agent's image.
func (s *server) boxed(image string, args ...string) (id string) {
	s.Helper()
	host := os.Getenv("DOCKER_HOST")
	if host == "" {
		host = compose.DefaultHost
	}
	socket, found := strings.CutPrefix(host, "unix://")
	if !found {
		s.Fatalf("the engine has no socket on this machine: %s", host)
	}
	created, err := s.raw.ContainerCreate(s.Context(), client.ContainerCreateOptions{
		Config: &container.Config{Image: image, Cmd: args},
		HostConfig: &container.HostConfig{
			Binds: []string{socket + ":" + boxedSocket, s.dir + ":" + s.dir}, NetworkMode: "host",
			ReadonlyRootfs: true, SecurityOpt: []string{"no-new-privileges"},
		},
	})
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { s.removeBoxed(created.ID) })
	return created.ID
}

func (s *server) startBoxed(id string) {
	s.Helper()
	if _, err := s.raw.ContainerStart(s.Context(), id, client.ContainerStartOptions{}); err != nil {
		s.Fatal(err)
	}
}

// runBoxed runs a command of the agent's image to its end.
func (s *server) runBoxed(image string, args ...string) (code int64, said string) {
	s.Helper()
	id := s.boxed(image, args...)
	wait := s.raw.ContainerWait(s.Context(), id, client.ContainerWaitOptions{Condition: container.WaitConditionNextExit})
	s.startBoxed(id)
	select {
	case result := <-wait.Result:
		lines, err := s.engine.Logs(s.Context(), id, 20, 1<<12)
		if err != nil {
			s.Fatal(err)
		}
		return result.StatusCode, strings.Join(lines, "\n")
	case err := <-wait.Error:
		s.Fatal(err)
	}
	return 0, ""
}

// removeBoxed keeps what the container said for the case that the test failed.
func (s *server) removeBoxed(id string) {
	ctx := context.Background() // the test's has ended
	lines, err := s.engine.Logs(ctx, id, 1000, 1<<20)
	if err != nil {
		s.Error(err)
	}
	s.log.add(strings.Join(lines, "\n"))
	if _, err := s.raw.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true}); err != nil {
		s.Error(err)
	}
}
