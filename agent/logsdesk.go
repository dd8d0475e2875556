// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"gitlab.com/dynors/sirrat/agent/compose"
	"gitlab.com/dynors/sirrat/agent/state"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/envelope"
)

// Bounds of log lines that leave the host.
const (
	// deskKeeps is how long an answer stays in the Rollout's status.
	deskKeeps = 2 * time.Minute
	// deskLines and deskBytes bound an answer; the object that carries it is bounded by the API server.
	deskLines = 1000
	deskBytes = 64 << 10
	// deskRequest is the longest request that is read.
	deskRequest = 2 << 10
	// deskTimeout of reading the logs from the engine.
	deskTimeout = 15 * time.Second
	// deskRetry is the wait after an answer that the control plane did not take.
	deskRetry = 5 * time.Second
)

// logsDesk answers those who ask for log lines through the control plane, beside the workers and one after the other: a
// rollout under way does not wait for it, nor it for a rollout.
type logsDesk struct {
	agent *Agent
	wake  chan struct{}

	mu    sync.Mutex
	cases map[types.UID]*deskCase
}

// deskCase is what is asked on one Rollout, and what was answered.
type deskCase struct {
	name string
	key  state.Key
	// asked is the annotation; empty for none.
	asked string
	// answered is the annotation that the status answers; shown is what it shows.
	answered string
	shown    *v1alpha1.RolloutLogs
	// due is when the lines are to go; retry when to try again after a failure.
	due, retry time.Time
}

func newLogsDesk(a *Agent) *logsDesk {
	return &logsDesk{agent: a, wake: make(chan struct{}, 1), cases: map[types.UID]*deskCase{}}
}

// offer notes what a Rollout asks.
func (d *logsDesk) offer(rollout *v1alpha1.Rollout) {
	asked := rollout.Annotations[v1alpha1.AnnotationLogsRequest]
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.cases[rollout.UID]
	if c == nil {
		if asked == "" && rollout.Status.Logs == nil {
			return
		}
		c = &deskCase{name: rollout.Name, key: state.Key{Project: rollout.Spec.Project, Environment: rollout.Spec.Environment}}
		d.cases[rollout.UID] = c
		if shown := rollout.Status.Logs; shown != nil { // from before a restart
			c.shown = shown.DeepCopy()
			if user, request, err := parseLogsRequest(asked); err == nil && request.ID == shown.ID && user == shown.User {
				c.answered, c.due = asked, time.Now().Add(deskKeeps)
			}
		}
	}
	if c.asked != asked || c.answered != asked {
		c.asked = asked
		poke(d.wake)
	}
}

func (d *logsDesk) forget(uid types.UID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.cases, uid)
}

// parseLogsRequest reads the annotation, which people write.
func parseLogsRequest(text string) (user string, r v1alpha1.LogsRequest, err error) {
	if len(text) > deskRequest {
		return "", r, errors.New("the request is too long")
	}
	user, body, found := strings.Cut(text, ": {")
	if !found || user == "" {
		return "", r, errors.New("the request is not of the form <user>: {…}")
	}
	if err := envelope.DecodeStrict([]byte("{"+body), &r); err != nil {
		return user, r, fmt.Errorf("the request cannot be read: %w", err)
	}
	if r.ID == "" || len(r.ID) > 100 || r.Tail < 0 {
		return user, r, errors.New("the request has no id, or a negative tail")
	}
	if r.Tail == 0 || r.Tail > deskLines {
		r.Tail = deskLines
	}
	return user, r, nil
}

// run answers until ctx ends.
func (d *logsDesk) run(ctx context.Context) {
	for ctx.Err() == nil {
		uid, c, next := d.next(time.Now())
		if uid != "" {
			d.handle(ctx, uid, c)
			continue
		}
		var timer <-chan time.Time
		if !next.IsZero() {
			timer = time.After(time.Until(next))
		}
		select {
		case <-ctx.Done():
		case <-d.wake:
		case <-timer:
		}
	}
}

// next is a case with something to do now, or the time of the next one.
func (d *logsDesk) next(now time.Time) (uid types.UID, c deskCase, next time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for uid, c := range d.cases {
		news := c.asked != c.answered
		expires := c.asked != "" && c.shown != nil && !c.shown.Expired && c.shown.Refused == ""
		at := c.retry
		switch {
		case news:
		case expires:
			at = latest(c.due, c.retry)
		default:
			continue
		}
		if !now.Before(at) {
			return uid, *c, time.Time{}
		}
		next = earliest(next, at)
	}
	return "", c, next
}

