// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"cmp"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"gitlab.com/dynors/sirrat/config"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/test/testbed"
)

var (
	// seed of all that is random.
	seed = setting("FAULT_SEED", uint64(time.Now().UnixNano()))
	// kills of the agent at random moments.
	kills = int(setting("FAULT_KILLS", 10))
	// long runs what takes minutes too.
	long = setting("FAULT_LONG", 0) > 0
)

func setting(name string, otherwise uint64) uint64 {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		panic(fmt.Sprintf("%s=%q: not a number", name, text))
	}
	return n
}

func TestMain(m *testing.M) {
	// The tests mostly wait, for containers and for what times out; but containers take the processor too.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	cptest.Main(m, cptest.Install(config.FS))
}

// TestFaults breaks everything, one fault a subtest: go test -run TestFaults/registry. Groups run side by side, each with an
// engine of its own.
func TestFaults(t *testing.T) {
	testbed.Need(t)
	t.Logf("FAULT_SEED=%d FAULT_KILLS=%d", seed, kills)
	t.Cleanup(printTable)
	built = testbed.Build(t)
	shared := testbed.NewEngine(t)
	// The longest first.
	for _, group := range []struct {
		name string
		run  func(*testing.T, *testbed.Engine)
	}{
		{"partition", testPartition},
		{"engine killed", testEngineKilled},
		{"engine hangs", testEngineHangs},
		{"kill", testKills},
		{"unhealthy", testUnhealthy},
		{"state file", testStateFile},
		{"registry", testRegistry},
		{"conflict", testConflicts},
		{"newer in", testNewerInEachPhase},
		{"images disk full", testImagesDiskFull},
		{"control plane away", testControlPlaneAway},
		{"clock", testClock},
		{"irreversible killed", testIrreversible},
		{"removal killed", testRemovalKilled},
		{"keys while away", testKeysWhileAway},
		{"older backup", testOlderBackup},
		{"rollouts gone", testAbsence},
		{"big image", testBigImage},
		{"compose bombs", testBombs},
		{"engine absent", testEngineAbsent},
	} {
		t.Run(group.name, func(t *testing.T) {
			t.Parallel()
			group.run(t, shared)
		})
	}
}

// built are the programs under test and in the containers.
var built testbed.Programs

// random is a source of its own for each test, so that a seed repeats it whatever runs beside.
func random(name string) *rand.Rand {
	var salt uint64
	for _, c := range name {
		salt = salt*31 + uint64(c)
	}
	return rand.New(rand.NewPCG(seed, salt))
}

// row of the table that is printed at the end.
type row struct{ fault, outcome, counts string }

var table struct {
	sync.Mutex
	rows []row
}

// note adds a row to the table: what was done to the test's world, how it ended, and how often.
func note(t *testing.T, outcome, format string, args ...any) {
	t.Helper()
	counts := fmt.Sprintf(format, args...)
	t.Logf("%s: %s", outcome, counts)
	table.Lock()
	defer table.Unlock()
	if t.Failed() {
		outcome = "FAILED"
	}
	table.rows = append(table.rows, row{strings.TrimPrefix(t.Name(), "TestFaults/"), outcome, counts})
}

func printTable() {
	table.Lock()
	defer table.Unlock()
	slices.SortFunc(table.rows, func(a, b row) int { return cmp.Compare(a.fault, b.fault) })
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FAULT\tOUTCOME\tCOUNTED")
	for _, r := range table.rows {
		fmt.Fprintf(w, "%s\t%s\t%s\n", r.fault, r.outcome, r.counts)
	}
	if err := w.Flush(); err != nil {
		fmt.Fprintln(os.Stderr, "print the table: ", err)
	}
}

func wait(t testing.TB, what string, check func() error) {
	t.Helper()
	testbed.Wait(t, what, check)
}
