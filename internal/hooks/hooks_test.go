// SPDX-License-Identifier: Apache-2.0

package hooks

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

func sample(t testing.TB, name string) []byte {
	t.Helper()
	body, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// edited is a sample with some of its text replaced, all of which must be in it.
func edited(t testing.TB, name string, oldnew ...string) []byte {
	t.Helper()
	text := string(sample(t, name))
	for i := 0; i < len(oldnew); i += 2 {
		if !strings.Contains(text, oldnew[i]) {
			t.Fatalf("%s has no %s", name, oldnew[i])
		}
		text = strings.ReplaceAll(text, oldnew[i], oldnew[i+1])
	}
	return []byte(text)
}

func TestGitLabSamples(t *testing.T) {
	for _, tc := range []struct {
		file string
		want GitLab
	}{
		{"gitlab-pipeline.json", GitLab{Kind: "pipeline", ProjectPath: "gitlab-org/gitlab-test", ProjectID: 1,
			Commit: "bcbb5ec396a2c0f828686f14fac9b80b780504f2", Branch: "master", Word: "success", Status: "passed", Origin: "merge_request_event",
			Pipeline: "31", Run: "380", URL: "http://example.com/gitlab-org/gitlab-test/-/pipelines/31"}},
		{"gitlab-job.json", GitLab{Kind: "build", ProjectPath: "gitlab-org/gitlab-test", ProjectID: 380,
			Commit: "2293ada6b400935a1378653304eaf6221e0fdb8f", Branch: "gitlab-script-trigger", Word: "created",
			Pipeline: "2366", Job: "test", Run: "1977", URL: "http://192.168.64.1:3005/gitlab-org/gitlab-test/-/jobs/1977"}},
		{"gitlab-deployment.json", GitLab{Kind: "deployment", ProjectPath: "root/test-deployment-webhooks", ProjectID: 30,
			Commit: "279484c09fbe69ededfced8c1bb6e6d24616b468", Word: "success", Status: "deployed", Run: "15",
			Environment: "staging", EnvironmentSlug: "staging", ByJob: true, URL: "http://10.126.0.2:3000/root/test-deployment-webhooks/-/jobs/796"}},
		{"gitlab-tag.json", GitLab{Kind: "tag_push", ProjectPath: "jsmith/example", ProjectID: 1,
			Commit: "82b3d5ae55f7080f1e6022629cdb57bfae7cccc7", Tag: "v1.0.0"}},
		{"gitlab-push.json", GitLab{Kind: "push"}},
	} {
		got, err := ReadGitLab(sample(t, tc.file))
		if err != nil {
			t.Errorf("%s: %v", tc.file, err)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.file, diff)
		}
	}
}

// The events of groups (of members, subgroups and projects) have no object_kind; what says neither is no event.
func TestGitLabGroupEvents(t *testing.T) {
	for body, want := range map[string]string{
		`{"created_at":"2020-12-11T04:57:22Z","group_name":"webhook-test","group_id":100,"user_username":"test_user","event_name":"user_add_to_group"}`: "user_add_to_group",
		`{"event_name":"subgroup_create","name":"subgroup1","full_path":"group1/subgroup1","group_id":10}`:                                              "subgroup_create",
		`{"event_name":"tag_push"}`:                               "tag_push",
		`{"object_kind":"note","event_name":"something else"}`:    "note",
		`{"event_name":"` + strings.Repeat("a\\u001b", 40) + `"}`: strings.Repeat("a?", 20),
	} {
		if got, err := ReadGitLab([]byte(body)); err != nil || got != (GitLab{Kind: want}) {
			t.Errorf("%s: %+v, %v", body, got, err)
		}
	}
	wantRefusal(t, "neither", readers["gitlab"], []byte(`{"name":"x"}`))
}

// What was recorded by GitLab's API, no job did.
func TestGitLabDeploymentWithoutJob(t *testing.T) {
	got, err := ReadGitLab(edited(t, "gitlab-deployment.json", `"deployable_id": 796`, `"deployable_id": null`,
		`"http://10.126.0.2:3000/root/test-deployment-webhooks/-/jobs/796"`, `null`))
	if err != nil || got.ByJob || got.Status != "deployed" || got.URL != "" {
		t.Errorf("%+v, %v", got, err)
	}
}

// A deployment is a job's when its number or its address says so, and of the commit at the end of commit_url only where that is a
// whole one that begins with short_sha.
func TestGitLabDeployments(t *testing.T) {
	const job, address, commit = `"deployable_id": 796`, `"http://10.126.0.2:3000/root/test-deployment-webhooks/-/jobs/796"`, "279484c09fbe69ededfced8c1bb6e6d24616b468"
	for _, tc := range []struct {
		name, old, new, commit string
		byJob                  bool
	}{
		{"as it is", job, job, commit, true},
		{"a job's number alone", address, "null", commit, true},
		{"a job's address alone", job, `"deployable_id": null`, commit, true},
		{"another commit's address", "commit/279484c0", "commit/379484c0", "279484c0", true},
		{"an address that is cut off", "6b468\"", "6b46\"", "279484c0", true},
		{"an address of something else", commit, "279484c0-master", "279484c0", true},
		{"no address", "http://10.126.0.2:3000/root/test-deployment-webhooks/-/commit/" + commit, "", "279484c0", true},
	} {
		got, err := ReadGitLab(edited(t, "gitlab-deployment.json", tc.old, tc.new))
		if err != nil || got.Commit != tc.commit || got.ByJob != tc.byJob {
			t.Errorf("%s: %+v, %v", tc.name, got, err)
		}
	}
}

