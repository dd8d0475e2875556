// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package diary counts what happens in folders, for tests that kill a program at each of its writes: every file that is
// begun, closed or renamed is a boundary between two states on the disk. Only tests import it.
package diary

import (
	"testing"

	"golang.org/x/sys/unix"
)

// Moments of a save. A file is written beside the old one, and renamed.
const (
	BeginsToSave = unix.IN_CREATE
	HasWritten   = unix.IN_CLOSE_WRITE
	HasSaved     = unix.IN_MOVED_TO
)

// Diary follows folders.
type Diary struct{ fd int }

// Open follows folders, which must exist, until the test ends. mask says which moments count.
func Open(t testing.TB, mask uint32, folders ...string) *Diary {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) }) // which was read only
	d := &Diary{fd: fd}
	d.Follow(t, mask, folders...)
	return d
}

// Follow has moments of more folders counted.
func (d *Diary) Follow(t testing.TB, mask uint32, folders ...string) {
	t.Helper()
	for _, folder := range folders {
		if _, err := unix.InotifyAddWatch(d.fd, folder, mask); err != nil {
			t.Fatalf("follow %s: %v", folder, err)
		}
	}
}

// Moments counts what happened since it last did, until enough did, or until over.
func (d *Diary) Moments(enough int, over func() bool) int {
	n := 0
	buffer := make([]byte, 4096)
	for n < enough && !over() {
		ready := []unix.PollFd{{Fd: int32(d.fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(ready, 20); err != nil || ready[0].Revents == 0 {
			continue
		}
		size, err := unix.Read(d.fd, buffer)
		if err != nil {
			continue
		}
		for at := 0; at+unix.SizeofInotifyEvent <= size; n++ {
			at += unix.SizeofInotifyEvent + int(buffer[at+12]) + int(buffer[at+13])<<8
		}
	}
	return n
}

// Forget skips what happened until now.
func (d *Diary) Forget() { d.Moments(1, func() bool { return d.idle() }) }

func (d *Diary) idle() bool {
	ready := []unix.PollFd{{Fd: int32(d.fd), Events: unix.POLLIN}}
	n, err := unix.Poll(ready, 0)
	return err == nil && n == 0
}
