// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"gitlab.com/dynors/sirrat/agent/state"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/authorization"
	"gitlab.com/dynors/sirrat/internal/composefile"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/test/faults/oracle"
	"gitlab.com/dynors/sirrat/test/testbed"
)

// world is one environment on one host: its engine, registry, agent, and the record of all that happens.
type world struct {
	*host
	engine  *testbed.Engine
	hub     *hub
	gate    *relay
	server  string
	data    string
	project string
	port    int
	log     *oracle.Log
	said    *testbed.Buffer
	agent   *testbed.Process
	// dockerHost is where the agent looks for the engine.
	dockerHost string
	sequence   int64
	watcher    *watcher
}

// newWorld prepares an environment on an engine; its agent does not run yet.
func newWorld(t testing.TB, e *testbed.Engine) *world {
	t.Helper()
	w := &world{
		engine: e, hub: newHub(t, e.Net), data: t.TempDir(), project: fmt.Sprintf("faults-%08x", rand.Uint32()),
		port: 10000 + rand.IntN(20000), log: &oracle.Log{}, said: &testbed.Buffer{}, dockerHost: e.Address(),
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the record:\n%s", print(oracle.Record{Entries: w.log.Entries()}))
			t.Logf("the agent said last:\n%s", w.said.Tail(25))
		}
	})
	w.host = newHost(t)
	t.Cleanup(w.remove) // healthchecks of what is left would cost other tests their time, and networks their subnets
	w.gate, w.server = w.gateway(e.Net)
	w.enrolled(w.data, w.server, time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour))
	w.watcher = w.watch()
	return w
}

// remove takes down what the agent, which has ended, left on the engine.
func (w *world) remove() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	mine := client.Filters{}.Add("label", projectLabel+"="+w.project)
	containers, err := w.engine.Client.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: mine})
	if err != nil {
		return // the engine's own end takes all
	}
	for _, c := range containers.Items {
		_, _ = w.engine.Client.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	}
	volumes, err := w.engine.Client.VolumeList(ctx, client.VolumeListOptions{Filters: mine})
	if err != nil {
		return
	}
	for _, v := range volumes.Items {
		_, _ = w.engine.Client.VolumeRemove(ctx, v.Name, client.VolumeRemoveOptions{})
	}
	networks, err := w.engine.Client.NetworkList(ctx, client.NetworkListOptions{Filters: mine})
	if err != nil {
		return
	}
	for _, n := range networks.Items {
		_, _ = w.engine.Client.NetworkRemove(ctx, n.ID, client.NetworkRemoveOptions{})
	}
}

// run starts the agent.
func (w *world) run() {
	w.Helper()
	w.agent = testbed.Spawn(w, w.engine.Net, built.Agent, w.said, "run", "--data-dir", w.data, "--docker-host", w.dockerHost, "--heartbeat", "2s", "--log-level", "debug")
}

// kill kills the agent, and notes it.
func (w *world) kill() {
	w.Helper()
	w.disturb("agent killed", "")
	w.agent.Kill()
}

// disturb notes what the test does to the agent, the engine (no id) or a container.
func (w *world) disturb(what, id string) {
	w.log.Add(oracle.Entry{At: time.Now(), Kind: oracle.Disturbance, What: what, ID: id})
}

// order is a Rollout in the making.
type order struct {
	compose  string
	images   map[string]string
	replicas map[string]int
	values   map[string]string
	secrets  []string
	checks   []v1alpha1.HealthCheck
	timeout  time.Duration
	// startFirst keeps the old containers until the new ones are healthy.
	startFirst bool
	// jobs are the services that run once before the others start; irreversible is what they, or the others, do.
	jobs         []string
	irreversible bool
	// remove takes the environment down.
	remove *v1alpha1.Removal
	// sequence, project uid and time of the authorization, where they are not the next, the project's and now.
	sequence   int64
	projectUID string
	signed     time.Time
	// tamper changes the spec after it was signed.
	tamper func(*v1alpha1.RolloutSpec)
	// void says that it must never have an effect; ends are the phases that it may end in.
	void bool
	ends []string
}

