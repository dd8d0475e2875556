// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gitlab.com/dynors/sirrat/internal/cli/view"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/journal"
)

func (s *session) auditCommand() *cobra.Command {
	return s.group("audit", "audit", s.auditShowCommand(), s.auditExportCommand(), s.auditVerifyCommand())
}

func (s *session) auditFlags(cmd *cobra.Command, o *auditOptions) {
	flags := cmd.Flags()
	flags.StringVar(&o.apiURL, "api-url", "", s.T("flag.api-url"))
	flags.StringVar(&o.archive, "archive", "", s.T("flag.archive"))
	flags.StringVar(&o.projectUID, "project-uid", "", s.T("flag.project-uid"))
	run := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case o.projectUID != "" && o.archive == "":
			return s.usage(cmd, s.T("error.flag-needs", "--project-uid", "--archive"))
		case o.apiURL != "" && o.archive != "":
			return s.usage(cmd, s.T("error.flags-apart", "--api-url", "--archive"))
		case run != nil:
			return run(cmd, args)
		}
		return nil
	}
}

// showOptions say which entries are shown.
type showOptions struct {
	auditOptions
	release, kind string
	since         time.Time
}

func (s *session) auditShowCommand() *cobra.Command {
	var o showOptions
	var since string
	cmd := s.command("show [RELEASE] [--kind KIND] [--since TIME]", "audit.show")
	cmd.Args = s.args(0, 1)
	cmd.ValidArgsFunction = s.completion("kind.release")
	cmd.Flags().StringVar(&o.kind, "kind", "", s.T("flag.audit-kind", kindWords()))
	cmd.Flags().StringVar(&since, "since", "", s.T("flag.audit-since"))
	must(cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(strings.Split(kindWords(), ", "), cobra.ShellCompDirectiveNoFileComp)))
	output := s.outputFlag(cmd, wide)
	s.auditFlags(cmd, &o.auditOptions)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			o.release = args[0]
		}
		if i := slices.IndexFunc(journal.Kinds, func(k journal.Kind) bool { return strings.EqualFold(string(k), o.kind) }); i >= 0 {
			o.kind = string(journal.Kinds[i])
		} else if o.kind != "" {
			return s.usage(cmd, s.T("error.audit-kind", o.kind, kindWords()))
		}
		if since != "" {
			var ok bool
			if o.since, ok = s.moment(since); !ok {
				return s.usage(cmd, s.T("error.since", since))
			}
		}
		return s.showAudit(cmd.Context(), o, *output)
	}
	return cmd
}

func kindWords() string {
	var words []string
	for _, k := range journal.Kinds {
		words = append(words, string(k))
	}
	return strings.Join(words, ", ")
}

// moment reads a date, a time (RFC 3339), or how long ago: 90m, 36h, 7d.
func (s *session) moment(text string) (time.Time, bool) {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, true
	}
	if t, err := time.ParseInLocation(time.DateOnly, text, s.Zone); err == nil {
		return t, true
	}
	if days, found := strings.CutSuffix(text, "d"); found {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return s.Now().AddDate(0, 0, -int(n)), true //nolint:gosec // 16 bits
		}
	}
	d, err := time.ParseDuration(text)
	return s.Now().Add(-d), err == nil && d >= 0
}

// shownEntry is an entry for programs: with its hash, which is not part of what is hashed.
type shownEntry struct {
	journal.Entry `json:",inline"`
	Hash          string `json:"hash"`
}

// showAudit reads the whole chain, so that a break anywhere is noticed, and shows what was asked for.
func (s *session) showAudit(ctx context.Context, o showOptions, f format) error {
	shown := []journal.Entry{}
	any := false
	for e, err := range s.entries(ctx, o.auditOptions) {
		if err != nil {
			return err
		}
		any = true
		if (o.kind == "" || string(e.Kind) == o.kind) && !e.Time.Before(o.since) && (o.release == "" || aboutRelease(e, o.release)) {
			shown = append(shown, e)
		}
	}
	if f.structured() {
		out := make([]shownEntry, len(shown))
		for i, e := range shown {
			out[i] = shownEntry{e, e.Hash}
		}
		return s.emit(f, out)
	}
	if len(shown) == 0 {
		if any {
			s.say("audit.no-match")
		} else {
			s.say("audit.none")
		}
		return nil
	}
	return s.print(view.Journal(shown, f == wide, s.screen()))
}

