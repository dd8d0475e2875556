// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

func result(name, typ, pipeline, status string) v1alpha1.CIResult {
	r := v1alpha1.CIResult{Spec: v1alpha1.CIResultSpec{Type: typ, Pipeline: pipeline, Status: status}}
	r.Name = name
	return r
}

func TestReduce(t *testing.T) {
	for _, c := range []struct {
		name    string
		in      []v1alpha1.CIResult
		status  string
		counted []string
	}{
		{"a later pass of the same run hides nothing", []v1alpha1.CIResult{
			result("a", "tests", "7", "failed"), result("b", "tests", "7", "passed")}, "failed", []string{"a", "b"}},
		{"a newer run replaces", []v1alpha1.CIResult{
			result("a", "tests", "7", "failed"), result("b", "tests", "8", "passed")}, "passed", []string{"b"}},
		{"newer is by number, not by text", []v1alpha1.CIResult{
			result("a", "tests", "9", "failed"), result("b", "tests", "10", "passed")}, "passed", []string{"b"}},
		{"an older run that arrives late changes nothing", []v1alpha1.CIResult{
			result("a", "tests", "8", "passed"), result("b", "tests", "7", "failed")}, "passed", []string{"a"}},
		{"without a pipeline all is one run", []v1alpha1.CIResult{
			result("a", "tests", "", "failed"), result("b", "tests", "", "passed")}, "failed", []string{"a", "b"}},
		{"a pipeline outweighs none", []v1alpha1.CIResult{
			result("a", "tests", "", "failed"), result("b", "tests", "1", "passed")}, "passed", []string{"b"}},
		{"deployments are no evidence", []v1alpha1.CIResult{
			result("a", "tests", "1", "passed"), result("d", "deployment", "1", "failed")}, "passed", []string{"a"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Reduce(c.in)
			if got.Results["tests"].Status != c.status {
				t.Errorf("status %s, want %s", got.Results["tests"].Status, c.status)
			}
			if diff := cmp.Diff(c.counted, got.Counted); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The order in which results arrive does not matter.
func TestReduceIgnoresOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var in []v1alpha1.CIResult
		for i := range rapid.IntRange(1, 8).Draw(t, "n") {
			r := result(fmt.Sprint("r", i), rapid.SampledFrom([]string{"tests", "scan"}).Draw(t, "type"),
				rapid.SampledFrom([]string{"", "1", "2", "10", "x", "01"}).Draw(t, "pipeline"),
				rapid.SampledFrom([]string{"passed", "failed", "skipped"}).Draw(t, "status"))
			c := float64(rapid.IntRange(0, 100).Draw(t, "coverage"))
			r.Spec.Coverage = &c
			in = append(in, r)
		}
		want := Reduce(in)
		shuffled := append([]v1alpha1.CIResult(nil), in...)
		rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if diff := cmp.Diff(want, Reduce(shuffled)); diff != "" {
			t.Fatal(diff)
		}
	})
}