// handle brings the status in line with what is asked.
func (d *logsDesk) handle(ctx context.Context, uid types.UID, c deskCase) {
	var show *v1alpha1.RolloutLogs
	switch {
	case c.asked == "":
	case c.asked == c.answered:
		show = &v1alpha1.RolloutLogs{ID: c.shown.ID, User: c.shown.User, Service: c.shown.Service, Expired: true}
	default:
		show = d.answer(ctx, c)
	}
	if ctx.Err() != nil {
		return
	}
	err := d.agent.client.ReportLogs(ctx, d.agent.identity.Host, c.name, uid, show)
	if err != nil {
		d.agent.log.Info("log lines cannot be reported", "project", c.key.Project, "environment", c.key.Environment, "rollout", c.name, "error", err.Error())
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.cases[uid]
	switch {
	case now == nil:
	case err != nil:
		now.retry = time.Now().Add(deskRetry)
	case show == nil && now.asked == "":
		delete(d.cases, uid)
	default:
		now.answered, now.shown, now.due, now.retry = c.asked, show, time.Now().Add(deskKeeps), time.Time{}
	}
}

// answer reads the lines, if the host's owner allows it.
func (d *logsDesk) answer(ctx context.Context, c deskCase) *v1alpha1.RolloutLogs {
	user, request, err := parseLogsRequest(c.asked)
	answer := &v1alpha1.RolloutLogs{ID: request.ID, User: printable(user), Service: request.Service}
	if err == nil && !d.agent.logsAllowed() {
		err = errors.New("the owner of this host does not allow log lines to be read from elsewhere")
	}
	if err == nil {
		err = d.read(ctx, c.key, request, answer)
	}
	log := d.agent.log.WithValues("project", c.key.Project, "environment", c.key.Environment, "rollout", c.name, "user", answer.User, "service", request.Service)
	if err != nil {
		answer.Refused = shorten(err.Error())
		log.Info("log lines are not shown", "reason", answer.Refused)
		return answer
	}
	log.Info("log lines are shown", "lines", len(answer.Lines))
	return answer
}

// logsAllowed says whether the host's owner lets people read log lines through the control plane.
func (a *Agent) logsAllowed() bool {
	policy, err := a.files.policy.Current()
	return err == nil && *policy.Logs
}

// timedLine is a log line with the engine's time.
type timedLine struct {
	at   time.Time
	text string
}

func (d *logsDesk) read(ctx context.Context, key state.Key, r v1alpha1.LogsRequest, answer *v1alpha1.RolloutLogs) error {
	ctx, cancel := context.WithTimeout(ctx, deskTimeout)
	defer cancel()
	e, err := d.agent.store.Load(key)
	if err != nil {
		return err
	}
	projects := composeProjects(e)
	if len(projects) == 0 {
		return errors.New("nothing was started here")
	}
	containers, err := d.agent.engine.Containers(ctx, projects[0])
	if err != nil {
		return err
	}
	var lines []timedLine
	found := false
	for _, container := range containers {
		if r.Service != "" && container.Service != r.Service {
			continue
		}
		found = true
		request := compose.LogRequest{Tail: r.Tail, Times: true}
		if r.Since != nil {
			request.Since = r.Since.Time.Add(time.Microsecond)
		}
		name := strings.TrimPrefix(container.Name, projects[0]+"-")
		err := d.agent.engine.Stream(ctx, container.ID, request, func(line string) {
			at, text := timed(line)
			lines = append(lines, timedLine{at, name + ": " + text})
		})
		if err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("there is no container of the service %q", printable(r.Service))
	}
	secrets := secretsOf(e)
	for i := range lines {
		lines[i].text = printable(redact(lines[i].text, secrets))
	}
	fill(answer, lines)
	return nil
}

// secretsOf are the values that must not leave the host, of all that ran lately.
func secretsOf(e *state.Environment) map[string]string {
	all := map[string]string{}
	add := func(place string, d *state.Deployment) {
		for key, value := range d.Secrets {
			all[place+key] = value
		}
	}
	if e.Attempt != nil {
		add("attempt ", &e.Attempt.Deployment)
	}
	if e.Current != nil {
		add("current ", e.Current)
	}
	if e.LastGood != nil {
		add("good ", e.LastGood)
	}
	return all
}

// fill puts the youngest lines that fit into an answer, oldest first.
func fill(answer *v1alpha1.RolloutLogs, lines []timedLine) {
	slices.SortStableFunc(lines, func(a, b timedLine) int { return a.at.Compare(b.at) })
	if n := len(lines); n > 0 && !lines[n-1].at.IsZero() {
		until := metav1.NewMicroTime(lines[n-1].at)
		answer.Until = &until
	}
	first, size := len(lines), 0
	for first > 0 && len(lines)-first < deskLines {
		if size += len(lines[first-1].text) + 1; size > deskBytes {
			break
		}
		first--
	}
	answer.Truncated = first > 0
	for _, line := range lines[first:] {
		answer.Lines = append(answer.Lines, line.text)
	}
}
