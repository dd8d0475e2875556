// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/pullcreds"
)

// delivered says, on a Secret, which credential is in it.
type delivered struct {
	Name    string    `json:"name"`
	ID      int64     `json:"id"`
	Issued  time.Time `json:"issued"`
	Expires time.Time `json:"expires"`
}

// deliveredCredential reads which credential a Secret holds; false when it is the project's own Secret, or empty.
func deliveredCredential(s *corev1.Secret) (delivered, bool) {
	var d delivered
	text := s.Annotations[v1alpha1.AnnotationPullCredential]
	if text == "" || json.Unmarshal([]byte(text), &d) != nil || len(s.Data[corev1.DockerConfigJsonKey]) == 0 {
		return delivered{}, false
	}
	return d, true
}

// gatherSecrets reads what was delivered. A Secret that the cache does not show as the record says is read past it.
func (r *pullReconciler) gatherSecrets(ctx context.Context, s *pullState) error {
	var list corev1.SecretList
	if err := r.List(ctx, &list, client.MatchingLabels{v1alpha1.LabelProject: s.project.Name}, client.HasLabels{v1alpha1.LabelPullCredential}); err != nil {
		return fmt.Errorf("list delivered secrets: %w", err)
	}
	for i := range list.Items {
		// A project's namespace can be called as a host is, and its people may label their Secrets as they like.
		if secret := &list.Items[i]; strings.HasPrefix(secret.Namespace, v1alpha1.HostNamespacePrefix) {
			s.secrets[targetOf(secret)] = secret
		}
	}
	for _, t := range s.wanted {
		c := s.record.Current(t)
		is, ok := delivered{}, false
		if s.secrets[t] != nil {
			is, ok = deliveredCredential(s.secrets[t])
		}
		if c != nil && ok && is.Name == c.Name || c == nil && s.secrets[t] == nil && !intends(s.record, t) {
			continue
		}
		secret, err := r.readPullSecret(ctx, s.project.Name, t)
		if err != nil {
			return err
		}
		delete(s.secrets, t)
		if secret != nil {
			s.secrets[t] = secret
		}
	}
	return nil
}

func intends(record pullcreds.Record, t pullcreds.Target) bool {
	for _, c := range record.Credentials {
		if c.Intended() && c.Target == t {
			return true
		}
	}
	return false
}

// readPullSecret reads a target's Secret past the cache; nil when there is none.
func (r *pullReconciler) readPullSecret(ctx context.Context, project string, t pullcreds.Target) (*corev1.Secret, error) {
	secret := &corev1.Secret{}
	err := r.fresh.Get(ctx, client.ObjectKey{Namespace: v1alpha1.HostNamespace(t.Host), Name: v1alpha1.PullSecret(project, t.Environment)}, secret)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read delivered secret: %w", err)
	}
	if targetOf(secret) != t { // of a host of that name before
		return nil, nil
	}
	return secret, nil
}

func targetOf(s *corev1.Secret) pullcreds.Target {
	return pullcreds.Target{Host: labelOf(s.Namespace), HostUID: s.Annotations[annotationHostUID], Environment: s.Labels[v1alpha1.LabelEnvironment]}
}

// annotationHostUID on a delivered Secret is the uid of the Host that it was delivered to.
const annotationHostUID = v1alpha1.Group + "/host-uid"

// deliver puts a credential where the target's agent reads it before each pull, in one write. What it held before is gone.
func (r *pullReconciler) deliver(ctx context.Context, s *pullState, t pullcreds.Target, provider string, config []byte, is *delivered) error {
	data := map[string][]byte{corev1.DockerConfigJsonKey: config}
	annotations := map[string]string{annotationHostUID: t.HostUID}
	if is != nil {
		text, err := json.Marshal(is)
		if err != nil {
			return fmt.Errorf("encode what is delivered: %w", err)
		}
		annotations[v1alpha1.AnnotationPullCredential] = string(text)
	}
	labels := map[string]string{v1alpha1.LabelProject: s.project.Name, v1alpha1.LabelEnvironment: t.Environment, v1alpha1.LabelPullCredential: provider}
	secret := &corev1.Secret{}
	key := client.ObjectKey{Namespace: v1alpha1.HostNamespace(t.Host), Name: v1alpha1.PullSecret(s.project.Name, t.Environment)}
	err := r.fresh.Get(ctx, key, secret)
	switch {
	case apierrors.IsNotFound(err):
		secret = &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: key.Namespace, Name: key.Name, Labels: labels, Annotations: annotations,
				OwnerReferences: []metav1.OwnerReference{{APIVersion: v1alpha1.GroupVersion.String(), Kind: "Project", Name: s.project.Name, UID: s.project.UID}},
			},
			Type: corev1.SecretTypeDockerConfigJson, Data: data,
		}
		err = r.Create(ctx, secret)
	case err == nil:
		same := bytes.Equal(secret.Data[corev1.DockerConfigJsonKey], config) && maps.Equal(secret.Labels, labels) && maps.Equal(secret.Annotations, annotations)
		if same {
			s.secrets[t] = secret
			return nil
		}
		secret.Data, secret.Labels, secret.Annotations = data, labels, annotations
		err = r.Update(ctx, secret)
	}
	if err != nil {
		return fmt.Errorf("deliver to %s: %w", key, err)
	}
	s.secrets[t] = secret
	return nil
}

