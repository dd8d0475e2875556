// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/clientcmd"

	"gitlab.com/dynors/sirrat/internal/cli/lang"
)

// Exit codes.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
	// exitCheck: the command worked, and what it was asked to check does not hold.
	exitCheck = 3
)

// failure is an error in words for the user, with the way out.
type failure struct {
	text, hint string
	code       int
	cause      error
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.cause }

// fail is an error with a text of the catalogue.
func (s *session) fail(id lang.ID, args ...any) *failure {
	return &failure{text: s.T(id, args...), code: exitError}
}

// with adds the way out.
func (f *failure) with(hint string) *failure {
	f.hint = hint
	return f
}

// usage is an error of invocation: it names the command's help.
func (s *session) usage(cmd *cobra.Command, text string) error {
	return &failure{text: text, hint: s.T("error.see-help", cmd.CommandPath()), code: exitUsage}
}

func (s *session) unknownCommand(cmd *cobra.Command, name string) error {
	text := s.T("error.unknown-command", name, cmd.CommandPath())
	if near := cmd.SuggestionsFor(name); len(near) > 0 {
		text += " " + s.T("error.did-you-mean", strings.Join(near, ", "))
	}
	return s.usage(cmd, text)
}

// errNoCluster is the cause when nothing says which API server to speak to.
var errNoCluster = errors.New("no cluster is configured")

// configError is what is wrong with the kubeconfig.
type configError struct{ error }

func (e configError) Unwrap() error { return e.error }

// admissionDenied finds the policy's own words in a refusal by admission.
var admissionDenied = regexp.MustCompile(`(?s)denied request: (.*)$`)

// explain turns an error into words, the way out and the exit code.
func (s *session) explain(err error) (text, hint string, code int) {
	var f *failure
	if errors.As(err, &f) {
		return f.text, f.hint, f.code
	}
	var config configError
	var netErr net.Error
	var urlErr *url.Error
	var status apierrors.APIStatus
	switch {
	case errors.Is(err, errNoCluster), errors.As(err, &config) && clientcmd.IsEmptyConfig(config.error):
		if files := s.Getenv("KUBECONFIG"); files != "" { // clientcmd passes over files of it that are not there
			return s.T("error.no-kubeconfig-at", files), s.T("hint.kubeconfig"), exitError
		}
		return s.T("error.no-kubeconfig"), s.T("hint.kubeconfig"), exitError
	case errors.As(err, &config):
		return err.Error(), s.T("hint.kubeconfig"), exitError
	case errors.As(err, &status):
		text, hint = s.explainStatus(err)
		return text, hint, exitError
	case errors.As(err, &urlErr) && errors.As(err, &netErr) && !errors.Is(err, context.Canceled):
		return s.T("error.unreachable", urlErr.URL, urlErr.Err), s.T("hint.unreachable"), exitError
	case strings.HasPrefix(err.Error(), "unknown command "), strings.HasPrefix(err.Error(), "unknown flag"):
		return err.Error(), "", exitUsage
	}
	return err.Error(), "", exitError
}

// explainStatus words an answer of the API server.
func (s *session) explainStatus(err error) (text, hint string) {
	// What the API server said is shown alone, without the chain of what was being done: it names the object itself.
	var status *apierrors.StatusError
	message := err.Error()
	if errors.As(err, &status) {
		message = status.ErrStatus.Message
	}
	switch {
	case apierrors.IsForbidden(err):
		if m := admissionDenied.FindStringSubmatch(message); m != nil {
			return s.T("error.denied", m[1]), s.T("hint.denied")
		}
		return message, s.T("hint.forbidden")
	case apierrors.IsInvalid(err):
		if m := admissionDenied.FindStringSubmatch(message); m != nil {
			return s.T("error.denied", m[1]), s.T("hint.denied")
		}
		return message, ""
	case apierrors.IsUnauthorized(err):
		return s.T("error.unauthorized"), s.T("hint.unauthorized")
	case apierrors.IsNotFound(err) && status != nil && (status.ErrStatus.Details == nil || status.ErrStatus.Details.Name == ""):
		return s.T("error.not-installed"), s.T("hint.not-installed")
	}
	return message, ""
}

// wrap says what was being done, for errors that do not name their object.
func wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}