// Of what project a job is, of what tag or branch, and of what commit is told in every form that GitLab gives it.
func TestGitLabJobs(t *testing.T) {
	const ref = `"ref": "gitlab-script-trigger"`
	for _, tc := range []struct {
		name, old, new string
		want           func(*GitLab)
	}{
		{"a tag", `"tag": false`, `"tag": true`, func(e *GitLab) { e.Branch, e.Tag = "", "gitlab-script-trigger" }},
		{"the project's number beside the project", `"project": {
    "id": 380,`, `"project": {`, func(*GitLab) {}},
		{"the project's own number counts", `"project_id": 380`, `"project_id": 381`, func(*GitLab) {}},
		{"no project", `"project": {
    "id": 380,`, `"other": {`, func(e *GitLab) { e.ProjectPath, e.URL = "", "" }},
		{"no project at all", `"id": 380,`, ``, func(*GitLab) {}},
		{"capitals in the commit", `"sha": "2293ada6b4`, `"sha": "2293ADA6B4`, func(*GitLab) {}},
		{"a branch that ends a line", ref, `"ref": "a\nb"`, func(e *GitLab) { e.Branch = "" }},
		{"the longest branch", ref, `"ref": "` + strings.Repeat("b", maxText) + `"`, func(e *GitLab) { e.Branch = strings.Repeat("b", maxText) }},
		{"a longer branch", ref, `"ref": "` + strings.Repeat("b", maxText+1) + `"`, func(e *GitLab) { e.Branch = "" }},
		{"a long name, cut at a letter's end", `"build_name": "test"`, `"build_name": "` + strings.Repeat("n", maxText-1) + `é"`,
			func(e *GitLab) { e.Job = strings.Repeat("n", maxText-1) }},
	} {
		want, err := ReadGitLab(sample(t, "gitlab-job.json"))
		if err != nil {
			t.Fatal(err)
		}
		tc.want(&want)
		got, err := ReadGitLab(edited(t, "gitlab-job.json", tc.old, tc.new))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", tc.name, err, diff)
		}
	}
	// A pipeline of no jobs has no newest one.
	if got, err := ReadGitLab(edited(t, "gitlab-pipeline.json", `"builds"`, `"others"`)); err != nil || got.Run != "" {
		t.Errorf("no jobs: run %q, %v", got.Run, err)
	}
}

func TestGitLabStates(t *testing.T) {
	for word, want := range map[string]string{"success": "passed", "failed": "failed", "canceled": "skipped", "skipped": "skipped",
		"running": "", "manual": "", "SUCCESS": "", "succeeded": ""} {
		got, err := ReadGitLab(edited(t, "gitlab-pipeline.json", `"source": "merge_request_event",`+"\n    "+`"status": "success"`, `"status": "`+word+`"`))
		if err != nil || got.Status != want || !got.Judges() {
			t.Errorf("pipeline %s: %q, %v", word, got.Status, err)
		}
	}
	for word, want := range map[string]string{"success": "deployed", "failed": "failed", "canceled": "failed", "running": "", "created": ""} {
		got, err := ReadGitLab(edited(t, "gitlab-deployment.json", `"status": "success"`, `"status": "`+word+`"`))
		if err != nil || got.Status != want {
			t.Errorf("deployment %s: %q, %v", word, got.Status, err)
		}
	}
	for origin, want := range map[string]bool{"push": true, "web": true, "trigger": true, "schedule": true, "api": true, "external": true, "pipeline": true, "chat": true,
		"merge_request_event": true, "external_pull_request_event": true,
		"parent_pipeline": false, "webide": false, "ondemand_dast_scan": false, "anything new": false, "PUSH": false} {
		got, err := ReadGitLab(edited(t, "gitlab-pipeline.json", "merge_request_event", origin))
		if err != nil || got.Judges() != want {
			t.Errorf("origin %s: %v, %v", origin, got.Judges(), err)
		}
	}
}

func TestGitLabVersions(t *testing.T) {
	for tag, want := range map[string]string{"v1.2.3": "v1.2.3", "1.2.3": "v1.2.3", "v1.2.3-rc.1": "v1.2.3-rc.1", "v1.2": "", "v01.2.3": "", "release-1.2.3": "",
		"v1.2.3+build": "", "v1.2.3-" + strings.Repeat("a", 64): "",
		"1.2.3-" + strings.Repeat("a", 57): "v1.2.3-" + strings.Repeat("a", 57), "1.2.3-" + strings.Repeat("a", 58): ""} {
		got, err := ReadGitLab(edited(t, "gitlab-tag.json", "v1.0.0", tag))
		if err != nil || got.Version() != want {
			t.Errorf("%s: %q, %v", tag, got.Version(), err)
		}
	}
	got, err := ReadGitLab(edited(t, "gitlab-tag.json", `"checkout_sha": "82b3d5ae55f7080f1e6022629cdb57bfae7cccc7"`, `"checkout_sha": null`))
	if err != nil || !got.Deleted || got.Commit != "" {
		t.Errorf("deleted: %+v, %v", got, err)
	}
}

