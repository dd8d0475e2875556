// SPDX-License-Identifier: Apache-2.0

package authorization

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/pv"
)

// Reasons for which the client's signature does not cover a rollout; each is wrapped in the error that VerifyAcceptance
// returns.
var (
	ErrAcceptanceMissing = errors.New("this server demands the client's own signature, and the order has none")
	ErrAcceptanceKey     = errors.New("the acceptance is not signed by the client's key")
	ErrAcceptanceRefused = errors.New("the client did not accept")
	ErrAcceptanceOther   = errors.New("what the client accepted is not what is to run")
	ErrAcceptanceInvalid = errors.New("the acceptance cannot be read")
)

// VerifyAcceptance checks that the client, with one of keys, accepted exactly what a Rollout would run. It needs nothing of
// the control plane: whoever holds all of it, its signing keys included, cannot make up for the client's signature.
//
// What the client does not sign are the contents of Secrets, only which variables they provide: see CheckSecrets. An
// acceptance does not expire; one of an older release is as good as on its day.
func VerifyAcceptance(ctx context.Context, spec v1alpha1.RolloutSpec, keys []envelope.PublicKey) (*pv.Authorised, error) {
	if spec.Remove != nil {
		return nil, fmt.Errorf("%w: taking an environment down is nothing a client accepts by a PV; the server's owner does it there", ErrAcceptanceMissing)
	}
	if spec.Acceptance == nil || spec.Acceptance.Signature == "" {
		return nil, ErrAcceptanceMissing
	}
	d, err := decision(ctx, *spec.Acceptance, keys)
	if err != nil {
		return nil, err
	}
	if d.Decision != v1alpha1.PVAccepted && d.Decision != v1alpha1.PVAcceptedWithReservations {
		return nil, fmt.Errorf("%w: the decision of %s is %s", ErrAcceptanceRefused, d.SignedBy, d.Decision)
	}
	doc, err := document(spec.Acceptance.Document)
	if err != nil {
		return nil, err
	}
	if doc.Project != spec.Project || d.Namespace != spec.Project || doc.ReleaseUID != spec.Release.UID || doc.Commit != spec.Release.Commit {
		return nil, fmt.Errorf("%w: it is about release %s (%s) of %s", ErrAcceptanceOther, doc.Release, doc.ReleaseUID, doc.Project)
	}
	want, err := pv.Authorise(spec.Environment, spec.ComposeProject, spec.Compose, spec.Images, spec.Values, spec.HealthChecks, nil)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(doc.Authorises, func(a pv.Authorised) bool { return a.Environment == spec.Environment })
	if i < 0 {
		return nil, fmt.Errorf("%w: the PV authorises nothing for %s; a PV from before this was possible must be signed anew", ErrAcceptanceOther, spec.Environment)
	}
	if diff := doc.Authorises[i].Differs(want); diff != "" {
		return nil, fmt.Errorf("%w: %s", ErrAcceptanceOther, diff)
	}
	return &doc.Authorises[i], nil
}

// decision checks the signature over an acceptance and that it is about its document.
func decision(ctx context.Context, a v1alpha1.Acceptance, keys []envelope.PublicKey) (*pv.Decision, error) {
	payload, _, err := envelope.Verify(ctx, a.Signature, pv.PayloadType, keys)
	switch {
	case errors.Is(err, envelope.ErrUnknownKey):
		return nil, fmt.Errorf("%w: %w", ErrAcceptanceKey, err)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrAcceptanceInvalid, err)
	}
	var d pv.Decision
	if err := envelope.DecodeStrict(payload, &d); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAcceptanceInvalid, err)
	}
	if d.Method != "" && d.Method != v1alpha1.MethodKey {
		return nil, fmt.Errorf("%w: it was given by %s", ErrAcceptanceKey, d.Method)
	}
	if d.DocumentHash != envelope.Hash([]byte(a.Document)) {
		return nil, fmt.Errorf("%w: the signature is about another document", ErrAcceptanceOther)
	}
	return &d, nil
}

// document reads a PV's document. It must be in canonical form, so that it says the same to everybody who reads it.
func document(text string) (*pv.Document, error) {
	var doc pv.Document
	if err := envelope.DecodeStrict([]byte(text), &doc); err != nil {
		return nil, fmt.Errorf("%w: document: %w", ErrAcceptanceInvalid, err)
	}
	canonical, _, err := doc.Canonical()
	if err != nil {
		return nil, fmt.Errorf("%w: document: %w", ErrAcceptanceInvalid, err)
	}
	if canonical != text {
		return nil, fmt.Errorf("%w: the document is not in canonical form", ErrAcceptanceInvalid)
	}
	return &doc, nil
}

// CheckSecrets says whether Secrets provide no variable but those that the client signed for: another one could change what
// the compose file means.
func CheckSecrets(accepted pv.Authorised, names []string) error {
	var more []string
	for _, name := range names {
		if !slices.Contains(accepted.SecretNames, name) {
			more = append(more, name)
		}
	}
	if len(more) > 0 {
		slices.Sort(more)
		return fmt.Errorf("%w: Secrets provide %s, which the client did not sign for", ErrAcceptanceOther, strings.Join(more, ", "))
	}
	return nil
}
