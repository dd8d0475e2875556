// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkAppend appends entries of about 500 bytes to one project on the real disk. Goal: far beyond what an installation
// decides in a second; a single appender has the disk's synchronisations per second, many share them.
func BenchmarkAppend(b *testing.B) {
	for _, appenders := range []int{1, 4, 64} {
		b.Run(fmt.Sprintf("appenders=%d", appenders), func(b *testing.B) {
			f := newFixture(b, nil)
			var n atomic.Int64
			b.ResetTimer()
			var wg sync.WaitGroup
			for range appenders {
				wg.Go(func() {
					for i := n.Add(1); i <= int64(b.N); i = n.Add(1) {
						if err := f.Append(context.Background(), benchFact(i)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
		})
	}
}

// BenchmarkLoad reads and verifies a chain of 100,000 entries, as the first use of a project does.
func BenchmarkLoad(b *testing.B) {
	f := newFixture(b, nil)
	fill(b, f, 100_000, 0)
	b.ResetTimer()
	for range b.N {
		f.close()
		f.open(nil)
		if seq, _, err := f.Head(context.Background(), uid); err != nil || seq != 100_000 {
			b.Fatalf("seq %d, %v", seq, err)
		}
	}
	b.ReportMetric(100_000*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}

// BenchmarkVerify verifies an export of 10,000 entries and 1,000 documents of 10 KB.
func BenchmarkVerify(b *testing.B) {
	f := newFixture(b, nil)
	fill(b, f, 10_000, 1000)
	dir := filepath.Join(b.TempDir(), "export")
	if err := f.Export(context.Background(), uid, dir, nil, nil); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	for range b.N {
		if r, err := Verify(dir, Trust{}); err != nil || !r.OK() || r.Documents != 1000 {
			b.Fatalf("%+v, %v", r, err)
		}
	}
	b.ReportMetric(10_000*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}

// fill writes entries straight to the store, the first so many with a document.
func fill(b *testing.B, f *fixture, entries, documents int) {
	b.Helper()
	hash := Genesis(uid)
	var lines [][]byte
	for n := 1; n <= entries; n++ {
		x := benchFact(int64(n))
		data, err := canonicalData(x.Data)
		if err != nil {
			b.Fatal(err)
		}
		e := Entry{Seq: int64(n), Prev: hash, Time: time.Unix(int64(n), 0).UTC(), Project: x.Project, ProjectUID: x.ProjectUID,
			Kind: x.Kind, Subject: x.Subject, Actor: x.Actor, Data: data}
		if n <= documents {
			stored, err := f.store.Put(context.Background(), fmt.Appendf(nil, "%010000d", n))
			if err != nil {
				b.Fatal(err)
			}
			e.Blobs = []BlobRef{{Name: "report", Hash: stored}}
		}
		line, err := e.canonical()
		if err != nil {
			b.Fatal(err)
		}
		parsed, err := parseEntry(line)
		if err != nil {
			b.Fatal(err)
		}
		hash = parsed.Hash
		lines = append(lines, line)
		if len(lines) == 5000 || n == entries {
			if err := f.store.Append(context.Background(), uid, int64(n-len(lines)+1), lines); err != nil {
				b.Fatal(err)
			}
			lines = lines[:0]
		}
	}
}

func benchFact(n int64) Fact {
	return Fact{Project: "shop", ProjectUID: uid, Kind: KindVerdict, Subject: fmt.Sprintf("verdict/%s/%d", uid, n), Actor: "sirrat",
		Data: map[string]any{"gate": "qa", "verdict": "Open", "criteria": []string{"tests: 120 of 120 passed", "coverage: 87 of 80"},
			"karma": json.Number(fmt.Sprint(n % 100))}}
}
