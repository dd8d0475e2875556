// SPDX-License-Identifier: Apache-2.0

package signing

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// LabelInvitation marks the Secrets that hold invitations, in v1alpha1.SystemNamespace; its value is the uid of the PV.
// v1alpha1.LabelProject names the project.
const LabelInvitation = v1alpha1.Group + "/pv-invitation"

const (
	invitationType = corev1.SecretType(v1alpha1.Group + "/pv-invitation")
	invitationName = "pv-invitation-" // + hash of the token
	invitationKey  = "invitation"     // in the Secret's data: JSON

	tokenBytes = 32
	saltBytes  = 16
)

// Bounds of codes and sessions.
const (
	codeDigits      = 8
	codeValidity    = 15 * time.Minute
	codesPerHour    = 5
	attemptsPerCode = 5
	sessionValidity = time.Hour
)

// invitation is what is known of one link.
type invitation struct {
	Project   string `json:"project"`
	PV        string `json:"pv"`
	PVUID     string `json:"pvUID"`
	Signatory string `json:"signatory"`
	Email     string `json:"email"`
	// Send is the PV's v1alpha1.AnnotationSendLink when the link was made.
	Send    string    `json:"send,omitempty"`
	Expires time.Time `json:"expires"`

	// Sent says that a mail server took the link over. Nobody knows a link that was not sent: it is replaced by another,
	// not before RetryAt.
	Sent    bool      `json:"sent,omitempty"`
	Tries   int       `json:"tries,omitempty"`
	RetryAt time.Time `json:"retryAt,omitzero"`

	// Codes are when codes were sent in the last hour.
	Codes       []time.Time `json:"codes,omitempty"`
	CodeSalt    []byte      `json:"codeSalt,omitempty"`
	CodeHash    []byte      `json:"codeHash,omitempty"`
	CodeExpires time.Time   `json:"codeExpires,omitzero"`
	Attempts    int         `json:"attempts,omitempty"`

	SessionHash    []byte    `json:"sessionHash,omitempty"`
	SessionExpires time.Time `json:"sessionExpires,omitzero"`

	// Used is when the PV was signed by this link.
	Used *time.Time `json:"used,omitempty"`
}

// revoked says whether newer links were asked for. Removing the annotation asks for nothing.
func (inv *invitation) revoked(p *v1alpha1.PV) bool {
	want := p.Annotations[v1alpha1.AnnotationSendLink]
	return want != "" && want != inv.Send
}

func (inv *invitation) isFor(s v1alpha1.Signatory) bool {
	return inv.Signatory == s.Name && inv.Email == s.Email
}

// forAnyOf says whether the person may still sign for the client.
func (inv *invitation) forAnyOf(p *v1alpha1.Project) bool {
	return slices.ContainsFunc(p.Spec.Client.Signatories, inv.isFor)
}

func newToken() (string, error) {
	raw := make([]byte, tokenBytes)
	if _, err := rand.Read(raw); err != nil {
		return "", fmt.Errorf("generate token: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(raw), nil
}

// wellFormed says whether a text could be a token, so that nothing else reaches the API.
func wellFormed(token string) bool {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	return err == nil && len(raw) == tokenBytes && len(token) == base64.RawURLEncoding.EncodedLen(tokenBytes)
}

// nameOf is the name of the Secret of a token. Finding it by its hash compares no secret: the time that a lookup takes says
// nothing of a token that is not known already.
func nameOf(token string) string {
	sum := sha256.Sum256([]byte(token))
	return invitationName + hex.EncodeToString(sum[:])
}

// newCode is a number of codeDigits digits, all equally likely.
func newCode() (string, error) {
	limit := new(big.Int).Exp(big.NewInt(10), big.NewInt(codeDigits), nil)
	n, err := rand.Int(rand.Reader, limit)
	if err != nil {
		return "", fmt.Errorf("generate code: %w", err)
	}
	return fmt.Sprintf("%0*d", codeDigits, n), nil
}

// hashCode is keyed with the token, which is stored nowhere: who can read the Secret cannot try all codes, and a code fits
// one link.
func hashCode(token string, salt []byte, code string) []byte {
	mac := hmac.New(sha256.New, []byte(token))
	mac.Write(salt)
	mac.Write([]byte(code))
	return mac.Sum(nil)
}

func hashSession(session string) []byte {
	sum := sha256.Sum256([]byte(session))
	return sum[:]
}

func decode(s *corev1.Secret) (*invitation, error) {
	var inv invitation
	if err := json.Unmarshal(s.Data[invitationKey], &inv); err != nil {
		return nil, fmt.Errorf("invitation %s is damaged", s.Name) // the cause could quote it
	}
	return &inv, nil
}

func (p *Page) createInvitation(ctx context.Context, token string, inv *invitation) error {
	raw, err := json.Marshal(inv)
	if err != nil {
		return fmt.Errorf("encode invitation: %w", err)
	}
	s := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: nameOf(token), Labels: map[string]string{
			LabelInvitation: inv.PVUID, v1alpha1.LabelProject: inv.Project,
		}},
		Type: invitationType,
		Data: map[string][]byte{invitationKey: raw},
	}
	if err := p.o.Client.Create(ctx, s); err != nil {
		return fmt.Errorf("store invitation to PV %s/%s: %w", inv.Project, inv.PV, err)
	}
	return nil
}

// readInvitation returns nil when there is none.
func (p *Page) readInvitation(ctx context.Context, token string) (*corev1.Secret, *invitation, error) {
	var s corev1.Secret
	err := p.o.APIReader.Get(ctx, client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: nameOf(token)}, &s)
	if apierrors.IsNotFound(err) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read invitation: %w", err)
	}
	inv, err := decode(&s)
	return &s, inv, err
}

// patience with other writers of the same invitation: a person, their second window, the controller.
var patience = wait.Backoff{Steps: 8, Duration: 5 * time.Millisecond, Factor: 2, Jitter: 0.5}

// change applies a change to what is stored now, under an optimistic lock: when somebody else wrote in between, the change
// is judged again on what they wrote. It returns a dead link when the invitation is gone.
func (p *Page) change(ctx context.Context, token string, apply func(*invitation) error) error {
	return retry.OnError(patience, apierrors.IsConflict, func() error {
		s, inv, err := p.readInvitation(ctx, token)
		if err != nil {
			return err
		}
		if inv == nil {
			return deadLink()
		}
		if err := apply(inv); err != nil {
			return err
		}
		raw, err := json.Marshal(inv)
		if err != nil {
			return fmt.Errorf("encode invitation: %w", err)
		}
		s.Data = map[string][]byte{invitationKey: raw}
		err = p.o.Client.Update(ctx, s) // s carries the resourceVersion that was read
		if apierrors.IsNotFound(err) {
			return deadLink()
		}
		return err
	})
}
