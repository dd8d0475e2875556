// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"
	"time"
)

// What counts as flapping.
const (
	// FlapFalls from health within FlapWindow make a flapping deployment.
	FlapFalls  = 5
	FlapWindow = 10 * time.Minute
	// FlapCalm is how long one must then be well before it counts as healthy again.
	FlapCalm = time.Minute
)

// Falls are the last times at which a deployment ceased to be well, oldest first: at most FlapFalls.
type Falls []time.Time

// Add notes one more.
func (f Falls) Add(now time.Time) Falls {
	f = append(slices.Clone(f), now)
	return f[max(0, len(f)-FlapFalls):]
}

// Settled is when what is well now may be called healthy: at once, or, when its health came and went of late, after FlapCalm.
// Without this bound a healthcheck that flaps would have the state written, and a report sent, at every change.
func (f Falls) Settled() time.Time {
	if len(f) < FlapFalls {
		return time.Time{}
	}
	last := f[len(f)-1]
	if last.Sub(f[0]) > FlapWindow {
		return time.Time{}
	}
	return last.Add(FlapCalm)
}
