// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"encoding/json"
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
	"gitlab.com/dynors/sirrat/test/testbed"
)

// testControlPlaneAway cuts the agent off from the control plane until its certificate has expired, through restarts and
// deaths of containers; then both come back.
func testControlPlaneAway(t *testing.T, e *testbed.Engine) {
	w := newWorld(t, e)
	w.run()
	first := w.send(w.web(w.hub.image("app", 0, "VERSION=1"), good...))
	w.await(first, v1alpha1.RolloutHealthy)
	w.agent.Stop()

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
			if _, err := e.Client.ContainerStop(t.Context(), victim.ID, client.ContainerStopOptions{}); err != nil {
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
			return w.agent.Alive()
		})
		w.serves("1")
		healed++
	}

	// The control plane is back and knows nobody by an expired certificate. What was authorised in the meantime waits.
	second := w.send(w.web(w.hub.image("app", 0, "VERSION=2"), v1alpha1.RolloutHealthy))
	w.gate.set(false)
	wait(w, "the agent to say that it is not let in", func() error {
		if said := w.said.String(); !strings.Contains(said, "certificate") && !strings.Contains(said, "nauthorized") {
			return fmt.Errorf("%s", w.said.Tail(3))
		}
		return w.agent.Alive()
	})
	w.serves("1")
	// Somebody lets it in again, with the same keys pinned: nothing else is needed.
	w.agent.Stop()
	w.enrolled(w.data, w.server, time.Now().Add(-time.Hour), time.Now().Add(week))
	w.run()
	w.await(second, v1alpha1.RolloutHealthy)
	w.serves("2")
	r := w.judge()
	note(t, "served and healed", "healed %d times with an expired certificate; %s", healed, counts(r))
}

// testOlderBackup brings the control plane back to what it was before the last two rollouts: what it knows and what it
// authorises then has sequences that were used, and is refused, with a word about why, for its operator too. He finds in it
// the sequence from which on it is believed again.
func testOlderBackup(t *testing.T, e *testbed.Engine) {
	w := newWorld(t, e)
	w.run()
	var sent []string
	for i := range 3 {
		sent = append(sent, w.send(w.web(w.hub.image("app", 0, fmt.Sprint("VERSION=", i+1)), good...)))
		w.await(sent[i], v1alpha1.RolloutHealthy)
	}
	before := w.only()
	w.ahead("")
	w.kill()
	for _, name := range sent[1:] {
		if err := w.objects().Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		w.log.Add(oracle.Entry{At: time.Now(), Kind: oracle.Withdrawn, Rollout: name})
	}
	w.log.Add(oracle.Entry{At: time.Now(), Kind: oracle.Withdrawn, Rollout: sent[0]}) // it says what it said when the backup was made
	w.run()
	refused := func(name string) {
		t.Helper()
		status := w.await(name, v1alpha1.RolloutRejected)
		if status.ServingSequence != 3 || !strings.Contains(status.Message, "restored from an older backup") {
			t.Errorf("it does not say at which sequence it is: %q, serving %d", status.Message, status.ServingSequence)
		}
	}
	refused(sent[0])
	w.ahead("sequence 3 of " + w.project + "/dev was carried out here")
	for _, restart := range []bool{false, true} {
		o := w.web(w.hub.image("app", 0, "VERSION=restored"), v1alpha1.RolloutSuperseded, v1alpha1.RolloutRejected)
		o.sequence, o.void = 2, true
		if restart {
			w.kill()
			w.run()
		}
		refused(w.send(o))
	}
	if after := w.only(); after.ID != before.ID {
		t.Errorf("the container was touched: %+v", after)
	}
	w.serves("3")
	// The restored control plane has caught up.
	w.await(w.send(w.web(w.hub.image("app", 0, "VERSION=4"), v1alpha1.RolloutHealthy)), v1alpha1.RolloutHealthy)
	w.serves("4")
	w.ahead("")
	r := w.judge()
	note(t, "refused, operator told", "%s", counts(r))
}

