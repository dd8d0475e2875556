// SPDX-License-Identifier: Apache-2.0

package hostpolicy

import _ "embed" // for Template

// Template is a policy that says what holds by default, with a comment on every field.
//
//go:embed template.yaml
var Template string
