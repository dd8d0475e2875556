// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// repeated is a report made on the way: a head, a part as often as it takes, and a tail.
type repeated struct {
	head, part, tail string
	times            int
	now              string
	state            int
}

func (r *repeated) Read(p []byte) (int, error) {
	for r.now == "" {
		switch {
		case r.state == 0:
			r.now, r.state = r.head, 1
		case r.state == 1 && r.times > 0:
			r.now = r.part
			r.times--
		case r.state == 1:
			r.now, r.state = r.tail, 2
		default:
			return 0, io.EOF
		}
	}
	n := copy(p, r.now)
	r.now = r.now[n:]
	return n, nil
}

const (
	mega = 1_000_000

	bigCase = `<testcase name="placesAnOrder[%d]" classname="com.dynors.orders.OrderServiceTest" time="0.412">
    <system-out><![CDATA[2026-03-02 10:11:12 INFO  c.d.o.OrderService : order saved in 12 ms, mail sent, 3 lines
2026-03-02 10:11:12 DEBUG c.d.o.OrderService : select o from Order o where o.id = ?
]]></system-out>
  </testcase>
`
	bigFinding = `{"VulnerabilityID":"CVE-2023-45853","PkgID":"zlib1g@1:1.2.13","PkgName":"zlib1g","InstalledVersion":"1:1.2.13","Status":"will_not_fix","Layer":{"Digest":"sha256:9d48c3bd43c520dc2784e868a780e976b207cbf493eaff8c6496eb871cbd9609"},"Title":"zlib: integer overflow","Description":"MiniZip in zlib through 1.3 has an integer overflow and resultant heap-based buffer overflow in zipOpenNewFileInZip4_64 via a long filename, comment, or extra field.","Severity":"HIGH","CweIDs":["CWE-190"],"CVSS":{"nvd":{"V3Vector":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H","V3Score":9.8}},"References":["http://www.openwall.com/lists/oss-security/2023/10/20/9","https://access.redhat.com/security/cve/CVE-2023-45853"],"PublishedDate":"2023-10-14T02:15:09.323Z"}`
)

// bigJUnit is a report of about so many bytes.
func bigJUnit(size int) *repeated {
	part := fmt.Sprintf(bigCase, 1)
	n := size / len(part)
	return &repeated{head: fmt.Sprintf(`<?xml version="1.0" encoding="UTF-8"?><testsuite tests="%d" name="big">`, n), part: part, tail: `</testsuite>`, times: n}
}

func bigTrivy(size int) *repeated {
	return &repeated{head: `{"SchemaVersion":2,"Results":[{"Target":"x","Vulnerabilities":[` + bigFinding, part: "," + bigFinding, tail: `]}]}`, times: size / len(bigFinding)}
}

func bigGoCover(size int) *repeated {
	var b strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&b, "gitlab.com/dynors/orders/internal/order.go:%d.30,%d.2 2 1\n", i, i+1)
	}
	return &repeated{head: "mode: atomic\n", part: b.String(), times: max(1, size/b.Len())}
}

