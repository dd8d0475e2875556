// SPDX-License-Identifier: Apache-2.0

// Package agentfiles keeps the published programs of agents in a folder, <version>/<os>-<arch>, and serves them. Whoever
// can write there can offer a program; what an agent runs is decided by the statement that the controllers sign over it.
//
// It may import internal/agentupdate.
package agentfiles

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"gitlab.com/dynors/sirrat/internal/agentupdate"
)

// Prefix of the paths that Handler answers: Prefix<version>/<os>-<arch>.
const Prefix = "/api/agent/"

// writeTimeout is how long a download may take; a slower one goes on with another request.
const writeTimeout = 15 * time.Minute

// ErrUnknown says that a version is not published.
var ErrUnknown = errors.New("this version of the agent is not published")

// Files is the folder. Its methods may be called from several goroutines.
type Files struct {
	dir string

	mu     sync.Mutex
	hashes map[string]hashed
}

// hashed is a file's hash as long as the file stays what it was.
type hashed struct {
	size   int64
	mtime  time.Time
	sha256 string
}

// Open returns the files in a folder, which need not exist.
func Open(dir string) *Files { return &Files{dir: dir, hashes: map[string]hashed{}} }

// machines are the platforms of programs, by the machine in their header.
var machines = map[elf.Machine]string{elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64", elf.EM_ARM: "arm", elf.EM_386: "386", elf.EM_RISCV: "riscv64", elf.EM_PPC64: "ppc64le", elf.EM_S390: "s390x"}

// PlatformOf reads from a program's header what it runs on. Example: linux/amd64.
func PlatformOf(path string) (string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return "", fmt.Errorf("%s is not a program for Linux: %w", path, err)
	}
	defer func() { _ = f.Close() }() // opened to be read
	arch, known := machines[f.Machine]
	if !known {
		return "", fmt.Errorf("%s is a program for %s, on which no agent runs", path, f.Machine)
	}
	return "linux/" + arch, nil
}

// Publish copies a program into the folder and returns its platform. The same one again changes nothing; another one of the
// same version and platform is refused, since agents may have fetched the first.
func (f *Files) Publish(version, program string) (platform string, err error) {
	if err := agentupdate.CheckVersion(version); err != nil {
		return "", err
	}
	if platform, err = PlatformOf(program); err != nil {
		return "", err
	}
	dir := filepath.Join(f.dir, version)
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // nothing secret
		return "", fmt.Errorf("publish agent: %w", err)
	}
	path := filepath.Join(dir, fileName(platform))
	sum, size, err := hashOf(program)
	if err != nil {
		return "", err
	}
	if size > agentupdate.MaxBinary {
		return "", fmt.Errorf("%s is larger than %d bytes", program, agentupdate.MaxBinary)
	}
	if known, _, err := hashOf(path); err == nil {
		if known == sum {
			return platform, nil
		}
		return "", fmt.Errorf("another program is published as %s for %s already: give another version", version, platform)
	}
	if err := copyFile(path, program); err != nil {
		return "", fmt.Errorf("publish agent: %w", err)
	}
	return platform, nil
}

func copyFile(to, from string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(to), ".new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(out.Name())
		}
	}()
	_, err = io.Copy(out, in)
	if err := errors.Join(err, out.Chmod(0o644), out.Sync(), out.Close()); err != nil {
		return err
	}
	return os.Rename(out.Name(), to)
}

func fileName(platform string) string { return strings.Replace(platform, "/", "-", 1) }

// validPlatform is a file's name: <os>-<arch>.
var validPlatform = regexp.MustCompile(`^[a-z0-9]{1,16}-[a-z0-9]{1,16}$`)

// Describe lists the programs of a version by platform; ErrUnknown when there are none.
func (f *Files) Describe(version string) (map[string]agentupdate.Binary, error) {
	if err := agentupdate.CheckVersion(version); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Join(f.dir, version))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list agents: %w", err)
	}
	all := map[string]agentupdate.Binary{}
	for _, entry := range entries {
		if !validPlatform.MatchString(entry.Name()) || !entry.Type().IsRegular() {
			continue
		}
		h, err := f.hash(filepath.Join(f.dir, version, entry.Name()))
		if err != nil {
			return nil, err
		}
		all[strings.Replace(entry.Name(), "-", "/", 1)] = agentupdate.Binary{SHA256: h.sha256, Size: h.size}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: %s", ErrUnknown, version)
	}
	return all, nil
}

// hash reads a file once, as long as it does not change.
func (f *Files) hash(path string) (hashed, error) {
	info, err := os.Stat(path)
	if err != nil {
		return hashed{}, fmt.Errorf("read agent: %w", err)
	}
	f.mu.Lock()
	known := f.hashes[path]
	f.mu.Unlock()
	if known.sha256 != "" && known.size == info.Size() && known.mtime.Equal(info.ModTime()) {
		return known, nil
	}
	sum, size, err := hashOf(path)
	if err != nil {
		return hashed{}, err
	}
	h := hashed{size, info.ModTime(), sum}
	f.mu.Lock()
	f.hashes[path] = h
	f.mu.Unlock()
	return h, nil
}

func hashOf(path string) (sum string, size int64, err error) {
	file, err := os.Open(path)
	if err != nil {
		return "", 0, fmt.Errorf("read agent: %w", err)
	}
	defer file.Close()
	h := sha256.New()
	if size, err = io.Copy(h, file); err != nil {
		return "", 0, fmt.Errorf("read agent: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), size, nil
}

// Handler serves GET Prefix<version>/<os>-<arch>, ranges too. Programs are no secret: who asks is not asked who he is.
func (f *Files) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+Prefix+"{version}/{platform}", func(w http.ResponseWriter, r *http.Request) {
		version, platform := r.PathValue("version"), r.PathValue("platform")
		if agentupdate.CheckVersion(version) != nil || !validPlatform.MatchString(platform) {
			http.NotFound(w, r)
			return
		}
		path := filepath.Join(f.dir, version, platform)
		h, err := f.hash(path)
		if err != nil {
			http.NotFound(w, r)
			return
		}
		file, err := os.Open(path)
		if err != nil {
			http.NotFound(w, r)
			return
		}
		defer file.Close()
		// A server that cannot extend its deadline cuts the download short, and the agent goes on from there.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
		w.Header().Set("ETag", `"sha256:`+h.sha256+`"`)
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		http.ServeContent(w, r, "", h.mtime, file)
	})
	return mux
}
