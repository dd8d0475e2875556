// SPDX-License-Identifier: Apache-2.0

package offline

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// memory is a registry of blobs by digest.
type memory map[string][]byte

func (m memory) Manifest(_ context.Context, _, digest string) ([]byte, error) {
	if text, found := m[digest]; found {
		return text, nil
	}
	return nil, errors.New("no such manifest")
}

func (m memory) Blob(_ context.Context, _ string, d Descriptor) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(m[d.Digest])), nil
}

func (m memory) add(mediaType string, content []byte) Descriptor {
	d := Descriptor{MediaType: mediaType, Digest: sum(content), Size: int64(len(content))}
	m[d.Digest] = content
	return d
}

func (m memory) addJSON(value any, mediaType string) Descriptor {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return m.add(mediaType, text)
}

// image for two platforms, of which one is wanted.
func (m memory) image(content string) Descriptor {
	one := func(architecture string) Descriptor {
		config := m.add("application/vnd.oci.image.config.v1+json", []byte(`{"architecture":"`+architecture+`"}`))
		layer := m.add("application/vnd.oci.image.layer.v1.tar", []byte(content+architecture))
		d := m.addJSON(node{SchemaVersion: 2, MediaType: typeImage, Config: &config, Layers: []Descriptor{layer}}, typeImage)
		d.Platform = &Platform{OS: "linux", Architecture: architecture}
		return d
	}
	return m.addJSON(node{SchemaVersion: 2, MediaType: typeIndex, Manifests: []Descriptor{one("amd64"), one("arm64")}}, typeIndex)
}

func example(t testing.TB) (memory, *v1alpha1.Rollout, []byte) {
	t.Helper()
	m := memory{}
	r := &v1alpha1.Rollout{}
	r.Name, r.Namespace, r.UID = "r", "host-h", "u"
	for _, service := range []string{"a", "b"} {
		r.Spec.Images = append(r.Spec.Images, v1alpha1.ServiceImage{Service: service, Image: "r.example/x@" + m.image(service).Digest})
	}
	return m, r, write(t, m, r)
}

