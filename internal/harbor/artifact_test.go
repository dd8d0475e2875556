// SPDX-License-Identifier: Apache-2.0

package harbor_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gitlab.com/dynors/sirrat/internal/harbor"
	"gitlab.com/dynors/sirrat/internal/harbor/harbortest"
)

var (
	image = digest("1")
	amd64 = digest("2")
	arm64 = digest("3")
	proof = digest("4")
	ended = time.Date(2026, 11, 22, 14, 4, 5, 123e6, time.UTC)
	where = harbor.Repository{Project: "shop", Name: "team/api"}
)

func digest(c string) string { return "sha256:" + strings.Repeat(c, 64) }

func start(t *testing.T) (*harbortest.Harbor, *harbor.Client) {
	t.Helper()
	h := harbortest.Start(t)
	c, err := harbor.New(h.URL(), harbor.Account{Username: harbortest.Username, Password: harbortest.Password}, h.Transport())
	if err != nil {
		t.Fatal(err)
	}
	return h, c
}

func TestScanOfAnImage(t *testing.T) {
	h, c := start(t)
	h.Put("shop/team/api", image, harbortest.Image{})
	for status, want := range map[string]harbor.State{
		"": harbor.Unscanned, "Pending": harbor.Scanning, "Scheduled": harbor.Scanning, "Running": harbor.Scanning, "Queued": harbor.Scanning,
		"Stopped": harbor.Stopped, "Error": harbor.Failed, "Cancelled": harbor.Failed, "whatever": harbor.Failed,
	} {
		h.Put("shop/team/api", image, harbortest.Image{Status: status})
		o, err := c.Overview(t.Context(), where, image)
		if err != nil || o.State != want {
			t.Errorf("%q: %s, %v", status, o.State, err)
		}
		if _, err := c.Report(t.Context(), where, o); err == nil {
			t.Errorf("%q: there is a report", status)
		}
	}
	h.Put("shop/team/api", image, harbortest.Image{})
	for range 2 { // the second finds it under way
		if err := c.Scan(t.Context(), where, image); err != nil {
			t.Fatal(err)
		}
	}
	h.Scan("shop/team/api", image, ended, "Critical", "High", "High", "Medium", "Unknown", "Low", "Negligible", "None")
	o, err := c.Overview(t.Context(), where, image)
	if err != nil || o.Digest != image || o.State != harbor.Scanned || o.Run != ended.UnixMilli() || o.Scanner != "Trivy v0.58.1" {
		t.Fatalf("%+v, %v", o, err)
	}
	report, err := c.Report(t.Context(), where, o)
	if err != nil || report.Counts != (harbor.Counts{Critical: 1, High: 2, Medium: 2, Low: 2}) {
		t.Errorf("%+v, %v", report.Counts, err)
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(report.Raw, &raw); err != nil || len(raw) != 1 || raw[harbortest.Form] == nil || !strings.Contains(string(report.Raw), "CVE-2026-0007") {
		t.Errorf("%s", report.Raw)
	}
	if _, err := c.Overview(t.Context(), where, amd64); !harbor.IsKind(err, harbor.KindNotFound) {
		t.Errorf("another image: %v", err)
	}
	if err := c.Scan(t.Context(), where, amd64); !harbor.IsKind(err, harbor.KindNotFound) {
		t.Errorf("a scan of another image: %v", err)
	}
	h.Take()
	if _, err := c.Overview(t.Context(), where, "latest"); !harbor.IsKind(err, harbor.KindUnreadable) || len(h.Take()) > 0 {
		t.Errorf("of what is no digest: %v", err)
	}
	if report, err := c.Report(t.Context(), where, harbor.Overview{Digest: image, State: harbor.Scanned}); err == nil {
		t.Errorf("a report on no image: %+v", report)
	}
	h.Misbehave(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusForbidden)
		return true
	})
	if _, err := c.Report(t.Context(), where, o); !harbor.IsKind(err, harbor.KindDenied) || harbor.IsKind(err, harbor.KindUnreadable) {
		t.Errorf("a report that may not be read: %v", err)
	}
	if err := c.Scan(t.Context(), where, image); !harbor.IsKind(err, harbor.KindDenied) {
		t.Errorf("a scan that may not be asked for: %v", err)
	}
}

