// SPDX-License-Identifier: Apache-2.0

package view

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/cli/lang"
	"gitlab.com/dynors/sirrat/internal/pv"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v: run the test with -update", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got); -update writes it anew:\n%s", file, diff)
	}
}

func TestGolden(t *testing.T) {
	french := func(s Screen) Screen { s.Lang = lang.French; return s }
	colored := func(s Screen) Screen { s.Color = true; return s }
	ascii := func(s Screen) Screen { s.ASCII = true; return s }
	soak := soaking()
	document := func(p *v1alpha1.PV) pv.Document {
		d, err := ReadDocument(p)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	unsigned, signed := certificate(t, v1alpha1.PVStatus{}), certificate(t, withReservations())
	gate := qualityGate("qa", 1, "rmoa-dynors", 2)
	gate.Spec.Environment = "rmoa-dynors"
	current := serving()
	approval := Approval{
		User: "qa@dynors.com", Gate: &gate, Release: &soak, Bundle: soak.Status.Bundle.Environments[1], Current: &current,
		PVs: []v1alpha1.PV{*signed},
	}
	first := approval
	first.Current, first.PVs = nil, nil

	published := publishedModule()
	unread := module() // as somebody sees it who may not read the Project
	unread.Project, unread.Environments = nil, nil
	longWay := module()
	for i := range int32(4) {
		longWay.Gates = append(longWay.Gates, qualityGate(fmt.Sprintf("review-%d", i), 2+i, "", 0))
	}

	for name, got := range map[string]string{
		"status-module":      Status(module(), screen(100)),
		"status-module-fr":   Status(unread, french(screen(80))),
		"status-module-60":   Status(longWay, screen(60)),
		"release-module":     Release(module(), &published, screen(100)),
		"status-100":         Status(bridge(), screen(100)),
		"status-80":          Status(bridge(), screen(80)),
		"status-60":          Status(bridge(), screen(60)),
		"status-color":       Status(bridge(), colored(screen(100))),
		"status-ascii-fr":    Status(bridge(), french(ascii(screen(100)))),
		"status-empty":       Status(Bridge{Namespace: "new"}, screen(100)),
		"status-no-releases": Status(emptied(bridge()), screen(100)),
		"release":            Release(bridge(), &soak, screen(100)),
		"release-80-fr":      Release(bridge(), &soak, french(screen(80))),
		"why":                Why(Bridge{Namespace: "supergest-001"}, &soak, "", screen(100)),
		"why-gate":           Why(Bridge{Namespace: "supergest-001"}, &soak, "qa", screen(80)),
		"approve":            ApprovalSummary(approval, screen(100)),
		"approve-first-fr":   ApprovalSummary(first, french(screen(100))),
		"pv-fr":              PV(unsigned, document(unsigned), french(screen(100))),
		"pv-signed":          PV(signed, document(signed), screen(100)),
		"pv-list":            PVs([]v1alpha1.PV{*signed, *unsigned}, true, screen(100)),
		"hosts":              Hosts(hosts(), false, screen(100)),
		"hosts-wide-fr":      Hosts(hosts(), true, french(screen(100))),
		"tokens":             Tokens(tokens(), screen(100)),
	} {
		t.Run(name, func(t *testing.T) { golden(t, name, got) })
	}
}

func emptied(b Bridge) Bridge {
	b.Releases = nil
	for i := range b.Environments {
		b.Environments[i].Status = v1alpha1.EnvironmentStatus{}
	}
	for i := range b.Gates {
		b.Gates[i].Status = v1alpha1.QualityGateStatus{}
	}
	return b
}

func hosts() []HostRow {
	return []HostRow{
		{
			Host: v1alpha1.Host{
				ObjectMeta: metav1.ObjectMeta{Name: "vps-client-1", Labels: map[string]string{v1alpha1.LabelEnvironment: "production"}},
				Spec:       v1alpha1.HostSpec{Projects: []string{"supergest-001", "mediconnect"}},
				Status: v1alpha1.HostStatus{
					Agent: &v1alpha1.AgentInfo{AgentVersion: "v0.1.0", EngineVersion: "28.0.1", Platform: "linux/amd64", CPUs: 2,
						MemoryBytes: 4 << 30},
					RolloutsSummary: "2/2",
					Conditions:      []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonHeartbeat}},
				},
			},
			Heartbeat: now.Add(-40 * time.Second),
		},
		{Host: v1alpha1.Host{
			ObjectMeta: metav1.ObjectMeta{Name: "vps-2"},
			Spec:       v1alpha1.HostSpec{Projects: []string{"supergest-001"}},
			Status: v1alpha1.HostStatus{Conditions: []metav1.Condition{
				{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonAwaitingAgent}}},
		}},
	}
}

