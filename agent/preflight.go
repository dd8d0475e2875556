// SPDX-License-Identifier: Apache-2.0

package agent

import "context"

// preflight looks whether the server can carry the rollout, before anything is fetched or touched.
func (w *worker) preflight(context.Context, *resolved) error { return nil }
