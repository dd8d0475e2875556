// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"errors"
	"net/http"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

func release(name, commit, version string, tags ...string) *v1alpha1.Release {
	return &v1alpha1.Release{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       v1alpha1.ReleaseSpec{Commit: commit, Version: version},
		Status:     v1alpha1.ReleaseStatus{Environments: []v1alpha1.ReleaseEnvironment{{Name: "dev", Tags: tags}}},
	}
}

func TestPickVersion(t *testing.T) {
	const (
		a = "a1b2c3d000000000000000000000000000000000"
		b = "a1b2c3d111111111111111111111111111111111"
		c = "c0ffee0000000000000000000000000000000000"
		d = "1234567000000000000000000000000000000000"
	)
	later := release("copy", c, "")
	later.CreationTimestamp = metav1.NewTime(time.Unix(1, 0))
	releases := []*v1alpha1.Release{
		later,
		release("a1b2c3d", a, "v1.2.0", "dev-a1b2c3d", "latest"),
		release("a1b2c3d11111", b, "v1.3.0", "dev-a1b2c3d", "latest", "prod_b"),
		release("c0ffee0", c, ""),
		release("spring", d, ""),
	}
	for _, tc := range []struct{ version, want string }{
		{"v1.3.0", "a1b2c3d11111"},
		{"1.3.0", "a1b2c3d11111"},
		{"v1.4.0", ""},
		{"a1b2c3d1", "a1b2c3d11111"},
		{"A1B2C3D0", "a1b2c3d"},
		{a, "a1b2c3d"},
		{"a1b2c3d", "ambiguous"},
		{"dev-a1b2c3d", "ambiguous"},
		{"rmoa-dynors-a1b2c3d", "ambiguous"},
		{"latest", "ambiguous"},
		{"prod_b", "a1b2c3d11111"},
		{"c0ffee0", "c0ffee0"},
		{"dev-c0ffee0", "c0ffee0"},
		{"rmoa-client-c0ffee00", "c0ffee0"},
		{"spring", "spring"},
		{"dev-c0ffee1", ""},
		{"c0ffee", ""},
		{"deadbeef", ""},
		{"dev-", ""},
	} {
		t.Run(tc.version, func(t *testing.T) {
			got, err := pickVersion(tc.version, releases)
			var p *Problem
			switch {
			case tc.want == "ambiguous":
				if !errors.As(err, &p) || p.Status != http.StatusConflict || p.Field != "version" {
					t.Errorf("got %v, %v; want a conflict on version", got, err)
				}
			case err != nil:
				t.Error(err)
			case tc.want == "" && got != nil:
				t.Errorf("got %s, want none", got.Name)
			case tc.want != "" && (got == nil || got.Name != tc.want):
				t.Errorf("got %v, want %s", got, tc.want)
			}
		})
	}
}

func TestVerdictTogether(t *testing.T) {
	answer := func(verdicts ...v1alpha1.Verdict) Answer {
		a := Answer{Judged: true}
		for i, v := range verdicts {
			a.Gates = append(a.Gates, GateAnswer{Name: string(rune('a' + i)), Verdict: v})
		}
		return a
	}
	before := func(a Answer) Answer { // from before the last report
		a.Judged = false
		return a
	}
	const p, w, r = v1alpha1.VerdictPassed, v1alpha1.VerdictWaiting, v1alpha1.VerdictRefused
	for _, tc := range []struct {
		name    string
		answer  Answer
		gates   []string
		want    v1alpha1.Verdict
		decided bool
	}{
		{"all passed", answer(p, p), []string{"a", "b"}, p, true},
		{"one waits", answer(p, w), []string{"a", "b"}, w, false},
		{"one refused, one waits", answer(w, r), []string{"a", "b"}, r, false},
		{"another waits", answer(p, w), []string{"a"}, p, true},
		{"not judged by the gate", answer(p), []string{"a", "z"}, w, false},
		{"not judged at all", answer(), []string{"a"}, w, false},
		{"no gate asked, not judged", answer(), nil, w, true},
		{"all passed before the last report", before(answer(p, p)), []string{"a", "b"}, w, true},
		{"one refused before the last report", before(answer(p, r)), []string{"a", "b"}, r, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.answer.together(tc.gates); got != tc.want {
				t.Errorf("together %s, want %s", got, tc.want)
			}
			if got := tc.answer.decided(tc.gates); got != tc.decided {
				t.Errorf("decided %v, want %v", got, tc.decided)
			}
		})
	}
}
