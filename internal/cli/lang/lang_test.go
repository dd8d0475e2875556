// SPDX-License-Identifier: Apache-2.0

package lang

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var idForm = regexp.MustCompile(`^[a-z]+(\.[A-Za-z-]+)+$`)

var verb = regexp.MustCompile(`%[-+# 0-9.]*[a-zA-Z]`)

func TestEveryTextIsInBothLanguages(t *testing.T) {
	seen := map[ID]bool{}
	for _, part := range catalogue {
		for id, text := range part {
			if seen[id] {
				t.Errorf("%s is in the catalogue twice", id)
			}
			seen[id] = true
			if text.en == "" || text.fr == "" {
				t.Errorf("%s lacks a language", id)
			}
			if en, fr := verb.FindAllString(text.en, -1), verb.FindAllString(text.fr, -1); !slices.Equal(en, fr) {
				t.Errorf("%s takes %q in English and %q in French", id, en, fr)
			}
		}
	}
}

// built are ids that the program puts together: by prefix the phases, verdicts, decisions, methods and statuses of the API, by suffix the
// help of a command.
var builtPrefixes = []string{"phase.", "verdict.", "decision.", "pv.decision.", "pv.method.", "report.status."}

var builtSuffixes = []string{".short", ".long", ".example"}

// TestIDs reads the program: every text it asks for exists, and every text is asked for.
func TestIDs(t *testing.T) {
	literals := map[string]bool{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") ||
			filepath.Base(filepath.Dir(path)) == "lang" {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if s, err := strconv.Unquote(lit.Value); err == nil {
					literals[s] = true
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	families := map[string]bool{}
	for _, part := range catalogue {
		for id := range part {
			family, _, _ := strings.Cut(string(id), ".")
			families[family] = true
		}
	}
	for s := range literals {
		if family, _, _ := strings.Cut(s, "."); families[family] && idForm.MatchString(s) && !Known(ID(s)) && !Known(ID(s+".short")) {
			t.Errorf("%s looks like an id and is not in the catalogue", s)
		}
	}
	for _, part := range catalogue {
		for id := range part {
			if !asked(string(id), literals) {
				t.Errorf("nothing asks for %s", id)
			}
		}
	}
}

func asked(id string, literals map[string]bool) bool {
	if literals[id] {
		return true
	}
	for _, prefix := range builtPrefixes {
		if strings.HasPrefix(id, prefix) {
			return true
		}
	}
	for _, suffix := range builtSuffixes {
		if base, ok := strings.CutSuffix(id, suffix); ok && literals[base] {
			return true
		}
	}
	return false
}

func TestFromLocale(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		want Language
		utf8 bool
	}{
		{map[string]string{}, English, true},
		{map[string]string{"LANG": "fr_FR.UTF-8"}, French, true},
		{map[string]string{"LANG": "fr_FR.UTF-8", "LC_ALL": "C"}, English, false},
		{map[string]string{"LANG": "en_US.UTF-8", "LC_MESSAGES": "fr_CA.utf8"}, French, true},
		{map[string]string{"LANG": "de_DE.ISO-8859-1"}, English, false},
		{map[string]string{"LC_ALL": "fr_FR.UTF-8", "LANG": "C"}, French, true},
	} {
		getenv := func(name string) string { return c.env[name] }
		if got := FromLocale(getenv); got != c.want {
			t.Errorf("%v: language %s, want %s", c.env, got, c.want)
		}
		if got := UTF8(getenv); got != c.utf8 {
			t.Errorf("%v: UTF-8 %t, want %t", c.env, got, c.utf8)
		}
	}
}

func TestDuration(t *testing.T) {
	for _, c := range []struct {
		d      time.Duration
		en, fr string
	}{
		{0, "0 s", "0 s"},
		{45 * time.Second, "45 s", "45 s"},
		{90 * time.Second, "1 min 30 s", "1 min 30 s"},
		{14*time.Minute + 10*time.Second, "14 min", "14 min"},
		{time.Hour, "1 h", "1 h"},
		{3*time.Hour + 5*time.Minute, "3 h 5 min", "3 h 5 min"},
		{52 * time.Hour, "2 d 4 h", "2 j 4 h"},
		{48 * time.Hour, "2 d", "2 j"},
		{400 * 24 * time.Hour, "400 d", "400 j"},
		{-time.Minute, "1 min", "1 min"},
	} {
		if got := English.Duration(c.d); got != c.en {
			t.Errorf("%s: %q, want %q", c.d, got, c.en)
		}
		if got := French.Duration(c.d); got != c.fr {
			t.Errorf("%s in French: %q, want %q", c.d, got, c.fr)
		}
	}
}
