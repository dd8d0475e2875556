// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"math"
	"strconv"
	"strings"
)

// readCobertura reads Cobertura's XML (https://cobertura.sourceforge.net/xml/coverage-04.dtd) as coverage.py, gcovr, istanbul,
// coverlet and others write it. What counts is the line elements of the classes (those of methods repeat them); the attributes
// of the root must agree with them. A report without line elements counts nothing.
func readCobertura(s *xmlScanner) (Report, error) {
	rep := Report{Format: Cobertura}
	if _, clover := s.attr("clover"); clover {
		return rep, refuse("this is a Clover report: send Cobertura, JaCoCo or LCOV")
	}
	rep.Producer = coberturaProducer(s)
	claims, err := coberturaClaims(s)
	if err != nil {
		return rep, err
	}
	var covered, total int64
	err = s.each(func() error {
		if s.name() != "line" || s.parent() != "lines" || s.depth() < 3 || s.stack[s.depth()-3] != "class" {
			return nil
		}
		hits, err := s.hits()
		if err != nil {
			return err
		}
		total++
		if hits {
			covered++
		}
		return nil
	})
	if err != nil {
		return rep, err
	}
	if err := rep.covered(covered, total, "lines"); err != nil {
		return rep, err
	}
	for _, c := range claims {
		if err := agree(c.what, c.percent, float64(covered), float64(total)); err != nil {
			return rep, err
		}
	}
	return rep, nil
}

// hits says whether the line that just began was executed.
func (s *xmlScanner) hits() (bool, error) {
	text, ok := s.attr("hits")
	if !ok {
		return false, refuse("a <line> without the attribute hits")
	}
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64) // may be more than any count of ours: a loop's
	if err != nil {
		return false, refuse("the attribute hits is %q, not a whole number", quoted(text))
	}
	return n > 0, nil
}

// claim is a figure that a report gives of itself, in percent.
type claim struct {
	what    string
	percent float64
}

func coberturaClaims(s *xmlScanner) (claims []claim, err error) {
	if text, ok := s.attr("line-rate"); ok {
		rate, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
		if err != nil || math.IsNaN(rate) || rate < 0 || rate > 1 {
			return nil, refuse("the attribute line-rate is %q, not from 0 to 1", quoted(text))
		}
		claims = append(claims, claim{"line-rate", rate * 100})
	}
	valid, hasValid, err := s.count("lines-valid")
	if err != nil {
		return nil, err
	}
	covered, hasCovered, err := s.count("lines-covered")
	if err != nil {
		return nil, err
	}
	switch {
	case hasValid && hasCovered && covered > valid:
		return nil, refuse("contradicts itself: %d lines covered of %d", covered, valid)
	case hasValid && hasCovered && valid > 0:
		claims = append(claims, claim{"lines-covered of lines-valid", float64(covered) / float64(valid) * 100})
	}
	return claims, nil
}

// coberturaProducer recognises producers by what they put into the attribute version: coverage.py its version, gcovr its name
// and version, the others a version of Cobertura.
func coberturaProducer(s *xmlScanner) string {
	version, _ := s.attr("version")
	if name, rest, ok := strings.Cut(version, " "); ok {
		return produced(name, rest)
	}
	return ""
}
