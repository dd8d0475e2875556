// SPDX-License-Identifier: Apache-2.0

// Command testcount runs go test with its arguments and closes with one line that counts the tests:
//
//	N passed, N failed, N skipped
//
// It prints a line per package, the output of what failed and the reason of what was skipped, so that neither can be
// overlooked. It exits non-zero when a test or package failed, and when no test ran at all.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
)

// event is one line of go test -json (see go doc test2json).
type event struct {
	Action      string
	Package     string
	ImportPath  string // of build-output
	Test        string
	Elapsed     float64
	Output      string
	FailedBuild string
}

// key identifies a test; Test is empty for the package itself.
type key struct{ Package, Test string }

// counter folds events into figures.
type counter struct {
	out                     io.Writer
	passed, failed, skipped int
	output                  map[key][]string
	perPackage              map[string]int
	failedIn                map[string]int
	skips                   []string
	failures                []string
}

func newCounter(out io.Writer) *counter {
	return &counter{out: out, output: map[key][]string{}, perPackage: map[string]int{}, failedIn: map[string]int{}}
}

// add counts one event and prints what a person wants to see at once.
func (c *counter) add(e event) {
	k := key{e.Package, e.Test}
	switch e.Action {
	case "output":
		c.output[k] = append(c.output[k], e.Output)
	case "build-output":
		fmt.Fprint(c.out, e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			c.finishPackage(e)
		} else {
			c.finishTest(e)
		}
	}
}

func (c *counter) finishTest(e event) {
	k := key{e.Package, e.Test}
	c.perPackage[e.Package]++
	switch e.Action {
	case "pass":
		c.passed++
	case "skip":
		c.skipped++
		c.skips = append(c.skips, fmt.Sprintf("%s %s: %s", e.Package, e.Test, reason(c.output[k])))
	case "fail":
		c.failed++
		c.failedIn[e.Package]++
		c.failures = append(c.failures, e.Package+" "+e.Test)
		fmt.Fprintf(c.out, "FAIL %s %s\n%s", e.Package, e.Test, strings.Join(c.output[k], ""))
	}
	delete(c.output, k)
}

func (c *counter) finishPackage(e event) {
	switch {
	case e.Action == "fail":
		// A package that fails without a failed test did not compile, panicked, or ran out of time.
		if c.failedIn[e.Package] == 0 {
			c.failed++
			c.failures = append(c.failures, e.Package)
			c.printLeftovers(e.Package)
		}
		fmt.Fprintf(c.out, "FAIL %s (%.1f s)\n", e.Package, e.Elapsed)
	case c.perPackage[e.Package] > 0:
		fmt.Fprintf(c.out, "ok   %s: %d tests (%.1f s)\n", e.Package, c.perPackage[e.Package], e.Elapsed)
	}
	maps.DeleteFunc(c.output, func(k key, _ []string) bool { return k.Package == e.Package })
}

// printLeftovers prints what tests that never finished, and the package itself, had written.
func (c *counter) printLeftovers(pkg string) {
	keys := slices.SortedFunc(maps.Keys(c.output), func(a, b key) int { return strings.Compare(a.Test, b.Test) })
	for _, k := range keys {
		if k.Package == pkg {
			fmt.Fprint(c.out, strings.Join(c.output[k], ""))
		}
	}
}

// reason is what a skipped test said: the last line that is not go test's own.
func reason(lines []string) string {
	for _, line := range slices.Backward(lines) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "---") && !strings.HasPrefix(line, "===") {
			return line
		}
	}
	return "no reason given"
}

// summary prints the closing lines and returns the exit code, given go test's own.
func (c *counter) summary(exit int) int {
	if len(c.skips) > 0 {
		fmt.Fprintf(c.out, "\nskipped:\n  %s\n", strings.Join(c.skips, "\n  "))
	}
	if len(c.failures) > 0 {
		fmt.Fprintf(c.out, "\nfailed:\n  %s\n", strings.Join(c.failures, "\n  "))
	}
	if c.passed+c.failed == 0 {
		fmt.Fprintln(c.out, "no test ran")
		exit = max(exit, 1)
	}
	if c.failed > 0 {
		exit = max(exit, 1)
	}
	fmt.Fprintf(c.out, "%d passed, %d failed, %d skipped\n", c.passed, c.failed, c.skipped)
	return exit
}

// read feeds every event of a stream to the counter. Lines that are no events are printed as they are.
func (c *counter) read(r io.Reader) error {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			var e event
			if json.Unmarshal([]byte(line), &e) == nil && e.Action != "" {
				c.add(e)
			} else {
				fmt.Fprint(c.out, line)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the output of go test: %w", err)
		}
	}
}

func run(args []string) int {
	// An interrupt reaches go test too; wait for it and still count.
	signal.Ignore(os.Interrupt)
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testcount: start go test:", err)
		return 1
	}
	c := newCounter(os.Stdout)
	exit := 0
	if err := c.read(stdout); err != nil {
		fmt.Fprintln(os.Stderr, "testcount:", err)
		exit = 1
	}
	if err := cmd.Wait(); err != nil {
		exit = 1
	}
	return c.summary(exit)
}

func main() { os.Exit(run(os.Args[1:])) }
