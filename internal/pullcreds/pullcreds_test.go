// SPDX-License-Identifier: Apache-2.0

package pullcreds

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const uid = "0b4f9c3e-5f0e-4b43-9a5d-1f6f3a2c7d11"

var (
	start  = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	target = Target{Host: "vps-1", HostUID: "1", Environment: "dev"}
	other  = Target{Host: "vps-2", HostUID: "2", Environment: "dev"}
	harbor = Source{Provider: "Harbor", URL: "https://harbor.example", Scope: []string{"shop"}, Registry: "harbor.example", SecretRef: "issuer"}
	wider  = Source{Provider: "Harbor", URL: "https://harbor.example", Scope: []string{"cache", "shop"}, Registry: "harbor.example", SecretRef: "issuer"}
)

// recorded is a record with credentials of a target, each issued so long after start.
func recorded(s Source, at ...time.Duration) Record {
	r := Record{ProjectUID: uid}
	for _, after := range at {
		c := r.Intend(target, s, start.Add(after+48*time.Hour))
		r.Issued(c.Number, 100+c.Number, start.Add(after), start.Add(after+24*time.Hour))
	}
	return r
}

// told is a plan in one line.
func told(p Plan) string {
	var out []string
	for _, t := range p.Issue {
		out = append(out, "issue "+t.Host+"/"+t.Environment)
	}
	for _, c := range p.Revoke {
		out = append(out, fmt.Sprintf("revoke %d=%d", c.Number, c.ID))
	}
	for _, c := range p.Forget {
		out = append(out, fmt.Sprintf("forget %d", c.Number))
	}
	for _, l := range p.Strays {
		out = append(out, fmt.Sprintf("stray %d", l.ID))
	}
	if !p.Next.IsZero() {
		out = append(out, "next "+p.Next.Sub(start).String())
	}
	return strings.Join(out, ", ")
}

