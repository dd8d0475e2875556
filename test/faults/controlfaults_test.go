// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/agent/enrol"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/authorization"
	"gitlab.com/dynors/sirrat/test/faults/oracle"
)

// testControlPlaneAway cuts the agent off from the control plane until its certificate has expired, through restarts and
// deaths of containers; then both come back.
func testControlPlaneAway(t *testing.T) {
	e := newEngine(t)
	w := newWorld(t, e)
	w.run()
	first := w.send(w.web(w.hub.image("app", 0, "VERSION=1"), good...))
	w.await(first, v1alpha1.RolloutHealthy)
	w.agent.stop()

	// Away since a week: the certificate was good until then, and the agent starts without anybody to ask.
	week := 7 * 24 * time.Hour
	w.enrolled(w.data, w.server, time.Now().Add(-2*week), time.Now().Add(-time.Hour))
	w.gate.set(true)
	w.disturb("control plane away", "")
	w.run()
	healed := 0
	for _, hurt := range []string{"removed", "stopped", "removed while the agent was dead"} {
		victim := w.only()
		w.disturb(hurt, victim.ID)
		switch hurt {
		case "removed":
			w.removeContainer(victim.ID)
		case "stopped":
			if _, err := e.client.ContainerStop(t.Context(), victim.ID, client.ContainerStopOptions{}); err != nil {
				t.Fatal(err)
			}
		default:
			w.kill()
			w.removeContainer(victim.ID)
			w.run()
		}
		wait(w, "what was "+hurt+" to be healed", func() error {
			if list := w.containers(); len(list) != 1 || list[0].State != "running" || hurt != "stopped" && list[0].ID == victim.ID {
				return fmt.Errorf("%+v", list)
			}
			return w.agent.alive()
		})
		w.serves("1")
		healed++
	}

	// The control plane is back and knows nobody by an expired certificate. What was authorised in the meantime waits.
	second := w.send(w.web(w.hub.image("app", 0, "VERSION=2"), v1alpha1.RolloutHealthy))
	w.gate.set(false)
	wait(w, "the agent to say that it is not let in", func() error {
		if said := w.said.String(); !strings.Contains(said, "certificate") && !strings.Contains(said, "nauthorized") {
			return fmt.Errorf("%s", w.said.tail(3))
		}
		return w.agent.alive()
	})
	w.serves("1")
	// Somebody lets it in again, with the same keys pinned: nothing else is needed.
	w.agent.stop()
	w.enrolled(w.data, w.server, time.Now().Add(-time.Hour), time.Now().Add(week))
	w.run()
	w.await(second, v1alpha1.RolloutHealthy)
	w.serves("2")
	r := w.judge()
	note(t, "served and healed", "healed %d times with an expired certificate; %s", healed, counts(r))
}

// testOlderBackup brings the control plane back to what it was before the last two rollouts: what it authorises then has
// sequences that were used, and is refused, with a word about why.
func testOlderBackup(t *testing.T) {
	e := newEngine(t)
	w := newWorld(t, e)
	w.run()
	var last string
	for i := range 3 {
		last = w.send(w.web(w.hub.image("app", 0, fmt.Sprint("VERSION=", i+1)), good...))
		w.await(last, v1alpha1.RolloutHealthy)
	}
	before := w.only()
	for _, restart := range []bool{false, true} {
		o := w.web(w.hub.image("app", 0, "VERSION=restored"), v1alpha1.RolloutSuperseded, v1alpha1.RolloutRejected)
		o.sequence, o.void = 2, true
		if restart {
			w.kill()
			w.run()
		}
		status := w.await(w.send(o), v1alpha1.RolloutSuperseded, v1alpha1.RolloutRejected)
		if !strings.Contains(status.Message, "3") {
			t.Errorf("it does not say at which sequence it is: %q", status.Message)
		}
	}
	if after := w.only(); after.ID != before.ID {
		t.Errorf("the container was touched: %+v", after)
	}
	// The restored control plane has caught up.
	w.await(w.send(w.web(w.hub.image("app", 0, "VERSION=4"), v1alpha1.RolloutHealthy)), v1alpha1.RolloutHealthy)
	w.serves("4")
	r := w.judge()
	note(t, "refused", "%s", counts(r))
}

