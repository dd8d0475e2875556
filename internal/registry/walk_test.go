// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// TestWalkIsBounded: an image may be made of anything, and is followed no farther than the bounds say.
func TestWalkIsBounded(t *testing.T) {
	store := map[string]string{}
	put := func(text string) string {
		d := digest.FromString(text).String()
		store[d] = text
		return d
	}
	child := func(d string) string { return fmt.Sprintf(`{"digest":%q,"size":1}`, d) }
	layer := func(i int) string {
		return fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":1}`, digest.FromString(fmt.Sprint("layer ", i)))
	}
	list := func(n int, item func(int) string) string {
		var items []string
		for i := range n {
			items = append(items, item(i))
		}
		return strings.Join(items, ",")
	}
	nested := put(`{"layers":[]}`)
	for range maxNesting {
		nested = put(`{"manifests":[` + child(nested) + `]}`)
	}
	for name, c := range map[string]struct{ root, want string }{
		"layers":   {put(`{"layers":[` + list(maxLayers+1, layer) + `]}`), "more than 8192 layers"},
		"nesting":  {nested, "nested more than 3 deep"},
		"size":     {put(`{"layers":[],"x":"` + strings.Repeat("x", maxManifestBytes) + `"}`), "larger than 16 MiB"},
		"negative": {put(`{"layers":[` + strings.Replace(layer(0), `"size":1`, `"size":-1`, 1) + `]}`), "has -1 bytes: build and push"},
		"no JSON":  {put(`<html>`), "manifest sha256:"},
		"children": {put(`{"manifests":[` + list(maxManifests, func(i int) string { return child(put(fmt.Sprintf(`{"n":%d}`, i))) }) + `]}`), "more than 512 manifests"},
		"ordinary": {put(`{"layers":[` + list(maxLayers, layer) + `]}`), ""},
	} {
		_, err := walk(c.root, func(d string) (manifest, error) { return manifest{content: []byte(store[d])}, nil })
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
