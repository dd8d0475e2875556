// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/reenrol"
)

// Bounds of re-enrolment.
const (
	// reenrolLifetime is what agents ask for at their enrolment too.
	reenrolLifetime = 30 * 24 * time.Hour
	// issueTimeout is how long a certificate is waited for; the agent comes again, and gets the answer to the same request.
	issueTimeout = 20 * time.Second
	issuePoll    = 200 * time.Millisecond
	// maxReenrolments at a time, and proofs looked at per second: each costs two signature checks and a read.
	maxReenrolments = 16
	reenrolRate     = 20
	reenrolBurst    = 100
)

// Reenrolments judges whether an agent may have a new certificate. An error that is a Refusal is told to the agent; any
// other means that it could not be judged.
type Reenrolments func(ctx context.Context, host string, proof reenrol.Proof) error

// Refusal is a judgement, whose words are for the agent's log.
type Refusal struct{ Err error }

// Error implements error.
func (r Refusal) Error() string { return r.Err.Error() }

// Unwrap returns what was refused.
func (r Refusal) Unwrap() error { return r.Err }

var hostName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,48}[a-z0-9])?$`)

// postCertificate takes the proof of an agent whose certificate has expired. There is no token: the proof is all. It makes a
// request for a certificate with the proof attached, which the controllers judge again and approve. Sent again, by whomever,
// it leads to the same certificate, which is of use to the holder of its key only.
func (a *api) postCertificate(w http.ResponseWriter, r *http.Request) error {
	if a.o.Reenrol == nil {
		return unavailable("agents cannot come back through this server", time.Minute, nil)
	}
	host := r.PathValue("name")
	if !hostName.MatchString(host) {
		return newProblem(http.StatusNotFound, "no-such-host", "There is no host of this name", "")
	}
	if !a.proofs.Allow() {
		return unavailable("too many agents at a time", 10*time.Second, nil)
	}
	body, err := a.readBody(w, r)
	if err != nil {
		return err
	}
	var proof reenrol.Proof
	if err := envelope.DecodeStrict(body, &proof); err != nil {
		return invalid([]FieldError{{Detail: "not a proof: " + err.Error()}})
	}
	select {
	case a.reenrolments <- struct{}{}:
		defer func() { <-a.reenrolments }()
	default:
		return unavailable("too many agents at a time", 10*time.Second, nil)
	}
	var csr *certificatesv1.CertificateSigningRequest
	err = a.withStore(r.Context(), func(ctx context.Context) (err error) {
		if err := a.o.Reenrol(ctx, host, proof); err != nil {
			return err
		}
		csr, err = a.requestCertificate(ctx, host, proof)
		return err
	})
	var refusal Refusal
	var problem *Problem
	switch {
	case errors.As(err, &refusal):
		return newProblem(http.StatusForbidden, "not-proven", "The host gets no certificate", refusal.Error())
	case errors.As(err, &problem):
		return err
	case err != nil:
		return unavailable("the request could not be made", 10*time.Second, err)
	}
	certificate, err := a.awaitCertificate(r.Context(), csr.Name)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, "application/json", reenrol.Answer{Certificate: string(certificate)})
	return nil
}

// requestCertificate makes the request, or finds the one that was made for the same key before.
func (a *api) requestCertificate(ctx context.Context, host string, proof reenrol.Proof) (*certificatesv1.CertificateSigningRequest, error) {
	text, err := json.Marshal(proof)
	if err != nil {
		return nil, fmt.Errorf("encode proof: %w", err)
	}
	seconds := int32(reenrolLifetime / time.Second)
	hash := strings.TrimPrefix(envelope.Hash([]byte(proof.Request)), "sha256:")
	csr := &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{
			Name:        "sirrat-agent-" + host + "-again-" + hash[:20],
			Labels:      map[string]string{v1alpha1.LabelReenrolment: host},
			Annotations: map[string]string{v1alpha1.AnnotationProof: string(text)},
		},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request: []byte(proof.Request), SignerName: certificatesv1.KubeAPIServerClientSignerName, ExpirationSeconds: &seconds,
			Usages: []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth, certificatesv1.UsageDigitalSignature},
		},
	}
	err = a.o.Client.Create(ctx, csr)
	if apierrors.IsAlreadyExists(err) {
		existing := &certificatesv1.CertificateSigningRequest{}
		if err := a.o.APIReader.Get(ctx, client.ObjectKeyFromObject(csr), existing); err != nil {
			return nil, fmt.Errorf("read request: %w", err)
		}
		if !slices.Equal(existing.Spec.Request, csr.Spec.Request) {
			return nil, newProblem(http.StatusConflict, "conflict", "Another request has this name", "make a new key")
		}
		return existing, nil
	}
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	return csr, nil
}

// awaitCertificate waits until the request is signed or refused.
func (a *api) awaitCertificate(ctx context.Context, name string) ([]byte, error) {
	timeout := time.After(issueTimeout)
	ticker := time.NewTicker(issuePoll)
	defer ticker.Stop()
	for {
		csr := &certificatesv1.CertificateSigningRequest{}
		err := a.withStore(ctx, func(ctx context.Context) error {
			return a.o.APIReader.Get(ctx, client.ObjectKey{Name: name}, csr)
		})
		if err != nil {
			return nil, unavailable("the request could not be read", 10*time.Second, err)
		}
		for _, c := range csr.Status.Conditions {
			refused := c.Type == certificatesv1.CertificateDenied || c.Type == certificatesv1.CertificateFailed
			if refused && c.Status == corev1.ConditionTrue {
				return nil, newProblem(http.StatusForbidden, "not-proven", "The host gets no certificate", c.Message)
			}
		}
		if len(csr.Status.Certificate) > 0 {
			return csr.Status.Certificate, nil
		}
		select {
		case <-ctx.Done():
			return nil, unavailable("the client went away", time.Second, ctx.Err())
		case <-a.o.Stopping:
			return nil, unavailable("the server is stopping", time.Second, nil)
		case <-timeout:
			return nil, unavailable("the certificate is not signed yet: send the same again", 5*time.Second, nil)
		case <-ticker.C:
		}
	}
}