func TestHarborSamples(t *testing.T) {
	const alpine, reference = "harbor/alpine", "localhost/harbor/alpine"
	digest := "sha256:954b378c375d852eb3c63ab88978f640b4348b01c1b3456a024a81536dafbbf4"
	failed := "sha256:dabea2944dcc2b86482b4f0b0fb62da80e0673e900c46c0e03b45919881a5d84"
	at := func(s int64) time.Time { return time.Unix(s, 0).UTC() }
	clean := &HarborScan{Status: "passed", Findings: &v1alpha1.VulnerabilityCounts{}, Scanner: "Trivy v0.37.2"}
	broken := &HarborScan{Status: "failed", Reason: "the scanner failed"}
	for _, tc := range []struct {
		file string
		want Harbor
	}{
		{"harbor-push.json", Harbor{Type: HarborPush, At: at(1680501893), Repository: alpine, Artifacts: []HarborArtifact{{Digest: digest, Reference: reference}}}},
		{"harbor-scan-completed.json", Harbor{Type: HarborScanned, At: at(1680502375), Repository: alpine, Artifacts: []HarborArtifact{{Digest: digest, Reference: reference, Scan: clean}}}},
		{"harbor-scan-completed-cloud.json", Harbor{Type: HarborScanned, At: at(1680502375), Repository: alpine, Artifacts: []HarborArtifact{{Digest: digest, Reference: reference, Scan: clean}}}},
		{"harbor-scan-failed.json", Harbor{Type: HarborScanFailed, At: at(1680505885), Repository: alpine, Artifacts: []HarborArtifact{{Digest: failed, Reference: reference, Scan: broken}}}},
		{"harbor-scan-failed-cloud.json", Harbor{Type: HarborScanFailed, At: at(1680505885), Repository: alpine, Artifacts: []HarborArtifact{{Digest: failed, Reference: reference, Scan: broken}}}},
		{"harbor-scan-stopped.json", Harbor{Type: HarborScanStopped, At: at(1680502334), Repository: alpine, Artifacts: []HarborArtifact{{
			Digest: "sha256:e802987f152d7826cf929ad4999fb3bb956ce7a30966aeb46c749f9120eaf22c", Reference: reference,
			Scan: &HarborScan{Status: "skipped", Reason: "the scan was stopped"}}}}},
		{"harbor-quota.json", Harbor{Type: HarborQuotaExceed, At: at(1680505484), Repository: alpine, Artifacts: []HarborArtifact{{
			Digest: "sha256:402d21757a03a114d273bbe372fa4b9eca567e8b6c332fa7ebf982b902207242"}}}},
		{"harbor-replication-cloud.json", Harbor{Type: HarborReplication, At: at(1680501886)}},
	} {
		got, err := ReadHarbor(sample(t, tc.file))
		if err != nil {
			t.Errorf("%s: %v", tc.file, err)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.file, diff)
		}
	}
}

// An event says the same in either format, and no other type is one that is read.
func TestHarborTypes(t *testing.T) {
	for cloud, plain := range map[string]string{"harbor.artifact.pushed": HarborPush, "harbor.scan.completed": HarborScanned, "harbor.scan.failed": HarborScanFailed,
		"harbor.scan.stopped": HarborScanStopped, "harbor.replication.status.changed": HarborReplication, "harbor.quota.exceeded": HarborQuotaExceed,
		"harbor.quota.warned": HarborQuotaWarn} {
		one, err := ReadHarbor(edited(t, "harbor-scan-completed-cloud.json", "harbor.scan.completed", cloud))
		two, err2 := ReadHarbor(edited(t, "harbor-scan-completed.json", HarborScanned, plain))
		if diff := cmp.Diff(one, two); diff != "" || err != nil || err2 != nil || one.Type != plain || len(one.Artifacts) != 1 {
			t.Errorf("%s: %v, %v (-cloud +plain):\n%s", cloud, err, err2, diff)
		}
		// Each format has its own names.
		one, err = ReadHarbor(edited(t, "harbor-scan-completed-cloud.json", "harbor.scan.completed", plain))
		two, err2 = ReadHarbor(edited(t, "harbor-scan-completed.json", HarborScanned, cloud))
		if err != nil || err2 != nil || len(one.Artifacts)+len(two.Artifacts) != 0 {
			t.Errorf("%s: %+v, %v; %+v, %v", cloud, one, err, two, err2)
		}
	}
}

