// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/deploytoken"
	"gitlab.com/dynors/sirrat/internal/egress"
	"gitlab.com/dynors/sirrat/internal/harbor"
	"gitlab.com/dynors/sirrat/internal/pullcreds"
)

// issued is a credential that was just made. Its password goes into the Secret of its target and nowhere else.
type issued struct {
	id                 int64
	username, password string
	expires            time.Time
}

// issuer is a provider of pull credentials, as one account. Errors hold no password.
type issuer interface {
	// issue makes a credential that may pull and nothing else.
	issue(ctx context.Context, name string, now time.Time, lifetime time.Duration) (issued, error)
	// list returns all those whose names begin with prefix; an error if they may not be all.
	list(ctx context.Context, prefix string) ([]pullcreds.Listed, error)
	// revoke makes one worthless; one that is gone is no error.
	revoke(ctx context.Context, id int64) error
}

// pullSource is who issues for a project; nil for nobody. The error names the field to mend.
func pullSource(p *v1alpha1.Project) (*pullcreds.Source, error) {
	spec := p.Spec.PullCredentials
	switch {
	case spec == nil:
		return nil, nil
	case spec.Provider == v1alpha1.PullProviderHarbor && spec.Harbor != nil:
		return harborSource(p, *spec.Harbor)
	case spec.Provider == v1alpha1.PullProviderGitLab && spec.GitLab != nil:
		return gitlabSource(p, *spec.GitLab)
	}
	return nil, nil
}

func harborSource(p *v1alpha1.Project, spec v1alpha1.HarborPullCredentials) (*pullcreds.Source, error) {
	u, err := url.Parse(spec.URL)
	if err != nil || u.Host == "" {
		return nil, userErrorf("spec.pullCredentials.harbor.url is no address like https://harbor.example.com")
	}
	host := strings.ToLower(strings.TrimSuffix(u.Host, ":443"))
	scope := slices.Clone(spec.Projects)
	for _, image := range p.Spec.Images {
		registry, path, _ := strings.Cut(image.Repository, "/")
		if project, _, ok := strings.Cut(path, "/"); ok && strings.TrimSuffix(registry, ":443") == host {
			scope = append(scope, project)
		}
	}
	slices.Sort(scope)
	scope = slices.Compact(scope)
	if len(scope) == 0 {
		return nil, userErrorf("spec.pullCredentials.harbor.url: no image of spec.images is in %s", host)
	}
	return &pullcreds.Source{
		Provider: v1alpha1.PullProviderHarbor, URL: strings.TrimRight(spec.URL, "/"), Scope: scope, Registry: host, SecretRef: spec.SecretRef,
	}, nil
}

func gitlabSource(p *v1alpha1.Project, spec v1alpha1.GitLabPullCredentials) (*pullcreds.Source, error) {
	registry := spec.Registry
	for _, image := range p.Spec.Images {
		host, _, _ := strings.Cut(image.Repository, "/")
		switch {
		case registry == "":
			registry = host
		case spec.Registry == "" && registry != host:
			return nil, userErrorf("spec.pullCredentials.gitlab.registry is needed: the images of spec.images are in %s and in %s", registry, host)
		}
	}
	if registry == "" {
		return nil, userErrorf("spec.pullCredentials.gitlab.registry is needed: spec.images has none from which it could be known")
	}
	return &pullcreds.Source{
		Provider: v1alpha1.PullProviderGitLab, URL: strings.TrimRight(spec.URL, "/"), Scope: []string{spec.Project}, Registry: strings.ToLower(registry), SecretRef: spec.TokenSecretRef,
	}, nil
}

// issuer makes the client of a source, with the account as it is now.
func (r *pullReconciler) issuer(ctx context.Context, s *pullState, source pullcreds.Source) (issuer, error) {
	if err := r.asks(source.URL, s.now); err != nil {
		return nil, err
	}
	secret, err := r.account(ctx, s, source)
	if err != nil {
		return nil, err
	}
	field, guarded := accountField(source), func(i issuer, password string) issuer {
		return discreet{i, source.Provider, []string{password}, func(err error) { r.heed(source.URL, err) }}
	}
	value := func(key string) string { return strings.TrimSpace(string(secret.Data[key])) }
	transport, err := guardedTransport(r.egress, secret.Data[caKey])
	if err != nil {
		return nil, userErrorf("%s: the key ca.crt of Secret %s holds no certificate in PEM", field, secret.Name)
	}
	if source.Provider == v1alpha1.PullProviderGitLab {
		if value("token") == "" {
			return nil, userErrorf("%s: Secret %s has no key token", field, secret.Name)
		}
		api := deploytoken.API{URL: source.URL, Project: source.Scope[0], Token: value("token"), Transport: transport}
		return guarded(deployTokens{api}, api.Token), nil
	}
	account := harbor.Account{Username: value(corev1.BasicAuthUsernameKey), Password: value(corev1.BasicAuthPasswordKey)}
	if account.Username == "" || account.Password == "" {
		return nil, userErrorf("%s: Secret %s needs the keys username and password", field, secret.Name)
	}
	api, err := harbor.New(source.URL, account, transport)
	if err != nil {
		return nil, userErrorf("spec.pullCredentials.harbor: %s", err)
	}
	return guarded(robots{api, source.Scope}, account.Password), nil
}

