// SPDX-License-Identifier: Apache-2.0

package harbor_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"gitlab.com/dynors/sirrat/internal/harbor"
	"gitlab.com/dynors/sirrat/internal/pullcreds/pullcredstest"
)

func newHarbor(t *testing.T) (*harbor.Client, *pullcredstest.Provider) {
	t.Helper()
	p := pullcredstest.NewHarbor(t, time.Now, "shop", "cache")
	c, err := harbor.New(p.URL, harbor.Account{Username: pullcredstest.Username, Password: pullcredstest.Password}, p.Transport())
	if err != nil {
		t.Fatal(err)
	}
	return c, p
}

// Robot accounts may pull from the named projects alone, and end: after a day at least, since Harbor counts in days.
func TestRobots(t *testing.T) {
	c, p := newHarbor(t)
	for _, x := range []struct {
		projects []string
		lifetime time.Duration
		user     string
		days     int
		scopes   []string
	}{
		{[]string{"shop"}, time.Hour, "robot$shop+mine-0", 1, []string{"repository:pull shop"}},
		{[]string{"shop"}, 24 * time.Hour, "robot$shop+mine-1", 1, []string{"repository:pull shop"}},
		{[]string{"shop"}, 25 * time.Hour, "robot$shop+mine-2", 2, []string{"repository:pull shop"}},
		{[]string{"cache", "shop"}, 720 * time.Hour, "robot$mine-3", 30, []string{"repository:pull cache", "repository:pull shop"}},
	} {
		name := x.user[strings.Index(x.user, "mine"):]
		r, err := c.CreatePuller(t.Context(), name, x.projects, x.lifetime)
		if err != nil || r.Name != x.user || !p.Takes(r.Name, r.Secret) {
			t.Fatalf("%v, %v", r, err)
		}
		made := p.Made()[len(p.Made())-1]
		if !slices.Equal(made.Scopes, x.scopes) || !r.ExpiresAt().Equal(made.Expires) {
			t.Errorf("%+v", made)
		}
		if left := time.Until(r.ExpiresAt()).Round(time.Hour); left != time.Duration(x.days)*24*time.Hour {
			t.Errorf("%s ends in %s", r.Name, left)
		}
		if text := fmt.Sprintf("%v %+v %#v", r, r, r); strings.Contains(text, r.Secret) {
			t.Errorf("it shows its secret: %s", text)
		}
	}
	if _, err := c.CreatePuller(t.Context(), "other-1", []string{"shop"}, time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreatePuller(t.Context(), "mine-0", []string{"shop"}, time.Hour); !harbor.IsKind(err, harbor.KindConflict) {
		t.Errorf("the same name again: %v", err)
	}
	for _, projects := range [][]string{{"shop"}, {"shop", "cache"}} { // whose names hold the prefix, and do not begin with it
		if _, err := c.CreatePuller(t.Context(), "keep-mine-0", projects, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	list, err := c.Robots(t.Context(), []string{"shop"}, "mine-")
	if err != nil || len(list) != 3 || list[0].Name != "mine-0" || list[2].Name != "mine-2" {
		t.Errorf("%v, %v", list, err)
	}
	if list, err := c.Robots(t.Context(), []string{"cache", "shop"}, "mine-"); err != nil || len(list) != 1 || list[0].Name != "mine-3" {
		t.Errorf("of the system: %v, %v", list, err)
	}
	for range 2 { // one that is gone is no error
		if err := c.DeleteRobot(t.Context(), list[0].ID); err != nil {
			t.Error(err)
		}
	}
	if n := len(p.Live()); n != 6 {
		t.Errorf("%d are left", n)
	}
	if _, err := c.Robots(t.Context(), []string{"elsewhere"}, "mine-"); !harbor.IsKind(err, harbor.KindNotFound) {
		t.Errorf("no such project: %v", err)
	}
}

// A Harbor whose answer cannot be right is not believed.
func TestRobotNotBelieved(t *testing.T) {
	c, p := newHarbor(t)
	for _, body := range []string{
		`{"id":1,"name":"robot$shop+mine","secret":"s","expires_at":-1}`, // for ever
		`{"id":1,"name":"robot$shop+mine","secret":"","expires_at":1900000000}`,
		`{"id":0,"name":"robot$shop+mine","secret":"s","expires_at":1900000000}`,
		`{"id":1,"name":"robot$shop+theirs","secret":"s","expires_at":1900000000}`,
	} {
		p.Misbehave(func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusCreated)
			fmt.Fprint(w, body)
			return true
		})
		if r, err := c.CreatePuller(t.Context(), "mine", []string{"shop"}, time.Hour); !harbor.IsKind(err, harbor.KindUnreadable) || r.Secret != "" {
			t.Errorf("%s: %v, %v", body, r, err)
		}
	}
	for _, body := range []string{`{"project_id":2,"name":"another"}`, `{"project_id":0,"name":"shop"}`, `{"name":"shop"}`} {
		p.Misbehave(func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Content-Type", "application/json")
			if strings.HasSuffix(r.URL.Path, "/robots") {
				fmt.Fprint(w, `[]`)
			} else {
				fmt.Fprint(w, body)
			}
			return true
		})
		if robots, err := c.Robots(t.Context(), []string{"shop"}, "mine"); !harbor.IsKind(err, harbor.KindUnreadable) {
			t.Errorf("%s: %v, %v", body, robots, err)
		}
	}
}
