// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/deploytoken"
	"gitlab.com/dynors/sirrat/internal/harbor"
	"gitlab.com/dynors/sirrat/internal/rollout"
)

// tell sets the condition of every environment.
func (r *pullReconciler) tell(ctx context.Context, s *pullState) error {
	for i := range s.envs {
		env := &s.envs[i]
		if !env.DeletionTimestamp.IsZero() {
			continue
		}
		base := env.DeepCopy()
		r.condition(s, env)
		if sameStatus(base.Status, env.Status) {
			continue
		}
		if err := writeStatus(ctx, r.Client, env, base, false); client.IgnoreNotFound(err) != nil {
			return err
		}
		before, after := findCondition(base.Status.Conditions, v1alpha1.ConditionPullCredentials), findCondition(env.Status.Conditions, v1alpha1.ConditionPullCredentials)
		if after != nil && after.Reason != v1alpha1.ReasonIssued && after.Reason != v1alpha1.ReasonIssuing && (before == nil || before.Reason != after.Reason) {
			r.events.Eventf(env, nil, corev1.EventTypeWarning, after.Reason, "Issue", "%s", after.Message)
		}
	}
	return nil
}

// condition says how the hosts of an environment are off.
func (r *pullReconciler) condition(s *pullState, env *v1alpha1.Environment) {
	var without, standing []string
	var first time.Time
	count := 0
	for _, t := range s.wanted {
		if t.Environment != env.Name {
			continue
		}
		count++
		switch {
		case s.served(t):
			if c := s.record.Current(t); first.IsZero() || c.Expires.Before(first) {
				first = c.Expires
			}
		case s.secrets[t] != nil && s.secrets[t].Labels[v1alpha1.LabelPullCredential] == v1alpha1.PullProviderProject:
			standing = append(standing, t.Host)
		default:
			without = append(without, t.Host)
		}
	}
	set := func(ok bool, reason, message string) {
		setCondition(&env.Status.Conditions, env.Generation, v1alpha1.ConditionPullCredentials, ok, reason, message)
	}
	problem := s.cause()
	switch {
	case count == 0, s.source == nil && s.invalid == nil:
		meta.RemoveStatusCondition(&env.Status.Conditions, v1alpha1.ConditionPullCredentials)
	case problem == nil && len(without)+len(standing) > 0: // the rest of a large number
		set(false, v1alpha1.ReasonIssuing, fmt.Sprintf("%d of %d host(s) have a credential of their own", count-len(without)-len(standing), count))
	case problem == nil:
		set(true, v1alpha1.ReasonIssued, fmt.Sprintf("%d host(s) have a credential of their own from %s", count, s.source.URL))
	case len(without) > 0:
		set(false, pullReason(problem), fmt.Sprintf("no valid credential for %s: %s. What has to be pulled there waits; what runs keeps running. It is tried again by itself; "+
			"spec.pullCredentials.fallback: ProjectSecret of the Project lets hosts use spec.registrySecretRef meanwhile", strings.Join(without, ", "), problem))
	case len(standing) > 0:
		set(true, v1alpha1.ReasonFallback, fmt.Sprintf("%s pull(s) with spec.registrySecretRef of the Project, as spec.pullCredentials.fallback says, since: %s", strings.Join(standing, ", "), problem))
	case needsNone(s, env.Name):
		set(true, v1alpha1.ReasonIssued, fmt.Sprintf("%d host(s) have a credential of their own from %s", count, s.source.URL))
	default:
		set(true, v1alpha1.ReasonRenewalFails, fmt.Sprintf("every host has a credential, the first until %s, but the next cannot be issued: %s", first.UTC().Format(time.RFC3339), problem))
	}
}

// needsNone says that no host of an environment is due for a credential: what a provider had against something else is not
// told there.
func needsNone(s *pullState, environment string) bool {
	if s.invalid != nil {
		return false
	}
	for _, t := range s.wanted {
		if c := s.record.Current(t); t.Environment == environment && (c == nil || c.Source.Key() != s.source.Key() || !s.now.Before(s.terms.Renewal(*c))) {
			return false
		}
	}
	return true
}

