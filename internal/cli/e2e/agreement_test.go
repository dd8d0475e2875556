// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/gate"
	"gitlab.com/dynors/sirrat/internal/ingest"
)

// agreementYAML is a bridge on which a release can wait for results, people and time.
const agreementYAML = `
apiVersion: sirrat.dynors.com/v1alpha1
kind: Environment
metadata: {name: dev, namespace: PROJECT}
spec: {}
---
apiVersion: sirrat.dynors.com/v1alpha1
kind: Environment
metadata: {name: recette, namespace: PROJECT}
spec: {after: dev}
---
apiVersion: sirrat.dynors.com/v1alpha1
kind: Environment
metadata: {name: production, namespace: PROJECT}
spec: {after: recette}
---
apiVersion: sirrat.dynors.com/v1alpha1
kind: QualityGate
metadata: {name: ci, namespace: PROJECT}
spec: {number: 0, environment: dev, mode: Automatic, criteria: [{name: tests, result: {type: tests}}, {name: images, images: {}}]}
---
apiVersion: sirrat.dynors.com/v1alpha1
kind: QualityGate
metadata: {name: qa, namespace: PROJECT}
spec: {number: 1, environment: recette, criteria: [{name: approval, approval: {allowCreator: true}}]}
---
apiVersion: sirrat.dynors.com/v1alpha1
kind: QualityGate
metadata: {name: production, namespace: PROJECT}
spec:
  number: 2
  environment: production
  mode: Automatic
  criteria: [{name: soak, soak: {environment: recette, min: 72h, max: 72h}}]
`

// views is what each place says of one release.
type views struct {
	release v1alpha1.Release
	gates   map[string]v1alpha1.QualityGate
	why     struct {
		Next, Earliest string
		Returned       *v1alpha1.Returned
		Gates          []v1alpha1.GateVerdict
	}
	when struct {
		Earliest string
		Never    bool
		Gates    []v1alpha1.GateVerdict
	}
	answer ingest.Answer
}

// TestEveryViewSaysTheSame compares, word for word, what `kubectl get gates`, `kubectl sirrat why` and `when`, the HTTP API
// and the condition Ready say of a release, in state after state. They are given the time that caches take, no more.
func TestEveryViewSaysTheSame(t *testing.T) {
	k := newKit(t)
	repository := images(t)
	k.bridgeOf(t, "", repository, agreementYAML)
	a := newAPI(t, k)
	tests := func(commit, status string, counts v1alpha1.TestCounts) {
		k.report(t, commit, v1alpha1.CIResultSpec{Type: v1alpha1.TypeTests, Status: status, Tests: &counts})
	}
	says := func(part string) func(*v1alpha1.Release) bool {
		return func(r *v1alpha1.Release) bool { return strings.Contains(r.Status.Next, part) }
	}

	first := k.push(t, repository, commit)
	a.agree(t, "no results", first, "ci", says("gate ci"))
	tests(commit, v1alpha1.StatusPassed, v1alpha1.TestCounts{Total: 3, Passed: 3})
	k.deployed(t, commit, "dev")
	a.agree(t, "waiting for approval", first, "qa", says("approve"))

	second := k.push(t, repository, commitTwo)
	tests(commitTwo, "failed", v1alpha1.TestCounts{Total: 3, Passed: 1, Failed: 2})
	a.agree(t, "failed tests", second, "ci", says("back to development"))

	k.as(t, cto, nil, k.with("breakglass", first, "qa", "--reason", "customers cannot pay", "--yes")...).expect(t, 0, "Gate qa is open")
	k.deployed(t, commit, "recette")
	a.agree(t, "soaking", first, "production", func(r *v1alpha1.Release) bool {
		return r.Status.Reached == "recette" && strings.Contains(r.Status.Next, "gate production")
	})

	third := k.push(t, repository, commitThree)
	tests(commitThree, v1alpha1.StatusPassed, v1alpha1.TestCounts{Total: 3, Passed: 3})
	k.deployed(t, commitThree, "dev")
	a.agree(t, "debt", third, "qa", func(r *v1alpha1.Release) bool {
		return slices.ContainsFunc(r.Status.Gates, func(g v1alpha1.GateVerdict) bool {
			return g.Name == "qa" && slices.ContainsFunc(g.Criteria, func(c v1alpha1.CriterionVerdict) bool { return c.Reason == "Debt" })
		})
	})

	const commitFour, commitFive = "d4e5f60718293a4b5c6d7e8f90011223344556a7", "e5f60718293a4b5c6d7e8f90011223344556a7b8"
	fourth := k.push(t, repository, commitFour)
	tests(commitFour, v1alpha1.StatusPassed, v1alpha1.TestCounts{Total: 3, Passed: 3})
	k.wait(t, "the fourth release to be let into dev", fourth, func(r *v1alpha1.Release) bool { return len(r.Status.Environments) > 0 })
	k.failed(t, commitFour, "dev")
	a.agree(t, "failed on the server", fourth, "ci", func(r *v1alpha1.Release) bool { return r.Status.Returned != nil })
	fifth := k.push(t, repository, commitFive)
	tests(commitFive, v1alpha1.StatusPassed, v1alpha1.TestCounts{Total: 3, Passed: 3})
	a.agree(t, "held", fifth, "ci", says("somebody resumes"))
}

// asked is the HTTP API on the controllers' own cache, as `sirrat server` runs it.
type asked struct {
	k      *kit
	server *httptest.Server
	token  string
}

