// SPDX-License-Identifier: Apache-2.0

package egress_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"testing"
)

// connecting are the files of the server that make something which connects, with what keeps it from addresses that a project names.
var connecting = map[string]string{
	"internal/egress/egress.go":               "the guard itself",
	"internal/deploytoken/deploytoken.go":     "takes a transport: controllers/pullcredentials_issue.go makes it with the guard",
	"internal/gitlab/gitlab.go":               "New takes the guard",
	"internal/harbor/client.go":               "takes a transport: controllers/harbor.go and pullcredentials_issue.go make it with the guard",
	"internal/idtoken/keys.go":                "takes a transport: cmd/sirrat/egress.go makes it with the guard",
	"internal/maven/repository/repository.go": "NewPool takes the guard",
	"internal/notify/smtp.go":                 "the operator's mail server",
	"internal/notify/webhook.go":              "NewWebhooks makes the guard",
	"internal/registry/fetch.go":              "ForUser is for commands that people run, not for the server",
	"internal/registry/session.go":            "NewPool takes the guard; New, which takes none, is not for the server",
}

// connects are the names, by the package that they are of, with which a program connects to addresses of others.
var connects = map[string][]string{
	"net/http":   {"DefaultClient", "DefaultTransport", "Get", "Head", "Post", "PostForm", "Client{", "Transport{"},
	"net":        {"Dial", "DialTimeout", "DialTCP", "DialUDP", "Dialer{"},
	"crypto/tls": {"Dial", "DialWithDialer", "Dialer{"},
	"github.com/google/go-containerregistry/pkg/v1/remote": {"DefaultTransport"},
	"gitlab.com/dynors/sirrat/internal/registry":           {"New", "ForUser"},
}

// Nothing of the server connects anywhere but through the guard, or to an address that its operator gave.
func TestEveryClientIsGuarded(t *testing.T) {
	found := map[string]bool{}
	root := os.DirFS("../..")
	for _, dir := range []string{"api", "cmd/sirrat", "controllers", "internal"} {
		err := fs.WalkDir(root, dir, func(name string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && (strings.HasSuffix(name, "test") || d.Name() == "testdata" || name == "internal/cli"):
				return fs.SkipDir // tests, and the commands that people run
			case d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
				return nil
			}
			text, err := fs.ReadFile(root, name)
			if err != nil {
				return err
			}
			for _, what := range connectsWith(t, name, text) {
				found[name] = true
				if connecting[name] == "" {
					t.Errorf("%s uses %s: what a project names is connected to with egress.Transport only. If this is not, say why in the list of this test", name, what)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for name := range connecting {
		if !found[name] {
			t.Errorf("%s connects to nothing any more: take it off the list", name)
		}
	}
}

// connectsWith are the names in a file with which it connects.
func connectsWith(t *testing.T, name string, text []byte) (out []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	packages := map[string]string{} // by the name in the file
	for _, i := range file.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		local := path.Base(p)
		if i.Name != nil {
			local = i.Name.Name
		}
		packages[local] = p
	}
	look := func(n ast.Node, literal string) {
		s, ok := n.(*ast.SelectorExpr)
		if !ok {
			return
		}
		if x, ok := s.X.(*ast.Ident); ok {
			for _, c := range connects[packages[x.Name]] {
				if c == s.Sel.Name+literal {
					out = append(out, x.Name+"."+c)
				}
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if l, ok := n.(*ast.CompositeLit); ok {
			look(l.Type, "{")
		}
		look(n, "")
		return true
	})
	return out
}
