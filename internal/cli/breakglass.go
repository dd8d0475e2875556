// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/cli/view"
)

type glassOptions struct {
	output             *format
	name, gate, reason string
	yes, revoke        bool
}

func (s *session) breakGlassCommand() *cobra.Command {
	var o glassOptions
	cmd := s.command("breakglass RELEASE GATE (--reason TEXT [--yes] | --revoke)", "breakglass")
	cmd.Args = s.args(2, 2)
	cmd.ValidArgsFunction = s.completion("kind.release", "kind.gate")
	o.output = s.outputFlag(cmd)
	cmd.Flags().StringVar(&o.reason, "reason", "", s.T("flag.reason"))
	cmd.Flags().BoolVarP(&o.yes, "yes", "y", false, s.T("flag.yes"))
	cmd.Flags().BoolVar(&o.revoke, "revoke", false, s.T("flag.glass-revoke"))
	must(cmd.RegisterFlagCompletionFunc("reason", cobra.NoFileCompletions))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.name, o.gate, o.reason = args[0], args[1], strings.TrimSpace(o.reason)
		switch {
		case o.revoke && o.reason != "":
			return s.usage(cmd, s.T("error.revoke-or-reason"))
		case o.revoke:
			return s.mendGlass(cmd.Context(), o)
		case o.reason == "":
			return s.usage(cmd, s.T("error.glass-reason"))
		}
		return s.breakGlass(cmd.Context(), o)
	}
	return cmd
}

func (s *session) breakGlass(ctx context.Context, o glassOptions) error {
	e, err := s.gatherEmergency(ctx, o)
	if err != nil {
		return err
	}
	key := v1alpha1.BreakGlassPrefix + o.gate
	before := recordWith(e.Release, o.gate, e.User, v1alpha1.DecisionBrokeGlass, o.reason)
	switch by, why, ok := strings.Cut(e.Release.Annotations[key], ": "); {
	case ok && by != e.User:
		return s.fail("error.glass-other", o.gate, by, why)
	case ok && why == o.reason && before != nil && before.Stale != "":
		return s.fail("error.glass-stale", before.Stale).with(s.T("hint.glass-stale"))
	case ok:
		if given := recordWith(e.Release, o.gate, e.User, v1alpha1.DecisionBrokeGlass, why); given != nil && given.Stale == "" {
			s.say("glass.already", o.gate, e.User)
			return s.glassOutcome(o, e.Release, given)
		}
	}
	if passed(e.Release, o.gate) {
		s.say("glass.open", o.gate)
		return s.releaseOutcome(*o.output, e.Release)
	}
	if !o.output.structured() {
		if err := s.print(view.BreakGlass(*e, s.screen())); err != nil {
			return err
		}
	}
	if err := s.confirmName(o.yes, o.gate); err != nil {
		return err
	}
	_, err = s.annotate(ctx, e.Release.Namespace, o.name, key, func(r *v1alpha1.Release) (string, error) {
		if b := bundleFor(r, e.Gate.Spec.Environment); r.UID != e.Release.UID || b == nil || b.Hash != e.Bundle.Hash {
			return "", s.fail("error.bundle-changed", o.name).with(s.T("hint.look-again"))
		}
		return e.User + ": " + o.reason, nil
	})
	if err != nil {
		return err
	}
	recorded, err := await(ctx, s, client.ObjectKeyFromObject(e.Release), &v1alpha1.ReleaseList{}, func(r *v1alpha1.Release) bool {
		a := recordWith(r, o.gate, e.User, v1alpha1.DecisionBrokeGlass, o.reason)
		return a != nil && (before == nil || a.Stale != before.Stale) // a withdrawn one stays on record
	})
	if errors.Is(err, errImpatient) {
		s.say("action.not-noticed", s.Patience)
		return nil
	}
	if err != nil {
		return err
	}
	return s.glassOutcome(o, recorded, recordWith(recorded, o.gate, e.User, v1alpha1.DecisionBrokeGlass, o.reason))
}

// gatherEmergency reads what is about to be opened.
func (s *session) gatherEmergency(ctx context.Context, o glassOptions) (*view.Emergency, error) {
	project, err := s.project(ctx)
	if err != nil {
		return nil, err
	}
	r, err := s.release(ctx, project, o.name)
	if err != nil {
		return nil, err
	}
	gate, err := s.gate(ctx, project, o.gate)
	if err != nil {
		return nil, err
	}
	bundle := bundleFor(r, gate.Spec.Environment)
	if bundle == nil || bundle.Hash == "" {
		return nil, s.nothingToApprove(r, bundle, view.Guarded(gate.Spec.Environment))
	}
	user, err := s.whoami(ctx)
	if err != nil {
		return nil, err
	}
	e := &view.Emergency{User: user, Reason: o.reason, Gate: gate, Release: r, Bundle: *bundle}
	if p := s.readableProject(ctx, project); p != nil {
		e.Cost = &p.Spec.Karma.BreakGlass
	}
	return e, nil
}

