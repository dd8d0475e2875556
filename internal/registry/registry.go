// SPDX-License-Identifier: Apache-2.0

// Package registry resolves tags to digests and moves tags, in any registry that speaks the OCI distribution
// specification (read: v1.1.1) and authenticates as the Docker registry does: not at all, with a password, or with a bearer
// token of a token server (read: distribution 2.8, "Token Authentication Specification").
//
// To promote an image is to put its manifest, or its index when it is for several architectures, under one more tag: two
// requests, HEAD of the tag and PUT, and no blob. That takes that the manifest is known, which it is since Pin; otherwise it
// is read first, by its digest. What was read is checked against the digest before it is kept or put anywhere.
//
// To promote it into another registry is to copy what that does not have, index and all, and to ask it for everything once more:
// see Copy. It is done here and not by a library, since those try again by themselves: here what a registry answers, and until
// when it wants to be left alone, is to be told to people, and holds for every call. What is attached to images follows them
// with CopyAttached.
//
// Every call is bounded in time, a layer by the time in which nothing of it moves, and none waits: a registry that cannot answer is a Problem that says when it may be asked
// again, and until then nothing is sent to it.
//
// It wraps github.com/google/go-containerregistry and may import internal/dockerconfig, internal/egress and internal/offline, whose source of images it is.
package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"

	"gitlab.com/dynors/sirrat/internal/dockerconfig"
)

// callTimeout bounds one call to a registry.
const callTimeout = 30 * time.Second

// manifestTypes are what a tag may name: indexes first, so that an image for several architectures is taken as a whole.
var manifestTypes = strings.Join([]string{
	string(types.OCIImageIndex), string(types.DockerManifestList), string(types.OCIManifestSchema1), string(types.DockerManifestSchema2),
}, ", ")

// New makes a client. dockerConfigJSON is the content of a Secret of type kubernetes.io/dockerconfigjson; nil for
// anonymous access. ca are certificates (PEM) of authorities that registries and their token servers may be signed by,
// besides those that the system trusts; nil for none. It connects to any address: clients of a Pool are guarded.
func New(dockerConfigJSON, ca []byte) (*Client, error) {
	return makeClient(dockerConfigJSON, ca, nil)
}

func makeClient(dockerConfigJSON, ca []byte, dialer *net.Dialer) (*Client, error) {
	transport, err := transportFor(ca, dialer)
	if err != nil {
		return nil, err
	}
	keys, err := keychainOf(dockerConfigJSON)
	if err != nil {
		return nil, err
	}
	return newClient(keys, transport), nil
}

func keychainOf(dockerConfigJSON []byte) (authn.Keychain, error) {
	if len(dockerConfigJSON) == 0 {
		return anonymous{}, nil
	}
	if _, err := dockerconfig.For(dockerConfigJSON, ""); err != nil {
		return nil, err
	}
	return keychainFunc(func(repository string) (authn.Authenticator, error) {
		auth, err := dockerconfig.For(dockerConfigJSON, repository)
		if err != nil {
			return nil, err
		}
		if auth.IsZero() {
			return authn.Anonymous, nil
		}
		return authn.FromConfig(authn.AuthConfig{
			Username: auth.Username, Password: auth.Password, IdentityToken: auth.IdentityToken, RegistryToken: auth.RegistryToken,
		}), nil
	}), nil
}

// Resolve is the digest of a reference ("repo:tag", "repo@sha256:…", or a short name as Docker understands it). It takes one
// HEAD, which registries do not count as a pull.
func (c *Client) Resolve(ctx context.Context, ref string) (string, error) {
	parsed, err := parse(ref)
	if err != nil {
		return "", err
	}
	return c.digestOf(ctx, parsed.Context(), false, "look up "+ref, parsed.Identifier())
}

// Pin is the digest of a reference whose manifest is then read, checked and remembered, so that it can be tagged at once. A
// registry that serves other bytes than the digest names is a Problem here already.
func (c *Client) Pin(ctx context.Context, ref string) (string, error) {
	pinned, err := c.Resolve(ctx, ref)
	if err != nil {
		return "", err
	}
	parsed, err := parse(ref)
	if err != nil {
		return "", err
	}
	if _, err := c.manifest(ctx, parsed.Context(), false, pinned); err != nil {
		return "", err
	}
	return pinned, nil
}

