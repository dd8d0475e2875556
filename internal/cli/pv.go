// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/cli/lang"
	"gitlab.com/dynors/sirrat/internal/cli/view"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/pv"
)

func (s *session) pvCommand() *cobra.Command {
	return s.group("pv", "pv", s.pvListCommand(), s.pvShowCommand(), s.pvPDFCommand(), s.pvSignCommand(), s.pvUploadCommand(),
		s.pvVerifyCommand(), s.pvSendLinkCommand(), s.pvLiftCommand(), s.pvKeygenCommand())
}

func (s *session) pvListCommand() *cobra.Command {
	cmd := s.command("list", "pv.list")
	cmd.Args = s.args(0, 0)
	output := s.outputFlag(cmd, wide)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx := cmd.Context()
		project, err := s.project(ctx)
		if err != nil {
			return err
		}
		c, err := s.client()
		if err != nil {
			return err
		}
		var list v1alpha1.PVList
		if err := c.List(ctx, &list, client.InNamespace(project)); err != nil {
			return err
		}
		if output.structured() {
			return s.emitList(*output, &list)
		}
		if len(list.Items) == 0 {
			s.say("pv.none", project)
			return nil
		}
		return s.print(view.PVs(list.Items, *output == wide, s.screen()))
	}
	return cmd
}

func (s *session) pvShowCommand() *cobra.Command {
	cmd := s.command("show NAME", "pv.show")
	cmd.Args = s.args(1, 1)
	cmd.ValidArgsFunction = s.completion("kind.pv")
	output := s.outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := s.readPV(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if output.structured() {
			return s.emit(*output, p)
		}
		return s.showPV(p)
	}
	return cmd
}

func (s *session) readPV(ctx context.Context, name string) (*v1alpha1.PV, error) {
	p := &v1alpha1.PV{}
	return p, s.readMine(ctx, p, "kind.pv", name)
}

// showPV prints the document in its own language, unless --lang asks for another.
func (s *session) showPV(p *v1alpha1.PV) error {
	d, err := view.ReadDocument(p)
	if err != nil {
		return err
	}
	if err := s.print(view.PV(p, d, s.pvScreen(d))); err != nil {
		return err
	}
	return s.checkDocument(p)
}

func (s *session) pvScreen(d pv.Document) view.Screen {
	sc := s.screen()
	if l, ok := lang.Parse(d.Language); ok && !s.langAsked {
		sc.Lang = l
	}
	return sc
}

// checkDocument: what is shown is what the hash, and so the signature, is over.
func (s *session) checkDocument(p *v1alpha1.PV) error {
	if got := envelope.Hash([]byte(p.Spec.Document)); got != p.Spec.DocumentHash {
		return s.fail("error.document-hash", p.Name, got, p.Spec.DocumentHash)
	}
	return nil
}

func (s *session) pvVerifyCommand() *cobra.Command {
	var keyFiles []string
	var file string
	cmd := s.command("verify (NAME | --file FILE) --public-key FILE...", "pv.verify")
	cmd.Args = s.args(0, 1)
	cmd.ValidArgsFunction = s.completion("kind.pv")
	cmd.Flags().StringArrayVar(&keyFiles, "public-key", nil, s.T("flag.public-key"))
	cmd.Flags().StringVarP(&file, "file", "f", "", s.T("flag.pv-file"))
	output := s.outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case (len(args) == 1) == (file != ""):
			return s.usage(cmd, s.T("error.name-or-file"))
		case len(keyFiles) == 0:
			return s.usage(cmd, s.T("error.flag-needed", "--public-key"))
		}
		return s.verifyPV(cmd.Context(), args, file, keyFiles, *output)
	}
	return cmd
}

func (s *session) verifyPV(ctx context.Context, args []string, file string, keyFiles []string, f format) error {
	keys, err := readPublicKeys(keyFiles)
	if err != nil {
		return err
	}
	var p *v1alpha1.PV
	if file != "" {
		p, err = readPVFile(file)
	} else {
		p, err = s.readPV(ctx, args[0])
	}
	if err != nil {
		return err
	}
	if p.Spec.Signature == "" {
		return &failure{text: s.T("error.not-signed", p.Name), code: exitCheck}
	}
	d, keyID, err := pv.Verify(ctx, p, pv.Keys{Client: keys, Installation: keys})
	if err != nil {
		return &failure{text: s.T("error.bad-signature", p.Name, err), code: exitCheck, cause: err}
	}
	if f.structured() {
		return s.emit(f, verifiedPV{d, keyID})
	}
	document, err := view.ReadDocument(p)
	if err != nil {
		return err
	}
	return s.print(s.T("pv.verified", p.Name, keyID) + "\n" + view.Decision(*d, s.pvScreen(document)))
}

// verifiedPV is `pv verify` for programs.
type verifiedPV struct {
	*pv.Decision
	KeyID string `json:"keyID"`
}

func readPublicKeys(files []string) ([]envelope.PublicKey, error) {
	var keys []envelope.PublicKey
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, wrap("read the public key", err)
		}
		key, err := envelope.ParsePublicKey(string(text))
		if err != nil {
			return nil, wrap("read the public key "+file, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// readPVFile reads one PV as `pv show -o yaml` or `kubectl get pvs` writes it.
func readPVFile(file string) (*v1alpha1.PV, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, wrap("read the PV", err)
	}
	var p v1alpha1.PV
	if err := yaml.Unmarshal(text, &p); err != nil {
		return nil, wrap("read the PV "+file, err)
	}
	if p.Kind != "PV" || p.APIVersion != v1alpha1.GroupVersion.String() {
		return nil, fmt.Errorf("read the PV %s: it holds %s %q, not a PV", file, p.APIVersion, p.Kind)
	}
	return &p, nil
}

func (s *session) pvKeygenCommand() *cobra.Command {
	var out string
	cmd := s.command("keygen --out DIR/NAME", "pv.keygen")
	cmd.Args = s.args(0, 0)
	cmd.Flags().StringVar(&out, "out", "", s.T("flag.key-out"))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if out == "" {
			return s.usage(cmd, s.T("error.flag-needed", "--out"))
		}
		return s.generateKey(out)
	}
	return cmd
}

// generateKey writes NAME.key, which only its owner may read, and NAME.pub; it never overwrites a file.
func (s *session) generateKey(out string) error {
	_, private, public, err := envelope.GenerateKey()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o700); err != nil {
		return wrap("write the keys", err)
	}
	if err := writeNew(out+".key", private, 0o600); err != nil {
		return err
	}
	if err := writeNew(out+".pub", public, 0o644); err != nil {
		return err
	}
	s.say("pv.keygen-done", out+".key", out+".pub")
	return s.print(string(public))
}

func writeNew(file string, text []byte, mode os.FileMode) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return wrap("write a key", err)
	}
	if _, err := f.Write(text); err != nil {
		f.Close()
		return wrap("write a key", err)
	}
	return wrap("write a key", f.Close())
}
