// SPDX-License-Identifier: Apache-2.0

package hostpolicy

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gitlab.com/dynors/sirrat/internal/envelope"
)

// pemKey is a public key, indented as the value of a block scalar.
func pemKey(t testing.TB) string {
	t.Helper()
	_, _, public, err := envelope.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(strings.TrimSpace(string(public)), "\n", "\n      ")
}

func TestParse(t *testing.T) {
	p := parse(t, `
# what the client allows
bindPaths: [/srv/shop, "/etc/localtime"]
ports: [80, "443", 127.0.0.1:8000-8999]
logs: true
update: false
window: {allow: [{rrule: "FREQ=WEEKLY;BYDAY=MO,TU", start: "20:00", duration: 2h}]}
secondSignature:
  environments: [production]
  keys:
    - |
      `+pemKey(t)+"\n")
	if !isTrue(p.Exec) || !isTrue(p.Logs) || isTrue(p.Update) || strings.Join(p.Ports, " ") != "80 443 127.0.0.1:8000-8999" || p.Window.TimeZone != "Europe/Paris" {
		t.Errorf("%+v", p)
	}
	if !p.SecondSignature.Needed("production") || p.SecondSignature.Needed("dev") || (*SecondSignature)(nil).Needed("production") {
		t.Error("the environments of the second signature")
	}
	if keys, err := p.SecondSignature.PublicKeys(); err != nil || len(keys) != 1 {
		t.Errorf("keys %v, %v", keys, err)
	}
	for _, text := range []string{"", "# nothing\n", "{}", "---\n"} {
		if p := parse(t, text); len(p.Ports) != 3 || !isTrue(p.Exec) || isTrue(p.Logs) || !isTrue(p.Update) || p.Privileged || p.SecondSignature != nil {
			t.Errorf("%q: %+v", text, p)
		}
	}
	if p := parse(t, "ports: []"); p.Ports == nil || len(p.Ports) != 0 {
		t.Errorf("no ports: %v", p.Ports)
	}
}

// The template is the default, and says something about every field.
func TestTemplate(t *testing.T) {
	got, want := parse(t, Template), Default()
	got.Projects, got.Environments = nil, nil
	if a, b := fmt.Sprintf("%+v", marshal(t, got)), fmt.Sprintf("%+v", marshal(t, want)); a != b {
		t.Errorf("the template is\n%s\nthe default is\n%s", a, b)
	}
	for _, field := range fields() {
		if !strings.Contains(Template, "\n"+field+":") && !strings.Contains(Template, "\n# "+field+":") {
			t.Errorf("the template says nothing about %s", field)
		}
	}
	commented := parse(t, strings.ReplaceAll(strings.ReplaceAll(Template[:strings.Index(Template, "# secondSignature")], "\n#   ", "\n  "), "\n# window:", "\nwindow:"))
	if commented.Window == nil || len(commented.Window.Allow) != 1 || len(commented.Window.Deny) != 1 {
		t.Errorf("the template's window: %+v", commented.Window)
	}
}

func marshal(t *testing.T, p Policy) string {
	t.Helper()
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestParseRefuses(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"unknown field":    {"privileges: true", "privileges: unknown field; there are bindPaths"},
		"other case":       {"Privileged: true", "Privileged: unknown field"},
		"unknown within":   {"window: {when: now}", "when"},
		"unknown key":      {"secondSignature: {key: a}", "key"},
		"twice":            {"privileged: false\nprivileged: true", "privileged"},
		"a list":           {"[privileged]", "must be a mapping"},
		"a text":           {"privileged", "must be a mapping"},
		"not YAML":         {"a: [", "not YAML"},
		"no value":         {"ports:", "ports: has no value"},
		"wrong type":       {"privileged: maybe", "privileged"},
		"list as a text":   {"bindPaths: /srv", "bindPaths"},
		"relative path":    {"bindPaths: [srv]", "bindPaths[0]"},
		"dots":             {"files: [/srv/../etc]", "files[0]"},
		"home":             {"envFiles: [~/x]", "envFiles[0]"},
		"empty entry":      {"devices: [\"\"]", "devices[0]"},
		"namespace":        {"hostNamespaces: [net]", "hostNamespaces[0]: \"net\" is none; there are network"},
		"port":             {"ports: [http]", "ports[0]"},
		"port 0":           {"ports: [0]", "ports[0]"},
		"port, backwards":  {"ports: [90-80]", "ports[0]"},
		"port too high":    {"ports: [65536]", "ports[0]"},
		"port's address":   {"ports: [\"lo:80\"]", "ports[0]"},
		"port's protocol":  {"ports: [80/sctp]", "ports[0]"},
		"fraction":         {"ports: [80.5]", "ports[0]"},
		"registry":         {"registries: [\"https://a.example\"]", "registries[0]"},
		"registry pattern": {"registries: [\"a.example/x*\"]", "registries[0]"},
		"window":           {"window: {allow: [{start: \"25:00\", duration: 1h, rrule: FREQ=DAILY}]}", "window.allow[0].start"},
		"window's zone":    {"window: {timeZone: Mars}", "window.timeZone"},
		"holidays twice":   {"window: {holidays: [\"2026-12-24\", \"2026-12-24\"]}", "window.holidays"},
		"no environments":  {"secondSignature: {keys: [a]}", "secondSignature.environments"},
		"no keys":          {"secondSignature: {environments: [production]}", "secondSignature.keys: none"},
		"not a key":        {"secondSignature: {environments: [production], keys: [abc]}", "secondSignature.keys[0]"},
		"large":            {"#" + strings.Repeat("x", MaxFile), "bytes, at most"},
		"much":             {"devices: [" + strings.Repeat("\""+strings.Repeat("d", 500)+"\",", 40) + "]", "bytes without comments"},
		"many":             {"devices: [" + strings.Repeat("a,", 257) + "]", "devices: 257 entries"},
		"bomb":             {bomb(), ""},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, err := Parse([]byte(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v does not say %q", err, c.want)
			}
			if len(err.Error()) > 4000 || time.Since(start) > 5*time.Second {
				t.Errorf("%d bytes after %s", len(err.Error()), time.Since(start))
			}
		})
	}
}

