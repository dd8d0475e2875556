// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/version"
)

// maxProblem bounds what is read of an answer that is not 2xx, in bytes.
const maxProblem = 16 << 10

// api is SIRRAT's HTTP API, with a token or without.
type api struct {
	base  string // with /api, without a slash at the end
	token string
	http  *http.Client
}

// api finds the HTTP API: what the flag says, $SIRRAT_API_URL, or what the server wrote where every account may read it.
func (s *session) api(ctx context.Context, flag string) (*api, error) {
	address := cmp.Or(flag, s.Getenv("SIRRAT_API_URL"))
	if address == "" {
		c, err := s.client()
		if err != nil {
			return nil, err
		}
		var cm corev1.ConfigMap
		err = c.Get(ctx, client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: v1alpha1.InfoConfigMap}, &cm)
		if address = cm.Data[v1alpha1.InfoURL]; err != nil || address == "" {
			return nil, s.fail("error.no-api").with(s.T("hint.no-api"))
		}
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, s.fail("error.api-url", withoutUser(address)).with(s.T("hint.no-api"))
	}
	if u.Scheme == "http" && !local(u.Hostname()) {
		s.say("audit.plain-http", u.Host)
	}
	base := strings.TrimSuffix(strings.TrimSuffix(u.Scheme+"://"+u.Host+u.Path, "/"), "/api") + "/api"
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableCompression = true
	return &api{base: base, http: &http.Client{
		Transport: transport,
		// A token is for the server that was named and for no other.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// withoutUser is an address, which may be none, without the user name and password in it.
func withoutUser(address string) string {
	scheme, rest, ok := strings.Cut(address, "://")
	if i := strings.LastIndexByte(rest, '@'); ok && i >= 0 {
		return scheme + "://…" + rest[i:]
	}
	return address
}

// local tells whether a host is this machine.
func local(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// send asks for a path below the base; the body of the answer is the caller's to close.
func (s *session) send(ctx context.Context, a *api, method, path string, body []byte) (io.ReadCloser, error) {
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, a.base+path, reader)
	if err != nil {
		return nil, err
	}
	resp, err := s.do(a, req)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// do sends a request with the token; the body of an answer that is a success is the caller's to close.
func (s *session) do(a *api, req *http.Request) (*http.Response, error) {
	req.Header.Set("User-Agent", "kubectl-sirrat/"+version.Version)
	if a.token != "" {
		req.Header.Set("Authorization", "Bearer "+a.token)
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return nil, s.unreachable(a, err)
	}
	switch resp.StatusCode {
	case http.StatusOK, http.StatusCreated, http.StatusAccepted:
		return resp, nil
	}
	defer resp.Body.Close()
	var problem struct{ Title, Detail string }
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxProblem))
	if json.Unmarshal(text, &problem) != nil || problem.Title == "" {
		problem.Title, problem.Detail = resp.Status, s.T("error.not-sirrat", a.base)
	}
	cause := &statusError{status: resp.StatusCode, retryAfter: retryAfter(resp.Header, s.Now())}
	return nil, &failure{text: s.T("error.api", problem.Title, problem.Detail), code: exitError, cause: cause}
}

func (s *session) unreachable(a *api, err error) error {
	var urlErr *url.Error
	if errors.Is(err, context.Canceled) || !errors.As(err, &urlErr) {
		return err
	}
	f := s.fail("error.unreachable", a.base, urlErr.Err).with(s.T("hint.api-unreachable"))
	f.cause = err
	return f
}

// pvScanPath is where a PV's scan is sent.
func pvScanPath(project, name string) string {
	return fmt.Sprintf("/projects/%s/pvs/%s/scan", url.PathEscape(project), url.PathEscape(name))
}

// refusedPaper is why the controllers do not count the paper that the PV carries now.
func refusedPaper(p *v1alpha1.PV) string {
	ready := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionReady)
	if ready == nil || ready.Reason != v1alpha1.ReasonBadPaper || ready.ObservedGeneration != p.Generation {
		return ""
	}
	return ready.Message
}

// cleanupTimeout bounds what is put in order after a command, even one that was interrupted.
const cleanupTimeout = 10 * time.Second
