// SPDX-License-Identifier: Apache-2.0

// Package control is the agent's side of the control plane: a small client for the few resources that an agent may reach,
// the watch on its Rollouts, its heartbeat and its reports.
//
// It uses client-go's REST client with only the types it needs, because the generated clients register every kind of
// Kubernetes and would double the agent's memory. It may import api/v1alpha1 and client-go.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// requestTimeout of everything but watches.
const requestTimeout = 30 * time.Second

// Client talks to the control plane with the rights of whoever its configuration authenticates.
type Client struct {
	sirrat, core, coordination, certificates, authentication rest.Interface
}

// New makes a client. It does not connect yet.
func New(config *rest.Config) (*Client, error) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("register types: %w", err)
	}
	for gv, objects := range map[schema.GroupVersion][]runtime.Object{
		corev1.SchemeGroupVersion:           {&corev1.Secret{}, &corev1.ConfigMap{}},
		coordinationv1.SchemeGroupVersion:   {&coordinationv1.Lease{}},
		certificatesv1.SchemeGroupVersion:   {&certificatesv1.CertificateSigningRequest{}},
		authenticationv1.SchemeGroupVersion: {&authenticationv1.SelfSubjectReview{}},
	} {
		scheme.AddKnownTypes(gv, objects...)
		metav1.AddToGroupVersion(scheme, gv)
	}
	codecs := serializer.NewCodecFactory(scheme).WithoutConversion()
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("control plane client: %w", err)
	}
	c := &Client{}
	for gv, target := range map[schema.GroupVersion]*rest.Interface{
		v1alpha1.GroupVersion:               &c.sirrat,
		corev1.SchemeGroupVersion:           &c.core,
		coordinationv1.SchemeGroupVersion:   &c.coordination,
		certificatesv1.SchemeGroupVersion:   &c.certificates,
		authenticationv1.SchemeGroupVersion: &c.authentication,
	} {
		if *target, err = restClient(config, httpClient, gv, codecs); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func restClient(config *rest.Config, httpClient *http.Client, gv schema.GroupVersion, codecs runtime.NegotiatedSerializer) (rest.Interface, error) {
	of := rest.CopyConfig(config)
	of.GroupVersion, of.NegotiatedSerializer, of.APIPath = &gv, codecs, "/apis"
	of.ContentType, of.AcceptContentTypes = runtime.ContentTypeJSON, runtime.ContentTypeJSON
	if gv.Group == "" {
		of.APIPath = "/api"
	}
	c, err := rest.RESTClientForConfigAndClient(of, httpClient)
	if err != nil {
		return nil, fmt.Errorf("control plane client for %s: %w", gv, err)
	}
	return c, nil
}

// WhoAmI returns the user that the control plane sees, with its groups.
func (c *Client) WhoAmI(ctx context.Context) (authenticationv1.UserInfo, error) {
	review := &authenticationv1.SelfSubjectReview{}
	err := c.authentication.Post().Resource("selfsubjectreviews").Timeout(requestTimeout).
		Body(&authenticationv1.SelfSubjectReview{}).Do(ctx).Into(review)
	return review.Status.UserInfo, err
}

// Request creates a certificate signing request.
func (c *Client) Request(ctx context.Context, csr *certificatesv1.CertificateSigningRequest) (*certificatesv1.CertificateSigningRequest, error) {
	created := &certificatesv1.CertificateSigningRequest{}
	err := c.certificates.Post().Resource("certificatesigningrequests").Timeout(requestTimeout).Body(csr).Do(ctx).Into(created)
	return created, err
}

// RequestNamed reads a certificate signing request.
func (c *Client) RequestNamed(ctx context.Context, name string) (*certificatesv1.CertificateSigningRequest, error) {
	csr := &certificatesv1.CertificateSigningRequest{}
	err := c.certificates.Get().Resource("certificatesigningrequests").Name(name).Timeout(requestTimeout).Do(ctx).Into(csr)
	return csr, err
}

// AuthorizationKeys reads the public keys that may sign authorizations for a host: key id → PEM.
func (c *Client) AuthorizationKeys(ctx context.Context, host string) (map[string]string, error) {
	m := &corev1.ConfigMap{}
	err := c.core.Get().Namespace(v1alpha1.HostNamespace(host)).Resource("configmaps").Name(v1alpha1.AuthorizationKeys).
		Timeout(requestTimeout).Do(ctx).Into(m)
	if err != nil {
		return nil, fmt.Errorf("read ConfigMap %s/%s: %w", v1alpha1.HostNamespace(host), v1alpha1.AuthorizationKeys, err)
	}
	return m.Data, nil
}

// Secret reads a Secret delivered to a host.
func (c *Client) Secret(ctx context.Context, host, name string) (map[string][]byte, error) {
	s := &corev1.Secret{}
	err := c.core.Get().Namespace(v1alpha1.HostNamespace(host)).Resource("secrets").Name(name).Timeout(requestTimeout).Do(ctx).Into(s)
	if err != nil {
		return nil, fmt.Errorf("read Secret %s/%s: %w", v1alpha1.HostNamespace(host), name, err)
	}
	return s.Data, nil
}

// WatchRollouts follows the Rollouts of a host until ctx ends: offered is called for each that is there or changes,
// withdrawn for each that is gone, one call at a time. It reconnects by itself; failed is called for each failure.
func (c *Client) WatchRollouts(ctx context.Context, host string, offered, withdrawn func(*v1alpha1.Rollout), failed func(error)) {
	lw := cache.NewListWatchFromClient(c.sirrat, "rollouts", v1alpha1.HostNamespace(host), fields.Everything())
	informer := cache.NewSharedIndexInformer(lw, &v1alpha1.Rollout{}, 0, nil)
	handle := func(f func(*v1alpha1.Rollout)) func(any) {
		return func(object any) {
			if gone, ok := object.(cache.DeletedFinalStateUnknown); ok {
				object = gone.Obj
			}
			if rollout, ok := object.(*v1alpha1.Rollout); ok {
				f(rollout)
			}
		}
	}
	err := informer.SetTransform(func(object any) (any, error) {
		if rollout, ok := object.(*v1alpha1.Rollout); ok {
			rollout.ManagedFields = nil // half of the object's size, and of no use here
		}
		return object, nil
	})
	if err != nil {
		failed(err)
	}
	if err := informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) { failed(err) }); err != nil {
		failed(err)
	}
	add, update := handle(offered), handle(offered)
	_, err = informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: add, UpdateFunc: func(_, object any) { update(object) }, DeleteFunc: handle(withdrawn),
	})
	if err != nil {
		failed(err)
		return
	}
	informer.RunWithContext(ctx)
}