// web is a compose file with one service that has a healthcheck and a port.
const web = `
services:
  web:
    image: app
    restart: unless-stopped
    stop_grace_period: 2s
    ports: ["127.0.0.1:${PORT}:8080"]
    healthcheck: {test: [CMD, /app, health], interval: 1s, retries: 4, start_period: 500ms}
`

// twins is a compose file with two containers without a port, which can be started beside old ones.
const twins = `
services:
  web:
    image: app
    restart: unless-stopped
    stop_grace_period: 2s
    scale: 2
    healthcheck: {test: [CMD, /app, health], interval: 1s, retries: 4, start_period: 500ms}
`

// migrating is a compose file with a job before the service.
const migrating = web + `
  migrate:
    image: app
    command: [job]
    volumes: ["data:/data"]
    x-sirrat: {job: pre-deploy}
volumes: {data: {}}
`

// migrating makes an order of one service and a job of the same image.
func (w *world) migrating(image string, ends ...string) order {
	o := w.web(image, ends...)
	o.compose, o.images["migrate"], o.jobs = migrating, image, []string{"migrate"}
	return o
}

// twins makes an order of two containers that start before the old ones stop. A bad one fails without anything to go back
// from, unless it was killed so late that an old one had gone.
func (w *world) twins(image string, ends ...string) order {
	if slices.Contains(ends, v1alpha1.RolloutRolledBack) {
		ends = append(slices.Clone(ends), v1alpha1.RolloutFailed)
	}
	return order{
		compose: twins, images: map[string]string{"web": image}, replicas: map[string]int{"web": 2}, timeout: time.Minute, ends: ends,
		startFirst: true,
	}
}

// ends of a Rollout that is to succeed, or to fail, when a newer one may come before.
var (
	good = []string{v1alpha1.RolloutHealthy, v1alpha1.RolloutSuperseded}
	bad  = []string{v1alpha1.RolloutRolledBack, v1alpha1.RolloutSuperseded}
)

// web makes an order of one service.
func (w *world) web(image string, ends ...string) order {
	return order{
		compose: web, images: map[string]string{"web": image}, values: map[string]string{"PORT": fmt.Sprint(w.port)}, timeout: time.Minute,
		ends: ends, checks: []v1alpha1.HealthCheck{{
			HTTP:    &v1alpha1.HTTPCheck{URL: "http://127.0.0.1:${PORT}/health"},
			Timeout: metav1.Duration{Duration: 30 * time.Second}, Interval: metav1.Duration{Duration: 100 * time.Millisecond}, Successes: 2,
		}},
	}
}

// send signs an order, records it and creates its Rollout, whose name it returns.
func (w *world) send(o order) string {
	w.Helper()
	name, err := w.create(o)
	if err != nil {
		w.Fatal(err)
	}
	return name
}