// BenchmarkRead prints how fast reports are read.
//
//	go test -run '^$' -bench Read ./internal/reports
func BenchmarkRead(b *testing.B) {
	for name, make := range map[string]func(int) *repeated{"JUnit": bigJUnit, "Trivy": bigTrivy, "GoCover": bigGoCover} {
		b.Run(name, func(b *testing.B) {
			data, err := io.ReadAll(make(10 * mega))
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Read(bytes.NewReader(data), Options{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// peakOf names, in the environment of a child, the report whose reading is measured in it.
const peakOf = "SIRRAT_TEST_PEAK_OF"

var large = map[string]func() *repeated{
	"JUnit":   func() *repeated { return bigJUnit(100 * mega) },
	"Trivy":   func() *repeated { return bigTrivy(100 * mega) },
	"GoCover": func() *repeated { return bigGoCover(100 * mega) },
}

// BenchmarkPeak prints by how much the memory of a whole process (its resident set) exceeds, at its highest, what it has
// before it reads a report of 100 MB. Each is read in a process of its own.
//
//	go test -run '^$' -bench Peak -benchtime 1x ./internal/reports
func BenchmarkPeak(b *testing.B) {
	if of := os.Getenv(peakOf); of != "" {
		readLarge(b, of)
		return
	}
	for of := range large {
		b.Run(of, func(b *testing.B) {
			var idle, peak float64
			for b.Loop() {
				child := exec.CommandContext(b.Context(), os.Args[0], "-test.run=^$", "-test.bench=^BenchmarkPeak$", "-test.benchtime=1x")
				child.Env = append(os.Environ(), peakOf+"="+of)
				out, err := child.CombinedOutput()
				if err != nil {
					b.Fatalf("%v\n%s", err, out)
				}
				_, told, _ := strings.Cut(string(out), peakOf+" ")
				if _, err := fmt.Sscan(told, &idle, &peak); err != nil {
					b.Fatalf("%v\n%s", err, out)
				}
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(idle/mega, "MB-idle")
			b.ReportMetric((peak-idle)/mega, "MB-above-idle")
		})
	}
}

// readLarge reads a large report and prints what the process had before, and at the most, in bytes.
func readLarge(b *testing.B, of string) {
	idle := memory(b, "VmRSS")
	rep, err := Read(large[of](), Options{})
	if err != nil {
		b.Fatal(err)
	}
	fmt.Println(peakOf, idle, memory(b, "VmHWM"), describe(rep))
}

// memory is a figure of proc(5), /proc/pid/status, in bytes.
func memory(b *testing.B, figure string) int64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), figure+":")
	var kilo int64
	if _, err := fmt.Sscanf(rest, "%d kB", &kilo); err != nil {
		b.Fatalf("%s: %v", figure, err)
	}
	return kilo << 10
}

// A report of 100 MB is read in a few hundred KB. How much the heap grows is printed; what is asserted is far above it.
func TestMemory(t *testing.T) {
	const bound = 64 << 20
	for _, tc := range []struct {
		name string
		of   *repeated
	}{
		{"JUnit, 100 MB", bigJUnit(100 * mega)},
		{"JUnit, one log of 100 MB", &repeated{head: `<testsuite><testcase><system-out>`, part: strings.Repeat("a line of a log\n", 64), tail: `</system-out></testcase></testsuite>`, times: 100 * mega / 1024}},
		{"Trivy, 100 MB", bigTrivy(100 * mega)},
		{"Go, 100 MB", bigGoCover(100 * mega)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			runtime.GC()
			var idle runtime.MemStats
			runtime.ReadMemStats(&idle)
			peak := watchHeap(t)
			start := time.Now()
			rep, err := Read(tc.of, Options{})
			if err != nil {
				t.Fatal(err)
			}
			grown := int64(peak()) - int64(idle.HeapAlloc)
			t.Logf("%s: heap +%.1f MB at most, %.2f s", describe(rep), float64(grown)/mega, time.Since(start).Seconds())
			if grown > bound {
				t.Errorf("the heap grew by %d bytes, more than %d", grown, bound)
			}
		})
	}
}

// watchHeap looks at the heap again and again until the function it returns is called, which says how large it was.
func watchHeap(t *testing.T) func() uint64 {
	var peak atomic.Uint64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			var now runtime.MemStats
			runtime.ReadMemStats(&now)
			peak.Store(max(peak.Load(), now.HeapAlloc))
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}()
	return func() uint64 {
		t.Helper()
		close(stop)
		<-stopped
		return peak.Load()
	}
}

// Without end, and never a refusal that takes long or much.
func TestEndless(t *testing.T) {
	for _, tc := range []struct {
		name string
		of   *repeated
		want string
	}{
		{"different names", &repeated{head: `{"SchemaVersion":2,"x":{`, part: `"` + strings.Repeat("x", 100) + `":1,`, times: 1 << 40}, "twice"},
		{"an attribute", &repeated{head: `<testsuite name="`, part: strings.Repeat("x", 1000), times: 1 << 40}, "longer"},
		{"a comment, then nothing", &repeated{head: `<!--`, part: strings.Repeat("x", 1000), times: 1 << 20}, "ends before"},
		{"a larger file than allowed", &repeated{head: `<testsuite><testcase/>`, part: strings.Repeat(" ", 1<<20), times: 1 << 40}, "larger"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Read(tc.of, Options{})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %s", err, tc.want)
			}
		})
	}
}
