// SPDX-License-Identifier: Apache-2.0

package compose

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"

	images "gitlab.com/dynors/sirrat/agent/registry"
)

// Errors that Pull wraps, one for each thing that somebody has to do something else about.
var (
	ErrNotFound       = errors.New("the registry has no such image")
	ErrDenied         = errors.New("the registry refuses access") // 401 or 403: the engine does not tell them apart
	ErrRateLimited    = errors.New("the registry asks for patience: too many requests")
	ErrRegistry       = errors.New("the registry is in trouble")
	ErrDigestMismatch = errors.New("the registry sent something else than the digest names")
	ErrTimeout        = errors.New("the registry did not answer in time")
	ErrStalled        = errors.New("the transfer stood still")
	ErrNoSpace        = errors.New("the engine's disk is full")
)

// CheckPinned says whether ref is a repository with a digest and nothing else.
func CheckPinned(ref string) error {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return fmt.Errorf("%q: %w", ref, err)
	}
	if _, digested := named.(reference.Digested); !digested {
		return fmt.Errorf("%q has no digest", ref)
	}
	if _, tagged := named.(reference.Tagged); tagged {
		return fmt.Errorf("%q has a tag beside its digest", ref)
	}
	return nil
}

// Present says whether the engine has an image, given by digest, on disk.
func (e *Engine) Present(ctx context.Context, ref string) (bool, error) {
	_, present, err := e.Image(ctx, ref)
	return present, err
}

// Image on the engine's disk.
type Image struct {
	ID string
	// Platform that it is made for.
	Platform images.Platform
	// DiffIDs of its layers, unpacked.
	DiffIDs []string
}

// Image looks for an image, given by digest, on disk.
func (e *Engine) Image(ctx context.Context, ref string) (found Image, present bool, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	i, err := e.client.ImageInspect(ctx, ref)
	if errdefs.IsNotFound(err) {
		return Image{}, false, nil
	}
	if err != nil {
		return Image{}, false, e.explain("look for image "+ref, err)
	}
	return Image{ID: i.ID, Platform: images.Platform{OS: i.Os, Architecture: i.Architecture}, DiffIDs: i.RootFS.Layers}, true, nil
}

// Progress of a pull, in compressed bytes; total grows while the engine learns of layers.
type Progress struct{ Done, Total int64 }

// StallAfter is how long nothing may move in a pull before it is given up: longer than the engine's own waits between its
// tries for one layer.
const StallAfter = 3 * time.Minute

// Pull fetches an image by digest unless it is on disk already. credentials is a dockerconfigjson, used for this pull and
// then forgotten; empty means none. progress is called more than once a second. A pull in which nothing moves for stall is
// given up with ErrStalled; 0 means StallAfter. There is no other limit in time: a large image on a slow line is no error.
func (e *Engine) Pull(ctx context.Context, ref string, credentials []byte, stall time.Duration, progress func(Progress)) error {
	if err := CheckPinned(ref); err != nil {
		return err
	}
	if present, err := e.Present(ctx, ref); err != nil || present {
		return err
	}
	auth, err := authFor(ref, credentials)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(cmp.Or(stall, StallAfter), func() { cancel(ErrStalled) })
	defer watch.Stop()
	alive := func() { watch.Reset(cmp.Or(stall, StallAfter)) }
	if err := e.pull(ctx, ref, auth, alive, progress); err != nil {
		if errors.Is(context.Cause(ctx), ErrStalled) {
			return fmt.Errorf("pull %s: %w for %s", ref, ErrStalled, cmp.Or(stall, StallAfter))
		}
		return err
	}
	present, err := e.Present(ctx, ref)
	if err == nil && !present {
		err = fmt.Errorf("pull %s: the engine ended without an error, but does not have the image", ref)
	}
	return err
}

func (e *Engine) pull(ctx context.Context, ref, auth string, alive func(), progress func(Progress)) error {
	stream, err := e.client.ImagePull(ctx, ref, client.ImagePullOptions{RegistryAuth: auth})
	if err != nil {
		return e.explainPull(ref, err)
	}
	layers := layerProgress{}
	for message, err := range stream.JSONMessages(ctx) {
		if err != nil {
			return e.explainPull(ref, err)
		}
		if message.Error != nil {
			return e.explainPull(ref, message.Error)
		}
		if !strings.HasPrefix(message.Status, "Retrying") {
			alive()
		}
		if now, known := layers.add(message); known {
			progress(now)
		}
	}
	return ctx.Err()
}

// explainPull sorts the engine's errors, which are mostly texts.
func (e *Engine) explainPull(ref string, err error) error {
	text := strings.ToLower(err.Error())
	says := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(text, w) })
	}
	var kind error
	switch {
	case client.IsErrConnectionFailed(err):
		return e.explain("pull "+ref, err)
	case says("no space left on device"):
		kind = ErrNoSpace
	case says("toomanyrequests", "too many requests", "http 429", "status: 429", "http status: 429"):
		kind = ErrRateLimited
	case says("verification failed", "digest mismatch", "does not match", "unexpected commit digest", "failed size validation", "mismatched"):
		kind = ErrDigestMismatch
	case errdefs.IsUnauthorized(err), errdefs.IsPermissionDenied(err), says("unauthorized", "denied", "authentication required", "forbidden", "no basic auth"):
		kind = ErrDenied
	case errdefs.IsNotFound(err), says("manifest unknown", "not found", "name unknown"):
		kind = ErrNotFound
	case says("timeout", "deadline exceeded", "timed out"):
		kind = ErrTimeout
	case says("http status: 5", "http 5", "status 5", "internal server error", "bad gateway", "service unavailable", "connection refused",
		"connection reset", "unexpected eof", "no such host", "unreachable"):
		kind = ErrRegistry
	default:
		return fmt.Errorf("pull %s: %w", ref, err)
	}
	return fmt.Errorf("pull %s: %w: %w", ref, kind, err)
}

// layerProgress adds up what the engine says of each layer: current and total bytes.
type layerProgress map[string]Progress

func (l layerProgress) add(m jsonstream.Message) (sum Progress, known bool) {
	switch m.Status {
	case "Downloading":
		if m.Progress == nil || m.Progress.Total <= 0 {
			return sum, false
		}
		l[m.ID] = Progress{m.Progress.Current, m.Progress.Total}
	case "Download complete", "Pull complete":
		layer := l[m.ID]
		l[m.ID] = Progress{layer.Total, layer.Total}
	default:
		return sum, false
	}
	for _, layer := range l {
		sum.Done, sum.Total = sum.Done+layer.Done, sum.Total+layer.Total
	}
	return sum, sum.Total > 0
}

// authFor is what the engine wants to know of the credentials for an image's registry.
func authFor(ref string, credentials []byte) (string, error) {
	auth, host, err := images.AuthFor(ref, credentials)
	if err != nil || auth.IsZero() {
		return "", err
	}
	return authconfig.Encode(registry.AuthConfig{
		Username: auth.Username, Password: auth.Password, IdentityToken: auth.IdentityToken, RegistryToken: auth.RegistryToken, ServerAddress: host,
	})
}
