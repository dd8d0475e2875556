// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/internal/apitoken"
	"gitlab.com/dynors/sirrat/internal/archive"
	"gitlab.com/dynors/sirrat/internal/journal"
)

// auditTokenLife is how long the token of one audit opens the journal if it cannot be deleted afterwards.
const auditTokenLife = 5 * time.Minute

// auditOptions say where a journal is read.
type auditOptions struct {
	apiURL, archive, projectUID string
}

// namedProject is the project that -n names; without -n, as for every other command. Only the latter needs a cluster.
func (s *session) namedProject(ctx context.Context) (string, error) {
	if n := s.flags.Namespace; n != nil && *n != "" {
		return *n, nil
	}
	return s.project(ctx)
}

// auditAPI is the HTTP API with a token that opens the project's journal: that of $SIRRAT_AUDIT_TOKEN, or one that is made
// with the caller's own rights and deleted by done.
func (s *session) auditAPI(ctx context.Context, project, apiURL string) (a *api, done func(), err error) {
	if a, err = s.api(ctx, apiURL); err != nil {
		return nil, nil, err
	}
	if a.token = s.Getenv("SIRRAT_AUDIT_TOKEN"); a.token != "" {
		return a, func() {}, nil
	}
	c, err := s.client()
	if err != nil {
		return nil, nil, err
	}
	plaintext, secret, err := apitoken.NewScoped(project, apitoken.ScopeAudit, "kubectl sirrat audit", s.Now().Add(auditTokenLife))
	if err != nil {
		return nil, nil, err
	}
	switch err := c.Create(ctx, secret); {
	case apierrors.IsForbidden(err):
		return nil, nil, s.fail("error.audit-forbidden", project).with(s.T("hint.audit-forbidden", project))
	case apierrors.IsNotFound(err): // the namespace
		return nil, nil, s.fail("error.audit-no-project", project).with(s.T("hint.audit-no-project"))
	case err != nil:
		return nil, nil, err
	}
	a.token = plaintext
	return a, func() { s.deleteAuditToken(context.WithoutCancel(ctx), c, secret) }, nil
}

func (s *session) deleteAuditToken(ctx context.Context, c client.Client, secret *corev1.Secret) {
	ctx, cancel := context.WithTimeout(ctx, cleanupTimeout)
	defer cancel()
	if err := c.Delete(ctx, secret, client.Preconditions{UID: &secret.UID}); err != nil && !apierrors.IsNotFound(err) {
		s.say("audit.token-left", tokenRow(secret).ID, auditTokenLife)
	}
}

// entries are those of the journal, verified to be one whole chain, from wherever the options say.
func (s *session) entries(ctx context.Context, o auditOptions) iter.Seq2[journal.Entry, error] {
	return func(yield func(journal.Entry, error) bool) {
		var err error
		if o.archive != "" {
			err = s.entriesOfArchive(ctx, o, yield)
		} else {
			err = s.entriesOfAPI(ctx, o, yield)
		}
		if errors.Is(err, journal.ErrBroken) || errors.Is(err, journal.ErrMalformed) || errors.Is(err, archive.ErrCorrupt) {
			err = &failure{text: s.T("error.journal-broken", err), code: exitCheck, cause: err}
		}
		if err != nil {
			yield(journal.Entry{}, err)
		}
	}
}

func (s *session) entriesOfAPI(ctx context.Context, o auditOptions, yield func(journal.Entry, error) bool) error {
	project, err := s.namedProject(ctx)
	if err != nil {
		return err
	}
	a, done, err := s.auditAPI(ctx, project, o.apiURL)
	if err != nil {
		return err
	}
	defer done()
	body, err := s.send(ctx, a, http.MethodGet, "/projects/"+url.PathEscape(project)+"/audit/entries", nil)
	if err != nil {
		return err
	}
	defer body.Close()
	lines := bufio.NewReaderSize(body, archive.MaxLine+1)
	uid, seq, hash := "", int64(0), ""
	for {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return nil
		}
		if err != nil {
			return s.fail("error.audit-cut-off", err)
		}
		e, err := journal.ParseLine(line[:len(line)-1])
		if err != nil {
			return fmt.Errorf("after seq %d: %w", seq, err)
		}
		if seq == 0 {
			uid, hash = e.ProjectUID, journal.Genesis(e.ProjectUID)
		}
		if err := journal.Follow(e, uid, seq, hash); err != nil {
			return err
		}
		if e.Project != project {
			return s.fail("error.audit-other-project", e.Project, project)
		}
		if !yield(e, nil) {
			return nil
		}
		seq, hash = e.Seq, e.Hash
	}
}

func (s *session) entriesOfArchive(ctx context.Context, o auditOptions, yield func(journal.Entry, error) bool) error {
	store, uid, err := s.openArchive(ctx, o)
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }() // opened to be read
	for e, err := range journal.Read(ctx, store, uid, 1) {
		if err != nil {
			return err
		}
		if !yield(e, nil) {
			return nil
		}
	}
	return nil
}

// openArchive opens an archive's folder and finds the project in it: by uid, or by the name that -n gives, if that is clear.
func (s *session) openArchive(ctx context.Context, o auditOptions) (*archive.Reader, string, error) {
	store, err := archive.OpenReader(o.archive)
	if err != nil {
		return nil, "", &failure{text: err.Error(), hint: s.T("hint.archive"), code: exitError, cause: err}
	}
	uid, err := s.archivedProject(ctx, store, o)
	if err != nil {
		_ = store.Close() // opened to be read
		return nil, "", err
	}
	return store, uid, nil
}

func (s *session) archivedProject(ctx context.Context, store *archive.Reader, o auditOptions) (string, error) {
	uids, err := store.Logs(ctx)
	if err != nil {
		return "", err
	}
	name := ""
	if n := s.flags.Namespace; n != nil {
		name = *n
	}
	var known, found []string
	for _, uid := range uids {
		project, since := "?", ""
		for e, err := range journal.Read(ctx, store, uid, 1) {
			if err == nil {
				project, since = e.Project, e.Time.In(s.Zone).Format(time.DateOnly)
			}
			break
		}
		known = append(known, fmt.Sprintf("  %s  %s  %s", uid, since, project))
		if o.projectUID == uid || o.projectUID == "" && (name == "" || name == project) {
			found = append(found, uid)
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	if len(known) == 0 {
		return "", s.fail("error.archive-empty", o.archive)
	}
	hint := s.T("hint.archive-projects") + "\n" + strings.Join(known, "\n")
	if len(found) > 1 {
		return "", s.fail("error.archive-which").with(hint)
	}
	return "", s.fail("error.archive-none").with(hint)
}
