// SPDX-License-Identifier: Apache-2.0

package signing

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/page"
	"gitlab.com/dynors/sirrat/internal/pv"
)

// cookieName of the session. Its path is the link's, so that links do not see each other's.
const cookieName = "sirrat-pv"

// visit is what a request with a good link is about, as the API server has it now.
type visit struct {
	inv     *invitation
	project *v1alpha1.Project
	pv      *v1alpha1.PV
	doc     *pv.Document
	// session is the cookie's value when it is this link's own and not over; "" otherwise.
	session string
}

// load finds what a link leads to, or says that the link is dead. Reasons of a dead link that take more than one read of
// the API are known only to who holds a link that was good once.
func (p *Page) load(r *request) (*visit, error) {
	ctx := r.Context()
	if !wellFormed(r.token) {
		return nil, deadLink()
	}
	_, inv, err := p.readInvitation(ctx, r.token)
	if err != nil {
		return nil, unavailable(err)
	}
	now := p.o.Now()
	if inv == nil || !now.Before(inv.Expires) {
		return nil, deadLink()
	}
	v := &visit{inv: inv, session: sessionOf(r.Request, inv, now)}
	if inv.Used != nil && v.session == "" {
		return nil, deadLink()
	}
	if v.project, v.pv, err = p.subject(ctx, inv); err != nil {
		return nil, err
	}
	if signedBy(v.pv, inv) && v.session == "" { // a crash kept the link from being marked
		return nil, deadLink()
	}
	if v.doc, err = readDocument(v.pv); err != nil {
		return nil, failed(fmt.Errorf("PV %s/%s: %w", v.pv.Namespace, v.pv.Name, err))
	}
	return v, nil
}

// subject reads the project and the PV of an invitation, which must still invite.
func (p *Page) subject(ctx context.Context, inv *invitation) (*v1alpha1.Project, *v1alpha1.PV, error) {
	var project v1alpha1.Project
	if err := p.o.APIReader.Get(ctx, client.ObjectKey{Name: inv.Project}, &project); err != nil {
		return nil, nil, notThere(err, "project")
	}
	var obj v1alpha1.PV
	if err := p.o.APIReader.Get(ctx, client.ObjectKey{Namespace: inv.Project, Name: inv.PV}, &obj); err != nil {
		return nil, nil, notThere(err, "PV")
	}
	if !project.DeletionTimestamp.IsZero() || !obj.DeletionTimestamp.IsZero() || string(obj.UID) != inv.PVUID || inv.revoked(&obj) || !inv.forAnyOf(&project) {
		return nil, nil, deadLink()
	}
	return &project, &obj, nil
}

func notThere(err error, what string) error {
	if apierrors.IsNotFound(err) {
		return deadLink()
	}
	return unavailable(fmt.Errorf("read %s: %w", what, err))
}

// readDocument refuses what the page could not show in full: a field that this version does not know would be signed unseen.
func readDocument(obj *v1alpha1.PV) (*pv.Document, error) {
	if envelope.Hash([]byte(obj.Spec.Document)) != obj.Spec.DocumentHash {
		return nil, errors.New("the document does not have the hash that the PV states")
	}
	var doc pv.Document
	if err := envelope.DecodeStrict([]byte(obj.Spec.Document), &doc); err != nil {
		return nil, fmt.Errorf("read document: %w", err)
	}
	return &doc, nil
}

// open says whether the PV can be signed: it carries no decision, and no signature but one that the controllers refused.
func open(obj *v1alpha1.PV) bool {
	if obj.Status.Decision != "" || obj.Spec.Paper != nil {
		return false
	}
	return obj.Spec.Signature == "" || refused(obj)
}

func refused(obj *v1alpha1.PV) bool {
	c := meta.FindStatusCondition(obj.Status.Conditions, v1alpha1.ConditionReady)
	return c != nil && c.Reason == v1alpha1.ReasonBadSignature && c.ObservedGeneration == obj.Generation
}

// signedBy says whether the verified decision came through the link of an invitation. The controllers verified that the
// installation signed what they copied into the status, so that the signature need not be read again.
func signedBy(obj *v1alpha1.PV, inv *invitation) bool {
	return obj.Status.Decision != "" && (inv.Used != nil ||
		obj.Status.Method == v1alpha1.MethodPage && obj.Status.SignedBy == inv.Signatory)
}

