// SPDX-License-Identifier: Apache-2.0

package testbed

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Programs are what runs on the servers.
type Programs struct {
	// Agent is the file of sirrat-agent.
	Agent string
	// App is the program in the containers, package testbed/app.
	App []byte
}

// Build builds the programs; their files are removed when the test is over.
func Build(t testing.TB) Programs {
	t.Helper()
	dir, err := os.MkdirTemp("", "st-bin-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p, app := Programs{Agent: filepath.Join(dir, "sirrat-agent")}, filepath.Join(dir, "app")
	for _, args := range [][]string{
		{"-o", p.Agent, "gitlab.com/dynors/sirrat/cmd/sirrat-agent"}, {"-ldflags", "-s -w", "-o", app, "gitlab.com/dynors/sirrat/test/testbed/app"},
	} {
		build := exec.Command("go", append([]string{"build"}, args...)...)
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath -buildvcs=false")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build: %v: %s", err, out)
		}
	}
	if p.App, err = os.ReadFile(app); err != nil {
		t.Fatal(err)
	}
	return p
}

// Layer is a layer, not compressed, with one file and a folder /tmp.
func Layer(t testing.TB, path string, mode int64, content []byte) []byte {
	t.Helper()
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for _, header := range []*tar.Header{
		{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o777},
		{Name: path, Typeflag: tar.TypeReg, Mode: mode, Size: int64(len(content))},
	} {
		if err := w.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return layer.Bytes()
}

// Image is an image of layers, compressed, that runs /app; see Configured.
func Image(t testing.TB, layers [][]byte, change func(*v1.ConfigFile)) v1.Image {
	t.Helper()
	image := empty.Image
	for _, content := range layers {
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil })
		if err != nil {
			t.Fatal(err)
		}
		if image, err = mutate.AppendLayers(image, layer); err != nil {
			t.Fatal(err)
		}
	}
	return Configured(t, image, change)
}

// Configured makes an image run /app on this machine's architecture unless change says otherwise. No two are the same.
func Configured(t testing.TB, image v1.Image, change func(*v1.ConfigFile)) v1.Image {
	t.Helper()
	file, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", runtime.GOARCH
	file.Config = v1.Config{Entrypoint: []string{"/app"}, Env: []string{fmt.Sprintf("UNIQUE=%x", rand.Uint64())}}
	change(file)
	if image, err = mutate.ConfigFile(image, file); err != nil {
		t.Fatal(err)
	}
	return image
}
