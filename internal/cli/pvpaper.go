// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/cli/lang"
	"gitlab.com/dynors/sirrat/internal/cli/view"
	"gitlab.com/dynors/sirrat/internal/envelope"
)

// maxScan is as large a scan as the HTTP API takes, in bytes.
const maxScan = 20 << 20

type uploadOptions struct {
	output             *format
	name, scan, apiURL string
	decision, reason   string
	signedBy, signedOn string
	reservations       []string
	parsed             []v1alpha1.Reservation
	withdraw, yes      bool
}

func (s *session) pvUploadCommand() *cobra.Command {
	var o uploadOptions
	cmd := s.command("upload NAME (--scan FILE --decision DECISION --signed-by NAME --signed-on DATE | --withdraw)", "pv.upload")
	cmd.Args = s.args(1, 1)
	cmd.ValidArgsFunction = s.completion("kind.pv")
	flags := cmd.Flags()
	flags.StringVar(&o.scan, "scan", "", s.T("flag.scan"))
	flags.StringVar(&o.decision, "decision", "", s.T("flag.paper-decision"))
	flags.StringVar(&o.signedBy, "signed-by", "", s.T("flag.signed-by"))
	flags.StringVar(&o.signedOn, "signed-on", "", s.T("flag.signed-on"))
	flags.StringVar(&o.reason, "reason", "", s.T("flag.pv-reason"))
	flags.StringArrayVar(&o.reservations, "reservation", nil, s.T("flag.reservation"))
	flags.BoolVar(&o.withdraw, "withdraw", false, s.T("flag.withdraw"))
	flags.StringVar(&o.apiURL, "api-url", "", s.T("flag.api-url"))
	flags.BoolVarP(&o.yes, "yes", "y", false, s.T("flag.yes"))
	must(cmd.RegisterFlagCompletionFunc("decision", cobra.FixedCompletions(decisionWords, cobra.ShellCompDirectiveNoFileComp)))
	o.output = s.outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.name = args[0]
		if o.withdraw {
			for _, name := range []string{"scan", "decision", "signed-by", "signed-on", "reason", "reservation"} {
				if flags.Changed(name) {
					return s.usage(cmd, s.T("error.flags-apart", "--withdraw", "--"+name))
				}
			}
			return s.withdrawPaper(cmd.Context(), o)
		}
		if err := s.checkUpload(cmd, &o); err != nil {
			return err
		}
		return s.uploadPaper(cmd.Context(), o)
	}
	return cmd
}

func (s *session) checkUpload(cmd *cobra.Command, o *uploadOptions) error {
	for _, flag := range []struct{ name, value string }{
		{"--scan", o.scan}, {"--decision", o.decision}, {"--signed-by", strings.TrimSpace(o.signedBy)}, {"--signed-on", o.signedOn},
	} {
		if flag.value == "" {
			return s.usage(cmd, s.T("error.flag-needed", flag.name))
		}
	}
	on, err := time.Parse(time.DateOnly, o.signedOn)
	if err != nil || on.After(s.Now().AddDate(0, 0, 1)) { // somewhere it is tomorrow already
		return s.usage(cmd, s.T("error.signed-on", o.signedOn))
	}
	// The rules of a decision are the same however it is signed.
	same := signOptions{keyFile: o.scan, decision: o.decision, reason: o.reason, reservations: o.reservations}
	if err := s.checkSignOptions(cmd, &same); err != nil {
		return err
	}
	o.parsed = same.parsed
	return nil
}

// readScanFile reads a scan and tells what it is.
func (s *session) readScanFile(file string) (data []byte, mediaType string, err error) {
	info, err := os.Stat(file)
	if err == nil && info.Size() > maxScan {
		return nil, "", s.fail("error.scan-size", file, maxScan>>20)
	}
	if err == nil {
		data, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, "", &failure{text: err.Error(), code: exitError, cause: err}
	}
	for kind, begin := range map[string]string{"PDF": "%PDF-", "JPEG": "\xff\xd8\xff", "PNG": "\x89PNG\r\n\x1a\n"} {
		if bytes.HasPrefix(data, []byte(begin)) {
			return data, kind, nil
		}
	}
	return nil, "", s.fail("error.scan-type", file)
}

func (s *session) uploadPaper(ctx context.Context, o uploadOptions) error {
	scan, kind, err := s.readScanFile(o.scan)
	if err != nil {
		return err
	}
	p, err := s.readPV(ctx, o.name)
	if err != nil {
		return err
	}
	if err := s.checkOpen(p); err != nil {
		return err
	}
	if err := s.checkDocument(p); err != nil {
		return err
	}
	me, err := s.whoami(ctx)
	if err != nil {
		return err
	}
	a, err := s.api(ctx, o.apiURL)
	if err != nil {
		return err
	}
	paper := &v1alpha1.PaperPV{
		Decision: decisions[o.decision], Reason: strings.TrimSpace(o.reason), Reservations: o.parsed, SignedBy: strings.TrimSpace(o.signedBy),
		SignedOn: o.signedOn, ScanHash: envelope.Hash(scan), UploadedBy: me,
	}
	if err := s.showPaper(p, paper, fmt.Sprintf("%s (%s, %d KiB)", o.scan, kind, (len(scan)+1023)>>10), *o.output); err != nil {
		return err
	}
	if err := s.confirm(o.yes, "pv.upload-question", paper.SignedBy); err != nil {
		return err
	}
	if err := s.announce(ctx, p, paper); err != nil {
		return err
	}
	body, err := s.send(ctx, a, http.MethodPut, pvScanPath(p.Namespace, p.Name), scan)
	if err != nil {
		var status *statusError
		if !errors.As(err, &status) || status.status != http.StatusConflict { // 409: decided between the two
			s.say("pv.scan-missing", p.Name)
			return err
		}
	} else {
		defer body.Close()
	}
	return s.awaitPaper(ctx, p, paper, *o.output)
}

