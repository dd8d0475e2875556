// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/maven"
)

// gradleLockHead is how every gradle.lockfile begins (read: Gradle 8.14, "Locking versions").
const gradleLockHead = "# This is a Gradle generated file for dependency locking."

// readGradleLock reads a gradle.lockfile, one file for all configurations: lines of group:artifact:version=configurations,
// and as the last one empty= with the configurations that have none. Every configuration counts, those of tests too.
func readGradleLock(l *lines) (Report, error) {
	rep := Report{Format: GradleLock, Type: v1alpha1.TypeSBOM, Status: v1alpha1.StatusPassed, Producer: "Gradle"}
	var list mavenList
	ended := false
	for {
		line, err := l.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return rep, err
		}
		if line = bytes.TrimSpace(line); len(line) == 0 || line[0] == '#' {
			continue
		}
		key, configurations, found := bytes.Cut(line, []byte("="))
		switch {
		case ended:
			return rep, l.refuse("something follows the line empty=")
		case !found:
			return rep, l.refuse("is no line of a lock file")
		case string(key) == "empty":
			ended = true
			continue
		case len(configurations) == 0:
			return rep, l.refuse("locks a module for no configuration")
		}
		parts := strings.Split(string(key), ":")
		if len(parts) != 3 {
			return rep, l.refuse("%s is not group:artifact:version", quoted(key))
		}
		c, ok := maven.Named(parts[0], parts[1], parts[2])
		if !ok {
			return rep, l.refuse("%s is not group:artifact:version", quoted(key))
		}
		if rep.Components++; rep.Components > maxCount {
			return rep, refuse(tooMany, maxCount)
		}
		list.add(c, "")
	}
	switch {
	case !ended:
		return rep, refuse("%s: there is no last line empty=", truncated)
	case rep.Components == 0:
		return rep, refuse("no module is locked: a list of nothing proves nothing")
	}
	rep.Maven = list.list()
	return rep, nil
}
