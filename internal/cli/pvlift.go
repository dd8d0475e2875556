// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/cli/view"
)

func newPV() *v1alpha1.PV { return &v1alpha1.PV{} }

func (s *session) pvLiftCommand() *cobra.Command {
	var reason string
	cmd := s.command("lift NAME NUMBER --reason TEXT", "pv.lift")
	cmd.Args = s.args(2, 2)
	cmd.ValidArgsFunction = s.completion("kind.pv")
	output := s.outputFlag(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", s.T("flag.done-reason"))
	must(cmd.RegisterFlagCompletionFunc("reason", cobra.NoFileCompletions))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		number, err := strconv.Atoi(args[1])
		if reason = strings.TrimSpace(reason); err != nil || number < 1 {
			return s.usage(cmd, s.T("error.lift-number", args[1]))
		}
		if reason == "" {
			return s.usage(cmd, s.T("error.regularise-reason"))
		}
		return s.liftReservation(cmd.Context(), args[0], number, reason, *output)
	}
	return cmd
}

func (s *session) liftReservation(ctx context.Context, name string, number int, reason string, f format) error {
	p, err := s.readPV(ctx, name)
	if err != nil {
		return err
	}
	if n := len(p.Status.Reservations); number > n {
		return s.fail("error.no-reservation", p.Name, number, n)
	}
	if how := p.Status.Reservations[number-1].Lifted; how != "" {
		s.say("pv.lift-already", number, p.Name, how)
		return s.pvOutcome(f, p)
	}
	user, err := s.whoami(ctx)
	if err != nil {
		return err
	}
	key := client.ObjectKeyFromObject(p)
	_, err = annotateObject(ctx, s, key, newPV, v1alpha1.LiftedPrefix+strconv.Itoa(number), func(*v1alpha1.PV) (string, error) {
		return user + ": " + reason, nil
	})
	if err != nil {
		return err
	}
	lifted := func(p *v1alpha1.PV) bool {
		return len(p.Status.Reservations) >= number && p.Status.Reservations[number-1].Lifted != ""
	}
	noticed, err := await(ctx, s, key, &v1alpha1.PVList{}, lifted)
	switch {
	case errors.Is(err, errImpatient):
		s.say("action.not-noticed", s.Patience)
		return nil
	case err != nil:
		return err
	}
	s.say("pv.lift-done", number, p.Name, noticed.Status.Reservations[number-1].Lifted)
	return s.pvOutcome(f, noticed)
}

func (s *session) pvSendLinkCommand() *cobra.Command {
	cmd := s.command("send-link NAME", "pv.send-link")
	cmd.Args = s.args(1, 1)
	cmd.ValidArgsFunction = s.completion("kind.pv")
	output := s.outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return s.sendLink(cmd.Context(), args[0], *output)
	}
	return cmd
}

func (s *session) sendLink(ctx context.Context, name string, f format) error {
	p, err := s.readPV(ctx, name)
	if err != nil {
		return err
	}
	if p.Status.Decision != "" {
		return s.fail("error.already-decided", p.Name, p.Status.Decision, p.Status.SignedBy)
	}
	to, err := s.linkReceivers(ctx, p)
	if err != nil {
		return err
	}
	var asked *v1alpha1.PV
	value := s.Now().UTC().Format(time.RFC3339Nano)
	_, err = annotateObject(ctx, s, client.ObjectKeyFromObject(p), newPV, v1alpha1.AnnotationSendLink, func(p *v1alpha1.PV) (string, error) {
		asked = p
		return value, nil
	})
	if err != nil {
		return err
	}
	s.say("pv.link-asked", p.Name, strings.Join(to, "; "))
	return s.pvOutcome(f, asked)
}

// linkReceivers are the signatories, with masked addresses for somebody who may read the Project and by name for others.
func (s *session) linkReceivers(ctx context.Context, p *v1alpha1.PV) ([]string, error) {
	project := s.readableProject(ctx, p.Namespace)
	if project == nil {
		d, err := view.ReadDocument(p)
		return d.Signatories, err
	}
	var to []string
	for _, person := range project.Spec.Client.Signatories {
		if person.Email != "" {
			to = append(to, person.Name+" <"+view.MaskEmail(person.Email)+">")
		}
	}
	if len(to) == 0 {
		return nil, s.fail("error.no-address", p.Namespace).with(s.T("hint.no-address"))
	}
	return to, nil
}

func (s *session) pvOutcome(f format, p *v1alpha1.PV) error {
	if f.structured() {
		return s.emit(f, p)
	}
	return nil
}