// An image has the address and the tag that Harbor gives it, and no digest for a tag.
func TestHarborAddresses(t *testing.T) {
	const digest = "954b378c375d852eb3c63ab88978f640b4348b01c1b3456a024a81536dafbbf4"
	const tag, address = `"tag": "sha256:` + digest + `"`, `"localhost/harbor/alpine@sha256:` + digest + `"`
	for _, tc := range []struct{ name, tag, address, wantTag, want string }{
		{"by digest", tag, address, "", "localhost/harbor/alpine"},
		{"by tag", `"tag": "v1"`, `"localhost/harbor/alpine:v1"`, "v1", "localhost/harbor/alpine"},
		{"at a port", `"tag": "v1"`, `"localhost:5000/harbor/alpine"`, "v1", "localhost:5000/harbor/alpine"},
		{"at a port, by tag and digest", `"tag": "v1"`, `"https://localhost:5000/harbor/alpine:v1@sha256:` + digest + `"`, "v1", "localhost:5000/harbor/alpine"},
	} {
		got, err := ReadHarbor(edited(t, "harbor-push.json", tag, tc.tag, address, tc.address))
		if err != nil || len(got.Artifacts) != 1 || got.Artifacts[0].Tag != tc.wantTag || got.Artifacts[0].Reference != tc.want {
			t.Errorf("%s: %+v, %v", tc.name, got, err)
		}
	}
	if got, err := ReadHarbor(edited(t, "harbor-push.json", `"resources": [`, `"resources": [`+strings.Repeat("{},", maxKept-1))); err != nil || len(got.Artifacts) != maxKept {
		t.Errorf("as many images as may be: %d, %v", len(got.Artifacts), err)
	}
	// An event about no image in particular names none.
	if got, err := ReadHarbor(edited(t, "harbor-push.json", `"digest": "sha256:`+digest+`",`, "")); err != nil || len(got.Artifacts) != 1 || got.Artifacts[0].Digest != "" {
		t.Errorf("without a digest: %+v, %v", got, err)
	}
}

// A scan passes only if every report says that it was made to its end.
func TestHarborScans(t *testing.T) {
	counts := func(c, h, m, l int32) *v1alpha1.VulnerabilityCounts {
		return &v1alpha1.VulnerabilityCounts{Critical: c, High: h, Medium: m, Low: l}
	}
	for _, tc := range []struct {
		name, old, new, status string
		findings               *v1alpha1.VulnerabilityCounts
	}{
		{"by severity", `"summary": {}`, `"summary": {"Critical": 1, "High": 2, "Medium": 3, "Low": 4, "Negligible": 5}`, "passed", counts(1, 2, 3, 9)},
		{"unknown is medium, none is nothing", `"summary": {}`, `"summary": {"Unknown": 2, "Severe": 1, "None": 4}`, "passed", counts(0, 0, 3, 0)},
		{"what is no finding is none of the total", `"total": 0,
              "fixable": 0,
              "summary": {}`, `"total": 4, "summary": {"None": 3, "High": 0}`, "passed", counts(0, 0, 1, 0)},
		{"as many as may be", `"summary": {}`, `"summary": {"Critical": 100000000, "High": 100000000, "Medium": 100000000, "Low": 100000000}`, "passed",
			counts(100_000_000, 100_000_000, 100_000_000, 100_000_000)},
		{"of several the most", `"scan_overview": {`, `"scan_overview": {"a": {"scan_status": "Success", "summary": {"summary": {"High": 7}}},
			"b": {"scan_status": "Success", "summary": {"summary": {"High": 2, "Critical": 1}}},`, "passed", counts(1, 7, 0, 0)},
		{"as many reports as may be", `"scan_overview": {`, `"scan_overview": {` + members(maxKept-1), "passed", counts(0, 0, 0, 0)},
		{"nothing is said of how much was scanned", `"complete_percent": 100,`, ``, "passed", counts(0, 0, 0, 0)},
		{"what the total has beyond the severities is medium", `"total": 0`, `"total": 5`, "passed", counts(0, 0, 5, 0)},
		{"not successful", `"scan_status": "Success"`, `"scan_status": "Error"`, "failed", nil},
		{"still running", `"scan_status": "Success"`, `"scan_status": "Running"`, "", nil}, // goharbor/harbor#14585: of a scan that has ended
		{"waiting", `"scan_status": "Success"`, `"scan_status": "Pending"`, "", nil},
		{"put off", `"scan_status": "Success"`, `"scan_status": "Scheduled"`, "", nil},
		{"no status", `"scan_status": "Success"`, `"scan_status": null`, "failed", nil},
		{"a part of an index", `"complete_percent": 100`, `"complete_percent": 50`, "failed", nil},
		{"no overview", `"scan_overview"`, `"scan_overviews"`, "", nil}, // goharbor/harbor#22212: of scheduled scans
		{"one that runs and one that failed", `"application/vnd.security.vulnerability.report; version=1.1": {`,
			`"a": {"scan_status": "Running"}, "b": {"scan_status": "Running"}, "c": {"scan_status": "Error"}, "d": {`, "failed", nil},
		{"no summary", `"summary": {`, `"summaries": {`, "failed", nil},
	} {
		got, err := ReadHarbor(edited(t, "harbor-scan-completed.json", tc.old, tc.new))
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if scan := got.Artifacts[0].Scan; scan.Status != tc.status || (scan.Reason == "") != (tc.status == "passed") || cmp.Diff(tc.findings, scan.Findings) != "" {
			t.Errorf("%s: %+v %+v", tc.name, scan, scan.Findings)
		}
	}
}

// What Harbor says of the making of an SBOM, which it calls a scan too, is nothing about vulnerabilities.
func TestHarborSBOM(t *testing.T) {
	for _, file := range []string{"harbor-scan-completed.json", "harbor-scan-completed-cloud.json", "harbor-scan-failed.json", "harbor-scan-stopped.json"} {
		for scan, want := range map[string]string{`"scan": {"scan_type": "sbom"}`: "sbom", `"scan": {"scan_type": "vulnerability"}`: "", `"scan": {}`: ""} {
			got, err := ReadHarbor(edited(t, file, `"repository": {`, scan+`, "repository": {`))
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			if got.ScanType != want || (got.Artifacts[0].Scan == nil) != (want == "sbom") {
				t.Errorf("%s with %s: type %q, %+v", file, scan, got.ScanType, got.Artifacts[0].Scan)
			}
		}
	}
}

