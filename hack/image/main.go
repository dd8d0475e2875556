// SPDX-License-Identifier: Apache-2.0

// Command image builds container images of the programs from scratch: one static program and the CAs to trust, nothing else.
// It needs no Docker engine.
//
//	go run ./hack/image -program sirrat-agent -tag v1.2.3 -out bin
//	go run ./hack/image -program sirrat -tag v1.2.3 -push registry.example/sirrat
package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// options of the command line.
type options struct {
	program, tag, arch, out, push, cas, ldflags string
}

func main() {
	var o options
	flag.StringVar(&o.program, "program", "sirrat-agent", "program under cmd/")
	flag.StringVar(&o.tag, "tag", "dev", "tag of the image")
	flag.StringVar(&o.arch, "arch", "amd64,arm64", "architectures; a tar file is written of each, and all are pushed as one index")
	flag.StringVar(&o.out, "out", "", "folder for tar files, for docker load")
	flag.StringVar(&o.push, "push", "", "repository to push to, with the credentials of docker login")
	flag.StringVar(&o.cas, "ca-bundle", "/etc/ssl/certs/ca-certificates.crt", "CAs that the program trusts for the public web")
	flag.StringVar(&o.ldflags, "ldflags", "-s -w", "flags of the linker")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	if o.out == "" && o.push == "" {
		return errors.New("give -out or -push")
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range strings.Split(o.arch, ",") {
		image, err := build(ctx, o, arch)
		if err != nil {
			return fmt.Errorf("%s for %s: %w", o.program, arch, err)
		}
		if o.out != "" {
			if err := write(o, arch, image); err != nil {
				return err
			}
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	if o.push == "" {
		return nil
	}
	ref, err := name.NewTag(o.push + ":" + o.tag)
	if err != nil {
		return err
	}
	if err := remote.WriteIndex(ref, index, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)); err != nil {
		return fmt.Errorf("push %s: %w", ref, err)
	}
	digest, err := index.Digest()
	if err != nil {
		return err
	}
	fmt.Printf("%s@%s\n", ref.Name(), digest)
	return nil
}

// build compiles the program and puts it into an image. The same sources make the same image.
func build(ctx context.Context, o options, arch string) (v1.Image, error) {
	dir, err := os.MkdirTemp("", "sirrat-image-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary := filepath.Join(dir, o.program)
	compile := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", o.ldflags, "-o", binary, "./cmd/"+o.program)
	compile.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	compile.Stderr = os.Stderr
	if err := compile.Run(); err != nil {
		return nil, fmt.Errorf("compile: %w", err)
	}
	program, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	cas, err := os.ReadFile(o.cas)
	if err != nil {
		return nil, fmt.Errorf("-ca-bundle: %w", err)
	}
	layer, err := layerOf(o.program, program, cas)
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(mutate.MediaType(mutate.ConfigMediaType(empty.Image, types.OCIConfigJSON), types.OCIManifestSchema1), layer)
	if err != nil {
		return nil, err
	}
	return mutate.ConfigFile(image, configOf(o, arch, image))
}

// configOf says how the program is started. The agent commands the engine and is root for that; sirrat needs no rights.
func configOf(o options, arch string, image v1.Image) *v1.ConfigFile {
	config, err := image.ConfigFile()
	if err != nil {
		panic(err) // of an image that was just made in memory
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", arch
	config.Config.Entrypoint = []string{"/" + o.program}
	config.Config.Env = []string{"PATH=/", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"}
	config.Config.Labels = map[string]string{
		"org.opencontainers.image.title": o.program, "org.opencontainers.image.version": o.tag,
		"org.opencontainers.image.licenses": "Apache-2.0", "org.opencontainers.image.source": "https://gitlab.com/dynors/sirrat",
	}
	config.Config.User = "65532:65532"
	if o.program == "sirrat-agent" {
		config.Config.User, config.Config.Cmd = "0:0", []string{"run"}
		config.Config.Volumes = map[string]struct{}{"/var/lib/sirrat-agent": {}}
	}
	return config
}

func layerOf(program string, binary, cas []byte) (v1.Layer, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, entry := range []struct {
		name string
		mode int64
		data []byte
	}{
		{"etc/", 0o755, nil}, {"etc/ssl/", 0o755, nil}, {"etc/ssl/certs/", 0o755, nil}, {"tmp/", 0o1777, nil},
		{"etc/ssl/certs/ca-certificates.crt", 0o644, cas}, {program, 0o755, binary},
	} {
		header := &tar.Header{Name: entry.name, Mode: entry.mode, Size: int64(len(entry.data)), ModTime: time.Unix(0, 0), Typeflag: tar.TypeReg, Format: tar.FormatPAX}
		if strings.HasSuffix(entry.name, "/") {
			header.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := w.Write(entry.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }, tarball.WithMediaType(types.OCILayer))
}

// write makes a tar file for docker load.
func write(o options, arch string, image v1.Image) error {
	if err := os.MkdirAll(o.out, 0o755); err != nil { //nolint:gosec // what was built is for everybody to read
		return err
	}
	repository := o.push
	if repository == "" {
		repository = "registry.gitlab.com/dynors/" + o.program // the chart's default
	}
	tag, err := name.NewTag(repository + ":" + o.tag)
	if err != nil {
		return err
	}
	file := filepath.Join(o.out, fmt.Sprintf("%s-%s.tar", o.program, arch))
	if err := tarball.WriteToFile(file, tag, image); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	digest, err := image.Digest()
	if err != nil {
		return err
	}
	fmt.Printf("%s  %s  %s\n", file, tag.Name(), digest)
	return nil
}
