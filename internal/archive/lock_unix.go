// SPDX-License-Identifier: Apache-2.0

//go:build unix

package archive

import (
	"os"
	"syscall"
)

// lockFile takes an exclusive lock that ends with the process, or fails at once.
func lockFile(f *os.File) error {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}

func syncFolder(f *os.File) error { return f.Sync() }