func TestSonarQubeSamples(t *testing.T) {
	got, err := ReadSonarQube(sample(t, "sonarqube-analysis.json"))
	want := SonarQube{Task: "AVh21JS2JepAEhwQ-b3u", Project: "myProject", Commit: "c739069ec7105e01303e8b3065a81141aad9f129",
		At: time.Date(2016, 11, 18, 9, 46, 28, 0, time.UTC), Gate: "OK", Status: "passed", URL: "https://mycompany.com/sonarqube/project/overview?id=myproject"}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("analysis: %v (-want +got):\n%s", err, diff)
	}
	got, err = ReadSonarQube(sample(t, "sonarqube-branch.json"))
	coverage := 71.5
	want.Branch, want.At, want.Gate, want.Status, want.Failed, want.Coverage = "main", time.Date(2016, 11, 18, 9, 50, 0, 0, time.UTC), "ERROR", "failed", []string{"coverage"}, &coverage
	want.URL = "https://mycompany.com/sonarqube/dashboard?id=myproject"
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("branch: %v (-want +got):\n%s", err, diff)
	}
}

func TestSonarQubeVerdicts(t *testing.T) {
	const ok = `"name": "SonarQube way",
    "status": "OK"`
	for _, tc := range []struct{ name, old, new, status string }{
		{"passed", ok, ok, "passed"},
		{"no gate", `"qualityGate"`, `"gate"`, "skipped"},
		{"none", ok, `"status": "NONE"`, "skipped"},
		{"a word that is not known", ok, `"status": "FINE"`, "skipped"},
		{"error", ok, `"status": "ERROR"`, "failed"},
		{"a warning", ok, `"status": "WARN"`, "failed"},
		{"the task failed", `"status": "SUCCESS"`, `"status": "FAILED"`, "failed"},
		{"the task was cancelled", `"status": "SUCCESS"`, `"status": "CANCELED"`, "skipped"},
	} {
		got, err := ReadSonarQube(edited(t, "sonarqube-analysis.json", tc.old, tc.new))
		if err != nil || got.Status != tc.status {
			t.Errorf("%s: %q, %v", tc.name, got.Status, err)
		}
	}
	for value, want := range map[string]string{"0": "0", "-0": "0", "100": "100", "100.1": "", "-0.1": "", "NaN": "", "Inf": "", "1e999": "", "": "", "many": ""} {
		got, err := ReadSonarQube(edited(t, "sonarqube-branch.json", "71.5", value))
		if err != nil {
			t.Fatal(err)
		}
		text := ""
		if got.Coverage != nil {
			text = strconv.FormatFloat(*got.Coverage, 'g', -1, 64)
		}
		if text != want {
			t.Errorf("a coverage of %q is %q", value, text)
		}
	}
	// Whichever of the two times is the later is that of the verdict.
	if got, err := ReadSonarQube(edited(t, "sonarqube-branch.json", "2016-11-18T10:50:00", "2016-11-18T10:40:00")); err != nil || !got.At.Equal(time.Date(2016, 11, 18, 9, 46, 28, 0, time.UTC)) {
		t.Errorf("changed before it was analysed: %v, %v", got.At, err)
	}
	for name, want := range map[string]string{strings.Repeat("b", maxText): strings.Repeat("b", maxText), strings.Repeat("b", maxText+1): "", `a\u202eb`: ""} {
		if got, err := ReadSonarQube(edited(t, "sonarqube-branch.json", `"name": "main"`, `"name": "`+name+`"`)); err != nil || got.Branch != want {
			t.Errorf("branch %.20s: %q, %v", name, got.Branch, err)
		}
	}
	got, err := ReadSonarQube(edited(t, "sonarqube-branch.json", `"BRANCH"`, `"PULL_REQUEST"`, "71.5", "-3"))
	if err != nil || !got.PullRequest || got.Coverage != nil {
		t.Errorf("pull request: %+v, %v", got, err)
	}
	if got, err := ReadSonarQube(edited(t, "sonarqube-analysis.json", "c739069ec7105e01303e8b3065a81141aad9f129", "r4711")); err != nil || got.Commit != "" {
		t.Errorf("a revision of another system: %+v, %v", got, err)
	}
}

var readers = map[string]func([]byte) (any, error){
	"gitlab":    func(b []byte) (any, error) { return ReadGitLab(b) },
	"harbor":    func(b []byte) (any, error) { return ReadHarbor(b) },
	"sonarqube": func(b []byte) (any, error) { return ReadSonarQube(b) },
}

