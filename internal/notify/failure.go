// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"errors"
	"time"
)

// errNoMail is given up at once: it is the operator's to configure, and nobody waits for mails of yesterday.
var errNoMail = errors.New("no mail server is configured")

// permanent says that trying again is useless.
func permanent(err error) bool {
	var p interface{ Permanent() bool }
	return errors.Is(err, errNoMail) || errors.As(err, &p) && p.Permanent()
}

// askedPause is how long the receiver asks to be left alone; 0 if it does not.
func askedPause(err error) time.Duration {
	var a interface{ RetryAfter() time.Duration }
	if errors.As(err, &a) {
		return a.RetryAfter()
	}
	return 0
}