func tokens() []TokenRow {
	return []TokenRow{
		{ID: "x7k2m9qa", Description: "gitlab", Created: now.Add(-30 * day), Expires: now.Add(335 * day)},
		{ID: "a1a1a1a1", Description: "old \x1b[2J", Created: now.Add(-400 * day), Expires: now.Add(-35 * day)},
		{ID: "b2b2b2b2", Created: now.Add(-time.Hour)},
	}
}

// Nothing may be wider than the screen but what cannot be cut (hashes, addresses), and nothing may carry a control
// character that the view did not write.
func TestPicturesFit(t *testing.T) {
	for _, columns := range []int{60, 80, 100, 132} {
		s := screen(columns)
		for n, l := range strings.Split(Status(bridge(), s), "\n") {
			if w := width(l); w > columns {
				t.Errorf("at %d columns line %d is %d wide: %s", columns, n+1, w, l)
			}
			if strings.ContainsAny(l, "\x1b\x07\r") {
				t.Errorf("line %d has a control character: %q", n+1, l)
			}
		}
	}
}

func TestColorOnlyAddsColor(t *testing.T) {
	s := screen(100)
	monochrome := Status(bridge(), s)
	s.Color = true
	colored := Status(bridge(), s)
	if colored == monochrome {
		t.Fatal("no colour")
	}
	var b strings.Builder
	for i, part := range strings.Split(colored, "\x1b[") {
		if i > 0 {
			_, part, _ = strings.Cut(part, "m")
		}
		b.WriteString(part)
	}
	if diff := cmp.Diff(monochrome, trimLines(b.String())); diff != "" {
		t.Errorf("colour changes the text:\n%s", diff)
	}
}

func trimLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

func TestASCII(t *testing.T) {
	s := screen(100)
	s.ASCII, s.Lang = true, lang.French
	for _, r := range Status(bridge(), s) {
		if r > 127 {
			t.Fatalf("not ASCII: %q", r)
		}
	}
}

func TestOrder(t *testing.T) {
	env := func(name, after string) v1alpha1.Environment {
		return v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.EnvironmentSpec{After: after}}
	}
	for _, c := range []struct {
		name string
		in   []v1alpha1.Environment
		want string
	}{
		{"chain", []v1alpha1.Environment{env("c", "b"), env("a", ""), env("b", "a")}, "a b c"},
		{"fork", []v1alpha1.Environment{env("z", "a"), env("b", "a"), env("a", ""), env("y", "z")}, "a b z y"},
		{"circle", []v1alpha1.Environment{env("b", "c"), env("c", "b"), env("a", "")}, "a b c"},
		{"unknown predecessor", []v1alpha1.Environment{env("a", "nowhere"), env("b", "")}, "b a"},
		{"none", nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var names []string
			for _, e := range Order(c.in) {
				names = append(names, e.Name)
			}
			if got := strings.Join(names, " "); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestWrap(t *testing.T) {
	for _, c := range []struct {
		text string
		room int
		want string
	}{
		{"one two three", 7, "one two|three"},
		{"", 10, ""},
		{strings.Repeat("x", 12), 5, "xxxxx|xxxxx|xx"},
		{"日本語 日本", 6, "日本語|日本"},
	} {
		if got := strings.Join(wrap(c.text, c.room), "|"); got != c.want {
			t.Errorf("wrap(%q, %d) = %q, want %q", c.text, c.room, got, c.want)
		}
	}
}
