// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

func TestTryHTTP(t *testing.T) {
	for name, c := range map[string]struct {
		code int
		body string
		want string
	}{
		"plain":              {200, "ok", ""},
		"empty":              {200, "", ""},
		"up":                 {200, `{"status":"UP","components":{}}`, ""},
		"JSON without":       {200, `{"name":"app"}`, ""},
		"JSON list":          {200, `["UP"]`, ""},
		"down":               {200, `{"status":"DOWN"}`, `has status "DOWN"`},
		"out of service":     {200, `{"status":"OUT_OF_SERVICE"}`, "OUT_OF_SERVICE"},
		"status is a number": {200, `{"status":200}`, `has status "200"`},
		"unavailable":        {503, `{"status":"UP"}`, "answers 503"},
		"created":            {201, "", "answers 201"},
		"redirect":           {302, "", "answers 302"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(c.code)
				fmt.Fprint(w, c.body)
			}))
			defer server.Close()
			err := tryHTTP(t.Context(), server.URL)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// A check succeeds after that many successes in a row, and fails when its time, which begins with healthy containers, is over.
func TestChecks(t *testing.T) {
	var tries atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if n := tries.Add(1); n <= 2 || n == 4 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	fast := metav1.Duration{Duration: time.Millisecond}
	c := startChecks(t.Context(), []v1alpha1.HealthCheck{
		{HTTP: &v1alpha1.HTTPCheck{URL: server.URL}, Interval: fast, Successes: 2},
		{TCP: &v1alpha1.TCPCheck{Address: listener.Addr().String()}, Interval: fast, Successes: 1},
	}, nil)
	c.begin(time.Now())
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for pending := true; pending; {
		var message string
		if message, pending, err = c.result(time.Now()); err != nil {
			t.Fatal(err)
		}
		if !pending {
			break
		}
		select {
		case <-c.changed:
		case <-ctx.Done():
			t.Fatal(message)
		}
	}
	if n := tries.Load(); n != 6 {
		t.Errorf("%d tries, want two failures, a success, a failure, two successes", n)
	}
	if !c.deadline().IsZero() {
		t.Errorf("a deadline without a check: %s", c.deadline())
	}

	closed := listener.Addr().String()
	listener.Close()
	late := startChecks(t.Context(), []v1alpha1.HealthCheck{{TCP: &v1alpha1.TCPCheck{Address: closed}, Interval: fast, Timeout: metav1.Duration{Duration: time.Minute}}}, nil)
	now := time.Now()
	if _, pending, err := late.result(now.Add(time.Hour)); !pending || err != nil {
		t.Errorf("before the containers are healthy: %t, %v", pending, err)
	}
	late.begin(now)
	if _, pending, err := late.result(now.Add(time.Minute - 1)); !pending || err != nil {
		t.Errorf("within its time: %t, %v", pending, err)
	}
	if _, _, err := late.result(now.Add(time.Minute)); err == nil || !strings.Contains(err.Error(), "not passed within 1m0s") {
		t.Errorf("after its time: %v", err)
	}
	if !late.deadline().Equal(now.Add(time.Minute)) {
		t.Errorf("deadline %s", late.deadline())
	}
}

func TestRedact(t *testing.T) {
	secrets := map[string]string{"A": "hunter2hunter2", "B": "hunter2", "C": "on", "PEM": "-----BEGIN\nabcdefgh\n-----END\n", "EMPTY": ""}
	for text, want := range map[string]string{
		"password=hunter2hunter2;": "password=[redacted];",
		"hunter2 on":               "[redacted] on",
		"key: abcdefgh":            "key: [redacted]",
		"nothing":                  "nothing",
	} {
		if got := redact(text, secrets); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}

func TestPrintable(t *testing.T) {
	if got := printable("a\tb\x1b[31mred\x07\u202egpj.exe\u2066\u009bé→"); got != "a b[31mredgpj.exeé→" {
		t.Errorf("%q", got)
	}
	if got := shorten(strings.Repeat("é", maxMessage) + "\n"); len(got) > maxMessage+3 || !strings.HasSuffix(got, "é…") {
		t.Errorf("%d bytes, ends %q", len(got), got[len(got)-8:])
	}
}

// What a fleet does again comes early by a share that differs from agent to agent, and never late.
func TestEarly(t *testing.T) {
	different := map[time.Duration]bool{}
	for range 1000 {
		wait := early(time.Minute)
		if wait > time.Minute || wait < 48*time.Second {
			t.Fatalf("%s", wait)
		}
		different[wait/time.Second] = true
	}
	if len(different) < 10 {
		t.Errorf("only the seconds %v", different)
	}
}