// testPartition drops all packets between the agent and the control plane, in both directions, so that neither side hears of
// the other's end, and lets them through again.
func testPartition(t *testing.T) {
	e := newEngine(t)
	w := newWorld(t, e)
	w.run()
	first := w.send(w.web(w.hub.image("app", 0, "VERSION=1"), good...))
	w.await(first, v1alpha1.RolloutHealthy)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(w.server, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	iptables := "iptables"
	if e.tables() != "" {
		iptables = "iptables-legacy"
	}
	rules := [][]string{{"--dport", port}, {"--sport", port}}
	partition := func(action string) {
		for _, rule := range rules {
			w.engine.net.run(t, iptables, append([]string{"-w", "10", action, "INPUT", "-i", "lo", "-p", "tcp", "-j", "DROP"}, rule...)...)
		}
	}
	partition("-I")
	w.disturb("partition", "")
	begin := time.Now()
	victim := w.only()
	w.disturb("removed by hand", victim.ID)
	w.removeContainer(victim.ID)
	mark := len(w.said.String())
	second := w.send(w.web(w.hub.image("app", 0, "VERSION=2"), v1alpha1.RolloutHealthy))
	wait(w, "the partition to be noticed", func() error {
		said := w.said.String()[mark:]
		if !strings.Contains(said, "heartbeat failed") && !strings.Contains(said, "control plane does not answer") && !strings.Contains(said, "cannot be reported") {
			return fmt.Errorf("%s", w.said.tail(3))
		}
		return w.agent.alive()
	})
	noticed := time.Since(begin)
	if noticed > time.Minute {
		t.Errorf("noticed after %s", noticed)
	}
	w.serves("1") // healed meanwhile
	partition("-D")
	begin = time.Now()
	w.await(second, v1alpha1.RolloutHealthy)
	back := time.Since(begin)
	if back > time.Minute {
		t.Errorf("what was authorised during the partition arrived %s after its end", back)
	}
	w.serves("2")

	// A half-open watch while nothing is going on: the relay passes nothing on and hangs up nothing.
	w.gate.strand()
	w.disturb("half-open", "")
	begin = time.Now()
	third := w.send(w.web(w.hub.image("app", 0, "VERSION=3"), v1alpha1.RolloutHealthy))
	w.await(third, v1alpha1.RolloutHealthy)
	halfOpen := time.Since(begin)
	if halfOpen > time.Minute {
		t.Errorf("a half-open connection kept a rollout waiting for %s", halfOpen)
	}
	r := w.judge()
	note(t, "reconnected", "partition noticed after %s, rollout healthy %s after its end, %s after its creation over a half-open connection; %s",
		noticed.Round(time.Second/10), back.Round(time.Second/10), halfOpen.Round(time.Second/10), counts(r))
}

// testClock has authorizations signed by a clock that is a day off, which to the agent is the same as its own clock being so,
// and ones that are just beyond what is allowed. It has a certificate that began a day from now, too.
func testClock(t *testing.T) {
	e := newEngine(t)
	w := newWorld(t, e)
	w.run()
	day := 24 * time.Hour
	signed := func(version string, at time.Duration, ends ...string) string {
		o := w.web(w.hub.image("app", 0, "VERSION="+version), ends...)
		o.signed = time.Now().Add(at)
		o.void = ends[0] == v1alpha1.RolloutRejected
		return w.send(o)
	}
	w.await(signed("slow", -day, good...), v1alpha1.RolloutHealthy)
	w.await(signed("fast", day, good...), v1alpha1.RolloutHealthy)
	status := w.await(signed("expired", -authorization.Validity-time.Minute, v1alpha1.RolloutRejected, v1alpha1.RolloutSuperseded), v1alpha1.RolloutRejected)
	if !strings.Contains(status.Message, authorization.ErrExpired.Error()) {
		t.Errorf("message %q", status.Message)
	}
	w.serves("fast")
	// What runs is not undone by the end of its authorization, not even after a kill.
	w.kill()
	w.run()
	w.await(signed("last", -authorization.Validity+time.Minute, good...), v1alpha1.RolloutHealthy)
	w.serves("last")
	r := w.judge()
	note(t, "carried out, and refused once expired", "%s", counts(r))
}

// testBombs sends compose files that grow when they are read, validly signed. All are refused in no time and little memory.
func testBombs(t *testing.T) {
	e := newEngine(t)
	w := newWorld(t, e)
	w.run()
	first := w.send(w.web(w.hub.image("app", 0, "VERSION=1"), good...))
	w.await(first, v1alpha1.RolloutHealthy)
	before := w.only()
	laughs := "x-a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n"
	for c := 'b'; c <= 'j'; c++ {
		laughs += fmt.Sprintf("x-%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c, ", c-1), 9), ", "))
	}
	merges := "x-a: &a {k0: v, k1: v, k2: v}\n"
	for c := 'b'; c <= 'j'; c++ {
		merges += fmt.Sprintf("x-%c: &%c {<<: *%c, l: *%c, r: *%c, m: *%c}\n", c, c, c-1, c-1, c-1, c-1)
	}
	services := "services:\n"
	for i := range 1000 {
		services += fmt.Sprintf("  s%d: {image: a}\n", i)
	}
	slowest, names := time.Duration(0), []string{}
	for _, c := range []struct {
		name, compose string
		values        map[string]string
	}{
		{"aliases", laughs + web, nil},
		{"merges", merges + web, nil},
		{"depth", "x-deep: " + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + "\n" + web, nil},
		{"depth of mappings", "x-deep: " + strings.Repeat("{a: ", 5_000) + strings.Repeat("}", 5_000) + "\n" + web, nil},
		{"values", web + "x-much: \"" + strings.Repeat("${MUCH}", 30_000) + "\"\n", map[string]string{"MUCH": strings.Repeat("x", 10_000)}},
		{"nested variables", web + "x-deep: \"" + strings.Repeat("${A:-", 5_000) + strings.Repeat("}", 5_000) + "\"\n", nil},
		{"services", services, nil},
		{"replicas", strings.Replace(web, "restart:", "scale: 1000000\n    restart:", 1), nil},
		{"ports", strings.Replace(web, `ports: [`, `ports: ["1-60000:1-60000", `, 1), nil},
		{"unfinished", web + "x-a: \"" + strings.Repeat("${", 50_000), nil},
	} {
		o := w.web(w.only().Image, v1alpha1.RolloutRejected, v1alpha1.RolloutSuperseded)
		o.compose, o.void = c.compose, true
		for name, value := range c.values {
			o.values[name] = value
		}
		begin := time.Now()
		status := w.await(w.send(o), v1alpha1.RolloutRejected, v1alpha1.RolloutHealthy, v1alpha1.RolloutFailed, v1alpha1.RolloutRolledBack)
		slowest = max(slowest, time.Since(begin))
		if status.Phase != v1alpha1.RolloutRejected {
			t.Errorf("%s: %s %q", c.name, status.Phase, status.Message)
		}
		names = append(names, fmt.Sprintf("%s: %q", c.name, status.Message))
	}
	// The API server does not even take a file above its bound.
	o := w.web(before.Image)
	o.compose += "# " + strings.Repeat("x", 300<<10)
	if _, err := w.create(o); err == nil {
		t.Error("a compose file of 300 KiB was taken")
	}
	peak, _ := w.agent.memory()
	if peak > 120 {
		t.Errorf("the agent held %.0f MiB", peak)
	}
	if after := w.only(); after.ID != before.ID {
		t.Errorf("the container was touched: %+v", after)
	}
	w.await(first, v1alpha1.RolloutHealthy)
	w.judge()
	t.Log(strings.Join(names, "\n"))
	note(t, "refused", "%d bombs, the slowest answered after %s, agent's RSS peak %.1f MiB", len(names), slowest.Round(time.Millisecond*10), peak)
}

