// SPDX-License-Identifier: Apache-2.0

package offline

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// Source is where images come from.
type Source interface {
	// Manifest returns the bytes of a manifest or index of a pinned image's repository.
	Manifest(ctx context.Context, pinned, digest string) ([]byte, error)
	// Blob opens a blob of a pinned image's repository.
	Blob(ctx context.Context, pinned string, d Descriptor) (io.ReadCloser, error)
}

// entry is a blob to be written: its bytes, or where they come from.
type entry struct {
	descriptor Descriptor
	text       []byte
	pinned     string
}

// Write writes a bundle of a Rollout. The same Rollout and manifest give the same bytes. Each blob is checked against its
// digest; progress is told before each, with the bytes of blobs written so far and in all.
func Write(ctx context.Context, w io.Writer, m Manifest, rollout *v1alpha1.Rollout, from Source, progress func(done, total int64)) error {
	entries, index, err := survey(ctx, m.Platform, rollout, from)
	if err != nil {
		return err
	}
	archive := tar.NewWriter(w)
	texts := []struct {
		name  string
		value any
	}{
		{manifestFile, m}, {rolloutFile, rollout}, {layoutFile, map[string]string{"imageLayoutVersion": "1.0.0"}},
		{indexFile, map[string]any{"schemaVersion": 2, "mediaType": typeIndex, "manifests": index}},
	}
	for _, t := range texts {
		text, err := json.Marshal(t.value)
		if err != nil {
			return fmt.Errorf("encode %s: %w", t.name, err)
		}
		if err := writeMember(archive, t.name, int64(len(text)), strings.NewReader(string(text))); err != nil {
			return err
		}
	}
	var done, total int64
	for _, e := range entries {
		total += e.descriptor.Size
	}
	for _, digest := range slices.Sorted(maps.Keys(entries)) {
		progress(done, total)
		if err := writeBlob(ctx, archive, entries[digest], from); err != nil {
			return err
		}
		done += entries[digest].descriptor.Size
	}
	progress(done, total)
	if err := archive.Close(); err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	return nil
}

// survey reads the manifests of all images and lists every blob that a platform needs, by digest.
func survey(ctx context.Context, platform string, rollout *v1alpha1.Rollout, from Source) (map[string]entry, []Descriptor, error) {
	entries := map[string]entry{}
	index, err := images(rollout)
	if err != nil {
		return nil, nil, err
	}
	for i := range index {
		pinned := index[i].Annotations["org.opencontainers.image.ref.name"]
		n, size, err := surveyManifest(ctx, entries, pinned, index[i].Digest, from)
		if err != nil {
			return nil, nil, err
		}
		index[i].MediaType, index[i].Size = n.MediaType, size
		if n.Config != nil {
			continue
		}
		chosen := n.chosen(platform)
		if len(chosen) == 0 {
			return nil, nil, fmt.Errorf("image %s is not made for %s", pinned, platform)
		}
		for _, d := range chosen {
			if _, _, err := surveyManifest(ctx, entries, pinned, d.Digest, from); err != nil {
				return nil, nil, err
			}
		}
	}
	return entries, index, nil
}

func surveyManifest(ctx context.Context, entries map[string]entry, pinned, digest string, from Source) (node, int64, error) {
	text, err := from.Manifest(ctx, pinned, digest)
	if err != nil {
		return node{}, 0, fmt.Errorf("read the manifest of %s: %w", pinned, err)
	}
	if got := sum(text); got != digest {
		return node{}, 0, fmt.Errorf("the registry sent something else for %s: its digest is %s", digest, got)
	}
	n, err := parseNode(text)
	if err != nil {
		return node{}, 0, fmt.Errorf("image %s: %w", pinned, err)
	}
	d := Descriptor{MediaType: n.MediaType, Digest: digest, Size: int64(len(text))}
	entries[digest] = entry{descriptor: d, text: text}
	if n.Config != nil {
		for _, d := range append([]Descriptor{*n.Config}, n.Layers...) {
			if err := CheckDigest(d.Digest); err != nil {
				return node{}, 0, fmt.Errorf("image %s: %w", pinned, err)
			}
			entries[d.Digest] = entry{descriptor: d, pinned: pinned}
		}
	}
	return n, int64(len(text)), nil
}

func sum(text []byte) string {
	hash := sha256.Sum256(text)
	return digestPrefix + hex.EncodeToString(hash[:])
}

func writeBlob(ctx context.Context, archive *tar.Writer, e entry, from Source) (err error) {
	name := blobFolder + strings.TrimPrefix(e.descriptor.Digest, digestPrefix)
	if e.text != nil {
		return writeMember(archive, name, int64(len(e.text)), strings.NewReader(string(e.text)))
	}
	blob, err := from.Blob(ctx, e.pinned, e.descriptor)
	if err != nil {
		return fmt.Errorf("read %s of %s: %w", e.descriptor.Digest, e.pinned, err)
	}
	defer func() { err = errors.Join(err, blob.Close()) }()
	hash := sha256.New()
	if err := writeMember(archive, name, e.descriptor.Size, io.TeeReader(blob, hash)); err != nil {
		return err
	}
	if n, err := io.CopyN(io.Discard, blob, 1); n != 0 || !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s of %s is larger than its %d bytes: %w", e.descriptor.Digest, e.pinned, e.descriptor.Size, errors.Join(err))
	}
	if got := digestPrefix + hex.EncodeToString(hash.Sum(nil)); got != e.descriptor.Digest {
		return fmt.Errorf("the registry sent something else for %s of %s: its digest is %s", e.descriptor.Digest, e.pinned, got)
	}
	return nil
}

// writeMember writes one file of exactly that size, without anything that differs from one machine or time to another.
func writeMember(archive *tar.Writer, name string, size int64, content io.Reader) error {
	err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, Format: tar.FormatGNU})
	if err == nil {
		_, err = io.CopyN(archive, content, size)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
