// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bufio"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
)

// rest gives back what work needed and waiting does not: free memory, and the pages of the program's own file. Of the 40 MB
// that an agent held at rest, 9 were its own; the rest was code that ran once, at the start or in a rollout, clean pages that
// the kernel keeps in its cache anyway and maps again when they are needed.
func rest() {
	debug.FreeOSMemory()
	releaseProgram()
}

// releaseProgram unmaps the read-only pages of the running program. Where /proc is missing nothing happens.
func releaseProgram() {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return
	}
	defer maps.Close()
	var start, end uint64
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) >= 6 && strings.Contains(fields[0], "-"):
			start, end = 0, 0
			if fields[5] != self || fields[1] != "r-xp" && fields[1] != "r--p" {
				continue
			}
			from, to, _ := strings.Cut(fields[0], "-")
			first, err1 := strconv.ParseUint(from, 16, 64)
			last, err2 := strconv.ParseUint(to, 16, 64)
			if err1 == nil && err2 == nil {
				start, end = first, last
			}
		// Never a mapping of which a page was written, by a loader perhaps: its content is nowhere else.
		case len(fields) >= 2 && fields[0] == "Anonymous:" && fields[1] == "0" && end > start:
			// Only advice: no harm when it is refused.
			_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, uintptr(start), uintptr(end-start), syscall.MADV_DONTNEED)
		}
	}
}
