// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"encoding/json"
	"strings"
	"testing"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// The journal names who reported: the API token, the job whose id_token GitLab signed, whose webhook it was, or that Harbor was asked.
func TestReporterInTheJournal(t *testing.T) {
	job := &v1alpha1.JobIdentity{Issuer: "https://gitlab.com", ProjectPath: "dynors/supergest", Pipeline: "574", Job: "302", Ref: "main", RefType: "branch"}
	for want, spec := range map[string]v1alpha1.CIResultSpec{
		"token:abcd1234":           {Source: "abcd1234"},
		"job:dynors/supergest#302": {Identity: job},
		"webhook:harbor":           {Source: v1alpha1.SourceHarbor},
		"harbor":                   {Source: v1alpha1.SourceHarbor, Format: v1alpha1.FormatHarbor},
	} {
		fact := resultFact(&v1alpha1.Project{}, &v1alpha1.CIResult{Spec: spec})
		if fact.Actor != want {
			t.Errorf("actor %q, want %q", fact.Actor, want)
		}
		data, err := json.Marshal(fact.Data)
		if err != nil {
			t.Fatal(err)
		}
		if told := strings.Contains(string(data), `"pipeline":"574"`); told != (spec.Identity != nil) {
			t.Errorf("%s: %s", want, data)
		}
	}
}
