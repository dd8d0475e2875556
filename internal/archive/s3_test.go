// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"gitlab.com/dynors/sirrat/internal/envelope"
)

// startS3 is an S3 server in the process, with an empty bucket.
func startS3(t *testing.T) S3Options {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("archive"); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(gofakes3.New(backend).Server())
	t.Cleanup(server.Close)
	return S3Options{Endpoint: server.URL, Region: "eu-west-1", Bucket: "archive", Prefix: "sirrat/", AccessKey: "key", SecretKey: "canary-secret"}
}

func openS3(t *testing.T, o S3Options) *S3 {
	t.Helper()
	s, err := OpenS3(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestS3(t *testing.T) {
	o := startS3(t)
	testStore(t, openS3(t, o))
	openS3(t, o) // again
}

func TestS3History(t *testing.T) {
	o := startS3(t)
	open := func() Store {
		s, err := OpenS3(context.Background(), o)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	testHistory(t, open, func(Store) Store { return open() })
}

func TestS3ReadsManyObjects(t *testing.T) {
	s := openS3(t, startS3(t))
	var want []string
	for i := range 3*readAhead + 1 {
		want = append(want, fmt.Sprint(i))
		if err := s.Append(t.Context(), "log", int64(i+1), lines(want[i])); err != nil {
			t.Fatal(err)
		}
	}
	for _, from := range []int{1, 2, readAhead, readAhead + 1, 3*readAhead + 1} {
		if got, err := readAll(t.Context(), s, "log", int64(from)); err != nil || !slices.Equal(got, want[from-1:]) {
			t.Errorf("from %d: %v, %v", from, got, err)
		}
	}
}

// TestFencing lets two stores write the same sequences at the same time: each has one winner.
func TestFencing(t *testing.T) {
	o := startS3(t)
	a, b := openS3(t, o), openS3(t, o)
	for seq := int64(1); seq <= 20; seq++ {
		var won atomic.Int32
		var wg sync.WaitGroup
		for name, s := range map[string]*S3{"a": a, "b": b} {
			wg.Go(func() {
				err := s.Append(t.Context(), "log", seq, lines(fmt.Sprintf(`"%s%d"`, name, seq)))
				if err == nil {
					won.Add(1)
				} else if !errors.Is(err, ErrConflict) {
					t.Errorf("append at %d: %v", seq, err)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Fatalf("%d writers of line %d", won.Load(), seq)
		}
	}
	if got, err := readAll(t.Context(), a, "log", 1); err != nil || len(got) != 20 {
		t.Errorf("%d lines, %v", len(got), err)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestLostAnswer loses the answer to an append: the client asks again and finds its own object.
func TestLostAnswer(t *testing.T) {
	o := startS3(t)
	var lost atomic.Bool
	o.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
		answer, err := http.DefaultTransport.RoundTrip(r)
		if err == nil && r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/journal/") && lost.CompareAndSwap(false, true) {
			_ = answer.Body.Close()
			return nil, errors.New("connection reset by peer")
		}
		return answer, err
	})
	s := openS3(t, o)
	if err := s.Append(t.Context(), "log", 1, lines("1")); err != nil || !lost.Load() {
		t.Errorf("lost %v: %v", lost.Load(), err)
	}
}

func TestOpenS3Refuses(t *testing.T) {
	o := startS3(t)
	ignores := o
	ignores.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
		r.Header.Del("If-None-Match")
		return http.DefaultTransport.RoundTrip(r)
	})
	if _, err := OpenS3(t.Context(), ignores); !errors.Is(err, ErrNoFencing) {
		t.Errorf("a server that overwrites: %v", err)
	}
	missing := o
	missing.Bucket = "missing"
	_, err := OpenS3(t.Context(), missing)
	if err == nil || strings.Contains(err.Error(), o.SecretKey) {
		t.Errorf("a bucket that does not exist: %v", err)
	}
	for _, endpoint := range []string{"", "s3.example.org", "ftp://s3.example.org", "https://s3.example.org/bucket", "https://", "https://a\x00"} {
		bad := o
		bad.Endpoint = endpoint
		if _, err := OpenS3(t.Context(), bad); err == nil {
			t.Errorf("endpoint %q", endpoint)
		}
	}
}

func TestS3DamagedObject(t *testing.T) {
	s := openS3(t, startS3(t))
	hash := envelope.Hash([]byte("report"))
	name, err := ObjectPath(hash)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.create(t.Context(), name, []byte("Report")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), hash); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Get: %v", err)
	}
	if err := s.Append(t.Context(), "log", 1, lines("1")); err != nil {
		t.Fatal(err)
	}
	if err := s.create(t.Context(), "journal/log/"+segmentName(3), []byte("3\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := readAll(t.Context(), s, "log", 1); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "after line 1") {
		t.Errorf("a gap: %v", err)
	}
}
