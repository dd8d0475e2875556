// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"gitlab.com/dynors/sirrat/agent/health"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestNext(t *testing.T) {
	down := &health.Verdict{Status: health.Down}
	look := now.Add(time.Second)
	long := Healing{DownSince: now.Add(-time.Hour)}
	for name, c := range map[string]struct {
		in   Input
		want Action
		at   time.Time
	}{
		"nothing at all":            {Input{}, Rest, time.Time{}},
		"new":                       {Input{Offer: New}, Deploy, time.Time{}},
		"new, while one runs":       {Input{Offer: New, Serving: true, Observed: down, Healing: long}, Deploy, time.Time{}},
		"new, while one is on":      {Input{Offer: New, Attempt: UnderWay}, Deploy, time.Time{}},
		"new, while going back":     {Input{Offer: New, Attempt: Failed}, Deploy, time.Time{}},
		"older":                     {Input{Offer: Older}, Rest, time.Time{}},
		"known":                     {Input{Offer: Known}, Rest, time.Time{}},
		"interrupted":               {Input{Offer: Known, Attempt: UnderWay}, Resume, time.Time{}},
		"interrupted, offline":      {Input{Attempt: UnderWay, Serving: true}, Resume, time.Time{}},
		"failed":                    {Input{Offer: Known, Attempt: Failed, Serving: true, Observed: down}, GoBack, time.Time{}},
		"withdrawn":                 {Input{Serving: true, Observed: &health.Verdict{}}, Rest, time.Time{}},
		"healthy":                   {Input{Offer: Known, Serving: true, Observed: &health.Verdict{}}, Rest, time.Time{}},
		"waiting":                   {Input{Serving: true, Observed: &health.Verdict{Status: health.Waiting, NextLook: look}}, Rest, look},
		"unhealthy":                 {Input{Serving: true, Observed: &health.Verdict{Status: health.Unhealthy}}, Rest, time.Time{}},
		"no engine":                 {Input{Serving: true}, Rest, time.Time{}},
		"down for a moment":         {Input{Serving: true, Observed: down, Healing: Healing{DownSince: now}}, Rest, now.Add(Settle)},
		"down":                      {Input{Serving: true, Observed: down, Healing: long}, Heal, time.Time{}},
		"down, nothing to run":      {Input{Observed: down, Healing: long}, Rest, time.Time{}},
		"down again, too soon":      {Input{Serving: true, Observed: down, Healing: Healing{1, now, now.Add(-time.Second)}}, Rest, now.Add(FirstBackoff)},
		"down again, after backoff": {Input{Serving: true, Observed: down, Healing: Healing{1, now.Add(-FirstBackoff), now.Add(-time.Second)}}, Heal, time.Time{}},
		"unsaved, new":              {Input{Unsaved: true, Offer: New, Serving: true, Observed: &health.Verdict{}}, Rest, time.Time{}},
		"unsaved, interrupted":      {Input{Unsaved: true, Attempt: UnderWay}, Rest, time.Time{}},
		"unsaved, failed":           {Input{Unsaved: true, Attempt: Failed}, Rest, time.Time{}},
		"unsaved, down":             {Input{Unsaved: true, Serving: true, Observed: down, Healing: long}, Heal, time.Time{}},
		"unsaved, left behind":      {Input{Unsaved: true, Serving: true, Observed: &health.Verdict{}, PruneDue: true}, Rest, time.Time{}},
		"left behind":               {Input{Offer: Known, Serving: true, Observed: &health.Verdict{}, PruneDue: true}, Prune, time.Time{}},
		"left behind, unhealthy":    {Input{Serving: true, Observed: &health.Verdict{Status: health.Unhealthy}, PruneDue: true}, Rest, time.Time{}},
		"left behind, new":          {Input{Offer: New, Serving: true, Observed: &health.Verdict{}, PruneDue: true}, Deploy, time.Time{}},
		"damaged, new":              {Input{Damaged: true, Offer: New}, Rest, time.Time{}},
		"damaged, down":             {Input{Damaged: true, Serving: true, Observed: down, Healing: long}, Rest, time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			c.in.Now = now
			got := Next(c.in)
			if got.Action != c.want || !got.At.Equal(c.at) {
				t.Errorf("%s at %s (%s), want %s at %s", got.Action, got.At, got.Reason, c.want, c.at)
			}
			if got.Reason == "" {
				t.Error("no reason")
			}
		})
	}
}

func TestBackoff(t *testing.T) {
	last := time.Duration(-1)
	for count := range 100 {
		d := Healing{Count: count}.Backoff()
		if d < last || d > MaxBackoff {
			t.Fatalf("after %d: %s, before %s", count, d, last)
		}
		last = d
	}
	if last != MaxBackoff {
		t.Errorf("ends at %s", last)
	}
}

func TestNextProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := Input{
			Now: now, Damaged: rapid.Bool().Draw(t, "damaged"), Offer: Offer(rapid.IntRange(0, 3).Draw(t, "offer")),
			Attempt: Attempt(rapid.IntRange(0, 2).Draw(t, "attempt")), Serving: rapid.Bool().Draw(t, "serving"),
			Healing: Healing{
				Count: rapid.IntRange(0, 20).Draw(t, "count"),
				Last:  now.Add(-time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "last"))), DownSince: now.Add(-time.Minute),
			},
		}
		if rapid.Bool().Draw(t, "observed") {
			in.Observed = &health.Verdict{Status: health.Status(rapid.IntRange(0, 3).Draw(t, "status"))}
		}
		got := Next(in)
		if in.Damaged && got.Action != Rest {
			t.Fatal("touches something although the state is damaged")
		}
		if got.Action == Deploy && in.Offer != New {
			t.Fatal("deploys what is not new")
		}
		if got.Action == Heal && (!in.Serving || in.Attempt != NoAttempt || in.Observed == nil || in.Observed.Status != health.Down) {
			t.Fatal("heals what is not its own, or not down")
		}
		if got.Action == Rest && !got.At.IsZero() && !got.At.After(in.Now) && in.Observed.Status == health.Down {
			t.Fatal("rests until the past")
		}
	})
}