// ahead waits until the heartbeat says what the host knows better than the control plane; "" for nothing.
func (w *world) ahead(want string) {
	w.Helper()
	wait(w, fmt.Sprintf("the heartbeat to say %q of being ahead", want), func() error {
		lease, err := w.env.Client.CoordinationV1().Leases(v1alpha1.HostNamespace(w.name)).Get(w.Context(), v1alpha1.AgentLease, metav1.GetOptions{})
		if err != nil {
			return err
		}
		var info v1alpha1.AgentInfo
		if err := json.Unmarshal([]byte(lease.Annotations[v1alpha1.AnnotationAgentInfo]), &info); err != nil {
			return err
		}
		if want == "" && info.Ahead != "" || !strings.Contains(info.Ahead, want) {
			return fmt.Errorf("it says %q", info.Ahead)
		}
		return nil
	})
}

// testPartition drops all packets between the agent and the control plane, in both directions, so that neither side hears of
// the other's end, and lets them through again.
func testPartition(t *testing.T, e *testbed.Engine) {
	w := newWorld(t, e)
	w.run()
	first := w.send(w.web(w.hub.image("app", 0, "VERSION=1"), good...))
	w.await(first, v1alpha1.RolloutHealthy)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(w.server, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	iptables := "iptables"
	if e.Tables() != "" {
		iptables = "iptables-legacy"
	}
	rules := [][]string{{"--dport", port}, {"--sport", port}}
	partition := func(action string) {
		for _, rule := range rules {
			w.engine.Net.Run(t, iptables, append([]string{"-w", "10", action, "INPUT", "-i", "lo", "-p", "tcp", "-j", "DROP"}, rule...)...)
		}
	}
	partition("-I")
	w.disturb("partition", "")
	begin := time.Now()
	victim := w.only()
	w.disturb("removed by hand", victim.ID)
	w.removeContainer(victim.ID)
	mark := len(w.said.String())
	second := w.send(w.web(w.hub.image("app", 0, "VERSION=2"), good...))
	wait(w, "the partition to be noticed", func() error {
		said := w.said.String()[mark:]
		if !strings.Contains(said, "heartbeat failed") && !strings.Contains(said, "control plane does not answer") && !strings.Contains(said, "cannot be reported") {
			return fmt.Errorf("%s", w.said.Tail(3))
		}
		return w.agent.Alive()
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
	w.serves("2")

	// A half-open watch while nothing is going on: the relay passes nothing on and hangs up nothing.
	accepted := w.gate.accepts()
	w.gate.strand()
	w.disturb("half-open", "")
	begin = time.Now()
	third := w.send(w.web(w.hub.image("app", 0, "VERSION=3"), v1alpha1.RolloutHealthy))
	wait(w, "the agent to connect anew", func() error {
		if w.gate.accepts() == accepted {
			return fmt.Errorf("%s", w.said.Tail(3))
		}
		return nil
	})
	halfOpen := time.Since(begin)
	if halfOpen > time.Minute {
		t.Errorf("a half-open connection was noticed after %s", halfOpen)
	}
	w.await(third, v1alpha1.RolloutHealthy)
	w.serves("3")
	r := w.judge()
	note(t, "reconnected", "partition noticed after %s, rollout healthy %s after its end; half-open connection replaced after %s; %s",
		noticed.Round(time.Second/10), back.Round(time.Second/10), halfOpen.Round(time.Second/10), counts(r))
}

// testClock has authorizations signed by a clock that is a day off, which to the agent is the same as its own clock being so,
// and ones that are just beyond what is allowed. It has a certificate that began a day from now, too.
func testClock(t *testing.T, e *testbed.Engine) {
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
	status := w.await(signed("expired", -authorization.Validity-authorization.ClockSkew-time.Minute, v1alpha1.RolloutRejected, v1alpha1.RolloutSuperseded), v1alpha1.RolloutRejected)
	if !strings.Contains(status.Message, authorization.ErrExpired.Error()) {
		t.Errorf("message %q", status.Message)
	}
	w.serves("fast")
	// What runs is not undone by the end of its authorization, not even after a kill; nor does a clock that is a day ahead end
	// one too early.
	w.kill()
	w.run()
	w.await(signed("last", -authorization.Validity-day, good...), v1alpha1.RolloutHealthy)
	w.serves("last")
	r := w.judge()
	note(t, "carried out, and refused once expired", "%s", counts(r))
}

// testBombs sends compose files that grow when they are read, validly signed. All are refused in no time and little memory.
func testBombs(t *testing.T, e *testbed.Engine) {
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
	peak, _ := w.agent.Memory()
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
func testAbsence(t *testing.T, e *testbed.Engine) {
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