// Tagging is one more tag for a digest of a repository.
type Tagging struct {
	Repository, Digest, Tag string
	// Moves says that the tag may be taken from another digest. One that does not move is never overwritten.
	Moves bool
	// Overtaken, if not nil, is asked when it is this tag's turn to be written, and says whether it is another's by now.
	Overtaken func() bool
}

// ErrOvertaken says that the tag was not written, since it is another's by now.
var ErrOvertaken = errors.New("the tag goes to another digest by now")

// Tag gives a digest of a repository one more tag. Doing so again changes nothing and takes one HEAD. In one process one at a time
// asks for a tag and writes it, whatever its account: registries have no request that writes what is not there.
func (c *Client) Tag(ctx context.Context, t Tagging) error {
	repo, err := name.NewRepository(t.Repository)
	if err != nil {
		return fmt.Errorf("image %s: %w", t.Repository, err)
	}
	if _, err := name.NewTag(t.Repository + ":" + t.Tag); err != nil {
		return fmt.Errorf("tag %s: %w", t.Tag, err)
	}
	key := repo.Name() + ":" + t.Tag + "=" + t.Digest
	for _, wait := range []string{key, writing(repo)} {
		if p := c.paused(wait); p != nil {
			return p
		}
	}
	leave, err := tagging.enter(ctx, repo.Name()+":"+t.Tag)
	if err != nil {
		return err
	}
	err = c.tag(ctx, repo, t)
	leave()
	var p *Problem
	if errors.As(err, &p) && p.Until.IsZero() && p.Kind != KindNotFound {
		p.Until = c.now().Add(mendPause)
		c.pause(key, p)
	}
	return err
}

func (c *Client) tag(ctx context.Context, repo name.Repository, t Tagging) error {
	doing := "tag " + t.Repository + ":" + t.Tag
	taken, err := c.digestOf(ctx, repo, true, doing, t.Tag)
	switch {
	case errors.Is(err, ErrNotFound):
	case err != nil:
		return err
	case taken == t.Digest:
		return nil
	case !t.Moves:
		return &Problem{Kind: KindTaken, Doing: doing, Text: fmt.Sprintf("the tag is taken: it names %s, and the release is %s. "+
			"A version's tag is never moved: give the release another version, or delete the tag in the registry if it was a mistake", taken, t.Digest)}
	}
	m, err := c.manifest(ctx, repo, true, t.Digest)
	if err != nil {
		return err
	}
	if t.Overtaken != nil && t.Overtaken() {
		return ErrOvertaken
	}
	answer, err := c.do(ctx, request{
		repo: repo, push: true, doing: doing, method: http.MethodPut, path: "manifests/" + t.Tag, body: m.content, header: map[string]string{"Content-Type": m.mediaType},
		refused: func(said string, status int) *Problem { return refusedTag(t, doing, taken, said, status) },
	})
	if err != nil {
		return err
	}
	stored := answer.header.Get(digestHeader)
	if stored == "" { // it may be left out: then it is looked up
		if stored, err = c.digestOf(ctx, repo, true, doing, t.Tag); err != nil {
			return err
		}
	}
	if stored != t.Digest {
		return &Problem{Kind: KindMismatch, Doing: doing, Text: fmt.Sprintf("the registry stored %s where %s was sent: do not use this tag", stored, t.Digest)}
	}
	return nil
}

// refusedTag is a refusal to write a tag. Harbor answers 412 for an immutable tag (read: 2.12), other registries 409; GitLab
// (read: 18) and those that mean the account answer 401 or 403.
func refusedTag(t Tagging, doing, taken, said string, status int) *Problem {
	if isFull(status, said) {
		return nil
	}
	named := "it names no image yet"
	if taken != "" {
		named = "it names " + taken
	}
	text := fmt.Sprintf("the registry refuses to write the tag (%d%s): %s, and the release is %s. ", status, said, named, t.Digest)
	switch status {
	case http.StatusConflict, http.StatusPreconditionFailed:
		return &Problem{Kind: KindImmutable, Doing: doing, Text: text + "It is immutable there: exempt it from the rule, or use a tag of its own for each release in spec.tags of the Environment"}
	case http.StatusUnauthorized, http.StatusForbidden:
		return &Problem{Kind: KindDenied, Doing: doing, Text: text + "The tag is protected, a quota is used up, or the account of " + ProjectAccount + " may only read"}
	}
	return nil
}

