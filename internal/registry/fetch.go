// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"gitlab.com/dynors/sirrat/internal/offline"
)

// ForUser makes a client with the credentials of whoever runs this process: those of `docker login`.
// It tells of nothing that a server would do: no Secret, and no other try.
func ForUser() *Client {
	c := newClient(authn.DefaultKeychain, remote.DefaultTransport)
	c.account, c.once = "`docker login`", true
	return c
}

// in is the repository of a pinned image.
func in(pinned, digest string) (name.Digest, error) {
	repository, err := Repository(pinned)
	if err != nil {
		return name.Digest{}, err
	}
	d, err := name.NewDigest(repository + "@" + digest)
	if err != nil {
		return name.Digest{}, fmt.Errorf("image %s: %w", pinned, err)
	}
	return d, nil
}

// Manifest returns the bytes of a manifest or index in the repository of a pinned image.
func (c *Client) Manifest(ctx context.Context, pinned, digest string) ([]byte, error) {
	ref, err := in(pinned, digest)
	if err != nil {
		return nil, err
	}
	m, err := c.manifest(ctx, ref.Context(), false, digest)
	return m.content, err
}

// Blob opens a blob in the repository of a pinned image. It is as compressed as the registry has it, and not bounded in time:
// the context is. The caller checks it against its digest.
func (c *Client) Blob(ctx context.Context, pinned string, d offline.Descriptor) (io.ReadCloser, error) {
	ref, err := in(pinned, d.Digest)
	if err != nil {
		return nil, err
	}
	layer, err := remote.Layer(ref, c.options(ctx)...)
	if err != nil {
		return nil, explain("read", ref, err)
	}
	content, err := layer.Compressed()
	if err != nil {
		return nil, explain("read", ref, err)
	}
	return content, nil
}

// explain is the problem that a call of the library ended with.
func explain(doing string, about name.Reference, err error) error {
	r := request{repo: about.Context(), doing: doing + " " + about.String()}
	var t *transport.Error
	if errors.As(err, &t) {
		return answered(r, t)
	}
	return unanswered(r, err, callTimeout)
}
