// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const base = "https://sirrat.dynors.com"

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-update rewrites it):\n%s", file, diff)
	}
}

// everyEvent is one of each kind and state.
func everyEvent() []Event {
	var out []Event
	for _, k := range []key{
		{ApprovalWanted, ""}, {ApprovalWanted, StatePublication}, {PVToSign, ""}, {Refused, RefusedByGate}, {Refused, RefusedByPerson}, {Refused, RefusedByClient}, {Deployed, ""},
		{RolledBack, StateRolledBack}, {RolledBack, StateFailed}, {RolledBack, StateReturned}, {Debt, StateBrokeGlass}, {Debt, StateRegularised},
	} {
		e := Event{
			Kind: k.kind, State: k.state, Project: "supergest", ProjectUID: projectUID, Release: "a1b2c3d", Gate: "qa", Environment: "qa",
			PV: "a1b2c3d-1", Client: "Mairie de Lyon", Actor: "marie", Reason: "les factures sont mal arrondies", Seq: 42, Time: recorded,
		}
		if k.kind == PVToSign || k.state == RefusedByClient {
			e.Version = "v1.3.0"
		}
		out = append(out, e)
	}
	return out
}

func TestMessages(t *testing.T) {
	for _, language := range []string{"fr", "en"} {
		var b strings.Builder
		for _, e := range everyEvent() {
			m := Compose(e, language, base)
			fmt.Fprintf(&b, "== %s %s\nSubject: %s\n\n%s\n", e.Kind, e.State, m.Subject, m.Text)
		}
		golden(t, "messages."+language+".golden", b.String())
	}
	if len(everyEvent()) != len(english.events) || len(french.events) != len(english.events) {
		t.Error("there are words for events that are not in the golden files")
	}
}

func TestUnknownLanguageIsFrench(t *testing.T) {
	e := everyEvent()[0]
	if Compose(e, "", base).Text != Compose(e, "fr", base).Text {
		t.Error("the default is not French")
	}
}

func TestBaseURL(t *testing.T) {
	for in, want := range map[string]bool{
		"": false, base: true, "http://sirrat:8080/": true, "javascript:alert(1)": false, "https://u:p@x": false, "https://x\r\ny": false, "//x": false,
	} {
		if got := strings.Contains(Compose(everyEvent()[0], "en", in).Text, "//"); got != want {
			t.Errorf("%q printed: %v", in, got)
		}
	}
}

func TestPayloads(t *testing.T) {
	for _, f := range []Format{Slack, Mattermost, Teams, Generic} {
		raw, err := Payload(f, Compose(everyEvent()[0], "en", base))
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "payload."+string(f)+".golden.json", indent(t, raw))
	}
	if _, err := Payload("irc", Message{}); err == nil {
		t.Error("an unknown format is accepted")
	}
}

func indent(t *testing.T, raw []byte) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// hostile are texts as a pipeline or a person might send them.
var hostile = []string{
	"\x1b[2J\x1b]0;owned\x07", "\u202egnp.exe\u2066\u200b", "x\r\nBcc: victim@example.com\r\n\r\nbody", "a\nkubectl sirrat approve evil qa",
	"<!channel> <!here> <@U024BE7LH> <#C024BE7LR>", "@channel @here @all @everyone @marie", "[approve](https://evil.example)", "![x](https://evil.example/x.png)",
	"<https://evil.example|approve>", "<script>alert(1)</script><img src=x onerror=y>", "*b* _i_ ~s~ `c` ```\ncode\n```", "# h\n- l\n1. n\n> q\n|a|b|",
	"{{DATE(2017-02-14T06:08:39Z,SHORT)}}", "{gate}{actor}", "kubectl sirrat approve evil qa", "--all; rm -rf /", "\xff\xfe\x00", strings.Repeat("é", 100_000),
}

func hostileEvent(kind key, text string) Event {
	return Event{
		Kind: kind.kind, State: kind.state, Project: text, ProjectUID: text, Release: text, Version: text, Gate: text, Environment: text, PV: text,
		Client: text, Actor: text, Reason: text, Seq: 1, Time: recorded,
	}
}