// hostile are bodies that no reader takes.
var hostile = map[string]string{
	"empty": "", "null": "null", "a list": `[{}]`, "a text": `"x"`, "nothing in it": `{}`, "two": `{"type":"X","object_kind":"x"} {}`,
	"no UTF-8": "{\"object_kind\":\"\xff\"}", "a member twice": `{"object_kind":"push","object_kind":"pipeline","type":"a","type":"b"}`,
	"deep":       `{"a":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `}`,
	"many":       `{"a":[` + strings.Repeat("0,", maxTokens) + `0]}`,
	"other kind": `{"object_kind":7,"type":7,"project":7}`, "not JSON": `{"object_kind":}`,
}

func TestHostileBodies(t *testing.T) {
	for source, read := range readers {
		for name, body := range hostile {
			wantRefusal(t, source+": "+name, read, []byte(body))
		}
		files, err := filepath.Glob("testdata/" + source + "-*.json")
		if err != nil || len(files) < 2 {
			t.Fatalf("%d samples: %v", len(files), err)
		}
		for _, file := range files { // cut off anywhere
			body := sample(t, filepath.Base(file))
			for cut := 0; cut < len(body)-2; cut += 1 + len(body)/50 {
				wantRefusal(t, file+" cut off", read, body[:cut])
			}
		}
	}
}

func wantRefusal(t *testing.T, name string, read func([]byte) (any, error), body []byte) {
	t.Helper()
	_, err := read(body)
	var refused *Error
	if !errors.As(err, &refused) || refused.Detail == "" || refused.Error() == "" {
		t.Errorf("%s: %v", name, err)
	}
}

// members are those of a JSON object: one report of Harbor's each.
func members(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(`"r` + strconv.Itoa(i) + `": {"scan_status": "Success", "summary": {}},`)
	}
	return b.String()
}

// A body is as deep and as long as it may be, and no more, whatever else it says.
func TestBounds(t *testing.T) {
	for source, file := range map[string]string{"gitlab": "gitlab-pipeline.json", "harbor": "harbor-scan-completed.json", "sonarqube": "sonarqube-analysis.json"} {
		with := func(value string) []byte {
			return []byte(strings.Replace(string(sample(t, file)), "{", `{"beside":`+value+",", 1))
		}
		deep := func(n int) []byte { return with(strings.Repeat("[", n) + strings.Repeat("]", n)) }
		if _, err := readers[source](deep(maxDepth - 1)); err != nil {
			t.Errorf("%s, as deep as may be: %v", source, err)
		}
		wantRefusal(t, source+", one deeper", readers[source], deep(maxDepth))
		if _, err := readers[source](with("[" + strings.Repeat("0,", maxTokens-2000) + "0]")); err != nil {
			t.Errorf("%s, long: %v", source, err)
		}
		wantRefusal(t, source+", longer than may be", readers[source], with("["+strings.Repeat("0,", maxTokens)+"0]"))
	}
}

func TestRefusedFields(t *testing.T) {
	for _, tc := range []struct{ file, old, new, field string }{
		{"gitlab-pipeline.json", `"sha": "bcbb5ec396a2c0f828686f14fac9b80b780504f2"`, `"sha": "bcbb5ec"`, "object_attributes.sha"},
		{"gitlab-pipeline.json", `"id": 31`, `"id": 0`, "object_attributes.id"},
		{"gitlab-pipeline.json", `"id": 31`, `"id": "31"`, "object_attributes.id"},
		{"gitlab-pipeline.json", `"status": "success",` + "\n    \"stages\"", `"stages"`, "object_attributes.status"},
		{"gitlab-job.json", `"build_id": 1977`, `"build_id": -1`, "build_id"},
		{"gitlab-job.json", `"pipeline_id": 2366`, `"pipeline_id": 1.5`, "pipeline_id"},
		{"gitlab-deployment.json", `"deployment_id": 15`, `"deployment_id": null`, "deployment_id"},
		{"gitlab-deployment.json", `"short_sha": "279484c0"`, `"short_sha": "; rm -rf /"`, "short_sha"},
		{"gitlab-job.json", `"sha": "2293ada6b400935a1378653304eaf6221e0fdb8f",
  "build_id"`, `"sha": "2293ada",
  "build_id"`, "sha"},
		{"gitlab-pipeline.json", `"source": "merge_request_event"`, `"source": 7`, "object_attributes.source"},
		{"gitlab-pipeline.json", `"builds": [`, `"builds": [{"id": "9"},`, "builds.0.id"},
		{"gitlab-job.json", `"ref": "gitlab-script-trigger"`, `"ref": 7`, "ref"},
		{"gitlab-deployment.json", `"commit_url": "`, `"commit_url": false, "x": "`, "commit_url"},
		{"gitlab-tag.json", `"checkout_sha": "`, `"checkout_sha": false, "x": "`, "checkout_sha"},
		{"gitlab-job.json", `"build_name": "test"`, `"build_name": ""`, "build_name"},
		{"gitlab-job.json", `"build_status": "created"`, `"build_status": ""`, "build_name"},
		{"gitlab-deployment.json", `"environment": "staging"`, `"environment": ""`, "environment"},
		{"gitlab-deployment.json", `"status": "success"`, `"status": ""`, "environment"},
		{"gitlab-tag.json", "refs/tags/v1.0.0", "refs/heads/main", "ref"},
		{"gitlab-tag.json", "refs/tags/v1.0.0", "refs/tags/", "ref"},
		{"gitlab-tag.json", `"checkout_sha": "82b3d5ae`, `"checkout_sha": "82b3d5a`, "checkout_sha"},
		{"harbor-scan-completed.json", `"occur_at": 1680502375`, `"occur_at": 0`, "occur_at"},
		{"harbor-scan-completed.json", `"digest": "sha256:`, `"digest": "md5:`, "digest"},
		{"harbor-scan-completed.json", `"digest"`, `"digests"`, "digest"},
		{"harbor-scan-completed.json", `"summary": {}`, `"summary": {"High": -1}`, "scan_overview"},
		{"harbor-scan-completed.json", `"summary": {}`, `"summary": {"High": 99999999999999999999}`, "event_data.resources.0.scan_overview.application~1vnd.security.vulnerability.report; version=1.1.summary.summary.High"},
		{"harbor-scan-completed.json", `"summary": {}`, `"summary": {"High": 100000001}`, "scan_overview"},
		{"harbor-scan-completed.json", `"summary": {}`, `"summary": {"Critical": 100000001}`, "scan_overview"},
		{"harbor-scan-completed.json", `"summary": {}`, `"summary": {"Low": 60000000, "Negligible": 40000001}`, "scan_overview"},
		{"harbor-scan-completed.json", `"summary": {}`, `"summary": {"High": 9223372036854775807, "HIGH": 9223372036854775807, "high": 4}`, "scan_overview"},
		{"harbor-scan-completed.json", `"summary": {}`, `"summary": {"None": 9223372036854775807}`, "scan_overview"},
		{"harbor-scan-completed.json", `"total": 0`, `"total": 9223372036854775807`, "scan_overview"},
		{"harbor-scan-completed.json", `"resources": [`, `"resources": [` + strings.Repeat("{},", maxKept), "resources"},
		{"harbor-scan-completed.json", `"scan_overview": {`, `"scan_overview": {` + members(maxKept), "scan_overview"},
		{"harbor-scan-completed-cloud.json", "2023-04-03T06:12:55Z\",\n  \"data\"", "yesterday\",\n  \"data\"", "time"},
		{"sonarqube-analysis.json", `"key": "myProject"`, `"key": ""`, "project.key"},
		{"sonarqube-analysis.json", `"key": "myProject"`, `"key": "` + strings.Repeat("p", maxProject+1) + `"`, "project.key"},
		{"sonarqube-analysis.json", `"status": "SUCCESS"`, `"status": ""`, "status"},
		{"sonarqube-analysis.json", `"revision": "`, `"revision": 7, "x": "`, "revision"},
		{"sonarqube-analysis.json", "2016-11-18T10:46:28+0100", "18.11.2016", "analysedAt"},
		{"sonarqube-branch.json", "2016-11-18T10:50:00+0100", "18.11.2016", "changedAt"},
	} {
		source, _, _ := strings.Cut(tc.file, "-")
		_, err := readers[source](edited(t, tc.file, tc.old, tc.new))
		var refused *Error
		if !errors.As(err, &refused) || refused.Field != tc.field {
			t.Errorf("%s with %s: %v, want it to name %s", tc.file, tc.new, err, tc.field)
		}
	}
}

// Nothing that a body holds besides what is read is in what is read.
func TestNothingElseIsKept(t *testing.T) {
	got, err := ReadGitLab(edited(t, "gitlab-pipeline.json", "us-west-1", "canary-5f3a", "user_email@gitlab.com", "canary-5f3a", "Administrator", "canary-5f3a"))
	if err != nil {
		t.Fatal(err)
	}
	if text := cmp.Diff(GitLab{}, got); strings.Contains(text, "canary") {
		t.Error(text)
	}
}

func TestTextIsInert(t *testing.T) {
	got, err := ReadGitLab(edited(t, "gitlab-job.json", `"build_name": "test"`, `"build_name": "a\u001b[31m\u202eb"`, `"web_url": "http://`, `"web_url": "javascript://`))
	if err != nil || got.Job != "a?[31m?b" || got.URL != "" {
		t.Errorf("%q %q %v", got.Job, got.URL, err)
	}
	for _, address := range []string{"javascript:alert(1)", "https://user:secret@x/", "https://", "https://x/\"><script>", "ftp://x/", "https://x/\u202e", "https://x/\n", "https://x/" + strings.Repeat("a", maxURL)} {
		if link(address) != "" {
			t.Errorf("%.40s is kept", address)
		}
	}
}

var (
	now     = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	key     = []byte("0123456789abcdef0123456789abcdef")
	signing = []byte("whsec_" + base64.StdEncoding.EncodeToString(key))
)

func signed(body []byte, at time.Time) Signed {
	s := Signed{ID: "f5e5f430-f57b-4e6e-9fac-d9128cd7232f", Timestamp: strconv.FormatInt(at.Unix(), 10)}
	s.Signature = "v1," + base64.StdEncoding.EncodeToString(sum(key, []byte(s.ID+"."+s.Timestamp+"."+string(body))))
	return s
}

// The example of the Standard Webhooks libraries' own tests.
func TestStandardWebhooksVector(t *testing.T) {
	s := Signed{ID: "msg_p5jXN8AQM9LWM0D4loKWxJek", Timestamp: "1614265330", Signature: "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="}
	body := []byte(`{"test": 2432232314}`)
	if !s.Fresh(time.Unix(1614265330, 0)) || !s.Matches(body, []byte("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")) {
		t.Error("refused")
	}
}

func TestSigned(t *testing.T) {
	body := []byte(`{"object_kind":"push"}`)
	good := signed(body, now)
	other := []byte("whsec_" + base64.StdEncoding.EncodeToString([]byte("another key of thirty-two bytes.")))
	if !good.Fresh(now) || !good.Matches(body, signing) || !good.Matches(body, other, signing) {
		t.Error("a good one is refused")
	}
	several := good
	several.Signature = "v1a,xxxx v1,AAAA " + good.Signature
	if !several.Fresh(now) || !several.Matches(body, signing) {
		t.Error("one of several is refused")
	}
	for name, change := range map[string]func(*Signed){
		"another id":      func(s *Signed) { s.ID += "x" },
		"another time":    func(s *Signed) { s.Timestamp = strconv.FormatInt(now.Unix()+1, 10) },
		"another version": func(s *Signed) { s.Signature = "v2" + s.Signature[2:] },
		"no version":      func(s *Signed) { s.Signature = s.Signature[3:] },
		"empty":           func(s *Signed) { s.Signature = "v1," },
		"something after": func(s *Signed) { s.Signature += "!" },
		"cut off":         func(s *Signed) { s.Signature = s.Signature[:20] },
		"ninth":           func(s *Signed) { s.Signature = strings.Repeat("v1,AAAA ", 8) + s.Signature },
	} {
		s := good
		if change(&s); s.Matches(body, signing) {
			t.Errorf("%s: accepted", name)
		}
	}
	empty := Signed{ID: good.ID, Timestamp: good.Timestamp}
	empty.Signature = "v1," + base64.StdEncoding.EncodeToString(sum(nil, []byte(empty.ID+"."+empty.Timestamp+"."+string(body))))
	for name, keys := range map[string][][]byte{"no key": nil, "an empty key": {nil}, "no whsec_": {key}, "not base64": {[]byte("whsec_!!!")}, "a short key": {[]byte("whsec_AAAA")}, "another key": {other}} {
		if good.Matches(body, keys...) || empty.Matches(body, keys...) {
			t.Errorf("%s: accepted", name)
		}
	}
	if good.Matches(append(body, ' '), signing) {
		t.Error("another body: accepted")
	}
	long, several8 := good, good
	long.ID, several8.Signature = strings.Repeat("x", maxSignedID), strings.Repeat("v1,AAAA ", maxSignatures-1)+good.Signature
	if !long.Fresh(now) || !several8.Fresh(now) || !several8.Matches(body, signing) {
		t.Error("the longest id, or as many signatures as may be, are refused")
	}
	several9 := several8
	long.ID, several9.Signature = long.ID+"x", "v1,AAAA "+several8.Signature
	if long.Fresh(now) || several9.Fresh(now) {
		t.Error("a longer id, or more signatures than may be, are fresh")
	}
	for name, s := range map[string]Signed{"old": signed(body, now.Add(-Tolerance)), "ahead": signed(body, now.Add(Tolerance)), "no time": {ID: "x", Signature: "v1,x"},
		"words": {ID: "x", Timestamp: "now"}, "no id": {Timestamp: good.Timestamp}, "an endless time": {ID: "x", Timestamp: strings.Repeat("9", 30)}} {
		if s.Fresh(now) {
			t.Errorf("%s: fresh", name)
		}
	}
}

func TestSigningTokens(t *testing.T) {
	long := base64.StdEncoding.EncodeToString(make([]byte, MinSecret))
	for value, want := range map[string]bool{"whsec_" + long: true, "whsec_" + long + "\n": true, long: false, "whsec_" + long[1:]: false, "": false,
		"whsec_" + base64.StdEncoding.EncodeToString(make([]byte, MinSecret-1)): false, "whsec_not base64 at all": false, "whsec_" + long + "!": false} {
		if got := IsSigningToken([]byte(value)); got != want {
			t.Errorf("%q: %v", value, got)
		}
	}
}

func TestTokensAndBodies(t *testing.T) {
	secret, previous, body := []byte("0123456789abcdef"), []byte("fedcba9876543210"), []byte(`{}`)
	if !TokenMatches(string(secret), secret) || !TokenMatches(string(previous), secret, previous) {
		t.Error("a good token is refused")
	}
	if !BodySigned(hex.EncodeToString(sum(secret, body)), body, previous, secret) {
		t.Error("a good signature is refused")
	}
	for name, accepted := range map[string]bool{
		"no token":               TokenMatches("", nil, []byte{}),
		"a short secret":         TokenMatches("short", []byte("short")),
		"another":                TokenMatches("0123456789abcdeF", secret),
		"nothing expected":       TokenMatches(string(secret)),
		"signed with nothing":    BodySigned(hex.EncodeToString(sum(nil, body)), body, nil),
		"signed, nothing wanted": BodySigned(hex.EncodeToString(sum(nil, body)), body),
		"not hexadecimal":        BodySigned("zz", body, secret),
		"something after":        BodySigned(hex.EncodeToString(sum(secret, body))+"zz", body, secret),
		"another body":           BodySigned(hex.EncodeToString(sum(secret, body)), []byte(`{ }`), secret),
		"in base64":              BodySigned(base64.StdEncoding.EncodeToString(sum(secret, body)), body, secret),
	} {
		if accepted {
			t.Errorf("%s: accepted", name)
		}
	}
	if Secret([]byte("0123456789abcde\n")) != nil || string(Secret([]byte("0123456789abcdef\r\n"))) != "0123456789abcdef" {
		t.Error("the length of a secret counts its line break")
	}
}
