// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// bootstrapUserPrefix + token id is the user that the API server makes of a bootstrap token.
const bootstrapUserPrefix = "system:bootstrap:"

// enrolmentReconciler approves or denies the certificate requests of agents. Everything is matched exactly: the signer,
// the name, the organisation, the usages and who asks. A token enrols one host once.
type enrolmentReconciler struct {
	client.Client
	fresh     client.Reader
	clientset kubernetes.Interface
	events    events.EventRecorder
	now       func() time.Time
}

// applicant is who asks for a certificate.
type applicant struct {
	host, uid   string
	revocations int64
	how         approach
}

// approach is how an agent asks.
type approach int

const (
	byToken   approach = iota // for the first time, with a one-time token
	byRenewal                 // with the certificate that it has
	byProof                   // through the HTTP API, with the key of a certificate that has expired
)

// Reconcile decides on one request. Requests that are not from agents are left alone.
func (r *enrolmentReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var csr certificatesv1.CertificateSigningRequest
	if err := r.Get(ctx, req.NamespacedName, &csr); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	who, ours := requester(&csr)
	if !ours || decided(&csr) {
		return ctrl.Result{}, nil
	}
	// Past the cache: a revocation bites at once.
	var h v1alpha1.Host
	if err := r.fresh.Get(ctx, client.ObjectKey{Name: who.host}, &h); client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, fmt.Errorf("read host: %w", err)
	}
	if h.Spec.Revocations != h.Status.Revocations { // the host's controller is about to see to it
		return ctrl.Result{RequeueAfter: conflictPause}, nil
	}
	refusal, err := r.judge(ctx, &csr, &h, who)
	if err != nil {
		return ctrl.Result{}, err
	}
	if refusal == "" {
		if err := r.remember(ctx, &csr, &h, who.how == byToken); err != nil {
			return ctrl.Result{}, err
		}
	}
	return ctrl.Result{}, r.decide(ctx, &csr, &h, who.how, refusal)
}

// judge is "" when the request is to be approved, else the reason of the refusal.
func (r *enrolmentReconciler) judge(ctx context.Context, csr *certificatesv1.CertificateSigningRequest, h *v1alpha1.Host, who applicant) (refusal string, err error) {
	if who.how == byProof {
		return r.judgeProof(ctx, csr, h)
	}
	if h.Name == "" || who.host == "" || h.Name != who.host || string(h.UID) != who.uid || !h.DeletionTimestamp.IsZero() {
		return "there is no such host any more", nil
	}
	if who.revocations != h.Spec.Revocations || who.how == byRenewal && revoked(*h) {
		return "the access of the agent was revoked: kubectl sirrat host add " + h.Name, nil
	}
	if refusal = judgeRequest(csr, h, hostUser(h)); refusal == "" && who.how == byToken {
		return r.spend(ctx, csr, h)
	}
	return refusal, nil
}

// requester tells which host a request is for by who makes it: a bootstrap token's group, an agent's own name, or the HTTP
// API for an agent, which only the proof that comes with it makes worth anything.
func requester(csr *certificatesv1.CertificateSigningRequest) (who applicant, ours bool) {
	user, groups := csr.Spec.Username, csr.Spec.Groups
	name, isAgent := strings.CutPrefix(user, v1alpha1.AgentUserPrefix)
	if isAgent && slices.Contains(groups, v1alpha1.AgentGroup) {
		who.host, who.uid, who.revocations, ours = v1alpha1.ParseAgent(name)
		who.how = byRenewal
		return who, ours
	}
	if !strings.HasPrefix(user, bootstrapUserPrefix) {
		who.host, ours = csr.Labels[v1alpha1.LabelReenrolment]
		who.how = byProof
		return who, ours && !isAgent
	}
	for _, g := range groups {
		if name, found := strings.CutPrefix(g, v1alpha1.EnrolGroupPrefix); found {
			if ours { // a token for two hosts is for none
				return applicant{}, true
			}
			who.host, who.uid, who.revocations, ours = v1alpha1.ParseAgent(name)
		}
	}
	return who, ours
}

func decided(csr *certificatesv1.CertificateSigningRequest) bool {
	return slices.ContainsFunc(csr.Status.Conditions, func(c certificatesv1.CertificateSigningRequestCondition) bool {
		return c.Type == certificatesv1.CertificateApproved || c.Type == certificatesv1.CertificateDenied
	})
}