// aboutRelease tells whether an entry is about a release, by its name, its uid or the beginning of its commit.
func aboutRelease(e journal.Entry, name string) bool {
	var d struct {
		Release json.RawMessage `json:"release"`
		UID     string          `json:"uid"`
		PV      string          `json:"pv"`
		Spec    struct {
			Commit string `json:"commit"`
		} `json:"spec"`
	}
	if json.Unmarshal(e.Data, &d) != nil {
		return false
	}
	var plain string
	var whole struct{ Name, UID, Commit string }
	_ = json.Unmarshal(d.Release, &plain) // a name, or a PV's release: one of the two reads it
	_ = json.Unmarshal(d.Release, &whole)
	commit := func(c string) bool { return len(name) >= 7 && strings.HasPrefix(c, name) }
	return slices.Contains([]string{plain, whole.Name, whole.UID, d.UID, d.PV}, name) || commit(whole.Commit) || commit(d.Spec.Commit)
}

// trustOptions are the keys that somebody got some other way.
type trustOptions struct{ publicKeys, clientKeys []string }

func (s *session) trustFlags(cmd *cobra.Command, o *trustOptions) {
	cmd.Flags().StringArrayVar(&o.publicKeys, "public-key", nil, s.T("flag.installation-key"))
	cmd.Flags().StringArrayVar(&o.clientKeys, "client-key", nil, s.T("flag.client-key"))
}

func (s *session) trust(o trustOptions) (journal.Trust, error) {
	keys, err := s.publicKeyFiles(o.publicKeys)
	if err != nil {
		return journal.Trust{}, err
	}
	clientKeys, err := s.publicKeyFiles(o.clientKeys)
	return journal.Trust{Keys: keys, ClientKeys: clientKeys}, err
}

func (s *session) publicKeyFiles(files []string) ([]envelope.PublicKey, error) {
	keys, err := readPublicKeys(files)
	if err != nil {
		return nil, &failure{text: err.Error(), hint: s.T("hint.public-key"), code: exitError, cause: err}
	}
	return keys, nil
}

func (s *session) auditVerifyCommand() *cobra.Command {
	var o trustOptions
	cmd := s.command("verify DIR [--public-key FILE...] [--client-key FILE...]", "audit.verify")
	cmd.Args = s.args(1, 1)
	cmd.ValidArgsFunction = nil // folders
	s.trustFlags(cmd, &o)
	output := s.outputFlag(cmd)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		trust, err := s.trust(o)
		if err != nil {
			return err
		}
		return s.verifyAudit(args[0], trust, *output)
	}
	return cmd
}

// auditReport is `audit verify` for programs.
type auditReport struct {
	OK         bool                   `json:"ok"`
	Project    string                 `json:"project"`
	ProjectUID string                 `json:"projectUID"`
	Entries    int64                  `json:"entries"`
	Kinds      map[journal.Kind]int64 `json:"kinds"`
	First      time.Time              `json:"first,omitzero"`
	Last       time.Time              `json:"last,omitzero"`
	Head       string                 `json:"head"`
	Exported   time.Time              `json:"exported,omitzero"`
	Documents  int64                  `json:"documents"`
	Signatures int64                  `json:"signatures"`
	KeyIDs     []string               `json:"keyIDs"`
	// OwnKeys: the folder's own keys were believed, since none were given.
	OwnKeys  bool           `json:"ownKeys"`
	Problems []auditProblem `json:"problems"`
}

type auditProblem struct {
	File    string `json:"file"`
	Seq     int64  `json:"seq,omitempty"`
	Message string `json:"message"`
}

func (s *session) verifyAudit(dir string, trust journal.Trust, f format) error {
	r, err := journal.Verify(dir, trust)
	if err != nil {
		return &failure{text: err.Error(), code: exitError, cause: err}
	}
	return s.tellReport(r, dir, f)
}

