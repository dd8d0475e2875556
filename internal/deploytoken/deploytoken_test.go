// SPDX-License-Identifier: Apache-2.0

package deploytoken_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"gitlab.com/dynors/sirrat/internal/deploytoken"
	"gitlab.com/dynors/sirrat/internal/egress"
	"gitlab.com/dynors/sirrat/internal/pullcreds/pullcredstest"
)

func api(p *pullcredstest.Provider) deploytoken.API {
	return deploytoken.API{URL: p.URL + "/", Project: "dynors/shop", Token: pullcredstest.Password, Transport: p.Transport()}
}

func TestTokens(t *testing.T) {
	p := pullcredstest.NewGitLab(t, time.Now, "dynors/shop")
	d, ends := api(p), time.Now().Add(24*time.Hour)
	for i := range 105 { // more than a page
		if _, err := d.Create(t.Context(), fmt.Sprintf("mine-%03d", i), ends); err != nil {
			t.Fatal(err)
		}
	}
	made, err := d.Create(t.Context(), "theirs", ends)
	if err != nil || !p.Takes(made.Username, made.Token) || !slices.Equal(made.Scopes, []string{deploytoken.ScopeReadRegistry}) || !made.ExpiresAt.Equal(ends.Truncate(time.Second)) {
		t.Fatalf("%v, %v", made, err)
	}
	if text := fmt.Sprintf("%v %+v %#v", made, made, made); strings.Contains(text, made.Token) {
		t.Errorf("it shows its token: %s", text)
	}
	list, complete, err := d.List(t.Context(), "mine-")
	if err != nil || !complete || len(list) != 105 || list[104].Name != "mine-104" || list[0].Token != "" {
		t.Fatalf("%d, %v, %v", len(list), complete, err)
	}
	for range 2 { // one that is gone is no error
		if err := d.Delete(t.Context(), made.ID); err != nil {
			t.Error(err)
		}
	}
	if p.Takes(made.Username, made.Token) {
		t.Error("it still works")
	}
}

func TestFailures(t *testing.T) {
	p := pullcredstest.NewGitLab(t, time.Now, "dynors/shop")
	fails := func(what string, d deploytoken.API, want error) {
		t.Helper()
		_, err := d.Create(t.Context(), "x", time.Now().Add(time.Hour))
		_, _, err2 := d.List(t.Context(), "x")
		for _, err := range []error{err, err2, d.Delete(t.Context(), 1)} {
			if err == nil || want != nil && !errors.Is(err, want) || strings.Contains(err.Error(), pullcredstest.Password) {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	d := api(p)
	d.Token = "wrong"
	fails("another token", d, deploytoken.ErrDenied)
	d = api(p)
	d.Project = "dynors/other"
	fails("another project", d, deploytoken.ErrNotFound)
	p.Misbehave(pullcredstest.Away) // which repeats the token
	fails("away", api(p), nil)

	dialer := egress.Guard{}.Dialer()
	guarded := api(p)
	guarded.Transport = egress.Transport(&dialer)
	fails("guarded", guarded, egress.ErrBlocked)
	if _, err := guarded.Create(t.Context(), "x", time.Now().Add(time.Hour)); !strings.Contains(err.Error(), "--allow-private-addresses") {
		t.Errorf("guarded: %v", err)
	}
	open := egress.Guard{Private: true}.Dialer()
	guarded.Transport = egress.Transport(&open)
	if _, err := guarded.Create(t.Context(), "x", time.Now().Add(time.Hour)); err == nil || !strings.Contains(err.Error(), "ca.crt") {
		t.Errorf("untrusted: %v", err)
	}

	followed := make(chan struct{}, 1)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed <- struct{}{} }))
	defer elsewhere.Close()
	p.Misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		return true
	})
	fails("redirected", api(p), deploytoken.ErrRejected)
	if len(followed) > 0 {
		t.Error("the token went elsewhere")
	}
	for name, body := range map[string]string{
		"no JSON": "<html>", "another form": `{"id":"x"}`, "without a token": `{"id":1,"username":"u"}`, "large": `{"id":1,"token":"` + strings.Repeat("x", 3<<20) + `"}`,
	} {
		p.Misbehave(func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusCreated)
			fmt.Fprint(w, body)
			return true
		})
		if _, err := api(p).Create(t.Context(), "x", time.Now().Add(time.Hour)); err == nil || len(err.Error()) > 300 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// How long GitLab asks to be left alone is told, within reason.
func TestBusy(t *testing.T) {
	p := pullcredstest.NewGitLab(t, time.Now, "dynors/shop")
	for _, c := range []struct {
		status int
		after  string
		want   time.Duration
	}{{429, "30", 30 * time.Second}, {503, "60", time.Minute}, {429, "99999999", 15 * time.Minute}, {429, "99999999999999999999", 15 * time.Minute}, {429, "Fri, 01 Jan 2996 00:00:00 GMT", 15 * time.Minute}, {429, "-5", 0}, {429, "soon", 0}, {503, "", 0}} {
		p.Misbehave(func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Retry-After", c.after)
			w.WriteHeader(c.status)
			return true
		})
		_, _, err := api(p).List(t.Context(), "x")
		var busy *deploytoken.Busy
		if !errors.As(err, &busy) || busy.After != c.want {
			t.Errorf("%+v: %v, %+v", c, err, busy)
		}
	}
}

// A list without an end is not taken for a whole one.
func TestEndlessList(t *testing.T) {
	p := pullcredstest.NewGitLab(t, time.Now, "dynors/shop")
	pages := 0
	p.Misbehave(func(w http.ResponseWriter, _ *http.Request) bool {
		pages++
		w.Header().Set("X-Next-Page", "2")
		fmt.Fprint(w, `[{"id":1,"name":"x"},{"id":2,"name":"x-revoked","revoked":true}]`)
		return true
	})
	list, complete, err := api(p).List(t.Context(), "x")
	if err != nil || complete || len(list) != pages || pages > 100 {
		t.Errorf("%d of %d pages, %v, %v", len(list), pages, complete, err)
	}
}

// A proxy that drops GitLab's headers does not make a page of many the last one.
func TestPagesWithoutHeaders(t *testing.T) {
	p := pullcredstest.NewGitLab(t, time.Now, "dynors/shop")
	p.Misbehave(func(w http.ResponseWriter, q *http.Request) bool {
		page := []string{}
		for i := range 100 {
			page = append(page, fmt.Sprintf(`{"id":%d,"name":"x"}`, i+1))
		}
		if q.URL.Query().Get("page") == "2" {
			page = page[:3]
		}
		fmt.Fprintf(w, "[%s]", strings.Join(page, ","))
		return true
	})
	if list, complete, err := api(p).List(t.Context(), "x"); err != nil || !complete || len(list) != 103 {
		t.Errorf("%d, %v, %v", len(list), complete, err)
	}
}
