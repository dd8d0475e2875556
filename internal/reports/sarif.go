// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"slices"
	"strconv"
	"strings"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// sarif collects SARIF 2.1.0 (https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/), runs beside each other.
//
// The severity of a result is the security-severity of its rule, a score above 0 up to 10 as GitHub reads it
// (https://docs.github.com/en/code-security/code-scanning/integrating-with-code-scanning/sarif-support-for-code-scanning), or
// else its level: error is high, warning medium, note low, none a remark. A score of 0 is no severity, there as here: Trivy gives it
// to what nobody has rated. A result of another kind than fail, one that is
// absent against a baseline, and one that was suppressed in the report itself are not counted.
//
// What was examined is named by the revision of a run's versionControlProvenance and, as Trivy writes it
// (aquasecurity/trivy: pkg/report/sarif.go), by the repoDigests among a run's properties.
type sarif struct {
	runs      int
	producers []string
	failed    bool // a tool says of itself that it did not run to its end
	about     Report
	findings  findings
}

const sarifVersion = "2.1.0"

// sarifResult is what tells results apart for counting. Rules may come after the results of a run, so results are counted by
// what their severity depends on.
type sarifResult struct {
	rule  string
	part  int64 // the component that has the rule: -1 the driver, otherwise the index of an extension
	index int64 // of the rule in it; -1 when not given
	level string
	own   severity // by a security-severity of the result itself; -1 for none
}

// maxRules bounds the rules, and the different results, of one run, and maxRuleBytes their ids together.
const (
	maxRules     = 100_000
	maxRuleBytes = 8 << 20
	// maxIDParts is how many parts of a hierarchical id (rule/part/part) are passed over for the rule that it begins with.
	maxIDParts = 8
)

// sarifRule is what a rule says of the severity of its results.
type sarifRule struct {
	level string
	own   severity // -1 for none
}

// sarifRun is one run while it is read.
type sarifRun struct {
	j       *jsonReader
	doc     *sarif
	tool    [2]string  // of the driver
	order   []string   // ids of the driver's rules
	orders  [][]string // of those of the extensions
	rules   map[string]sarifRule
	results map[sarifResult]int64
	ordered int  // rules, those with the same id too
	kept    int  // bytes of the ids in rules and results
	present bool // there are results, if none
}

// keep notes that an id is kept.
func (r *sarifRun) keep(id string) error {
	if r.kept += len(id); r.kept > maxRuleBytes {
		return refuse("the ids of rules and results take more than %d bytes", maxRuleBytes)
	}
	return nil
}

const unrated severity = -1

func (d *sarif) run(j *jsonReader) error {
	r := &sarifRun{j: j, doc: d, rules: map[string]sarifRule{}, results: map[sarifResult]int64{}}
	d.runs++
	_, err := j.object("a run", func(name string) (err error) {
		switch name {
		case "tool":
			_, err = j.object(name, r.toolMember)
		case "results":
			r.present, err = j.list(name, r.result)
		case "invocations":
			_, err = j.list(name, r.invocation)
		case "versionControlProvenance":
			_, err = j.list(name, r.provenance)
		case "properties":
			_, err = j.object("the properties of a run", r.image)
		default:
			err = j.skip()
		}
		return err
	})
	if err != nil {
		return err
	}
	if !r.present {
		return refuse("a run without results: the tool did not examine anything")
	}
	if len(d.producers) < maxReferences {
		d.producers = append(d.producers, produced(r.tool[0], r.tool[1]))
	}
	for result, n := range r.results {
		d.findings.add(r.severity(result), n)
	}
	return nil
}

func (r *sarifRun) toolMember(name string) error {
	var err error
	switch name {
	case "driver":
		_, err = r.j.object("tool.driver", func(name string) error { return r.component(name, &r.order) })
	case "extensions":
		_, err = r.j.list("tool.extensions", func() error {
			var order []string
			_, err := r.j.object("an extension", func(name string) error { return r.component(name, &order) })
			if r.orders = append(r.orders, order); len(r.orders) > maxRules {
				return refuse("more than %d extensions", maxRules)
			}
			return err
		})
	default:
		err = r.j.skip()
	}
	return err
}