func (w *world) create(o order) (name string, err error) {
	w.Helper()
	if o.sequence == 0 {
		w.sequence++
		o.sequence = w.sequence
	}
	if o.signed.IsZero() {
		o.signed = time.Now()
	}
	if o.projectUID == "" {
		o.projectUID = "uid-of-" + w.project
	}
	spec := v1alpha1.RolloutSpec{
		Project: w.project, ProjectUID: o.projectUID, Environment: "dev", Sequence: o.sequence,
		Release:    v1alpha1.RolloutRelease{Name: fmt.Sprintf("r%d", o.sequence), UID: fmt.Sprintf("uid-%d", o.sequence), Commit: strings.Repeat("a", 40)},
		BundleHash: envelope.Hash([]byte(fmt.Sprint(o.compose, o.images, o.values))), ComposeProject: w.project, Compose: o.compose,
		ComposeHash: composefile.Hash(o.compose), Values: o.values, SecretRefs: o.secrets, HealthChecks: o.checks,
		Strategy: v1alpha1.RolloutStrategy{
			Strategy: "Recreate", MaxUnavailable: 1, AutoRollback: ptr.To(true), Timeout: metav1.Duration{Duration: o.timeout},
		},
	}
	if o.startFirst {
		spec.Strategy.Strategy, spec.Strategy.Drain = v1alpha1.StrategyStartFirst, metav1.Duration{Duration: 200 * time.Millisecond}
	}
	spec.Irreversible, spec.Remove = o.irreversible, o.remove
	spec.Images = []v1alpha1.ServiceImage{}
	for _, service := range slices.Sorted(maps.Keys(o.images)) {
		spec.Images = append(spec.Images, v1alpha1.ServiceImage{Service: service, Image: o.images[service]})
	}
	spec.Authorization, err = authorization.Sign(w.Context(), spec, authorization.Host{Name: w.name, UID: w.uid}, o.signed, nil, "", w.key)
	if err != nil {
		w.Fatal(err)
	}
	if o.tamper != nil {
		o.tamper(&spec)
	}
	rollout := &v1alpha1.Rollout{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "Rollout"},
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d-%04x", w.project, o.sequence, rand.Uint32N(1<<16))}, Spec: spec,
	}
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(rollout)
	if err != nil {
		w.Fatal(err)
	}
	delete(object, "status")
	at := time.Now()
	_, err = w.objects().Create(w.Context(), &unstructured.Unstructured{Object: object}, metav1.CreateOptions{})
	if err == nil {
		w.log.Add(oracle.Entry{At: at, Kind: oracle.Authorised, Order: &oracle.Order{
			Rollout: rollout.Name, Sequence: o.sequence, Images: o.images, Replicas: o.replicas, StartFirst: o.startFirst, Jobs: o.jobs,
			Remove: o.remove != nil, Void: o.void, Ends: o.ends,
		}})
	}
	return rollout.Name, err
}

func (w *world) status(name string) v1alpha1.RolloutStatus {
	w.Helper()
	object, err := w.objects().Get(w.Context(), name, metav1.GetOptions{})
	if err != nil {
		w.Fatal(err)
	}
	return statusOf(w, object)
}

func statusOf(t testing.TB, object *unstructured.Unstructured) v1alpha1.RolloutStatus {
	t.Helper()
	var rollout v1alpha1.Rollout
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &rollout); err != nil {
		t.Error(err)
	}
	return rollout.Status
}

// await waits until a Rollout is in one of the phases.
func (w *world) await(name string, phases ...string) v1alpha1.RolloutStatus {
	w.Helper()
	var s v1alpha1.RolloutStatus
	wait(w, fmt.Sprintf("%s to be %v", name, phases), func() error {
		if s = w.status(name); !slices.Contains(phases, s.Phase) {
			return fmt.Errorf("%s: %s %v", s.Phase, s.Message, s.LastLogs)
		}
		return nil
	})
	return s
}

// stored is what the agent has on disk.
func (w *world) stored() *state.Environment {
	w.Helper()
	store, err := state.Open(filepath.Join(w.data, "state"))
	if err != nil {
		w.Fatal(err)
	}
	e, err := store.Load(state.Key{Project: w.project, Environment: "dev"})
	if err != nil {
		w.Fatal(err)
	}
	return e
}

// ask what the service that is published on the world's port answers.
func (w *world) ask(path string) (string, error) {
	c := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: w.engine.Net.Dial}}
	answer, err := c.Get(fmt.Sprintf("http://127.0.0.1:%d%s", w.port, path))
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return string(body), err
}

// serves waits until a version answers.
func (w *world) serves(version string) {
	w.Helper()
	wait(w, "version "+version+" to serve", func() error {
		got, err := w.ask("/version")
		if err == nil && got != version {
			err = fmt.Errorf("version %q serves", got)
		}
		return err
	})
}