// manifest as a registry has it.
type manifest struct {
	mediaType string
	content   []byte
}

// manifest is what a digest names, as it was read and checked once. It is remembered when it is of an ordinary size.
func (c *Client) manifest(ctx context.Context, repo name.Repository, push bool, pinned string) (manifest, error) {
	if known, ok := c.known.Get(repo.Name() + "@" + pinned); ok {
		return known.(manifest), nil
	}
	return c.readManifest(ctx, repo, push, pinned)
}

// readManifest reads what a digest names, and checks it.
func (c *Client) readManifest(ctx context.Context, repo name.Repository, push bool, pinned string) (manifest, error) {
	key := repo.Name() + "@" + pinned
	doing := "read " + key
	want, err := digest.Parse(pinned)
	if err != nil {
		return manifest{}, fmt.Errorf("%s: %w", doing, err)
	}
	answer, err := c.do(ctx, request{repo: repo, push: push, doing: doing, method: http.MethodGet, path: "manifests/" + pinned, header: acceptManifests})
	if err != nil {
		return manifest{}, err
	}
	switch types.MediaType(answer.header.Get("Content-Type")) {
	case types.DockerManifestSchema1, types.DockerManifestSchema1Signed: // whose bytes have another digest, too
		return manifest{}, &Problem{Kind: KindUnfit, Doing: doing, Text: "it is an image of Docker's first format (manifest schema 1), which nobody signs, copies or pulls by digest any more: build and push it anew with a builder of today"}
	}
	if got := want.Algorithm().FromBytes(answer.body); got != want {
		c.known.Remove(key)
		return manifest{}, &Problem{Kind: KindMismatch, Doing: doing, Text: fmt.Sprintf("the registry serves other bytes than this digest names: theirs is %s. Push the image again; nothing is made of what it serves", got)}
	}
	m := manifest{mediaType: mediaTypeOf(answer), content: answer.body}
	if len(m.content) <= rememberedSize {
		c.known.Add(key, m)
	}
	return m, nil
}

// mediaTypeOf is what a manifest says that it is, which registries compare with what it is put as; what it was called on the way where
// it says nothing, as manifests of OCI need not.
func mediaTypeOf(a answer) string {
	var says struct {
		MediaType string `json:"mediaType"`
	}
	if json.Unmarshal(a.body, &says) == nil && says.MediaType != "" {
		return says.MediaType
	}
	kind, _, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	if err != nil {
		return a.header.Get("Content-Type")
	}
	return kind
}

// digestOf asks with HEAD what a tag or digest names; with GET where a registry does not tell with HEAD.
func (c *Client) digestOf(ctx context.Context, repo name.Repository, push bool, doing, identifier string) (string, error) {
	ask := request{repo: repo, push: push, doing: doing, method: http.MethodHead, path: "manifests/" + identifier, header: acceptManifests}
	answer, err := c.do(ctx, ask)
	if err != nil {
		return "", err
	}
	told := answer.header.Get(digestHeader)
	if told == "" {
		ask.method = http.MethodGet
		if answer, err = c.do(ctx, ask); err != nil {
			return "", err
		}
		told = cmp.Or(answer.header.Get(digestHeader), digest.FromBytes(answer.body).String())
	}
	parsed, err := digest.Parse(told)
	if err != nil {
		return "", &Problem{Kind: KindMismatch, Doing: doing, Text: fmt.Sprintf("the registry names no digest but %.100q", told)}
	}
	if asked, err := digest.Parse(identifier); err == nil && asked != parsed {
		return "", &Problem{Kind: KindMismatch, Doing: doing, Text: fmt.Sprintf("the registry answers with %s", parsed)}
	}
	return parsed.String(), nil
}

// digestHeader in which registries tell the digest of a manifest.
const digestHeader = "Docker-Content-Digest"

var acceptManifests = map[string]string{"Accept": manifestTypes}

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
	return []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(c.keychain), remote.WithTransport(wire{c.transport, true})}
}

// keychainFunc knows the account for a repository, or for a registry's host.
type keychainFunc func(repository string) (authn.Authenticator, error)

func (f keychainFunc) Resolve(r authn.Resource) (authn.Authenticator, error) {
	return f(r.String())
}

type anonymous struct{}

func (anonymous) Resolve(authn.Resource) (authn.Authenticator, error) { return authn.Anonymous, nil }
