// SPDX-License-Identifier: Apache-2.0

package health

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const image = "registry.example/app@sha256:1"

func running(change func(*Container)) []Container {
	c := Container{ID: "1", Name: "p-web-1", Service: "web", Image: image, State: StateRunning, Check: CheckNone, StartedAt: now.Add(-time.Minute)}
	if change != nil {
		change(&c)
	}
	return []Container{c}
}

func TestJudge(t *testing.T) {
	plain := Service{Name: "web", Image: image, Replicas: 1}
	oneShot := Service{Name: "web", Image: image, Replicas: 1, OneShot: true}
	restarts := Service{Name: "web", Image: image, Replicas: 1, Restarts: true}
	ended := func(code int) func(*Container) {
		return func(c *Container) { c.State, c.ExitCode = StateExited, code }
	}
	for name, c := range map[string]struct {
		want     Service
		got      []Container
		base     Baseline
		done     []string
		status   Status
		hopeless bool
		message  string
		next     time.Time
	}{
		"running":         {plain, running(nil), nil, nil, Healthy, false, "", time.Time{}},
		"just started":    {plain, running(func(c *Container) { c.StartedAt = now }), nil, nil, Waiting, false, "must run steadily", now.Add(Streak)},
		"check healthy":   {plain, running(func(c *Container) { c.StartedAt, c.Check = now, CheckHealthy }), nil, nil, Healthy, false, "", time.Time{}},
		"check starting":  {plain, running(func(c *Container) { c.Check = CheckStarting }), nil, nil, Waiting, false, "waits for its healthcheck", time.Time{}},
		"check unhealthy": {plain, running(func(c *Container) { c.Check = CheckUnhealthy }), nil, nil, Unhealthy, true, "its healthcheck fails", time.Time{}},
		"missing":         {plain, nil, nil, nil, Down, true, "1 of 1 containers missing", time.Time{}},
		"other image":     {plain, running(func(c *Container) { c.Image = "other" }), nil, nil, Down, true, "runs another image: other", time.Time{}},
		"paused":          {plain, running(func(c *Container) { c.State = StatePaused }), nil, nil, Down, true, "paused", time.Time{}},
		"created":         {plain, running(func(c *Container) { c.State = StateCreated }), nil, nil, Down, true, "not started", time.Time{}},
		"cannot start": {plain, running(func(c *Container) { c.State, c.Error = StateCreated, "port is taken" }), nil, nil, Down, true,
			"cannot start: port is taken", time.Time{}},
		"dead":                {plain, running(func(c *Container) { c.State = StateDead }), nil, nil, Down, true, "exited 0", time.Time{}},
		"exited 3":            {plain, running(ended(3)), nil, nil, Down, true, "exited 3", time.Time{}},
		"exited 0":            {plain, running(ended(0)), nil, nil, Down, true, `needs restart: "no"`, time.Time{}},
		"stopped":             {restarts, running(ended(0)), nil, nil, Down, true, "exited 0", time.Time{}},
		"completed":           {oneShot, running(ended(0)), nil, nil, Healthy, false, "", time.Time{}},
		"completed, removed":  {oneShot, nil, nil, []string{"web"}, Healthy, false, "", time.Time{}},
		"not one-shot, gone":  {plain, nil, nil, []string{"web"}, Down, true, "missing", time.Time{}},
		"one-shot failed":     {oneShot, running(ended(1)), nil, nil, Down, true, "exited 1", time.Time{}},
		"one-shot still runs": {oneShot, running(nil), nil, nil, Healthy, false, "", time.Time{}},
		"out of memory": {plain, running(func(c *Container) { c.State, c.ExitCode, c.OOMKilled = StateExited, 137, true }), nil, nil, Down, true,
			"out of memory, exited 137", time.Time{}},
		"killed": {plain, running(ended(137)), nil, nil, Down, true, "exited 137: killed, by somebody or because it or the server was out of memory", time.Time{}},
		"not started, and why": {plain, running(func(c *Container) { c.State, c.ExitCode, c.Error = StateExited, 127, "no such file" }), nil, nil, Down, true,
			"exited 127: no such file", time.Time{}},
		"restarting": {restarts, running(func(c *Container) { c.State, c.ExitCode, c.Restarts = StateRestarting, 1, 2 }), nil, nil, Unhealthy, false,
			"exited 1, restarted 2 times", time.Time{}},
		"crash loop": {restarts, running(func(c *Container) { c.State, c.Restarts = StateRestarting, MaxRestarts+1 }), nil, nil, Unhealthy, true,
			"restarted 6 times", time.Time{}},
		"restarted once": {restarts, running(func(c *Container) { c.Restarts, c.StartedAt = 1, now.Add(-Streak) }), nil, nil, Waiting, false,
			"restarted 1 times, must run steadily", now.Add(Streak)},
		"restarted, steady": {restarts, running(func(c *Container) { c.Restarts, c.StartedAt = 1, now.Add(-2*Streak) }), nil, nil, Healthy, false, "", time.Time{}},
		"restarted, check healthy": {restarts, running(func(c *Container) { c.Restarts, c.StartedAt, c.Check = 1, now, CheckHealthy }), nil, nil, Waiting, false,
			"restarted 1 times", now.Add(2 * Streak)},
		"restarted before": {restarts, running(func(c *Container) { c.Restarts, c.StartedAt = 7, now.Add(-Streak) }), Baseline{"1": {Restarts: 7}}, nil, Healthy, false, "", time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			v := Judge([]Service{c.want}, c.got, c.base, c.done, now)
			if v.Status != c.status || v.Hopeless() != c.hopeless || !v.NextLook.Equal(c.next) {
				t.Errorf("%s, hopeless %t, next look %s; want %s, %t, %s", v.Status, v.Hopeless(), v.NextLook, c.status, c.hopeless, c.next)
			}
			if message := v.Message(); !strings.Contains(message, c.message) || c.message == "" && message != "" {
				t.Errorf("message %q, want %q", message, c.message)
			}
		})
	}
}

