// SPDX-License-Identifier: Apache-2.0

package signing

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/pv"
)

// # Why a link signs once, and is not lost when signing fails
//
// Two objects are written, the PV and the invitation, and no transaction spans them. The PV alone decides: its signature is
// written under its resourceVersion, and only while it is open (no decision, no signature that may still become one). So of
// two confirmations, by one link or by several, one write succeeds; the other meets a conflict, looks again, finds the PV
// closed and says so. The resourceVersion also covers the annotation that revokes links.
//
// The invitation is marked as used after the controllers verified the decision, and not before: a write to the PV that fails
// leaves the link as it was. A crash in between leaves a link that is not marked, but it cannot sign, since the PV is closed,
// and the PV's own verified status says that this link was used (signedBy). A write of which no answer came is looked up: the
// PV carries the very signature, or it does not.

const (
	// verifyTimeout bounds the wait for the controllers; what they do later is shown by the next look.
	verifyTimeout = 10 * time.Second
	verifyPoll    = 100 * time.Millisecond
)

var (
	errClosed = errors.New("the PV was signed meanwhile")
	errOther  = errors.New("not the document that was shown")
)

// postDecide is the form of the decision: one more row, back from the confirmation, or on to it.
func (p *Page) postDecide(r *request) error {
	if ok, err := p.signed(r); !ok {
		return err
	}
	if !open(r.visit.pv) {
		return p.renderState(r, http.StatusConflict, newDraft(), nil)
	}
	d := parseDraft(r.PostForm)
	switch r.PostForm.Get("action") {
	case "add":
		if len(d.Rows) < maxRows {
			d.Rows = append(d.Rows, row{})
		}
		return p.render(r, http.StatusOK, "document", func(m *model) { m.Draft, m.Focus = d, "text-"+strconv.Itoa(len(d.Rows)) })
	case "edit":
		return p.render(r, http.StatusOK, "document", func(m *model) { m.Draft, m.Focus = d, "decision" })
	}
	if errs := d.check(p.o.Now()); len(errs) > 0 {
		return p.render(r, http.StatusUnprocessableEntity, "document", func(m *model) { m.Draft, m.Errors = d, errs })
	}
	return p.render(r, http.StatusOK, "confirm", func(m *model) { m.Draft = d })
}

// postSign signs what the confirmation repeated.
func (p *Page) postSign(r *request) error {
	if ok, err := p.signed(r); !ok {
		return err
	}
	d := parseDraft(r.PostForm)
	if errs := d.check(p.o.Now()); len(errs) > 0 {
		return p.render(r, http.StatusUnprocessableEntity, "document", func(m *model) { m.Draft, m.Errors = d, errs })
	}
	v := r.visit
	signature, err := p.sign(r.Context(), v, d, r.PostForm.Get("uid"), r.PostForm.Get("document"))
	switch {
	case errors.Is(err, errClosed):
		return p.renderState(r, http.StatusConflict, newDraft(), nil)
	case errors.Is(err, errOther):
		return &problem{status: http.StatusConflict, title: "other.title", detail: "other.detail"}
	case errors.Is(err, pv.ErrInvalid):
		return &problem{status: http.StatusUnprocessableEntity, title: "bad.title", detail: "bad.detail", cause: err}
	case err != nil:
		return unavailableUnless(err)
	}
	p.o.Log.Info("a PV was signed on the page", "project", v.pv.Namespace, "pv", v.pv.Name, "decision", d.Decision)
	if p.verified(r.Context(), v, signature) {
		// Not marking is no harm: see above.
		now := p.o.Now().UTC()
		if err := p.change(context.WithoutCancel(r.Context()), r.token, func(inv *invitation) error {
			inv.Used = &now
			return nil
		}); err != nil {
			p.o.Log.Error(err, "a used link was not marked; the PV says that it was used", "project", v.pv.Namespace, "pv", v.pv.Name)
		}
	}
	return p.redirect(r, "")
}

// sign writes the decision into exactly the PV that was shown, and returns the signature. v.pv is then what was written.
func (p *Page) sign(ctx context.Context, v *visit, d *draft, uid, documentHash string) (string, error) {
	var signature string
	err := retry.OnError(patience, apierrors.IsConflict, func() error {
		// Read here, and all judged again: what was loaded for the request may be older than the conflict.
		_, obj, err := p.subject(ctx, v.inv)
		if err != nil {
			return err
		}
		if string(obj.UID) != uid || obj.Spec.DocumentHash != documentHash {
			return errOther
		}
		v.pv = obj
		if !open(obj) {
			return errClosed
		}
		decision := pv.NewDecision(obj, v1alpha1.PVDecision(d.Decision), v.inv.Signatory, p.o.Now())
		decision.Reason, decision.Reservations = d.Reason, d.reservations()
		decision.Method, decision.Email = v1alpha1.MethodPage, v.inv.Email
		if signature, err = pv.Sign(ctx, decision, p.o.Signer); err != nil {
			return err
		}
		if len(signature) > envelope.MaxSize {
			return &problem{status: http.StatusRequestEntityTooLarge, title: "large.title", detail: "large.detail"}
		}
		changed := obj.DeepCopy()
		changed.Spec.Signature = signature
		err = p.o.Client.Patch(ctx, changed, client.MergeFromWithOptions(obj, client.MergeFromWithOptimisticLock{}))
		if err == nil || apierrors.IsConflict(err) {
			return err
		}
		return p.unanswered(ctx, v, signature, fmt.Errorf("write the signature of PV %s/%s: %w", obj.Namespace, obj.Name, err))
	})
	return signature, err
}

// unanswered looks whether a write that failed was made all the same: its answer may have been lost.
func (p *Page) unanswered(ctx context.Context, v *visit, signature string, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), verifyTimeout)
	defer cancel()
	var obj v1alpha1.PV
	if err := p.o.APIReader.Get(ctx, client.ObjectKeyFromObject(v.pv), &obj); err == nil && obj.Spec.Signature == signature {
		return nil
	}
	return cause
}

// verified waits until the controllers judged the signature, and says whether they took it.
func (p *Page) verified(ctx context.Context, v *visit, signature string) bool {
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	ticker := time.NewTicker(verifyPoll)
	defer ticker.Stop()
	for {
		var obj v1alpha1.PV
		if err := p.o.APIReader.Get(ctx, client.ObjectKeyFromObject(v.pv), &obj); err == nil {
			if obj.Status.Decision != "" {
				return obj.Status.SignatureHash == envelope.Hash([]byte(signature))
			}
			if obj.Spec.Signature != signature || refused(&obj) {
				return false
			}
		}
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
		}
	}
}