// Rollouts that disappear, all at once, while the agent is up and while it is not, are no order to remove anything.
func testAbsence(t *testing.T) {
	e := newEngine(t)
	w := newWorld(t, e)
	w.run()
	w.await(w.send(w.web(w.hub.image("app", 0, "VERSION=1"), good...)), v1alpha1.RolloutHealthy)
	before := w.only()
	if err := w.objects().DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	w.kill()
	w.run()
	w.removeContainerByHand()
	wait(w, "the container to be healed", func() error {
		if list := w.containers(); len(list) != 1 || list[0].ID == before.ID || list[0].State != "running" {
			return fmt.Errorf("%+v", list)
		}
		return nil
	})
	w.serves("1")
	identity, err := enrol.LoadIdentity(w.data)
	if err != nil || identity.Host != w.name {
		t.Errorf("%+v, %v", identity, err)
	}
	r := oracle.Record{Entries: w.log.Entries(), Final: w.containers()}
	for _, violation := range append(append(oracle.Doubled(r), oracle.Unauthorised(r)...), oracle.Touched(r)...) {
		t.Error(violation)
	}
	note(t, "kept and healed", "%s", counts(r))
}

func (w *world) removeContainerByHand() {
	w.Helper()
	victim := w.only()
	w.disturb("removed by hand", victim.ID)
	w.removeContainer(victim.ID)
}