// Reports of scanners before Harbor 2.2 are read, where there is none of the newer form.
func TestOlderReports(t *testing.T) {
	const older = "application/vnd.scanner.adapter.vuln.report.harbor+json; version=1.0"
	h, c := start(t)
	h.Misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Type", "application/json")
		if strings.HasSuffix(r.URL.Path, "/additions/vulnerabilities") {
			if got := r.Header.Get("X-Accept-Vulnerabilities"); got != older {
				t.Errorf("asked for the form %s", got)
			}
			_, _ = fmt.Fprintf(w, `{%q:{"vulnerabilities":[{"severity":"High"}]}}`, older)
		} else {
			_, _ = fmt.Fprintf(w, `{"digest":%q,"scan_overview":{%q:{"scan_status":"Success","end_time":"2026-11-22T14:04:05Z","summary":{"summary":{"High":1}}}}}`, image, older)
		}
		return true
	})
	o, err := c.Overview(t.Context(), where, image)
	if err != nil || o.State != harbor.Scanned {
		t.Fatalf("%+v, %v", o, err)
	}
	if report, err := c.Report(t.Context(), where, o); err != nil || report.Counts != (harbor.Counts{High: 1}) {
		t.Errorf("%+v, %v", report.Counts, err)
	}
}

// An index is no better than any of its images, in whatever order it lists them; nothing that an engine may run is left out.
func TestIndexIsItsWorstImage(t *testing.T) {
	scanned := func(platform string, at time.Time) harbortest.Image {
		return harbortest.Image{Platform: platform, Status: "Success", Ended: at}
	}
	for name, other := range map[string]harbortest.Image{
		"unscanned":                      {Platform: "linux/arm64"},
		"failed":                         {Platform: "linux/arm64", Status: "Error"},
		"of an unknown architecture":     {Platform: "linux/unknown"},
		"of an unknown operating system": {Platform: "unknown/arm64"},
	} {
		h, c := start(t)
		h.Put("shop/team/api", amd64, scanned("linux/amd64", ended))
		h.Put("shop/team/api", arm64, other)
		for _, children := range [][]string{{amd64, arm64}, {arm64, amd64}} {
			h.Put("shop/team/api", image, harbortest.Image{Children: children})
			o, err := c.Overview(t.Context(), where, image)
			if err != nil || o.State == harbor.Scanned || len(o.Partial) != 1 || !strings.HasPrefix(o.Partial[0], other.Platform) {
				t.Errorf("%s: %+v, %v", name, o, err)
			}
		}
	}
	h, c := start(t)
	h.Put("shop/team/api", amd64, scanned("linux/amd64", ended))
	h.Put("shop/team/api", arm64, scanned("linux/arm64", ended.Add(time.Hour)))
	for _, children := range [][]string{{amd64, arm64}, {arm64, amd64}} {
		h.Put("shop/team/api", image, harbortest.Image{Children: children})
		if o, err := c.Overview(t.Context(), where, image); err != nil || o.Digest != image || o.State != harbor.Scanned || o.Run != ended.Add(time.Hour).UnixMilli() {
			t.Errorf("%+v, %v", o, err)
		}
	}
	h.Put("shop/team/api", image, harbortest.Image{Children: []string{amd64, proof}})
	h.Put("shop/team/api", proof, harbortest.Image{Platform: "linux/arm64", Children: []string{arm64}})
	h.Misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, proof) {
			http.NotFound(w, r)
		}
		return strings.Contains(r.URL.Path, proof)
	})
	if o, err := c.Overview(t.Context(), where, image); !harbor.IsKind(err, harbor.KindNotFound) {
		t.Errorf("an image that is not there: %+v, %v", o, err)
	}
	h.Misbehave(nil)
	if o, err := c.Overview(t.Context(), where, image); !harbor.IsKind(err, harbor.KindUnreadable) {
		t.Errorf("an index in an index: %+v, %v", o, err)
	}
	h.Put("shop/team/api", image, harbortest.Image{Children: slices.Repeat([]string{amd64}, 33)})
	h.Take()
	if o, err := c.Overview(t.Context(), where, image); !harbor.IsKind(err, harbor.KindUnreadable) || len(h.Take()) != 1 {
		t.Errorf("more images than there can be: %+v, %v", o, err)
	}
	h.Put("shop/team/api", image, harbortest.Image{Children: []string{amd64, arm64}})
	h.Misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, arm64) {
			return false
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"digest":%q,"scan_overview":{%q:{"scan_status":"Success"}}}`, arm64, harbortest.Form)
		return true
	})
	if o, err := c.Overview(t.Context(), where, image); !harbor.IsKind(err, harbor.KindUnreadable) {
		t.Errorf("an image whose scan found nobody knows what: %+v, %v", o, err)
	}
}

// Since when a scan is under way is known, of an index since when the first of its images' is; Harbor writes the year 1 for none.
func TestScanStarted(t *testing.T) {
	h, c := start(t)
	h.Put("shop/team/api", image, harbortest.Image{Children: []string{amd64, arm64, proof}})
	for _, child := range []struct {
		digest, platform string
		img              harbortest.Image
	}{
		{amd64, "linux/amd64", harbortest.Image{Status: "Running", Started: ended.Add(time.Minute)}},
		{arm64, "linux/arm64", harbortest.Image{Status: "Running", Started: ended}},
		{proof, "linux/riscv64", harbortest.Image{Status: "Pending", Started: time.Unix(-1, 0)}},
	} {
		child.img.Platform = child.platform
		h.Put("shop/team/api", child.digest, child.img)
	}
	for d, want := range map[string]time.Time{image: ended, amd64: ended.Add(time.Minute), proof: {}} {
		if o, err := c.Overview(t.Context(), where, d); err != nil || o.State != harbor.Scanning || !o.Started.Equal(want) {
			t.Errorf("%s: %+v, %v", d, o, err)
		}
	}
}

// An index is scanned when all of its images are, and as bad as the worst of them; attestations are no images.
func TestScanOfAnIndex(t *testing.T) {
	h, c := start(t)
	h.Put("shop/team/api", image, harbortest.Image{Children: []string{amd64, arm64, proof}})
	h.Put("shop/team/api", amd64, harbortest.Image{Platform: "linux/amd64", Status: "Success", Ended: ended, Severities: []string{"High", "High", "Low"}})
	h.Put("shop/team/api", proof, harbortest.Image{Platform: "unknown/unknown"})
	for status, want := range map[string]harbor.State{"": harbor.Unscanned, "Running": harbor.Scanning, "Error": harbor.Failed, "Stopped": harbor.Stopped} {
		h.Put("shop/team/api", arm64, harbortest.Image{Platform: "linux/arm64", Status: status})
		o, err := c.Overview(t.Context(), where, image)
		if err != nil || o.State != want || len(o.Partial) != 1 || !strings.HasPrefix(o.Partial[0], "linux/arm64 is ") {
			t.Errorf("%q: %+v, %v", status, o, err)
		}
		if _, err := c.Report(t.Context(), where, o); err == nil {
			t.Errorf("%q: there is a report", status)
		}
	}
	h.Put("shop/team/api", arm64, harbortest.Image{Platform: "linux/arm64", Status: "Success", Ended: ended.Add(time.Hour), Severities: []string{"Critical", "High"}})
	o, err := c.Overview(t.Context(), where, image)
	if err != nil || o.State != harbor.Scanned || o.Run != ended.Add(time.Hour).UnixMilli() {
		t.Fatalf("%+v, %v", o, err)
	}
	report, err := c.Report(t.Context(), where, o)
	if err != nil || report.Counts != (harbor.Counts{Critical: 1, High: 2, Low: 1}) {
		t.Errorf("%+v, %v", report.Counts, err)
	}
	var both map[string]json.RawMessage
	if err := json.Unmarshal(report.Raw, &both); err != nil || len(both) != 2 || both[amd64] == nil || both[arm64] == nil {
		t.Errorf("%s, %v", report.Raw, err)
	}
	h.Put("shop/team/api", image, harbortest.Image{Children: []string{proof}})
	if _, err := c.Overview(t.Context(), where, image); !harbor.IsKind(err, harbor.KindUnreadable) {
		t.Errorf("an index without an image: %v", err)
	}
}

// Nothing is made of an answer that cannot be right.
func TestAnswersThatDoNotCount(t *testing.T) {
	overview := func(summary string) string {
		return fmt.Sprintf(`{"digest":%q,"scan_overview":{%q:%s}}`, image, harbortest.Form, summary)
	}
	const counts = `{"scan_status":"Success","end_time":"2026-11-22T14:04:05Z","summary":{"total":1,"summary":%s}}`
	good := overview(fmt.Sprintf(counts, `{"High":1}`))
	children := func(n int) string {
		return fmt.Sprintf(`{"digest":%q,"references":[%s]}`, image, strings.Trim(strings.Repeat(fmt.Sprintf(`{"child_digest":%q},`, amd64), n), ","))
	}
	report := func(list string) string { return fmt.Sprintf(`{%q:{"vulnerabilities":%s}}`, harbortest.Form, list) }
	for name, c := range map[string]struct{ artifact, report string }{
		"another image":                {strings.Replace(good, image, amd64, 1), report(`[]`)},
		"no digest":                    {`{}`, report(`[]`)},
		"no summary":                   {overview(`{"scan_status":"Success","end_time":"2026-11-22T14:04:05Z"}`), report(`[]`)},
		"no end":                       {overview(`{"scan_status":"Success","summary":{"total":0}}`), report(`[]`)},
		"an end before there was time": {overview(`{"scan_status":"Success","end_time":"1969-12-31T23:59:59Z","summary":{"total":0}}`), report(`[]`)},
		"negative count":               {overview(fmt.Sprintf(counts, `{"Critical":-1}`)), report(`[]`)},
		"a count without end":          {overview(fmt.Sprintf(counts, `{"High":99999999999}`)), report(`[]`)},
		"a sum without end":            {overview(fmt.Sprintf(counts, `{"Low":2147483647,"Negligible":2147483647}`)), report(`[]`)},
		"no number":                    {overview(fmt.Sprintf(counts, `{"High":"none"}`)), report(`[]`)},
		"a severity of its own":        {overview(fmt.Sprintf(counts, `{"Harmless":1}`)), report(`[]`)},
		"nested without end":           {overview(strings.Repeat(`{"a":`, 200_000)), report(`[]`)},
		"huge":                         {good + strings.Repeat(" ", 2<<20), report(`[]`)},
		"too many images":              {children(33), report(`[]`)},
		"an index of itself":           {children(1), report(`[]`)},
		"report of another image":      {good, report(fmt.Sprintf(`[{"severity":"Low","artifact_digests":[%q]}]`, amd64))},
		"report of another form":       {good, `{"application/json":{"vulnerabilities":[]}}`},
		"empty report":                 {good, `{}`},
		"null report":                  {good, fmt.Sprintf(`{%q:null}`, harbortest.Form)},
		"report is a list":             {good, `[]`},
		"report is cut off":            {good, report(`[{"severity":"Low"}`)[:40]},
		"report with a new severity":   {good, report(`[{"severity":"Apocalyptic"}]`)},
		"huge report":                  {good, report(`[` + strings.Repeat(`{"severity":"Low"},`, 1<<20) + `{}]`)},
	} {
		t.Run(name, func(t *testing.T) {
			h, client := start(t)
			h.Misbehave(func(w http.ResponseWriter, r *http.Request) bool {
				w.Header().Set("Content-Type", "application/json")
				text := c.artifact
				if strings.HasSuffix(r.URL.Path, "/additions/vulnerabilities") {
					text = c.report
				}
				_, _ = w.Write([]byte(text))
				return true
			})
			o, err := client.Overview(t.Context(), where, image)
			if err == nil && c.report == report(`[]`) {
				t.Errorf("it is taken: %+v", o)
			}
			if err == nil {
				_, err = client.Report(t.Context(), where, o)
			}
			if !harbor.IsKind(err, harbor.KindUnreadable) || strings.Contains(err.Error(), harbortest.Password) {
				t.Errorf("%v", err)
			}
		})
	}
}

// The worse of the overview and the report counts, whichever it is.
func TestOverviewAndReportDisagree(t *testing.T) {
	h, c := start(t)
	h.Misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Type", "application/json")
		if strings.HasSuffix(r.URL.Path, "/additions/vulnerabilities") {
			_, _ = fmt.Fprintf(w, `{%q:{"vulnerabilities":[{"severity":"Critical"},{"severity":""}]}}`, harbortest.Form)
		} else {
			_, _ = fmt.Fprintf(w, `{"digest":%q,"scan_overview":{%q:{"scan_status":"Success","end_time":"2026-11-22T14:04:05Z","summary":{"summary":{"High":3}}}}}`, image, harbortest.Form)
		}
		return true
	})
	o, err := c.Overview(t.Context(), where, image)
	if err != nil {
		t.Fatal(err)
	}
	report, err := c.Report(t.Context(), where, o)
	if err != nil || report.Counts != (harbor.Counts{Critical: 1, High: 3, Medium: 1}) {
		t.Errorf("%+v, %v", report.Counts, err)
	}
}

func TestRoom(t *testing.T) {
	h, c := start(t)
	for _, q := range []struct{ hard, used, want int64 }{{100, 30, 70}, {100, 100, 0}, {100, 130, 0}, {-1, 1 << 40, harbor.Unlimited}} {
		h.Quota("shop", q.hard, q.used)
		if got, err := c.Room(t.Context(), "shop"); err != nil || got != q.want {
			t.Errorf("%+v: %d, %v", q, got, err)
		}
	}
	for _, q := range [][2]int64{{100, -1}, {-2, 0}} {
		h.Quota("shop", q[0], q[1])
		if _, err := c.Room(t.Context(), "shop"); !harbor.IsKind(err, harbor.KindUnreadable) {
			t.Errorf("%v: %v", q, err)
		}
	}
	if _, err := c.Room(t.Context(), "other"); !harbor.IsKind(err, harbor.KindDenied) {
		t.Errorf("%v", err)
	}
	for _, body := range []string{`{"repo_count":1}`, `{"quota":{}}`, `{"quota":{"hard":{"storage":1}}}`, `{"quota":{"used":{"storage":1}}}`} {
		h.Misbehave(func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(body))
			return true
		})
		if _, err := c.Room(t.Context(), "shop"); !harbor.IsKind(err, harbor.KindUnreadable) || !strings.Contains(err.Error(), "permission") {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func TestRepositories(t *testing.T) {
	for ref, want := range map[string]harbor.Repository{
		"harbor.example/shop/api": {Project: "shop", Name: "api"}, "harbor.example:8443/shop/team/api": {Project: "shop", Name: "team/api"},
		"harbor.example/api": {}, "api": {}, "harbor.example//api": {}, "harbor.example/shop/": {},
	} {
		_, got, ok := harbor.RepositoryOf(ref)
		if diff := cmp.Diff(want, got); diff != "" || ok != (want.Name != "") {
			t.Errorf("%s: %v %s", ref, ok, diff)
		}
	}
	if !slices.Contains([]string{"shop/team/api"}, where.String()) {
		t.Error(where)
	}
}
