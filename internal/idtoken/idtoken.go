// SPDX-License-Identifier: Apache-2.0

// Package idtoken verifies the OIDC id_tokens with which the jobs of a GitLab pipeline say who they are.
//
// A token is good for one project when the issuer that the project trusts has signed it, with a key that the issuer
// publishes, for a job of the GitLab project that it names. What such a token says wrong is told (Refusal). Any other token
// is foreign to the project, whatever else it says (Foreign): its holder must not learn more than that.
//
// The claims are those of GitLab's ID tokens as documented for GitLab 18.4 (docs.gitlab.com, ci/secrets/
// id_token_authentication): sha, ref_path and runner_id since 16.0, job_project_path since 18.4. Discovery is OpenID Connect
// Discovery 1.0, keys are RFC 7517, tokens RFC 7519 in the compact form of RFC 7515.
//
// No error of this package holds a token or a part of one.
package idtoken

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	// MaxToken bounds a token, in bytes. GitLab's have about 1800.
	MaxToken = 8 << 10
	// Leeway is how far the clocks of issuer and server may be apart.
	Leeway = 30 * time.Second
	// minRSA is the length under which an RSA key signs nothing (NIST SP 800-131A), in bits.
	minRSA = 2048
)

// algorithms that a token may be signed with: those with a public key. Never none, never HS*, whose key would be the public
// key that everybody has.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// ErrMalformed is the error for what is no token that this package reads.
var ErrMalformed = errors.New("not a signed token in the compact form")

// ErrAlgorithm is the error for a token that is signed in a way that proves nothing, or not at all.
var ErrAlgorithm = errors.New("its algorithm is not allowed: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512 and EdDSA are")

// Foreign is the error for a token that is not one of the project's. Reason is for the operator's log.
type Foreign struct{ Reason string }

// Error implements error.
func (e *Foreign) Error() string { return "foreign id_token: " + e.Reason }

// Refusal is the error for a token of the project's that is not good for what it was used for.
type Refusal struct {
	// Claim that is wrong, as in the token.
	Claim string
	// What is wrong with it, and what to do.
	Reason string
}

// Error implements error.
func (e *Refusal) Error() string { return e.Claim + ": " + e.Reason }

// Unavailable is the error when the issuer's keys are not known and cannot be fetched.
type Unavailable struct {
	// After is when a new try makes sense.
	After time.Duration
	Err   error
}

// Error implements error.
func (e *Unavailable) Error() string { return "keys of the issuer: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Unavailable) Unwrap() error { return e.Err }

// Expected is what a project trusts.
type Expected struct {
	// Issuer, an https URL, exactly as in the claim iss.
	Issuer string
	// Audiences, of which one must be in the claim aud.
	Audiences []string
	// ProjectPath is the path of the GitLab project, as in the claim project_path.
	ProjectPath string
	// ProjectID is the id of the GitLab project. Empty: any.
	ProjectID string
	// ProtectedOnly refuses jobs of refs that are not protected.
	ProtectedOnly bool
}

// Claims are what the issuer says of the job.
type Claims struct {
	Issuer       string
	ProjectPath  string
	ProjectID    string
	Pipeline     string // id, digits
	Job          string // id, digits
	Commit       string // full, lower case
	Ref          string // branch or tag, without refs/heads/
	RefType      string // branch or tag
	RefProtected bool
	User         string // login of who started the job
}

// wire are the claims as they stand in a token, next to the registered ones.
type wire struct {
	ProjectPath    string `json:"project_path"`
	ProjectID      text   `json:"project_id"`
	JobProjectPath string `json:"job_project_path"`
	PipelineID     text   `json:"pipeline_id"`
	JobID          text   `json:"job_id"`
	SHA            string `json:"sha"`
	Ref            string `json:"ref"`
	RefType        string `json:"ref_type"`
	RefProtected   text   `json:"ref_protected"`
	UserLogin      string `json:"user_login"`
}

// text takes a string, a number or a boolean as its text: GitLab writes ids and ref_protected as strings.
type text string

var plainValue = regexp.MustCompile(`^("[A-Za-z0-9_-]{0,64}"|[0-9]{1,20}|true|false)$`)

// UnmarshalJSON implements json.Unmarshaler.
func (t *text) UnmarshalJSON(data []byte) error {
	if !plainValue.Match(data) {
		return errors.New("not a plain value")
	}
	*t = text(strings.Trim(string(data), `"`))
	return nil
}

var (
	idPattern     = regexp.MustCompile(`^[0-9]{1,20}$`)
	commitPattern = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)
)

// Token is a token that was read and not verified.
type Token struct {
	// Issuer and ProjectPath as the token claims them; anybody can write anything there.
	Issuer, ProjectPath string

	signed *jwt.JSONWebToken
}

// Looks tells whether a bearer token has the form of an id_token: three parts between dots.
func Looks(token string) bool { return strings.Count(token, ".") == 2 }

