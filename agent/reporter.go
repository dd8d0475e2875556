// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"gitlab.com/dynors/sirrat/agent/control"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// Times of reports.
const (
	// reportEvery is the least time between two reports on a Rollout that differ in words only; a new phase is reported at once.
	reportEvery = time.Second
	// Waits after a report that the control plane did not take.
	firstReportRetry = time.Second
	lastReportRetry  = time.Minute
)

// reporter writes statuses to the control plane, the newest of each Rollout only, and nothing that is there already. It
// never holds up a worker.
type reporter struct {
	host   string
	client *control.Client
	log    logr.Logger
	wake   chan struct{}

	mu      sync.Mutex
	reports map[types.UID]*report
	// followed are told when there is something new to say about a Rollout.
	followed map[types.UID]chan struct{}
}

// report is what is to be written about one Rollout, and what was.
type report struct {
	name    string
	wanted  v1alpha1.RolloutStatus
	written v1alpha1.RolloutStatus
	// at is the time of the last write, next the earliest of the next one.
	at, next time.Time
	wait     time.Duration
	// gone says that the control plane has no such Rollout any more.
	gone bool
}

func newReporter(host string, client *control.Client, log logr.Logger) *reporter {
	return &reporter{host: host, client: client, log: log, wake: make(chan struct{}, 1), reports: map[types.UID]*report{}, followed: map[types.UID]chan struct{}{}}
}

// report notes a Rollout's status.
func (r *reporter) report(rollout *v1alpha1.Rollout, status v1alpha1.RolloutStatus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := r.reports[rollout.UID]
	if known == nil {
		known = &report{name: rollout.Name, written: *rollout.Status.DeepCopy()}
		r.reports[rollout.UID] = known
	}
	known.wanted = *status.DeepCopy()
	keepTransitions(&known.wanted, known.written)
	if news := r.followed[rollout.UID]; news != nil {
		poke(news)
	}
	if !equality.Semantic.DeepEqual(known.wanted, known.written) {
		poke(r.wake)
	}
}

// hold reports words beside the status that was reported last: what came after it must not be reported yet.
func (r *reporter) hold(rollout *v1alpha1.Rollout, message string) {
	status := *rollout.Status.DeepCopy()
	r.mu.Lock()
	if known := r.reports[rollout.UID]; known != nil {
		status = *known.written.DeepCopy()
	}
	r.mu.Unlock()
	if status.Phase == "" {
		status.Phase = v1alpha1.RolloutPending
	}
	status.Message = message
	r.report(rollout, status)
}

// keepTransitions takes over the times of conditions that did not change since the last report.
func keepTransitions(wanted *v1alpha1.RolloutStatus, written v1alpha1.RolloutStatus) {
	for i := range wanted.Conditions {
		for _, old := range written.Conditions {
			if c := &wanted.Conditions[i]; c.Type == old.Type && c.Status == old.Status {
				c.LastTransitionTime = old.LastTransitionTime
			}
		}
	}
}

// follow forgets what was reported about a Rollout, and from then on tells when there is something new, until unfollow.
func (r *reporter) follow(uid types.UID) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.reports, uid)
	news := make(chan struct{}, 1)
	r.followed[uid] = news
	return news
}

func (r *reporter) unfollow(uid types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.followed, uid)
}

// newest is the status that was last handed in about a Rollout; without a phase when there was none.
func (r *reporter) newest(uid types.UID) v1alpha1.RolloutStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	if known := r.reports[uid]; known != nil {
		return *known.wanted.DeepCopy()
	}
	return v1alpha1.RolloutStatus{}
}

func (r *reporter) forget(uid types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.reports, uid)
}

// run writes until ctx ends.
func (r *reporter) run(ctx context.Context) {
	for {
		uid, status, name, next := r.due(time.Now())
		if uid != "" {
			err := r.client.Report(ctx, r.host, name, uid, status)
			if ctx.Err() != nil {
				return
			}
			r.done(uid, status, err, time.Now())
			continue
		}
		var timer <-chan time.Time
		if !next.IsZero() {
			timer = time.After(time.Until(next))
		}
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		case <-timer:
		}
	}
}

// due is the next report to write now, or when the next one is.
func (r *reporter) due(now time.Time) (uid types.UID, status v1alpha1.RolloutStatus, name string, next time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for uid, report := range r.reports {
		if report.gone || equality.Semantic.DeepEqual(report.wanted, report.written) {
			continue
		}
		at := report.next
		if report.wanted.Phase == report.written.Phase {
			at = latest(at, report.at.Add(reportEvery))
		}
		if !now.Before(at) {
			return uid, *report.wanted.DeepCopy(), report.name, time.Time{}
		}
		next = earliest(next, at)
	}
	return "", v1alpha1.RolloutStatus{}, "", next
}

func (r *reporter) done(uid types.UID, status v1alpha1.RolloutStatus, err error, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	report := r.reports[uid]
	if report == nil {
		return
	}
	switch {
	case err == nil:
		report.written, report.at, report.next, report.wait = status, now, time.Time{}, 0
		keepTransitions(&report.wanted, status)
	case apierrors.IsNotFound(err), apierrors.IsConflict(err): // deleted, or another one of the same name
		report.gone = true
	default:
		report.wait = min(max(2*report.wait, firstReportRetry), lastReportRetry)
		report.next = now.Add(report.wait)
		r.log.Info("status cannot be reported; it is kept", "error", err.Error())
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