// cause is what keeps credentials from being issued.
func (s *pullState) cause() error {
	if s.invalid != nil {
		return s.invalid
	}
	if len(s.problems) > 0 {
		return s.problems[0]
	}
	return nil
}

// pullReason is the reason of a condition for a provider's error.
func pullReason(err error) string {
	var user userError
	switch {
	case errors.As(err, &user):
		return v1alpha1.ReasonInvalid
	case errors.Is(err, deploytoken.ErrDenied), errors.Is(err, deploytoken.ErrNotFound), errors.Is(err, deploytoken.ErrRejected),
		harbor.IsKind(err, harbor.KindDenied), harbor.IsKind(err, harbor.KindNotFound), harbor.IsKind(err, harbor.KindRefused):
		return v1alpha1.ReasonProviderDenied
	}
	return v1alpha1.ReasonProviderUnreachable
}

// notBefore is how long a provider asked to be left alone.
func notBefore(problems []error, now time.Time) time.Duration {
	var wait time.Duration
	for _, err := range problems {
		if until := comeBack(err, now); !until.IsZero() {
			wait = max(wait, until.Sub(now))
		}
	}
	return min(wait, pullLook)
}

// issuesPulls says that the hosts of an environment pull with credentials of their own.
func issuesPulls(p *v1alpha1.Project, env *v1alpha1.Environment) bool {
	source, err := pullSource(p)
	return env.Spec.Registry == nil && (source != nil || err != nil)
}

// pullRef is the Secret with which a host pulls for an environment; "" for none. Where one is issued for each, waits says what
// it waits for when it has none that is valid.
func (r *environmentReconciler) pullRef(ctx context.Context, s *environmentState, host rollout.Host) (ref, waits string, err error) {
	if s.servers[host.Name].Spec.Offline {
		return "", "", nil // images come in its bundle
	}
	ref = v1alpha1.PullSecret(s.project.Name, s.env.Name)
	var secret corev1.Secret
	if err := r.Get(ctx, client.ObjectKey{Namespace: v1alpha1.HostNamespace(host.Name), Name: ref}, &secret); client.IgnoreNotFound(err) != nil {
		return "", "", fmt.Errorf("read the pull credential of host %s: %w", host.Name, err)
	}
	if is, ok := deliveredCredential(&secret); ok && s.now.Before(is.Expires) && targetOf(&secret).HostUID == host.UID {
		return ref, "", nil
	}
	if secret.Labels[v1alpha1.LabelPullCredential] == v1alpha1.PullProviderProject && targetOf(&secret).HostUID == host.UID {
		return ref, "", nil
	}
	waits = "host " + host.Name + " has no valid credential to pull with"
	if c := findCondition(s.env.Status.Conditions, v1alpha1.ConditionPullCredentials); c != nil && c.Status == metav1.ConditionFalse {
		waits += ": " + c.Message
	}
	return ref, waits, nil
}

// armed leaves out the hosts that could not pull yet, and says so. A way back is not held up: what it needs is on disk.
func (r *environmentReconciler) armed(ctx context.Context, s *environmentState, rel *v1alpha1.Release, hosts []string) ([]string, error) {
	e := findEntry(rel.Status.Environments, s.env.Name)
	if !issuesPulls(s.project, s.env) || e != nil && e.Rollback != "" {
		return hosts, nil
	}
	var out, waits []string
	for _, h := range s.hosts {
		for _, name := range hosts {
			if name != h.Name {
				continue
			}
			_, missing, err := r.pullRef(ctx, s, h)
			switch {
			case err != nil:
				return nil, err
			case missing != "":
				waits = append(waits, missing)
			default:
				out = append(out, name)
			}
		}
	}
	if len(waits) > 0 {
		s.env.Status.Waiting = strings.Join(waits, "; ")
	}
	return out, nil
}
