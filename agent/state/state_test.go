// SPDX-License-Identifier: Apache-2.0

package state

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

func example() *Environment {
	at := time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)
	d := Deployment{
		Name: "shop-dev-7", UID: "uid-7", Secrets: map[string]string{"PASSWORD": "<s3cret&>"}, HealthySince: at, Completed: []string{"job"},
		Spec: v1alpha1.RolloutSpec{Project: "shop", ProjectUID: "p", Environment: "dev", Sequence: 7, Compose: "services: {}\n", ComposeProject: "shop-dev"},
	}
	d.Begin(v1alpha1.RolloutPulling, at)
	return &Environment{
		Project: "shop", ProjectUID: "p", Environment: "dev", Highest: 8, Current: &d, LastGood: &d,
		Attempt: &Attempt{Deployment: d, Phase: v1alpha1.RolloutStarting, Failure: &Failure{UID: "uid-8", Logs: []string{"boom"}}},
		Failed:  []Failure{{UID: "uid-5", Sequence: 5}}, Retired: []string{"q"},
	}
}

func open(t *testing.T) (*Store, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

func TestSaveAndLoad(t *testing.T) {
	s, dir := open(t)
	key := Key{"shop", "dev"}
	empty, err := s.Load(key)
	if err != nil || empty.Highest != 0 || empty.Key() != key {
		t.Fatalf("%+v, %v", empty, err)
	}
	want := example()
	for range 2 { // the second time it replaces
		if err := s.Save(want); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Load(key)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if keys, err := s.Keys(); err != nil || len(keys) != 1 || keys[0] != key {
		t.Errorf("%v, %v", keys, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
	for path, mode := range map[string]os.FileMode{dir: 0o700, s.Path(key): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
}

// Whatever happens to a file, it is either what was written or damaged, never empty or something else.
func TestDamaged(t *testing.T) {
	s, _ := open(t)
	if err := s.Save(example()); err != nil {
		t.Fatal(err)
	}
	path := s.Path(Key{"shop", "dev"})
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, data []byte) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Load(Key{"shop", "dev"}); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for length := range whole {
		check("truncated", whole[:length])
	}
	for i := 0; i < len(whole); i += 7 {
		flipped := append([]byte{}, whole...)
		flipped[i] ^= 0x11
		check("a byte changed", flipped)
	}
	check("zeroes", make([]byte, len(whole)))
	if err := os.WriteFile(s.Path(Key{"shop", "other"}), whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(Key{"shop", "other"}); !errors.Is(err, ErrDamaged) {
		t.Errorf("another environment's file: %v", err)
	}
}

func TestNamesStayInTheFolder(t *testing.T) {
	s, _ := open(t)
	for _, key := range []Key{{"..", "x"}, {"a/b", "x"}, {"a", "../x"}, {"", "x"}, {"a.b", "x"}, {"A", "x"}} {
		if _, err := s.Load(key); err == nil || errors.Is(err, ErrDamaged) {
			t.Errorf("%v: %v", key, err)
		}
	}
}

func TestFail(t *testing.T) {
	e := example()
	for i := range 50 {
		e.Fail(Failure{UID: string(rune('a' + i)), Sequence: int64(i)})
	}
	if len(e.Failed) != keepFailed || e.Failed[keepFailed-1].Sequence != 49 || e.Attempt != nil {
		t.Errorf("%d failures, last %d", len(e.Failed), e.Failed[len(e.Failed)-1].Sequence)
	}
	if e.FailureOf("a") != nil || e.FailureOf(string(rune('a'+49))) == nil {
		t.Error("the wrong ones are remembered")
	}
}

func TestBeginKeepsTheFirstTime(t *testing.T) {
	var d Deployment
	first := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	d.Begin("Pulling", first)
	d.Begin("Pulling", first.Add(time.Hour))
	if len(d.Timings) != 1 || !d.Timings[0].Started.Time.Equal(first) {
		t.Errorf("%+v", d.Timings)
	}
}

// A project that was created anew under the same name counts from one, and the old one's authorizations are void.
func TestRetire(t *testing.T) {
	e := &Environment{}
	e.Retire("a")
	e.Highest, e.Failed = 57, []Failure{{Sequence: 1, BundleHash: "sha256:1"}}
	e.Retire("a")
	if e.Highest != 57 || len(e.Retired) != 0 || len(e.Failed) != 1 {
		t.Errorf("%+v", e)
	}
	e.Retire("b")
	if e.Highest != 0 || e.ProjectUID != "b" || len(e.Retired) != 1 || e.Retired[0] != "a" || e.FailureFor(1, "sha256:1") != nil {
		t.Errorf("%+v", e)
	}
}

// A number is given once: another order with the number of one that was carried out is none.
func TestContradicts(t *testing.T) {
	spec := func(project string, sequence int64, bundle string, remove *v1alpha1.Removal) v1alpha1.RolloutSpec {
		return v1alpha1.RolloutSpec{ProjectUID: project, Sequence: sequence, BundleHash: bundle, Remove: remove}
	}
	deployment := func(s v1alpha1.RolloutSpec) *Deployment { return &Deployment{Spec: s} }
	carried := spec("p", 7, "one", nil)
	current := &Environment{ProjectUID: "p", Highest: 7, Current: deployment(carried)}
	kept := &v1alpha1.Removal{}
	for name, c := range map[string]struct {
		env   *Environment
		order v1alpha1.RolloutSpec
		want  bool
	}{
		"the same again":                  {current, carried, false},
		"another bundle":                  {current, spec("p", 7, "two", nil), true},
		"a removal":                       {current, spec("p", 7, "", kept), true},
		"a newer one":                     {current, spec("p", 8, "two", nil), false},
		"another project":                 {current, spec("q", 7, "two", nil), false},
		"new here":                        {&Environment{}, spec("p", 7, "two", nil), false},
		"under way":                       {&Environment{ProjectUID: "p", Highest: 7, Attempt: &Attempt{Deployment: *deployment(carried)}}, spec("p", 7, "two", nil), true},
		"failed":                          {&Environment{ProjectUID: "p", Highest: 7, Failed: []Failure{{Sequence: 7, BundleHash: "one"}}}, spec("p", 7, "two", nil), true},
		"failed, the same again":          {&Environment{ProjectUID: "p", Highest: 7, Failed: []Failure{{Sequence: 7, BundleHash: "one"}}}, carried, false},
		"removed, the same again":         {&Environment{ProjectUID: "p", Highest: 7, Removed: deployment(spec("p", 7, "", kept))}, spec("p", 7, "", kept), false},
		"removed, now with the volumes":   {&Environment{ProjectUID: "p", Highest: 7, Removed: deployment(spec("p", 7, "", kept))}, spec("p", 7, "", &v1alpha1.Removal{Volumes: true}), true},
		"what serves is of a project ago": {&Environment{ProjectUID: "p", Highest: 7, Current: deployment(spec("o", 7, "one", nil))}, spec("p", 7, "two", nil), false},
	} {
		if got := c.env.Contradicts(c.order); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
