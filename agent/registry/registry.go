// SPDX-License-Identifier: Apache-2.0

// Package registry asks an image registry what an image consists of, before the engine is told to pull it: sizes, platforms,
// and why it says no. The engine itself tells neither sizes nor when to come back.
//
// It never fetches layers. What it cannot reach, because only the engine knows the way (a mirror, a private CA), it reports
// as an error that is no verdict: the engine's own pull decides. It imports the standard library, the parser of image
// references and internal/dockerconfig only, because a whole registry library would weigh more than the rest of the agent's own code.
package registry

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/reference"
)

// Bounds of what a registry may say.
const (
	callTimeout = 20 * time.Second
	maxManifest = 4 << 20
	maxToken    = 1 << 20
	// maxRetryAfter that is honoured; who asks for more is not waited for.
	maxRetryAfter = time.Hour
)

// StatusError is an answer that is no success.
type StatusError struct {
	// Code is the HTTP status.
	Code int
	// RetryAfter is how long the registry asks to wait; 0 when it does not say.
	RetryAfter time.Duration
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("the registry answers %d %s", e.Code, http.StatusText(e.Code))
}

// Client asks registries. insecure says which hosts the engine talks to without a trusted certificate.
type Client struct {
	insecure func(host string) bool
	strict   *http.Client
	lenient  *http.Client
}

// New makes a client.
func New(insecure func(host string) bool) *Client {
	make := func(tlsConfig *tls.Config) *http.Client {
		return &http.Client{Timeout: callTimeout, CheckRedirect: checkRedirect, Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: tlsConfig, DisableKeepAlives: true, ForceAttemptHTTP2: true,
		}}
	}
	return &Client{
		insecure: insecure, strict: make(&tls.Config{MinVersion: tls.VersionTLS12}),
		lenient: make(&tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true}), //nolint:gosec // as the engine is configured
	}
}

// client is the one for a host.
func (c *Client) client(host string) *http.Client {
	if c.insecure(host) {
		return c.lenient
	}
	return c.strict
}

const maxRedirects = 5

// checkRedirect lets a registry send us elsewhere, its storage as a rule, with nothing that proves who we are: Go's own rule takes
// another port, or a name below the registry's, for the same server.
func checkRedirect(to *http.Request, via []*http.Request) error {
	first := via[0]
	switch {
	case len(via) >= maxRedirects:
		return fmt.Errorf("the registry redirects more than %d times", maxRedirects)
	case via[len(via)-1].URL.Scheme == "https" && to.URL.Scheme != "https":
		return fmt.Errorf("the registry redirects to %s, which is not protected by TLS", to.URL.Host)
	case to.URL.Host == first.URL.Host:
	case to.Method != http.MethodGet: // its body is a token
		return fmt.Errorf("the service for tokens redirects to %s", to.URL.Host)
	default:
		to.Header.Del("Authorization")
	}
	return nil
}

// Layer of an image, as it is transferred.
type Layer struct {
	Digest string `json:"digest"`
	// Size in bytes, compressed.
	Size int64 `json:"size"`
}

// Platform that an image runs on.
type Platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
}

func (p Platform) String() string { return p.OS + "/" + p.Architecture }

// Image is what a digest stands for.
type Image struct {
	// Platforms that it is made for.
	Platforms []Platform
	// Layers for the wanted platform; none when there is no such platform.
	Layers []Layer
	// DiffIDs of the layers once unpacked, by which the engine knows them.
	DiffIDs []string
}

// manifest covers images and indexes, of OCI and Docker alike.
type manifest struct {
	Manifests []struct {
		Digest   string   `json:"digest"`
		Platform Platform `json:"platform"`
	} `json:"manifests"`
	Config *Layer  `json:"config"`
	Layers []Layer `json:"layers"`
}

var accepted = strings.Join([]string{
	"application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json",
	"application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json",
}, ", ")

