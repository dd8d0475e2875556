// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/reenrol"
)

// clientCAs is where every API server publishes the CAs whose client certificates it accepts.
var clientCAs = client.ObjectKey{Namespace: metav1.NamespaceSystem, Name: "extension-apiserver-authentication"}

const clientCAFile = "client-ca-file"

// maxCertificateKeys is how many keys of a host are remembered that the agent was not seen to use yet: each is one renewal
// whose answer may have been lost.
const maxCertificateKeys = 4

// ReadClientCAs are the CAs that issue certificates for agents.
func ReadClientCAs(ctx context.Context, reader client.Reader) (*x509.CertPool, error) {
	var cm corev1.ConfigMap
	if err := reader.Get(ctx, clientCAs, &cm); err != nil {
		return nil, fmt.Errorf("read configmap %s: %w", clientCAs, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(cm.Data[clientCAFile])) {
		return nil, fmt.Errorf("configmap %s, key %s: no certificate in it", clientCAs, clientCAFile)
	}
	return pool, nil
}

// ErrNoReenrolment is wrapped by a refusal whose reason is the host's, not the proof's.
var ErrNoReenrolment = errors.New("the host may not come back by itself: kubectl sirrat host add prints a new command for it")

// JudgeReenrolment says whether a proof is by the agent of this host, with the newest key that was issued for it, since its
// access was last revoked. It is pure.
func JudgeReenrolment(proof reenrol.Proof, h *v1alpha1.Host, roots *x509.CertPool, now time.Time) error {
	who, err := proof.Check(roots, now)
	if err != nil {
		return err
	}
	switch {
	case h.Name == "" || !h.DeletionTimestamp.IsZero():
		return fmt.Errorf("%w: there is no such host any more", ErrNoReenrolment)
	case who.Group != v1alpha1.AgentGroup || who.User != hostUser(h):
		return fmt.Errorf("%w: the certificate is of %s, whose access was revoked, or which is another host", ErrNoReenrolment, who.User)
	case revoked(*h):
		return fmt.Errorf("%w: its access was revoked", ErrNoReenrolment)
	case !slices.Contains(h.Status.CertificateKeys, who.Key):
		return fmt.Errorf("%w: a newer certificate was issued for it than this one", ErrNoReenrolment)
	}
	return nil
}

// Reenrolments judges proofs for the HTTP API, which makes requests of those that hold. Errors that say that a proof does
// not hold, or the host may not come back, wrap reenrol.ErrRefused or ErrNoReenrolment.
func Reenrolments(reader client.Reader, now func() time.Time) func(ctx context.Context, host string, proof reenrol.Proof) error {
	return func(ctx context.Context, host string, proof reenrol.Proof) error {
		roots, err := ReadClientCAs(ctx, reader)
		if err != nil {
			return err
		}
		who, err := proof.Check(roots, now())
		if err != nil { // before anything is said about which hosts there are
			return err
		}
		if !strings.HasPrefix(who.User, v1alpha1.AgentUserPrefix+host+":") { // nor does another host's agent hear of it
			return fmt.Errorf("%w: the certificate is of %s, which is another host", ErrNoReenrolment, who.User)
		}
		var h v1alpha1.Host
		if err := reader.Get(ctx, client.ObjectKey{Name: host}, &h); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("read host: %w", err)
		}
		return JudgeReenrolment(proof, &h, roots, now())
	}
}

// hostUser is the user name of the agent of a host, today.
func hostUser(h *v1alpha1.Host) string {
	return v1alpha1.AgentUserAfter(h.Name, string(h.UID), h.Spec.Revocations)
}

// revoked says whether the agent's access was withdrawn and not given anew.
func revoked(h v1alpha1.Host) bool {
	return h.Spec.Revocations != h.Status.Revocations || h.Spec.Revocations > 0 && h.Status.EnrolledBy == ""
}

// judgeProof decides on a request that the HTTP API made for an agent.
func (r *enrolmentReconciler) judgeProof(ctx context.Context, csr *certificatesv1.CertificateSigningRequest, h *v1alpha1.Host) (refusal string, err error) {
	var proof reenrol.Proof
	text := csr.Annotations[v1alpha1.AnnotationProof]
	if len(text) > 2*reenrol.MaxSize || envelope.DecodeStrict([]byte(text), &proof) != nil {
		return "the proof cannot be read", nil
	}
	if strings.TrimSpace(proof.Request) != strings.TrimSpace(string(csr.Spec.Request)) {
		return "the proof is for another request", nil
	}
	roots, err := ReadClientCAs(ctx, r.fresh)
	if err != nil {
		return "", err
	}
	if err := JudgeReenrolment(proof, h, roots, r.now()); err != nil {
		return err.Error(), nil
	}
	return judgeRequest(csr, h, hostUser(h)), nil
}

// remember notes the key that a certificate is about to be issued for, so that the agent can prove itself with it later.
// first says that it is a new server's, which makes all keys before it worthless.
func (r *enrolmentReconciler) remember(ctx context.Context, csr *certificatesv1.CertificateSigningRequest, h *v1alpha1.Host, first bool) error {
	key, err := reenrol.RequestedKey(string(csr.Spec.Request))
	if err != nil {
		return fmt.Errorf("key of request %s: %w", csr.Name, err)
	}
	keys := issuedKeys(h.Status.CertificateKeys, key, first)
	if slices.Equal(keys, h.Status.CertificateKeys) {
		return nil
	}
	base := h.DeepCopy()
	h.Status.CertificateKeys = keys
	if err := r.Status().Patch(ctx, h, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("remember the key: %w", err)
	}
	return nil
}

// issuedKeys puts a key in front. The last one is what the agent is known to use and stays; between them the newest stay.
func issuedKeys(keys []string, key string, first bool) []string {
	if first {
		return []string{key}
	}
	keys = append([]string{key}, slices.DeleteFunc(slices.Clone(keys), func(k string) bool { return k == key })...)
	if len(keys) > maxCertificateKeys {
		keys = append(keys[:maxCertificateKeys-1:maxCertificateKeys-1], keys[len(keys)-1])
	}
	return keys
}

// usedKeys forgets the keys that came before the one that the agent says it uses.
func usedKeys(keys []string, used string) []string {
	if i := slices.Index(keys, used); i >= 0 {
		return keys[:i+1]
	}
	return keys
}