func bomb() string {
	text := "a0: &a0 [" + strings.Repeat("x,", 50) + "]\n"
	for _, i := range []string{"1", "2", "3", "4", "5", "6", "7"} {
		before := string(rune(i[0] - 1))
		text += "a" + i + ": &a" + i + " [" + strings.Repeat("*a"+before+",", 50) + "]\n"
	}
	return text
}

func TestOpen(t *testing.T) {
	p := parse(t, `window: {timeZone: UTC, allow: [{rrule: "FREQ=WEEKLY;BYDAY=MO", start: "20:00", duration: 2h, reason: evenings}]}`)
	monday := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		at, until time.Duration
		open      bool
	}{
		{19 * time.Hour, 20 * time.Hour, false}, {20 * time.Hour, 22 * time.Hour, true}, {22*time.Hour - time.Nanosecond, 22 * time.Hour, true}, {22 * time.Hour, (7*24 + 20) * time.Hour, false},
	} {
		open, until, reason := p.Open(monday.Add(c.at))
		if open != c.open || !until.Equal(monday.Add(c.until)) || reason == "" {
			t.Errorf("after %s: %v until %s (%s)", c.at, open, until, reason)
		}
	}
	if open, until, _ := Default().Open(monday); !open || !until.IsZero() {
		t.Error("without a window it is not always open")
	}
}

func write(t testing.TB, file, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, mode); err != nil {
		t.Fatal(err)
	}
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "host-policy.yaml")
	if p, found, err := Read(file); err != nil || found || p.Privileged {
		t.Fatalf("no file: %+v, %v, %v", p, found, err)
	}
	if _, found, err := Read(filepath.Join(dir, "no", "folder.yaml")); err != nil || found {
		t.Errorf("no folder: %v, %v", found, err)
	}
	refused := func(what, want string) {
		t.Helper()
		if _, _, err := Read(file); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), ErrUnusable.Error()) {
			t.Errorf("%s: %v", what, err)
		}
	}
	write(t, file, "privileged: true", 0o644)
	if p, found, err := Read(file); err != nil || !found || !p.Privileged {
		t.Errorf("%+v, %v, %v", p, found, err)
	}
	write(t, file, "privileged: true", 0o664)
	refused("group may write", "chmod go-w "+file)
	write(t, file, "privileged: true", 0o606)
	refused("others may write", "can be written by others")
	write(t, file, "privileged: [", 0o600)
	refused("broken", "not YAML")
	write(t, file, "privileged: true", 0o600)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	refused("the folder can be written", "chmod go-w "+dir)
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(file, 12345, 0); err != nil {
			t.Fatal(err)
		}
		refused("another's", "belongs to user 12345")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "gone"), file); err != nil {
		t.Fatal(err)
	}
	refused("a symlink to nothing", "leads nowhere")
	open := filepath.Join(dir, "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(open, "gone"), "privileged: true", 0o600)
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(file)
	if err := os.Symlink(filepath.Join(open, "gone"), file); err != nil {
		t.Fatal(err)
	}
	refused("a symlink into a folder of others", "chmod go-w "+open)
	_ = os.Remove(file)
	if err := os.Mkdir(file, 0o700); err != nil {
		t.Fatal(err)
	}
	refused("a folder", "not a regular file")
}

// The file counts as it is, at every look.
func TestStore(t *testing.T) {
	file := filepath.Join(t.TempDir(), "host-policy.yaml")
	store := NewStore(file)
	look := func(privileged, fails bool) int {
		t.Helper()
		p, version, err := store.Look()
		if p.Privileged != privileged || (err != nil) != fails {
			t.Fatalf("privileged %v, error %v", p.Privileged, err)
		}
		return version
	}
	first := look(false, false)
	if look(false, false) != first {
		t.Error("a new version although nothing changed")
	}
	write(t, file, "privileged: true", 0o600)
	second := look(true, false)
	write(t, file, "privileged: sure", 0o600) // of the same size
	third := look(false, true)
	if look(false, true) != third {
		t.Error("a new version although nothing changed")
	}
	write(t, file, "privileged: true", 0o600)
	fourth := look(true, false)
	if err := os.Chmod(file, 0o666); err != nil {
		t.Fatal(err)
	}
	fifth := look(false, true)
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	look(true, false)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	last := look(false, false)
	if !(first < second && second < third && third < fourth && fourth < fifth && fifth < last) {
		t.Error("versions do not grow", first, second, third, fourth, fifth, last)
	}
}
