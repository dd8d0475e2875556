// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"hash/maphash"
)

// blocks are pieces of source that were covered or not, each counted once however often a report names it: a test binary of
// Go names every block of every package it was built with, and LCOV files are merged by appending them.
//
// Of a piece only a hash with a seed of this process is kept. Two of a million share one with a probability of 1 in 30
// million, and then one of them is not counted.
type blocks struct {
	seed maphash.Seed
	of   map[uint64]block
}

type block struct {
	size    uint32 // statements in it; 1 for a line
	covered bool
}

func newBlocks() *blocks { return &blocks{seed: maphash.MakeSeed(), of: map[uint64]block{}} }

// add counts a piece. same is false when it had another size before; full says that there are too many.
func (b *blocks) add(file, place []byte, size uint32, covered bool) (same, full bool) {
	var h maphash.Hash
	h.SetSeed(b.seed)
	_, _ = h.Write(file) // never fails
	_ = h.WriteByte(0)
	_, _ = h.Write(place)
	key := h.Sum64()
	old, seen := b.of[key]
	if seen && old.size != size {
		return false, false
	}
	if !seen && len(b.of) == maxBlocks {
		return true, true
	}
	b.of[key] = block{size, covered || old.covered}
	return true, false
}

func (b *blocks) sum() (covered, total int64) {
	for _, piece := range b.of {
		total += int64(piece.size)
		if piece.covered {
			covered += int64(piece.size)
		}
	}
	return covered, total
}
