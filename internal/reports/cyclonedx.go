// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// bom collects a bill of materials of CycloneDX 1.2 to 1.7 (https://cyclonedx.org/docs/1.6/json/, ECMA-424), in JSON or XML.
//
// Components are counted, those inside others too. One that lists vulnerabilities is a scan: of each the worst of its ratings
// counts; one whose analysis says that it is not exploitable, a false positive or resolved does not. An empty list of them is what
// Trivy writes that did not look for any (integration/testdata/conda-cyclonedx.json.golden at aquasecurity/trivy 0620fda2): a scan
// only if the sender says so. The component that metadata describes is what the bill is about: the digest in its purl or, for a
// container, its version and hashes.
type bom struct {
	spec       string
	components int64
	tools      []string
	subject    subject
	maven      mavenList
}

// subject is the component that a bill of materials is about.
type subject struct {
	kind    string
	digests Report
}

var bomVersions = []string{"1.2", "1.3", "1.4", "1.5", "1.6", "1.7"}

var bomSeverities = map[string]severity{
	"critical": critical, "high": high, "medium": medium, "low": low, "info": none, "none": none, "unknown": unknown,
}

// dismissed are the states of an analysis by which a vulnerability is none (impactAnalysisState).
var dismissed = []string{"resolved", "resolved_with_pedigree", "false_positive", "not_affected"}

// container is the type of a component that is an image, so that its version or a hash may be its digest.
const container = "container"

// digestProperties are the properties in which Trivy gives the digests of an image.
var digestProperties = []string{"aquasecurity:trivy:RepoDigest"}

// rated is a vulnerability of CycloneDX.
type rated struct {
	worst   severity
	ratings int
	state   string
	err     error // a rating that is not the format's
}

// rate takes a rating: a severity by name, or a score where it has none or one that nobody knows.
func (r *rated) rate(name string, score float64, scored bool) {
	var s severity
	var err error
	switch {
	case scored && (name == "" || name == "unknown"):
		s, err = ofScore(score)
	case name != "":
		s, err = named(bomSeverities, name)
	default:
		s = unknown
	}
	r.err = first(r.err, err)
	r.ratings++
	if r.ratings == 1 || worse(s, r.worst) {
		r.worst = s
	}
}

// worse compares ratings of one vulnerability: one that is known says more than one that is not.
func worse(a, b severity) bool {
	rank := func(s severity) severity {
		if s == unknown {
			return -1
		}
		return s
	}
	return rank(a) > rank(b)
}

// count adds a vulnerability to f; one without ratings is of unknown severity.
func (r *rated) count(f *findings) error {
	switch {
	case slices.Contains(dismissed, r.state):
		f.suppressed++
	case r.ratings == 0:
		f.add(unknown, 1)
	default:
		f.add(r.worst, 1)
	}
	return r.err
}

// rating reads one of the ratings.
func (r *rated) rating(j *jsonReader) error {
	var name, method string
	var score float64
	scored := false
	_, err := j.object("a rating", func(member string) (err error) {
		switch member {
		case "severity":
			name, err = j.text(member)
		case "method":
			method, err = j.text(member)
		case "score":
			scored = true
			score, err = j.number(member)
		default:
			err = j.skip()
		}
		return err
	})
	r.rate(name, score, scored && isCVSS(method))
	return err
}

// isCVSS says whether a method's scores are from 0 to 10; one that is not named is.
func isCVSS(method string) bool { return method == "" || strings.HasPrefix(method, "CVSS") }

func (b *bom) metadata(j *jsonReader) func(string) error {
	return func(name string) (err error) {
		switch name {
		case "tools":
			err = b.readTools(j)
		case "component":
			var s subject
			err = b.component(j, &s)
			b.subject = s
		default:
			err = j.skip()
		}
		return err
	}
}

// readTools reads metadata.tools: a list until 1.4, an object with components since 1.5.
func (b *bom) readTools(j *jsonReader) error {
	tool := func() error {
		var t [2]string
		_, err := j.object("a tool", program(j, &t))
		b.addTool(t)
		return err
	}
	if j.dec.PeekKind() == '[' {
		_, err := j.list("metadata.tools", tool)
		return err
	}
	_, err := j.object("metadata.tools", func(name string) error {
		if name != "components" {
			return j.skip()
		}
		_, err := j.list("metadata.tools.components", tool)
		return err
	})
	return err
}

func (b *bom) addTool(t [2]string) {
	if text := produced(t[0], t[1]); text != "" && len(b.tools) < maxReferences {
		b.tools = append(b.tools, text)
	}
}