func write(t testing.TB, m memory, r *v1alpha1.Rollout) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := Write(t.Context(), &out, Manifest{Version: Version, Host: "h", Platform: "linux/amd64"}, r, m, func(int64, int64) {}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestWriteAndRead(t *testing.T) {
	m, r, text := example(t)
	if !bytes.Equal(text, write(t, m, r)) {
		t.Error("the same Rollout gives other bytes")
	}
	dir := t.TempDir()
	b, err := Read(t.Context(), bytes.NewReader(text), dir, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	if b.Rollout.UID != "u" || b.Host != "h" {
		t.Errorf("%+v", b)
	}
	// Two images: an index, one manifest, one config that both share, one layer each.
	if files, _ := os.ReadDir(dir); len(files) != 2*3+1 {
		t.Errorf("%d blobs", len(files))
	}
	if _, err := Read(t.Context(), bytes.NewReader(text), t.TempDir(), 100); err == nil || errors.Is(err, ErrInvalid) {
		t.Errorf("without room: %v", err)
	}
}

func TestWriteRefuses(t *testing.T) {
	m, r, text := example(t)
	for digest, content := range m {
		if !bytes.Contains(text, []byte(blobFolder+strings.TrimPrefix(digest, digestPrefix))) {
			continue // of the other platform
		}
		m[digest] = append(bytes.Clone(content), ' ')
		err := Write(t.Context(), io.Discard, Manifest{Platform: "linux/amd64"}, r, m, func(int64, int64) {})
		m[digest] = content
		if err == nil {
			t.Errorf("another content for %s is taken: %s", digest, content)
		}
	}
	if err := Write(t.Context(), io.Discard, Manifest{Platform: "linux/s390x"}, r, m, func(int64, int64) {}); err == nil || !strings.Contains(err.Error(), "not made for") {
		t.Errorf("another platform: %v", err)
	}
}

// member of a tar archive.
type member struct {
	header  tar.Header
	content []byte
}

func members(t testing.TB, text []byte) []member {
	t.Helper()
	var list []member
	for r := tar.NewReader(bytes.NewReader(text)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return list
		}
		content, readErr := io.ReadAll(r)
		if err := errors.Join(err, readErr); err != nil {
			t.Fatal(err)
		}
		list = append(list, member{*h, content})
	}
}

func pack(t testing.TB, list []member) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, m := range list {
		if m.header.Typeflag == tar.TypeReg {
			m.header.Size = int64(len(m.content))
		}
		if err := w.WriteHeader(&m.header); err != nil {
			t.Fatal(err)
		}
		if m.header.Typeflag != tar.TypeReg {
			continue
		}
		if _, err := w.Write(m.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// Whatever somebody makes of the archive, it is refused, and nothing is written but to a blob's name in the folder.
func TestReadRefuses(t *testing.T) {
	_, _, text := example(t)
	whole := members(t, text)
	blob := whole[len(whole)-1]
	named := func(name string) member {
		return member{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600}, []byte("x")}
	}
	typed := func(kind byte, name string) member {
		return member{tar.Header{Typeflag: kind, Name: name, Linkname: "/etc/passwd", Mode: 0o600}, nil}
	}
	with := func(extra member) []member { return append(append([]member{}, whole...), extra) }
	cases := map[string][]byte{
		"a path out of it":          pack(t, with(named("../evil"))),
		"a path out of the blobs":   pack(t, with(named("blobs/sha256/../../../evil"))),
		"an absolute path":          pack(t, with(named("/tmp/evil"))),
		"another file":              pack(t, with(named("README"))),
		"a name in capitals":        pack(t, with(named(strings.ToUpper(blob.header.Name)))),
		"a name that is no digest":  pack(t, with(named("blobs/sha256/xyz"))),
		"a symbolic link":           pack(t, with(typed(tar.TypeSymlink, "bundle.json"))),
		"a symbolic link as a blob": pack(t, append([]member{typed(tar.TypeSymlink, blob.header.Name)}, whole...)),
		"a hard link":               pack(t, with(typed(tar.TypeLink, blob.header.Name))),
		"a device":                  pack(t, with(typed(tar.TypeChar, "index.json"))),
		"a pipe":                    pack(t, with(typed(tar.TypeFifo, "index.json"))),
		"a folder":                  pack(t, with(typed(tar.TypeDir, "blobs/"))),
		"a blob twice":              pack(t, with(blob)),
		"a text twice":              pack(t, with(whole[0])),
		"a blob too many":           pack(t, with(member{tar.Header{Typeflag: tar.TypeReg, Name: blobFolder + strings.TrimPrefix(sum([]byte("x")), "sha256:")}, []byte("x")})),
		"extended attributes":       pack(t, with(member{tar.Header{Typeflag: tar.TypeReg, Name: "oci", PAXRecords: map[string]string{"A.b": "c"}}, nil})),
		"cut off":                   text[:len(text)/2],
		"no archive":                []byte(strings.Repeat("not a tar file ", 100)),
		"nothing":                   nil,
	}
	for i, m := range whole {
		name := m.header.Name
		cases["without "+name] = pack(t, append(append([]member{}, whole[:i]...), whole[i+1:]...))
		changed := append([]member{}, whole...)
		content := bytes.Clone(m.content)
		content[len(content)/2] ^= 1
		changed[i] = member{m.header, content}
		if strings.HasPrefix(name, blobFolder) {
			cases["another byte in "+name] = pack(t, changed)
		}
	}
	large := append([]member{}, whole...)
	large[1].content = bytes.Repeat([]byte(" "), maxText+1)
	cases["a large text"] = pack(t, large)
	twice := append([]member{}, whole...)
	twice[1] = member{whole[1].header, append(bytes.Clone(whole[1].content), whole[1].content...)}
	cases["a Rollout behind the Rollout"] = pack(t, twice)
	for name, text := range cases {
		t.Run(name, func(t *testing.T) {
			outside := t.TempDir()
			dir := outside + "/in"
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if _, err := Read(t.Context(), bytes.NewReader(text), dir, 1<<30); !errors.Is(err, ErrInvalid) {
				t.Errorf("%v", err)
			}
			if files, _ := os.ReadDir(outside); len(files) != 1 {
				t.Errorf("%d files beside the folder", len(files))
			}
			files, _ := os.ReadDir(dir)
			for _, f := range files {
				if CheckDigest(digestPrefix+f.Name()) != nil || !f.Type().IsRegular() {
					t.Errorf("wrote %s", f.Name())
				}
			}
		})
	}
}

func FuzzRead(f *testing.F) {
	_, _, text := example(f)
	f.Add(text)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := t.TempDir()
		b, err := Read(t.Context(), bytes.NewReader(text), dir, 1<<20)
		if (b == nil) == (err == nil) {
			t.Errorf("%v, %v", b, err)
		}
		files, _ := os.ReadDir(dir)
		for _, file := range files {
			content, _ := os.ReadFile(dir + "/" + file.Name())
			if err == nil && sum(content) != digestPrefix+file.Name() {
				t.Errorf("%s is something else", file.Name())
			}
		}
	})
}

