// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/deploytoken"
	"gitlab.com/dynors/sirrat/internal/harbor"
	"gitlab.com/dynors/sirrat/internal/pullcreds"
)

// declaredIssuer is where the declaration of a project says that credentials are issued, usable or not, and by whose account.
func declaredIssuer(p *v1alpha1.Project) (url, secretRef string) {
	switch spec := p.Spec.PullCredentials; {
	case spec == nil:
	case spec.Harbor != nil:
		return strings.TrimRight(spec.Harbor.URL, "/"), spec.Harbor.SecretRef
	case spec.GitLab != nil:
		return strings.TrimRight(spec.GitLab.URL, "/"), spec.GitLab.TokenSecretRef
	}
	return "", ""
}

// account is the Secret of the account of a source: what is declared for its address now, otherwise the one that it was last used
// with. A Secret that is declared for another address by now is used there alone: it holds that one's account, unless nobody has
// changed it since.
func (r *pullReconciler) account(ctx context.Context, s *pullState, source pullcreds.Source) (*corev1.Secret, error) {
	url, declared := declaredIssuer(s.project)
	name := source.SecretRef
	if s.source != nil && s.source.Key() == source.Key() {
		name = declared
	}
	secret, err := r.pullSecretOf(ctx, s.project.Name, name)
	if secret == nil && err == nil && url == source.URL {
		name = declared
		secret, err = r.pullSecretOf(ctx, s.project.Name, name)
	}
	switch field := accountField(source); {
	case err != nil:
		return nil, err
	case secret == nil:
		return nil, userErrorf("%s: there is no Secret %s in namespace %s", field, name, s.project.Name)
	case url != "" && url != source.URL && name == declared && secret.ResourceVersion != source.SecretVersion:
		return nil, userErrorf("%s: Secret %s is for %s now and was changed, so that it is not sent to %s: delete there what begins with %s, or see it expire",
			field, name, url, source.URL, pullcreds.Prefix(s.record.ProjectUID))
	}
	s.used(source, name, secret.ResourceVersion)
	return secret, nil
}

// accountField is the field that names the account of a source.
func accountField(source pullcreds.Source) string {
	if source.Provider == v1alpha1.PullProviderGitLab {
		return "spec.pullCredentials.gitlab.tokenSecretRef"
	}
	return "spec.pullCredentials.harbor.secretRef"
}

// pullSecretOf is a Secret of the project's; nil if there is none.
func (r *pullReconciler) pullSecretOf(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	var secret corev1.Secret
	err := r.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &secret)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read secret %s: %w", name, err)
	}
	return &secret, nil
}

// used notes with which Secret a source is asked, for when another source is declared.
func (s *pullState) used(source pullcreds.Source, name, version string) {
	for i := range s.record.Credentials {
		if c := &s.record.Credentials[i]; c.Source.Key() == source.Key() {
			c.Source.SecretRef, c.Source.SecretVersion = name, version
		}
	}
	if s.source != nil && s.source.Key() == source.Key() {
		s.source.SecretVersion = version
	}
}

// later keeps a provider from being asked before the time that it asked for, whatever happens meanwhile.
type later struct {
	url   string
	until time.Time
}

// Error implements error.
func (l later) Error() string {
	return fmt.Sprintf("%s asked to come back later, and is not asked before %s", l.url, l.until.UTC().Format(time.RFC3339))
}

// comeBack is before when a provider asked not to be asked again; zero if it did not say.
func comeBack(err error, now time.Time) time.Time {
	var wait later
	var p *harbor.Problem
	var busy *deploytoken.Busy
	switch {
	case errors.As(err, &wait):
		return wait.until
	case errors.As(err, &p):
		return p.Until
	case errors.As(err, &busy) && busy.After > 0:
		return now.Add(busy.After)
	}
	return time.Time{}
}

// heed remembers what a provider asked for.
func (r *pullReconciler) heed(url string, err error) {
	now := r.now()
	if until := comeBack(err, now); until.After(now) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.quiet[url] = until
	}
}

// asks is an error while a provider is to be left alone.
func (r *pullReconciler) asks(url string, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	until, ok := r.quiet[url]
	if !ok {
		return nil
	}
	if now.Before(until) && until.Sub(now) <= pullLook { // or the clock was ahead
		return later{url, until}
	}
	delete(r.quiet, url)
	return nil
}
