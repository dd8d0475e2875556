// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// BenchmarkResults posts distinct results over HTTP to an API on the real control plane, in this process with its clients, and
// prints how many were acknowledged durably in a second, how long the slowest hundredth took, and the processor time that all of
// it (clients, API, API server, etcd) took, which other load on the machine changes least. Ten results make a commit, so
// one in ten creates a Release as well.
//
//	go test -run '^$' -bench Results -benchtime 5s ./internal/ingest
func BenchmarkResults(b *testing.B) {
	for _, clients := range []int{8, 32, 128} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) { benchmarkResults(b, clients) })
	}
}

func benchmarkResults(b *testing.B, clients int) {
	br := newBridge(b, false, func(o *Options) { o.Log = o.Log.V(10) }) // no log lines
	var next atomic.Int64
	var mu sync.Mutex
	var all []time.Duration
	br.mustPost(br.results()+"?wait=0", result(commitOf("fffffff"), ""), http.StatusAccepted)
	cpu := cpuTime(b)
	b.ResetTimer()
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			var took []time.Duration
			for {
				i := next.Add(1) - 1
				if i >= int64(b.N) {
					break
				}
				body := result(fmt.Sprintf("%07x%033x", i/10, clients), fmt.Sprintf(`"pipeline":%d`, i))
				start := time.Now()
				if status, raw := br.do(http.MethodPost, br.results()+"?wait=0", br.token, body); status != http.StatusAccepted {
					b.Errorf("%d %s", status, raw)
					break
				}
				took = append(took, time.Since(start))
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
		})
	}
	wg.Wait()
	b.StopTimer()
	cpu = cpuTime(b) - cpu
	if len(all) == 0 {
		return
	}
	slices.Sort(all)
	b.ReportMetric(float64(len(all))/b.Elapsed().Seconds(), "results/s")
	b.ReportMetric(float64(cpu.Microseconds())/1000/float64(len(all)), "cpu-ms/result")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, "p50-ms")
}

// cpuTime is the processor time that this process has used.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