func newAPI(t *testing.T, k *kit) *asked {
	t.Helper()
	handler, err := ingest.New(ingest.Options{
		Client: running.Manager.GetClient(), APIReader: running.Manager.GetAPIReader(), Cache: running.Manager.GetCache(),
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	o := k.as(t, admin, nil, "token", "create", k.project)
	o.expect(t, 0)
	return &asked{k: k, server: server, token: strings.TrimSpace(o.out)}
}

func (a *asked) ask(ctx context.Context, commit string, answer any) error {
	url := fmt.Sprintf("%s/api/projects/%s/quality-gates?commit=%s", a.server.URL, a.k.project, commit)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+a.token)
	res, err := a.server.Client().Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, res.Status)
	}
	return json.NewDecoder(res.Body).Decode(answer)
}

// look takes one look at everything.
func (a *asked) look(ctx context.Context, t *testing.T, name string) (v views, err error) {
	if err := a.k.client.Get(ctx, client.ObjectKey{Namespace: a.k.project, Name: name}, &v.release); err != nil {
		return v, err
	}
	for verb, into := range map[string]any{"why": &v.why, "when": &v.when} {
		o := a.k.as(t, qa, nil, a.k.with(verb, name, "-o", "json")...)
		if err := json.Unmarshal([]byte(o.out), into); err != nil {
			return v, fmt.Errorf("%s: %w: %s", verb, err, o.err)
		}
	}
	var gates v1alpha1.QualityGateList
	if err := a.k.client.List(ctx, &gates, client.InNamespace(a.k.project)); err != nil {
		return v, err
	}
	v.gates = map[string]v1alpha1.QualityGate{}
	for _, g := range gates.Items {
		v.gates[g.Name] = g
	}
	return v, a.ask(ctx, v.release.Spec.Commit, &v.answer)
}

// agree waits until the release is in a state, and then for every view to say the same of it; at the gate named, the list
// of gates shows this very release.
func (a *asked) agree(t *testing.T, state, release, shownAt string, reached func(*v1alpha1.Release) bool) {
	t.Helper()
	a.k.wait(t, state, release, reached)
	var last error // a look that the deadline interrupts tells nothing
	cptest.Wait(t, state+": every view to say the same", func(ctx context.Context) error {
		v, err := a.look(ctx, t, release)
		switch {
		case ctx.Err() != nil:
			return last
		case err != nil:
		case v.gates[shownAt].Status.Release != release:
			err = fmt.Errorf("gate %s shows %s", shownAt, v.gates[shownAt].Status.Release)
		default:
			err = v.differences()
		}
		last = err
		return err
	})
}

func (v *views) differences() error {
	st := v.release.Status
	ready := meta.FindStatusCondition(st.Conditions, v1alpha1.ConditionReady)
	type line struct{ Next, Earliest, Returned string }
	back := func(r *v1alpha1.Returned) string { return fmt.Sprintf("%+v", r) }
	want := line{st.Next, st.Earliest, back(st.Returned)}
	for name, got := range map[string]line{
		"Ready": {ready.Message, st.Earliest, back(st.Returned)},
		"why":   {v.why.Next, v.why.Earliest, back(v.why.Returned)},
		"when":  {st.Next, v.when.Earliest, back(st.Returned)},
		"API":   {v.answer.Next, v.answer.Earliest, back(v.answer.Returned)},
	} {
		if diff := cmp.Diff(want, got); diff != "" {
			return fmt.Errorf("%s differs from the status:\n%s", name, diff)
		}
	}
	if diff := cmp.Diff(st.Gates, v.why.Gates); diff != "" {
		return fmt.Errorf("the gates of why differ:\n%s", diff)
	}
	var answered, forecast, stored []v1alpha1.GateVerdict
	for i, g := range st.Gates {
		g.Until, g.Criteria = nil, nil
		if len(g.WaitingFor) == 0 {
			g.WaitingFor = nil
		}
		stored = append(stored, g)
		if i < len(v.answer.Gates) {
			x := v.answer.Gates[i]
			answered = append(answered, v1alpha1.GateVerdict{
				Name: x.Name, Number: x.Number, Environment: x.Environment, Verdict: x.Verdict, Message: x.Message,
				WaitingFor: slices.Clip(append([]string(nil), x.WaitingFor...)), Earliest: x.Earliest, EarliestAfter: x.EarliestAfter,
			})
		}
		shown := v.gates[g.Name].Status
		if shown.Release != v.release.Name {
			continue
		}
		if shown.WaitingFor != gate.WaitingFor(g) || shown.Verdict != g.Verdict {
			return fmt.Errorf("gate %s lists %q (%s), the release says %q (%s)", g.Name, shown.WaitingFor, shown.Verdict, gate.WaitingFor(g), g.Verdict)
		}
		// The line of the release is the line of the first gate that waits.
		if rest, ok := strings.CutPrefix(ready.Message, "gate "+g.Name+": "); ok && rest != shown.WaitingFor {
			return fmt.Errorf("gate %s lists %q, Ready says %q", g.Name, shown.WaitingFor, rest)
		}
	}
	forecast = v.when.Gates
	if diff := cmp.Diff(stored, answered); diff != "" {
		return fmt.Errorf("the gates of the API differ:\n%s", diff)
	}
	if diff := cmp.Diff(stored, forecast); diff != "" {
		return fmt.Errorf("the gates of when differ:\n%s", diff)
	}
	if v.when.Never != strings.HasPrefix(st.Earliest, "never") {
		return fmt.Errorf("never %t with %q", v.when.Never, st.Earliest)
	}
	return nil
}
