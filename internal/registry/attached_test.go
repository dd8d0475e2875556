// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"

	"gitlab.com/dynors/sirrat/internal/registry/registrytest"
)

// attach attaches notes to an image and returns what all of them say, in order.
func attach(t *testing.T, c *Client, repository, digest string, texts ...string) (manifest string) {
	t.Helper()
	for _, text := range texts {
		var err error
		if manifest, _, err = c.Attach(t.Context(), repository, digest, note(text)); err != nil {
			t.Fatal(err)
		}
	}
	return manifest
}

func attachedTo(t *testing.T, c *Client, repository, digest string) string {
	t.Helper()
	found, complete, err := c.Attached(t.Context(), repository, digest, testType)
	if err != nil || !complete {
		t.Fatal(complete, err)
	}
	var texts []string
	for _, a := range found {
		if a.Problem != nil {
			t.Fatal(a.Problem)
		}
		texts = append(texts, string(a.Layers[0].Data))
	}
	slices.Sort(texts)
	return strings.Join(texts, " ")
}

// TestCopyAttached: whether either registry lists referrers or not, what proves an image follows it, of its index and of what
// that names, under cosign's tags too; what the other side attached stays, and nothing is sent twice.
func TestCopyAttached(t *testing.T) {
	for name, start := range map[string][2]func(testing.TB) *registrytest.Registry{
		"lists to lists": {registrytest.InProcess, registrytest.InProcess}, "tag to tag": {registrytest.Debian, registrytest.Debian},
		"lists to tag": {registrytest.InProcess, registrytest.Debian}, "tag to lists": {registrytest.Debian, registrytest.InProcess},
	} {
		t.Run(name, func(t *testing.T) {
			from, to := start[0](t), start[1](t)
			image := from.Push("shop/backend", "dev")
			ours, theirs := from.Host+"/shop/backend", to.Host+"/client/backend"
			c, requests := client(t)
			images := []Copying{{Source: ours, Destination: theirs, Digest: image}}
			text, err := c.Manifest(t.Context(), ours, image)
			if err != nil {
				t.Fatal(err)
			}
			var index v1.IndexManifest
			if err := json.Unmarshal(text, &index); err != nil {
				t.Fatal(err)
			}
			child := index.Manifests[1].Digest.String()
			attach(t, c, ours, image, "sbom", "verdict")
			attach(t, c, ours, child, "child")
			signature := attach(t, c, ours, from.Push("shop/backend", "other"), "signature")
			if err := c.Tag(t.Context(), Tagging{Repository: ours, Digest: signature, Tag: listTag(image) + ".sig"}); err != nil {
				t.Fatal(err)
			}
			copied := func(there, copied, left int) Attachments {
				t.Helper()
				got, err := CopyAttached(t.Context(), c, c, images)
				if err != nil || got.There != there || got.Copied != copied || got.Left != left {
					t.Fatalf("%+v, %v, want %d there, %d copied, %d left", got, err, there, copied, left)
				}
				return got
			}
			if _, err := Copy(t.Context(), c, c, images, nil); err != nil {
				t.Fatal(err)
			}
			copied(4, 4, 0)
			if got := attachedTo(t, c, theirs, image) + ", " + attachedTo(t, c, theirs, child); got != "sbom verdict, child" {
				t.Errorf("attached there: %s", got)
			}
			var sig TaggedLayer
			_, err = c.EachTagged(t.Context(), TagQuery{Repository: theirs, Tag: CosignTag(image, SignatureTag), Most: 1}, func(l TaggedLayer) bool {
				sig = l
				return true
			})
			if err != nil || sig.Manifest != signature || string(sig.Layer.Data) != "signature" {
				t.Errorf("under cosign's tag: %+v, %v", sig, err)
			}
			requests.take()
			copied(4, 0, 0)
			if seen := requests.take(); slices.ContainsFunc(seen, func(q string) bool { return strings.HasPrefix(q, "P") }) {
				t.Errorf("written again: %q", seen)
			}
			other := attach(t, c, theirs, image, "theirs")
			if err := c.Tag(t.Context(), Tagging{Repository: theirs, Digest: other, Tag: listTag(image) + ".sig", Moves: true}); err != nil {
				t.Fatal(err)
			}
			attach(t, c, ours, image, "later")
			got := copied(4, 1, 1)
			if !strings.Contains(fmt.Sprint(got.Reasons), "left as it is") || to.Digest("client/backend", listTag(image)+".sig") != other {
				t.Errorf("the client's own signatures: %+v", got)
			}
			if got := attachedTo(t, c, theirs, image); got != "later sbom theirs verdict" {
				t.Errorf("attached there: %s", got)
			}
		})
	}
}

