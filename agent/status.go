// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"gitlab.com/dynors/sirrat/agent/enrol"
	"gitlab.com/dynors/sirrat/agent/state"
	"gitlab.com/dynors/sirrat/agent/suspend"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/hostpolicy"
)

// PhaseDamaged is shown for an environment whose state file cannot be trusted.
const PhaseDamaged = "Damaged"

// Status is what an agent knows, read from its disk; the agent need not run.
type Status struct {
	// Server and Host that this server has joined; empty before.
	Server string `json:"server,omitempty"`
	Host   string `json:"host,omitempty"`
	// CertificateUntil is the end of the certificate.
	CertificateUntil *time.Time `json:"certificateUntil,omitempty"`
	// Policy is the file of this server's owner, and PolicyProblem why nothing new begins because of it; empty when it can be
	// used. PolicyDeclared says that the file is there; without it the default holds.
	Policy         string `json:"policy"`
	PolicyDeclared bool   `json:"policyDeclared"`
	PolicyProblem  string `json:"policyProblem,omitempty"`
	// Live is what the running agent says of itself; nil when none runs, and where only the disk was read.
	Live *Vitals `json:"live,omitempty"`
	// Environments in the order of their names.
	Environments []EnvironmentStatus `json:"environments"`
}

// EnvironmentStatus is one row of the status: what happened last in an environment.
type EnvironmentStatus struct {
	Project     string `json:"project"`
	Environment string `json:"environment"`
	Release     string `json:"release,omitempty"`
	Version     string `json:"version,omitempty"`
	Sequence    int64  `json:"sequence,omitempty"`
	// Phase of a Rollout, or Damaged.
	Phase string `json:"phase"`
	// Since when it is in that phase.
	Since *time.Time `json:"since,omitempty"`
	// Serving is the release that serves, where that is another one.
	Serving string `json:"serving,omitempty"`
	Message string `json:"message,omitempty"`
	// Suspended says by whose word nothing of it is touched.
	Suspended string `json:"suspended,omitempty"`
	// Healthy says that what must run was healthy when it was last looked at.
	Healthy bool `json:"healthy"`
	// Images that must run, by service.
	Images map[string]string `json:"images,omitempty"`
	// Doing is what the running agent does there at the moment.
	Doing string `json:"doing,omitempty"`
}

// ReadStatus reads what the agent of a data folder knows. policy is the file of the host's owner; empty means
// hostpolicy.DefaultFile.
func ReadStatus(dataDir, policy string) (*Status, error) {
	s := &Status{Environments: []EnvironmentStatus{}, Policy: cmp.Or(policy, hostpolicy.DefaultFile)}
	_, declared, err := hostpolicy.Read(s.Policy)
	if s.PolicyDeclared = declared || err != nil; err != nil {
		s.PolicyProblem = err.Error()
	}
	identity, err := enrol.LoadIdentity(dataDir)
	switch {
	case errors.Is(err, enrol.ErrNotEnrolled):
	case err != nil:
		return nil, err
	default:
		s.Server, s.Host = identity.Server, identity.Host
		if _, until, err := identity.Validity(); err == nil {
			s.CertificateUntil = &until
		}
	}
	store, keys, err := chosen(dataDir, nil)
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		row := environmentStatus(store, key)
		if held := suspend.Get(dataDir, key.Project, key.Environment, time.Now()); held != nil {
			row.Suspended = held.String()
		}
		s.Environments = append(s.Environments, row)
	}
	return s, s.addSuspended(dataDir, keys)
}

// addSuspended adds environments that were suspended before anything of them was deployed.
func (s *Status) addSuspended(dataDir string, known []state.Key) error {
	held, err := suspend.List(dataDir, time.Now())
	for _, h := range held {
		if slices.Contains(known, state.Key{Project: h.Project, Environment: h.Environment}) {
			continue
		}
		s.Environments = append(s.Environments, EnvironmentStatus{
			Project: h.Project, Environment: h.Environment, Phase: v1alpha1.RolloutPending, Suspended: h.String(),
		})
	}
	return err
}

// ReadLiveStatus is ReadStatus with what the running agent adds.
func ReadLiveStatus(ctx context.Context, dataDir, policy string) (*Status, error) {
	s, err := ReadStatus(dataDir, policy)
	if err != nil {
		return nil, err
	}
	if s.Live, err = ReadVitals(ctx, dataDir); err != nil || s.Live == nil {
		return s, err
	}
	for i := range s.Environments {
		e := &s.Environments[i]
		e.Doing = s.Live.Doing[e.Project+"/"+e.Environment]
	}
	return s, nil
}

func environmentStatus(store *state.Store, key state.Key) EnvironmentStatus {
	row := EnvironmentStatus{Project: key.Project, Environment: key.Environment}
	e, err := store.Load(key)
	if err != nil {
		row.Phase, row.Message = PhaseDamaged, err.Error()
		return row
	}
	row.Suspended = e.Suspended
	if removed := e.Removed; removed != nil {
		row.Phase = v1alpha1.RolloutRemoved
		row.of(removed.Spec)
	}
	if current := e.Current; current != nil {
		row.Phase, row.Message = v1alpha1.RolloutUnhealthy, ""
		if !current.HealthySince.IsZero() {
			row.Phase, row.Since, row.Healthy = v1alpha1.RolloutHealthy, &current.HealthySince, true
		}
		row.of(current.Spec)
		row.Images = make(map[string]string, len(current.Spec.Images))
		for _, image := range current.Spec.Images {
			row.Images[image.Service] = image.Image
		}
	}
	if n := len(e.Failed); n > 0 && e.Failed[n-1].Sequence == e.Highest {
		last := e.Failed[n-1]
		row.Serving = row.Release
		row.Release, row.Version, row.Sequence = last.Release, "", last.Sequence
		row.Phase, row.Since, row.Message = last.Phase, &last.At, last.Message
	}
	if attempt := e.Attempt; attempt != nil {
		row.Serving = row.Release
		row.of(attempt.Spec)
		row.Phase, row.Message = attempt.Phase, ""
		if n := len(attempt.Timings); n > 0 {
			row.Since = &attempt.Timings[n-1].Started.Time
		}
		if attempt.Failure != nil {
			row.Message = attempt.Failure.Message + "; going back"
		}
	}
	if row.Phase == "" {
		row.Phase = v1alpha1.RolloutPending
	}
	return row
}

func (row *EnvironmentStatus) of(spec v1alpha1.RolloutSpec) {
	row.Release, row.Version, row.Sequence = spec.Release.Name, spec.Release.Version, spec.Sequence
}