// tellReport shows what a verification found; the error is for problems, with the exit code of a check that does not hold.
func (s *session) tellReport(r journal.Report, dir string, f format) error {
	if f.structured() {
		out := auditReport{
			OK: r.OK(), Project: r.Project, ProjectUID: r.ProjectUID, Entries: r.Entries, Kinds: r.Kinds, First: r.First, Last: r.Last,
			Head: r.Head, Exported: r.Exported, Documents: r.Documents, Signatures: r.Signatures, KeyIDs: append([]string{}, r.KeyIDs...),
			OwnKeys: r.OwnKeys, Problems: []auditProblem{},
		}
		for _, p := range r.Problems {
			out.Problems = append(out.Problems, auditProblem{p.File, p.Seq, p.Message})
		}
		if err := s.emit(f, out); err != nil {
			return err
		}
	} else if err := s.print(view.Verified(r, s.screen())); err != nil {
		return err
	}
	if !r.OK() {
		return &failure{text: s.T("error.audit-problems", dir, len(r.Problems)), hint: s.T("hint.audit-problems"), code: exitCheck}
	}
	if r.OwnKeys {
		s.say("audit.own-keys", strings.Join(r.KeyIDs, ", "))
	}
	return nil
}

// exportOptions say what is exported and where to.
type exportOptions struct {
	auditOptions
	trustOptions
	dir, signingKey string
}

func (s *session) auditExportCommand() *cobra.Command {
	var o exportOptions
	cmd := s.command("export DIR [--public-key FILE...]", "audit.export")
	cmd.Args = s.args(1, 1)
	cmd.ValidArgsFunction = nil // folders
	s.trustFlags(cmd, &o.trustOptions)
	cmd.Flags().StringVar(&o.signingKey, "signing-key", "", s.T("flag.signing-key"))
	output := s.outputFlag(cmd)
	s.auditFlags(cmd, &o.auditOptions)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.dir = args[0]
		if (o.archive != "") != (o.signingKey != "") {
			return s.usage(cmd, s.T("error.flags-together", "--archive", "--signing-key"))
		}
		trust, err := s.trust(o.trustOptions)
		if err != nil {
			return err
		}
		return s.exportAudit(cmd.Context(), o, trust, *output)
	}
	return cmd
}

// exportAudit makes an export, verifies it, and only then lets it appear under its name.
func (s *session) exportAudit(ctx context.Context, o exportOptions, trust journal.Trust, f format) error {
	place, err := s.newFolder(o.dir)
	if err != nil {
		return err
	}
	defer place.discard()
	project := ""
	if o.archive != "" {
		err = s.exportArchive(ctx, o, place.temp)
	} else {
		project, err = s.downloadExport(ctx, o, place.temp)
	}
	if err != nil {
		return err
	}
	r, err := journal.Verify(place.temp, trust)
	if err != nil {
		return &failure{text: err.Error(), code: exitError, cause: err}
	}
	if project != "" && r.Project != project {
		return &failure{text: s.T("error.audit-other-project", r.Project, project), code: exitCheck}
	}
	// What does not verify is kept too, as evidence; the exit code and the report say so.
	if err := place.keep(); err != nil {
		return &failure{text: err.Error(), code: exitError, cause: err}
	}
	s.say("audit.exported", o.dir)
	return s.tellReport(r, o.dir, f)
}

// exportArchive exports from an archive's folder, signed with a key that the caller has.
func (s *session) exportArchive(ctx context.Context, o exportOptions, dir string) error {
	text, err := os.ReadFile(o.signingKey)
	if err != nil {
		return &failure{text: err.Error(), code: exitError, cause: err}
	}
	signer, err := envelope.ParsePrivateKey(text)
	if err != nil {
		return wrap("read the key "+o.signingKey, err)
	}
	store, uid, err := s.openArchive(ctx, o.auditOptions)
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }() // opened to be read
	j, err := journal.Open(store, signer, s.Now, nil)
	if err != nil {
		return err
	}
	keys := map[string]string{}
	given, err := s.publicKeyFiles(o.publicKeys)
	if err != nil {
		return err
	}
	for _, key := range given {
		encoded, err := envelope.EncodePublicKey(key.Key)
		if err != nil {
			return err
		}
		keys[key.ID] = string(encoded)
	}
	var clientKeys []string
	for _, file := range o.clientKeys {
		text, err := os.ReadFile(file)
		if err != nil {
			return &failure{text: err.Error(), code: exitError, cause: err}
		}
		clientKeys = append(clientKeys, string(text))
	}
	return j.Export(ctx, uid, dir, keys, clientKeys)
}
