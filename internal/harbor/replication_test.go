// SPDX-License-Identifier: Apache-2.0

package harbor_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gitlab.com/dynors/sirrat/internal/harbor"
	"gitlab.com/dynors/sirrat/internal/harbor/harbortest"
)

func TestReplicated(t *testing.T) {
	h, c := start(t)
	h.Policy("to-client-old", 3)
	h.Policy("to-client", 7)
	since := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	at := func(minutes int, status string, tasks map[string]string) harbortest.Execution {
		return harbortest.Execution{Status: status, Started: since.Add(time.Duration(minutes) * time.Minute), Tasks: tasks}
	}
	both := []harbor.Repository{{Project: "shop", Name: "api"}, {Project: "shop", Name: "team/web"}}
	all := func(status string) map[string]string {
		return map[string]string{"shop/api": status, "shop/team/web": status}
	}
	for name, c2 := range map[string]struct {
		executions []harbortest.Execution
		want       harbor.Copying
		missing    string
	}{
		"none":                  {nil, harbor.NotStarted, "shop/api (not among what was copied) shop/team/web (not among what was copied)"},
		"before the moment":     {[]harbortest.Execution{at(-1, "Succeed", all("Succeed"))}, harbor.NotStarted, "shop/api (not among what was copied) shop/team/web (not among what was copied)"},
		"one execution":         {[]harbortest.Execution{at(0, "Succeed", all("Succeed"))}, harbor.Copied, ""},
		"one for each":          {[]harbortest.Execution{at(1, "Succeed", map[string]string{"shop/api": "Succeed"}), at(2, "Succeed", map[string]string{"shop/team/web": "Succeed"})}, harbor.Copied, ""},
		"runs":                  {[]harbortest.Execution{at(1, "InProgress", map[string]string{"shop/api": "Succeed", "shop/team/web": "InProgress"})}, harbor.UnderWay, "shop/team/web (InProgress)"},
		"has no tasks yet":      {[]harbortest.Execution{at(1, "InProgress", nil)}, harbor.UnderWay, "shop/api (not among what was copied) shop/team/web (not among what was copied)"},
		"failed":                {[]harbortest.Execution{at(1, "Failed", map[string]string{"shop/api": "Failed", "shop/team/web": "Succeed"})}, harbor.NotCopied, "shop/api (Failed)"},
		"stopped":               {[]harbortest.Execution{at(1, "Stopped", all("Stopped"))}, harbor.NotCopied, "shop/api (Stopped) shop/team/web (Stopped)"},
		"another runs":          {[]harbortest.Execution{at(1, "Failed", all("Failed")), at(2, "InProgress", nil)}, harbor.UnderWay, "shop/api (Failed) shop/team/web (Failed)"},
		"another ran before":    {[]harbortest.Execution{at(1, "InProgress", nil), at(2, "Failed", all("Failed"))}, harbor.UnderWay, "shop/api (Failed) shop/team/web (Failed)"},
		"one of them runs":      {[]harbortest.Execution{at(1, "Failed", map[string]string{"shop/api": "InProgress", "shop/team/web": "Failed"})}, harbor.UnderWay, "shop/api (InProgress) shop/team/web (Failed)"},
		"failed, then not":      {[]harbortest.Execution{at(1, "Failed", all("Failed")), at(2, "Succeed", all("Succeed"))}, harbor.Copied, ""},
		"copied, then failed":   {[]harbortest.Execution{at(1, "Succeed", all("Succeed")), at(2, "Failed", all("Failed"))}, harbor.Copied, ""},
		"other repositories":    {[]harbortest.Execution{at(1, "Succeed", map[string]string{"shop/api2": "Succeed", "shop/team": "Succeed"})}, harbor.NotCopied, "shop/api (not among what was copied) shop/team/web (not among what was copied)"},
		"more than a page":      {append(slices.Repeat([]harbortest.Execution{at(-9, "Succeed", nil)}, 130), at(1, "Succeed", all("Succeed"))), harbor.Copied, ""},
		"a status of their own": {[]harbortest.Execution{at(1, "Succeed", all("Hmm"))}, harbor.UnderWay, "shop/api (Hmm) shop/team/web (Hmm)"},
	} {
		h.Executions(7, c2.executions...)
		got, err := c.Replicated(t.Context(), "to-client", since, both)
		if err != nil || got.State != c2.want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if diff := cmp.Diff(c2.missing, strings.Join(got.Missing, " ")); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if _, err := c.Replicated(t.Context(), "to", since, both); !harbor.IsKind(err, harbor.KindNotFound) {
		t.Errorf("no such policy: %v", err)
	}
	h.Executions(7)
	h.Take()
	if err := c.Replicate(t.Context(), "to-client"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"GET /replication/policies", "POST /replication/executions"}, h.Take()); diff != "" {
		t.Error(diff)
	}
	if got, err := c.Replicated(t.Context(), "to-client", since.AddDate(-9, 0, 0), both); err != nil || got.State != harbor.UnderWay {
		t.Errorf("%+v, %v", got, err)
	}
}
