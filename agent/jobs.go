// SPDX-License-Identifier: Apache-2.0

package agent

import "context"

// hasJobs says whether something must run before the release starts.
func (w *worker) hasJobs(*resolved) bool { return false }

// migrate runs the pre-deploy jobs.
func (w *worker) migrate(context.Context, *resolved) error { return nil }
