// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"testing"
	"time"
)

func TestFalls(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		every time.Duration
		count int
		flaps bool
	}{
		"never":             {time.Second, 0, false},
		"one too few":       {time.Second, FlapFalls - 1, false},
		"enough":            {time.Second, FlapFalls, true},
		"many":              {time.Second, 100, true},
		"just close enough": {FlapWindow / (FlapFalls - 1), FlapFalls, true},
		"too far apart":     {FlapWindow/(FlapFalls-1) + 1, 100, false},
	} {
		t.Run(name, func(t *testing.T) {
			var f Falls
			now := start
			for i := range c.count {
				now = start.Add(time.Duration(i) * c.every)
				f = f.Add(now)
			}
			want := time.Time{}
			if c.flaps {
				want = now.Add(FlapCalm)
			}
			if got := f.Settled(); !got.Equal(want) || len(f) > FlapFalls {
				t.Errorf("settled at %s, want %s, of %d", got, want, len(f))
			}
		})
	}
}
