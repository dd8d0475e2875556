// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"gitlab.com/dynors/sirrat/internal/registry"
	"gitlab.com/dynors/sirrat/internal/registry/registrytest"
)

// BenchmarkPromote gives an image for two architectures one tag after the other, in Debian's docker-registry: how many a second,
// and what each takes.
func BenchmarkPromote(b *testing.B) {
	for _, c := range []struct {
		name string
		o    registrytest.Options
	}{
		{"htpasswd", registrytest.Options{Auth: registrytest.Htpasswd}},
		{"token", registrytest.Options{Auth: registrytest.Token}},
		{"token-tls", registrytest.Options{Auth: registrytest.Token, TLS: true}},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := registrytest.Start(b, c.o)
			index := r.Push(repository, "dev-a1b2c3d")
			client, err := registry.New(r.DockerConfig(), r.CA())
			if err != nil {
				b.Fatal(err)
			}
			if _, err := client.Pin(b.Context(), r.Host+"/"+repository+":dev-a1b2c3d"); err != nil {
				b.Fatal(err)
			}
			var number atomic.Int64
			promote := func() error {
				return client.Tag(b.Context(), registry.Tagging{Repository: r.Host + "/" + repository, Digest: index, Tag: fmt.Sprintf("v1.0.%d", number.Add(1))})
			}
			if err := promote(); err != nil { // which logs in
				b.Fatal(err)
			}
			r.Take()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) { // as releases are judged: several at a time
				for pb.Next() {
					if err := promote(); err != nil {
						b.Error(err)
					}
				}
			})
			b.StopTimer()
			got := cost(r.Take())
			n := float64(b.N)
			b.ReportMetric(n/b.Elapsed().Seconds(), "promotions/s")
			b.ReportMetric(float64(got.manifests+got.blobs+got.logins)/n, "requests/promotion")
			b.ReportMetric(float64(got.sent+got.received)/n, "bytes/promotion")
			b.ReportMetric(float64(got.blobs), "blobs")
		})
	}
}

// BenchmarkPromoteElsewhere copies releases that share their base into another registry: the bytes that each has to send, and
// how fast they move.
func BenchmarkPromoteElsewhere(b *testing.B) {
	from, to := registrytest.Start(b, registrytest.Options{}), registrytest.Start(b, registrytest.Options{})
	source, err := registry.New(nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	const base, own = 16 << 20, 1 << 20
	shared := registrytest.Layer(b, base)
	var moved int64
	promote := func(i int) {
		digest := from.PushLayers(repository, fmt.Sprintf("dev-%07d", i), own, shared)
		images := []registry.Copying{{Source: from.Host + "/" + repository, Destination: to.Host + "/" + mirrored, Digest: digest}}
		b.StartTimer()
		done, err := registry.Copy(b.Context(), source, source, images, nil)
		b.StopTimer()
		if err != nil {
			b.Fatal(err)
		}
		moved += done.Moved
	}
	b.StopTimer()
	promote(0) // the base
	b.ResetTimer()
	b.StopTimer()
	moved = 0
	to.Take()
	for i := range b.N {
		promote(i + 1)
	}
	got := cost(to.Take())
	n := float64(b.N)
	b.ReportMetric(n/b.Elapsed().Seconds(), "promotions/s")
	b.ReportMetric(float64(moved)/1e6/b.Elapsed().Seconds(), "MB/s")
	b.ReportMetric(float64(moved)/n, "layer-bytes/promotion")
	b.ReportMetric(float64(got.manifests+got.blobs+got.logins)/n, "requests/promotion")
}
