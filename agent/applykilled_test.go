// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"

	"gitlab.com/dynors/sirrat/agent/internal/enginetest"
	"gitlab.com/dynors/sirrat/agent/state"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// births are the containers that were made in a compose project, by the digest of their image.
type births struct {
	mu sync.Mutex
	// made counts all, live are those that are there, most is how many there were at once.
	made, most map[string]int
	live       map[string]map[string]bool
	lost       error
}

// births follows the engine's events until the test ends.
func (s *server) births() *births {
	s.Helper()
	b := &births{made: map[string]int{}, most: map[string]int{}, live: map[string]map[string]bool{}}
	stream := s.raw.Events(s.Context(), client.EventsListOptions{
		Filters: client.Filters{}.Add("type", "container").Add("label", "com.docker.compose.project="+s.project),
	})
	go func() {
		for {
			select {
			case err := <-stream.Err:
				b.mu.Lock()
				b.lost = err
				b.mu.Unlock()
				return
			case m := <-stream.Messages:
				b.note(m)
			}
		}
	}()
	return b
}

func (b *births) note(m events.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, digest, _ := strings.Cut(m.Actor.Attributes["image"], "@")
	switch m.Action {
	case events.ActionCreate:
		if b.live[digest] == nil {
			b.live[digest] = map[string]bool{}
		}
		b.made[digest]++
		b.live[digest][m.Actor.ID] = true
		b.most[digest] = max(b.most[digest], len(b.live[digest]))
	case events.ActionDestroy:
		delete(b.live[digest], m.Actor.ID)
	}
}

// of an image: how many containers were made of it, and how many there were at once; and of how many images there were any.
func (b *births) of(t *testing.T, image string) (made, most, images int) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lost != nil {
		t.Fatal(b.lost)
	}
	_, digest, _ := strings.Cut(image, "@")
	return b.made[digest], b.most[digest], len(b.made)
}

// kill ends a program of its own at once.
func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the program ended before it was killed")
	}
}

// unpacking is the moment before anything of a bundle is on disk but its blobs.
const unpacking = "unpacking"

// moments of an apply, in their order.
var moments = []string{unpacking, v1alpha1.RolloutPreflight, v1alpha1.RolloutPulling, v1alpha1.RolloutStarting, v1alpha1.RolloutChecking}

// stored is what is on disk of the environment.
func (s *server) stored() *state.Environment {
	s.Helper()
	store, err := state.Open(filepath.Join(s.dir, "state"))
	if err != nil {
		s.Fatal(err)
	}
	e, err := store.Load(*s.place())
	if err != nil {
		s.Fatal(err)
	}
	return e
}

// reaches waits for a moment of an apply, or a later one, and returns which it was.
func (s *server) reaches(moment string) (now string) {
	s.Helper()
	enginetest.Wait(s, "the apply to be "+moment, func() error {
		now = ""
		if unpacked, err := filepath.Glob(filepath.Join(s.dir, "bundle-*", strings.Repeat("[0-9a-f]", 64))); err != nil || len(unpacked) > 0 {
			now = unpacking
		}
		if attempt := s.stored().Attempt; attempt != nil {
			now = attempt.Phase
		}
		if slices.Index(moments, now) < slices.Index(moments, moment) {
			return fmt.Errorf("it is %q", now)
		}
		return nil
	})
	return now
}

// killedApply is one server on which one release after the other is applied, and killed.
type killedApply struct {
	tool
	births *births
	killed map[string]int
	// image and bundle of each sequence.
	images, bundles []string
}

// The program is killed while a bundle is unpacked, its images are pulled, its services start and are checked: as the command
// alone, and as the agent that runs. What was touched is brought to its end by the agent alone; what was not is by applying the
// bundle again. No container is made twice without the kill, none of an image that was not authorised, and what ran before runs
// untouched until all images are there.
func TestApplyKilled(t *testing.T) {
	s := newOfflineServer(t)
	k := &killedApply{tool: s.tool(), births: s.births(), killed: map[string]int{}}
	for sequence := range 1 + 2*len(moments) {
		image := s.registry.ImageFor(t, "app", enginetest.Architecture(), 24<<20, fmt.Sprint("VERSION=", sequence))
		k.images = append(k.images, image)
		k.bundles = append(k.bundles, s.export(s.webOrder(int64(sequence+1), image)))
	}
	s.registry.Broken.Store(true)
	asked := s.registry.Requests.Load()
	k.applies(t, 0)
	sequence := 0
	for _, moment := range moments {
		sequence++
		t.Run("alone, "+moment, func(t *testing.T) { k.alone(t, sequence, moment) })
		sequence++
		t.Run("the agent that runs, "+moment, func(t *testing.T) { k.running(t, sequence, moment) })
	}
	if len(k.killed) < 4 { // it would mean that the moments are not seen
		t.Errorf("killed in %v only", slices.Collect(maps.Keys(k.killed)))
	}
	if asked != s.registry.Requests.Load() {
		t.Error("the registry was asked")
	}
	t.Logf("killed in %v", k.killed)
}

