// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
)

func TestSummary(t *testing.T) {
	for name, tc := range map[string]struct {
		events string
		goExit int
		want   []string
		exit   int
	}{
		"all pass": {
			events: `{"Action":"pass","Package":"p","Test":"A"}
{"Action":"pass","Package":"p","Elapsed":1}`,
			want: []string{"ok   p: 1 tests", "1 passed, 0 failed, 0 skipped\n"},
		},
		"a skip is shown with its reason": {
			events: `{"Action":"pass","Package":"p","Test":"A"}
{"Action":"output","Package":"p","Test":"B","Output":"    b_test.go:3: no engine\n"}
{"Action":"output","Package":"p","Test":"B","Output":"--- SKIP: B (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"B"}
{"Action":"pass","Package":"p"}`,
			want: []string{"p B: b_test.go:3: no engine", "1 passed, 0 failed, 1 skipped\n"},
		},
		"a failure shows its output": {
			events: `{"Action":"output","Package":"p","Test":"A","Output":"    want 1\n"}
{"Action":"fail","Package":"p","Test":"A"}
{"Action":"fail","Package":"p"}`,
			goExit: 1, exit: 1,
			want: []string{"FAIL p A\n    want 1", "0 passed, 1 failed, 0 skipped\n"},
		},
		"a package that does not build counts as failed": {
			events: `{"Action":"build-output","ImportPath":"p","Output":"p.go:1: syntax error\n"}
{"Action":"pass","Package":"q","Test":"A"}
{"Action":"fail","Package":"p","FailedBuild":"p"}`,
			goExit: 1, exit: 1,
			want: []string{"syntax error", "1 passed, 1 failed, 0 skipped\n"},
		},
		"a panic shows what the test had written": {
			events: `{"Action":"output","Package":"p","Test":"A","Output":"panic: boom\n"}
{"Action":"fail","Package":"p"}`,
			goExit: 1, exit: 1,
			want: []string{"panic: boom", "0 passed, 1 failed, 0 skipped\n"},
		},
		"nothing ran": {
			events: `{"Action":"skip","Package":"p"}`,
			exit:   1,
			want:   []string{"no test ran", "0 passed, 0 failed, 0 skipped\n"},
		},
		"only skips is nothing": {
			events: `{"Action":"skip","Package":"p","Test":"A"}`,
			exit:   1,
			want:   []string{"no test ran", "0 passed, 0 failed, 1 skipped\n"},
		},
		"what is no event is printed": {
			events: "go: cannot load module\n",
			goExit: 1, exit: 1,
			want: []string{"go: cannot load module"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			c := newCounter(&out)
			if err := c.read(strings.NewReader(tc.events)); err != nil {
				t.Fatal(err)
			}
			if got := c.summary(tc.goExit); got != tc.exit {
				t.Errorf("exit code %d, want %d", got, tc.exit)
			}
			for _, want := range tc.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("output lacks %q:\n%s", want, out.String())
				}
			}
		})
	}
}