// containers of the project, running or not.
func (w *world) containers() []oracle.Running {
	w.Helper()
	list, err := w.engine.Client.ContainerList(context.Background(), client.ContainerListOptions{
		All: true, Filters: client.Filters{}.Add("label", projectLabel+"="+w.project),
	})
	if err != nil {
		w.Fatal(err)
	}
	var all []oracle.Running
	for _, c := range list.Items {
		inspected, err := w.engine.Client.ContainerInspect(context.Background(), c.ID, client.ContainerInspectOptions{})
		if err != nil {
			continue // gone in the meantime
		}
		all = append(all, oracle.Running{
			ID: c.ID, Service: c.Labels[serviceLabel], Image: inspected.Container.Config.Image, State: string(c.State), Job: c.Labels[oneOffLabel] == "True",
		})
	}
	return all
}

// volumes of the project.
func (w *world) volumes() int {
	w.Helper()
	list, err := w.engine.Client.VolumeList(w.Context(), client.VolumeListOptions{Filters: client.Filters{}.Add("label", projectLabel+"="+w.project)})
	if err != nil {
		w.Fatal(err)
	}
	return len(list.Items)
}

func (w *world) removeContainer(id string) {
	w.Helper()
	if _, err := w.engine.Client.ContainerRemove(w.Context(), id, client.ContainerRemoveOptions{Force: true}); err != nil {
		w.Fatal(err)
	}
}

func (w *world) pullImage(image string) {
	w.Helper()
	stream, err := w.engine.Client.ImagePull(w.Context(), image, client.ImagePullOptions{})
	if err == nil {
		err = stream.Wait(w.Context())
	}
	if err != nil {
		w.Fatal(err)
	}
}

// only is the one container of the project, but for those of jobs.
func (w *world) only() oracle.Running {
	w.Helper()
	list := slices.DeleteFunc(w.containers(), func(c oracle.Running) bool { return c.Job })
	if len(list) != 1 {
		w.Fatalf("%d containers, not one: %+v", len(list), list)
	}
	return list[0]
}

// judge waits until what the agent reports and runs holds, and lets the oracle judge the whole record. It returns the record
// for counting.
func (w *world) judge() oracle.Record {
	w.Helper()
	var r oracle.Record
	end := time.Now().Add(20 * time.Second)
	for {
		w.watcher.settle()
		r = oracle.Record{Entries: w.log.Entries(), Final: w.containers()}
		violations := oracle.Check(r)
		if len(violations) == 0 {
			return r
		}
		// What is on its way, an event or a report, may still put it right.
		if time.Now().After(end) || w.Context().Err() != nil {
			w.Error("the oracle says:\n" + strings.Join(violations, "\n"))
			return r
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// counts of a record, for the table.
func counts(r oracle.Record) string {
	kind := func(k oracle.Kind) int { return r.Count(func(e oracle.Entry) bool { return e.Kind == k }) }
	creates := r.Count(func(e oracle.Entry) bool { return e.Kind == oracle.Container && e.Action == oracle.Create })
	return fmt.Sprintf("%d disturbances, %d rollouts, %d container events (%d creates), %d pulls, %d reports",
		kind(oracle.Disturbance), kind(oracle.Authorised), kind(oracle.Container), creates, kind(oracle.Pulled), kind(oracle.Report))
}

func print(r oracle.Record) string {
	var b strings.Builder
	for _, e := range r.Entries {
		fmt.Fprintf(&b, "%s %-11s ", e.At.Format("05.000"), e.Kind)
		switch e.Kind {
		case oracle.Authorised:
			fmt.Fprintf(&b, "%s %v void=%v\n", e.Order.Rollout, e.Order.Images, e.Order.Void)
		case oracle.Container:
			fmt.Fprintf(&b, "%s %.12s %s %s\n", e.Action, e.ID, e.Service, shortDigest(e.Image))
		case oracle.Report:
			fmt.Fprintf(&b, "%s %s %d\n", e.Rollout, e.Phase, e.Serving)
		default:
			fmt.Fprintf(&b, "%s %.12s %s\n", e.What, e.ID, shortDigest(e.Image))
		}
	}
	return b.String()
}

func shortDigest(image string) string {
	_, digest, _ := strings.Cut(image, "@sha256:")
	return digest[:min(8, len(digest))]
}
