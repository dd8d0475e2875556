// SPDX-License-Identifier: Apache-2.0

package harbor

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"gitlab.com/dynors/sirrat/internal/egress"
)

var account = Account{Username: "robot$shop+scans", Password: "c0rrect-horse"}

// serve runs a Harbor that answers with h, and is a client of it.
func serve(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	server := httptest.NewTLSServer(h)
	t.Cleanup(server.Close)
	c, err := New(server.URL, account, server.Client().Transport)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func answer(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body))
}

func get(out any) call {
	return call{doing: "look", method: http.MethodGet, path: "/projects/shop", out: out}
}

func TestAddresses(t *testing.T) {
	for _, address := range []string{"", "harbor.example", "http://harbor.example", "https://", "https://robot:c0rrect-horse@harbor.example",
		"https://harbor.example?x=1", "https://harbor.example#x", "https:harbor.example", "ftp://harbor.example", "https://har bor"} {
		_, err := New(address, account, http.DefaultTransport)
		if err == nil {
			t.Errorf("%q is taken", address)
		} else if strings.Contains(err.Error(), account.Password) {
			t.Errorf("%q: the password is told: %v", address, err)
		}
	}
	for _, nobody := range []Account{{}, {Username: "robot$shop+scans"}, {Password: "c0rrect-horse"}} {
		if _, err := New("https://harbor.example", nobody, http.DefaultTransport); err == nil {
			t.Errorf("nobody asks: %q", nobody.Username)
		}
	}
	if _, err := New("https://harbor.example", account, nil); err == nil { // net/http would connect to anything in its place
		t.Error("no transport decides what may be connected to")
	}
}

// A request says who asks, and every one of its names stays one segment of the path.
func TestRequest(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		user, password, ok := r.BasicAuth()
		if !ok || user != account.Username || password != account.Password {
			answer(w, http.StatusUnauthorized, `{}`)
			return
		}
		if want := "/api/v2.0/projects/sh%2Fop/repositories/team%252Fapi"; r.URL.EscapedPath() != want {
			t.Errorf("asked for %s, not %s", r.URL.EscapedPath(), want)
		}
		var in map[string]int
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in["policy_id"] != 7 || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("body %v, %v", in, err)
		}
		answer(w, http.StatusOK, `{"name":"shop"}`)
	})
	var out struct{ Name string }
	_, err := c.do(t.Context(), call{method: http.MethodPost, path: "/projects/" + segment("sh/op") + "/repositories/" + repositorySegment("team/api"), in: map[string]int{"policy_id": 7}, out: &out})
	if err != nil || out.Name != "shop" {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestProblems(t *testing.T) {
	at := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		status int
		header map[string]string
		body   string
		kind   Kind
		until  time.Duration
		text   string
	}{
		{401, nil, `{"errors":[{"code":"UNAUTHORIZED","message":"unauthorized"}]}`, KindDenied, 0, "(401, UNAUTHORIZED unauthorized)"},
		{403, nil, `{"errors":[{"code":"FORBIDDEN","message":"\u001b[31mno\n"}]}`, KindDenied, 0, "(403, FORBIDDEN [31mno)"},
		{500, nil, `{"errors":[{"code":"X","message":"` + strings.Repeat("x", maxSaid-8) + account.Password + `"}]}`, KindFailed, 0, "xxx…"},
		{500, nil, `{"errors":[{"code":"X","message":"you sent Basic ` + base64.StdEncoding.EncodeToString([]byte(account.Username+":"+account.Password)) + `"}]}`, KindFailed, 0, "you sent Basic …"},
		{404, nil, `<html>`, KindNotFound, 0, "(404)"},
		{409, nil, `{}`, KindConflict, 0, "(409)"},
		{412, nil, `{}`, KindRefused, 0, "(412)"},
		{429, map[string]string{"Retry-After": "30"}, `{}`, KindBusy, 30 * time.Second, "(429)"},
		{503, map[string]string{"Retry-After": "99999999"}, `{}`, KindBusy, maxRetryAfter, "(503)"},
		{503, map[string]string{"Retry-After": "99999999999999999999"}, `{}`, KindBusy, maxRetryAfter, "(503)"},
		{503, map[string]string{"Retry-After": at.Add(time.Minute).Format(http.TimeFormat)}, `{}`, KindBusy, time.Minute, "(503)"},
		{503, map[string]string{"Retry-After": "soon"}, `{}`, KindBusy, 0, "(503)"},
		{502, nil, strings.Repeat("x", 1<<20), KindFailed, 0, "(502)"},
		{302, map[string]string{"Location": "https://elsewhere.example/"}, ``, KindFailed, 0, "(302)"},
		{200, map[string]string{"Content-Type": "text/html"}, `{}`, KindUnreadable, 0, "no JSON"},
		{200, nil, `{"name":1}`, KindUnreadable, 0, "another form"},
		{200, nil, `{"name":"a"}{}`, KindUnreadable, 0, "another form"},
		{200, nil, strings.Repeat("[", 100_000), KindUnreadable, 0, "another form"},
		{200, nil, `{"name":"` + strings.Repeat("a", maxAnswer) + `"}`, KindUnreadable, 0, "larger than 1024 KiB"},
	} {
		t.Run(fmt.Sprintf("%d %s", c.status, c.text), func(t *testing.T) {
			client := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				for k, v := range c.header {
					w.Header().Set(k, v)
				}
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.body))
			})
			client.now = func() time.Time { return at }
			var out struct{ Name string }
			_, err := client.do(t.Context(), get(&out))
			var p *Problem
			if !errors.As(err, &p) || p.Kind != c.kind || !strings.Contains(p.Error(), c.text) || !strings.HasPrefix(p.Error(), "look: ") {
				t.Fatalf("%#v", err)
			}
			if want := at.Add(c.until); c.until == 0 && !p.Until.IsZero() || c.until != 0 && !p.Until.Equal(want) {
				t.Errorf("until %s", p.Until)
			}
			if strings.Contains(p.Error(), account.Password[:6]) {
				t.Errorf("the password is told: %v", p)
			}
		})
	}
}