// applies has a bundle applied to its end.
func (k *killedApply) applies(t *testing.T, sequence int) {
	t.Helper()
	if text, _, code := k.apply(k.bundles[sequence]); code != 0 {
		t.Fatalf("exit code %d: %s", code, text)
	}
}

func (k *killedApply) alone(t *testing.T, sequence int, moment string) {
	before := k.container("web")
	cmd := k.command("apply", k.bundles[sequence])
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	now := k.reaches(moment)
	kill(t, cmd)
	k.checkKilled(t, sequence, now, before.ID)
	k.applies(t, sequence)
	k.arrived(t, sequence)
}

func (k *killedApply) running(t *testing.T, sequence int, moment string) {
	before := k.container("web")
	first := k.start(t)
	var said bytes.Buffer
	cmd := k.command("apply", k.bundles[sequence])
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	now := k.reaches(moment)
	kill(t, first)
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(said.String(), "apply it again") {
		t.Errorf("the command ended with %v: %s", err, said.String())
	}
	k.checkKilled(t, sequence, now, before.ID)
	second := k.start(t)
	if now != v1alpha1.RolloutStarting && now != v1alpha1.RolloutChecking {
		k.applies(t, sequence)
	}
	enginetest.Wait(t, "the release to be what must run", func() error {
		if current := k.stored().Current; current == nil || current.Spec.Sequence != int64(sequence+1) {
			return errors.New("it is not")
		}
		return nil
	})
	done := k.container("web")
	k.applies(t, sequence) // once more: nothing to do
	if again := k.container("web"); again.ID != done.ID || !again.StartedAt.Equal(done.StartedAt) {
		t.Error("applying it once more touched the container")
	}
	if err := second.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := second.Wait(); err != nil {
		t.Errorf("the agent does not end cleanly: %v", err)
	}
	k.arrived(t, sequence)
}

// start starts the agent and waits until it answers.
func (k *killedApply) start(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := k.command("run", "--log-level", "debug")
	cmd.Stderr = k.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	k.answering()
	return cmd
}

// checkKilled looks at what a kill left.
func (k *killedApply) checkKilled(t *testing.T, sequence int, now, before string) {
	t.Helper()
	k.killed[now]++
	t.Log("killed in", now)
	untouched := now != v1alpha1.RolloutStarting && now != v1alpha1.RolloutChecking
	if untouched && k.container("web").ID != before {
		t.Error("what ran before was touched")
	}
	if now == unpacking && k.stored().Highest != int64(sequence) {
		t.Error("something was noted of a bundle that was not read to its end")
	}
}

// arrived looks at what there is at the end.
func (k *killedApply) arrived(t *testing.T, sequence int) {
	t.Helper()
	k.serves(fmt.Sprint(sequence))
	list, err := k.engine.Containers(t.Context(), k.project)
	if err != nil || len(list) != 1 || list[0].Name != k.project+"-web-1" {
		t.Errorf("containers %+v, %v", list, err)
	}
	_, digest, _ := strings.Cut(k.images[sequence], "@")
	if !strings.HasSuffix(list[0].Image, "@"+digest) {
		t.Errorf("%s runs, not %s", list[0].Image, digest)
	}
	made, most, images := k.births.of(t, k.images[sequence])
	if made < 1 || made > 2 || most > 1 || images > sequence+1 {
		t.Errorf("%d containers were made, %d at once; of %d images", made, most, images)
	}
	if left, err := filepath.Glob(filepath.Join(k.dir, "bundle-*")); err != nil || len(left) > 0 {
		t.Errorf("%v was left behind, %v", left, err)
	}
}
