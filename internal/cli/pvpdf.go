// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/pv/pdf"
	"gitlab.com/dynors/sirrat/internal/version"
)

type pdfOptions struct {
	output    *format
	name, out string
	force     bool
}

func (s *session) pvPDFCommand() *cobra.Command {
	var o pdfOptions
	cmd := s.command("pdf NAME [--out FILE]", "pv.pdf")
	cmd.Args = s.args(1, 1)
	cmd.ValidArgsFunction = s.completion("kind.pv")
	o.output = s.outputFlag(cmd)
	cmd.Flags().StringVar(&o.out, "out", "", s.T("flag.pdf-out"))
	cmd.Flags().BoolVar(&o.force, "force", false, s.T("flag.force"))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.name = args[0]
		return s.pvPDF(cmd.Context(), o)
	}
	return cmd
}

// writtenPDF is `pv pdf` for programs.
type writtenPDF struct {
	File string `json:"file"`
	Hash string `json:"hash"`
	// Stated is the hash that the PV states; absent when it states none.
	Stated string `json:"stated,omitempty"`
}

func (s *session) pvPDF(ctx context.Context, o pdfOptions) error {
	p, err := s.readPV(ctx, o.name)
	if err != nil {
		return err
	}
	if err := s.checkDocument(p); err != nil {
		return err
	}
	page, hash, err := s.renderPV(p)
	if err != nil {
		return err
	}
	if o.out == "" {
		o.out = p.Namespace + "-" + p.Name + ".pdf"
	}
	if err := s.writeFile(o.out, page, o.force); err != nil {
		return err
	}
	stated := statedPDFHash(p)
	if o.output.structured() {
		return s.emit(*o.output, writtenPDF{o.out, hash, stated})
	}
	if stated == "" {
		s.say("pv.pdf-unstated", o.out, hash, p.Name)
		return nil
	}
	s.say("pv.pdf-written", o.out, hash, p.Name)
	return nil
}

// statedPDFHash is the hash of the page that counts: with the decision once there is one.
func statedPDFHash(p *v1alpha1.PV) string {
	if p.Status.Decision != "" {
		return p.Status.PDFHash
	}
	return p.Spec.PDFHash
}

// renderPV gives out no page but the one whose hash the PV states.
func (s *session) renderPV(p *v1alpha1.PV) (page []byte, hash string, err error) {
	if page, err = pdf.Of(p); err != nil {
		return nil, "", err
	}
	hash = envelope.Hash(page)
	if stated := statedPDFHash(p); stated != "" && stated != hash {
		return nil, "", &failure{
			text: s.T("error.pdf-hash", hash, p.Name, stated), hint: s.T("hint.pdf-hash", version.Version), code: exitCheck,
		}
	}
	return page, hash, nil
}

// writeFile writes a file that is there whole or not at all, over another one only with force.
func (s *session) writeFile(file string, data []byte, force bool) error {
	exists := func() error { return s.fail("error.file-exists", file).with(s.T("hint.force")) }
	if _, err := os.Lstat(file); err == nil && !force {
		return exists()
	}
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*")
	if err != nil {
		return wrap("write "+file, err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already after a rename
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err != nil {
		return wrap("write "+file, err)
	}
	if force {
		return wrap("write "+file, os.Rename(f.Name(), file))
	}
	// Unlike a rename, a link fails when somebody else was faster.
	if err := os.Link(f.Name(), file); errors.Is(err, fs.ErrExist) {
		return exists()
	} else if err != nil { // a file system without links
		return wrap("write "+file, os.Rename(f.Name(), file))
	}
	return nil
}
