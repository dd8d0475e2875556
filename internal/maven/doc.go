// SPDX-License-Identifier: Apache-2.0

// Package maven knows Maven's coordinates, the layout of its repositories and its project descriptors (POM), as far as it
// takes to tell whether an artifact is the one that a release names (read: Maven 3.9, "Guide to naming conventions",
// "Repository layout" and "POM reference"; package-url, type maven).
//
// It is pure: texts in, values out. A POM is somebody else's text: it is read in one pass, within bounds, without document
// type, entities or foreign encodings, and nothing that it names is ever fetched. It may import the standard library only.
// What is fetched, is by internal/maven/repository.
package maven
