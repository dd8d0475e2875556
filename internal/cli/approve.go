// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/cli/view"
	"gitlab.com/dynors/sirrat/internal/envelope"
)

type approveOptions struct {
	output      *format
	name, gate  string
	yes, revoke bool
}

func (s *session) approveCommand() *cobra.Command {
	var o approveOptions
	cmd := s.command("approve RELEASE GATE [--yes | --revoke]", "approve")
	cmd.Args = s.args(2, 2)
	cmd.ValidArgsFunction = s.completion("kind.release", "kind.gate")
	o.output = s.outputFlag(cmd)
	cmd.Flags().BoolVarP(&o.yes, "yes", "y", false, s.T("flag.yes"))
	cmd.Flags().BoolVar(&o.revoke, "revoke", false, s.T("flag.revoke"))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.name, o.gate = args[0], args[1]
		if o.revoke {
			return s.revoke(cmd.Context(), o)
		}
		return s.approve(cmd.Context(), o)
	}
	return cmd
}

func (s *session) approve(ctx context.Context, o approveOptions) error {
	a, err := s.gatherApproval(ctx, o)
	if err != nil {
		return err
	}
	if strings.Contains(a.User, ",") {
		return s.fail("error.comma-in-user", a.User)
	}
	if !o.output.structured() {
		if err := s.print(view.ApprovalSummary(*a, s.screen())); err != nil {
			return err
		}
	}
	given := record(a.Release, o.gate, a.User, v1alpha1.DecisionApproved)
	if given != nil && given.Stale == "" && slices.Contains(approvers(a.Release.Annotations[v1alpha1.ApprovalPrefix+o.gate]), a.User) {
		s.say("approve.already", o.gate, a.User)
		return s.approvalOutcome(o, a.Release, a.User)
	}
	if err := s.confirm(o.yes, "approve.question", gateLabel(a.Gate), view.Label(a.Release), view.Guarded(a.Gate.Spec.Environment)); err != nil {
		return err
	}
	if given != nil { // stale: it has to be withdrawn before it can be given again
		if err := s.withdraw(ctx, a.Release, o.gate, a.User); err != nil {
			return err
		}
	}
	_, err = s.annotate(ctx, a.Release.Namespace, o.name, v1alpha1.ApprovalPrefix+o.gate, func(r *v1alpha1.Release) (string, error) {
		if b := bundleFor(r, a.Gate.Spec.Environment); r.UID != a.Release.UID || b == nil || b.Hash != a.Bundle.Hash {
			return "", s.fail("error.bundle-changed", o.name).with(s.T("hint.look-again"))
		}
		return withApprover(r.Annotations[v1alpha1.ApprovalPrefix+o.gate], a.User), nil
	})
	if err != nil {
		return err
	}
	recorded, err := await(ctx, s, client.ObjectKeyFromObject(a.Release), &v1alpha1.ReleaseList{}, func(r *v1alpha1.Release) bool {
		return record(r, o.gate, a.User, v1alpha1.DecisionApproved) != nil
	})
	if errors.Is(err, errImpatient) {
		s.say("approve.not-recorded", s.Patience, o.name, o.gate)
		return nil
	}
	if err != nil {
		return err
	}
	return s.approvalOutcome(o, recorded, a.User)
}

// gatherApproval reads what is about to be approved.
func (s *session) gatherApproval(ctx context.Context, o approveOptions) (*view.Approval, error) {
	project, err := s.project(ctx)
	if err != nil {
		return nil, err
	}
	c, err := s.client()
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
	if !slices.ContainsFunc(gate.Spec.Criteria, func(c v1alpha1.Criterion) bool { return c.Approval != nil }) {
		return nil, s.fail("error.gate-automatic", gate.Name)
	}
	bundle := bundleFor(r, gate.Spec.Environment)
	if bundle == nil || bundle.Hash == "" {
		return nil, s.nothingToApprove(r, bundle, view.Guarded(gate.Spec.Environment))
	}
	user, err := s.whoami(ctx)
	if err != nil {
		return nil, err
	}
	a := &view.Approval{User: user, Gate: gate, Release: r, Bundle: *bundle}
	var environment v1alpha1.Environment // none is behind a gate of a module
	if gate.Spec.Environment != "" {
		err = c.Get(ctx, client.ObjectKey{Namespace: project, Name: gate.Spec.Environment}, &environment)
	}
	switch {
	case apierrors.IsNotFound(err):
		return nil, s.fail("error.gate-guards-nothing", gate.Name, gate.Spec.Environment)
	case err != nil:
		return nil, err
	}
	var releases v1alpha1.ReleaseList
	if err := c.List(ctx, &releases, client.InNamespace(project)); err != nil {
		return nil, err
	}
	a.Debts = view.Debts(releases.Items)
	if now := environment.Status.Current; now != nil {
		a.CurrentHash = now.BundleHash
		for i := range releases.Items { // one that is gone is not compared with
			if releases.Items[i].Name == now.Release {
				a.Current = &releases.Items[i]
			}
		}
	}
	if a.Compose, err = s.composeTexts(ctx, &environment, a); err != nil {
		return nil, err
	}
	pvs, err := s.pvs(ctx, project)
	if err != nil {
		return nil, err
	}
	a.Reservations = view.OpenReservations(pvs, s.Now())
	a.PVs = slices.DeleteFunc(pvs, func(p v1alpha1.PV) bool { return p.Spec.Release.UID != string(r.UID) })
	return a, nil
}

