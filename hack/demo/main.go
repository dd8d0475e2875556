// SPDX-License-Identifier: Apache-2.0

// Command demo plays the whole bridge on real parts: a Docker engine, a registry, sirrat server, agents, containers. It
// ends with exit code 0 only if everything that it tells of truly happened, and leaves nothing running.
//
// Environment: KEEP=1 leaves everything running and prints how to look around; DEMO_KILL=server, agent or both kills those
// processes with SIGKILL in the middle of each leg, and the path has to continue.
//
// It is run by `make demo`, from the root of the repository, after `make build`.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	exitFailed      = 1
	exitInterrupted = 130
	// cleanupTimeout bounds the removal of everything.
	cleanupTimeout = 60 * time.Second
	logTail        = 15
)

// demo is one run.
type demo struct {
	*narrator
	id, dir, bin string
	keep         bool
	killServer   bool
	killAgents   bool

	dockerHost string
	engine     *engine
	arch       string
	repository string // of the app's image
	app        []byte // the app's binary

	registry *process
	server   *process
	agents   []*process
	ready    time.Duration // from starting the server to its being ready

	kubeURL, httpURL string
	kubectlProgram   []string
	cluster          client.Client
	token            string
	bridge           []environment

	frozen  string   // digest of the first commit's image
	mail    *mailbox // where everybody gets mail
	visitor *visitor // the client at the signing page
}

func main() {
	registryAt := flag.String("serve-registry", "", "serve a registry at this address, and do nothing else")
	clean := flag.String("clean", "", "remove everything that a run with KEEP=1 left; the argument is its folder")
	flag.Parse()
	switch {
	case *registryAt != "":
		exitOn(serveRegistry(*registryAt))
	case *clean != "":
		exitOn(cleanKept(*clean))
	default:
		os.Exit(run())
	}
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(exitFailed)
	}
}

func run() int {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	d, err := newDemo()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		return exitFailed
	}
	code := 0
	if err := d.play(ctx); err != nil {
		code = exitFailed
		if ctx.Err() != nil {
			code = exitInterrupted
			d.note("interrupted")
		} else {
			d.explain(err)
		}
	}
	if d.keep {
		exitOn(d.saveForLater())
		d.lookAround()
		return code
	}
	if err := d.cleanup(); err != nil {
		d.failed("cleaning up: %v", err)
		return exitFailed
	}
	if code == 0 {
		d.done("nothing left running; the code has crossed the bridge")
	}
	return code
}

func newDemo() (*demo, error) {
	d := &demo{narrator: newNarrator(os.Stdout, time.Now()), keep: os.Getenv("KEEP") == "1", bin: "bin"}
	switch kill := os.Getenv("DEMO_KILL"); kill {
	case "":
	case "server", "agent", "both":
		d.killServer, d.killAgents = kill != "agent", kill != "server"
	default:
		return nil, fmt.Errorf("DEMO_KILL=%s: say server, agent or both", kill)
	}
	random := make([]byte, 3)
	if _, err := rand.Read(random); err != nil {
		return nil, fmt.Errorf("choose a name: %w", err)
	}
	d.id = "sirrat-demo-" + hex.EncodeToString(random)
	bin, err := filepath.Abs(d.bin)
	if err != nil {
		return nil, err
	}
	d.bin = bin
	for _, program := range []string{"sirrat", "sirrat-agent", "kubectl-sirrat"} {
		if _, err := exec.LookPath(d.program(program)); err != nil {
			return nil, fmt.Errorf("run make build in the root of the repository first: %w", err)
		}
	}
	d.dir = filepath.Join(os.TempDir(), d.id)
	if err := os.Mkdir(d.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	return d, nil
}

// program is the path of a built program.
func (d *demo) program(name string) string { return filepath.Join(d.bin, name) }

// path is a file of this run.
func (d *demo) path(elements ...string) string {
	return filepath.Join(append([]string{d.dir}, elements...)...)
}

// step is one line of the story.
type step struct {
	title string
	// do returns what is worth telling beside the title.
	do func(context.Context) (string, error)
}

// tell plays a chapter, step by step.
func (d *demo) tell(ctx context.Context, title string, steps ...step) error {
	d.chapter(title)
	for _, s := range steps {
		if s.do == nil { // left out in this run
			continue
		}
		detail, err := s.do(ctx)
		if err != nil {
			return &stepError{title: s.title, err: err}
		}
		if detail != "" {
			detail = ": " + strings.Join(strings.Fields(detail), " ")
		}
		d.done("%s%s", s.title, detail)
	}
	return nil
}

// stepError names the step that did not happen.
type stepError struct {
	title string
	err   error
}

func (e *stepError) Error() string { return e.title + ": " + e.err.Error() }
func (e *stepError) Unwrap() error { return e.err }

// explain prints what was expected, what was seen instead, and the last lines of every log.
func (d *demo) explain(err error) {
	var s *stepError
	if errors.As(err, &s) {
		d.failed("%s", s.title)
		err = s.err
	}
	var u *unmet
	if errors.As(err, &u) {
		d.block(fmt.Sprintf("expected within %s: %s\nlast seen: %s", u.within, u.expected, strings.ReplaceAll(u.seen, "; ", "\n           ")))
	} else {
		d.block(err.Error())
	}
	for _, p := range d.processes() {
		state := "running"
		if !p.running() {
			state = "ended"
		}
		d.note("%s (%s), last lines of %s", p.name, state, p.log)
		d.block(tail(p.log, logTail))
	}
	if d.engine != nil {
		ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
		defer cancel()
		d.note("containers")
		d.block(d.engine.logs(ctx))
	}
}

// processes are those that were started, in the order in which they have to end.
func (d *demo) processes() []*process {
	all := append(slices.Clone(d.agents), d.server, d.registry)
	return slices.DeleteFunc(all, func(p *process) bool { return p == nil || p.done == nil })
}

// cleanup ends and removes everything of this run, and checks that nothing is left.
func (d *demo) cleanup() error {
	ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
	defer cancel()
	var errs []error
	for _, p := range d.processes() {
		errs = append(errs, p.stop())
	}
	if d.engine != nil {
		errs = append(errs, d.engine.removeAll(ctx, d.repository))
		left, err := d.engine.left(ctx, d.repository)
		if errs = append(errs, err); len(left) > 0 {
			errs = append(errs, fmt.Errorf("still on the engine: %s", strings.Join(left, ", ")))
		}
	}
	if _, err := output(ctx, nil, "hack/engine.sh", "stop", strconv.Itoa(os.Getpid())); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, os.RemoveAll(d.dir))
	return errors.Join(errs...)
}

