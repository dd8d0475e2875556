// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/types"
)

// Bounds of the authentic webhooks of one project: a pipeline of a hundred jobs sends some five hundred at once, and then none.
const (
	hookRate  = 50 // per second
	hookBurst = 1000
	// maxHookRates is how many projects' rates are kept before those of projects that are quiet are forgotten.
	maxHookRates = 1024
)

// hookRates keeps one project's webhooks from taking the store from the others: whoever knows a webhook's secret could send any
// number of events, each of which says something else. The zero value is ready.
type hookRates struct {
	mu sync.Mutex
	of map[types.UID]*rate.Limiter
}

// take counts one webhook of a project. Where there are too many, it returns after what time another is taken.
func (h *hookRates) take(project types.UID, now time.Time) (wait time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.of) >= maxHookRates && h.of[project] == nil {
		for known, l := range h.of {
			if l.TokensAt(now) >= hookBurst {
				delete(h.of, known)
			}
		}
	}
	if h.of == nil {
		h.of = map[types.UID]*rate.Limiter{}
	}
	if h.of[project] == nil {
		h.of[project] = rate.NewLimiter(hookRate, hookBurst)
	}
	turn := h.of[project].ReserveN(now, 1)
	wait = turn.DelayFrom(now)
	if wait > 0 {
		turn.CancelAt(now)
	}
	return wait
}