func TestJudgeLooksAtEveryReplica(t *testing.T) {
	want := []Service{{Name: "web", Image: image, Replicas: 3}, {Name: "none", Image: image}}
	three := append(append(running(nil), running(nil)...), running(func(c *Container) { c.ID, c.Check = "3", CheckUnhealthy })...)
	v := Judge(want, three, nil, nil, now)
	if v.Status != Unhealthy || v.Services[1].Running != 3 || v.Services[1].Check != CheckUnhealthy {
		t.Errorf("%+v", v)
	}
	if v = Judge(want, three[:2], nil, nil, now); v.Status != Down || v.Message() != "web: 1 of 3 containers missing" {
		t.Errorf("%+v", v)
	}
}

func TestSettled(t *testing.T) {
	crashed := running(func(c *Container) { c.Restarts, c.StartedAt = 9, now })
	base := Baseline{"gone": {Restarts: 3}}.Settled(crashed, now)
	if len(base) != 1 || base["1"].Restarts != 0 {
		t.Errorf("at once: %v", base)
	}
	if base = base.Settled(crashed, now.Add(MaxStreak)); base["1"].Restarts != 9 {
		t.Errorf("after %s: %v", MaxStreak, base)
	}
}

// At the time that a verdict names, and not before, the same containers are judged differently.
func TestNextLook(t *testing.T) {
	want := []Service{{Name: "web", Image: image, Replicas: 1, Restarts: true}}
	rapid.Check(t, func(t *rapid.T) {
		got := running(func(c *Container) {
			c.Restarts = rapid.IntRange(0, 10).Draw(t, "restarts")
			c.StartedAt = now.Add(-time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "age")))
			c.Check = rapid.SampledFrom([]string{CheckNone, CheckStarting, CheckHealthy, CheckUnhealthy}).Draw(t, "check")
		})
		v := Judge(want, got, nil, nil, now)
		if v.NextLook.IsZero() {
			if later := Judge(want, got, nil, nil, now.Add(time.Hour)); later.Status != v.Status {
				t.Fatalf("%s becomes %s by itself, unannounced", v.Status, later.Status)
			}
			return
		}
		if !v.NextLook.After(now) {
			t.Fatalf("the next look is in the past: %s", v.NextLook)
		}
		if early := Judge(want, got, nil, nil, v.NextLook.Add(-1)); early.Status != v.Status {
			t.Fatalf("%s becomes %s before the next look", v.Status, early.Status)
		}
		if later := Judge(want, got, nil, nil, v.NextLook); later.Status == v.Status {
			t.Fatalf("still %s at the next look", later.Status)
		}
	})
}