func TestDecide(t *testing.T) {
	first, second := recorded(harbor, 0), recorded(harbor, 0, 16*time.Hour)
	crowd := recorded(harbor, 0, 40*time.Minute, 80*time.Minute, 2*time.Hour)
	intended := recorded(harbor, 0)
	intended.Intend(target, harbor, start.Add(64*time.Hour))
	// crowdedBy has n credentials for a target, all issued at the start or all only intended; besides adds one of the target of this test.
	crowdedBy := func(t Target, s Source, n int, issued bool) Record {
		r := Record{ProjectUID: uid}
		for range n {
			c := r.Intend(t, s, start.Add(48*time.Hour))
			if issued {
				r.Issued(c.Number, 100+c.Number, start, start.Add(24*time.Hour))
			}
		}
		return r
	}
	besides := func(r Record) Record {
		c := r.Intend(target, harbor, start.Add(48*time.Hour))
		r.Issued(c.Number, 100+c.Number, start, start.Add(24*time.Hour))
		return r
	}
	early := recorded(harbor, 0) // and an hour earlier for another host
	c := early.Intend(other, harbor, start.Add(48*time.Hour))
	early.Issued(c.Number, 100+c.Number, start.Add(-time.Hour), start.Add(23*time.Hour))
	listed := func(numbers ...int64) map[string][]Listed {
		var out []Listed
		for _, n := range numbers {
			out = append(out, Listed{name(uid, target, n), 100 + n})
		}
		return map[string][]Listed{harbor.Key(): out}
	}
	delivered := func(n int64) map[Target]string { return map[Target]string{target: name(uid, target, n)} }
	day := Terms{Lifetime: 24 * time.Hour}
	for _, c := range []struct {
		name  string
		after time.Duration
		in    Input
		want  string
	}{
		{"nothing yet", 0, Input{Record: Record{ProjectUID: uid}, Wanted: []Target{target, other}, Source: &harbor, Terms: day}, "issue vps-1/dev, issue vps-2/dev"},
		{"fresh", time.Hour, Input{Record: first, Wanted: []Target{target}, Source: &harbor, Terms: day, Delivered: delivered(1)}, "next 16h0m0s"},
		{"another host of the name", 0, Input{Record: first, Wanted: []Target{{"vps-1", "9", "dev"}}, Source: &harbor, Terms: day}, "issue vps-1/dev, revoke 1=101"},
		{"a third is left", 16 * time.Hour, Input{Record: first, Wanted: []Target{target}, Source: &harbor, Terms: day, Delivered: delivered(1)}, "issue vps-1/dev"},
		{
			"renewed earlier", 14 * time.Hour,
			Input{Record: first, Wanted: []Target{target}, Source: &harbor, Terms: Terms{24 * time.Hour, 10 * time.Hour}, Delivered: delivered(1)}, "issue vps-1/dev",
		},
		{"expired, and nobody issues another", 90 * time.Hour, Input{Record: first, Wanted: []Target{target}, Source: &harbor, Terms: day, Delivered: delivered(1)}, "issue vps-1/dev"},
		{"just renewed", 16 * time.Hour, Input{Record: second, Wanted: []Target{target}, Source: &harbor, Terms: day, Delivered: delivered(2)}, "next 17h0m0s"},
		{"pulls have ended", 17 * time.Hour, Input{Record: second, Wanted: []Target{target}, Source: &harbor, Terms: day, Delivered: delivered(2)}, "revoke 1=101, next 32h0m0s"},
		{"its Secret was deleted", time.Hour, Input{Record: first, Wanted: []Target{target}, Source: &harbor, Terms: day}, "issue vps-1/dev"},
		{"its Secret holds another", time.Hour, Input{Record: first, Wanted: []Target{target}, Source: &harbor, Terms: day, Delivered: delivered(7)}, "issue vps-1/dev"},
		{"deleted at its source", time.Hour, Input{Record: first, Wanted: []Target{target}, Source: &harbor, Terms: day, Delivered: delivered(1), Listed: listed()}, "issue vps-1/dev"},
		{"there at its source", time.Hour, Input{Record: first, Wanted: []Target{target}, Source: &harbor, Terms: day, Delivered: delivered(1), Listed: listed(1)}, "next 16h0m0s"},
		{"the old one is gone already", 16 * time.Hour, Input{Record: second, Wanted: []Target{target}, Source: &harbor, Terms: day, Delivered: delivered(2), Listed: listed(2)}, "forget 1, next 32h0m0s"},
		{"intended, made, lost", time.Hour, Input{Record: intended, Wanted: []Target{target}, Source: &harbor, Terms: day, Delivered: delivered(1), Listed: listed(1, 2)}, "revoke 2=102, next 16h0m0s"},
		{"in whatever order its source lists them", time.Hour, Input{Record: intended, Wanted: []Target{target}, Source: &harbor, Terms: day, Delivered: delivered(1), Listed: listed(2, 1)}, "revoke 2=102, next 16h0m0s"},
		{"intended, never made", time.Hour, Input{Record: intended, Wanted: []Target{target}, Source: &harbor, Terms: day, Delivered: delivered(1), Listed: listed(1)}, "forget 2, next 16h0m0s"},
		{"intended, nobody knows", time.Hour, Input{Record: intended, Wanted: []Target{target}, Source: &harbor, Terms: day, Delivered: delivered(1)}, "revoke 2=0, next 16h0m0s"},
		{"in no record", time.Hour, Input{Record: first, Wanted: []Target{target}, Source: &harbor, Terms: day, Delivered: delivered(1), Listed: listed(1, 5)}, "stray 105, next 16h0m0s"},
		{
			"somebody else's", time.Hour,
			Input{
				Record: first, Wanted: []Target{target}, Source: &harbor, Terms: day, Delivered: delivered(1),
				Listed: map[string][]Listed{harbor.Key(): {{name(uid, target, 1), 101}, {"sirrat-11111111-vps-1-dev-1", 200}, {"ci", 201}}},
			}, "next 16h0m0s",
		},
		{"another scope", time.Hour, Input{Record: first, Wanted: []Target{target}, Source: &wider, Terms: day, Delivered: delivered(1)}, "issue vps-1/dev"},
		{"not wanted any more", time.Hour, Input{Record: second, Source: &harbor, Terms: day, Delivered: delivered(2)}, "revoke 1=101, revoke 2=102"},
		{"what is declared cannot be used", time.Hour, Input{Record: second, Wanted: []Target{target}, Held: true, Terms: day, Delivered: delivered(2)}, "next 17h0m0s"},
		{"nor can it, and it is not wanted any more", time.Hour, Input{Record: second, Held: true, Terms: day, Delivered: delivered(2)}, "revoke 1=101, revoke 2=102"},
		{"too many are wanted", 16 * time.Hour, Input{Record: first, Wanted: []Target{target, other}, Source: &harbor, Held: true, Terms: day, Delivered: delivered(1)}, ""},
		{"issued by a clock that was ahead", -25 * time.Hour, Input{Record: first, Wanted: []Target{target}, Source: &harbor, Terms: day, Delivered: delivered(1)}, "issue vps-1/dev"},
		{"issued by a clock that is a little ahead", -10 * time.Minute, Input{Record: first, Wanted: []Target{target}, Source: &harbor, Terms: day, Delivered: delivered(1)}, "next 16h0m0s"},
		{
			"its source revokes none", 17 * time.Hour, Input{Record: crowd, Wanted: []Target{target}, Source: &harbor, Terms: Terms{Lifetime: time.Hour}, Delivered: delivered(4)},
			"revoke 1=101, revoke 2=102, revoke 3=103, next 25h0m0s",
		},
		{
			"its source revokes none, and the last one ends", 25 * time.Hour, Input{Record: crowd, Wanted: []Target{target}, Source: &harbor, Terms: Terms{Lifetime: time.Hour}, Delivered: delivered(4)},
			"issue vps-1/dev, revoke 1=101, revoke 2=102, revoke 3=103",
		},
		{"crowded, and nothing is delivered", 17 * time.Hour, Input{Record: crowd, Wanted: []Target{target}, Source: &harbor, Terms: day}, "issue vps-1/dev, revoke 1=101, revoke 2=102, revoke 3=103"},
		{
			"credentials of another host crowd nobody out", 16 * time.Hour,
			Input{Record: besides(crowdedBy(other, harbor, 4, true)), Wanted: []Target{target}, Source: &harbor, Terms: day, Delivered: delivered(5)},
			"issue vps-1/dev, revoke 1=101, revoke 2=102, revoke 3=103, revoke 4=104",
		},
		{
			"nor do those of another scope", 16 * time.Hour,
			Input{Record: besides(crowdedBy(target, wider, 3, true)), Wanted: []Target{target}, Source: &harbor, Terms: day, Delivered: delivered(4)},
			"issue vps-1/dev, revoke 1=101, revoke 2=102, revoke 3=103",
		},
		{
			"four were intended, and none came", time.Hour, Input{Record: crowdedBy(target, harbor, 4, false), Wanted: []Target{target}, Source: &harbor, Terms: day},
			"issue vps-1/dev, revoke 1=0, revoke 2=0, revoke 3=0, revoke 4=0",
		},
		{
			"the first of several renewals", time.Hour, Input{Record: early, Wanted: []Target{target, other}, Source: &harbor, Terms: day,
				Delivered: map[Target]string{target: name(uid, target, 1), other: name(uid, other, 2)}}, "next 15h0m0s",
		},
		{"nobody issues any more", time.Hour, Input{Record: first, Wanted: []Target{target}, Delivered: delivered(1)}, "revoke 1=101"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.in.Now = start.Add(c.after)
			if got := told(Decide(c.in)); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// Another Secret of the account is no other source: nothing is issued anew for it.
func TestSourceKey(t *testing.T) {
	renamed := harbor
	renamed.SecretRef = "other"
	if renamed.Key() != harbor.Key() || wider.Key() == harbor.Key() {
		t.Errorf("%q, %q, %q", renamed.Key(), harbor.Key(), wider.Key())
	}
}

// A source that gives less than was asked for is asked again in time; the last hour of a short life is not all of it.
func TestRenewal(t *testing.T) {
	for _, c := range []struct {
		terms         Terms
		expires, want time.Duration
	}{
		{Terms{Lifetime: 24 * time.Hour}, 24 * time.Hour, 16 * time.Hour},
		{Terms{Lifetime: time.Hour}, 24 * time.Hour, 40 * time.Minute}, // Harbor counts days
		{Terms{Lifetime: 720 * time.Hour, RenewBefore: 240 * time.Hour}, 720 * time.Hour, 480 * time.Hour},
		{Terms{Lifetime: 24 * time.Hour}, 3 * time.Hour, 2 * time.Hour},
		{Terms{Lifetime: 24 * time.Hour, RenewBefore: 12 * time.Hour}, 14 * time.Hour, 2 * time.Hour},
		{Terms{Lifetime: 24 * time.Hour, RenewBefore: 12 * time.Hour}, 12 * time.Hour, 8 * time.Hour}, // and not again at once, for ever
	} {
		if got := c.terms.Renewal(Credential{Issued: start, Expires: start.Add(c.expires)}).Sub(start); got != c.want {
			t.Errorf("%+v, ends after %s: renewed after %s, want %s", c.terms, c.expires, got, c.want)
		}
	}
	// With a lifetime of an hour the one before ends with it, not an hour after its successor came.
	c := Credential{Issued: start, Expires: start.Add(24 * time.Hour), Superseded: start.Add(40 * time.Minute)}
	if got := (Terms{Lifetime: time.Hour}).revocation(c).Sub(start); got != time.Hour {
		t.Errorf("revoked after %s", got)
	}
}

func TestNames(t *testing.T) {
	taken := regexp.MustCompile(`^[a-z0-9]+(?:[._-][a-z0-9]+)*$`) // by Harbor
	for _, h := range []string{"vps-1", "a--b", "-x-", "VPS.example.com", "ü", strings.Repeat("long-", 60), ""} {
		for _, e := range []string{"dev", "rmoa--client"} {
			n := name(uid, Target{Host: h, Environment: e}, 17)
			if !taken.MatchString(n) || len(n) > 160 || !strings.HasPrefix(n, Prefix(uid)) || !strings.HasSuffix(n, "-17") {
				t.Errorf("%q", n)
			}
		}
	}
	for want, target := range map[string]Target{
		"sirrat-0b4f9c3e-vps-1-dev-1":    target,
		"sirrat-0b4f9c3e-az09-r-z-0-9-1": {Host: "AZ09", Environment: "`r/z{0:9"},
	} {
		if got := name(uid, target, 1); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// Numbers that names at a source have are not given again; senseless ones do not use the rest up.
func TestSkip(t *testing.T) {
	r := Record{ProjectUID: uid, Last: 3}
	r.Skip([]Listed{{name(uid, target, 9), 1}, {"sirrat-11111111-a-b-50", 2}, {Prefix(uid) + "x", 3}, {Prefix(uid) + "a-9223372036854775807", 4}, {Prefix(uid) + "a-1099511627776", 5}})
	if c := r.Intend(target, harbor, start); c.Number != 10 {
		t.Errorf("number %d", c.Number)
	}
	r.Skip([]Listed{{name(uid, target, 120), 1}})
	if c := r.Intend(target, harbor, start); c.Number != 121 {
		t.Errorf("number %d", c.Number)
	}
}

// A credential gives way to its successor alone: not to another host's, not a second time, and not before there is one.
func TestIssuedSupersedesItsOwn(t *testing.T) {
	r := recorded(harbor, 0, 30*time.Minute)
	o := r.Intend(other, harbor, start.Add(48*time.Hour))
	r.Issued(o.Number, 103, start.Add(40*time.Minute), start.Add(24*time.Hour))
	lost := r.Intend(target, harbor, start.Add(48*time.Hour))
	third := r.Intend(target, harbor, start.Add(48*time.Hour))
	r.Issued(third.Number, 105, start.Add(time.Hour), start.Add(25*time.Hour))
	r.Issued(99, 199, start.Add(2*time.Hour), start.Add(26*time.Hour)) // forgotten meanwhile
	want := map[int64]time.Time{1: start.Add(30 * time.Minute), 2: start.Add(time.Hour), 3: {}, 4: {}, 5: {}}
	got := map[int64]time.Time{}
	for _, c := range r.Credentials {
		got[c.Number] = c.Superseded
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	r.Forget(third.Number)
	r.Forget(1)
	r.Forget(2)
	if c := r.Current(target); c != nil || lost.Valid(start) || !lost.Expires.Equal(start.Add(48*time.Hour)) {
		t.Errorf("%+v is current, and %+v is good", c, lost)
	}
}

func TestRecord(t *testing.T) {
	r := recorded(harbor, 0, time.Hour)
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back Record
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, back); diff != "" {
		t.Error(diff)
	}
	if c := r.Current(target); c == nil || c.Number != 2 || r.Current(other) != nil {
		t.Errorf("%+v", c)
	}
	if old := r.Credentials[0]; !old.Superseded.Equal(start.Add(time.Hour)) || !old.Valid(start.Add(23*time.Hour)) || old.Valid(start.Add(24*time.Hour)) {
		t.Errorf("%+v", old)
	}
	r.Forget(1)
	r.Forget(7)
	if len(r.Credentials) != 1 || r.Credentials[0].Number != 2 {
		t.Errorf("%+v", r.Credentials)
	}
}
