// SPDX-License-Identifier: Apache-2.0

package offline

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// Bundle is one that was unpacked. Everything in it is as its digest says; whether any of it is authorised is not judged here.
type Bundle struct {
	Manifest
	Rollout *v1alpha1.Rollout
	// Dir holds the blobs, each in a file called by the 64 digits of its digest.
	Dir string
}

// reader unpacks one archive.
type reader struct {
	archive *tar.Reader
	dir     string
	// texts are the members that are no blobs.
	texts map[string][]byte
	// blobs are the sizes of those that were unpacked, by digest.
	blobs map[string]int64
	room  int64
}

// Read unpacks a bundle's blobs into a folder, which must be empty and nobody else's. It takes nothing but the regular files
// that a bundle has, each once, writes to no other name than a blob's digest, and stops at the first thing that is wrong: all of
// these wrap ErrInvalid. room is how many bytes blobs may take. On an error the folder's content is to be thrown away.
func Read(ctx context.Context, from io.Reader, dir string, room int64) (*Bundle, error) {
	r := &reader{archive: tar.NewReader(&interruptible{ctx, from}), dir: dir, texts: map[string][]byte{}, blobs: map[string]int64{}, room: min(room, maxBytes)}
	for {
		header, err := r.archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		if err := r.member(header); err != nil {
			return nil, err
		}
	}
	return r.bundle()
}

// interruptible ends with its context.
type interruptible struct {
	ctx  context.Context
	from io.Reader
}

func (i *interruptible) Read(p []byte) (int, error) {
	if err := i.ctx.Err(); err != nil {
		return 0, err
	}
	return i.from.Read(p)
}

func (r *reader) member(h *tar.Header) error {
	if h.Typeflag != tar.TypeReg || h.Linkname != "" || len(h.PAXRecords) > 0 {
		return fmt.Errorf("%w: %q is not a plain file", ErrInvalid, h.Name)
	}
	if h.Size < 0 {
		return fmt.Errorf("%w: %q has no size", ErrInvalid, h.Name)
	}
	switch h.Name {
	case manifestFile, rolloutFile, layoutFile, indexFile:
		return r.text(h)
	}
	digits, isBlob := strings.CutPrefix(h.Name, blobFolder)
	if !isBlob || CheckDigest(digestPrefix+digits) != nil {
		return fmt.Errorf("%w: %q does not belong into it", ErrInvalid, h.Name)
	}
	return r.blob(h, digits)
}

func (r *reader) text(h *tar.Header) error {
	if _, twice := r.texts[h.Name]; twice {
		return fmt.Errorf("%w: %s is there twice", ErrInvalid, h.Name)
	}
	if h.Size > maxText {
		return fmt.Errorf("%w: %s has more than %d bytes", ErrInvalid, h.Name, maxText)
	}
	text, err := io.ReadAll(r.archive)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrInvalid, h.Name, err)
	}
	r.texts[h.Name] = text
	return nil
}

func (r *reader) blob(h *tar.Header, digits string) (err error) {
	digest := digestPrefix + digits
	if _, twice := r.blobs[digest]; twice {
		return fmt.Errorf("%w: %s is there twice", ErrInvalid, h.Name)
	}
	if len(r.blobs) >= maxBlobs {
		return fmt.Errorf("%w: it has more than %d blobs", ErrInvalid, maxBlobs)
	}
	if r.room -= h.Size; r.room < 0 {
		return errors.New("the bundle needs more room than there is: make room on the disk of the agent's data folder")
	}
	file, err := os.OpenFile(filepath.Join(r.dir, digits), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("unpack the bundle: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	hash := sha256.New()
	written, err := io.Copy(io.MultiWriter(file, hash), r.archive)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: it ends in the middle of %s", ErrInvalid, h.Name)
	case err != nil:
		return fmt.Errorf("unpack %s: %w", h.Name, err)
	case written != h.Size:
		return fmt.Errorf("%w: %s has %d bytes, not %d", ErrInvalid, h.Name, written, h.Size)
	}
	if got := digestPrefix + hex.EncodeToString(hash.Sum(nil)); got != digest {
		return fmt.Errorf("%w: the content of %s has the digest %s: it was altered or damaged", ErrInvalid, h.Name, got)
	}
	r.blobs[digest] = written
	return nil
}

// bundle looks whether what was unpacked belongs together: every image of the Rollout with all that its platform needs, and
// nothing else.
func (r *reader) bundle() (*Bundle, error) {
	for _, name := range []string{manifestFile, rolloutFile, layoutFile, indexFile} {
		if r.texts[name] == nil {
			return nil, fmt.Errorf("%w: it has no %s", ErrInvalid, name)
		}
	}
	b := &Bundle{Dir: r.dir, Rollout: &v1alpha1.Rollout{}}
	if err := decode(r.texts[manifestFile], &b.Manifest); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrInvalid, manifestFile, err)
	}
	if b.Version != Version {
		return nil, fmt.Errorf("%w: it has the format %d, this program reads %d", ErrInvalid, b.Version, Version)
	}
	if err := decode(r.texts[rolloutFile], b.Rollout); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrInvalid, rolloutFile, err)
	}
	if b.Rollout.UID == "" || b.Rollout.Name == "" || b.Rollout.Namespace != v1alpha1.HostNamespace(b.Host) {
		return nil, fmt.Errorf("%w: its Rollout has no name or uid, or is not of host %q", ErrInvalid, b.Host)
	}
	list, err := images(b.Rollout)
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for _, image := range list {
		if err := r.needs(image.Digest, b.Platform, used); err != nil {
			return nil, fmt.Errorf("image %s: %w", image.Annotations["org.opencontainers.image.ref.name"], err)
		}
	}
	for digest := range r.blobs {
		if !used[digest] {
			return nil, fmt.Errorf("%w: no image needs %s", ErrInvalid, digest)
		}
	}
	return b, nil
}

// needs notes the blobs of an image, all of which must be there.
func (r *reader) needs(digest, platform string, used map[string]bool) error {
	n, err := r.node(digest)
	if err != nil {
		return err
	}
	used[digest] = true
	manifests := []node{n}
	if n.Config == nil {
		manifests = nil
		for _, d := range n.chosen(platform) {
			m, err := r.node(d.Digest)
			if err != nil {
				return err
			}
			used[d.Digest] = true
			manifests = append(manifests, m)
		}
		if len(manifests) == 0 {
			return fmt.Errorf("%w: it is not made for %s", ErrInvalid, platform)
		}
	}
	for _, m := range manifests {
		if m.Config == nil {
			return fmt.Errorf("%w: an index within an index", ErrInvalid)
		}
		for _, d := range append([]Descriptor{*m.Config}, m.Layers...) {
			if size, found := r.blobs[d.Digest]; !found || size != d.Size {
				return fmt.Errorf("%w: %s is missing, or has another size", ErrInvalid, d.Digest)
			}
			used[d.Digest] = true
		}
	}
	return nil
}

// node reads a manifest or index that was unpacked.
func (r *reader) node(digest string) (node, error) {
	size, found := r.blobs[digest]
	if !found {
		return node{}, fmt.Errorf("%w: %s is missing", ErrInvalid, digest)
	}
	if size > maxManifest {
		return node{}, fmt.Errorf("%w: the manifest %s has more than %d bytes", ErrInvalid, digest, maxManifest)
	}
	text, err := os.ReadFile(filepath.Join(r.dir, strings.TrimPrefix(digest, digestPrefix)))
	if err != nil {
		return node{}, fmt.Errorf("read a manifest: %w", err)
	}
	return parseNode(text)
}