// kept is what a later `demo -clean` has to know.
type kept struct {
	ID, DockerHost, Repository string
	// PIDs of the processes, each with the program that it must still be.
	PIDs map[int]string
	// EngineUser is the process in whose name the engine is held.
	EngineUser int
}

const keptFile = "kept.json"

func (d *demo) saveForLater() error {
	k := kept{ID: d.id, DockerHost: d.dockerHost, Repository: d.repository, PIDs: map[int]string{}, EngineUser: os.Getpid()}
	for _, p := range d.processes() {
		k.PIDs[p.cmd.Process.Pid] = filepath.Base(p.argv[0])
	}
	text, err := json.Marshal(k)
	if err != nil {
		return err
	}
	return os.WriteFile(d.path(keptFile), text, 0o600)
}

// lookAround says how.
func (d *demo) lookAround() {
	d.chapter("Everything is still running (KEEP=1). To look around:")
	d.block(fmt.Sprintf(`export KUBECONFIG=%s PATH=%s:$PATH
%s get gates,releases,pvs,hosts -A
kubectl-sirrat status -n %s
HTTP API: %s/api    logs: %s/*.log
docker ps --filter label=%s
to remove it all: bin/demo -clean %s`,
		d.kubeconfig("admin"), d.bin, strings.Join(d.kubectlProgram, " "), project, d.httpURL, d.dir, stackLabel, d.dir))
}

// cleanKept removes what a run with KEEP=1 left.
func cleanKept(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, keptFile))
	if err != nil {
		return fmt.Errorf("%s is not the folder of a run with KEEP=1: %w", dir, err)
	}
	var k kept
	if err := json.Unmarshal(text, &k); err != nil {
		return fmt.Errorf("read %s: %w", keptFile, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
	defer cancel()
	for pid, program := range k.PIDs {
		if still(pid, program) {
			_ = syscall.Kill(pid, syscall.SIGTERM) // it may end at this moment
		}
	}
	for pid, program := range k.PIDs {
		err := await(ctx, stopTimeout, program+" ends", func(context.Context) (string, bool, error) {
			return "it runs", !still(pid, program), nil
		})
		if err != nil {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may end at this moment
		}
	}
	var errs []error
	if k.DockerHost != "" {
		e, _, _, err := newEngine(ctx, k.DockerHost, k.ID)
		if errs = append(errs, err); err == nil {
			errs = append(errs, e.removeAll(ctx, k.Repository))
		}
	}
	_, err = output(ctx, nil, "hack/engine.sh", "stop", strconv.Itoa(k.EngineUser))
	return errors.Join(append(errs, err, os.RemoveAll(dir))...)
}

// still tells whether a process number is that of a program: it may belong to another by now.
func still(pid int, program string) bool {
	target, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "exe"))
	return err == nil && strings.HasPrefix(filepath.Base(target), program)
}
