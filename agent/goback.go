// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"gitlab.com/dynors/sirrat/agent/compose"
	"gitlab.com/dynors/sirrat/agent/health"
	"gitlab.com/dynors/sirrat/agent/plan"
	"gitlab.com/dynors/sirrat/agent/state"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// Bounds of the logs that a failure carries, over all services.
const (
	logLines = 50
	logBytes = 4 << 10
	// maxMessage is what a status may hold, with room to spare.
	maxMessage = 2000
)

// recordFailure notes why the attempt failed, with the last words of its containers, before anything is done about it.
func (w *worker) recordFailure(ctx context.Context, f *failed) {
	attempt := w.disk.Attempt
	now := time.Now()
	failure := state.Failure{
		Name: attempt.Name, UID: attempt.UID, Release: attempt.Spec.Release.Name, Sequence: attempt.Spec.Sequence, BundleHash: attempt.Spec.BundleHash,
		Phase: v1alpha1.RolloutFailed, Reason: f.reason, Message: shorten(redact(f.Error(), attempt.Secrets)),
		Timings: attempt.Timings, At: now,
	}
	w.log.Info("rollout failed", "rollout", attempt.Name, "release", attempt.Spec.Release.Name, "reason", f.reason, "message", failure.Message)
	beside := &besideError{}
	if errors.As(f.err, &beside) {
		failure.Services, failure.Logs = beside.services, beside.logs
	}
	if f.untouched {
		if beside.removed && w.disk.Current != nil {
			failure.Serving = w.disk.Current.Spec.Sequence
			failure.Message = shorten(failure.Message + "; the new containers were removed, " + w.disk.Current.Spec.Release.Name + " serves without interruption")
		} else if w.disk.Current != nil {
			failure.Serving = w.disk.Current.Spec.Sequence
			failure.Message = shorten(failure.Message + "; nothing was touched, " + w.disk.Current.Spec.Release.Name + " keeps serving")
		}
		w.end(failure)
		return
	}
	if len(w.live.words) > 0 {
		failure.Logs = w.live.words
	} else if verdict := w.live.verdict; verdict != nil {
		failure.Services = serviceStates(*verdict)
		failure.Logs = w.lastWords(ctx, *verdict)
	}
	attempt.Failure = &failure
	if w.save() == nil { // else nothing goes back before it is written
		w.say(attempt.UID, failure.Message)
	}
}

// end concludes the attempt with a failure. What the disk does not take is not reported, and written before anything else.
func (w *worker) end(f state.Failure) {
	attempt := *w.disk.Attempt
	attempt.Begin(f.Phase, time.Now())
	f.Timings = attempt.Timings
	w.disk.Fail(f)
	w.live = live{}
	if w.save() != nil {
		w.log.Info("the end of the rollout is not recorded yet", "rollout", f.Name, "phase", f.Phase)
	}
}

// goBack makes the last good set serve again, without pulling anything.
func (w *worker) goBack(ctx context.Context) time.Time {
	attempt := w.disk.Attempt
	failure := *attempt.Failure
	allowed := attempt.Spec.Strategy.AutoRollback == nil || *attempt.Spec.Strategy.AutoRollback
	good := w.disk.LastGood
	if w.disk.NoWayBack != "" {
		return w.hold(failure)
	}
	if good == nil || !allowed {
		failure.Message = shorten(failure.Message + map[bool]string{
			true: "; there is nothing to go back to", false: "; going back is switched off",
		}[allowed])
		w.disk.Current = nil // what failed stays for people to look at; nothing of it is healed
		w.end(failure)
		return time.Now()
	}
	w.say(attempt.UID, failure.Message+"; going back to "+good.Spec.Release.Name)
	verdict, err := w.restore(ctx, good)
	switch {
	case ctx.Err() != nil:
		return time.Time{}
	case errors.Is(err, errInterrupted):
		return time.Now() // the newer rollout concludes this one
	case errors.Is(err, compose.ErrUnreachable):
		return time.Now().Add(retryAfter)
	case err != nil:
		failure.Phase, failure.Reason = v1alpha1.RolloutFailed, v1alpha1.ReasonRollbackFailed
		failure.Message = shorten(fmt.Sprintf("%s; going back to %s failed too: %s. Look at the server; healing goes on trying, less and less often",
			failure.Message, good.Spec.Release.Name, redact(err.Error(), good.Secrets)))
		w.healing = plan.Healing{Count: 1, Last: time.Now()}
		w.log.Info("going back failed; this rollout stops here, the last good set is healed like any other", "release", good.Spec.Release.Name, "error", redact(err.Error(), good.Secrets))
	default:
		failure.Phase, failure.Serving = v1alpha1.RolloutRolledBack, good.Spec.Sequence
		failure.Message = shorten(failure.Message + "; " + good.Spec.Release.Name + " serves again")
		good.HealthySince = time.Now()
		w.healing = plan.Healing{}
		w.log.Info("went back", "from", attempt.Spec.Release.Name, "to", good.Spec.Release.Name)
	}
	w.disk.Current = good
	w.end(failure)
	w.live.uid, w.live.verdict = good.UID, verdict
	return time.Now()
}