// Parse reads a token without verifying it. The error is ErrMalformed or ErrAlgorithm.
func Parse(token string) (*Token, error) {
	if len(token) > MaxToken {
		return nil, fmt.Errorf("%w of at most %d bytes", ErrMalformed, MaxToken)
	}
	signed, err := jwt.ParseSigned(token, algorithms)
	if unexpected := (*jose.ErrUnexpectedSignatureAlgorithm)(nil); errors.As(err, &unexpected) {
		return nil, ErrAlgorithm
	}
	if err != nil || len(signed.Headers) != 1 {
		return nil, ErrMalformed
	}
	var registered jwt.Claims
	var claims wire
	if err := signed.UnsafeClaimsWithoutVerification(&registered, &claims); err != nil {
		return nil, ErrMalformed
	}
	return &Token{Issuer: registered.Issuer, ProjectPath: claims.ProjectPath, signed: signed}, nil
}

// Verify returns what the issuer says of the job, if the token is good for a project that expects this. The error is a
// *Foreign, a *Refusal, or an *Unavailable; or that of ctx.
func (v *Verifier) Verify(ctx context.Context, token *Token, want Expected) (Claims, error) {
	if want.Issuer == "" || token.Issuer != want.Issuer {
		return Claims{}, &Foreign{"another issuer"}
	}
	key, err := v.key(ctx, want.Issuer, token.signed.Headers[0].KeyID)
	if err != nil {
		return Claims{}, err
	}
	if key.Algorithm != "" && key.Algorithm != token.signed.Headers[0].Algorithm {
		return Claims{}, &Foreign{"the key is for another algorithm"}
	}
	var registered jwt.Claims
	var claims wire
	if err := token.signed.Claims(key.Key, &registered, &claims); err != nil {
		return Claims{}, &Foreign{"not signed by the key of that kid"}
	}
	if err := claims.belong(want); err != nil {
		return Claims{}, err
	}
	if err := checkRegistered(registered, want, v.o.Now()); err != nil {
		return Claims{}, err
	}
	return claims.accept(want)
}

// belong tells whether the token is of a job of the project. A merge request from a fork can run in the project that it is
// for: since GitLab 18.4 job_project_path is where the job runs, and project_path where its code comes from.
func (w wire) belong(want Expected) error {
	switch {
	case want.ProjectPath == "" || w.ProjectPath != want.ProjectPath:
		return &Foreign{"another project_path"}
	case want.ProjectID != "" && string(w.ProjectID) != want.ProjectID:
		return &Foreign{"another project_id"}
	case w.JobProjectPath != "" && w.JobProjectPath != want.ProjectPath:
		return &Foreign{"another job_project_path"}
	}
	return nil
}

// checkRegistered checks the claims of RFC 7519.
func checkRegistered(c jwt.Claims, want Expected, now time.Time) error {
	if c.Expiry == nil {
		return &Refusal{"exp", "the token never expires"}
	}
	if len(want.Audiences) == 0 {
		return &Refusal{"aud", "the server does not know its own address: set spec.ci.oidc.audience"}
	}
	err := c.ValidateWithLeeway(jwt.Expected{AnyAudience: want.Audiences, Time: now}, Leeway)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jwt.ErrExpired):
		return &Refusal{"exp", "the token has expired; GitLab's live as long as the job's timeout"}
	case errors.Is(err, jwt.ErrNotValidYet):
		return &Refusal{"nbf", "the token is not valid yet: compare the clocks"}
	case errors.Is(err, jwt.ErrIssuedInTheFuture):
		return &Refusal{"iat", "the token is issued in the future: compare the clocks"}
	default:
		return &Refusal{"aud", "the token is for another audience: write aud: " + want.Audiences[0] + " below id_tokens in .gitlab-ci.yml"}
	}
}

// accept checks GitLab's claims.
func (w wire) accept(want Expected) (Claims, error) {
	switch {
	case !commitPattern.MatchString(w.SHA):
		return Claims{}, &Refusal{"sha", "is not a full commit: GitLab 16.0 or newer is needed"}
	case !idPattern.MatchString(string(w.PipelineID)):
		return Claims{}, &Refusal{"pipeline_id", "is not a number"}
	case !idPattern.MatchString(string(w.JobID)):
		return Claims{}, &Refusal{"job_id", "is not a number"}
	case w.Ref == "" || w.RefType != "branch" && w.RefType != "tag":
		return Claims{}, &Refusal{"ref_type", "is neither branch nor tag"}
	case want.ProtectedOnly && w.RefProtected != "true":
		return Claims{}, &Refusal{"ref_protected", "the " + w.RefType + " is not protected: protect it in GitLab, or set spec.ci.oidc.protectedRefsOnly to false"}
	}
	return Claims{
		Issuer: want.Issuer, ProjectPath: w.ProjectPath, ProjectID: string(w.ProjectID), Pipeline: string(w.PipelineID), Job: string(w.JobID),
		Commit: w.SHA, Ref: w.Ref, RefType: w.RefType, RefProtected: w.RefProtected == "true", User: w.UserLogin,
	}, nil
}
