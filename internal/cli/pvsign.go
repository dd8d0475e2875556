// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"crypto"
	"errors"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/cli/lang"
	"gitlab.com/dynors/sirrat/internal/cli/view"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/pv"
)

// decisions are the words of --decision.
var decisions = map[string]v1alpha1.PVDecision{
	"accept":                   v1alpha1.PVAccepted,
	"accept-with-reservations": v1alpha1.PVAcceptedWithReservations,
	"refuse":                   v1alpha1.PVRefused,
}

var decisionWords = []string{"accept", "accept-with-reservations", "refuse"}

type signOptions struct {
	output                          *format
	name, keyFile, decision, reason string
	signer                          string
	reservations                    []string
	parsed                          []v1alpha1.Reservation
	yes                             bool
}

func (s *session) pvSignCommand() *cobra.Command {
	var o signOptions
	cmd := s.command("sign NAME --key FILE [--decision DECISION]", "pv.sign")
	cmd.Args = s.args(1, 1)
	cmd.ValidArgsFunction = s.completion("kind.pv")
	flags := cmd.Flags()
	flags.StringVar(&o.keyFile, "key", "", s.T("flag.key"))
	flags.StringVar(&o.decision, "decision", "", s.T("flag.decision"))
	flags.StringVar(&o.reason, "reason", "", s.T("flag.pv-reason"))
	flags.StringArrayVar(&o.reservations, "reservation", nil, s.T("flag.reservation"))
	flags.StringVar(&o.signer, "name", "", s.T("flag.signer"))
	flags.BoolVarP(&o.yes, "yes", "y", false, s.T("flag.yes"))
	must(cmd.RegisterFlagCompletionFunc("decision", cobra.FixedCompletions(decisionWords, cobra.ShellCompDirectiveNoFileComp)))
	o.output = s.outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.name = args[0]
		if err := s.checkSignOptions(cmd, &o); err != nil {
			return err
		}
		return s.signPV(cmd.Context(), cmd, o)
	}
	return cmd
}

func (s *session) checkSignOptions(cmd *cobra.Command, o *signOptions) error {
	if o.keyFile == "" {
		return s.usage(cmd, s.T("error.flag-needed", "--key"))
	}
	for _, text := range o.reservations {
		r, ok := parseReservation(text)
		if !ok {
			return s.usage(cmd, s.T("error.reservation", text))
		}
		o.parsed = append(o.parsed, r)
	}
	if o.decision == "" {
		return nil
	}
	decision, known := decisions[o.decision]
	switch {
	case !known:
		return s.usage(cmd, s.T("error.decision", o.decision, strings.Join(decisionWords, ", ")))
	case decision == v1alpha1.PVRefused && strings.TrimSpace(o.reason) == "":
		return s.usage(cmd, s.T("error.refusal-reason"))
	case decision == v1alpha1.PVAcceptedWithReservations && len(o.parsed) == 0:
		return s.usage(cmd, s.T("error.reservation-needed"))
	case decision != v1alpha1.PVAcceptedWithReservations && len(o.parsed) > 0:
		return s.usage(cmd, s.T("error.reservation-decision"))
	}
	return nil
}

// parseReservation reads "text;owner;YYYY-MM-DD", all of them: what nobody mends by a day is never settled.
func parseReservation(text string) (v1alpha1.Reservation, bool) {
	parts := strings.Split(text, ";")
	if len(parts) != 3 {
		return v1alpha1.Reservation{}, false
	}
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	r := v1alpha1.Reservation{Text: parts[0], Owner: parts[1], Deadline: parts[2]}
	_, err := time.Parse(time.DateOnly, r.Deadline)
	return r, err == nil && r.Text != "" && r.Owner != ""
}

func (s *session) signPV(ctx context.Context, cmd *cobra.Command, o signOptions) error {
	key, err := s.readKey(o.keyFile)
	if err != nil {
		return err
	}
	p, err := s.readPV(ctx, o.name)
	if err != nil {
		return err
	}
	if p.Status.Decision != "" {
		return s.fail("error.already-decided", p.Name, p.Status.Decision, p.Status.SignedBy)
	}
	if err := s.checkDocument(p); err != nil {
		return err
	}
	if err := s.checkKeyIsKnown(ctx, p, key); err != nil {
		return err
	}
	document, err := view.ReadDocument(p)
	if err != nil {
		return err
	}
	if !o.output.structured() {
		if err := s.print(view.PV(p, document, s.pvScreen(document))); err != nil {
			return err
		}
	}
	d, err := s.decide(cmd, p, document, o)
	if err != nil {
		return err
	}
	if !o.output.structured() {
		if err := s.print("\n" + view.Decision(*d, s.pvScreen(document))); err != nil {
			return err
		}
	}
	if err := s.confirm(o.yes, "pv.sign-question", d.SignedBy); err != nil {
		return err
	}
	signature, err := pv.Sign(ctx, *d, key)
	if err != nil {
		return err
	}
	return s.submitSignature(ctx, p, signature, *o.output)
}