// checkOpen refuses to announce a paper where another decision stands or is on its way.
func (s *session) checkOpen(p *v1alpha1.PV) error {
	if p.Status.Decision != "" {
		return s.fail("error.already-decided", p.Name, p.Status.Decision, p.Status.SignedBy)
	}
	if p.Spec.Signature != "" {
		return s.fail("error.signature-waits", p.Name)
	}
	return nil
}

// showPaper shows what will be recorded, and what it takes the place of.
func (s *session) showPaper(p *v1alpha1.PV, paper *v1alpha1.PaperPV, scan string, f format) error {
	if old := p.Spec.Paper; old != nil && !equality.Semantic.DeepEqual(old, paper) {
		s.say("pv.replaces-paper", old.UploadedBy, old.Decision, old.SignedBy, old.SignedOn)
	}
	document, err := view.ReadDocument(p)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(document.Signatories, func(name string) bool { return strings.HasPrefix(name, paper.SignedBy) }) {
		s.say("pv.other-paper-signer", paper.SignedBy, strings.Join(document.Signatories, "; "))
	}
	if f.structured() {
		return nil
	}
	return s.print(view.Paper(p, paper, scan, s.screen()))
}

// announce states what the paper says, on exactly the PV that was shown.
func (s *session) announce(ctx context.Context, p *v1alpha1.PV, paper *v1alpha1.PaperPV) error {
	if equality.Semantic.DeepEqual(p.Spec.Paper, paper) { // a second try, since the scan did not arrive
		return nil
	}
	return s.changeShown(ctx, p, func(now *v1alpha1.PV) { now.Spec.Paper = paper })
}

// changeShown changes exactly the PV that was shown: the controllers may write its status meanwhile, nobody else anything.
func (s *session) changeShown(ctx context.Context, shown *v1alpha1.PV, change func(*v1alpha1.PV)) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	for now := shown; ; {
		changed := now.DeepCopy()
		change(changed)
		err := c.Patch(ctx, changed, client.MergeFromWithOptions(now, client.MergeFromWithOptimisticLock{}))
		if !apierrors.IsConflict(err) {
			return err
		}
		now = &v1alpha1.PV{}
		if err := c.Get(ctx, client.ObjectKeyFromObject(shown), now); err != nil {
			return wrap("read the PV again", err)
		}
		if now.UID != shown.UID || !equality.Semantic.DeepEqual(now.Spec, shown.Spec) {
			return err
		}
		if now.Status.Decision != "" {
			return s.fail("error.already-decided", now.Name, now.Status.Decision, now.Status.SignedBy)
		}
	}
}

func (s *session) awaitPaper(ctx context.Context, p *v1alpha1.PV, paper *v1alpha1.PaperPV, f format) error {
	verdict, err := await(ctx, s, client.ObjectKeyFromObject(p), &v1alpha1.PVList{}, func(p *v1alpha1.PV) bool {
		return p.Status.Decision != "" || refusedPaper(p) != "" || !equality.Semantic.DeepEqual(p.Spec.Paper, paper)
	})
	switch {
	case errors.Is(err, errImpatient):
		s.say("pv.paper-not-verified-yet", s.Patience, p.Name)
		return nil
	case err != nil:
		return err
	case verdict.Status.Decision != "" && verdict.Status.SignatureHash != paper.ScanHash:
		return s.fail("error.already-decided", p.Name, verdict.Status.Decision, verdict.Status.SignedBy)
	case verdict.Status.Decision == "":
		return s.fail("error.bad-paper", p.Name, refusedPaper(verdict))
	case f.structured():
		return s.emit(f, verdict)
	}
	return s.print(s.T("pv.uploaded", verdict.Name, s.T(lang.ID("pv.decision."+string(verdict.Status.Decision))), verdict.Status.SignedBy, verdict.Status.SignatureHash) + "\n")
}

// withdrawPaper takes a paper back while it is not decided upon.
func (s *session) withdrawPaper(ctx context.Context, o uploadOptions) error {
	p, err := s.readPV(ctx, o.name)
	if err != nil {
		return err
	}
	if p.Status.Decision != "" {
		return s.fail("error.already-decided", p.Name, p.Status.Decision, p.Status.SignedBy)
	}
	old := p.Spec.Paper
	if old == nil {
		s.say("pv.no-paper", p.Name)
		return nil
	}
	if err := s.confirm(o.yes, "pv.withdraw-question", p.Name, old.UploadedBy, old.Decision, old.SignedBy); err != nil {
		return err
	}
	if err := s.announce(ctx, p, nil); err != nil {
		return err
	}
	s.say("pv.paper-withdrawn", p.Name)
	return nil
}
