// SPDX-License-Identifier: Apache-2.0

package journal

import "fmt"

// Line is the entry's text, canonical JSON without a newline: that of which Hash is the hash.
func (e Entry) Line() ([]byte, error) { return e.canonical() }

// ParseLine reads what Line wrote. There is exactly one text for an entry; any other is ErrMalformed.
func ParseLine(line []byte) (Entry, error) { return parseEntry(line) }

// Follow says whether e is the entry after the one of that sequence and hash (0 and Genesis before the first), in the chain
// of that project. The error wraps ErrBroken.
func Follow(e Entry, projectUID string, seq int64, hash string) error {
	if err := checkNext(e, projectUID, seq, hash); err != nil {
		return fmt.Errorf("%w: %w", ErrBroken, err)
	}
	return nil
}
