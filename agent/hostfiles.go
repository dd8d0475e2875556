// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/types"

	"gitlab.com/dynors/sirrat/agent/compose"
	"gitlab.com/dynors/sirrat/agent/state"
	"gitlab.com/dynors/sirrat/internal/composefile"
	"gitlab.com/dynors/sirrat/internal/hostpolicy"
)

// Bounds of what is read of the server.
const (
	// maxEnvFile is the size of an env file, and of a config or secret, in bytes.
	maxEnvFile = 1 << 20
	// maxHashed is the size up to which the content of a bind-mounted file counts, in bytes. Larger ones are data.
	maxHashed = 8 << 20
)

// errHostFile is wrapped by errors about a file that is not on this server, or not as it should be.
var errHostFile = errors.New("a file of this server is not as the compose file needs it")

// hostFiles are the files of the host's owner: his policy, and what compose files name.
type hostFiles struct {
	policy *hostpolicy.Store
	server *hostpolicy.Server
}

// newHostFiles reads nothing yet. An empty policyFile means hostpolicy.DefaultFile.
func newHostFiles(dataDir, policyFile, dockerHost string) *hostFiles {
	h := &hostFiles{policy: hostpolicy.NewStore(cmp.Or(policyFile, hostpolicy.DefaultFile)), server: &hostpolicy.Server{}}
	for _, name := range []string{dataDir, h.policy.File()} {
		if absolute, err := filepath.Abs(name); err == nil {
			h.server.Private = append(h.server.Private, absolute)
		}
	}
	if socket, isUnix := strings.CutPrefix(dockerHost, "unix://"); isUnix {
		h.server.Sockets = append(h.server.Sockets, filepath.Clean(socket))
	}
	return h
}

// read puts into a model what is on this server only: the variables of env files, and a hash of what configs, secrets
// and bind-mounted files hold, so that services with another content are made anew and the others left alone. What it reads
// is hidden among the deployment's secrets. Symlinks are replaced by where they lead.
//
// Nothing but the compose project's own values is put into env files: never the agent's environment.
func (h *hostFiles) read(project *types.Project, d *state.Deployment) error {
	if d.Secrets == nil {
		d.Secrets = state.Secrets{}
	}
	r := &fileReader{server: h.server, project: project, secrets: d.Secrets}
	r.policy, r.policyErr = h.policy.Current()
	for _, name := range slices.Sorted(maps.Keys(project.Services)) {
		service, err := r.service(project.Services[name])
		if err != nil {
			return fmt.Errorf("services.%s.%w", name, err)
		}
		project.Services[name] = service
	}
	return nil
}

type fileReader struct {
	server    *hostpolicy.Server
	project   *types.Project
	secrets   state.Secrets
	policy    hostpolicy.Policy
	policyErr error
}

func (r *fileReader) service(s types.ServiceConfig) (types.ServiceConfig, error) {
	if err := r.environment(&s); err != nil {
		return s, fmt.Errorf("env_file: %w", err)
	}
	sum, hashed := sha256.New(), false
	for _, config := range s.Configs {
		object := types.FileObjectConfig(r.project.Configs[config.Source])
		content, err := r.object(&object)
		if err != nil {
			return s, fmt.Errorf("configs: %w", err)
		}
		if object.File != "" {
			r.project.Configs[config.Source] = types.ConfigObjConfig(object)
			fmt.Fprintf(sum, "config %q %x\n", config.Source, sha256.Sum256(content))
			hashed = true
		}
	}
	for _, secret := range s.Secrets {
		object := types.FileObjectConfig(r.project.Secrets[secret.Source])
		content, err := r.object(&object)
		if err != nil {
			return s, fmt.Errorf("secrets: %w", err)
		}
		if object.File != "" {
			r.project.Secrets[secret.Source] = types.SecretConfig(object)
			r.secrets.Hide("secret "+secret.Source, string(content))
			fmt.Fprintf(sum, "secret %q %x\n", secret.Source, sha256.Sum256(content))
			hashed = true
		}
	}
	s.Volumes = slices.Clone(s.Volumes)
	for i, mount := range s.Volumes {
		if mount.Type != types.VolumeTypeBind {
			continue
		}
		source, err := r.follow(mount.Source, r.policy.BindPaths)
		if err != nil {
			return s, fmt.Errorf("volumes: %w", err)
		}
		s.Volumes[i].Source = source
		content, err := fileHash(source)
		if err != nil {
			return s, fmt.Errorf("volumes: %w", err)
		}
		if content != "" {
			fmt.Fprintf(sum, "bind %q %s\n", mount.Target, content)
			hashed = true
		}
	}
	if hashed {
		compose.SetContent(&s, hex.EncodeToString(sum.Sum(nil)))
	}
	return s, nil
}

// environment puts the variables of a service's env files under those that the compose file gives it.
func (r *fileReader) environment(s *types.ServiceConfig) error {
	if len(s.EnvFiles) == 0 {
		return nil
	}
	lookup := func(name string) (string, bool) {
		if value, ok := r.project.Environment.Resolve(name); ok {
			return value, true
		}
		if value := s.Environment[name]; value != nil {
			return *value, true
		}
		return "", false
	}
	variables := map[string]string{}
	for _, file := range s.EnvFiles {
		source, err := r.follow(file.Path, r.policy.EnvFiles)
		if err != nil {
			return err
		}
		text, err := readFile(source, maxEnvFile)
		if errors.Is(err, fs.ErrNotExist) && !bool(file.Required) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", file.Path, explainFile(err))
		}
		if err := parseEnvFile(text, file.Format, variables, lookup); err != nil {
			return fmt.Errorf("%w: %s: %w", errHostFile, file.Path, err)
		}
	}
	environment := types.MappingWithEquals{}
	for name, value := range variables {
		r.secrets.Hide("env "+s.Name+" "+name, value)
		environment[name] = &value
	}
	maps.Copy(environment, s.Environment)
	s.Environment, s.EnvFiles = environment, nil
	return nil
}

