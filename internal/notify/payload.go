// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// Format is the shape of JSON that a webhook takes, as in Project.spec.notifications[].webhook.format.
type Format string

// The formats.
const (
	// Slack is {"text"} of an incoming webhook: https://api.slack.com/messaging/webhooks
	Slack Format = "slack"
	// Mattermost is {"text"} in Markdown: https://developers.mattermost.com/integrate/webhooks/incoming/
	Mattermost Format = "mattermost"
	// Teams is an Adaptive Card in a message, as the Teams trigger of Power Automate's workflows takes it.
	Teams Format = "teams"
	// Generic is the event itself.
	Generic Format = "generic"
)

// GenericSchema is the version of the generic format. Members may be added without a new one.
const GenericSchema = 1

// Payload is the body that tells a message to a webhook. What the message holds is shown as it is: no markup, links with
// another text than their address, or mentions can be made with it.
func Payload(format Format, m Message) ([]byte, error) {
	var body any
	switch format {
	case Slack:
		body = slackBody(m)
	case Mattermost:
		body = map[string]any{"text": mattermostText(m)}
	case Teams:
		body = teamsBody(m)
	case Generic:
		body = struct {
			SchemaVersion int    `json:"schemaVersion"`
			Event         Event  `json:"event"`
			Subject       string `json:"subject"`
			Text          string `json:"text"`
		}{GenericSchema, m.Event.inert(), m.Subject, m.Text}
	default:
		return nil, fmt.Errorf("format %.40q: it can be slack, mattermost, teams or generic", string(format))
	}
	raw, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encode %s payload: %w", format, err)
	}
	return raw, nil
}

// noMention makes an at sign one that mentions nobody: chats look for @channel, @here, @all and names in plain text, and
// none of them has a way to escape it.
var noMention = strings.NewReplacer("@", "＠")

// slackEscape is all that Slack's text needs: mentions and links are written in angle brackets.
var slackEscape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

func slackBody(m Message) any {
	return map[string]any{
		"text": slackEscape.Replace(noMention.Replace(m.Subject + "\n\n" + m.Text)),
		// Without it, *, _, ~ and ` would be markup; Slack has no escape for them.
		"mrkdwn":       false,
		"unfurl_links": false, "unfurl_media": false,
	}
}

// markdownEscape leaves punctuation alone that means something at the beginning of a line only. Mattermost takes what Slack
// takes, hence the entities.
var markdownEscape = strings.NewReplacer(
	"&", "&amp;", "<", "&lt;", ">", "&gt;",
	`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "(", `\(`, ")", `\)`, "{", `\{`, "}", `\}`, "~", `\~`, "|", `\|`, "!", `\!`,
)

// blockStart is what begins a list, a heading or a rule.
var blockStart = regexp.MustCompile(`^([-+#=]|[0-9]+[.)])`)

func markdownLine(s string) string {
	s = strings.TrimSpace(s) // four spaces would begin code
	if at := blockStart.FindStringIndex(s); at != nil {
		return markdownEscape.Replace(s[:at[1]-1]) + `\` + s[at[1]-1:at[1]] + markdownEscape.Replace(s[at[1]:])
	}
	return markdownEscape.Replace(s)
}

func mattermostText(m Message) string {
	lines := []string{"**" + markdownLine(noMention.Replace(m.Subject)) + "**", ""}
	for l := range strings.Lines(noMention.Replace(m.Text)) {
		l = strings.TrimSuffix(l, "\n")
		if strings.HasPrefix(l, commandPrefix) && !strings.Contains(l, "`") {
			lines = append(lines, "`"+l+"`") // nothing needs an escape in there
			continue
		}
		lines = append(lines, markdownLine(l))
	}
	return strings.Join(lines, "\n")
}

// The parts of an Adaptive Card that are used here. Text runs, unlike text blocks, know no Markdown and no functions.
type (
	teamsCard struct {
		Schema  string         `json:"$schema"`
		Type    string         `json:"type"`
		Version string         `json:"version"`
		Body    []teamsBlock   `json:"body"`
		MSTeams map[string]any `json:"msteams"`
	}
	teamsBlock struct {
		Type    string     `json:"type"`
		Spacing string     `json:"spacing,omitempty"`
		Inlines []teamsRun `json:"inlines"`
	}
	teamsRun struct {
		Type     string `json:"type"`
		Text     string `json:"text"`
		Size     string `json:"size,omitempty"`
		Weight   string `json:"weight,omitempty"`
		FontType string `json:"fontType,omitempty"`
	}
)

func teamsBody(m Message) any {
	card := teamsCard{
		Schema: "http://adaptivecards.io/schemas/adaptive-card.json", Type: "AdaptiveCard", Version: "1.4",
		MSTeams: map[string]any{"width": "Full"},
	}
	add := func(spacing string, run teamsRun) {
		run.Type, run.Text = "TextRun", noMention.Replace(run.Text)
		card.Body = append(card.Body, teamsBlock{Type: "RichTextBlock", Spacing: spacing, Inlines: []teamsRun{run}})
	}
	add("", teamsRun{Text: m.Subject, Size: "Medium", Weight: "Bolder"})
	spacing := "Medium"
	for l := range strings.Lines(m.Text) {
		l = strings.TrimSuffix(l, "\n")
		if l == "" {
			spacing = "Medium"
			continue
		}
		run := teamsRun{Text: l}
		if strings.HasPrefix(l, commandPrefix) {
			run.FontType = "Monospace"
		}
		add(spacing, run)
		spacing = "None"
	}
	return map[string]any{
		"type": "message",
		"attachments": []any{map[string]any{
			"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": nil, "content": card,
		}},
	}
}
