// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/lru"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/calendar"
	"gitlab.com/dynors/sirrat/internal/rollout"
)

// matchHosts are the hosts of an environment, as they are now.
func matchHosts(env v1alpha1.Environment, hosts []v1alpha1.Host, now time.Time) []rollout.Host {
	var out []rollout.Host
	for _, h := range matching(env, hosts) {
		out = append(out, hostNow(*h, now))
	}
	return out
}

// matching are the hosts that carry the environment's labels and may run its project.
func matching(env v1alpha1.Environment, hosts []v1alpha1.Host) []*v1alpha1.Host {
	if env.Spec.Hosts == nil {
		return nil
	}
	selector, err := metav1.LabelSelectorAsSelector(env.Spec.Hosts)
	if err != nil || selector.Empty() { // an empty selector would mean every host there is: nobody means that
		return nil
	}
	var out []*v1alpha1.Host
	for i := range hosts {
		if h := &hosts[i]; h.DeletionTimestamp.IsZero() && slices.Contains(h.Spec.Projects, env.Namespace) && selector.Matches(labelSet(h.Labels)) {
			out = append(out, h)
		}
	}
	return out
}

// hostNow is what a rollout needs to know of a server.
func hostNow(h v1alpha1.Host, now time.Time) rollout.Host {
	enrolled := findCondition(h.Status.Conditions, v1alpha1.ConditionEnrolled)
	joined := enrolled != nil && enrolled.Status == metav1.ConditionTrue || h.Spec.Offline
	out := rollout.Host{Name: h.Name, UID: string(h.UID), Enrolled: joined && !revoked(h)}
	if ready := findCondition(h.Status.Conditions, v1alpha1.ConditionReady); ready != nil && ready.Reason == v1alpha1.ReasonHeartbeatLost {
		out.Lost = ready.LastTransitionTime.Time
	}
	out.Closed, out.Opens = windowNow(h.Spec.Window, now)
	return out
}

// windows remembers calendars by their text: to read one takes longer than to ask it. What is remembered never changes.
var windows = lru.New(1024)

// windowNow says why a maintenance window is shut and when it opens; "" when it is open. One that cannot be read is shut.
func windowNow(w *v1alpha1.Window, now time.Time) (closed string, opens time.Time) {
	if w == nil {
		return "", time.Time{}
	}
	text, err := json.Marshal(w)
	if err != nil {
		return "has a maintenance window that cannot be read: " + err.Error(), time.Time{}
	}
	known, ok := windows.Get(string(text))
	if !ok {
		c, err := calendar.Compile(*w)
		if err != nil {
			return "has a maintenance window that cannot be read: " + err.Error(), time.Time{}
		}
		windows.Add(string(text), c)
		known = c
	}
	answer := known.(*calendar.Calendar).At(now)
	switch {
	case answer.Open:
		return "", time.Time{}
	case answer.Until.IsZero():
		return "never opens: " + answer.Reason, time.Time{}
	}
	return "opens at " + answer.Until.UTC().Format(time.RFC3339), answer.Until
}

func labelOf(ns string) string { return strings.TrimPrefix(ns, v1alpha1.HostNamespacePrefix) }

// newestRollouts are the newest Rollouts of an environment, by host.
func newestRollouts(rollouts []v1alpha1.Rollout) map[string]v1alpha1.Rollout {
	newest := map[string]v1alpha1.Rollout{}
	for _, ro := range rollouts {
		host := labelOf(ro.Namespace)
		if have, known := newest[host]; !known || ro.Spec.Sequence > have.Spec.Sequence {
			newest[host] = ro
		}
	}
	return newest
}

// markSuspended notes on which hosts nothing is touched, as their agents say.
func markSuspended(s *environmentState) {
	newest := newestRollouts(s.rollouts)
	for i := range s.hosts {
		ro, ok := newest[s.hosts[i].Name]
		if !ok {
			continue
		}
		if c := findCondition(ro.Status.Conditions, v1alpha1.ConditionSuspended); c != nil && c.Status == metav1.ConditionTrue {
			s.hosts[i].Suspended = c.Message
		}
	}
}

// hostStates tells host by host what there is: those that match, and those that still run something.
func hostStates(s *environmentState) []v1alpha1.EnvironmentHost {
	newest := newestRollouts(s.rollouts)
	rows := map[string]v1alpha1.EnvironmentHost{}
	for name, ro := range newest {
		row := v1alpha1.EnvironmentHost{Name: name, Phase: ro.Status.Phase, Release: ro.Spec.Release.Name, Sequence: ro.Spec.Sequence}
		if row.Phase == "" {
			row.Phase = v1alpha1.RolloutPending
		}
		switch row.Phase {
		case v1alpha1.RolloutVerifying, v1alpha1.RolloutPreflight, v1alpha1.RolloutPulling, v1alpha1.RolloutMigrating,
			v1alpha1.RolloutStarting, v1alpha1.RolloutChecking:
			// Progress in words is the Rollout's own: the environment is not written at every percent.
		default:
			row.Message = ro.Status.Message
		}
		if _, exists := s.servers[name]; exists {
			rows[name] = row
		}
	}
	for _, h := range s.hosts {
		row := rows[h.Name]
		row.Name = h.Name
		switch {
		case h.Suspended != "":
			row.Message = h.Suspended
		case !h.Lost.IsZero():
			row.Message = "not heard of since " + h.Lost.UTC().Format(time.RFC3339)
		case h.Closed != "" && (s.env.Status.Current == nil || row.Sequence != s.env.Status.Current.Sequence):
			row.Message = h.Closed
		}
		rows[h.Name] = row
	}
	matched := map[string]bool{}
	for _, h := range s.hosts {
		matched[h.Name] = true
	}
	out := make([]v1alpha1.EnvironmentHost, 0, len(rows))
	for name, row := range rows {
		if !matched[name] && row.Phase != v1alpha1.RolloutRemoving && row.Phase != v1alpha1.RolloutRemoved && s.env.Spec.Decommission == nil {
			row.Message = fmt.Sprintf("does not match spec.hosts any more; it keeps running until it is removed: kubectl sirrat remove %s %s", s.env.Name, name)
		}
		out = append(out, row)
	}
	slices.SortFunc(out, func(a, b v1alpha1.EnvironmentHost) int { return strings.Compare(a.Name, b.Name) })
	if len(out) == 0 {
		return nil
	}
	return out
}
