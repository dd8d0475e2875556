// SPDX-License-Identifier: Apache-2.0

package enginetest

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// layers of Debian programs, made once per process.
var debian = struct {
	sync.Mutex
	layers map[string][]byte
}{layers: map[string][]byte{}}

// Debian pushes an image with one program of a Debian package and the libraries that it needs, and returns it by digest.
// Nothing is installed. The test fails where there is no apt, unless it runs with -short, and then is skipped.
func (r *Registry) Debian(t testing.TB, pkg, program string, arguments ...string) string {
	t.Helper()
	debian.Lock()
	defer debian.Unlock()
	if debian.layers[pkg] == nil {
		layer, err := debianLayer(t.TempDir(), pkg, program)
		if err != nil {
			if testing.Short() {
				t.Skip(err)
			}
			t.Fatal(err)
		}
		debian.layers[pkg] = layer
	}
	return r.imageOf(t, pkg, debian.layers[pkg], append([]string{program}, arguments...), goarch(), 0, nil)
}

var libraryPath = regexp.MustCompile(`(?m)(?:=> |^\s+)(/\S+) \(0x`)

func debianLayer(dir, pkg, program string) ([]byte, error) {
	run := func(name string, arguments ...string) (string, error) {
		cmd := exec.Command(name, arguments...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(arguments, " "), err, out)
		}
		return string(out), nil
	}
	if _, err := run("apt-get", "download", pkg); err != nil {
		if _, err := run("apt-get", "update"); err != nil {
			return nil, err
		}
		if _, err := run("apt-get", "download", pkg); err != nil {
			return nil, err
		}
	}
	found, err := filepath.Glob(filepath.Join(dir, pkg+"_*.deb"))
	if err != nil || len(found) != 1 {
		return nil, fmt.Errorf("packages %v: %w", found, err)
	}
	root := filepath.Join(dir, "root")
	if _, err := run("dpkg-deb", "-x", found[0], root); err != nil {
		return nil, err
	}
	libraries, err := run("ldd", filepath.Join(root, program))
	if err != nil {
		return nil, err
	}
	if strings.Contains(libraries, "not found") {
		return nil, fmt.Errorf("%s: libraries are missing: %s", program, libraries)
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	add := func(name, source string) error {
		content, err := os.ReadFile(source)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: strings.TrimPrefix(name, "/"), Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(content))}); err != nil {
			return err
		}
		_, err = w.Write(content)
		return err
	}
	if err := w.WriteHeader(&tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o777}); err != nil {
		return nil, err
	}
	passwd := filepath.Join(dir, "passwd")
	if err := os.WriteFile(passwd, []byte("root:x:0:0:root:/:/none\n"), 0o600); err != nil {
		return nil, err
	}
	for name, source := range map[string]string{"etc/passwd": passwd, "etc/group": passwd} {
		if err := add(name, source); err != nil {
			return nil, err
		}
	}
	if err := add(program, filepath.Join(root, program)); err != nil {
		return nil, err
	}
	var names []string
	for _, match := range libraryPath.FindAllStringSubmatch(libraries, -1) {
		names = append(names, match[1])
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if err := add(name, name); err != nil {
			return nil, err
		}
	}
	return layer.Bytes(), w.Close()
}