// judgeRequest is "" when the request is exactly what an agent of this host asks for, else the reason of the refusal.
func judgeRequest(csr *certificatesv1.CertificateSigningRequest, h *v1alpha1.Host, user string) string {
	if h.Name == "" {
		return "there is no such host any more"
	}
	if csr.Spec.SignerName != certificatesv1.KubeAPIServerClientSignerName {
		return "the signer must be " + certificatesv1.KubeAPIServerClientSignerName
	}
	block, rest := pem.Decode(csr.Spec.Request)
	if block == nil || len(rest) > 0 {
		return "the request is not one PEM block"
	}
	parsed, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || parsed.CheckSignature() != nil {
		return "the request cannot be verified"
	}
	s := parsed.Subject
	switch {
	case s.CommonName != user:
		return "the name must be exactly " + user
	case len(s.Organization) != 1 || s.Organization[0] != v1alpha1.AgentGroup || len(s.Names) != 2:
		return "the only organisation must be " + v1alpha1.AgentGroup
	case len(parsed.DNSNames)+len(parsed.IPAddresses)+len(parsed.EmailAddresses)+len(parsed.URIs) > 0:
		return "no alternative names are allowed"
	case len(parsed.Extensions) > 0:
		return "no extensions are allowed"
	}
	allowed := []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth, certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment}
	for _, u := range csr.Spec.Usages {
		if !slices.Contains(allowed, u) {
			return fmt.Sprintf("usage %q is not allowed", u)
		}
	}
	if !slices.Contains(csr.Spec.Usages, certificatesv1.UsageClientAuth) {
		return "usage \"client auth\" is missing"
	}
	return ""
}

// spend uses the token up before the request is approved, so that no second request can follow. The host remembers
// first which request enrols it, so that a crash at any point neither loses the approval nor lets the token serve twice.
// Requests are handled one at a time.
func (r *enrolmentReconciler) spend(ctx context.Context, csr *certificatesv1.CertificateSigningRequest, h *v1alpha1.Host) (refusal string, err error) {
	secrets := r.clientset.CoreV1().Secrets(metav1.NamespaceSystem)
	token := "bootstrap-token-" + strings.TrimPrefix(csr.Spec.Username, bootstrapUserPrefix)
	if h.Status.EnrolledBy != csr.Name {
		if _, err := secrets.Get(ctx, token, metav1.GetOptions{}); apierrors.IsNotFound(err) {
			return "the enrolment token was already used or has expired", nil
		} else if err != nil {
			return "", fmt.Errorf("read token: %w", err)
		}
		base := h.DeepCopy()
		h.Status.EnrolledBy = csr.Name
		if err := r.Status().Patch(ctx, h, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})); err != nil {
			return "", fmt.Errorf("remember enrolment: %w", err)
		}
	}
	if err := secrets.Delete(ctx, token, metav1.DeleteOptions{}); client.IgnoreNotFound(err) != nil {
		return "", fmt.Errorf("use up token: %w", err)
	}
	return "", nil
}

func (r *enrolmentReconciler) decide(ctx context.Context, csr *certificatesv1.CertificateSigningRequest, h *v1alpha1.Host, how approach, refusal string) error {
	cond := certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "SirratHost", Message: "certificate of the agent of host " + h.Name,
	}
	reason := "CertificateApproved"
	if how == byProof {
		reason = "Reenrolled"
		cond.Reason, cond.Message = "SirratReenrolment", "host "+h.Name+" came back by itself: it proved to hold the key of its last certificate, which had expired"
	}
	if refusal != "" {
		cond = certificatesv1.CertificateSigningRequestCondition{Type: certificatesv1.CertificateDenied, Status: corev1.ConditionTrue, Reason: "SirratRefused", Message: refusal}
	}
	csr.Status.Conditions = append(csr.Status.Conditions, cond)
	if _, err := r.clientset.CertificatesV1().CertificateSigningRequests().UpdateApproval(ctx, csr.Name, csr, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("decide on request: %w", err)
	}
	if h.Name == "" {
		return nil
	}
	if refusal != "" {
		r.events.Eventf(h, nil, corev1.EventTypeWarning, "EnrolmentRefused", "Enrol", "request %s by %s: %s", csr.Name, csr.Spec.Username, refusal)
	} else {
		r.events.Eventf(h, nil, corev1.EventTypeNormal, reason, "Enrol", "request %s by %s: %s", csr.Name, csr.Spec.Username, cond.Message)
	}
	return nil
}