// guardedTransport connects where the operator allows, and trusts authorities besides those of the system.
func guardedTransport(guard egress.Guard, authorities []byte) (*http.Transport, error) {
	dialer := guard.Dialer()
	transport := egress.Transport(&dialer)
	if len(authorities) == 0 {
		return transport, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(authorities) {
		return nil, errors.New("no certificate")
	}
	transport.TLSClientConfig.RootCAs = pool
	return transport, nil
}

// robots issues Harbor's robot accounts.
type robots struct {
	api      *harbor.Client
	projects []string
}

func (r robots) issue(ctx context.Context, name string, _ time.Time, lifetime time.Duration) (issued, error) {
	robot, err := r.api.CreatePuller(ctx, name, r.projects, lifetime)
	return issued{robot.ID, robot.Name, robot.Secret, robot.ExpiresAt()}, err
}

func (r robots) list(ctx context.Context, prefix string) ([]pullcreds.Listed, error) {
	found, err := r.api.Robots(ctx, r.projects, prefix)
	var out []pullcreds.Listed
	for _, robot := range found {
		out = append(out, pullcreds.Listed{Name: robot.Name, ID: robot.ID})
	}
	return out, err
}

func (r robots) revoke(ctx context.Context, id int64) error { return r.api.DeleteRobot(ctx, id) }

// deployTokens issues GitLab's deploy tokens.
type deployTokens struct{ api deploytoken.API }

func (d deployTokens) issue(ctx context.Context, name string, now time.Time, lifetime time.Duration) (issued, error) {
	expires := now.Add(lifetime).UTC().Truncate(time.Second)
	token, err := d.api.Create(ctx, name, expires)
	if err == nil && !token.ExpiresAt.IsZero() && token.ExpiresAt.Before(expires) {
		expires = token.ExpiresAt
	}
	return issued{token.ID, token.Username, token.Token, expires}, err
}

func (d deployTokens) list(ctx context.Context, prefix string) ([]pullcreds.Listed, error) {
	found, complete, err := d.api.List(ctx, prefix)
	if err == nil && !complete {
		err = fmt.Errorf("GitLab project %s has more deploy tokens than are read: delete those that nobody needs", d.api.Project)
	}
	var out []pullcreds.Listed
	for _, token := range found {
		out = append(out, pullcreds.Listed{Name: token.Name, ID: token.ID})
	}
	return out, err
}

func (d deployTokens) revoke(ctx context.Context, id int64) error { return d.api.Delete(ctx, id) }

// discreet keeps the account's password out of errors, whatever a provider answers, counts them, and has it left alone when it
// asks for that.
type discreet struct {
	issuer
	provider  string
	passwords []string
	heed      func(error)
}

func (d discreet) issue(ctx context.Context, name string, now time.Time, lifetime time.Duration) (issued, error) {
	out, err := d.issuer.issue(ctx, name, now, lifetime)
	return out, d.failed(pullIssue, err)
}

func (d discreet) list(ctx context.Context, prefix string) ([]pullcreds.Listed, error) {
	out, err := d.issuer.list(ctx, prefix)
	return out, d.failed(pullList, err)
}

func (d discreet) revoke(ctx context.Context, id int64) error {
	err := d.issuer.revoke(ctx, id)
	if err == nil {
		pullRevokedTotal.WithLabelValues(d.provider).Inc()
	}
	return d.failed(pullRevoke, err)
}

// hushed is an error whose text was cleaned.
type hushed struct {
	error
	text string
}

// Error implements error.
func (h hushed) Error() string { return h.text }

// Unwrap is the error as it was.
func (h hushed) Unwrap() error { return h.error }

func (d discreet) failed(action string, err error) error {
	if err == nil {
		return nil
	}
	pullFailuresTotal.WithLabelValues(d.provider, action).Inc()
	d.heed(err)
	text := strings.ReplaceAll(err.Error(), "spec.registrySecretRef of the Project", "spec.pullCredentials.harbor.secretRef of the Project") // ca.crt is there
	for _, p := range d.passwords {
		text = strings.ReplaceAll(text, p, "…")
	}
	return hushed{err, text}
}

// look asks the sources for what they have: the present one now and then and before anything is issued, and any of which it
// is not known what became of a credential that was intended.
func (r *pullReconciler) look(ctx context.Context, s *pullState) {
	sources := map[string]pullcreds.Source{}
	for _, c := range s.record.Credentials {
		if c.Intended() {
			sources[c.Source.Key()] = c.Source
		}
	}
	if s.source != nil && s.invalid == nil && (r.lookDue(s) || len(r.decide(s).Issue) > 0) {
		sources[s.source.Key()] = *s.source
	}
	for key, source := range sources {
		list, err := r.listAt(ctx, s, source)
		if err != nil {
			s.problem(err)
			continue
		}
		s.lists[key] = append([]pullcreds.Listed{}, list...) // not nil: it is known
	}
}

func (r *pullReconciler) listAt(ctx context.Context, s *pullState, source pullcreds.Source) ([]pullcreds.Listed, error) {
	from, err := r.issuer(ctx, s, source)
	if err != nil {
		return nil, err
	}
	list, err := from.list(ctx, pullcreds.Prefix(s.record.ProjectUID))
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.listed[s.record.ProjectUID+"\n"+source.Key()] = s.now
	return list, nil
}

func (r *pullReconciler) lookDue(s *pullState) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	last, ok := r.listed[s.record.ProjectUID+"\n"+s.source.Key()]
	return !ok || !s.now.Before(last.Add(pullLook)) || s.now.Before(last) // the clock was ahead
}

