// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
)

// Bounds of what one image may consist of: whoever pushed it may have pushed anything.
const (
	// maxManifests of an image, maxManifestBytes of all of them, and maxNesting of indexes in indexes.
	maxManifests, maxManifestBytes, maxNesting = 512, 16 << 20, 3
	// maxLayers of all of an image's manifests together.
	maxLayers = 8192
)

// copyStreams is how many layers of a copy move at the same time; each takes a buffer of some 32 KiB.
const copyStreams = 3

// Copying is an image that is to be had by the same digest in another repository.
type Copying struct{ Source, Destination, Digest string }

// Progress of a copy, over all of its images.
type Progress struct {
	// Layers there are, configurations included, and how many of them the destination has.
	Layers, LayersDone int
	// Bytes there are; how many of them the destination has, or has begun to receive; and how many this copy sent.
	Bytes, BytesDone, Moved int64
}

// Copy has images in other repositories, of another registry as a rule: indexes whole, with everything that they name. What
// the destination has already is not moved, so that a copy that was interrupted goes on where it was, and one that is complete
// moves nothing and does not ask the source. Within one registry layers are mounted, where that gives the account the right.
//
// When it returns nil the destination was asked for everything once more, and its manifests' bytes are those of the digests.
// told, if any, is called often, by one goroutine at a time. Layers are streamed: memory does not grow with them. What the
// bytes of a layer are is checked while they pass, and a layer whose last bytes do not fit its digest is not completed.
func Copy(ctx context.Context, from, to *Client, images []Copying, told func(Progress)) (Progress, error) {
	key := "copy"
	for _, i := range images {
		key += " " + i.Destination + "@" + i.Digest
	}
	if p := to.paused(key); p != nil {
		return Progress{}, p
	}
	if p := to.reserve(images); p != nil {
		return Progress{}, p
	}
	defer to.free(images)
	c := &copier{from: from, to: to, told: told, refused: refusedWrite}
	err := c.run(ctx, images)
	var p *Problem
	if errors.As(err, &p) && p.Until.IsZero() {
		p.Until = to.now().Add(mendPause)
		to.pause(key, p)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.progress, err
}

// reserve takes images for one copy: registries that keep files (distribution 2.8) serve and store halves of what two write at once.
func (c *Client) reserve(images []Copying) *Problem {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, i := range images {
		if c.copying[i.Destination+"@"+i.Digest] {
			return &Problem{
				Kind: KindBusy, Doing: "copy " + i.Destination + "@" + i.Digest, Until: c.now().Add(firstPause),
				Text: "it is being copied there for another release",
			}
		}
	}
	for _, i := range images {
		c.copying[i.Destination+"@"+i.Digest] = true
	}
	return nil
}

func (c *Client) free(images []Copying) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, i := range images {
		delete(c.copying, i.Destination+"@"+i.Digest)
	}
}

// copier is one copy on its way.
type copier struct {
	from, to *Client
	told     func(Progress)

	// refused explains what is meant by the refusal of a manifest.
	refused func(repo name.Repository, doing string) func(said string, status int) *Problem

	mu       sync.Mutex
	progress Progress
}

// parcel is an image and where it goes.
type parcel struct {
	source, destination name.Repository
	digest              string
	content             tree
	missing             bool
}

