// SPDX-License-Identifier: Apache-2.0

package hostpolicy

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Server is a server's own view of its files. A nil one sees none: paths are what they say.
//
// Between the look and the mount a file may be replaced. Who can do that below an allowed folder is a container that has it
// mounted; so the agent looks once more right before containers are touched, and hands the engine the path behind the
// symlinks, which only who may write its parents can change. Devices of volumes keep their path, because a volume of other
// options would have to be made anew: do not give containers the folder that holds them.
type Server struct {
	// Private are folders that no container may see, beyond the usual ones: the agent's data, the policy's folder.
	Private []string
	// Sockets of engines, beyond the usual ones.
	Sockets []string
}

// maxLinks bounds how often a path that does not exist in full is followed.
const maxLinks = 40

// Real is what a path is behind its symlinks, with what of it does not exist yet as it is written.
func (s *Server) Real(name string) (string, error) {
	name = path.Clean(name)
	for range maxLinks {
		existing, rest := name, ""
		for {
			real, err := filepath.EvalSymlinks(existing)
			if err == nil {
				return path.Join(real, rest), nil
			}
			if !errors.Is(err, fs.ErrNotExist) {
				return "", err
			}
			// A link that leads to nothing is a place that the engine would create: judge that place.
			if target, err := os.Readlink(existing); err == nil {
				if !path.IsAbs(target) {
					target = path.Join(path.Dir(existing), target)
				}
				name = path.Join(target, rest)
				break
			}
			existing, rest = path.Dir(existing), path.Join(path.Base(existing), rest)
		}
	}
	return "", fmt.Errorf("%s: more than %d symlinks", name, maxLinks)
}

// realAll are folders behind their symlinks; those that cannot be followed are left out.
func (s *Server) realAll(folders []string) []string {
	if s == nil {
		return nil
	}
	var out []string
	for _, folder := range folders {
		if real, err := s.Real(folder); err == nil {
			out = append(out, real)
		}
	}
	return out
}

// private are the folders that no container may see, as written and behind their symlinks.
func (s *Server) private() []string {
	if s == nil {
		return private
	}
	all := slices.Concat(private, s.Private)
	return slices.Compact(slices.Sorted(slices.Values(slices.Concat(all, s.realAll(all)))))
}

func (s *Server) sockets() []string {
	var all []string
	for _, folder := range runFolders {
		for _, socket := range socketsIn {
			all = append(all, path.Join(folder, socket))
		}
	}
	if s != nil {
		all = append(all, s.Sockets...)
	}
	return all
}

// isSocket says whether a path is an engine's socket, by its name or, where it can be seen, by what it is.
func (s *Server) isSocket(name string) bool {
	name = path.Clean(name)
	if slices.Contains(s.sockets(), name) {
		return true
	}
	if strings.HasSuffix(name, ".sock") && slices.ContainsFunc(engines, func(e string) bool { return strings.Contains(strings.ToLower(name), e) }) {
		return true
	}
	if s == nil {
		return false
	}
	info, err := os.Stat(name)
	if err != nil || info.Mode()&fs.ModeSocket == 0 {
		return false
	}
	return slices.ContainsFunc(s.sockets(), func(socket string) bool {
		other, err := os.Stat(socket)
		return err == nil && os.SameFile(info, other)
	})
}

// holdsSocket says whether a path is a folder in which an engine's socket is.
func (s *Server) holdsSocket(name string) bool {
	name = path.Clean(name)
	if slices.ContainsFunc(s.sockets(), func(socket string) bool { return within(socket, name) }) {
		return true
	}
	if s == nil {
		return false
	}
	return slices.ContainsFunc(s.sockets(), func(socket string) bool {
		real, err := s.Real(socket)
		return err == nil && within(real, name)
	}) || slices.ContainsFunc(socketsIn, func(socket string) bool {
		info, err := os.Stat(path.Join(name, socket))
		return err == nil && info.Mode()&fs.ModeSocket != 0
	})
}

// IsSocket says whether a path is an engine's socket.
func (s *Server) IsSocket(name string) bool { return s.isSocket(name) }

// Follow is nil when a path, with what it is behind its symlinks, is below one of the paths that are allowed.
func (p Policy) Follow(server *Server, source string, allowed []string) error {
	j := &judge{policy: p, server: server}
	j.path("symlink", "", "following", source, "the policy", allowed, "name where it leads")
	if len(j.findings) > 0 {
		return Refusal(j.findings)
	}
	return nil
}
