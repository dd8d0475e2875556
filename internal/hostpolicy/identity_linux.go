// SPDX-License-Identifier: Apache-2.0

package hostpolicy

import (
	"io/fs"
	"syscall"
)

// identityOf tells a file from one that took its place, and from itself with other permissions.
func identityOf(info fs.FileInfo) (inode, change uint64) {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Ino, uint64(stat.Ctim.Nano())
	}
	return 0, 0
}