// readableProject is nil for somebody who may not read it, as most members may not.
func (s *session) readableProject(ctx context.Context, name string) *v1alpha1.Project {
	c, err := s.client()
	if err != nil {
		return nil
	}
	var p v1alpha1.Project
	if err := c.Get(ctx, client.ObjectKey{Name: name}, &p); err != nil {
		return nil
	}
	return &p
}

// glassOutcome tells what the gate says with the break-glass.
func (s *session) glassOutcome(o glassOptions, r *v1alpha1.Release, given *v1alpha1.ApprovalRecord) error {
	if o.output.structured() {
		return s.emit(*o.output, r)
	}
	if given.Stale != "" {
		return s.fail("error.glass-stale", given.Stale).with(s.T("hint.glass-stale"))
	}
	if !view.Regularised(r, o.gate) {
		s.say("glass.recorded", given.User, o.gate, r.Name, o.gate)
	}
	if passed(r, o.gate) {
		return s.print(s.T("approve.opened", o.gate, view.Guarded(view.Verdicts(r, o.gate)[0].Environment)) + "\n")
	}
	return s.print(view.Why(view.Bridge{Namespace: r.Namespace}, r, o.gate, s.screen()))
}

// mendGlass withdraws the caller's own break-glass.
func (s *session) mendGlass(ctx context.Context, o glassOptions) error {
	project, err := s.project(ctx)
	if err != nil {
		return err
	}
	r, err := s.release(ctx, project, o.name)
	if err != nil {
		return err
	}
	user, err := s.whoami(ctx)
	if err != nil {
		return err
	}
	key := v1alpha1.BreakGlassPrefix + o.gate
	mine := func(r *v1alpha1.Release) bool { return strings.HasPrefix(r.Annotations[key], user+": ") }
	if !mine(r) {
		s.say("glass.not-yours", o.gate, user)
		return s.releaseOutcome(*o.output, r)
	}
	_, err = s.annotate(ctx, project, o.name, key, func(r *v1alpha1.Release) (string, error) {
		if !mine(r) { // somebody else's by now
			return r.Annotations[key], nil
		}
		return "", nil
	})
	if err != nil {
		return err
	}
	noticed, err := await(ctx, s, client.ObjectKeyFromObject(r), &v1alpha1.ReleaseList{}, func(r *v1alpha1.Release) bool {
		a := record(r, o.gate, user, v1alpha1.DecisionBrokeGlass)
		return a == nil || a.Stale != ""
	})
	switch {
	case errors.Is(err, errImpatient):
		s.say("action.not-noticed", s.Patience)
		return nil
	case err != nil:
		return err
	}
	s.say("glass.revoked", o.gate)
	return s.releaseOutcome(*o.output, noticed)
}

// confirmName has a name typed, for what cannot be undone.
func (s *session) confirmName(yes bool, name string) error {
	if yes {
		return nil
	}
	if _, ok := s.terminal(s.In); !ok {
		return s.fail("error.needs-yes").with(s.T("hint.needs-yes"))
	}
	answer, err := s.ask(s.T("glass.question", name) + " ")
	if err != nil {
		return err
	}
	if answer != name {
		return s.fail("error.glass-name", answer)
	}
	return nil
}

func passed(r *v1alpha1.Release, gate string) bool {
	return slices.ContainsFunc(view.Verdicts(r, gate), func(g v1alpha1.GateVerdict) bool { return g.Verdict == v1alpha1.VerdictPassed })
}

// recordWith finds a record with its reason: a person may have given another one before.
func recordWith(r *v1alpha1.Release, gate, user, decision, reason string) *v1alpha1.ApprovalRecord {
	for i, a := range r.Status.Approvals {
		if a.Gate == gate && a.User == user && a.Decision == decision && a.Reason == reason {
			return &r.Status.Approvals[i]
		}
	}
	return nil
}

func (s *session) releaseOutcome(f format, r *v1alpha1.Release) error {
	if f.structured() {
		return s.emit(f, r)
	}
	return nil
}
