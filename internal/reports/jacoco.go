// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"errors"
	"io"
)

// readJaCoCo reads the XML report of JaCoCo (https://www.jacoco.org/jacoco/trunk/coverage/report.dtd, version 1.1), which
// Gradle and Kover write too. What counts is the counter LINE of the report; it must be the sum of those of its packages.
func readJaCoCo(s *xmlScanner) (Report, error) {
	rep := Report{Format: JaCoCo, Producer: "JaCoCo"}
	var whole, packages counter
	err := s.each(func() error {
		if kind, _ := s.attr("type"); s.name() != "counter" || kind != "LINE" {
			return nil
		}
		switch s.parent() {
		case "report":
			return whole.read(s)
		case "package":
			return packages.read(s)
		}
		return nil
	})
	if err != nil {
		return rep, err
	}
	if whole != packages {
		return rep, refuse("contradicts itself: %d of %d lines covered, %d of %d in its packages",
			whole.covered, whole.missed+whole.covered, packages.covered, packages.missed+packages.covered)
	}
	err = rep.covered(whole.covered, whole.missed+whole.covered, "lines")
	return rep, err
}

// counter adds up counters of JaCoCo.
type counter struct{ missed, covered int64 }

func (c *counter) read(s *xmlScanner) error {
	for name, to := range map[string]*int64{"missed": &c.missed, "covered": &c.covered} {
		n, ok, err := s.count(name)
		if err != nil {
			return err
		}
		if !ok {
			return refuse("a <counter> without the attribute %s", name)
		}
		*to += n
	}
	return nil
}

// each calls f for every element that begins, up to the end of the document.
func (s *xmlScanner) each(f func() error) error {
	for {
		ev, err := s.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil && ev == startElement {
			err = f()
		}
		if err != nil {
			return err
		}
	}
}
