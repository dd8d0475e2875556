// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"context"
	"sync"
	"time"
)

// shares is room that what has proven nothing yet takes in common, of which each project has a part at most: what anybody sends to one
// project leaves room for what is sent to the others. Nobody waits for it, since who waits takes room as well.
type shares struct {
	all, each int64

	mu   sync.Mutex
	held int64
	of   map[string]int64 // by the project that the path names, existing or not, while it holds anything
}

func newShares(all, each int64) *shares {
	return &shares{all: max(1, all), each: max(1, each), of: map[string]int64{}}
}

// take takes n for a project, if there is room.
func (s *shares) take(project string, n int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held+n > s.all || s.of[project]+n > s.each {
		return false
	}
	s.held += n
	s.of[project] += n
	return true
}

// release gives back what was taken for a project.
func (s *shares) release(project string, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held -= n
	if s.of[project] -= n; s.of[project] == 0 {
		delete(s.of, project)
	}
}

// inDoubt runs f, which asks the API server about somebody who has proven nothing by what the cache knows: mostly nobody, seldom
// somebody whose secret was made a moment ago. It takes no turn at the store from those who have.
func (a *api) inDoubt(ctx context.Context, project string, f func(context.Context) error) error {
	if !a.doubts.take(project, 1) {
		return unavailable("too many requests at a time that prove nothing", time.Second, nil)
	}
	defer a.doubts.release(project, 1)
	return f(ctx)
}
