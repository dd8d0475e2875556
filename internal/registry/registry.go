// SPDX-License-Identifier: Apache-2.0

// Package registry resolves tags to digests and moves tags, in any registry that speaks the OCI distribution
// specification. Every call is bounded in time.
//
// It wraps github.com/google/go-containerregistry and may import internal/offline, whose source of images it is.
package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	dockerconfig "github.com/docker/cli/cli/config"
)

// callTimeout bounds one call to a registry.
const callTimeout = 30 * time.Second

// ErrNotFound says that the registry answered that there is no such tag, digest or repository.
var ErrNotFound = errors.New("not in the registry")

// Client talks to registries with the credentials of one project.
type Client struct {
	keychain  authn.Keychain
	transport http.RoundTripper
}

// New makes a client. dockerConfigJSON is the content of a Secret of type kubernetes.io/dockerconfigjson; nil for
// anonymous access.
func New(dockerConfigJSON []byte) (*Client, error) {
	c := &Client{keychain: anonymous{}, transport: remote.DefaultTransport}
	if len(dockerConfigJSON) == 0 {
		return c, nil
	}
	file, err := dockerconfig.LoadFromReader(strings.NewReader(string(dockerConfigJSON)))
	if err != nil {
		return nil, errors.New("the registry secret is not a Docker config.json") // the cause could quote a password
	}
	c.keychain = keychainFunc(func(host string) (authn.Authenticator, error) {
		if host == name.DefaultRegistry {
			host = authn.DefaultAuthKey
		}
		auth, err := file.GetAuthConfig(host)
		if err != nil {
			return nil, fmt.Errorf("credentials for %s cannot be read", host)
		}
		if auth.Username == "" && auth.Password == "" && auth.IdentityToken == "" && auth.RegistryToken == "" && auth.Auth == "" {
			return authn.Anonymous, nil
		}
		return authn.FromConfig(authn.AuthConfig{
			Username: auth.Username, Password: auth.Password, Auth: auth.Auth,
			IdentityToken: auth.IdentityToken, RegistryToken: auth.RegistryToken,
		}), nil
	})
	return c, nil
}

// Resolve is the digest of a reference ("repo:tag", "repo@sha256:…", or a short name as Docker understands it).
func (c *Client) Resolve(ctx context.Context, ref string) (string, error) {
	parsed, err := parse(ref)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	desc, err := remote.Head(parsed, c.options(ctx)...)
	if err != nil {
		return "", explain("look up "+ref, err)
	}
	return desc.Digest.String(), nil
}

// Tag gives a digest of a repository one more tag. Doing so again changes nothing.
func (c *Client) Tag(ctx context.Context, repository, digest, tag string) error {
	source, err := name.NewDigest(repository + "@" + digest)
	if err != nil {
		return fmt.Errorf("image %s@%s: %w", repository, digest, err)
	}
	target, err := name.NewTag(repository + ":" + tag)
	if err != nil {
		return fmt.Errorf("tag %s: %w", tag, err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if desc, err := remote.Head(target, c.options(ctx)...); err == nil && desc.Digest.String() == digest {
		return nil
	}
	desc, err := remote.Get(source, c.options(ctx)...)
	if err != nil {
		return explain("read "+source.String(), err)
	}
	if err := remote.Tag(target, desc, c.options(ctx)...); err != nil {
		return explain("tag "+target.String(), err)
	}
	return nil
}

// Repository is a reference without tag and digest, in full ("postgres:16" → "docker.io/library/postgres").
func Repository(ref string) (string, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return "", fmt.Errorf("image %q: %w", ref, err)
	}
	return named.Name(), nil
}

func parse(ref string) (name.Reference, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil, fmt.Errorf("image %q: %w", ref, err)
	}
	parsed, err := name.ParseReference(reference.TagNameOnly(named).String())
	if err != nil {
		return nil, fmt.Errorf("image %q: %w", ref, err)
	}
	return parsed, nil
}

func (c *Client) options(ctx context.Context) []remote.Option {
	return []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(c.keychain), remote.WithTransport(c.transport)}
}

func explain(doing string, err error) error {
	var t *transport.Error
	if errors.As(err, &t) {
		switch t.StatusCode {
		case http.StatusNotFound:
			return fmt.Errorf("%s: %w", doing, ErrNotFound)
		case http.StatusUnauthorized, http.StatusForbidden:
			return fmt.Errorf("%s: the registry refuses access (%d): check spec.registrySecretRef of the Project", doing, t.StatusCode)
		}
		return fmt.Errorf("%s: the registry answered %d", doing, t.StatusCode)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

type keychainFunc func(host string) (authn.Authenticator, error)

func (f keychainFunc) Resolve(r authn.Resource) (authn.Authenticator, error) {
	return f(r.RegistryStr())
}

type anonymous struct{}

func (anonymous) Resolve(authn.Resource) (authn.Authenticator, error) { return authn.Anonymous, nil }