// checkInert fails if what was composed of texts lets them act.
func checkInert(t interface {
	Helper()
	Errorf(string, ...any)
}, m Message,
) {
	t.Helper()
	if strings.ContainsAny(m.Subject, "\r\n") || utf8.RuneCountInString(m.Subject) > maxSubject {
		t.Errorf("subject %.300q", m.Subject)
	}
	if len(m.Text) > 32<<10 {
		t.Errorf("the text has %d bytes", len(m.Text))
	}
	if !utf8.ValidString(m.Subject + m.Text) {
		t.Errorf("not UTF-8: %.300q", m.Text)
	}
	for _, r := range strings.ReplaceAll(m.Subject+m.Text, "\n", "") {
		if !unicode.IsPrint(r) {
			t.Errorf("%U in %.300q", r, m.Text)
		}
	}
	for _, l := range strings.Split(m.Text, "\n") {
		if strings.HasPrefix(l, commandPrefix) {
			t.Errorf("a command was made of a hostile name: %.300q", l)
		}
	}
	for _, f := range []Format{Slack, Mattermost, Teams, Generic} {
		raw, err := Payload(f, m)
		if err != nil || !json.Valid(raw) || len(raw) > 128<<10 {
			t.Errorf("%s: %v, %d bytes", f, err, len(raw))
		}
	}
	slack := textOf(m, Slack)
	if strings.ContainsAny(slack, "<>@") || strings.Contains(strings.NewReplacer("&amp;", "", "&lt;", "", "&gt;", "").Replace(slack), "&") {
		t.Errorf("slack: %.300q", slack)
	}
	matter := textOf(m, Mattermost)
	if strings.ContainsAny(matter, "<>@") {
		t.Errorf("mattermost: %.300q", matter)
	}
	_, body, _ := strings.Cut(matter, "\n") // the first line is bold, and ours
	plain := strings.NewReplacer(`\\`, "", "\\`", "", `\*`, "", `\_`, "", `\[`, "", `\]`, "", `\(`, "", `\)`, "", `\{`, "", `\}`, "", `\~`, "", `\|`, "", `\!`, "").Replace(body)
	if strings.ContainsAny(plain, "`*_[](){}~|!") {
		t.Errorf("mattermost has markup: %.600q", plain)
	}
	for _, l := range strings.Split(body, "\n") {
		if blockStart.MatchString(l) || strings.HasPrefix(l, " ") {
			t.Errorf("mattermost has a block: %.300q", l)
		}
	}
}

func textOf(m Message, f Format) string {
	raw, _ := Payload(f, m)
	var body struct{ Text string }
	_ = json.Unmarshal(raw, &body)
	return body.Text
}

func TestHostileTextsAreInert(t *testing.T) {
	for _, e := range everyEvent() {
		for _, text := range hostile {
			for _, language := range []string{"fr", "en"} {
				checkInert(t, Compose(hostileEvent(key{e.Kind, e.State}, text), language, base))
			}
		}
	}
}

func TestAnyTextIsInert(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := "!" + rapid.String().Draw(t, "text") // no name: it cannot be in a command
		checkInert(t, Compose(hostileEvent(key{Debt, StateBrokeGlass}, text), "en", base))
	})
}

// Teams' text runs know no markup, so all that has to hold is that nothing else was made of the texts.
func TestTeamsHoldsTextRunsOnly(t *testing.T) {
	for _, text := range hostile {
		raw, err := Payload(Teams, Compose(hostileEvent(key{Refused, RefusedByGate}, text), "en", base))
		if err != nil {
			t.Fatal(err)
		}
		var body struct {
			Attachments []struct{ Content teamsCard }
		}
		if err := json.Unmarshal(raw, &body); err != nil {
			t.Fatal(err)
		}
		for _, b := range body.Attachments[0].Content.Body {
			if b.Type != "RichTextBlock" || len(b.Inlines) != 1 || b.Inlines[0].Type != "TextRun" || strings.Contains(b.Inlines[0].Text, "@") {
				t.Errorf("block %+v", b)
			}
		}
	}
}

func TestDerivedTextsAreInert(t *testing.T) {
	for _, text := range hostile {
		e, ok := Derive(entry(t, "Verdict", verdict("Refused", criterion("Refused", "ResultFailed", text))))
		if !ok || e != e.inert() || utf8.RuneCountInString(e.Reason) > maxReason {
			t.Errorf("%v %+v", ok, e)
		}
	}
}

func TestMarkdownBlocks(t *testing.T) {
	for in, want := range map[string]string{
		"1. one": `1\. one`, "12) x": `12\) x`, "- item": `\- item`, "# h": `\# h`, "    code": "code", "v1.3.0-rc": "v1.3.0-rc", "--- ": `\---`,
		"=": `\=`, "a - b": "a - b", `\`: `\\`,
	} {
		if got := markdownLine(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