// lineNumber is all that an error about an env file may tell of it: the rest quotes the line.
var lineNumber = regexp.MustCompile(`line [0-9]+`)

func parseEnvFile(text []byte, format string, into map[string]string, lookup dotenv.LookupFn) (err error) {
	if format == composefile.RawFormat {
		lines := bufio.NewScanner(bytes.NewReader(text))
		lines.Buffer(nil, maxEnvFile+1)
		for number := 1; lines.Scan(); number++ {
			line := strings.TrimSpace(lines.Text())
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			name, value, found := strings.Cut(line, "=")
			if !found {
				return fmt.Errorf("line %d: not NAME=value", number)
			}
			into[name] = value
		}
		return lines.Err()
	}
	defer func() {
		if recover() != nil {
			err = errors.New("it cannot be read")
		}
	}()
	if err := dotenv.ParseWithFormat(bytes.NewReader(text), "", into, lookup, ""); err != nil {
		if line := lineNumber.FindString(err.Error()); line != "" {
			return fmt.Errorf("%s: not NAME=value", line)
		}
		return errors.New("it is not made of lines of NAME=value, or a ${variable} in it is not closed")
	}
	return nil
}

// object reads a config or secret that names a file, and replaces a symlink by where it leads.
func (r *fileReader) object(object *types.FileObjectConfig) ([]byte, error) {
	if object.File == "" {
		return nil, nil
	}
	source, err := r.follow(object.File, r.policy.Files)
	if err != nil {
		return nil, err
	}
	content, err := readFile(source, maxEnvFile)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", object.File, explainFile(err))
	}
	object.File = source
	return content, nil
}

// follow is where an admitted path leads. What is no symlink needs no leave: it was given when it was admitted. A symlink
// may have been turned elsewhere since, so where it leads must be allowed now.
func (r *fileReader) follow(name string, allowed []string) (string, error) {
	clean := path.Clean(name)
	real, err := r.server.Real(clean)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errHostFile, err)
	}
	if real == clean || r.server.IsSocket(clean) {
		return clean, nil
	}
	if r.policyErr != nil {
		return "", fmt.Errorf("%s leads to %s: %w", clean, real, r.policyErr)
	}
	return real, r.policy.Follow(r.server, clean, allowed)
}

// readFile reads a regular file of at most limit bytes.
func readFile(name string, limit int64) ([]byte, error) {
	f, info, err := openRegular(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info.Size() > limit {
		return nil, fmt.Errorf("%d bytes, at most %d are read", info.Size(), limit)
	}
	content, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(content)) > limit {
		err = fmt.Errorf("more than %d bytes", limit)
	}
	return content, err
}

// openRegular opens without waiting for whoever writes to a pipe, and without following a symlink that came since.
func openRegular(name string) (*os.File, fs.FileInfo, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errNotRegular
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

var errNotRegular = errors.New("not a regular file")

// explainFile says what to do about a file that cannot be read.
func explainFile(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: it is not there; the server's owner puts it there, or the compose file says required: false", errHostFile)
	}
	return fmt.Errorf("%w: %w", errHostFile, err)
}

// fileHash is the hash of a file's content; empty for folders, for what is not there and for what is too large to count.
func fileHash(name string) (string, error) {
	info, err := os.Lstat(name)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxHashed {
		return "", nil //nolint:nilerr // what is not there is for the engine to make or refuse
	}
	f, _, err := openRegular(name)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errHostFile, err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, io.LimitReader(f, maxHashed)); err != nil {
		return "", fmt.Errorf("%w: %w", errHostFile, err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// check looks once more, right before containers are touched, that every path of the server still leads where it did.
func (h *hostFiles) check(r *resolved) error {
	if r.unready != nil {
		return r.unready
	}
	same := func(source string) error {
		if h.server.IsSocket(source) {
			return nil
		}
		if real, err := h.server.Real(source); err != nil || real != source {
			return fmt.Errorf("%w: %s was replaced by a symlink in the meantime", errHostFile, source)
		}
		return nil
	}
	whole := r.project
	if r.jobs.project != nil {
		whole = r.jobs.project
	}
	for name, service := range whole.Services {
		for _, mount := range service.Volumes {
			if mount.Type == types.VolumeTypeBind {
				if err := same(mount.Source); err != nil {
					return fmt.Errorf("services.%s.volumes: %w", name, err)
				}
			}
		}
	}
	for name, object := range whole.Configs {
		if object.File != "" {
			if err := same(object.File); err != nil {
				return fmt.Errorf("configs.%s: %w", name, err)
			}
		}
	}
	for name, object := range whole.Secrets {
		if object.File != "" {
			if err := same(object.File); err != nil {
				return fmt.Errorf("secrets.%s: %w", name, err)
			}
		}
	}
	return nil
}
