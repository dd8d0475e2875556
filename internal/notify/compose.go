// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// Message is what is told, in one language, as plain text. Lines that begin with "kubectl " are commands.
type Message struct {
	// Subject is one line of at most 200 characters.
	Subject string
	// Text has lines that end in "\n".
	Text string
	// Event is what it tells.
	Event Event
}

const maxSubject = 200

// commandPrefix is how commands begin. Nothing that somebody else wrote begins a line.
const commandPrefix = "kubectl "

// plainName is a name that can stand in a command as it is: not an option, nothing for a shell.
var plainName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)

// Compose says what happened and what to do now, in French or, for language "en", in English. baseURL is where SIRRAT can
// be looked at; "" if nowhere.
func Compose(e Event, language, baseURL string) Message {
	e = e.inert()
	words := french
	if language == "en" {
		words = english
	}
	t, known := words.events[key{e.Kind, e.State}]
	if !known {
		t = text{subject: "{project}: {kind}", what: "SIRRAT: {kind}, {release}"}
	}
	// One pass: what a value holds is not looked at again.
	fill := strings.NewReplacer(
		"{project}", e.Project, "{kind}", string(e.Kind), "{release}", e.Release, "{code}", code(e), "{gate}", e.Gate,
		"{environment}", e.Environment, "{pv}", e.PV, "{client}", e.Client, "{actor}", e.Actor,
	).Replace
	var b strings.Builder
	b.WriteString(fill(t.what) + "\n")
	if e.Reason != "" {
		b.WriteString(words.reason + e.Reason + "\n")
	}
	for _, step := range t.steps {
		if step.command == "" {
			b.WriteString("\n" + fill(step.say) + "\n")
			continue
		}
		if fits(step.command, e) {
			b.WriteString("\n" + fill(step.say) + "\n" + fill(commandPrefix+"sirrat "+step.command+" -n {project}") + "\n")
		}
	}
	b.WriteString("\n")
	if address := cleanURL(baseURL); address != "" {
		b.WriteString(address + "\n")
	}
	b.WriteString(e.Time.UTC().Format("2006-01-02 15:04:05 UTC") + words.entry + strconv.FormatInt(e.Seq, 10) + "\n")
	return Message{Subject: line("[SIRRAT] "+fill(t.subject), maxSubject), Text: b.String(), Event: e}
}

// code is the release as people call it.
func code(e Event) string {
	if e.Version == "" {
		return e.Release
	}
	return e.Version + " (" + e.Release + ")"
}

// fits says that every name which the command needs is there and can stand in it.
func fits(command string, e Event) bool {
	for _, n := range []struct{ place, value string }{{"{release}", e.Release}, {"{gate}", e.Gate}, {"{pv}", e.PV}, {"{environment}", e.Environment}} {
		if strings.Contains(command, n.place) && !plainName.MatchString(n.value) {
			return false
		}
	}
	return plainName.MatchString(e.Project)
}

// cleanURL is an address that can be printed, or "".
func cleanURL(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil {
		return ""
	}
	return line(u.String(), 1000)
}