// issue makes and delivers what is due. That each is intended is stored before any is asked for.
func (r *pullReconciler) issue(ctx context.Context, s *pullState) error {
	due := r.decide(s).Issue
	if len(due) == 0 || s.lists[s.source.Key()] == nil { // look told why it does not answer
		return nil
	}
	if len(due) > pullBatch {
		due, s.urgent = due[:pullBatch], true
	}
	from, err := r.issuer(ctx, s, *s.source)
	if err != nil {
		s.problem(err)
		return nil
	}
	s.record.Skip(s.lists[s.source.Key()])
	var intended []pullcreds.Credential
	for _, t := range due {
		// A day more at most: what providers round up to.
		intended = append(intended, s.record.Intend(t, *s.source, s.now.Add(s.terms.Lifetime+24*time.Hour)))
	}
	if err := r.savePullRecord(ctx, s); err != nil {
		return err
	}
	key := s.source.Key()
	for _, c := range intended {
		is, problem, err := r.issueOne(ctx, s, from, c)
		if err != nil {
			return err // what was made is adopted, or found by its name
		}
		s.lists[key] = append(s.lists[key], pullcreds.Listed{Name: c.Name, ID: is.ID}) // or may be there
		if problem != nil {
			s.urgent = false
			s.problem(problem)
			break
		}
	}
	return r.savePullRecord(ctx, s)
}

// issueOne makes one credential and delivers it; problem is what the provider had against it.
func (r *pullReconciler) issueOne(ctx context.Context, s *pullState, from issuer, c pullcreds.Credential) (is delivered, problem, err error) {
	made, err := from.issue(ctx, c.Name, s.now, s.terms.Lifetime)
	if err != nil {
		return delivered{}, err, nil
	}
	if !made.expires.After(s.now) {
		return delivered{}, fmt.Errorf("%s issued a credential that has expired already: do the clocks agree?", s.source.URL), nil
	}
	config, err := dockerConfig(s.source.Registry, made.username, made.password)
	if err != nil {
		return delivered{}, nil, err
	}
	is = delivered{Name: c.Name, ID: made.id, Issued: s.now.UTC(), Expires: made.expires.UTC()}
	if err := r.deliver(ctx, s, c.Target, s.source.Provider, config, &is); err != nil {
		return delivered{}, nil, err
	}
	s.record.Issued(c.Number, is.ID, is.Issued, is.Expires)
	pullIssuedTotal.WithLabelValues(s.source.Provider).Inc()
	r.events.Eventf(s.project, nil, corev1.EventTypeNormal, "PullCredentialIssued", "Issue", "host %s pulls for environment %s as %s of %s until %s",
		c.Target.Host, c.Target.Environment, c.Name, s.source.URL, is.Expires.Format(time.RFC3339))
	return is, nil, nil
}