// Image reads what an image, given by digest, consists of on a platform. Every answer is checked against its digest. Errors
// wrap a *StatusError when the registry answered with something else than success.
func (c *Client) Image(ctx context.Context, ref string, want Platform, auth Auth) (*Image, error) {
	s, digest, err := c.session(ref, auth)
	if err != nil {
		return nil, err
	}
	m, err := s.manifest(ctx, digest)
	if err != nil {
		return nil, fmt.Errorf("ask about %s: %w", ref, err)
	}
	image := &Image{}
	if len(m.Manifests) > 0 {
		chosen := ""
		for _, one := range m.Manifests {
			if one.Platform.OS == "unknown" { // attestations
				continue
			}
			image.Platforms = append(image.Platforms, one.Platform)
			if one.Platform == want && chosen == "" {
				chosen = one.Digest
			}
		}
		if chosen == "" {
			return image, nil
		}
		if m, err = s.manifest(ctx, chosen); err != nil {
			return nil, fmt.Errorf("ask about %s for %s: %w", ref, want, err)
		}
	}
	image.Layers = m.Layers
	if m.Config == nil {
		return image, nil
	}
	image.Layers = append(image.Layers, *m.Config)
	var config struct {
		Platform
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := s.get(ctx, "blobs", m.Config.Digest, &config); err != nil {
		return nil, fmt.Errorf("ask about the configuration of %s: %w", ref, err)
	}
	image.DiffIDs = config.RootFS.DiffIDs
	if len(image.Platforms) == 0 && config.OS != "" {
		image.Platforms = []Platform{config.Platform}
	}
	return image, nil
}

// Probe asks whether an image, given by digest, can be had: nil, or why not.
func (c *Client) Probe(ctx context.Context, ref string, auth Auth) error {
	s, digest, err := c.session(ref, auth)
	if err != nil {
		return err
	}
	_, err = s.manifest(ctx, digest)
	return err
}

// session is one repository with the token that it hands out.
type session struct {
	client     *Client
	host, path string
	auth       Auth
	token      string
	// bases are the scheme and host to try, one once it has answered.
	bases []string
}

func (c *Client) session(ref string, auth Auth) (*session, string, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil, "", fmt.Errorf("%q: %w", ref, err)
	}
	digested, ok := named.(reference.Digested)
	if !ok {
		return nil, "", fmt.Errorf("%q has no digest", ref)
	}
	host := reference.Domain(named)
	if host == "docker.io" {
		host = "registry-1.docker.io"
	}
	s := &session{client: c, host: host, path: reference.Path(named), auth: auth, bases: []string{"https://" + host}}
	if c.insecure(host) { // as the engine does: what speaks TLS is not asked without
		s.bases = append(s.bases, "http://"+host)
	}
	return s, digested.Digest().String(), nil
}

func (s *session) manifest(ctx context.Context, digest string) (*manifest, error) {
	m := &manifest{}
	return m, s.get(ctx, "manifests", digest, m)
}

// get reads a manifest or a configuration and checks it against its digest.
func (s *session) get(ctx context.Context, kind, digest string, into any) error {
	var err error
	for _, base := range s.bases {
		var body []byte
		body, err = s.ask(ctx, base+"/v2/"+s.path+"/"+kind+"/"+digest)
		var status *StatusError
		if errors.As(err, &status) || err != nil && s.token != "" { // which is for whoever answered
			return err
		}
		if err != nil {
			continue // not by this scheme, perhaps by the other one
		}
		s.bases = []string{base}
		sum := sha256.Sum256(body)
		if strings.HasPrefix(digest, "sha256:") && "sha256:"+hex.EncodeToString(sum[:]) != digest {
			return fmt.Errorf("%w: %s", ErrDigestMismatch, digest)
		}
		return json.Unmarshal(body, into)
	}
	return err
}

// ErrDigestMismatch says that the registry sent something else than was asked for.
var ErrDigestMismatch = errors.New("the registry sent something else than the digest names")

