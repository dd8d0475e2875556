// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// nobody is the user that images run as: no name, no rights.
const nobody = "65532"

// file is one file of an image layer.
type file struct {
	path string
	mode int64
	data []byte
}

// layer packs files as a layer. Equal files give an equal layer: no time, no owner.
func layer(files ...file) (v1.Layer, error) {
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	for _, f := range files {
		header := &tar.Header{Name: f.path, Mode: f.mode, Size: int64(len(f.data)), Typeflag: tar.TypeReg, Format: tar.FormatPAX}
		if err := w.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.path, err)
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.path, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("pack a layer: %w", err)
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(buffer.Bytes())), nil
	})
}

// buildImage makes the image of a commit from scratch: the app's binary, and what release it is.
func buildImage(binary []byte, arch, commit string, broken bool) (v1.Image, error) {
	text, err := json.Marshal(map[string]any{"commit": commit, "broken": broken})
	if err != nil {
		return nil, fmt.Errorf("write release.json: %w", err)
	}
	program, err := layer(file{"backend", 0o755, binary})
	if err != nil {
		return nil, err
	}
	release, err := layer(file{"release.json", 0o644, text})
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(empty.Image, program, release)
	if err != nil {
		return nil, fmt.Errorf("build the image of %s: %w", commit, err)
	}
	return mutate.ConfigFile(image, &v1.ConfigFile{
		OS: "linux", Architecture: arch,
		Config: v1.Config{
			Entrypoint:   []string{"/backend"},
			User:         nobody,
			ExposedPorts: map[string]struct{}{"8080/tcp": {}},
			Labels:       map[string]string{"org.opencontainers.image.revision": commit},
		},
		RootFS: rootFS(image),
	})
}

// rootFS is the list of layers that an image's configuration has to repeat.
func rootFS(image v1.Image) v1.RootFS {
	config, err := image.ConfigFile()
	if err != nil {
		return v1.RootFS{Type: "layers"}
	}
	return config.RootFS
}

// pushImage uploads an image under a tag and returns its digest.
func pushImage(ctx context.Context, image v1.Image, tag string) (string, error) {
	ref, err := name.NewTag(tag)
	if err != nil {
		return "", err
	}
	if err := remote.Write(ref, image, remote.WithContext(ctx)); err != nil {
		return "", fmt.Errorf("push %s: %w", tag, err)
	}
	digest, err := image.Digest()
	if err != nil {
		return "", fmt.Errorf("digest of %s: %w", tag, err)
	}
	return digest.String(), nil
}

// digestOf asks the registry what a tag points to.
func digestOf(ctx context.Context, tag string) (string, error) {
	ref, err := name.NewTag(tag)
	if err != nil {
		return "", err
	}
	descriptor, err := remote.Head(ref, remote.WithContext(ctx))
	if err != nil {
		return "", fmt.Errorf("look up %s: %w", tag, err)
	}
	return descriptor.Digest.String(), nil
}

// serveRegistry is the registry where Debian's cannot be had: another implementation, in a process of its own.
func serveRegistry(address string) error {
	server := http.Server{
		Addr: address, ReadHeaderTimeout: 10 * time.Second,
		Handler: registry.New(registry.Logger(log.New(os.Stderr, "", log.LstdFlags))),
	}
	return server.ListenAndServe()
}

// registryConfig is the configuration file of docker-registry.
func registryConfig(dir, address string) (string, error) {
	path := filepath.Join(dir, "registry.yaml")
	text := fmt.Sprintf(`version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: %q}, delete: {enabled: true}}
http: {addr: %q}
`, filepath.Join(dir, "registry"), address)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("configure the registry: %w", err)
	}
	return path, nil
}