// Names are told apart by what follows Harbor's own prefix, whatever that is configured to be.
func TestOwnName(t *testing.T) {
	for full, want := range map[string]string{
		"robot$shop+mine-1": "mine-1", "robot$mine-1": "mine-1", "bot-mine-1": "mine-1", "mine-1": "mine-1", "bot-shop+mine-1": "mine-1",
		"robot$shop+keep-mine-1": "", "robot$theirs-1": "", "theirs": "", "": "",
	} {
		if got := ownName(full, "mine-"); got != want {
			t.Errorf("%q: %q, want %q", full, got, want)
		}
	}
}

// Who is not on the first page is no less there: what is not listed is taken to be gone.
func TestRobotsOnSeveralPages(t *testing.T) {
	const total = 2*pageSize + 1
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var page int
		_, _ = fmt.Sscan(r.URL.Query().Get("page"), &page)
		var robots []Robot
		for i := (page - 1) * pageSize; i < min(page*pageSize, total); i++ {
			robots = append(robots, Robot{ID: int64(i + 1), Name: fmt.Sprintf("robot$mine-%03d", i)})
		}
		w.Header().Set("X-Total-Count", fmt.Sprint(total))
		text, _ := json.Marshal(robots)
		answer(w, http.StatusOK, string(text))
	})
	robots, err := c.Robots(t.Context(), []string{"cache", "shop"}, "mine-")
	if err != nil || len(robots) != total {
		t.Errorf("%d, %v", len(robots), err)
	}
}

// What went wrong is told, each call's own leniency apart: an error that is swallowed says that something was done, or is not there.
func TestRefusedCalls(t *testing.T) {
	status := http.StatusForbidden
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/replication/policies") && r.URL.Query().Get("name") != "denied" {
			answer(w, http.StatusOK, `[{"id":7,"name":"to-client","enabled":true},{"id":8,"name":"off"}]`)
			return
		}
		answer(w, status, `{}`)
	})
	repository := Repository{"shop", "api"}
	for name, call := range map[string]func() error{
		"scan":      func() error { return c.Scan(t.Context(), repository, "sha256:"+strings.Repeat("1", 64)) },
		"delete":    func() error { return c.DeleteRobot(t.Context(), 1) },
		"replicate": func() error { return c.Replicate(t.Context(), "to-client") },
		"copied": func() error {
			_, err := c.Replicated(t.Context(), "to-client", time.Time{}, []Repository{repository})
			return err
		},
		"robots": func() error {
			_, err := c.Robots(t.Context(), []string{"a", "b"}, "mine-")
			return err
		},
	} {
		if err := call(); !IsKind(err, KindDenied) || IsKind(err, KindNotFound) || IsKind(err, KindConflict) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, policy := range []string{"off", "nobody's"} {
		if err := c.Replicate(t.Context(), policy); err == nil || IsKind(err, KindDenied) {
			t.Errorf("%s is started: %v", policy, err)
		}
	}
}

