// SPDX-License-Identifier: Apache-2.0

package hostpolicy

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tree makes folders (ending in /), files and symlinks (with a target) in a folder of its own.
func tree(t testing.TB, entries ...[2]string) string {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name := filepath.Join(root, e[0])
		var err error
		switch target := strings.ReplaceAll(e[1], "ROOT", root); {
		case strings.HasSuffix(e[0], "/"):
			err = os.MkdirAll(name, 0o700)
		case target != "":
			err = os.Symlink(target, name)
		default:
			err = os.WriteFile(name, nil, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// On the server itself, what counts is where a path leads.
func TestSymlinks(t *testing.T) {
	root := tree(t, [2]string{"srv/app/data/"}, [2]string{"srv/app/file"}, [2]string{"secret/"}, [2]string{"secret/key"}, [2]string{"agent/"},
		[2]string{"srv/app/out", "ROOT/secret"}, [2]string{"srv/app/up", "../../secret"}, [2]string{"srv/app/etc", "/etc"}, [2]string{"srv/app/root", "/"},
		[2]string{"srv/app/proc", "/proc/self/environ"}, [2]string{"srv/app/in", "data"}, [2]string{"srv/app/data/back", ".."}, [2]string{"srv/app/loop", "loop"},
		[2]string{"srv/app/nothing", "ROOT/secret/not-there-yet"}, [2]string{"srv/app/key", "ROOT/secret/key"}, [2]string{"srv/app/agent", "ROOT/agent"},
		[2]string{"alias", "srv"}, [2]string{"srv/app/two", "out"})
	server := &Server{Private: []string{root + "/agent"}}
	policy := parse(t, fmt.Sprintf("bindPaths: [%s/srv/app, %s/alias/app]\nfiles: [%s/srv/app]\nenvFiles: [%s/srv/app]", root, root, root, root))
	everything := parse(t, all)
	for _, c := range []struct {
		source string
		want   bool
		// never says that no policy allows it.
		never bool
	}{
		{"srv/app", true, false}, {"srv/app/data", true, false}, {"srv/app/file", true, false}, {"srv/app/in", true, false}, {"srv/app/data/back/data", true, false},
		{"srv/app/new/folder", true, false}, {"srv/app/in/new", true, false}, {"alias/app/data", true, false},
		{"srv/app/out", false, false}, {"srv/app/up", false, false}, {"srv/app/two", false, false}, {"srv/app/key", false, false}, {"srv/app/out/new", false, false},
		{"srv/app/nothing", false, false}, {"srv/application", false, false}, {"srv", false, false},
		{"srv/app/etc", false, true}, {"srv/app/etc/sirrat", false, true}, {"srv/app/root", false, true}, {"srv/app/proc", false, true}, {"srv/app/loop", false, true},
		{"srv/app/agent", false, true}, {"agent", false, true}, {"agent/state", false, true}, {"srv/app/agent/state", false, true}, {".", false, true},
	} {
		source := filepath.Join(root, c.source)
		for kind, text := range map[string]string{
			"bind":     "services: {web: {image: a, volumes: [\"" + source + ":/x\"]}}",
			"option":   "services: {web: {image: a, volumes: [\"v:/x\"]}}\nvolumes: {v: {driver_opts: {type: none, o: bind, device: " + source + "}}}",
			"config":   "services: {web: {image: a}}\nconfigs: {c: {file: " + source + "}}",
			"env file": "services: {web: {image: a, env_file: " + source + "}}",
		} {
			if kind != "bind" && kind != "option" && strings.HasPrefix(c.source, "alias") {
				continue
			}
			subject := Subject{Model: load(t, text)}
			if err := policy.Admit(subject, server); (err == nil) != c.want {
				t.Errorf("%s of %s: %v", kind, c.source, err)
			}
			if err := everything.Admit(subject, server); (err != nil) != c.never {
				t.Errorf("%s of %s by a policy that allows all: %v", kind, c.source, err)
			}
		}
	}
}

// A socket is one by whatever path it is reached.
func TestSocketsOfTheServer(t *testing.T) {
	root := tree(t, [2]string{"engine/"}, [2]string{"srv/deep/"}, [2]string{"other/"}, [2]string{"srv/link", "ROOT/engine/e"}, [2]string{"srv/folder", "ROOT/engine"}, [2]string{"other/docker.sock", ""})
	listen := func(name string) {
		t.Helper()
		l, err := net.Listen("unix", name)
		if err != nil {
			t.Skip("the path of the socket is too long: ", err)
		}
		t.Cleanup(func() { l.Close() })
	}
	listen(root + "/engine/e")
	_ = os.Remove(root + "/other/docker.sock")
	listen(root + "/other/docker.sock")
	if err := os.Link(root+"/engine/e", root+"/srv/deep/hard"); err != nil {
		t.Fatal(err)
	}
	server := &Server{Sockets: []string{root + "/engine/e"}}
	folders, socket := parse(t, "bindPaths: ["+root+"]"), parse(t, "engineSocket: true")
	for source, isSocket := range map[string]bool{
		"engine/e": true, "srv/link": true, "srv/deep/hard": true, "engine": false, "srv/folder": false, "other": false, "other/docker.sock": true, "": false,
	} {
		subject := Subject{Model: load(t, "services: {web: {image: a, volumes: [\""+filepath.Join(root, source)+":/x\"]}}")}
		err := folders.Admit(subject, server)
		if err == nil || !strings.Contains(err.Error(), "the Docker socket") {
			t.Errorf("%q: %v", source, err)
		}
		if err := socket.Admit(subject, server); (err == nil) != isSocket {
			t.Errorf("%q where the socket is allowed: %v", source, err)
		}
	}
	plain := Subject{Model: load(t, "services: {web: {image: a, volumes: [\""+root+"/srv/deep:/x\"]}}")}
	if err := folders.Admit(plain, server); err != nil {
		t.Errorf("a folder without a known socket: %v", err)
	}
}

func FuzzReal(f *testing.F) {
	root := tree(f, [2]string{"a/b/"}, [2]string{"a/up", ".."}, [2]string{"a/nothing", "x/../y"}, [2]string{"a/loop", "loop"}, [2]string{"c", "ROOT/a/b"})
	f.Add("a/up/c/x")
	f.Add("a/nothing/../z")
	f.Add("a/loop")
	f.Fuzz(func(t *testing.T, name string) {
		if strings.ContainsRune(name, 0) {
			return
		}
		real, err := (&Server{}).Real(root + "/" + name)
		if err != nil {
			return
		}
		if again, err := (&Server{}).Real(real); err != nil || again != real {
			t.Errorf("%q leads to %q, which leads to %q, %v", name, real, again, err)
		}
	})
}