// dockerConfig is what engines log in with, as a dockerconfigjson.
func dockerConfig(registry, username, password string) ([]byte, error) {
	type entry struct {
		Username string `json:"username"`
		Password string `json:"password"`
		Auth     string `json:"auth"`
	}
	out, err := json.Marshal(map[string]map[string]entry{"auths": {
		registry: {username, password, base64.StdEncoding.EncodeToString([]byte(username + ":" + password))},
	}})
	if err != nil {
		return nil, fmt.Errorf("encode a docker configuration for %s failed", registry) // the cause may quote it
	}
	return out, nil
}

// noCredentials is a dockerconfigjson without any.
const noCredentials = `{"auths":{}}`

// standIn delivers the project's own Secret where it is declared to stand in: wherever it is the provider now and something
// was delivered before, and, as the fallback, wherever no valid credential is left.
func (r *pullReconciler) standIn(ctx context.Context, s *pullState) error {
	for _, t := range s.wanted {
		switch {
		case s.source == nil && s.secrets[t] != nil:
		case s.source != nil && s.fallsBack(t):
		default:
			continue
		}
		own, err := registrySecret(ctx, r.Client, s.project)
		if err != nil {
			return fmt.Errorf("read the registry secret: %w", err)
		}
		config := own[corev1.DockerConfigJsonKey]
		if len(config) == 0 && s.source != nil {
			s.problem(userErrorf("spec.pullCredentials.fallback: spec.registrySecretRef names no Secret of type kubernetes.io/dockerconfigjson in namespace %s", s.project.Name))
			return nil
		}
		if len(config) == 0 {
			config = []byte(noCredentials)
		}
		if err := r.deliver(ctx, s, t, v1alpha1.PullProviderProject, config, nil); err != nil {
			return err
		}
	}
	return nil
}

// fallsBack says that a target is to be given the project's own Secret, since its provider gave none that is valid.
func (s *pullState) fallsBack(t pullcreds.Target) bool {
	return s.project.Spec.PullCredentials.Fallback == v1alpha1.PullProviderProject && len(s.problems) > 0 && !s.served(t)
}

// served says that a target has a credential of its own that its provider still takes.
func (s *pullState) served(t pullcreds.Target) bool {
	c, secret := s.record.Current(t), s.secrets[t]
	if c == nil || secret == nil {
		return false
	}
	is, ok := deliveredCredential(secret)
	return ok && is.Name == c.Name && c.Valid(s.now)
}

// overstays says that a target has a copy of the project's own Secret that is not declared to stand in any more.
func (s *pullState) overstays(t pullcreds.Target) bool {
	return s.source != nil && s.project.Spec.PullCredentials.Fallback == "" && s.secrets[t].Labels[v1alpha1.LabelPullCredential] == v1alpha1.PullProviderProject
}

// withdraw takes away what was delivered and nobody wants to be there any more.
func (r *pullReconciler) withdraw(ctx context.Context, s *pullState) error {
	wanted := map[pullcreds.Target]bool{}
	for _, t := range s.wanted {
		wanted[t] = true
	}
	for t, secret := range s.secrets {
		if wanted[t] && !s.overstays(t) {
			continue
		}
		if err := client.IgnoreNotFound(r.Delete(ctx, secret, client.Preconditions{UID: &secret.UID})); err != nil {
			return fmt.Errorf("delete secret %s/%s: %w", secret.Namespace, secret.Name, err)
		}
		delete(s.secrets, t)
	}
	return nil
}
