// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"strings"
	"testing"
)

// A format that is none was taken for the table, which then stood in a file that was to hold keys.
func TestKeysListRefusesOtherFormats(t *testing.T) {
	cmd := newKeysCommand()
	cmd.SetArgs([]string{"list", "--data-dir", t.TempDir(), "-o", "pem"})
	cmd.SetOut(io.Discard)
	cmd.SetErr(io.Discard)
	if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), `--output "pem": it can be json`) {
		t.Errorf("got %v", err)
	}
}