// What counts as a copy of a repository is a task that copies it, whole and by that name.
func TestCopies(t *testing.T) {
	for _, c := range []struct {
		operation, resource string
		want                bool
	}{
		{"copy", "shop/api [2 item(s) in total]", true}, {"", "shop/api:[v1]", true}, {"copy", "shop/api", true},
		{"deletion", "shop/api [2 item(s) in total]", false}, {"copy", "shop/api2 [1 item(s) in total]", false}, {"copy", "shop/api/web", false},
		{"copy", "", false}, {"copy", "other/shop/api", false},
	} {
		task := taskAnswer{Status: succeeded, Operation: c.operation, SrcResource: c.resource}
		if got := task.copies(Repository{"shop", "api"}); got != c.want {
			t.Errorf("%s %q: %t", c.operation, c.resource, got)
		}
	}
}

// A redirect is never followed: the password would go along.
func TestNoRedirect(t *testing.T) {
	reached := make(chan struct{}, 1)
	elsewhere := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached <- struct{}{} }))
	defer elsewhere.Close()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
	})
	if _, err := c.do(t.Context(), get(nil)); !IsKind(err, KindFailed) {
		t.Errorf("%v", err)
	}
	select {
	case <-reached:
		t.Error("the redirect was followed")
	default:
	}
}

func TestNoAnswer(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer server.Close()
	c, err := New(server.URL, account, server.Client().Transport)
	if err != nil {
		t.Fatal(err)
	}
	c.timeout = 50 * time.Millisecond
	if _, err := c.do(t.Context(), get(nil)); !IsKind(err, KindFailed) || !strings.Contains(err.Error(), "did not answer in full") {
		t.Errorf("slow: %v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.do(gone, get(nil)); err == nil || IsKind(err, KindFailed) {
		t.Errorf("whoever asked is gone: %v", err)
	}

	strange, err := New(server.URL, account, http.DefaultTransport.(*http.Transport).Clone())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := strange.do(t.Context(), get(nil)); !IsKind(err, KindFailed) || !strings.Contains(err.Error(), "ca.crt") {
		t.Errorf("untrusted: %v", err)
	}

	dialer := egress.Guard{}.Dialer()
	guarded, err := New(server.URL, account, egress.Transport(&dialer))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := guarded.do(t.Context(), get(nil)); !IsKind(err, KindBlocked) || !strings.Contains(err.Error(), "--allow-private-addresses") {
		t.Errorf("guarded: %v", err)
	}
}

func TestList(t *testing.T) {
	total := 250
	counted := true
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var page, size int
		_, _ = fmt.Sscan(r.URL.Query().Get("page"), &page)
		_, _ = fmt.Sscan(r.URL.Query().Get("page_size"), &size)
		if size != pageSize || r.URL.Query().Get("policy_id") != "7" {
			t.Errorf("asked for %s", r.URL.RawQuery)
		}
		items := []int{}
		for i := (page - 1) * size; i < min(page*size, total); i++ {
			items = append(items, i)
		}
		if counted {
			w.Header().Set("X-Total-Count", fmt.Sprint(total))
		}
		text, _ := json.Marshal(items)
		answer(w, http.StatusOK, string(text))
	})
	read := func(stop int) (seen int, err error) {
		r := get(nil)
		r.query = map[string][]string{"policy_id": {"7"}}
		err = list(t.Context(), c, r, func(page []int) bool {
			seen += len(page)
			return seen >= stop
		})
		return seen, err
	}
	for _, counted = range []bool{true, false} {
		if seen, err := read(1 << 30); err != nil || seen != total {
			t.Errorf("%d, %v", seen, err)
		}
		if seen, err := read(1); err != nil || seen != pageSize {
			t.Errorf("enough: %d, %v", seen, err)
		}
	}
	total = maxPages*pageSize + 1
	if _, err := read(1 << 30); !IsKind(err, KindUnreadable) {
		t.Errorf("too long: %v", err)
	}
}