// IsRoutine says whether a failure of a watch is part of its life: it ended in good order, or was away for too long and
// begins anew.
func IsRoutine(err error) bool {
	return errors.Is(err, io.EOF) || apierrors.IsResourceExpired(err) || apierrors.IsGone(err)
}

// statusFields are all members of a Rollout's status: a merge patch must name those that are to go.
var statusFields = []string{
	"observedGeneration", "phase", "message", "healthySince", "services", "lastLogs", "servingSequence", "timings", "conditions",
}

// Report replaces the status of a Rollout, if it is still the one with that uid.
func (c *Client) Report(ctx context.Context, host, name string, uid types.UID, status v1alpha1.RolloutStatus) error {
	text, err := json.Marshal(status)
	if err != nil {
		return fmt.Errorf("encode status: %w", err)
	}
	members := map[string]any{}
	if err := json.Unmarshal(text, &members); err != nil {
		return fmt.Errorf("encode status: %w", err)
	}
	for _, name := range statusFields {
		if _, set := members[name]; !set {
			members[name] = nil
		}
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": uid}, "status": members})
	if err != nil {
		return fmt.Errorf("encode status: %w", err)
	}
	err = c.sirrat.Patch(types.MergePatchType).Namespace(v1alpha1.HostNamespace(host)).Resource("rollouts").Name(name).
		SubResource("status").Timeout(requestTimeout).Body(patch).Do(ctx).Error()
	if err != nil {
		return fmt.Errorf("report on rollout %s: %w", name, err)
	}
	return nil
}

// ReportLogs replaces the log lines in the status of a Rollout, nil for none, if it is still the one with that uid. Nothing
// else in the status changes.
func (c *Client) ReportLogs(ctx context.Context, host, name string, uid types.UID, logs *v1alpha1.RolloutLogs) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": uid}, "status": map[string]any{"logs": withNulls(logs)}})
	if err != nil {
		return fmt.Errorf("encode logs: %w", err)
	}
	err = c.sirrat.Patch(types.MergePatchType).Namespace(v1alpha1.HostNamespace(host)).Resource("rollouts").Name(name).
		SubResource("status").Timeout(requestTimeout).Body(patch).Do(ctx).Error()
	if err != nil {
		return fmt.Errorf("report logs of rollout %s: %w", name, err)
	}
	return nil
}

// withNulls are all members of an answer: a merge patch must name those that are to go.
func withNulls(logs *v1alpha1.RolloutLogs) any {
	if logs == nil {
		return nil
	}
	members := map[string]any{
		"id": logs.ID, "user": logs.User, "service": nil, "lines": nil, "until": nil, "truncated": nil, "refused": nil, "expired": nil,
	}
	set := func(name string, value any, isSet bool) {
		if isSet {
			members[name] = value
		}
	}
	set("service", logs.Service, logs.Service != "")
	set("lines", logs.Lines, len(logs.Lines) > 0)
	set("until", logs.Until, logs.Until != nil)
	set("truncated", true, logs.Truncated)
	set("refused", logs.Refused, logs.Refused != "")
	set("expired", true, logs.Expired)
	return members
}

// Heartbeat renews the host's Lease, which the first one creates. info travels in an annotation.
func (c *Client) Heartbeat(ctx context.Context, host, holder string, period time.Duration, info v1alpha1.AgentInfo, now time.Time) error {
	text, err := json.Marshal(info)
	if err != nil {
		return fmt.Errorf("encode agent info: %w", err)
	}
	seconds := max(1, int32(period/time.Second))
	renewed := metav1.NewMicroTime(now)
	lease := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.AgentLease, Annotations: map[string]string{v1alpha1.AnnotationAgentInfo: string(text)}},
		Spec:       coordinationv1.LeaseSpec{HolderIdentity: &holder, LeaseDurationSeconds: &seconds, RenewTime: &renewed},
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"annotations": lease.Annotations}, "spec": lease.Spec,
	})
	if err != nil {
		return fmt.Errorf("encode lease: %w", err)
	}
	namespace := v1alpha1.HostNamespace(host)
	err = c.coordination.Patch(types.MergePatchType).Namespace(namespace).Resource("leases").Name(v1alpha1.AgentLease).
		Timeout(requestTimeout).Body(patch).Do(ctx).Error()
	if apierrors.IsNotFound(err) {
		err = c.coordination.Post().Namespace(namespace).Resource("leases").Timeout(requestTimeout).Body(lease).Do(ctx).Error()
	}
	if err != nil {
		return fmt.Errorf("renew Lease %s/%s: %w", namespace, v1alpha1.AgentLease, err)
	}
	return nil
}