// hold leaves everything as it is, because an irreversible release has passed its point of no return: the last good set might
// not work with what its jobs left behind, and would perhaps destroy it.
func (w *worker) hold(failure state.Failure) time.Time {
	if attempt := w.disk.Attempt; attempt.Phase != v1alpha1.RolloutMigrating {
		w.disk.Current = nil // containers of both sets may run: healing one of them would be going on or back
	}
	failure.Phase, failure.Reason = v1alpha1.RolloutHeld, v1alpha1.ReasonHeld
	if w.disk.Current != nil {
		failure.Serving = w.disk.Current.Spec.Sequence
	}
	failure.Message = shorten(fmt.Sprintf("%s; nothing goes back by itself, because release %s cannot be taken back and had begun to change data: "+
		"what runs was left as it is. Let in a release that puts it right, or one that you know to work with the data as they are now",
		failure.Message, w.disk.NoWayBack))
	w.log.Info("rollout is held for a person to decide", "rollout", failure.Name, "release", failure.Release, "irreversible", w.disk.NoWayBack)
	w.end(failure)
	return time.Now()
}

// restore brings up a deployment that was good, and waits for it to be so again.
func (w *worker) restore(ctx context.Context, good *state.Deployment) (*health.Verdict, error) {
	target, err := w.agent.files.resolve(ctx, good)
	if err != nil {
		return nil, err
	}
	before, err := w.agent.engine.Containers(ctx, target.project.Name)
	if err != nil {
		return nil, err
	}
	spec := w.disk.Attempt.Spec
	spec.Strategy.Timeout = good.Spec.Strategy.Timeout // that of the release which failed may be too short for it
	if err := w.up(ctx, target, spec, nil); err != nil {
		return nil, err
	}
	verdict, err := w.await(ctx, target, *good, health.BaselineOf(before), w.before().Sick(), false)
	if err != nil {
		return nil, err
	}
	good.Completed, good.Excused = verdict.Completed(), verdict.Excused()
	w.want = target
	return &verdict, nil
}

// lastWords are the last log lines of the containers that are not well, without secrets.
func (w *worker) lastWords(ctx context.Context, verdict health.Verdict) []string {
	containers, err := w.agent.engine.Containers(ctx, w.disk.Attempt.Spec.ComposeProject)
	if err != nil {
		return nil
	}
	unwell := map[string]bool{}
	for _, s := range verdict.Services {
		unwell[s.Name] = s.Status != health.Healthy
	}
	var chosen []health.Container
	for _, c := range containers {
		if unwell[c.Service] {
			chosen = append(chosen, c)
		}
	}
	if len(chosen) == 0 { // the containers are well, a check of the rollout is not
		chosen = containers
	}
	return w.wordsOf(ctx, chosen)
}

// wordsOf are the last log lines of containers, without secrets.
func (w *worker) wordsOf(ctx context.Context, chosen []health.Container) []string {
	var lines []string
	size := 0
	for _, c := range chosen {
		words, err := w.agent.engine.Logs(ctx, c.ID, max(1, logLines/len(chosen)), logBytes/len(chosen))
		if err != nil {
			w.log.Info("logs cannot be read", "container", c.Name, "error", err.Error())
			continue
		}
		for _, line := range words {
			line = printable(redact(c.Service+": "+line, w.disk.Attempt.Secrets))
			if size += len(line); size > logBytes || len(lines) >= logLines {
				return lines
			}
			lines = append(lines, line)
		}
	}
	return lines
}

// printable removes what could do something in a terminal or page that shows a line of somebody else's log.
func printable(line string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r < ' ', r == 0x7f, r >= 0x80 && r < 0xa0, r >= 0x200e && r <= 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
			return -1
		}
		return r
	}, line)
}

func shorten(text string) string {
	text = printable(strings.ReplaceAll(text, "\n", " "))
	if len(text) > maxMessage {
		return strings.ToValidUTF8(text[:maxMessage], "") + "…"
	}
	return text
}