// component reads a member of the driver or of an extension, whose rules are put into order. Versions: semanticVersion is preferred,
// since version is free text.
func (r *sarifRun) component(name string, order *[]string) (err error) {
	j, driver := r.j, order == &r.order
	switch {
	case name == "rules":
		_, err = j.list(name, func() error { return r.rule(order) })
	case name == "name" && driver:
		r.tool[0], err = j.anyText()
	case name == "semanticVersion" && driver:
		r.tool[1], err = j.anyText()
	case name == "version" && driver:
		version, verr := j.anyText()
		if r.tool[1] == "" {
			r.tool[1] = version
		}
		err = verr
	default:
		err = j.skip()
	}
	return err
}

func (r *sarifRun) rule(order *[]string) error {
	var id string
	rule := sarifRule{own: unrated}
	_, err := r.j.object("a rule", func(name string) (err error) {
		switch name {
		case "id":
			id, err = r.j.text("the id of a rule")
		case "defaultConfiguration":
			_, err = r.j.object(name, func(name string) (err error) {
				if name != "level" {
					return r.j.skip()
				}
				rule.level, err = r.level()
				return err
			})
		case "properties":
			rule.own, err = r.properties()
		default:
			err = r.j.skip()
		}
		return err
	})
	if err != nil {
		return err
	}
	if r.ordered++; r.ordered > maxRules {
		return refuse("more than %d rules", maxRules)
	}
	*order = append(*order, id)
	if old, seen := r.rules[id]; seen && old.severity() > rule.severity() { // ids need not be unique (3.49.3): the worst counts
		rule = old
	}
	r.rules[id] = rule
	return r.keep(id)
}

// properties reads a property bag for security-severity, a text or a number.
func (r *sarifRun) properties() (own severity, err error) {
	own = unrated
	_, err = r.j.object("properties", func(name string) error {
		if name != "security-severity" {
			return r.j.skip()
		}
		score, err := r.score()
		if err == nil {
			own, err = ofScore(score)
		}
		if own == none {
			own = unrated
		}
		return err
	})
	return own, err
}

func (r *sarifRun) score() (float64, error) {
	if r.j.dec.PeekKind() != '"' {
		return r.j.number("security-severity")
	}
	text, err := r.j.text("security-severity")
	if err != nil {
		return 0, err
	}
	score, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, refuse("security-severity is %q, not a number", quoted(text))
	}
	return score, nil
}

func (r *sarifRun) level() (string, error) {
	level, err := r.j.text("level")
	if err == nil && !slices.Contains([]string{"", "none", "note", "warning", "error"}, level) {
		err = refuse("the level %q is none of SARIF's", quoted(level))
	}
	return level, err
}

