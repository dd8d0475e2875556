// SPDX-License-Identifier: Apache-2.0

package hooks

import (
	"math"
	"strconv"
	"strings"
	"time"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// SonarQube is what a delivery of SonarQube's says.
type SonarQube struct {
	// Task is the id of the background task; empty when the verdict changed without one, since somebody judged an issue.
	Task string `json:"task,omitempty"`
	// Project is the key of the SonarQube project.
	Project string `json:"project"`
	// Commit that was analysed; empty if SonarQube does not say, or says something that is no commit of git.
	Commit string `json:"commit,omitempty"`
	Branch string `json:"branch,omitempty"`
	// PullRequest says that only what a merge request changes was judged.
	PullRequest bool `json:"pullRequest,omitempty"`
	// At is when the verdict was given, to the second.
	At time.Time `json:"at,omitzero"`
	// Gate is the quality gate's verdict in SonarQube's words, and Status what it means.
	Gate   string `json:"gate,omitempty"`
	Status string `json:"status"`
	// Failed are the metrics whose conditions do not hold.
	Failed []string `json:"failed,omitempty"`
	// Coverage of the whole code in percent, nil unless a condition of the gate bounds it.
	Coverage *float64 `json:"coverage,omitempty"`
	URL      string   `json:"url,omitempty"`
}

type sonarBody struct {
	TaskID     string `json:"taskId"`
	Status     string `json:"status"`
	AnalysedAt string `json:"analysedAt"`
	ChangedAt  string `json:"changedAt"`
	Revision   string `json:"revision"`
	Project    struct {
		Key string `json:"key"`
		URL string `json:"url"`
	} `json:"project"`
	Branch struct {
		Name string `json:"name"`
		Type string `json:"type"`
		URL  string `json:"url"`
	} `json:"branch"`
	Gate *struct {
		Status     string `json:"status"`
		Conditions []struct {
			Metric string `json:"metric"`
			Value  string `json:"value"`
			Status string `json:"status"`
		} `json:"conditions"`
	} `json:"qualityGate"`
}

// sonarTime is how SonarQube writes times.
const sonarTime = "2006-01-02T15:04:05-0700"

// maxProject is the longest key of a SonarQube project.
const maxProject = 400

// ReadSonarQube reads the body of a delivery. The error is an *Error.
func ReadSonarQube(body []byte) (SonarQube, error) {
	if err := check(body); err != nil {
		return SonarQube{}, err
	}
	var in sonarBody
	if err := decode(body, &in); err != nil {
		return SonarQube{}, err
	}
	switch {
	case in.Project.Key == "" || len(in.Project.Key) > maxProject:
		return SonarQube{}, refuse("project.key", "is required, of at most %d bytes: this is no delivery of SonarQube's", maxProject)
	case in.Status == "":
		return SonarQube{}, refuse("status", "is required")
	}
	e := SonarQube{Task: shown(in.TaskID), Project: printable(in.Project.Key), PullRequest: in.Branch.Type == "PULL_REQUEST", URL: link(in.Project.URL)}
	if in.Branch.URL != "" {
		e.URL = link(in.Branch.URL)
	}
	if name := in.Branch.Name; printable(name) == name && len(name) <= maxText {
		e.Branch = name
	}
	if revision := strings.ToLower(in.Revision); commitPattern.MatchString(revision) {
		e.Commit = revision
	}
	if err := e.setTime(in); err != nil {
		return SonarQube{}, err
	}
	e.judge(in)
	return e, nil
}

// setTime takes the time of the verdict. It is later than that of the analysis when somebody judged an issue since, so that
// the newest verdict on a commit counts. Without an analysis there is none.
func (e *SonarQube) setTime(in sonarBody) error {
	for _, t := range []struct{ field, text string }{{"analysedAt", in.AnalysedAt}, {"changedAt", in.ChangedAt}} {
		if t.text == "" {
			continue
		}
		at, err := time.Parse(sonarTime, t.text)
		if err != nil {
			return refuse(t.field, "must be a time like 2016-11-18T10:46:28+0100")
		}
		if at.After(e.At) {
			e.At = at.UTC()
		}
	}
	return nil
}

// judge reads the verdict. Nothing but an analysis that succeeded and a gate that says OK passes.
func (e *SonarQube) judge(in sonarBody) {
	if in.Gate != nil {
		e.Gate = clip(printable(in.Gate.Status), maxText)
		for _, c := range in.Gate.Conditions {
			if (c.Status == "ERROR" || c.Status == "WARN") && len(e.Failed) < maxKept {
				e.Failed = append(e.Failed, shown(c.Metric))
			}
			if c.Metric == "coverage" {
				e.Coverage = percent(c.Value)
			}
		}
	}
	switch {
	case in.Status == "CANCELED":
		e.Status = v1alpha1.StatusSkipped
	case in.Status != "SUCCESS", e.Gate == "ERROR", e.Gate == "WARN":
		e.Status = v1alpha1.StatusFailed
	case e.Gate == "OK":
		e.Status = v1alpha1.StatusPassed
	default: // NONE: no gate has judged it
		e.Status = v1alpha1.StatusSkipped
	}
}

// percent reads a figure from 0 to 100; nil for anything else, since a figure that is wrong is none.
func percent(s string) *float64 {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(f) || f < 0 || f > 100 {
		return nil
	}
	f += 0 // −0 becomes 0
	return &f
}
