// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"cmp"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// Answer is the body of every 2xx answer about a commit: a copy of what the controllers wrote into the Release's status.
type Answer struct {
	// Project, as in the path.
	Project string `json:"project"`
	// Full commit; the digits that were reported when no release has such a commit yet.
	Commit string `json:"commit"`
	// Name of the CIResult that holds the report; absent in answers to GET.
	Result string `json:"result,omitempty"`
	// Name of the Release of the commit; absent when there is none yet.
	Release string `json:"release,omitempty"`
	// Karma of the release, 0–100, its level, and the part that the code earned by itself, 0–50.
	Karma int32  `json:"karma"`
	Level string `json:"level,omitempty"`
	Works int32  `json:"works"`
	// What happens next, or what is missing, in one line.
	Next string `json:"next,omitempty"`
	// When it can be in the last environment at the earliest, in words; absent when it is there.
	Earliest string `json:"earliest,omitempty"`
	// Where it was sent back to, by whom and why; absent when it was not.
	Returned *v1alpha1.Returned `json:"returned,omitempty"`
	// Passed, Waiting or Refused: of the gate that was asked for, otherwise of the gates that open by themselves, together.
	Verdict v1alpha1.Verdict `json:"verdict"`
	// Verdict of every gate, by number.
	Gates []GateAnswer `json:"gates"`
	// Whether the above takes the report into account, or every report on the release when none was sent. False: stored, not
	// judged yet, and the verdict is not Passed.
	Judged bool `json:"judged"`
}

// GateAnswer is a gate's verdict on the release.
type GateAnswer struct {
	Name        string           `json:"name"`
	Number      int32            `json:"number"`
	Environment string           `json:"environment"`
	Verdict     v1alpha1.Verdict `json:"verdict"`
	Message     string           `json:"message"`
	WaitingFor  []string         `json:"waitingFor"`
	// When it can open at the earliest, or how long after somebody's act; both absent once it is open.
	Earliest      *metav1.Time     `json:"earliest,omitempty"`
	EarliestAfter *metav1.Duration `json:"earliestAfter,omitempty"`
}

// answerFor copies a Release's status; release may be nil.
func answerFor(project, commit string, release *v1alpha1.Release) Answer {
	answer := Answer{Project: project, Commit: commit, Gates: []GateAnswer{}, Verdict: v1alpha1.VerdictWaiting}
	if release == nil {
		answer.Next = "awaits a release with this commit"
		return answer
	}
	s := release.Status
	answer.Commit, answer.Release = release.Spec.Commit, release.Name
	answer.Karma, answer.Level, answer.Works, answer.Next = s.Karma, s.Level, s.Works, s.Next
	answer.Earliest, answer.Returned = s.Earliest, s.Returned
	for _, g := range s.Gates {
		answer.Gates = append(answer.Gates, GateAnswer{
			Name: g.Name, Number: g.Number, Environment: g.Environment, Verdict: g.Verdict, Message: g.Message,
			WaitingFor: append([]string{}, g.WaitingFor...), Earliest: g.Earliest, EarliestAfter: g.EarliestAfter,
		})
	}
	slices.SortStableFunc(answer.Gates, func(a, b GateAnswer) int { return cmp.Compare(a.Number, b.Number) })
	return answer
}

// together is Refused if one of the named gates refused, Waiting if one waits or was not judged, or a report is still to be judged,
// and Passed if all passed.
func (a Answer) together(gates []string) v1alpha1.Verdict {
	verdict := v1alpha1.VerdictPassed
	if len(a.Gates) == 0 || !a.Judged {
		verdict = v1alpha1.VerdictWaiting
	}
	for _, name := range gates {
		switch v := a.verdictOf(name); v {
		case v1alpha1.VerdictRefused:
			return v
		case v1alpha1.VerdictPassed:
		default:
			verdict = v1alpha1.VerdictWaiting
		}
	}
	return verdict
}

// verdictOf is Waiting for a gate that has not judged the release yet.
func (a Answer) verdictOf(gate string) v1alpha1.Verdict {
	for _, g := range a.Gates {
		if g.Name == gate {
			return g.Verdict
		}
	}
	return v1alpha1.VerdictWaiting
}

// decided tells whether every named gate has passed or refused the release.
func (a Answer) decided(gates []string) bool {
	return !slices.ContainsFunc(gates, func(name string) bool { return a.verdictOf(name) == v1alpha1.VerdictWaiting })
}

// judgedIn returns the Release of the commit in whose status the result is taken into account, or nil. A result that is
// replaced by a newer run is taken into account in any of them; so is a deployment that was recorded, since deployments are
// not part of a release's evidence.
func judgedIn(releases []*v1alpha1.Release, results []*v1alpha1.CIResult, commit, result string) *v1alpha1.Release {
	for _, r := range releases {
		if r.Spec.Commit == commit && slices.Contains(r.Status.Evidence, result) {
			return r
		}
	}
	for _, r := range results {
		if r.Name != result {
			continue
		}
		ready := meta.FindStatusCondition(r.Status.Conditions, v1alpha1.ConditionReady)
		if ready != nil && (ready.Reason == v1alpha1.ReasonReplaced ||
			ready.Reason == v1alpha1.ReasonCounted && r.Spec.Type == v1alpha1.TypeDeployment) {
			return oldest(releases, commit)
		}
	}
	return nil
}
