// SPDX-License-Identifier: Apache-2.0

package maven

import (
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestParse(t *testing.T) {
	for text, ok := range map[string]bool{
		"com.dynors:core:2.1.0": true, "com.dynors:core_2.13:2.1.0-rc.1": true, "g:a:1.0+build.7": true, "com.dynors:core:2.1.0-SNAPSHOT": true,
		"": false, "com.dynors:core": false, "com.dynors:core:jar:2.1.0": false, "com..dynors:core:1": false, ".com:core:1": false,
		"com.dynors.:core:1": false, "com/dynors:core:1": false, "com.dynors:..:1": false, "com.dynors:core:..": false, "com.dynors:.core:1": false,
		"com.dynors:core:1..2": false, "com.dynors:core:1/2": false, "com.dynors:core:[1,2)": false, "com.dynors:core:${revision}": false,
		"com.dynors:core:1 ": false, "com.dynors:core:1%2e": false, "com.dynörs:core:1": false, "com.dynors:core:1\x00": false,
		"g:a:" + strings.Repeat("1", 300): false,
	} {
		c, err := Parse(text)
		if (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
		if ok && c.String() != text {
			t.Errorf("%q became %q", text, c)
		}
	}
}

func TestLayout(t *testing.T) {
	c := Coordinates{"com.dynors.modules", "core", "2.1.0"}
	if got, want := c.Path("jar.sha256"), "com/dynors/modules/core/2.1.0/core-2.1.0.jar.sha256"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	rapid.Check(t, func(t *rapid.T) { // whatever is taken for coordinates, its path leads nowhere else
		c, err := Parse(rapid.StringMatching(`[a-z./\-]{1,6}:[a-z./\-]{1,6}:[0-9a-z./+\-]{1,6}`).Draw(t, "coordinates"))
		if err != nil {
			return
		}
		for _, part := range strings.Split(c.Path("pom"), "/") {
			if part == "" || part == "." || part == ".." {
				t.Errorf("%s has the path %s", c, c.Path("pom"))
			}
		}
	})
}

func TestVersions(t *testing.T) {
	for version, want := range map[string]struct{ snapshot, semantic bool }{
		"2.1.0": {false, true}, "0.0.1": {false, true}, "2.1.0-rc.1": {false, true}, "2.1.0+build.7": {false, true},
		"2.1.0-SNAPSHOT": {true, true}, "2.1.0-snapshot": {true, true}, "2.1-20260102.030405-7": {true, false}, "2.1.0-20260102.030405-7": {true, true},
		"LATEST": {true, false}, "release": {true, false}, "SNAPSHOT": {true, false},
		"2.1": {false, false}, "2.1.0.RELEASE": {false, false}, "v2.1.0": {false, false}, "02.1.0": {false, false}, "2.1.0-": {false, false},
	} {
		if got := IsSnapshot(version); got != want.snapshot {
			t.Errorf("IsSnapshot(%q) = %v", version, got)
		}
		if got := IsSemantic(version); got != want.semantic {
			t.Errorf("IsSemantic(%q) = %v", version, got)
		}
		c := Coordinates{"g", "a", version}
		if got := c.Problem() == ""; got != (want.semantic && !want.snapshot) {
			t.Errorf("%q: %q", version, c.Problem())
		}
	}
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		pattern, group string
		want           bool
	}{
		{"com.dynors.*", "com.dynors", true}, {"com.dynors.*", "com.dynors.modules.pdf", true}, {"com.dynors.*", "com.dynorsevil", false},
		{"com.dynors.*", "com", false}, {"com.dynors", "com.dynors", true}, {"com.dynors", "com.dynors.modules", false},
		{"com.dynors.*", "org.com.dynors", false},
	} {
		if got := Matches(c.pattern, c.group); got != c.want {
			t.Errorf("Matches(%q, %q) = %v", c.pattern, c.group, got)
		}
	}
}

func TestPURL(t *testing.T) {
	core := Coordinates{"com.dynors", "core", "2.1.0"}
	unread := Coordinates{"com.dynors", "core", Unread}
	for _, c := range []struct {
		text string
		want Coordinates
		ok   bool
	}{
		{"pkg:maven/com.dynors/core@2.1.0", core, true},
		{"pkg:maven/com.dynors/core@2.1.0?type=jar#x/y", core, true},
		{"pkg:maven/com.dynors/core@2.1.0#x/y", core, true},
		{"PKG:Maven/com%2Edynors/core@2.1.0?classifier=sources", core, true},
		{"pkg://maven/com.dynors/core@2.1.0", core, true},
		{"pkg:maven/com.dynors/core@2.1.0%2Bbuild", Coordinates{"com.dynors", "core", "2.1.0+build"}, true},
		{"pkg:maven/com.dynors/core", unread, true},
		{"pkg:maven/com.dynors/core@%2", unread, true},
		{"pkg:maven/com.dynors/core@1%2F2", unread, true},
		{"pkg:maven/com.dynors/core@$%7Bproject.version%7D", unread, true},
		{"pkg:maven//com.dynors//core/@2.1.0", core, true},
		{" pkg:maven/com.dynors/core@2.1.0 ", core, true},
		{"pkg:maven/com.dynors/core@2.1.0@9", unread, true},
		{"pkg:mavenish/com.dynors/core@2.1.0", Coordinates{}, false},
		{"pkg:npm/core@2.1.0", Coordinates{}, false},
		{"https://example.com", Coordinates{}, false},
		{"git:maven/com.dynors/core@2.1.0", Coordinates{}, false},
		{"pkg", Coordinates{}, false},
		{"", Coordinates{}, false},
		{"pkg:maven/core@2.1.0", Coordinates{}, false},
		{"pkg:maven/com.dynors%20/core@2.1.0", Coordinates{}, false},
	} {
		got, ok := ParsePURL(c.text)
		if ok != c.ok || ok && got != c.want {
			t.Errorf("%q: %s, %v", c.text, got, ok)
		}
	}
	if _, err := Parse(unread.String()); err == nil || unread.Problem() == "" {
		t.Error("a version that cannot be read is one that can be released")
	}
}

const head = `<?xml version="1.0" encoding="UTF-8"?>` + "\n"

func project(body string) string {
	return head + `<project xmlns="http://maven.apache.org/POM/4.0.0" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><modelVersion>4.0.0</modelVersion>` + body + `</project>`
}

func TestParsePOM(t *testing.T) {
	core := Coordinates{"com.dynors", "core", "2.1.0"}
	for name, c := range map[string]struct {
		text string
		want POM
	}{
		"plain":        {project(`<groupId>com.dynors</groupId><artifactId>core</artifactId><version>2.1.0</version>`), POM{core, "jar"}},
		"no namespace": {`<project><modelVersion>4.0.0</modelVersion><groupId>com.dynors</groupId><artifactId>core</artifactId><version>2.1.0</version></project>`, POM{core, "jar"}},
		"inherited": {project(`<parent><groupId>com.dynors</groupId><artifactId>parent</artifactId><version>2.1.0</version><relativePath/></parent><artifactId> core
			</artifactId><packaging>pom</packaging>`), POM{core, "pom"}},
		"own version": {project(`<parent><groupId>com.dynors</groupId><artifactId>parent</artifactId><version>7</version></parent><artifactId>core</artifactId><version>2.1.0</version>`), POM{core, "jar"}},
		"others' coordinates": {project(`<dependencies><dependency><groupId>x</groupId><artifactId>y</artifactId><version>${z}</version></dependency></dependencies>
			<groupId>com.dynors</groupId><!-- ours --><artifactId>co<!-- - -->re</artifactId><version>2.1.0</version>`), POM{core, "jar"}},
		"a long story":    {project(`<description>` + strings.Repeat("long ", 1000) + `</description><groupId>com.dynors</groupId><artifactId>core</artifactId><version>2.1.0</version>`), POM{core, "jar"}},
		"byte order mark": {"\xef\xbb\xbf" + project(`<groupId>com.dynors</groupId><artifactId>core</artifactId><version>2.1.0</version>`), POM{core, "jar"}},
	} {
		got, err := ParsePOM([]byte(c.text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// What the packaging says is what is looked for in the registry, and verified.
func TestExtension(t *testing.T) {
	for packaging, want := range map[string]string{
		"pom": "", "jar": "jar", "bundle": "jar", "maven-plugin": "jar", "ejb": "jar", "war": "war", "ear": "ear", "rar": "rar", "aar": "aar",
	} {
		if got, err := (POM{Packaging: packaging}).Extension(); err != nil || got != want {
			t.Errorf("%s: %q, %v", packaging, got, err)
		}
	}
	for _, packaging := range []string{"", "zip", "JAR", "hpi", "../jar"} {
		if got, err := (POM{Packaging: packaging}).Extension(); err == nil {
			t.Errorf("%s: %q", packaging, got)
		}
	}
}

func utf16le(text string) string {
	out := []byte{0xff, 0xfe}
	for _, unit := range utf16.Encode([]rune(text)) {
		out = append(out, byte(unit), byte(unit>>8))
	}
	return string(out)
}

// TestHostilePOMs: none is read, and nothing is fetched for one.
func TestHostilePOMs(t *testing.T) {
	coordinates := `<groupId>com.dynors</groupId><artifactId>core</artifactId><version>2.1.0</version>`
	bomb := `<?xml version="1.0"?><!DOCTYPE project [<!ENTITY a "aaaaaaaaaa">`
	for i := 'b'; i < 'l'; i++ {
		bomb += "<!ENTITY " + string(i) + ` "` + strings.Repeat("&"+string(i-1)+";", 10) + `">`
	}
	for name, c := range map[string]struct{ text, says string }{
		"entity bomb":           {bomb + `]><project><groupId>&k;</groupId></project>`, "a document type is not allowed"},
		"external entity":       {`<!DOCTYPE project [<!ENTITY x SYSTEM "file:///etc/passwd">]>` + project(coordinates)[len(head):], "a document type is not allowed"},
		"parameter entity":      {`<!DOCTYPE project [<!ENTITY % x SYSTEM "http://169.254.169.254/"> %x;]><project/>`, "a document type is not allowed"},
		"unknown entity":        {project(`<groupId>&nbsp;</groupId>`), "invalid character entity"},
		"stylesheet":            {`<?xml-stylesheet href="http://169.254.169.254/"?>` + project(coordinates)[len(head):], "processing instruction"},
		"latin-1":               {strings.Replace(project(coordinates), "UTF-8", "ISO-8859-1", 1), `encoding "ISO-8859-1" is not read`},
		"utf-16":                {utf16le(project(coordinates)), "not UTF-8"},
		"utf-7":                 {strings.Replace(project(coordinates), "UTF-8", "UTF-7", 1), "is not read"},
		"not utf-8":             {project("<!-- \xff -->" + coordinates), "not UTF-8"},
		"huge":                  {project(strings.Repeat(" ", MaxPOM)), "larger than"},
		"deep":                  {project(strings.Repeat("<a>", 100_000)), "too deep"},
		"many elements":         {project(strings.Repeat("<a/>", maxElements+1)), "too many elements"},
		"a value without end":   {project("<groupId>" + strings.Repeat("a", 100_000) + "</groupId>"), "too long"},
		"cut off":               {strings.TrimSuffix(project(coordinates), "</project>"), "cannot be read"},
		"empty":                 {"", "ends before"},
		"two roots":             {project(coordinates) + project(coordinates)[len(head):], "not one <project>"},
		"text after the root":   {project(coordinates) + "x", "text outside"},
		"a page":                {"<html><body>sign in</body></html>", "its root is <html>"},
		"another namespace":     {`<project xmlns="http://evil.example/"><modelVersion>4.0.0</modelVersion>` + coordinates + `</project>`, "its root is <project>"},
		"coordinates elsewhere": {project(`<x:groupId xmlns:x="http://evil.example/">com.dynors</x:groupId><artifactId>core</artifactId><version>2.1.0</version>`), "not the name of a group"},
		"a group twice":         {project(coordinates + `<groupId>com.evil</groupId>`), "<groupId> twice"},
		"a version twice":       {project(coordinates + `<version>9</version>`), "<version> twice"},
		"a parent twice":        {project(`<parent/>` + coordinates + `<parent/>`), "<parent> twice"},
		"an element in a value": {project(`<groupId>com.dynors<b>.evil</b></groupId>`), "has an element in it"},
		"a property":            {project(`<groupId>com.dynors</groupId><artifactId>core</artifactId><version>${revision}</version>`), "flatten"},
		"no artifact":           {project(`<parent><groupId>com.dynors</groupId><artifactId>parent</artifactId><version>1</version></parent>`), "not the name of an artifact"},
		"no version":            {project(`<groupId>com.dynors</groupId><artifactId>core</artifactId>`), "not a version"},
		"another model":         {strings.Replace(project(coordinates), "<modelVersion>4.0.0", "<modelVersion>5.0.0", 1), "of model"},
		"a path":                {project(`<groupId>../../x</groupId><artifactId>core</artifactId><version>1</version>`), "not the name of a group"},
	} {
		_, err := ParsePOM([]byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
		if err != nil && len(err.Error()) > 400 {
			t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
		}
	}
}

// FuzzParsePOM: whatever it is fed, what it takes has coordinates of which a path can be made.
func FuzzParsePOM(f *testing.F) {
	f.Add([]byte(project(`<groupId>com.dynors</groupId><artifactId>core</artifactId><version>2.1.0</version>`)))
	f.Add([]byte(project(`<parent><groupId>com.dynors</groupId><version>2</version></parent><artifactId>core</artifactId>`)))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := ParsePOM(text)
		if err != nil {
			return
		}
		if again, err := Parse(p.Coordinates.String()); err != nil || again != p.Coordinates {
			t.Errorf("%q has %s: %v", text, p.Coordinates, err)
		}
	})
}

// FuzzParsePURL: whatever a bill of materials names, what is taken are coordinates of which a path can be made, or of a version
// that no release has.
func FuzzParsePURL(f *testing.F) {
	for _, text := range []string{"pkg:maven/com.dynors/core@2.1.0?type=jar#x", "PKG://Maven/com%2Edynors//core/@1%2F2", "pkg:maven/com.dynors/core"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, ok := ParsePURL(text)
		if !ok {
			return
		}
		if PURLType(text) != "maven" {
			t.Errorf("%q is of type %q", text, PURLType(text))
		}
		if c.Version == Unread {
			c.Version = "0"
		}
		if again, err := Parse(c.String()); err != nil || again != c {
			t.Errorf("%q has %s: %v", text, c, err)
		}
	})
}