// TestCopyAttachedIsBounded: whatever is attached, little is read of it, and what is in order is copied all the same.
func TestCopyAttachedIsBounded(t *testing.T) {
	from, to := registrytest.InProcess(t), registrytest.InProcess(t)
	image := from.Push("shop/backend", "dev")
	ours, theirs := from.Host+"/shop/backend", to.Host+"/client/backend"
	c, requests := client(t)
	images := []Copying{{Source: ours, Destination: theirs, Digest: image}}
	good := attach(t, c, ours, image, "good")
	repo, err := name.NewRepository(ours)
	if err != nil {
		t.Fatal(err)
	}
	// put puts a manifest whose subject is the image unless it names another, and describes it.
	put := func(typ types.MediaType, text string) map[string]any {
		text = fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":2},"subject":{"digest":%q,"size":1},%s}`,
			typ, emptyConfigType, digest.FromString(emptyConfig), image, text)
		d := digest.FromString(text).String()
		if err := c.putManifest(t.Context(), repo, d, pinnedManifest{d, manifest{string(typ), []byte(text)}}, refusedWrite); err != nil {
			t.Fatal(err)
		}
		return map[string]any{"digest": d, "size": len(text), "artifactType": testType}
	}
	layer := func(size string) string {
		return fmt.Sprintf(`"layers":[{"mediaType":"text/plain","digest":%q,"size":%s}]`, digest.FromString("x"), size)
	}
	listed := map[string]any{"digest": good, "size": 1}
	for what, c2 := range map[string]struct {
		list []map[string]any
		left int
		says string
	}{
		"1500 that are not there": {named(0, 1500, testType), 1001, "not in the registry"},
		"a layer of a TB":         {[]map[string]any{put(types.OCIManifestSchema1, layer("1000000000000")), listed}, 1, "larger than 64 MiB"},
		"an overflow":             {[]map[string]any{put(types.OCIManifestSchema1, layer("9223372036854775807")), listed}, 1, "larger than 64 MiB"},
		"less than nothing":       {[]map[string]any{put(types.OCIManifestSchema1, layer("-1")), listed}, 1, "-1 bytes"},
		"an index":                {[]map[string]any{put(types.OCIImageIndex, `"manifests":[{"digest":"`+image+`","size":1}]`), listed}, 1, "is an index"},
		"of another image":        {[]map[string]any{put(types.OCIManifestSchema1, `"subject":{"digest":"`+good+`","size":1}`), listed}, 1, "another image"},
		"a large manifest":        {[]map[string]any{put(types.OCIManifestSchema1, `"x":"`+strings.Repeat("x", maxTaggedManifest)+`"`), listed}, 1, "larger than 2097152 bytes"},
	} {
		from.Misbehave(func(w http.ResponseWriter, q *http.Request) bool {
			return strings.HasSuffix(q.URL.Path, image) && listing(c2.list)(w, q)
		})
		requests.take()
		got, err := CopyAttached(t.Context(), c, c, images)
		seen := requests.take()
		if err != nil || got.Left != c2.left || !strings.Contains(fmt.Sprint(got.Reasons), c2.says) || len(seen) > maxCopied+60 {
			t.Errorf("%s: %+v, %v, %d requests", what, got, err, len(seen))
		}
		if slices.ContainsFunc(seen, func(q string) bool { return strings.HasSuffix(q, digest.FromString("x").String()) }) {
			t.Errorf("%s: its layer was asked for", what)
		}
		from.Misbehave(nil)
	}
	if got := attachedTo(t, c, theirs, image); got != "good" {
		t.Errorf("attached there: %q", got)
	}
}

// TestCopyAttachedIsRefused: a registry that does not take what is attached says so, and images are copied there all the same.
func TestCopyAttachedIsRefused(t *testing.T) {
	from, to := registrytest.Debian(t), registrytest.Debian(t)
	image := from.Push("shop/backend", "dev")
	c, _ := client(t)
	attach(t, c, from.Host+"/shop/backend", image, "one", "two")
	images := []Copying{{Source: from.Host + "/shop/backend", Destination: to.Host + "/client/backend", Digest: image}}
	for status, want := range map[int]Attachments{400: {Left: 2}, 415: {Left: 2}, 412: {Left: 2}, 403: {}} {
		to.Misbehave(func(w http.ResponseWriter, q *http.Request) bool {
			if q.Method != http.MethodPut || !strings.Contains(q.URL.Path, "/manifests/") {
				return false
			}
			w.WriteHeader(status)
			return true
		})
		got, err := CopyAttached(t.Context(), c, c, images)
		if got.Left != want.Left || got.There != 0 || (err != nil) != (status == 403) || got.Left > 0 && !strings.Contains(fmt.Sprint(got.Reasons), "does not take it") {
			t.Errorf("%d: %+v, %v", status, got, err)
		}
		to.Misbehave(nil)
		if _, err := Copy(t.Context(), c, c, images, nil); err != nil {
			t.Errorf("%d: the image waits for it: %v", status, err)
		}
	}
	if got, err := CopyAttached(t.Context(), c, c, images); err != nil || got.There != 2 {
		t.Errorf("%+v, %v", got, err)
	}
}