func (c *copier) run(ctx context.Context, images []Copying) error {
	var parcels []*parcel
	for _, i := range images {
		p, err := c.look(ctx, i)
		if err != nil {
			return err
		}
		parcels = append(parcels, p)
	}
	if err := c.moveLayers(ctx, parcels); err != nil {
		return err
	}
	for _, p := range parcels {
		if !p.missing {
			continue
		}
		for _, m := range p.content.manifests {
			if err := c.to.putManifest(ctx, p.destination, m.digest, m, c.refused); err != nil {
				return err
			}
		}
		if err := c.verify(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

func (i Copying) parcel() (*parcel, error) {
	p := &parcel{digest: i.Digest}
	for _, r := range []struct {
		text string
		into *name.Repository
	}{{i.Source, &p.source}, {i.Destination, &p.destination}} {
		repo, err := name.NewRepository(r.text)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", r.text, err)
		}
		*r.into = repo
	}
	return p, nil
}

// look finds out what an image consists of: from the destination if it is all there, otherwise from the source.
func (c *copier) look(ctx context.Context, i Copying) (*parcel, error) {
	p, err := i.parcel()
	if err != nil {
		return nil, err
	}
	content, complete, err := c.inspect(ctx, p)
	if err != nil {
		return nil, err
	}
	if complete {
		p.content = content
		return p, nil
	}
	p.missing = true
	p.content, err = walk(p.digest, func(d string) (manifest, error) { return c.from.manifest(ctx, p.source, false, d) })
	return p, err
}

// inspect says whether the destination has all of an image, and what it consists of if so. Nothing remembered counts.
func (c *copier) inspect(ctx context.Context, p *parcel) (tree, bool, error) {
	repo := p.destination
	_, err := c.to.digestOf(ctx, repo, true, "look for "+repo.Name()+"@"+p.digest, p.digest)
	if err != nil {
		return tree{}, false, unlessMissing(err)
	}
	content, err := walk(p.digest, func(d string) (manifest, error) { return c.to.readManifest(ctx, repo, true, d) })
	if err != nil {
		return tree{}, false, unlessMissing(err)
	}
	complete := true
	var mu sync.Mutex
	group, bound := errgroup.WithContext(ctx)
	group.SetLimit(copyStreams)
	for _, layer := range content.layers {
		group.Go(func() error {
			has, err := c.to.hasLayer(bound, repo, layer)
			mu.Lock()
			defer mu.Unlock()
			complete = complete && has
			return err
		})
	}
	return content, complete, group.Wait()
}

// unlessMissing is nil for what is not there, or is not what it should be: both are put there.
func unlessMissing(err error) error {
	var p *Problem
	if errors.Is(err, ErrNotFound) || errors.As(err, &p) && p.Kind == KindMismatch {
		return nil
	}
	return err
}

// verify asks the destination for what was put there.
func (c *copier) verify(ctx context.Context, p *parcel) error {
	_, complete, err := c.inspect(ctx, p)
	if err != nil || complete {
		return err
	}
	return &Problem{
		Kind: KindMismatch, Doing: "verify " + p.destination.Name() + "@" + p.digest,
		Text: "the registry took the image and does not serve it as its digest says: nothing is authorised to pull it. Delete the image there if it stays so",
	}
}

// tree is all that an image consists of.
type tree struct {
	// manifests, each after those that it names.
	manifests []pinnedManifest
	layers    []v1.Descriptor // each once
}

type pinnedManifest struct {
	digest string
	manifest
}

// walk follows a manifest or index to everything below. Layers that registries do not keep ("foreign" ones, which have
// addresses of their own) are left out.
func walk(root string, read func(digest string) (manifest, error)) (tree, error) {
	var t tree
	size := 0
	seen := map[string]bool{}
	var visit func(digest string, depth int) error
	visit = func(digest string, depth int) error {
		if seen[digest] {
			return nil
		}
		seen[digest] = true
		if depth > maxNesting || len(seen) > maxManifests {
			return unfit(root, "it has more than %d manifests, or they are nested more than %d deep", maxManifests, maxNesting)
		}
		m, err := read(digest)
		if err != nil {
			return err
		}
		if size += len(m.content); size > maxManifestBytes {
			return unfit(root, "its manifests are larger than %d MiB", maxManifestBytes>>20)
		}
		var names struct {
			Manifests []v1.Descriptor `json:"manifests"`
			Config    *v1.Descriptor  `json:"config"`
			Layers    []v1.Descriptor `json:"layers"`
		}
		if err := json.Unmarshal(m.content, &names); err != nil {
			return unfit(root, "manifest %s: %v", digest, err)
		}
		for _, child := range names.Manifests {
			if err := visit(child.Digest.String(), depth+1); err != nil {
				return err
			}
		}
		if names.Config != nil {
			names.Layers = append(names.Layers, *names.Config)
		}
		for _, layer := range names.Layers {
			if layer.Size < 0 {
				return unfit(root, "manifest %s: layer %s has %d bytes", digest, layer.Digest, layer.Size)
			}
			if layer.MediaType.IsDistributable() && !seen["layer "+layer.Digest.String()] {
				seen["layer "+layer.Digest.String()] = true
				t.layers = append(t.layers, layer)
			}
		}
		if len(t.layers) > maxLayers {
			return unfit(root, "it has more than %d layers", maxLayers)
		}
		t.manifests = append(t.manifests, pinnedManifest{digest, m})
		return nil
	}
	err := visit(root, 1)
	return t, err
}

// unfit is the problem of an image that is made of what nobody copies.
func unfit(root, format string, args ...any) error {
	return &Problem{Kind: KindUnfit, Doing: "copy image " + root, Text: fmt.Sprintf(format, args...) + ": build and push the image anew"}
}

// errand is a layer and the repositories that are to have it.
type errand struct {
	layer        v1.Descriptor
	source       name.Repository
	destinations []name.Repository
	there        []name.Repository // those of the registry of the destinations that have it
}

// moveLayers has every layer in every repository that needs it, several at a time.
func (c *copier) moveLayers(ctx context.Context, parcels []*parcel) error {
	errands := map[v1.Hash]*errand{}
	for _, p := range parcels {
		for _, layer := range p.content.layers {
			c.count(Progress{Layers: 1, Bytes: layer.Size})
			if !p.missing {
				c.count(Progress{LayersDone: 1, BytesDone: layer.Size})
			}
			e := errands[layer.Digest]
			if e == nil {
				e = &errand{layer: layer, source: p.source}
				errands[layer.Digest] = e
				if p.source.RegistryStr() == p.destination.RegistryStr() {
					e.there = append(e.there, p.source)
				}
			}
			if p.missing {
				e.destinations = append(e.destinations, p.destination)
			} else {
				e.there = append(e.there, p.destination)
			}
		}
	}
	group, bound := errgroup.WithContext(ctx)
	group.SetLimit(copyStreams)
	for _, e := range errands {
		group.Go(func() error { return c.carry(bound, e) })
	}
	return group.Wait()
}

// carry has one layer in its repositories: as it is there, mounted from one that has it, or from the source.
func (c *copier) carry(ctx context.Context, e *errand) error {
	for _, repo := range e.destinations {
		has, err := c.to.hasLayer(ctx, repo, e.layer)
		if err != nil {
			return err
		}
		if has {
			c.count(Progress{BytesDone: e.layer.Size})
		} else if err := c.bring(ctx, e, repo); err != nil {
			return err
		}
		c.count(Progress{LayersDone: 1})
		e.there = append(e.there, repo)
	}
	return nil
}

// count adds to the progress and tells it.
func (c *copier) count(more Progress) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := &c.progress
	p.Layers, p.LayersDone = p.Layers+more.Layers, p.LayersDone+more.LayersDone
	p.Bytes, p.BytesDone, p.Moved = p.Bytes+more.Bytes, p.BytesDone+more.BytesDone, p.Moved+more.Moved
	if c.told != nil {
		c.told(*p)
	}
}

// hasLayer says whether a repository has a layer, of the size that it should have.
func (c *Client) hasLayer(ctx context.Context, repo name.Repository, layer v1.Descriptor) (bool, error) {
	answer, err := c.do(ctx, request{
		repo: repo, push: true, doing: "look for layer " + layer.Digest.String() + " in " + repo.Name(), method: http.MethodHead, path: "blobs/" + layer.Digest.String(),
	})
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	size := answer.header.Get("Content-Length")
	return err == nil && (size == "" || size == fmt.Sprint(layer.Size)), err
}

// putManifest puts a manifest under its own digest, or under a tag.
func (c *Client) putManifest(ctx context.Context, repo name.Repository, reference string, m pinnedManifest, refused func(name.Repository, string) func(string, int) *Problem) error {
	doing := "put " + repo.Name() + "@" + reference
	if reference != m.digest {
		doing = "tag " + repo.Name() + ":" + reference
	}
	answer, err := c.do(ctx, request{
		repo: repo, push: true, doing: doing, method: http.MethodPut, path: "manifests/" + reference, body: m.content,
		header: map[string]string{"Content-Type": m.mediaType}, refused: refused(repo, doing),
	})
	if stored := answer.header.Get(digestHeader); err == nil && stored != "" && stored != m.digest {
		return &Problem{Kind: KindMismatch, Doing: doing, Text: fmt.Sprintf("the registry stored %s", stored)}
	}
	return err
}

// refusedWrite explains what the refusal of a layer or manifest means that is put into a repository.
func refusedWrite(repo name.Repository, doing string) func(said string, status int) *Problem {
	return func(said string, status int) *Problem {
		switch status {
		case http.StatusNotFound:
			return &Problem{Kind: KindDenied, Doing: doing, Text: fmt.Sprintf("the registry has no place for %s (404%s): create the project or repository there, and let the account of %s push to it", repo.RepositoryStr(), said, ProjectAccount)}
		case http.StatusRequestEntityTooLarge:
			return &Problem{Kind: KindFull, Doing: doing, Text: fmt.Sprintf("the registry, or a proxy before it, takes nothing that large (413%s): raise its limit", said)}
		}
		return nil
	}
}