func (r *sarifRun) result() error {
	j := r.j
	result := sarifResult{part: -1, index: -1, own: unrated}
	kind, baseline, suppressed := "fail", "", false
	_, err := j.object("a result", func(name string) (err error) {
		switch name {
		case "ruleId":
			result.rule, err = j.text(name)
		case "ruleIndex":
			result.index, err = r.index(name)
		case "rule":
			_, err = j.object(name, func(name string) error { return r.reference(&result, name) })
		case "level":
			result.level, err = r.level()
		case "kind":
			kind, err = j.text(name)
		case "baselineState":
			baseline, err = j.text(name)
		case "suppressions":
			suppressed, err = r.suppressions()
		case "properties":
			result.own, err = r.properties()
		default:
			err = j.skip()
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case kind != "fail" && !slices.Contains([]string{"pass", "open", "informational", "notApplicable", "review"}, kind):
		return refuse("the kind %q is none of SARIF's", quoted(kind))
	case kind != "fail" && kind != "open" && kind != "review" || baseline == "absent":
		return nil
	case suppressed:
		r.doc.findings.suppressed++
		return nil
	}
	if r.results[result]++; r.results[result] > 1 {
		return nil
	}
	if len(r.results) > maxRules {
		return refuse("more than %d kinds of results", maxRules)
	}
	return r.keep(result.rule)
}

// reference reads a member of a result's rule (a reportingDescriptorReference), which says what ruleId and ruleIndex do, and for rules
// of extensions too.
func (r *sarifRun) reference(result *sarifResult, name string) (err error) {
	j := r.j
	switch name {
	case "id":
		result.rule, err = j.text("rule.id")
	case "index":
		result.index, err = r.index("rule.index")
	case "toolComponent":
		_, err = j.object("rule.toolComponent", func(name string) (err error) {
			if name != "index" {
				return j.skip()
			}
			result.part, err = r.index("rule.toolComponent.index")
			return err
		})
	default:
		err = j.skip()
	}
	return err
}

// image keeps the digests among the properties of a run, which tools fill as they like.
func (r *sarifRun) image(name string) error {
	if name != "repoDigests" || r.j.dec.PeekKind() != '[' {
		return r.j.skip()
	}
	_, err := r.j.list(name, func() error {
		reference, err := r.j.anyText()
		r.doc.about.addDigest(reference)
		return err
	})
	return err
}

// index reads an index, -1 for none.
func (r *sarifRun) index(what string) (int64, error) {
	n, err := r.j.number(what)
	if err == nil && (n < -1 || n > maxCount || n != float64(int64(n))) {
		err = refuse("%s is out of range", what)
	}
	if err != nil {
		return -1, err
	}
	return int64(n), nil
}

// suppressions says whether a result is suppressed: there is a suppression, and none of them is under review or rejected.
func (r *sarifRun) suppressions() (suppressed bool, err error) {
	doubtful := false
	_, err = r.j.list("suppressions", func() error {
		suppressed = true
		_, err := r.j.object("a suppression", func(name string) error {
			if name != "status" {
				return r.j.skip()
			}
			status, err := r.j.text("status")
			doubtful = doubtful || status != "accepted"
			return err
		})
		return err
	})
	return suppressed && !doubtful, err
}

func (r *sarifRun) invocation() error {
	_, err := r.j.object("an invocation", func(name string) error {
		if name != "executionSuccessful" {
			return r.j.skip()
		}
		ok, err := r.j.boolean(name)
		r.doc.failed = r.doc.failed || err == nil && !ok
		return err
	})
	return err
}

func (r *sarifRun) provenance() error {
	_, err := r.j.object("versionControlProvenance", func(name string) error {
		if name != "revisionId" {
			return r.j.skip()
		}
		revision, err := r.j.anyText()
		r.doc.about.addCommit(revision)
		return err
	})
	return err
}

// severity is that of a result, once the rules of its run are known.
func (r *sarifRun) severity(result sarifResult) severity {
	rule, ok := r.rules[result.rule]
	for id, parts := result.rule, 0; !ok && parts < maxIDParts && strings.Contains(id, "/"); parts++ { // a hierarchical id
		id = id[:strings.LastIndexByte(id, '/')]
		rule, ok = r.rules[id]
	}
	if order := r.orderOf(result.part); !ok && result.index >= 0 && result.index < int64(len(order)) {
		rule, ok = r.rules[order[result.index]]
	}
	if !ok {
		rule = sarifRule{own: unrated}
	}
	if result.own != unrated {
		return result.own
	}
	if result.level != "" {
		rule.level = result.level
	}
	return rule.severity()
}

// orderOf are the ids of the rules of the driver (-1) or of an extension.
func (r *sarifRun) orderOf(part int64) []string {
	switch {
	case part < 0:
		return r.order
	case part < int64(len(r.orders)):
		return r.orders[part]
	}
	return nil
}

// severity is that of a result that says nothing else.
func (r sarifRule) severity() severity {
	if r.own != unrated {
		return r.own
	}
	switch r.level {
	case "error":
		return high
	case "note":
		return low
	case "none":
		return none
	}
	return medium // warning, which is the default
}

func (d *document) finishSARIF() (Report, error) {
	s := &d.sarif
	rep := s.about
	rep.Format, rep.Type, rep.Status = SARIF, v1alpha1.TypeScan, v1alpha1.StatusPassed
	slices.Sort(s.producers)
	rep.Producer = clean(strings.Join(slices.Compact(s.producers), ", "))
	switch {
	case d.version != sarifVersion:
		return rep, refuse("version %q: send %s", quoted(d.version), sarifVersion)
	case s.runs == 0:
		return rep, refuse("there is no run: nothing was examined")
	case s.failed:
		rep.Status = v1alpha1.StatusFailed
	}
	err := s.findings.into(&rep)
	return rep, err
}
