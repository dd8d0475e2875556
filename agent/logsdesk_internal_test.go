// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// An answer is bounded, keeps the youngest lines, and is in the order of time.
func TestFill(t *testing.T) {
	begin := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	lines := func(n, length int) (list []timedLine) {
		for i := range n {
			list = append(list, timedLine{begin.Add(time.Duration(n-i) * time.Second), fmt.Sprintf("%0*d", length, n-i)})
		}
		return list
	}
	for name, c := range map[string]struct {
		lines     []timedLine
		count     int
		truncated bool
	}{
		"none":      {nil, 0, false},
		"few":       {lines(3, 10), 3, false},
		"many":      {lines(3*deskLines, 10), deskLines, true},
		"long":      {lines(200, 1023), 64, true},
		"too long":  {lines(1, deskBytes+1), 0, true},
		"just fits": {lines(64, 1023), 64, false},
	} {
		t.Run(name, func(t *testing.T) {
			var a v1alpha1.RolloutLogs
			fill(&a, c.lines)
			if len(a.Lines) != c.count || a.Truncated != c.truncated {
				t.Errorf("%d lines, truncated %v", len(a.Lines), a.Truncated)
			}
			if n := len(a.Lines); n > 0 && (strings.TrimLeft(a.Lines[n-1], "0") != fmt.Sprint(len(c.lines)) || !a.Until.Equal(ptrTo(begin.Add(time.Duration(len(c.lines))*time.Second)))) {
				t.Errorf("the last line is %.20q, until %s", a.Lines[n-1], a.Until)
			}
		})
	}
}

// Answered lines expire once, and a restart in between does not answer the same request again.
func TestDeskAgenda(t *testing.T) {
	now := time.Now()
	asked := `alice: {"id":"1"}`
	rollout := &v1alpha1.Rollout{}
	rollout.UID, rollout.Name = "uid", "rollout"
	rollout.Annotations = map[string]string{v1alpha1.AnnotationLogsRequest: asked}
	desk := newLogsDesk(&Agent{})
	desk.offer(rollout)
	if uid, _, _ := desk.next(now); uid != "uid" {
		t.Error("a new request is not answered at once")
	}
	rollout.Status.Logs = &v1alpha1.RolloutLogs{ID: "1", User: "alice", Lines: []string{"x"}}
	desk = newLogsDesk(&Agent{}) // a restart
	desk.offer(rollout)
	if uid, _, next := desk.next(now); uid != "" || next.Before(now.Add(deskKeeps-time.Second)) {
		t.Errorf("after a restart: %q, next at %s", uid, next)
	}
	if uid, c, _ := desk.next(now.Add(deskKeeps + time.Minute)); uid != "uid" || c.asked != c.answered {
		t.Errorf("the lines do not expire: %q", uid)
	}
	rollout.Status.Logs = &v1alpha1.RolloutLogs{ID: "1", User: "alice", Expired: true}
	desk = newLogsDesk(&Agent{})
	desk.offer(rollout)
	if uid, _, next := desk.next(now.Add(time.Hour)); uid != "" || !next.IsZero() {
		t.Errorf("what has expired is looked at again: %q, %s", uid, next)
	}
	rollout.Annotations = nil
	desk.offer(rollout)
	if uid, c, _ := desk.next(now); uid != "uid" || c.asked != "" {
		t.Error("the rest is not tidied up when the request goes")
	}
	desk.forget("uid")
	if uid, _, _ := desk.next(now); uid != "" {
		t.Error("a Rollout that is gone is looked at")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	desk.run(ctx) // ends
}

func ptrTo(t time.Time) *metav1.MicroTime {
	m := metav1.NewMicroTime(t)
	return &m
}
