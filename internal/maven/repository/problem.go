// SPDX-License-Identifier: Apache-2.0

package repository

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"gitlab.com/dynors/sirrat/internal/egress"
)

// Kind of a problem.
type Kind string

// Kinds.
const (
	// KindMissing: the repository does not have a file.
	KindMissing Kind = "missing"
	// KindInvalid: a file is not what its coordinates or checksums say.
	KindInvalid Kind = "invalid"
	// KindChanged: a file is another one than before.
	KindChanged Kind = "changed"
	// KindDenied: the repository refuses the credentials.
	KindDenied Kind = "denied"
	// KindUnusable: address or credentials cannot be used at all.
	KindUnusable Kind = "unusable"
	// KindAway: the repository does not answer as it should.
	KindAway Kind = "away"
)

// Problem is what a repository has against a question, or we have against its answer. Its text is shown to users.
type Problem struct {
	Kind Kind
	Text string
	// After is how long the repository asks to be left alone; 0 if it does not say.
	After time.Duration
}

func (p *Problem) Error() string { return p.Text }

func problem(kind Kind, format string, args ...any) *Problem {
	return &Problem{Kind: kind, Text: fmt.Sprintf(format, args...)}
}

// maxAfter bounds how long a repository may have itself left alone.
const maxAfter = time.Hour

// answered is what an answer without a file means.
func answered(file string, resp *http.Response) *Problem {
	switch code := resp.StatusCode; {
	case code == http.StatusNotFound || code == http.StatusGone:
		return problem(KindMissing, "%s is not in the package registry, or the account may not see it", file)
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		return problem(KindDenied, "the package registry refuses the account (%d for %s): mend the Secret of spec.packageRegistry.secretRef of the Project; the right to read packages is enough", code, file)
	case code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable:
		p := problem(KindAway, "the package registry asks to come back later (%d for %s)", code, file)
		if n, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && n > 0 {
			p.After = min(time.Duration(n)*time.Second, maxAfter)
		}
		return p
	default:
		return problem(KindAway, "the package registry answers %d for %s", code, file)
	}
}

// Errors of redirects that are not followed.
var (
	errForwarded = errors.New("forwarded to another repository")
	errRedirect  = errors.New("redirected too often, or not to https")
)

// unanswered is why there is no answer. What the cause says is not told: it may have an address that is none of the reader's
// business.
func unanswered(file string, err error) *Problem {
	var untrusted *tls.CertificateVerificationError
	var name *net.DNSError
	var timeout net.Error
	switch {
	case errors.Is(err, errForwarded):
		return problem(KindMissing, "%s is not in the package registry, which sends its readers on to another repository: what is published there under this name is not counted", file)
	case errors.Is(err, errRedirect):
		return problem(KindAway, "the package registry redirects too often, or not to https (%s)", file)
	case errors.Is(err, egress.ErrBlocked):
		return problem(KindUnusable, "the package registry, or the storage that it redirects to, cannot be asked: %s. Give spec.packageRegistry.url an address on the public internet, or have the operator start the server with --allow-private-addresses", egress.ErrBlocked)
	case errors.As(err, &untrusted):
		return problem(KindAway, "the certificate of the package registry, or of its storage, is not trusted: put that of its authority under ca.crt into the Secret of spec.packageRegistry.secretRef")
	case errors.As(err, &name):
		return problem(KindAway, "the name of the package registry, or of its storage, cannot be resolved (%s)", file)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return problem(KindAway, "the package registry does not answer in time (%s)", file)
	}
	return problem(KindAway, "the package registry cannot be reached, or breaks off (%s)", file)
}
