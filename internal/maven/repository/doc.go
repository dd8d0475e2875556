// SPDX-License-Identifier: Apache-2.0

// Package repository reads artifacts from Maven repositories and checks that they are what their coordinates and checksums
// say. It reads what GitLab's Package Registry serves as a Maven repository (read: GitLab 18, "Maven packages in the package
// registry" and "Maven API", GET projects/:id/packages/maven/*path/:file_name) and any other of that layout.
//
// What holds:
//
//   - It connects to what egress allows and nothing else, redirects included: GitLab answers with one to its object storage.
//     Credentials go to the repository's own address alone.
//   - Where a repository does not have a file and sends its reader to another one of the same layout, as GitLab does with
//     Maven Central, the file is missing: what somebody else publishes under the same name is not the organisation's.
//   - A file counts when at least one checksum of SHA-1 or stronger lies beside it, and all that do match. GitLab makes SHA-1
//     itself and has stronger ones where a build uploads them.
//   - Everything that is read is bounded in size and time; artifacts are hashed as they come and kept nowhere.
//   - No error has an answer's text, an address within the object storage or a credential in it.
//
// It may import internal/egress and internal/maven.
package repository