// composeTexts reads the compose file that runs and the one that would, and gives out only texts with the hash that was
// let in or is about to be approved: an environment may have been edited since.
func (s *session) composeTexts(ctx context.Context, e *v1alpha1.Environment, a *view.Approval) (view.ComposeTexts, error) {
	var texts view.ComposeTexts
	if a.Current == nil {
		return texts, nil
	}
	own, err := s.environmentCompose(ctx, e)
	if err != nil {
		return texts, err
	}
	checked := func(r *v1alpha1.Release, hash string) *string {
		text := own
		if t, ok := r.Spec.Compose[e.Name]; ok && t != "" {
			text = (*string)(&t)
		}
		if text == nil || hash == "" || envelope.Hash([]byte(*text)) != hash {
			return nil
		}
		return text
	}
	texts.Then = checked(a.Release, a.Bundle.ComposeHash)
	if b := bundleFor(a.Current, e.Name); b != nil && b.Hash == a.CurrentHash {
		texts.Now = checked(a.Current, b.ComposeHash)
	}
	return texts, nil
}

// environmentCompose is the environment's own compose file; nil when the caller may not read it or it is not there.
func (s *session) environmentCompose(ctx context.Context, e *v1alpha1.Environment) (*string, error) {
	ref := e.Spec.Compose.ConfigMapKeyRef
	if ref == nil {
		return &e.Spec.Compose.Inline, nil
	}
	c, err := s.client()
	if err != nil {
		return nil, err
	}
	var cm corev1.ConfigMap
	err = c.Get(ctx, client.ObjectKey{Namespace: e.Namespace, Name: ref.Name}, &cm)
	if apierrors.IsForbidden(err) || apierrors.IsNotFound(err) {
		return nil, nil
	}
	text, ok := cm.Data[ref.Key]
	if err != nil || !ok {
		return nil, err
	}
	return &text, nil
}

func bundleFor(r *v1alpha1.Release, environment string) *v1alpha1.EnvironmentBundle {
	if r.Status.Bundle == nil {
		return nil
	}
	for i := range r.Status.Bundle.Environments {
		if r.Status.Bundle.Environments[i].Environment == environment {
			return &r.Status.Bundle.Environments[i]
		}
	}
	return nil
}

// nothingToApprove says why there is no bundle yet.
func (s *session) nothingToApprove(r *v1alpha1.Release, bundle *v1alpha1.EnvironmentBundle, environment string) error {
	f := s.fail("error.no-bundle", r.Name, environment)
	if bundle != nil && bundle.Problem != "" {
		return f.with(bundle.Problem)
	}
	for _, c := range r.Status.Conditions {
		if c.Type == v1alpha1.ConditionFrozen && c.Status != "True" {
			f.hint = c.Message
		}
	}
	return f
}

// approvalOutcome tells what the gate says with the approval.
func (s *session) approvalOutcome(o approveOptions, r *v1alpha1.Release, user string) error {
	if o.output.structured() {
		return s.emit(*o.output, r)
	}
	given := record(r, o.gate, user, v1alpha1.DecisionApproved)
	if given != nil && given.Stale != "" {
		return s.fail("approve.stale", given.Stale)
	}
	if given != nil {
		s.say("approve.recorded", user, given.Time.In(s.Zone).Format("2006-01-02 15:04:05 MST"))
	}
	for _, g := range view.Verdicts(r, o.gate) {
		switch {
		case g.Verdict == v1alpha1.VerdictPassed:
			return s.print(s.T("approve.opened", g.Name, view.Guarded(g.Environment)) + "\n")
		case len(g.WaitingFor) > 0:
			return s.print(view.Why(view.Bridge{Namespace: r.Namespace}, r, o.gate, s.screen()))
		}
	}
	return nil
}

func (s *session) revoke(ctx context.Context, o approveOptions) error {
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
	if !slices.Contains(approvers(r.Annotations[v1alpha1.ApprovalPrefix+o.gate]), user) {
		s.say("revoke.nothing", o.gate, user)
		return nil
	}
	if err := s.withdraw(ctx, r, o.gate, user); err != nil {
		return err
	}
	s.say("revoke.done", o.gate, view.Label(r))
	if o.output.structured() {
		if r, err = s.release(ctx, project, o.name); err != nil {
			return err
		}
		return s.emit(*o.output, r)
	}
	return nil
}

// withdraw removes the caller's approval and waits until the controllers have noticed.
func (s *session) withdraw(ctx context.Context, r *v1alpha1.Release, gate, user string) error {
	key := v1alpha1.ApprovalPrefix + gate
	_, err := s.annotate(ctx, r.Namespace, r.Name, key, func(r *v1alpha1.Release) (string, error) {
		return withoutApprover(r.Annotations[key], user), nil
	})
	if err != nil {
		return err
	}
	_, err = await(ctx, s, client.ObjectKeyFromObject(r), &v1alpha1.ReleaseList{}, func(r *v1alpha1.Release) bool {
		return record(r, gate, user, v1alpha1.DecisionApproved) == nil
	})
	if errors.Is(err, errImpatient) {
		return s.fail("revoke.not-noticed", s.Patience)
	}
	return err
}

func gateLabel(g *v1alpha1.QualityGate) string { return fmt.Sprintf("#%d %s", g.Spec.Number, g.Name) }