// component counts a component and those in it. about, if not nil, is the subject, which is not counted.
func (b *bom) component(j *jsonReader, about *subject) error {
	listed := about == nil
	if listed {
		b.components++
		about = &subject{}
	}
	var group, module, version, purl string
	var hashes, properties []string
	_, err := j.object("a component", func(name string) (err error) {
		switch name {
		case "type":
			about.kind, err = j.text("the type of a component")
		case "group":
			group, err = j.anyText()
		case "name":
			module, err = j.anyText()
		case "version":
			version, err = j.anyText()
		case "purl":
			purl, err = j.anyText()
		case "hashes":
			err = pairs(j, "alg", "content", func(alg, content string) {
				if alg == "SHA-256" && len(hashes) < maxReferences {
					hashes = append(hashes, "sha256:"+content)
				}
			})
		case "properties":
			err = pairs(j, "name", "value", func(name, value string) {
				if slices.Contains(digestProperties, name) && len(properties) < maxReferences {
					properties = append(properties, value)
				}
			})
		case "components":
			_, err = j.list(name, func() error { return b.component(j, nil) })
		default:
			err = j.skip()
		}
		return err
	})
	about.describe(version, purl, hashes, properties)
	if listed {
		b.maven.component(group, module, version, purl, hashes)
	}
	return err
}

// describe keeps the digests of a subject.
func (s *subject) describe(version, purl string, hashes, properties []string) {
	if s.kind != container {
		return
	}
	for _, reference := range append([]string{purl, version}, append(properties, hashes...)...) {
		s.digests.addDigest(reference)
	}
}

// pairs reads a list of objects with two texts.
func pairs(j *jsonReader, first, second string, f func(a, b string)) error {
	_, err := j.list("a list of "+first, func() error {
		var a, b string
		_, err := j.object("one of a list of "+first, func(name string) (err error) {
			switch name {
			case first:
				a, err = j.anyText()
			case second:
				b, err = j.anyText()
			default:
				err = j.skip()
			}
			return err
		})
		f(a, b)
		return err
	})
	return err
}

func (d *document) finishBOM(o Options) (Report, error) {
	if d.bomFormat != "CycloneDX" {
		return Report{Format: CycloneDX}, refuse("bomFormat is %q, not CycloneDX", quoted(d.bomFormat))
	}
	if d.vulns.notBOM != nil {
		return Report{Format: CycloneDX}, d.vulns.notBOM
	}
	return d.bom.finish(CycloneDX, d.vulns.present, &d.vulns.bom, o)
}

// finish judges what both forms collect.
func (b *bom) finish(format Format, listed bool, f *findings, o Options) (Report, error) {
	scanned := listed && (f.total() > 0 || o.Type == v1alpha1.TypeScan)
	rep := Report{Format: format, Type: v1alpha1.TypeSBOM, Status: v1alpha1.StatusPassed, Digests: b.subject.digests.Digests}
	rep.Producer = clean(strings.Join(b.tools, ", "))
	switch {
	case !slices.Contains(bomVersions, b.spec):
		return rep, refuse("version %q: send %s to %s", quoted(b.spec), bomVersions[0], bomVersions[len(bomVersions)-1])
	case b.components == 0 && f.total() == 0:
		return rep, refuse("no component: a bill of nothing proves nothing")
	case b.components > maxCount:
		return rep, refuse(tooMany, maxCount)
	}
	rep.Components, rep.Maven = int32(b.components), b.maven.list()
	if !scanned {
		return rep, nil
	}
	rep.Type = v1alpha1.TypeScan
	err := f.into(&rep)
	return rep, err
}

// total is the number of findings, suppressed ones and remarks too.
func (f *findings) total() (n int64) {
	for _, m := range f.by {
		n += m
	}
	return n + f.suppressed
}

// bomXML reads CycloneDX's XML (http://cyclonedx.org/schema/bom/1.6), whose text is in elements.
type bomXML struct {
	s       *xmlScanner
	b       bom
	scanned bool
	found   findings
	vuln    rated
	// What the element that is open has so far.
	tool            [2]string
	name, method    string
	score           string
	version, purl   string
	alg, property   string
	hashes, digests []string
	// listed are the components that are open, those around others first. The ancestors that a component's pedigree names are
	// among them, so that their names do not replace its own, and are not listed.
	listed []listedComponent
}

// listedComponent is what is wanted of a component that a bill of materials lists.
type listedComponent struct {
	group, module, version, purl string
	hashes                       []string
}

const bomNamespace = "http://cyclonedx.org/schema/bom/"

// kept are the elements whose text is wanted, by the element around them.
var kept = map[string][]string{
	"name": {"tool", "component"}, "version": {"tool", "component"}, "purl": {"component"}, "hash": {"hashes"}, "group": {"component"},
	"property": {"properties"}, "severity": {"rating"}, "score": {"rating"}, "method": {"rating"}, "state": {"analysis"},
}

