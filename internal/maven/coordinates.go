// SPDX-License-Identifier: Apache-2.0

package maven

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// Coordinates of an artifact. Each part is such that a path can be made of it.
type Coordinates struct{ Group, Artifact, Version string }

// String is group:artifact:version.
func (c Coordinates) String() string { return c.Group + ":" + c.Artifact + ":" + c.Version }

// Module is group:artifact.
func (c Coordinates) Module() string { return c.Group + ":" + c.Artifact }

// maxCoordinates is the longest text of coordinates, in bytes, as Release.spec.artifacts has it.
const maxCoordinates = 300

var (
	groupForm = regexp.MustCompile(`^[A-Za-z0-9_\-]+(\.[A-Za-z0-9_\-]+)*$`)
	// An artifact or a version begins and ends with what is no dot, and has no two in a row: "..", which leads out of a
	// repository, is neither.
	artifactForm = regexp.MustCompile(`^[A-Za-z0-9_\-]+(\.[A-Za-z0-9_\-]+)*$`)
	versionForm  = regexp.MustCompile(`^[A-Za-z0-9_+\-]+(\.[A-Za-z0-9_+\-]+)*$`)
	// semver is what semver.org 2.0.0 calls a semantic version.
	semver = regexp.MustCompile(`^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-[0-9A-Za-z\-]+(\.[0-9A-Za-z\-]+)*)?(\+[0-9A-Za-z\-]+(\.[0-9A-Za-z\-]+)*)?$`)
	// unique is how a repository names one build of a snapshot: the base version, a time and a number.
	unique = regexp.MustCompile(`-[0-9]{8}\.[0-9]{6}-[0-9]+$`)
)

// Parse reads group:artifact:version.
func Parse(text string) (Coordinates, error) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 || len(text) > maxCoordinates {
		return Coordinates{}, fmt.Errorf("%.100q is not group:artifact:version", text)
	}
	c := Coordinates{parts[0], parts[1], parts[2]}
	switch {
	case !groupForm.MatchString(c.Group):
		return Coordinates{}, fmt.Errorf("%.100q is not the name of a group", c.Group)
	case !artifactForm.MatchString(c.Artifact):
		return Coordinates{}, fmt.Errorf("%.100q is not the name of an artifact", c.Artifact)
	case !versionForm.MatchString(c.Version):
		return Coordinates{}, fmt.Errorf("%.100q is not a version", c.Version)
	}
	return c, nil
}

// IsSnapshot says whether a version may mean other bytes tomorrow: a snapshot, one build of a snapshot, or one of the
// words that stand for the newest. Maven does not look at the case.
func IsSnapshot(version string) bool {
	upper := strings.ToUpper(version)
	return strings.HasSuffix(upper, "SNAPSHOT") || unique.MatchString(version) || upper == "LATEST" || upper == "RELEASE"
}

// IsSemantic says whether a version is a semantic one.
func IsSemantic(version string) bool { return semver.MatchString(version) }

// Problem is why coordinates cannot be those of a release; "" if they can.
func (c Coordinates) Problem() string {
	switch {
	case IsSnapshot(c.Version):
		return c.String() + " is a snapshot: a released version never changes"
	case !IsSemantic(c.Version):
		return c.String() + " is not a semantic version (semver.org), like 2.1.0"
	}
	return ""
}

// File is the name of one of the artifact's files. Example: core-2.1.0.jar for jar.
func (c Coordinates) File(extension string) string {
	return c.Artifact + "-" + c.Version + "." + extension
}

// Path is where that file is below the repository's address: com/dynors/core/2.1.0/core-2.1.0.jar.
func (c Coordinates) Path(extension string) string {
	return strings.ReplaceAll(c.Group, ".", "/") + "/" + c.Artifact + "/" + c.Version + "/" + c.File(extension)
}

// Matches says whether a group is that of a pattern: com.dynors is that group alone, com.dynors.* also every group below it.
func Matches(pattern, group string) bool {
	root, tree := strings.CutSuffix(pattern, ".*")
	return group == root || tree && strings.HasPrefix(group, root+".")
}

// Unread stands for a version that cannot be read: no release has it.
const Unread = "?"

// Named are coordinates as a list of components names them, whose version may be anything, also nothing; one that is no
// version is Unread. ok is false for names that no module can have.
func Named(group, artifact, version string) (c Coordinates, ok bool) {
	c, err := Parse(group + ":" + artifact + ":" + version)
	if err == nil {
		return c, true
	}
	c, err = Parse(group + ":" + artifact + ":0")
	c.Version = Unread
	return c, err == nil
}

// PURLType is the type of a package URL in lower case; "" for what is none.
func PURLType(text string) string {
	typ, _ := purl(text)
	return typ
}

// ParsePURL reads a package URL of type maven (pkg:maven/group/artifact@version?…). ok is false for any other, and where the
// names are none that a module can have. Slashes too many are passed over, as the specification has it.
func ParsePURL(text string) (c Coordinates, ok bool) {
	typ, rest := purl(text)
	if typ != "maven" {
		return Coordinates{}, false
	}
	rest, _, _ = strings.Cut(rest, "#")
	rest, _, _ = strings.Cut(rest, "?")
	path, version, _ := strings.Cut(rest, "@")
	path = strings.Trim(path, "/")
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return Coordinates{}, false
	}
	return Named(unescape(strings.TrimRight(path[:i], "/")), unescape(path[i+1:]), unescape(version))
}

// purl splits a package URL into its type and what follows.
func purl(text string) (typ, rest string) {
	const scheme = "pkg:"
	text = strings.TrimSpace(text)
	if len(text) < len(scheme) || !strings.EqualFold(text[:len(scheme)], scheme) {
		return "", ""
	}
	typ, rest, _ = strings.Cut(strings.TrimLeft(text[len(scheme):], "/"), "/")
	return strings.ToLower(typ), rest
}

// unescape resolves percent-encoding; what is not well encoded stays as it is, and is no name.
func unescape(text string) string {
	if plain, err := url.PathUnescape(text); err == nil {
		return plain
	}
	return text
}
