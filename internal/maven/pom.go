// SPDX-License-Identifier: Apache-2.0

package maven

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Bounds of what is read of a POM.
const (
	// MaxPOM is the largest, in bytes. Spring Boot's list of versions, among the longest there are, has some 100 KB.
	MaxPOM      = 1 << 20
	maxDepth    = 64
	maxElements = 100_000
	maxValue    = 256 // bytes of a coordinate
)

// pomNamespaces are those of the model; Maven takes one without as well.
var pomNamespaces = []string{"", "http://maven.apache.org/POM/4.0.0"}

// modelVersion is the only one that builds of Maven 3 publish; Maven 4 publishes it for them.
const modelVersion = "4.0.0"

// POM is what a project descriptor says of itself.
type POM struct {
	Coordinates
	// Packaging, jar if it says none.
	Packaging string
}

// ParsePOM reads a POM. Group and version come from its parent where it has none of its own, as Maven inherits them.
func ParsePOM(text []byte) (POM, error) {
	if len(text) > MaxPOM {
		return POM{}, fmt.Errorf("the POM is larger than %d bytes", MaxPOM)
	}
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	if !utf8.Valid(text) {
		return POM{}, errors.New("the POM is not UTF-8")
	}
	r := pomReader{d: xml.NewDecoder(bytes.NewReader(text)), values: map[string]string{}}
	r.d.Entity, r.d.CharsetReader = map[string]string{}, func(name string, _ io.Reader) (io.Reader, error) {
		return nil, fmt.Errorf("the encoding %.40q is not read: UTF-8 is", name)
	}
	if err := r.read(); err != nil {
		return POM{}, fmt.Errorf("the POM cannot be read: %w", err)
	}
	return r.pom()
}

// pomReader collects the few values that matter, by the path of their element below the root.
type pomReader struct {
	d        *xml.Decoder
	path     []string
	space    string // of the root
	elements int
	ended    bool
	values   map[string]string
	text     strings.Builder
}

// wanted are the elements whose text is kept.
var wanted = map[string]bool{
	"modelVersion": true, "groupId": true, "artifactId": true, "version": true, "packaging": true,
	"parent": false, "parent/groupId": true, "parent/artifactId": true, "parent/version": true,
}

func (r *pomReader) read() error {
	for {
		token, err := r.d.Token()
		switch {
		case errors.Is(err, io.EOF) && r.ended:
			return nil
		case errors.Is(err, io.EOF):
			return errors.New("it ends before it is complete")
		case err != nil:
			return err
		}
		switch t := token.(type) {
		case xml.Directive:
			return errors.New("a document type is not allowed")
		case xml.ProcInst:
			if t.Target != "xml" {
				return errors.New("a processing instruction is not allowed")
			}
		case xml.StartElement:
			err = r.start(t.Name)
		case xml.EndElement:
			err = r.end()
		case xml.CharData:
			err = r.chars(t)
		}
		if err != nil {
			return err
		}
	}
}

// name is the path of the element that is open, below the root.
func (r *pomReader) name() string { return strings.Join(r.path[1:], "/") }

func (r *pomReader) start(name xml.Name) error {
	if r.elements++; r.elements > maxElements || len(r.path) >= maxDepth {
		return errors.New("it has too many elements, or too deep ones")
	}
	if len(r.path) == 0 {
		if r.ended || name.Local != "project" || name.Space != pomNamespaces[0] && name.Space != pomNamespaces[1] {
			return fmt.Errorf("its root is <%.40s>, not one <project> of the model %s", name.Local, modelVersion)
		}
		r.space = name.Space
	}
	if len(r.path) > 0 && name.Space != r.space { // nothing of the model
		name.Local = name.Space + " " + name.Local
	}
	r.path = append(r.path, name.Local)
	if _, known := wanted[r.name()]; known {
		if _, twice := r.values[r.name()]; twice {
			return fmt.Errorf("it has <%s> twice", r.name())
		}
		r.values[r.name()] = ""
		r.text.Reset()
	} else if len(r.path) > 2 && wanted[strings.Join(r.path[1:len(r.path)-1], "/")] {
		return fmt.Errorf("<%s> has an element in it", strings.Join(r.path[1:len(r.path)-1], "/"))
	}
	return nil
}

func (r *pomReader) end() error {
	if wanted[r.name()] {
		r.values[r.name()] = strings.TrimSpace(r.text.String())
	}
	r.path = r.path[:len(r.path)-1]
	r.ended = len(r.path) == 0
	return nil
}

func (r *pomReader) chars(text []byte) error {
	if len(r.path) == 0 {
		if len(bytes.TrimSpace(text)) > 0 {
			return errors.New("there is text outside of <project>")
		}
		return nil
	}
	if wanted[r.name()] {
		if r.text.Len()+len(text) > maxValue {
			return fmt.Errorf("<%s> is too long", r.name())
		}
		r.text.Write(text)
	}
	return nil
}

// pom makes coordinates of what was read.
func (r *pomReader) pom() (POM, error) {
	v := r.values
	if v["modelVersion"] != modelVersion {
		return POM{}, fmt.Errorf("the POM is of model %.40q, not %s", v["modelVersion"], modelVersion)
	}
	inherited := func(name string) string {
		if v[name] != "" {
			return v[name]
		}
		return v["parent/"+name]
	}
	p := POM{Coordinates{inherited("groupId"), v["artifactId"], inherited("version")}, v["packaging"]}
	if p.Packaging == "" {
		p.Packaging = "jar"
	}
	for _, value := range []string{p.Group, p.Artifact, p.Version, p.Packaging} {
		if strings.Contains(value, "${") {
			return POM{}, fmt.Errorf("the POM says %.100q: publish one in which such properties are resolved (flatten-maven-plugin)", value)
		}
	}
	if _, err := Parse(p.String()); err != nil {
		return POM{}, fmt.Errorf("the POM's coordinates: %w", err)
	}
	return p, nil
}

// Extension is that of the artifact's file; "" for a packaging without one (pom). It is an error where the packaging is not
// known: what the artifact is cannot be said.
func (p POM) Extension() (string, error) {
	switch p.Packaging {
	case "pom":
		return "", nil
	case "jar", "bundle", "maven-plugin", "ejb":
		return "jar", nil
	case "war", "ear", "rar", "aar":
		return p.Packaging, nil
	}
	return "", fmt.Errorf("the packaging %.40q is not known: jar, pom, war, ear, rar, aar, ejb, bundle and maven-plugin are", p.Packaging)
}
