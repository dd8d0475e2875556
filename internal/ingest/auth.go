// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/internal/apitoken"
	"gitlab.com/dynors/sirrat/internal/idtoken"
)

// projectPattern is what a Project's schema allows: nothing else reaches a path of the API server.
var projectPattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$`)

const challenge = `Bearer realm="sirrat"`

func unauthorized(kind, detail string) *Problem {
	p := newProblem(http.StatusUnauthorized, kind, "A token of the project is needed", detail)
	p.challenge = challenge
	return p
}

// authenticate returns who sent the request, if they may open the project in this scope: a holder of one of its API tokens,
// or a job of its GitLab project.
func (a *api) authenticate(ctx context.Context, header http.Header, project string, scope apitoken.Scope) (caller, error) {
	token, err := bearer(header)
	if err != nil {
		return caller{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, a.o.StoreTimeout)
	defer cancel()
	c := caller{project: project}
	if idtoken.Looks(token) {
		c.job, err = a.authenticateJob(ctx, token, project, scope)
		return c, err
	}
	c.tokenID, err = a.authenticateToken(ctx, token, project, scope)
	return c, err
}

// authenticateToken returns the id of the API token that opens the project in this scope.
//
// A well-formed token that does not open it gets one and the same answer, whether the project is unknown, the token is, its
// secret is wrong, it is of another scope, or it belongs to another project; and the same work is done: the cache is asked, then the API server, and
// the hash is compared after each.
func (a *api) authenticateToken(ctx context.Context, token, project string, scope apitoken.Scope) (tokenID string, err error) {
	id, err := apitoken.ID(token)
	if err != nil {
		return "", unauthorized("malformed-token", "the bearer token is neither of the form sirrat_<id>_<secret> nor an id_token")
	}
	check, err := checkToken(ctx, a.o.Client, token, id, project, scope, a.o.Now())
	if err == nil && check != nil && !errors.Is(check, apitoken.ErrExpired) {
		err = a.inDoubt(ctx, project, func(ctx context.Context) (err error) {
			check, err = checkToken(ctx, a.o.APIReader, token, id, project, scope, a.o.Now())
			return err
		})
	}
	switch {
	case err != nil:
		return "", err
	case check == nil:
		return id, nil
	}
	if errors.Is(check, apitoken.ErrExpired) {
		p := unauthorized("expired-token", "the token has expired: create another with `kubectl sirrat token create`")
		p.challenge = challenge + `, error="invalid_token", error_description="the token has expired"`
		return "", p
	}
	return "", opensNothing("no such project, or the token is not one of its tokens for this: compare SIRRAT_PROJECT_ID and SIRRAT_API_TOKEN")
}

// checkToken says what is wrong with a token by what a reader has of it; nil if it is good. err is that of the reader.
func checkToken(ctx context.Context, reader client.Reader, token, id, project string, scope apitoken.Scope, now time.Time) (check, err error) {
	var secret *corev1.Secret
	if projectPattern.MatchString(project) {
		secret = &corev1.Secret{}
		switch err := reader.Get(ctx, client.ObjectKey{Namespace: project, Name: apitoken.SecretName(id)}, secret); {
		case apierrors.IsNotFound(err):
			secret = nil
		case err != nil:
			return nil, storeProblem("read the token", err)
		}
	}
	return apitoken.Check(secret, token, scope, now), nil
}

func opensNothing(detail string) *Problem {
	return newProblem(http.StatusForbidden, "token-opens-nothing-here", "The token does not open this project", detail)
}

func bearer(header http.Header) (string, error) {
	values := header.Values("Authorization")
	switch len(values) {
	case 0:
		return "", unauthorized("no-token", "send the header Authorization: Bearer and an API token (sirrat_…) or an id_token")
	case 1:
	default:
		return "", unauthorized("malformed-token", "more than one Authorization header")
	}
	scheme, token, found := strings.Cut(values[0], " ")
	if !found || !strings.EqualFold(scheme, "Bearer") {
		return "", unauthorized("malformed-token", "the Authorization header must be Bearer and a token")
	}
	return strings.TrimSpace(token), nil
}