func TestSecrets(t *testing.T) {
	b := &Bundle{Rollout: &v1alpha1.Rollout{}}
	b.Rollout.Spec.SecretRefs = []string{"db"}
	if _, err := b.SecretsFor(nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("a Secret that is not listed: %v", err)
	}
	b.Secrets = []Secret{{Name: "db", Keys: []string{"PASSWORD", "USER"}}}
	for given, want := range map[string]string{
		"": "PASSWORD, USER", "USER=u": "PASSWORD", "USER=u\nPASSWORD=p\nMORE=m": "MORE", "USER=u\nUSER=v": "line 2", "nonsense": "line 1", "A B=c": "line 1",
	} {
		values, err := ParseEnv(given)
		if err == nil {
			_, err = b.SecretsFor(values)
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "nonsense") {
			t.Errorf("%q: %v", given, err)
		}
	}
	given, err := ParseEnv("# comment\n\nUSER=u\r\nPASSWORD=p=q #r\n")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := b.SecretsFor(given); err != nil || fmt.Sprint(got) != "map[PASSWORD:p=q #r USER:u]" {
		t.Errorf("%v, %v", got, err)
	}
	b.Secrets[0].Values = map[string]string{"USER": "x", "PASSWORD": "y"}
	if got, err := b.SecretsFor(map[string]string{"USER": "u"}); err != nil || got["USER"] != "u" || got["PASSWORD"] != "y" {
		t.Errorf("%v, %v", got, err)
	}
}

func TestTrust(t *testing.T) {
	text, fingerprint, err := Trust{Version: Version, Host: "h", UID: "u", Keys: map[string]string{"sha256:x": "pem"}}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseTrust(text, fingerprint); err != nil || got.Host != "h" {
		t.Errorf("%+v, %v", got, err)
	}
	for name, bad := range map[string][2]string{
		"altered":           {strings.Replace(string(text), `"h"`, `"i"`, 1), fingerprint},
		"no fingerprint":    {string(text), ""},
		"short":             {string(text), fingerprint[:20]},
		"something unknown": {`{"version":1,"host":"h","uid":"u","keys":{"a":"b"},"x":1}`, sum([]byte(`{"version":1,"host":"h","uid":"u","keys":{"a":"b"},"x":1}`))},
		"no key":            {`{"version":1,"host":"h","uid":"u"}`, sum([]byte(`{"version":1,"host":"h","uid":"u"}`))},
	} {
		if _, err := ParseTrust([]byte(bad[0]), bad[1]); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