// decide makes the decision from the flags; what they leave open is asked for on a terminal.
func (s *session) decide(cmd *cobra.Command, p *v1alpha1.PV, document pv.Document, o signOptions) (*pv.Decision, error) {
	if o.decision == "" {
		if err := s.askDecision(cmd, &o); err != nil {
			return nil, err
		}
	}
	if o.signer == "" && len(document.Signatories) == 1 {
		o.signer = document.Signatories[0]
	}
	if o.signer == "" {
		return nil, s.usage(cmd, s.T("error.signer-needed", strings.Join(document.Signatories, "; ")))
	}
	if !slices.ContainsFunc(document.Signatories, func(name string) bool { return strings.HasPrefix(name, o.signer) }) {
		s.say("pv.other-signer", o.signer, strings.Join(document.Signatories, "; "))
	}
	d := pv.NewDecision(p, decisions[o.decision], o.signer, s.Now())
	d.Reason, d.Reservations = strings.TrimSpace(o.reason), o.parsed
	return &d, nil
}

func (s *session) askDecision(cmd *cobra.Command, o *signOptions) error {
	if _, ok := s.terminal(s.In); !ok || o.yes {
		return s.usage(cmd, s.T("error.decision-needed", strings.Join(decisionWords, ", ")))
	}
	answer, err := s.ask(s.T("pv.ask-decision", strings.Join(decisionWords, ", ")) + " ")
	if err != nil {
		return err
	}
	o.decision = answer
	if _, known := decisions[answer]; !known {
		return s.fail("error.decision", answer, strings.Join(decisionWords, ", "))
	}
	if decisions[answer] == v1alpha1.PVRefused && o.reason == "" {
		if o.reason, err = s.ask(s.T("pv.ask-reason") + " "); err != nil {
			return err
		}
	}
	for decisions[answer] == v1alpha1.PVAcceptedWithReservations && len(o.parsed) == 0 {
		text, err := s.ask(s.T("pv.ask-reservation") + " ")
		if err != nil {
			return err
		}
		if text == "" {
			break
		}
		if r, ok := parseReservation(text); ok {
			o.parsed = append(o.parsed, r)
		} else {
			s.say("error.reservation", text)
		}
	}
	return s.checkSignOptions(cmd, &signOptions{
		keyFile: o.keyFile, decision: o.decision, reason: o.reason, parsed: o.parsed,
	})
}

func (s *session) readKey(file string) (crypto.Signer, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, wrap("read the key", err)
	}
	if info, err := os.Stat(file); err == nil && info.Mode().Perm()&0o077 != 0 {
		s.say("pv.key-readable", file)
	}
	key, err := envelope.ParsePrivateKey(text)
	return key, wrap("read the key "+file, err)
}

// checkKeyIsKnown spares the client a signature that cannot count. Who may not read the Project learns it from the
// controllers.
func (s *session) checkKeyIsKnown(ctx context.Context, p *v1alpha1.PV, key crypto.Signer) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	var project v1alpha1.Project
	if err := c.Get(ctx, client.ObjectKey{Name: p.Namespace}, &project); err != nil {
		return nil
	}
	encoded, err := envelope.EncodePublicKey(key.Public())
	if err != nil {
		return err
	}
	mine, err := envelope.ParsePublicKey(string(encoded))
	if err != nil {
		return err
	}
	for _, text := range project.Spec.Client.PublicKeys {
		if known, err := envelope.ParsePublicKey(text); err == nil && known.ID == mine.ID {
			return nil
		}
	}
	return s.fail("error.unknown-key", mine.ID, p.Namespace).with(s.T("hint.unknown-key"))
}

// submitSignature stores the signature on exactly the PV that was shown and waits for the controllers' verdict.
func (s *session) submitSignature(ctx context.Context, p *v1alpha1.PV, signature string, f format) error {
	if err := s.changeShown(ctx, p, func(now *v1alpha1.PV) { now.Spec.Signature = signature }); err != nil {
		return err
	}
	verdict, err := await(ctx, s, client.ObjectKeyFromObject(p), &v1alpha1.PVList{}, func(p *v1alpha1.PV) bool {
		return p.Spec.Signature == signature && (p.Status.Decision != "" || badSignature(p) != "")
	})
	switch {
	case errors.Is(err, errImpatient):
		s.say("pv.not-verified-yet", s.Patience, p.Name)
		return nil
	case err != nil:
		return err
	}
	if message := badSignature(verdict); message != "" && verdict.Status.Decision == "" {
		return s.fail("error.bad-signature", p.Name, message)
	}
	if f.structured() {
		return s.emit(f, verdict)
	}
	return s.print(s.T("pv.signed", verdict.Name, s.T(lang.ID("pv.decision."+string(verdict.Status.Decision))), verdict.Status.KeyID) + "\n")
}

// badSignature is why the controllers refused the signature that the PV carries now; a condition that speaks of another
// generation was about a signature before it.
func badSignature(p *v1alpha1.PV) string {
	ready := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionReady)
	if ready == nil || ready.Reason != v1alpha1.ReasonBadSignature || ready.ObservedGeneration != p.Generation {
		return ""
	}
	return ready.Message
}
