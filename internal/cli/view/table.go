// SPDX-License-Identifier: Apache-2.0

package view

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/cli/inert"
	"gitlab.com/dynors/sirrat/internal/cli/lang"
)

// columnGap is what kubectl leaves between columns.
const columnGap = 3

// Table draws rows under headings, each column as wide as its widest cell; what is empty shows as "-".
func Table(headings []lang.ID, rows [][]string, s Screen) string {
	all := make([][]string, 0, len(rows)+1)
	head := make([]string, len(headings))
	for i, id := range headings {
		head[i] = strings.ToUpper(s.Lang.T(id))
	}
	all = append(all, head)
	for _, row := range rows {
		cellsOfRow := make([]string, len(headings))
		for i := range cellsOfRow {
			cellsOfRow[i] = "-"
			if i < len(row) && row[i] != "" {
				cellsOfRow[i] = inert.Line(row[i])
			}
		}
		all = append(all, cellsOfRow)
	}
	p := s.page()
	for n, row := range all {
		l, column, c := p.line(0), 0, plain
		if n == 0 {
			c = bold
		}
		for i, cell := range row {
			l.to(column).put(c, cell)
			column += columnWidth(all, i) + columnGap
		}
	}
	return p.String()
}

func columnWidth(rows [][]string, i int) int {
	w := 0
	for _, row := range rows {
		w = max(w, width(row[i]))
	}
	return w
}

// HostRow is a Host and when its agent was last heard of; zero when never or unknown.
type HostRow struct {
	Host      v1alpha1.Host
	Heartbeat time.Time
}

// Hosts is the table of hosts; wide adds where they are and what they have.
func Hosts(hosts []HostRow, wide bool, s Screen) string {
	headings := []lang.ID{"table.name", "table.ready", "table.reason", "table.projects", "table.agent", "table.engine",
		"table.heartbeat", "table.rollouts"}
	if wide {
		headings = append(headings, "table.platform", "table.cpus", "table.memory", "table.labels")
	}
	var rows [][]string
	for _, h := range hosts {
		ready := condition(h.Host.Status.Conditions, v1alpha1.ConditionReady)
		row := []string{h.Host.Name, "", "", strings.Join(h.Host.Spec.Projects, ","), "", "", "", h.Host.Status.RolloutsSummary}
		if ready != nil {
			row[1], row[2] = string(ready.Status), ready.Reason
		}
		agent := h.Host.Status.Agent
		if agent == nil {
			agent = &v1alpha1.AgentInfo{}
		}
		row[4], row[5] = agent.AgentVersion, agent.EngineVersion
		if !h.Heartbeat.IsZero() {
			row[6] = s.age(h.Heartbeat)
		}
		if wide {
			row = append(row, agent.Platform, count(int64(agent.CPUs), ""), count(agent.MemoryBytes>>20, " MiB"),
				labels(h.Host.Labels))
		}
		rows = append(rows, row)
	}
	return Table(headings, rows, s)
}

func count(n int64, unit string) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10) + unit
}

func labels(m map[string]string) string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, k+"="+m[k])
	}
	return strings.Join(list, ",")
}

// PVs is the table of PVs, the newest first.
func PVs(list []v1alpha1.PV, wide bool, s Screen) string {
	headings := []lang.ID{"table.name", "table.release", "table.version", "table.client", "table.state", "table.age"}
	if wide {
		headings = append(headings, "table.signed-by", "table.document")
	}
	sorted := slices.SortedFunc(slices.Values(list), func(a, b v1alpha1.PV) int {
		return cmp.Or(b.CreationTimestamp.Compare(a.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	p := s.page()
	var rows [][]string
	for i := range sorted {
		pv := &sorted[i]
		state := p.pvDecision(pv.Status.Decision)
		if pv.Status.Decision == "" {
			state = p.pvState(pv)
		}
		row := []string{pv.Name, pv.Spec.Release.Name, pv.Spec.Release.Version, pv.Spec.Client, state,
			s.age(pv.CreationTimestamp.Time)}
		if wide {
			row = append(row, pv.Status.SignedBy, pv.Spec.DocumentHash)
		}
		rows = append(rows, row)
	}
	return Table(headings, rows, s)
}

// TokenRow is an API token as far as it is known after its creation.
type TokenRow struct {
	ID          string `json:"id"`
	Description string `json:"description,omitempty"`
	// Scope is empty for pipelines.
	Scope string `json:"scope,omitempty"`
	// Created and Expires are zero when unknown.
	Created time.Time `json:"created,omitzero"`
	Expires time.Time `json:"expires,omitzero"`
}

// Tokens is the table of API tokens.
func Tokens(tokens []TokenRow, s Screen) string {
	var rows [][]string
	for _, t := range tokens {
		expires := ""
		switch {
		case t.Expires.IsZero():
		case t.Expires.Before(s.Now):
			expires = s.Lang.T("token.expired", s.at(t.Expires))
		default:
			expires = s.until(t.Expires)
		}
		rows = append(rows, []string{t.ID, t.Description, t.Scope, s.age(t.Created), expires})
	}
	return Table([]lang.ID{"table.id", "table.token-name", "table.scope", "table.age", "table.expires"}, rows, s)
}