// ask sends a request, once more with what the registry demands when it demands something.
func (s *session) ask(ctx context.Context, address string) ([]byte, error) {
	for try := 0; ; try++ {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return nil, err
		}
		request.Header.Set("Accept", accepted)
		request.Header.Set("User-Agent", "sirrat-agent")
		if s.token != "" {
			request.Header.Set("Authorization", s.token)
		}
		answer, err := s.client.client(s.host).Do(request)
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(io.LimitReader(answer.Body, maxManifest+1))
		answer.Body.Close()
		switch {
		case err != nil:
			return nil, err
		case len(body) > maxManifest:
			return nil, fmt.Errorf("the registry's answer is larger than %d bytes", maxManifest)
		case answer.StatusCode == http.StatusOK:
			return body, nil
		case answer.StatusCode == http.StatusUnauthorized && try == 0:
			if s.token, err = s.authorize(ctx, answer.Header.Values("WWW-Authenticate")); err != nil {
				return nil, err
			}
			if s.token != "" {
				continue
			}
		}
		return nil, statusOf(answer)
	}
}

func statusOf(answer *http.Response) error {
	e := &StatusError{Code: answer.StatusCode}
	text := answer.Header.Get("Retry-After")
	if seconds, err := strconv.Atoi(text); err == nil && seconds > 0 {
		e.RetryAfter = time.Duration(min(seconds, int(maxRetryAfter/time.Second))) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		now := time.Now()
		if sent, err := http.ParseTime(answer.Header.Get("Date")); err == nil {
			now = sent // by the registry's own clock
		}
		e.RetryAfter = min(max(0, at.Sub(now)), maxRetryAfter)
	}
	return e
}

// authorize answers a registry's challenge: the value of the header Authorization, empty when there is no answer.
func (s *session) authorize(ctx context.Context, challenges []string) (string, error) {
	for _, challenge := range challenges {
		scheme, rest, _ := strings.Cut(challenge, " ")
		switch strings.ToLower(scheme) {
		case "basic":
			if s.auth.Username != "" {
				return s.auth.basic(), nil
			}
		case "bearer":
			if s.auth.RegistryToken != "" {
				return "Bearer " + s.auth.RegistryToken, nil
			}
			return s.bearer(ctx, parameters(rest))
		}
	}
	return "", nil
}

// bearer fetches a token from the service that the challenge names.
func (s *session) bearer(ctx context.Context, challenge map[string]string) (string, error) {
	realm, err := url.Parse(challenge["realm"])
	if err != nil || realm.Host == "" {
		return "", errors.New("the registry names no service for tokens")
	}
	if realm.Scheme != "https" && !s.client.insecure(realm.Host) {
		return "", errors.New("the registry's service for tokens is not protected by TLS")
	}
	values := url.Values{}
	if service := challenge["service"]; service != "" {
		values.Set("service", service)
	}
	values.Set("scope", cmp.Or(challenge["scope"], "repository:"+s.path+":pull"))
	var request *http.Request
	if s.auth.IdentityToken != "" {
		values.Set("grant_type", "refresh_token")
		values.Set("refresh_token", s.auth.IdentityToken)
		values.Set("client_id", "sirrat-agent")
		request, err = http.NewRequestWithContext(ctx, http.MethodPost, realm.String(), strings.NewReader(values.Encode()))
	} else {
		realm.RawQuery = values.Encode()
		request, err = http.NewRequestWithContext(ctx, http.MethodGet, realm.String(), nil)
	}
	if err != nil {
		return "", err
	}
	if s.auth.IdentityToken != "" {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	} else if s.auth.Username != "" {
		request.Header.Set("Authorization", s.auth.basic())
	}
	answer, err := s.client.client(realm.Host).Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return "", statusOf(answer)
	}
	var token struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxToken)).Decode(&token); err != nil {
		return "", errors.New("the registry's service for tokens does not answer with JSON")
	}
	text := cmp.Or(token.Token, token.AccessToken)
	if text == "" {
		return "", errors.New("the registry's service for tokens gives none")
	}
	return "Bearer " + text, nil
}

// parameters of a challenge: key="value",….
func parameters(text string) map[string]string {
	found := map[string]string{}
	for text != "" {
		key, rest, ok := strings.Cut(text, "=")
		if !ok {
			break
		}
		key = strings.ToLower(strings.Trim(key, " ,"))
		if quoted, isQuoted := strings.CutPrefix(rest, `"`); isQuoted {
			found[key], text, _ = strings.Cut(quoted, `"`)
		} else {
			found[key], text, _ = strings.Cut(rest, ",")
		}
	}
	return found
}
