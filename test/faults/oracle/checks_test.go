// SPDX-License-Identifier: Apache-2.0

package oracle

import (
	"strings"
	"testing"
	"time"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// story builds records, one entry a second.
type story struct{ Record }

func (s *story) add(e Entry) *story {
	e.At = time.Unix(int64(len(s.Entries)), 0)
	s.Entries = append(s.Entries, e)
	return s
}

func (s *story) order(sequence int64, image string, change ...func(*Order)) *story {
	o := &Order{Rollout: "r" + string(rune('0'+sequence)), Sequence: sequence, Images: map[string]string{"web": image}}
	for _, f := range change {
		f(o)
	}
	return s.add(Entry{Kind: Authorised, Order: o})
}

func (s *story) pull(image string) *story { return s.add(Entry{Kind: Pulled, Image: image}) }

// do adds an action on a container, which is named by its image and a letter: "a1" is the first one with image a.
func (s *story) do(action string, ids ...string) *story {
	for _, id := range ids {
		s.add(Entry{Kind: Container, Action: action, ID: id, Service: "web", Image: id[:1]})
	}
	return s
}

func (s *story) says(rollout string, phases ...string) *story {
	for _, phase := range phases {
		e := Entry{Kind: Report, Rollout: rollout, Phase: phase}
		if phase == v1alpha1.RolloutRolledBack {
			e.Serving = 1
		}
		s.add(e)
	}
	return s
}

func (s *story) killed() *story { return s.add(Entry{Kind: Disturbance, What: "agent killed"}) }

func (s *story) runs(ids ...string) *story {
	s.Final = nil
	for _, id := range ids {
		s.Final = append(s.Final, Running{ID: id, Service: "web", Image: id[:1], State: "running"})
	}
	return s
}

// first is a good beginning: release a runs.
func first() *story {
	return new(story).order(1, "a").pull("a").says("r1", "Pulling").do(Create, "a1").says("r1", "Starting").do(Start, "a1").
		says("r1", "Checking", "Healthy").runs("a1")
}

// replaced goes on with release b.
func replaced() *story {
	return first().order(2, "b").pull("b").says("r2", "Pulling", "Starting").do(Create, "b1").do(Kill, "a1").do(Die, "a1").
		do(Destroy, "a1").do(Start, "b1")
}

// job is do for the container of a job.
func (s *story) job(action, id, image, exit string) *story {
	return s.add(Entry{Kind: Container, Action: action, ID: id, Service: "migrate", Image: image, ExitCode: exit})
}

func (s *story) also(c Running) *story {
	s.Final = append(s.Final, c)
	return s
}

// migrated goes on with release b, which has a job.
func migrated() *story {
	return first().order(2, "b", migrates).pull("b").says("r2", "Pulling", "Migrating").job(Create, "m1", "b", "").job(Start, "m1", "b", "").
		killed().job(Die, "m1", "b", "0").says("r2", "Starting").do(Create, "b1").do(Kill, "a1").do(Die, "a1").do(Destroy, "a1").do(Start, "b1")
}

func migrates(o *Order) { o.Images["migrate"], o.Jobs = o.Images["web"], []string{"migrate"} }

func removes(o *Order) { o.Images, o.Remove = nil, true }

func startFirst(o *Order) { o.StartFirst = true }

func TestGoodRecords(t *testing.T) {
	for name, s := range map[string]*story{
		"first": first(),
		"migrated": migrated().says("r2", "Checking", "Healthy").says("r1", "Superseded").runs("b1").
			also(Running{ID: "m1", Service: "migrate", Image: "b", State: "exited", Job: true}),
		"withdrawn": replaced().says("r2", "Healthy").says("r1", "Superseded").add(Entry{Kind: Withdrawn, Rollout: "r2"}).
			add(Entry{Kind: Withdrawn, Rollout: "r1"}).says("r1", "Rejected").runs("b1"),
		"removed": first().order(2, "", removes).says("r2", "Removing").do(Kill, "a1").killed().do(Die, "a1").do(Destroy, "a1").
			says("r1", "Superseded").says("r2", "Removed").runs(),
		"replaced": replaced().says("r2", "Checking", "Healthy").says("r1", "Superseded").runs("b1"),
		"rolled back": replaced().says("r2", "Checking").do(Create, "a2").do(Kill, "b1").do(Die, "b1").do(Destroy, "b1").
			do(Start, "a2").says("r2", "RolledBack").runs("a2"),
		"healed": first().do(Die, "a1").says("r1", "Unhealthy").do(Destroy, "a1").do(Create, "a2").do(Start, "a2").
			says("r1", "Healthy").runs("a2"),
		"removed by hand": first().add(Entry{Kind: Disturbance, What: "removed", ID: "a1"}).do(Kill, "a1").do(Die, "a1").
			do(Destroy, "a1").do(Create, "a2").do(Start, "a2").runs("a2"),
		"killed while it created": first().order(2, "b").pull("b").says("r2", "Starting").do(Create, "b1").killed().do(Destroy, "b1").
			do(Create, "b2").do(Kill, "a1").do(Die, "a1").do(Destroy, "a1").do(Start, "b2").says("r2", "Healthy").
			says("r1", "Superseded").runs("b2"),
		"killed before the engine created": first().order(2, "b").pull("b").says("r2", "Starting").killed().do(Create, "b1").
			do(Destroy, "b1").do(Create, "b2").do(Kill, "a1").do(Die, "a1").do(Destroy, "a1").do(Start, "b2").says("r2", "Healthy").
			says("r1", "Superseded").runs("b2"),
		"forgot": first().add(Entry{Kind: Forgot}).says("r1", "Pending", "Pulling", "Starting", "Checking", "Healthy").runs("a1"),
		"killed while it checked": first().order(2, "b").pull("b").says("r2", "Checking").killed().says("r2", "Starting").
			do(Create, "b1").do(Kill, "a1").do(Die, "a1").do(Destroy, "a1").do(Start, "b1").says("r2", "Healthy").
			says("r1", "Superseded").runs("b1"),
		"started first": first().do(Healthy, "a1").order(2, "b", startFirst).pull("b").do(Create, "b1").do(Start, "b1").do(Healthy, "b1").
			do(Kill, "a1").do(Stop, "a1").do(Die, "a1").do(Destroy, "a1").says("r2", "Healthy").says("r1", "Superseded").runs("b1"),
		"started first, went back": first().do(Healthy, "a1").order(2, "b", startFirst).pull("b").do(Create, "b1").do(Start, "b1").
			do(Healthy, "b1").killed().do(Kill, "b1").do(Die, "b1").do(Destroy, "b1").says("r2", "RolledBack").runs("a1"),
		"refused": first().order(2, "b", func(o *Order) { o.Void, o.Ends = true, []string{"Rejected"} }).says("r2", "Rejected").
			runs("a1"),
	} {
		t.Run(name, func(t *testing.T) {
			if got := Check(s.Record); len(got) > 0 {
				t.Error(strings.Join(got, "\n"))
			}
		})
	}
}

func TestBadRecords(t *testing.T) {
	for name, c := range map[string]struct {
		check func(Record) []string
		story *story
		want  string
	}{
		"left under way":        {Lost, first().order(2, "b").says("r2", "Pulling"), "r2 is left in phase Pulling"},
		"never reported":        {Lost, first().order(2, "b"), "nothing was ever reported on r2"},
		"wrong end":             {Lost, first().order(2, "b", func(o *Order) { o.Ends = []string{"RolledBack"} }).says("r2", "Failed"), "ended Failed"},
		"healthy, nothing runs": {Lost, first().runs(), "0 of 1 containers of web run"},
		"healthy, another runs": {Lost, first().runs("a1", "b1"), "beside r1"},
		"two are healthy":       {Lost, replaced().says("r2", "Healthy").runs("b1"), "2 rollouts are healthy"},
		"too many at once":      {Doubled, first().do(Create, "a2"), "2 containers of web"},
		"created again":         {Doubled, first().do(Kill, "a1").do(Die, "a1").do(Destroy, "a1").do(Create, "a2"), "without a cause"},
		"killed long before": {Doubled, new(story).killed().order(1, "a").pull("a").says("r1", "Pulling", "Starting", "Checking").do(Create, "a1").
			do(Destroy, "a1").do(Create, "a2"), "without a cause"},
		"another was disturbed":  {Doubled, first().add(Entry{Kind: Disturbance, ID: "x"}).do(Destroy, "a1").do(Create, "a2"), "without a cause"},
		"unknown image":          {Unauthorised, first().do(Create, "c1"), "which nobody authorised"},
		"unknown image started":  {Unauthorised, first().do(Start, "c1"), "which nobody authorised"},
		"unknown image pulled":   {Unauthorised, first().pull("c"), "which nobody authorised"},
		"before it was ordered":  {Unauthorised, new(story).do(Create, "a1").order(1, "a"), "which nobody authorised"},
		"a void order":           {Unauthorised, first().order(2, "b", func(o *Order) { o.Void = true }).do(Create, "b1"), "which nobody authorised"},
		"another service's":      {Unauthorised, new(story).order(1, "a").add(Entry{Kind: Container, Action: Create, ID: "x", Service: "db", Image: "a"}), "nobody"},
		"created before pulled":  {Touched, first().order(2, "b").do(Create, "b1"), "before every image was on disk"},
		"stopped before pulled":  {Touched, first().order(2, "b").do(Kill, "a1"), "nothing was ready to replace"},
		"stopped for nothing":    {Touched, first().do(Stop, "a1"), "nothing was ready to replace"},
		"stopped for a void one": {Touched, first().order(2, "b", func(o *Order) { o.Void = true }).pull("b").do(Kill, "a1"), "nothing was ready"},
		"stopped first": {NotServed, first().do(Healthy, "a1").order(2, "b", startFirst).pull("b").do(Create, "b1").do(Start, "b1").
			do(Kill, "a1"), "0 others are healthy, 1 wanted"},
		"stopped first by a killed agent": {NotServed, first().do(Healthy, "a1").order(2, "b", startFirst).pull("b").killed().
			do(Create, "b1").do(Start, "b1").do(Kill, "a1"), "0 others are healthy, 1 wanted"},
		"stopped when the new one fell ill": {NotServed, first().do(Healthy, "a1").order(2, "b", startFirst).pull("b").do(Create, "b1").
			do(Start, "b1").do(Healthy, "b1").do(Unhealthy, "b1").do(Kill, "a1"), "0 others are healthy, 1 wanted"},
		"both stopped": {NotServed, first().do(Healthy, "a1").order(2, "b", startFirst).pull("b").do(Create, "b1").do(Start, "b1").
			do(Healthy, "b1").do(Kill, "a1").do(Kill, "b1"), "0 others are healthy, 1 wanted"},
		"job twice": {Jobs, migrated().do(Die, "b1").job(Create, "m2", "b", "").job(Start, "m2", "b", ""), "ran 2 times"},
		"job again": {Jobs, migrated().job(Start, "m1", "b", ""), "ran 2 times"},
		"job never": {Jobs, first().order(2, "b", migrates).pull("b").do(Create, "b1").do(Start, "b1").says("r2", "Healthy"), "ran 0 times"},
		"job failed, created": {Jobs, first().order(2, "b", migrates).pull("b").job(Create, "m1", "b", "").job(Start, "m1", "b", "").
			job(Die, "m1", "b", "1").do(Create, "b1"), "before job migrate had ended well"},
		"created before the job's end": {Jobs, first().order(2, "b", migrates).pull("b").job(Create, "m1", "b", "").job(Start, "m1", "b", "").
			do(Create, "b1"), "before job migrate had ended well"},
		"job runs on": {Lost, migrated().says("r2", "Healthy").says("r1", "Superseded").runs("b1").
			also(Running{ID: "m1", Service: "migrate", Image: "b", State: "running", Job: true}), "beside r2"},
		"removed, something runs": {Lost, first().order(2, "", removes).says("r2", "Removing").do(Kill, "a1").says("r2", "Removed").runs("a1"), "left 1 containers"},
		"removed, created again": {WentBack, first().order(2, "", removes).says("r2", "Removing").do(Kill, "a1").do(Die, "a1").do(Destroy, "a1").
			says("r2", "Removed").do(Create, "a2"), "sequence went back"},
		"older again":          {WentBack, replaced().says("r2", "Healthy").do(Create, "a2"), "sequence went back"},
		"older started":        {WentBack, replaced().says("r2", "Healthy").do(Start, "a1"), "sequence went back"},
		"forgot, older again":  {WentBack, replaced().says("r2", "Healthy").add(Entry{Kind: Forgot}).do(Create, "a2"), "sequence went back"},
		"phase back":           {WentBack, first().order(2, "b").says("r2", "Checking", "Pulling"), "from Checking to Pulling"},
		"ended, goes on":       {WentBack, first().order(2, "b").says("r2", "RolledBack").killed().says("r2", "Starting"), "from RolledBack to Starting"},
		"ended, ends again":    {WentBack, first().order(2, "b").says("r2", "RolledBack", "Healthy"), "from RolledBack to Healthy"},
		"forgot how it failed": {WentBack, first().order(2, "b").says("r2", "RolledBack", "Superseded"), "from RolledBack to Superseded"},
	} {
		t.Run(name, func(t *testing.T) {
			got := strings.Join(c.check(c.story.Record), "\n")
			if !strings.Contains(got, c.want) {
				t.Errorf("%q does not say %q", got, c.want)
			}
		})
	}
}
