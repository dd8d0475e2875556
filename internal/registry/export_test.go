// SPDX-License-Identifier: Apache-2.0

package registry

import "time"

// SetClock sets the clock and the bound of one call.
func (c *Client) SetClock(now func() time.Time, timeout time.Duration) {
	c.now, c.timeout = now, timeout
}