func sessionOf(r *http.Request, inv *invitation, now time.Time) string {
	c, err := r.Cookie(cookieName)
	if err != nil || len(inv.SessionHash) == 0 || !now.Before(inv.SessionExpires) || !hmac.Equal(hashSession(c.Value), inv.SessionHash) {
		return ""
	}
	return c.Value
}

// formToken is in every form of a session. Only who knows the session can make it, and nothing of it is stored.
func formToken(session string) string {
	mac := hmac.New(sha256.New, []byte(session))
	mac.Write([]byte("form"))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// getDocument is the link itself: without a session it shows little and changes nothing.
func (p *Page) getDocument(r *request) error {
	if r.visit.session == "" {
		return p.render(r, http.StatusOK, "start", nil)
	}
	return p.renderState(r, http.StatusOK, newDraft(), nil)
}

// postCode mails a code. The code is counted and stored before the mail leaves, so that parallel requests get no more codes
// than one after the other.
func (p *Page) postCode(r *request) error {
	if r.visit.inv.Used != nil {
		return deadLink()
	}
	code, err := newCode()
	if err != nil {
		return err
	}
	salt := make([]byte, saltBytes)
	if _, err := rand.Read(salt); err != nil {
		return fmt.Errorf("generate salt: %w", err)
	}
	now := p.o.Now().UTC()
	if err := p.change(r.Context(), r.token, func(inv *invitation) error {
		recent := inv.Codes[:0]
		for _, at := range inv.Codes {
			if now.Sub(at) < time.Hour {
				recent = append(recent, at)
			}
		}
		if len(recent) >= codesPerHour {
			wait := recent[0].Add(time.Hour).Sub(now)
			return &problem{status: http.StatusTooManyRequests, title: "codes.title", detail: "codes.detail", args: []any{codesPerHour, minutes(wait)}, retryAfter: wait}
		}
		inv.Codes = append(recent, now)
		inv.CodeSalt, inv.CodeHash, inv.CodeExpires, inv.Attempts = salt, hashCode(r.token, salt, code), now.Add(codeValidity), 0
		return nil
	}); err != nil {
		return unavailableUnless(err)
	}
	v := r.visit
	if err := p.send(r.Context(), codeMail(r.language, v.project, v.pv, v.inv, code)); err != nil {
		// A code that never left does not count: a mail server that is down for a minute must not cost the hour.
		if undo := p.change(context.WithoutCancel(r.Context()), r.token, func(inv *invitation) error {
			if len(inv.Codes) > 0 && hmac.Equal(inv.CodeSalt, salt) {
				inv.Codes, inv.CodeHash = inv.Codes[:len(inv.Codes)-1], nil
			}
			return nil
		}); undo != nil {
			p.o.Log.Error(undo, "a code that was not sent counts", "project", v.pv.Namespace, "pv", v.pv.Name)
		}
		return &problem{status: http.StatusServiceUnavailable, title: "mail.down.title", detail: "mail.down.detail", retryAfter: time.Minute,
			cause: fmt.Errorf("mail a code to %s: %s", page.Mask(v.inv.Email), masked(err, v.inv.Email))}
	}
	p.o.Log.Info("a code to sign a PV was mailed", "project", v.pv.Namespace, "pv", v.pv.Name, "to", page.Mask(v.inv.Email))
	if d := carriedDraft(r.PostForm); d != nil {
		return p.render(r, http.StatusOK, "enter", func(m *model) { m.Draft, m.Carried = d, true })
	}
	return p.redirect(r, "/enter")
}

func minutes(d time.Duration) int { return int((d + time.Minute - 1) / time.Minute) }

func (p *Page) getEnter(r *request) error {
	return p.render(r, http.StatusOK, "enter", nil)
}

// postEnter checks a code. An attempt is counted in the same write that judges it: five guesses are five, however parallel.
func (p *Page) postEnter(r *request) error {
	if r.visit.inv.Used != nil {
		return deadLink()
	}
	draft := carriedDraft(r.PostForm)
	refuse := func(status int, text string, args ...any) error {
		return p.render(r, status, "enter", func(m *model) {
			m.Errors = []fieldError{{ID: "code", text: text, args: args}}
			if draft != nil {
				m.Draft, m.Carried = draft, true
			}
		})
	}
	code := strings.Join(strings.FieldsFunc(r.PostForm.Get("code"), func(c rune) bool { return c == ' ' || c == '-' || c == '.' || c == '\u00a0' }), "")
	if len(code) != codeDigits || strings.Trim(code, "0123456789") != "" {
		return refuse(http.StatusUnprocessableEntity, "enter.malformed", codeDigits)
	}
	session, err := newToken()
	if err != nil {
		return err
	}
	var stale, right bool
	var left int
	now := p.o.Now().UTC()
	if err := p.change(r.Context(), r.token, func(inv *invitation) error {
		stale, right = len(inv.CodeHash) == 0 || !now.Before(inv.CodeExpires) || inv.Attempts >= attemptsPerCode, false
		if stale {
			return nil
		}
		inv.Attempts++
		left = attemptsPerCode - inv.Attempts
		if right = hmac.Equal(hashCode(r.token, inv.CodeSalt, code), inv.CodeHash); right {
			inv.CodeHash, inv.CodeSalt, inv.CodeExpires, inv.Attempts = nil, nil, time.Time{}, 0 // a code opens one session
			inv.SessionHash, inv.SessionExpires = hashSession(session), now.Add(sessionValidity)
		}
		return nil
	}); err != nil {
		return unavailableUnless(err)
	}
	switch {
	case stale:
		return refuse(http.StatusUnprocessableEntity, "enter.stale")
	case !right && left == 0:
		return refuse(http.StatusUnprocessableEntity, "enter.last")
	case !right:
		return refuse(http.StatusUnprocessableEntity, "enter.wrong", left)
	}
	http.SetCookie(r.ResponseWriter, &http.Cookie{Name: cookieName, Value: session, Path: Prefix + r.token, MaxAge: int(sessionValidity / time.Second),
		HttpOnly: true, Secure: p.https, SameSite: http.SameSiteStrictMode})
	if draft != nil {
		r.visit.session = session
		return p.renderState(r, http.StatusOK, draft, nil)
	}
	return p.redirect(r, "")
}

// unavailableUnless keeps a page's own answers and makes a failing API "try again".
func unavailableUnless(err error) error {
	var bad *problem
	if errors.As(err, &bad) {
		return err
	}
	return unavailable(err)
}

// signed checks that a form comes from the session it was made for. What was typed in a session that is over is carried
// through a new code.
func (p *Page) signed(r *request) (ok bool, err error) {
	if r.visit.session == "" {
		if r.visit.inv.Used != nil {
			return false, deadLink()
		}
		draft := parseDraft(r.PostForm)
		return false, p.render(r, http.StatusForbidden, "start", func(m *model) {
			m.Draft, m.Carried, m.Over = draft, true, true
		})
	}
	if !hmac.Equal([]byte(r.PostForm.Get("form")), []byte(formToken(r.visit.session))) {
		return false, &problem{status: http.StatusForbidden, title: "forbidden.title", detail: "forbidden.form"}
	}
	return true, nil
}

func (p *Page) getPDF(r *request) error {
	if r.visit.session == "" {
		return p.render(r, http.StatusForbidden, "start", nil)
	}
	obj := r.visit.pv
	body, err := p.o.PDF(obj)
	if err != nil {
		return failed(fmt.Errorf("render PV %s/%s: %w", obj.Namespace, obj.Name, err))
	}
	want := obj.Spec.PDFHash
	if obj.Status.Decision != "" {
		want = obj.Status.PDFHash
	}
	if want != "" && envelope.Hash(body) != want { // the signature names the PDF that the signer could read
		return failed(fmt.Errorf("the PDF of PV %s/%s does not have the hash that the PV states", obj.Namespace, obj.Name))
	}
	h := r.ResponseWriter.Header()
	h.Set("Content-Type", "application/pdf")
	// The names of Kubernetes objects need no quoting; the project's name tells files of two projects apart.
	h.Set("Content-Disposition", fmt.Sprintf(`attachment; filename="pv-%s-%s.pdf"`, obj.Namespace, obj.Name))
	return write(r, http.StatusOK, body)
}