func readCycloneDXXML(s *xmlScanner, o Options) (Report, error) {
	x := &bomXML{s: s}
	var ok bool
	if x.b.spec, ok = strings.CutPrefix(s.namespace, bomNamespace); !ok {
		return Report{Format: CycloneDXXML}, refuse("the namespace of <bom> is %q, not %s1.6", quoted(s.namespace), bomNamespace)
	}
	for {
		ev, err := s.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = x.event(ev)
		}
		if err != nil {
			return Report{Format: CycloneDXXML}, err
		}
	}
	return x.b.finish(CycloneDXXML, x.scanned, &x.found, o)
}

// event follows the document.
func (x *bomXML) event(ev event) error {
	s := x.s
	name := s.name()
	if wanted := slices.Contains(kept[name], s.parent()); wanted && ev == startElement {
		s.keepText()
		switch name {
		case "hash":
			x.alg, _ = s.attr("alg")
		case "property":
			x.property, _ = s.attr("name")
		}
		return nil
	} else if wanted && s.keep {
		x.text(name, s.takeText())
		return nil
	}
	if ev == startElement {
		return x.start(name)
	}
	return x.finishElement(name)
}

// inSubject says whether the element is metadata's component or inside it, but not of a component in it.
func (x *bomXML) inSubject() bool {
	return slices.Index(x.s.stack, "metadata") == 1 && slices.Index(x.s.stack, "component") == 2 &&
		slices.Index(x.s.stack[3:], "component") < 0
}

func (x *bomXML) start(name string) error {
	switch s := x.s; {
	case name == "tool", name == "component" && slices.Contains(s.stack, "tools"):
		x.tool = [2]string{}
	case name == "component" && x.inSubject():
		x.b.subject.kind, _ = s.attr("type")
	case name == "component":
		if s.parent() == "components" {
			x.b.components++
		}
		x.listed = append(x.listed, listedComponent{})
	case name == "vulnerabilities" && s.depth() == 2:
		x.scanned = true
	case name == "vulnerability":
		x.vuln = rated{}
	case name == "rating":
		x.name, x.method, x.score = "", "", ""
	}
	return nil
}

// text takes the text of an element that ended.
func (x *bomXML) text(element, text string) {
	tools := slices.Contains(x.s.stack, "tools")
	switch {
	case tools && element == "name":
		x.tool[0] = text
	case tools && element == "version":
		x.tool[1] = text
	case element == "severity":
		x.name = text
	case element == "score":
		x.score = text
	case element == "method":
		x.method = text
	case element == "state":
		x.vuln.state = text
	case !x.inSubject():
		x.listedText(element, text)
	case element == "version":
		x.version = text
	case element == "purl":
		x.purl = text
	case element == "hash" && x.alg == "SHA-256" && len(x.hashes) < maxReferences:
		x.hashes = append(x.hashes, "sha256:"+text)
	case element == "property" && slices.Contains(digestProperties, x.property) && len(x.digests) < maxReferences:
		x.digests = append(x.digests, text)
	}
}

// listedText takes the text of an element of a component that is listed: of the component itself, not of what it refers to nor of
// the ones that it was made from (pedigree).
func (x *bomXML) listedText(element, text string) {
	own := []string{"components", "component", element}
	if element == "hash" {
		own = []string{"components", "component", "hashes", element}
	}
	if depth := len(x.s.stack) - len(own); len(x.listed) == 0 || depth < 0 || !slices.Equal(x.s.stack[depth:], own) {
		return
	}
	switch c := &x.listed[len(x.listed)-1]; element {
	case "group":
		c.group = text
	case "name":
		c.module = text
	case "version":
		c.version = text
	case "purl":
		c.purl = text
	case "hash":
		if x.alg == "SHA-256" && len(c.hashes) < maxReferences {
			c.hashes = append(c.hashes, "sha256:"+text)
		}
	}
}

func (x *bomXML) finishElement(name string) error {
	switch {
	case name == "tool", name == "component" && slices.Contains(x.s.stack, "tools"):
		x.b.addTool(x.tool)
	case name == "component" && x.inSubject():
		x.b.subject.describe(x.version, x.purl, x.hashes, x.digests)
	case name == "component" && len(x.listed) > 0:
		c := x.listed[len(x.listed)-1]
		x.listed = x.listed[:len(x.listed)-1]
		if x.s.parent() == "components" {
			x.b.maven.component(c.group, c.module, c.version, c.purl, c.hashes)
		}
	case name == "rating":
		score, err := strconv.ParseFloat(x.score, 64)
		if x.score != "" && err != nil {
			return refuse("a score is %q, not a number", quoted(x.score))
		}
		x.vuln.rate(x.name, score, x.score != "" && isCVSS(x.method))
	case name == "vulnerability" && x.s.parent() == "vulnerabilities":
		return x.vuln.count(&x.found)
	}
	return nil
}