// revoke makes worthless what is not needed any more, and forgets what is gone.
func (r *pullReconciler) revoke(ctx context.Context, s *pullState) error {
	plan := r.decide(s)
	for _, c := range plan.Forget {
		s.record.Forget(c.Number)
	}
	from := map[string]issuer{}
	for _, c := range plan.Revoke {
		r.revokeOne(ctx, s, from, c)
	}
	for _, stray := range plan.Strays {
		if to := r.issuerOnce(ctx, s, from, *s.source); to != nil {
			if err := to.revoke(ctx, stray.ID); err != nil {
				s.problem(err)
				from[s.source.Key()] = nil
			}
		}
	}
	if s.stored == nil && len(s.record.Credentials) == 0 {
		return nil
	}
	if s.source == nil && s.invalid == nil && len(s.record.Credentials) == 0 && len(s.secrets) == 0 {
		if err := r.dropPullRecord(ctx, s); err != nil {
			return err
		}
		return r.release(ctx, s.project)
	}
	return r.savePullRecord(ctx, s)
}

// issuerOnce makes the client of a source unless it failed in this pass: a provider that does not answer keeps nobody longer
// than one call.
func (r *pullReconciler) issuerOnce(ctx context.Context, s *pullState, known map[string]issuer, source pullcreds.Source) issuer {
	if i, ok := known[source.Key()]; ok {
		return i
	}
	i, err := r.issuer(ctx, s, source)
	if err != nil {
		s.problem(err)
		r.events.Eventf(s.project, nil, corev1.EventTypeWarning, "PullCredentialNotRevoked", "Revoke",
			"what is not needed any more of %s cannot be revoked, which is tried again until it expires: %s", source.URL, err)
		i = nil
	}
	known[source.Key()] = i
	return i
}

// revokeOne revokes a credential, or forgets one that has ended by itself meanwhile.
func (r *pullReconciler) revokeOne(ctx context.Context, s *pullState, from map[string]issuer, c pullcreds.Credential) {
	to := r.issuerOnce(ctx, s, from, c.Source)
	if to != nil && c.ID != 0 {
		err := to.revoke(ctx, c.ID)
		if err == nil {
			s.record.Forget(c.Number)
			return
		}
		s.problem(err)
		from[c.Source.Key()] = nil
		r.events.Eventf(s.project, nil, corev1.EventTypeWarning, "PullCredentialNotRevoked", "Revoke",
			"%s of %s could not be revoked, which is tried again until it expires at %s: %s", c.Name, c.Source.URL, c.Expires.Format(time.RFC3339), err)
	}
	if !c.Expires.After(s.now) {
		s.record.Forget(c.Number)
		r.events.Eventf(s.project, nil, corev1.EventTypeWarning, "PullCredentialExpired", "Revoke",
			"%s of %s could not be revoked and has expired by itself at %s", c.Name, c.Source.URL, c.Expires.Format(time.RFC3339))
	}
}

// farewell revokes all that a deleted project has. It never keeps the project for long: what cannot be revoked ends by itself.
func (r *pullReconciler) farewell(ctx context.Context, s *pullState) (ctrl.Result, error) {
	if !slices.Contains(s.project.Finalizers, pullFinalizer) {
		return ctrl.Result{}, nil
	}
	if err := r.adopt(ctx, s); err != nil {
		return ctrl.Result{}, err
	}
	if s.damaged {
		r.events.Eventf(s.project, nil, corev1.EventTypeWarning, "PullCredentialsLeft", "Revoke",
			"%s. The project goes without: at its provider delete what begins with %s, or see it expire", s.invalid, pullcreds.Prefix(s.record.ProjectUID))
	}
	s.source, s.invalid, s.wanted = nil, nil, nil
	if err := r.withdraw(ctx, s); err != nil {
		return ctrl.Result{}, err
	}
	r.look(ctx, s)
	if err := r.revoke(ctx, s); err != nil || len(s.record.Credentials) == 0 {
		if err == nil {
			err = errors.Join(r.dropPullRecord(ctx, s), r.release(ctx, s.project))
		}
		return ctrl.Result{}, err
	}
	s.record.Farewells++
	if s.record.Farewells < farewells {
		return ctrl.Result{RequeueAfter: farewellPause << (s.record.Farewells - 1)}, r.savePullRecord(ctx, s)
	}
	names, last, cause := []string{}, time.Time{}, ""
	if err := s.cause(); err != nil {
		cause = ". " + err.Error()
	}
	for _, c := range s.record.Credentials {
		if len(names) < 10 {
			names = append(names, c.Name)
		}
		if c.Expires.After(last) {
			last = c.Expires
		}
	}
	r.events.Eventf(s.project, nil, corev1.EventTypeWarning, "PullCredentialsLeft", "Revoke",
		"%d pull credential(s) could not be revoked and expire by themselves until %s, unless somebody deletes them at %s: %s%s",
		len(s.record.Credentials), last.Format(time.RFC3339), s.record.Credentials[0].Source.URL, strings.Join(names, ", "), cause)
	return ctrl.Result{}, errors.Join(r.dropPullRecord(ctx, s), r.release(ctx, s.project))
}
