// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"gitlab.com/dynors/sirrat/internal/cli/inert"
)

const (
	// progressAfter is how long an upload takes without a word.
	progressAfter = time.Second
	// liveEvery and plainEvery are the times between two lines, on a terminal and where lines are kept.
	liveEvery, plainEvery = 200 * time.Millisecond, 10 * time.Second
)

// uploadMark is where in a body one file lies.
type uploadMark struct {
	name       string
	begin, end int64
}

// uploading tells on standard error how far an upload is: of the file that is being sent how much of it was, and how fast. Short
// uploads are not told of. On a terminal the line of a file is drawn again and again.
type uploading struct {
	s     *session
	marks []uploadMark
	live  bool
	width int
	begun time.Time

	mu   sync.Mutex
	sent int64
	// at is which of the marks is being sent, and named says that its line was told.
	at    int
	named bool
	told  time.Time
	drawn int // columns of the line that is open on the terminal
	ended bool
}

func (s *session) uploading(marks []uploadMark) *uploading {
	u := &uploading{s: s, marks: marks, begun: s.Now()}
	fd, live := s.terminal(s.Err)
	if u.live = live && s.Getenv("TERM") != "dumb"; u.live {
		if columns, _, err := term.GetSize(fd); err == nil {
			u.width = columns
		}
	}
	return u
}

// Write counts what is sent. It never fails.
func (u *uploading) Write(p []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ended { // the server has answered already
		return len(p), nil
	}
	u.sent += int64(len(p))
	now := u.s.Now()
	for u.at < len(u.marks) && u.sent >= u.marks[u.at].end {
		if u.named {
			u.tell(now)
			u.close()
		}
		u.at, u.named = u.at+1, false
	}
	every := plainEvery
	if u.live {
		every = liveEvery
	}
	if u.at < len(u.marks) && now.Sub(u.begun) >= progressAfter && now.Sub(u.told) >= every {
		u.tell(now)
		u.named, u.told = true, now
	}
	return len(p), nil
}

// tell writes the line of the file that is being sent.
func (u *uploading) tell(now time.Time) {
	m := u.marks[u.at]
	rate := float64(u.sent) / max(now.Sub(u.begun).Seconds(), 1e-3)
	sent := min(max(u.sent-m.begin, 0), m.end-m.begin)
	line := inert.Line(u.s.T("report.sending", m.name, megabytes(sent), megabytes(m.end-m.begin), megabytes(int64(rate))))
	if !u.live {
		fmt.Fprintln(u.s.Err, line)
		return
	}
	if runes := []rune(line); u.width > 1 && len(runes) >= u.width { // one that wraps could not be drawn again
		line = string(runes[:u.width-1])
	}
	columns := utf8.RuneCountInString(line)
	fmt.Fprint(u.s.Err, "\r"+line+strings.Repeat(" ", max(0, u.drawn-columns)))
	u.drawn = columns
}

// close ends the line that is open on the terminal.
func (u *uploading) close() {
	if u.drawn > 0 {
		fmt.Fprintln(u.s.Err)
	}
	u.drawn = 0
}

// end says nothing more.
func (u *uploading) end() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.close()
	u.ended = true
}
