// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPrepareTakesPermissionsBack(t *testing.T) {
	d := newDataDir(t)
	key := d.key("ca.key")
	for _, step := range []error{
		os.WriteFile(key, []byte("secret"), 0o644),
		os.Chmod(key, 0o644),
		os.Chmod(d.pki(), 0o755),
		os.Chmod(string(d), 0o755),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	if err := d.prepare(); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{string(d): dirMode, d.pki(): dirMode, d.run(): dirMode, d.etcd(): dirMode, key: fileMode} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %o, want %o", path, info.Mode().Perm(), want)
		}
	}
}

func TestPrepareRefuses(t *testing.T) {
	t.Run("a directory of other things", func(t *testing.T) {
		dir := t.TempDir()
		for _, step := range []error{os.WriteFile(filepath.Join(dir, "syslog"), nil, 0o644), os.Chmod(dir, 0o755)} {
			if step != nil {
				t.Fatal(step)
			}
		}
		if err := dataDir(dir).prepare(); err == nil || !strings.Contains(err.Error(), "open to other users") {
			t.Errorf("got %v", err)
		}
		if info, _ := os.Stat(dir); info.Mode().Perm() != 0o755 {
			t.Errorf("the mode was changed to %o all the same", info.Mode().Perm())
		}
	})
	t.Run("a file", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := dataDir(file).prepare(); err == nil {
			t.Error("a file passed for a directory")
		}
	})
	t.Run("a key that is a symbolic link", func(t *testing.T) {
		d := newDataDir(t)
		if err := os.Symlink("/etc/passwd", d.key("ca.key")); err != nil {
			t.Fatal(err)
		}
		if err := d.prepare(); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("somebody else's directory", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("only root can give a directory away")
		}
		dir := t.TempDir()
		if err := os.Chown(dir, 12345, 12345); err != nil {
			t.Fatal(err)
		}
		if err := dataDir(dir).prepare(); err == nil || !strings.Contains(err.Error(), "belongs to user id 12345") {
			t.Errorf("got %v", err)
		}
	})
}

func TestLockIsExclusive(t *testing.T) {
	d := newDataDir(t)
	first, err := d.lock()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.lock(); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("second lock: %v", err)
	}
	first.Close()
	second, err := d.lock()
	if err != nil {
		t.Fatalf("after the first was released: %v", err)
	}
	second.Close()
}

func TestWriteFileReplacesInFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, content := range []string{"first, the longer one", "second"} {
		if err := writeFile(path, []byte(content)); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(path); string(got) != content {
			t.Errorf("got %q, want %q", got, content)
		}
	}
	entries, _ := os.ReadDir(filepath.Dir(path))
	if len(entries) != 1 {
		t.Errorf("temporary files were left: %v", entries)
	}
}
