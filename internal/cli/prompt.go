// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"gitlab.com/dynors/sirrat/internal/cli/inert"
	"gitlab.com/dynors/sirrat/internal/cli/lang"
)

// confirm asks a question whose answer is no unless somebody says yes. Without a terminal nobody can: --yes is needed.
func (s *session) confirm(yes bool, question lang.ID, args ...any) error {
	if yes {
		return nil
	}
	if _, ok := s.terminal(s.In); !ok {
		return s.fail("error.needs-yes").with(s.T("hint.needs-yes"))
	}
	answer, err := s.ask(s.T(question, args...) + " " + s.T("prompt.yes-no") + " ")
	if err != nil {
		return err
	}
	switch strings.ToLower(answer) {
	case "y", "yes", "o", "oui":
		return nil
	}
	return s.fail("error.not-confirmed")
}

// ask reads one line from the terminal.
func (s *session) ask(prompt string) (string, error) {
	fmt.Fprint(s.Err, inert.Text(prompt))
	if s.typed == nil {
		s.typed = bufio.NewReader(s.In)
	}
	answer, err := s.typed.ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", wrap("read the answer", err)
	}
	return strings.TrimSpace(answer), nil
}
