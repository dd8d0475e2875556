// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/evidence"
)

const (
	hookToken  = "canary-token-0123456789abcdef"
	hookHarbor = "Bearer canary-harbor-0123456789abcdef"
	hookSonar  = "canary-sonar-0123456789abcdef"
	ourImage   = "hub.dynors.com/supergest/backend"
	hookDigest = "sha256:954b378c375d852eb3c63ab88978f640b4348b01c1b3456a024a81536dafbbf4"
)

var hookSigning = "whsec_" + base64.StdEncoding.EncodeToString([]byte("canary key of thirty-two bytes.."))

// hooked is a bridge whose project takes webhooks.
type hooked struct{ *bridge }

// newHooked starts one. Its Secret has every credential; change may alter the project.
func newHooked(t testing.TB, change func(*v1alpha1.ProjectSpec), options ...func(*Options)) hooked {
	t.Helper()
	b := hooked{newBridge(t, false, options...)}
	ref := func(key string) v1alpha1.HookSecret { return v1alpha1.HookSecret{Name: "hooks", Key: key} }
	token := ref("token")
	spec := v1alpha1.ProjectSpec{
		Images: []v1alpha1.ProjectImage{{Name: "backend", Repository: ourImage}},
		Hooks: &v1alpha1.Hooks{GitLab: &v1alpha1.GitLabHook{SecretRef: &token}, Harbor: &v1alpha1.HarborHook{SecretRef: ref("harbor")},
			SonarQube: &v1alpha1.SonarQubeHook{SecretRef: ref("sonar")}},
	}
	if change != nil {
		change(&spec)
	}
	b.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "hooks"}, StringData: map[string]string{
		"token": hookToken + "\n", "harbor": hookHarbor, "sonar": hookSonar, "signing": hookSigning, "old": "the token before this one", "short": "short"}})
	project := &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: b.project}, Spec: spec}
	if err := b.direct.Create(t.Context(), project); err != nil {
		t.Fatal(err)
	}
	cptest.Wait(t, "the cache to have the project and its secret", func(ctx context.Context) error {
		return errors.Join(b.client.Get(ctx, client.ObjectKeyFromObject(project), &v1alpha1.Project{}),
			b.client.Get(ctx, client.ObjectKey{Namespace: b.project, Name: "hooks"}, &corev1.Secret{}))
	})
	return b
}

func (b hooked) hookURL(source string) string { return b.url + "/hooks/" + source + "/" + b.project }

// credentials are the headers of a delivery that proves itself.
func credentials(source, body string) http.Header {
	switch source {
	case "gitlab":
		return http.Header{"X-Gitlab-Token": {hookToken}, "Idempotency-Key": {"f5e5f430-f57b-4e6e-9fac-d9128cd7232f"}}
	case "harbor":
		return http.Header{"Authorization": {hookHarbor}}
	}
	return http.Header{sonarHeader: {hex.EncodeToString(hmacOf(hookSonar, body))}}
}

var sonarHeader = http.CanonicalHeaderKey(sonarSignature)

func hmacOf(key, text string) []byte {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

// signedNow are the headers of a delivery that GitLab signed at a time.
func signedAt(body string, at time.Time) http.Header {
	id, stamp := "f5e5f430-f57b-4e6e-9fac-d9128cd7232f", strconv.FormatInt(at.Unix(), 10)
	key, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(hookSigning, "whsec_"))
	return http.Header{"Webhook-Id": {id}, "Webhook-Timestamp": {stamp},
		"Webhook-Signature": {"v1," + base64.StdEncoding.EncodeToString(hmacOf(string(key), id+"."+stamp+"."+body))}}
}

// deliver sends a body that proves itself.
func (b hooked) deliver(source, body string) (int, HookAnswer) {
	b.t.Helper()
	status, _, raw := b.send(http.MethodPost, b.hookURL(source), "", body, credentials(source, body))
	var answer HookAnswer
	if err := json.Unmarshal(raw, &answer); err != nil {
		b.t.Fatalf("%d %s: %v", status, raw, err)
	}
	return status, answer
}

// want delivers and checks what became of it.
func (b hooked) want(source, body, outcome string) HookAnswer {
	b.t.Helper()
	status, answer := b.deliver(source, body)
	wantStatus := http.StatusOK
	if outcome == hookStored {
		wantStatus = http.StatusCreated
	}
	if status != wantStatus || answer.Outcome != outcome || answer.Source != source || answer.Project != b.project || answer.Event == "" || answer.Detail == "" {
		b.t.Errorf("%d %+v, want %d %s", status, answer, wantStatus, outcome)
	}
	return answer
}

// recorded is a body that a product documents, with some of its text replaced.
func recorded(t testing.TB, name string, oldnew ...string) string {
	t.Helper()
	body, err := os.ReadFile("../hooks/testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	text := string(body)
	for i := 0; i < len(oldnew); i += 2 {
		if !strings.Contains(text, oldnew[i]) {
			t.Fatalf("%s has no %s", name, oldnew[i])
		}
		text = strings.ReplaceAll(text, oldnew[i], oldnew[i+1])
	}
	return text
}

func pipelineEvent(id, newestJob int, status string) string {
	return fmt.Sprintf(`{"object_kind":"pipeline","object_attributes":{"id":%d,"ref":"main","sha":%q,"source":"push","status":%q},"builds":[{"id":7},{"id":%d}]}`,
		id, someCommit, status, newestJob)
}

func jobEvent(name string, id int, status string) string {
	return fmt.Sprintf(`{"object_kind":"build","ref":"main","sha":%q,"build_id":%d,"build_name":%q,"build_status":%q,"pipeline_id":31}`, someCommit, id, name, status)
}

func deploymentEvent(id int, environment, status string) string {
	return fmt.Sprintf(`{"object_kind":"deployment","status":%q,"deployment_id":%d,"environment":%q,"short_sha":%q,"commit_url":"https://x/-/commit/%s"}`,
		status, id, environment, someCommit[:8], someCommit)
}

func tagEvent(tag, commit string) string {
	return fmt.Sprintf(`{"object_kind":"tag_push","ref":"refs/tags/%s","checkout_sha":%q}`, tag, commit)
}

func sonarEvent(task, gate string, minute int) string {
	return fmt.Sprintf(`{"taskId":%q,"status":"SUCCESS","analysedAt":"2026-01-01T10:00:00+0100","changedAt":"2026-01-01T10:%02d:00+0100","revision":%q,
		"project":{"key":"backend"},"branch":{"name":"main","type":"BRANCH"},"qualityGate":{"status":%q,"conditions":[{"metric":"coverage","value":"81.5","status":"OK"}]}}`,
		task, minute, someCommit, gate)
}

// scanEvent is an event of Harbor's, at a second, about an image with a tag.
func scanEvent(typ string, second int, digest, tag, summary string) string {
	return fmt.Sprintf(`{"type":%q,"occur_at":%d,"event_data":{"resources":[{"digest":%q,"tag":%q,"resource_url":"harbor.internal/supergest/backend:%s",
		"scan_overview":{"application/vnd.security.vulnerability.report; version=1.1":{"scan_status":"Success","summary":{"total":0,"summary":{%s}},"scanner":{"name":"Trivy","version":"v0.60.0"},"complete_percent":100}}}],
		"repository":{"repo_full_name":"supergest/backend"}}}`, typ, 1_700_000_000+second, digest, tag, tag, summary)
}

// release creates a Release of a commit with an image, and waits until the API knows it.
func (b hooked) release(commit string) {
	b.t.Helper()
	b.create(&v1alpha1.Release{ObjectMeta: metav1.ObjectMeta{Name: commit[:7]},
		Spec: v1alpha1.ReleaseSpec{Commit: commit, Branch: "main", Images: []v1alpha1.ReleaseImage{{Name: "backend", Digest: hookDigest}}}})
	cptest.Wait(b.t, "the API to know the release", func(context.Context) error {
		if oldest(b.api.hub.releasesWith(b.project, commit), commit) == nil {
			return errors.New("not yet")
		}
		return nil
	})
}

func (b hooked) evidence() evidence.Set { return evidence.Reduce(b.ciResults()) }

// The bodies that the products document do what they are documented to do.
func TestRecordedHooks(t *testing.T) {
	const gitlabSHA, deployedSHA, sonarSHA = "bcbb5ec396a2c0f828686f14fac9b80b780504f2", "279484c09fbe69ededfced8c1bb6e6d24616b468", "c739069ec7105e01303e8b3065a81141aad9f129"
	b := newHooked(t, nil)
	b.create(&v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: "staging"}, Spec: v1alpha1.EnvironmentSpec{Rollout: v1alpha1.RolloutStrategy{Timeout: metav1.Duration{Duration: time.Minute}}}})
	for _, commit := range []string{gitlabSHA, deployedSHA, "82b3d5ae55f7080f1e6022629cdb57bfae7cccc7"} {
		b.release(commit)
	}
	for _, tc := range []struct{ source, file, outcome string }{
		{"gitlab", "gitlab-pipeline.json", hookStored}, {"gitlab", "gitlab-job.json", hookIgnored}, {"gitlab", "gitlab-deployment.json", hookStored},
		{"gitlab", "gitlab-tag.json", hookStored}, {"gitlab", "gitlab-push.json", hookIgnored},
		{"harbor", "harbor-push.json", hookNoted}, {"harbor", "harbor-quota.json", hookNoted}, {"harbor", "harbor-replication-cloud.json", hookNoted},
		{"harbor", "harbor-scan-completed.json", hookStored}, {"harbor", "harbor-scan-failed.json", hookIgnored}, {"harbor", "harbor-scan-stopped.json", hookIgnored},
		{"sonarqube", "sonarqube-analysis.json", hookStored}, {"sonarqube", "sonarqube-branch.json", hookStored},
	} {
		t.Run(tc.file, func(t *testing.T) {
			b.t = t
			answer := b.want(tc.source, recorded(t, tc.file), tc.outcome)
			if tc.file == "harbor-push.json" && len(answer.Releases) != 3 {
				t.Errorf("releases %v", answer.Releases)
			}
		})
	}
	b.t = t
	var got []string
	for _, r := range b.ciResults() {
		s := r.Spec
		figures := ""
		if s.Coverage != nil {
			figures = fmt.Sprint(*s.Coverage)
		}
		if s.Vulnerabilities != nil {
			figures = fmt.Sprint(*s.Vulnerabilities)
		}
		got = append(got, strings.Join([]string{s.Source, s.Type, s.Status, s.Commit[:7], s.Branch, s.Pipeline, s.Environment, s.Run, figures}, " "))
		if s.ReportHash != reportHash(s.Report) || len(s.Report) == 0 || strings.Contains(string(s.Report), "us-west-1") || strings.Contains(string(s.Report), "@gitlab.com") {
			t.Errorf("%s keeps %s", r.Name, s.Report)
		}
	}
	slices.Sort(got)
	if diff := cmp.Diff([]string{
		"gitlab deployment deployed 279484c main  staging 15 ", "gitlab pipeline passed bcbb5ec master 31  380 ",
		"harbor scan passed 279484c    1680502375000 {0 0 0 0}", "harbor scan passed 82b3d5a    1680502375000 {0 0 0 0}", "harbor scan passed bcbb5ec    1680502375000 {0 0 0 0}",
		"sonarqube quality failed c739069 main   1479462600 71.5", "sonarqube quality passed c739069    1479462388 ",
	}, got); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
	// What the gate said last counts, and no webhook made a release.
	set := evidence.Reduce(slices.DeleteFunc(b.ciResults(), func(r v1alpha1.CIResult) bool { return r.Spec.Commit != sonarSHA }))
	if s := set.Results["quality"].Status; s != "failed" {
		t.Errorf("quality %s", s)
	}
	for _, r := range b.releases() {
		if r.Spec.Commit == sonarSHA {
			t.Error("a webhook created a release")
		}
		if want := map[string]string{"82b3d5a": "v1.0.0"}[r.Name]; r.Spec.Version != want {
			t.Errorf("release %s is version %q, want %q", r.Name, r.Spec.Version, want)
		}
	}
	// CloudEvents about the same scan say the same.
	b.want("harbor", recorded(t, "harbor-scan-completed-cloud.json"), hookRepeated)
}

// Who does not know the secret learns nothing: not which projects there are, nor which take webhooks.
func TestHookRefusals(t *testing.T) {
	var reads atomic.Int64
	count := func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
		reads.Add(1)
		return c.Get(ctx, key, obj, opts...)
	}
	counting := func(o *Options) {
		o.Client = intercept(t, o.Client, interceptor.Funcs{Get: count})
		o.APIReader = intercept(t, o.APIReader.(client.Client), interceptor.Funcs{Get: count})
	}
	other := newHooked(t, func(spec *v1alpha1.ProjectSpec) { spec.Hooks = nil }) // takes none
	b := newHooked(t, func(spec *v1alpha1.ProjectSpec) {
		spec.Hooks.GitLab.SecretRef = &v1alpha1.HookSecret{Name: "hooks", Key: "token", PreviousKey: "short"}
	}, counting)
	body := pipelineEvent(31, 1, "success")
	right := map[string]http.Header{}
	for _, source := range []string{"gitlab", "harbor", "sonarqube"} {
		right[source] = credentials(source, body)
	}
	for source, wrong := range map[string]http.Header{
		"gitlab":    {"X-Gitlab-Token": {"the token of somebody else"}},
		"harbor":    {"Authorization": {"Bearer " + b.token}}, // an API token is no webhook's
		"sonarqube": {sonarHeader: {hex.EncodeToString(hmacOf("the secret of somebody", body))}},
	} {
		ask := func(project string, header http.Header) string {
			before := reads.Load()
			status, answered, raw := b.send(http.MethodPost, b.url+"/hooks/"+source+"/"+project, "", body, header)
			answered.Del("Date")
			return fmt.Sprint(status, answered, string(raw), reads.Load()-before)
		}
		want := ask(b.project, wrong)
		if !strings.HasPrefix(want, "401 ") || !strings.Contains(want, "webhook-not-taken") {
			t.Errorf("%s: %s", source, want)
		}
		for name, got := range map[string]string{
			"unknown project": ask("no-such-project", wrong), "unknown project, right secret": ask("no-such-project", right[source]),
			"a project without webhooks": ask(other.project, right[source]), "the system's namespace": ask("kube-system", right[source]),
		} {
			if got != want {
				t.Errorf("%s: %s differs from a wrong secret:\n%s\n%s", source, name, want, got)
			}
		}
		if got := ask("No..Such%2FProject", right[source]); got[:len(got)-1] != want[:len(want)-1] { // such a name reaches no API server
			t.Errorf("%s: an impossible project differs:\n%s\n%s", source, want, got)
		}
		status, header, raw := b.send(http.MethodPost, b.hookURL(source), "", body, nil)
		if p := b.wantProblem(status, raw, http.StatusUnauthorized, ""); p.Type != problemPrefix+"no-secret" || header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s without a secret: %+v", source, p)
		}
	}
	twice := http.Header{"X-Gitlab-Token": {hookToken, hookToken}}
	short := http.Header{"X-Gitlab-Token": {"short"}}
	for name, header := range map[string]http.Header{"twice": twice, "a short secret": short} {
		if status, _, raw := b.send(http.MethodPost, b.hookURL("gitlab"), "", body, header); status != http.StatusUnauthorized {
			t.Errorf("%s: %d %s", name, status, raw)
		}
	}
	if results := b.ciResults(); len(results) != 0 {
		t.Errorf("%d results are stored", len(results))
	}
	b.want("gitlab", body, hookStored)
}

// The secret of one project opens no other.
func TestHookOfAnotherProject(t *testing.T) {
	b, other := newHooked(t, nil), newHooked(t, nil)
	changed := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "hooks", Namespace: other.project}, StringData: map[string]string{
		"token": "another token 0123456789", "harbor": "another header 0123456789", "sonar": "another secret 0123456789"}}
	if err := b.direct.Update(t.Context(), changed); err != nil {
		t.Fatal(err)
	}
	for source, body := range map[string]string{"gitlab": pipelineEvent(31, 1, "success"), "harbor": scanEvent("PUSH_ARTIFACT", 0, hookDigest, "x", ""), "sonarqube": sonarEvent("t", "OK", 0)} {
		cptest.Wait(t, "the change to be seen", func(context.Context) error {
			if status, _, raw := b.send(http.MethodPost, other.hookURL(source), "", body, credentials(source, body)); status != http.StatusUnauthorized {
				return fmt.Errorf("%s: %d %s", source, status, raw)
			}
			return nil
		})
	}
}

// Where GitLab signs, nothing else is good, and what it signed before is not.
func TestSignedHook(t *testing.T) {
	b := newHooked(t, func(spec *v1alpha1.ProjectSpec) {
		spec.Hooks.GitLab = &v1alpha1.GitLabHook{SigningRef: &v1alpha1.HookSecret{Name: "hooks", Key: "signing"}}
	})
	body := pipelineEvent(31, 1, "success")
	now := time.Now()
	for _, tc := range []struct {
		name, body, kind string
		header           http.Header
	}{
		{"the token alone", body, "webhook-not-taken", http.Header{"X-Gitlab-Token": {hookToken}}},
		{"signed six minutes ago", body, "stale-delivery", signedAt(body, now.Add(-6*time.Minute))},
		{"signed in six minutes", body, "stale-delivery", signedAt(body, now.Add(6*time.Minute))},
		{"another body", pipelineEvent(32, 1, "success"), "webhook-not-taken", signedAt(body, now)},
		{"another time", body, "webhook-not-taken", func() http.Header {
			h := signedAt(body, now.Add(-6*time.Minute))
			h.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
			return h
		}()},
	} {
		status, _, raw := b.send(http.MethodPost, b.hookURL("gitlab"), "", tc.body, tc.header)
		if p := b.wantProblem(status, raw, http.StatusUnauthorized, ""); p.Type != problemPrefix+tc.kind {
			t.Errorf("%s: %s", tc.name, raw)
		}
	}
	if n := len(b.ciResults()); n != 0 {
		t.Errorf("%d results", n)
	}
	for i, want := range []int{http.StatusCreated, http.StatusOK} { // the same delivery again is answered and stored once
		if status, _, raw := b.send(http.MethodPost, b.hookURL("gitlab"), "", body, signedAt(body, now)); status != want {
			t.Errorf("%d: %d %s", i, status, raw)
		}
	}
	if n := len(b.ciResults()); n != 1 {
		t.Errorf("%d results", n)
	}
}

// With both expected, both are demanded.
func TestTokenAndSignature(t *testing.T) {
	b := newHooked(t, func(spec *v1alpha1.ProjectSpec) {
		spec.Hooks.GitLab.SigningRef = &v1alpha1.HookSecret{Name: "hooks", Key: "signing"}
	})
	body := pipelineEvent(31, 1, "success")
	signed := signedAt(body, time.Now())
	both := signed.Clone()
	both.Set("X-Gitlab-Token", hookToken)
	for _, tc := range []struct {
		header http.Header
		want   int
	}{{signed, 401}, {http.Header{"X-Gitlab-Token": {hookToken}}, 401}, {both, 201}} {
		if status, _, raw := b.send(http.MethodPost, b.hookURL("gitlab"), "", body, tc.header); status != tc.want {
			t.Errorf("%v: %d %s", tc.header, status, raw)
		}
	}
}

// While a secret changes, the one before is good as well; then it is not.
func TestHookSecretRotation(t *testing.T) {
	b := newHooked(t, func(spec *v1alpha1.ProjectSpec) {
		spec.Hooks.GitLab.SecretRef = &v1alpha1.HookSecret{Name: "hooks", Key: "token", PreviousKey: "old"}
	})
	old := http.Header{"X-Gitlab-Token": {"the token before this one"}}
	body := pipelineEvent(31, 1, "success")
	for _, header := range []http.Header{old, credentials("gitlab", body)} {
		if status, _, raw := b.send(http.MethodPost, b.hookURL("gitlab"), "", body, header); status >= 300 {
			t.Errorf("%v: %d %s", header, status, raw)
		}
	}
	var secret corev1.Secret
	if err := b.direct.Get(t.Context(), client.ObjectKey{Namespace: b.project, Name: "hooks"}, &secret); err != nil {
		t.Fatal(err)
	}
	delete(secret.Data, "old")
	if err := b.direct.Update(t.Context(), &secret); err != nil {
		t.Fatal(err)
	}
	cptest.Wait(t, "the old token to open nothing", func(context.Context) error {
		if status, _, _ := b.send(http.MethodPost, b.hookURL("gitlab"), "", body, old); status != http.StatusUnauthorized {
			return fmt.Errorf("status %d", status)
		}
		return nil
	})
}

// What is cut off, too large, too deep or wrong is refused before anything is stored.
func TestHookBodies(t *testing.T) {
	b := newHooked(t, nil)
	deep := `{"object_kind":"pipeline","x":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`
	for _, source := range []string{"gitlab", "harbor", "sonarqube"} {
		for name, body := range map[string]string{"cut off": pipelineEvent(31, 1, "success")[:60], "deep": deep, "a list": `[]`, "no event": `{"hello":"world"}`, "twice": `{"a":1,"a":2}`} {
			status, _, raw := b.send(http.MethodPost, b.hookURL(source), "", body, credentials(source, body))
			var p Problem
			if err := json.Unmarshal(raw, &p); err != nil || status != http.StatusBadRequest || len(p.Errors) == 0 {
				t.Errorf("%s %s: %d %s", source, name, status, raw)
			}
		}
		status, _, raw := b.send(http.MethodPost, b.hookURL(source), "", "", credentials(source, ""))
		b.wantProblem(status, raw, http.StatusBadRequest, "")
		header := credentials(source, "{}")
		header.Set("Content-Encoding", "gzip")
		status, _, raw = b.send(http.MethodPost, b.hookURL(source), "", "{}", header)
		b.wantProblem(status, raw, http.StatusUnsupportedMediaType, "")

		for _, head := range []string{fmt.Sprintf("Content-Length: %d\r\nExpect: 100-continue\r\n\r\n", MaxHook+1), "Content-Length: 1073741824\r\n\r\n"} {
			conn := b.dial()
			w := bufio.NewWriter(conn)
			fmt.Fprintf(w, "POST /api/hooks/%s/%s HTTP/1.1\r\nHost: x\r\n", source, b.project)
			_ = credentials(source, "").Write(w)
			fmt.Fprint(w, head)
			_ = w.Flush()
			b.wantRaw(conn, http.StatusRequestEntityTooLarge)
		}
	}
	for body, field := range map[string]string{
		strings.Replace(pipelineEvent(31, 1, "success"), someCommit, "abc", 1):               "object_attributes.sha",
		strings.Replace(deploymentEvent(15, "dev", "success"), `"deployment_id":15,`, "", 1): "deployment_id",
	} {
		status, _, raw := b.send(http.MethodPost, b.hookURL("gitlab"), "", body, credentials("gitlab", body))
		b.wantProblem(status, raw, http.StatusBadRequest, field)
	}
	ahead := strings.Replace(scanEvent("SCANNING_COMPLETED", 0, hookDigest, "dev-"+someCommit[:7], ""), "1700000000", strconv.FormatInt(time.Now().Add(time.Hour).Unix(), 10), 1)
	status, _, raw := b.send(http.MethodPost, b.hookURL("harbor"), "", ahead, credentials("harbor", ahead))
	b.wantProblem(status, raw, http.StatusBadRequest, "occur_at")
	ahead = strings.ReplaceAll(sonarEvent("t", "OK", 0), "2026-01-01", "2999-01-01")
	status, _, raw = b.send(http.MethodPost, b.hookURL("sonarqube"), "", ahead, credentials("sonarqube", ahead))
	b.wantProblem(status, raw, http.StatusBadRequest, "analysedAt")
	if n := len(b.ciResults()); n != 0 {
		t.Errorf("%d results", n)
	}
}

// Connections that announce much and send little take no room from others; when it is taken, webhooks come again.
func TestRoomForHooks(t *testing.T) {
	b := newHooked(t, nil)
	for range 2 * maxHookMemory / MaxHook {
		conn := b.dial()
		fmt.Fprintf(conn, "POST /api/hooks/gitlab/%s HTTP/1.1\r\nHost: x\r\nX-Gitlab-Token: nobody\r\nContent-Length: %d\r\n\r\n{", b.project, MaxHook)
	}
	b.want("gitlab", pipelineEvent(31, 1, "success"), hookStored)
	const most = maxHookMemory/4 - 1<<10
	if !b.api.hookRoom.take(b.project, most) {
		t.Fatal("there is no room")
	}
	body := strings.TrimSuffix(pipelineEvent(32, 1, "success"), "}") + `,"x":"` + strings.Repeat("x", 2<<10) + `"}`
	status, header, raw := b.send(http.MethodPost, b.hookURL("gitlab"), "", body, credentials("gitlab", body))
	b.wantProblem(status, raw, http.StatusServiceUnavailable, "")
	if header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	b.api.hookRoom.release(b.project, most)
	b.want("gitlab", body, hookStored)
}

// A project that is flooded, by somebody who knows its secret, does not take the store from the others; and no number of deliveries
// that prove nothing keeps its own out.
func TestWebhooksASecond(t *testing.T) {
	b, other := newHooked(t, nil), newHooked(t, nil)
	other.bridge.api, other.bridge.url = b.api, b.url // one server has both projects
	body := pipelineEvent(31, 1, "success")
	for range 20 {
		if status, _, _ := b.send(http.MethodPost, b.hookURL("gitlab"), "", body, http.Header{"X-Gitlab-Token": {"nobody's"}}); status != http.StatusUnauthorized {
			t.Fatalf("status %d", status)
		}
	}
	b.want("gitlab", body, hookStored)
	var p v1alpha1.Project
	if err := b.direct.Get(t.Context(), client.ObjectKey{Name: b.project}, &p); err != nil {
		t.Fatal(err)
	}
	now := time.Now().Add(time.Hour) // as if all of the burst came at one time, after which none is left for a while
	for range hookBurst {
		if wait := b.api.hookRates.take(p.UID, now); wait != 0 {
			t.Fatalf("wait %s within the burst", wait)
		}
	}
	status, header, raw := b.send(http.MethodPost, b.hookURL("gitlab"), "", pipelineEvent(32, 2, "failed"), credentials("gitlab", ""))
	b.wantProblem(status, raw, http.StatusServiceUnavailable, "")
	if header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	if n := len(b.ciResults()); n != 1 {
		t.Errorf("%d results", n)
	}
	cptest.Wait(t, "the other project to be known", func(context.Context) error {
		if status, _, raw := other.send(http.MethodPost, other.hookURL("gitlab"), "", body, credentials("gitlab", body)); status != http.StatusCreated {
			return fmt.Errorf("%d %s", status, raw)
		}
		return nil
	})
	if wait := b.api.hookRates.take(p.UID, now.Add(time.Second)); wait != 0 {
		t.Errorf("a second later: wait %s", wait)
	}
}

// Projects that are quiet are forgotten, so that projects that come and go take no memory.
func TestHookRatesAreForgotten(t *testing.T) {
	var h hookRates
	now := time.Now()
	for i := range 10 * maxHookRates {
		now = now.Add(time.Second)
		h.take(types.UID(strconv.Itoa(i)), now)
	}
	if len(h.of) > maxHookRates {
		t.Errorf("%d are kept", len(h.of))
	}
}

// Nobody can configure a webhook that anybody could send.
func TestHooksNeedASecret(t *testing.T) {
	b := newBridge(t, false)
	for name, spec := range map[string]*v1alpha1.GitLabHook{"no credential": {}, "an empty key": {SecretRef: &v1alpha1.HookSecret{Name: "x"}}} {
		open := &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: "open"}, Spec: v1alpha1.ProjectSpec{Maven: []string{"a:b"}, Hooks: &v1alpha1.Hooks{GitLab: spec}}}
		if err := b.direct.Create(t.Context(), open); !apierrors.IsInvalid(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The newest by the source's own ids and times counts, in whatever order it arrives; a pass never hides a failure of the same
// run.
func TestHooksOutOfOrder(t *testing.T) {
	scan := func(second int, summary string) string {
		return scanEvent("SCANNING_COMPLETED", second, hookDigest, "dev-"+someCommit[:7], summary)
	}
	for _, tc := range []struct {
		name, source, typ, want string
		bodies                  []string // oldest first
	}{
		{"a newer pipeline", "gitlab", "pipeline", "passed", []string{pipelineEvent(9, 50, "failed"), pipelineEvent(10, 60, "success")}},
		{"a pipeline whose job was run again", "gitlab", "pipeline", "passed", []string{pipelineEvent(9, 50, "failed"), pipelineEvent(9, 51, "success")}},
		{"a newer failure", "gitlab", "pipeline", "failed", []string{pipelineEvent(9, 50, "success"), pipelineEvent(10, 60, "failed")}},
		{"two ends of one run", "gitlab", "pipeline", "failed", []string{pipelineEvent(9, 50, "success"), pipelineEvent(9, 50, "failed")}},
		{"a job that was run again", "gitlab", "lint", "passed", []string{jobEvent("lint", 50, "failed"), jobEvent("lint", 51, "success")}},
		{"a newer analysis", "sonarqube", "quality", "failed", []string{sonarEvent("a", "OK", 1), sonarEvent("b", "ERROR", 2)}},
		{"an issue was judged since", "sonarqube", "quality", "passed", []string{sonarEvent("a", "ERROR", 1), sonarEvent("", "OK", 2)}},
		{"two verdicts of one second", "sonarqube", "quality", "failed", []string{sonarEvent("a", "OK", 1), sonarEvent("b", "ERROR", 1)}},
		{"a newer scan failed", "harbor", "scan", "failed", []string{scan(1, ""), scanEvent("SCANNING_FAILED", 2, hookDigest, "dev-"+someCommit[:7], "")}},
		{"a newer scan after a failed one", "harbor", "scan", "passed", []string{scanEvent("SCANNING_FAILED", 1, hookDigest, "dev-"+someCommit[:7], ""), scan(2, "")}},
		{"a newer scan was stopped", "harbor", "scan", "skipped", []string{scan(1, ""), scanEvent("SCANNING_STOPPED", 2, hookDigest, "dev-"+someCommit[:7], "")}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for range 2 {
				b := newHooked(t, nil)
				for _, body := range append(tc.bodies, tc.bodies...) {
					if status, answer := b.deliver(tc.source, body); status >= 300 {
						t.Errorf("%d %+v", status, answer)
					}
				}
				if got := b.evidence().Results[tc.typ]; got.Status != tc.want {
					t.Errorf("%s %s, want %s: %+v", tc.typ, got.Status, tc.want, b.ciResults())
				}
				slices.Reverse(tc.bodies)
			}
		})
	}
}

// What a scanner found counts beside what the pipelines say, and is never hidden by it.
func TestScanBesideThePipeline(t *testing.T) {
	b := newHooked(t, nil)
	b.release(someCommit)
	report := func(pipeline int, vulnerabilities string) string {
		return fmt.Sprintf(`{"type":"scan","status":"passed","commit":%q,"pipeline":%d,"digest":%q,"vulnerabilities":{%s}}`, someCommit, pipeline, hookDigest, vulnerabilities)
	}
	b.mustPost(b.results()+"?wait=0", report(31, `"high":2`), http.StatusAccepted)
	b.want("harbor", scanEvent("SCANNING_COMPLETED", 1, hookDigest, "", `"Critical":1,"High":1,"Medium":4`), hookStored)
	b.mustPost(b.results()+"?wait=0", report(32, `"high":3`), http.StatusAccepted)
	set := b.evidence()
	if diff := cmp.Diff(&v1alpha1.VulnerabilityCounts{Critical: 1, High: 3, Medium: 4}, set.Results["scan"].Vulnerabilities); diff != "" || set.Results["scan"].Pipeline != "32" || len(set.Counted) != 2 {
		t.Errorf("%+v %s", set, diff)
	}
	b.want("harbor", scanEvent("SCANNING_COMPLETED", 2, hookDigest, "", ""), hookStored)
	b.want("harbor", scanEvent("SCANNING_FAILED", 3, hookDigest, "", ""), hookStored)
	if s := b.evidence().Results["scan"].Status; s != "failed" {
		t.Errorf("scan %s after a failed one", s)
	}
}

// The same delivery many times at once is one result.
func TestDuplicateHooks(t *testing.T) {
	b := newHooked(t, nil)
	bodies := map[string]string{"gitlab": pipelineEvent(31, 5, "success"), "harbor": scanEvent("SCANNING_COMPLETED", 1, hookDigest, "dev-"+someCommit[:7], `"High":1`), "sonarqube": sonarEvent("a", "OK", 1)}
	outcomes := map[string]*[2]atomic.Int64{}
	var wg sync.WaitGroup
	for source, body := range bodies {
		n := &[2]atomic.Int64{}
		outcomes[source] = n
		for range 10 {
			wg.Go(func() {
				switch status, answer := b.deliver(source, body); {
				case status == http.StatusCreated && answer.Outcome == hookStored:
					n[0].Add(1)
				case status == http.StatusOK && answer.Outcome == hookRepeated:
					n[1].Add(1)
				}
			})
		}
	}
	wg.Wait()
	for source, n := range outcomes {
		if n[0].Load() != 1 || n[1].Load() != 9 {
			t.Errorf("%s: %d stored, %d repeated", source, n[0].Load(), n[1].Load())
		}
	}
	if n := len(b.ciResults()); n != 3 {
		t.Errorf("%d results", n)
	}
}

// What is authentic and counts for nothing is answered with 200 and why, and leaves no trace.
func TestUninterestingHooks(t *testing.T) {
	b := newHooked(t, func(spec *v1alpha1.ProjectSpec) {
		spec.Hooks.GitLab.ProjectPath = ourPath
		spec.Hooks.SonarQube.Projects = []string{"backend"}
	})
	b.release(someCommit)
	ours := func(body string) string {
		return strings.TrimSuffix(body, "}") + `,"project":{"path_with_namespace":"` + ourPath + `"}}`
	}
	for _, tc := range []struct{ source, body, detail string }{
		{"gitlab", `{"object_kind":"merge_request","project":{"path_with_namespace":"` + ourPath + `"}}`, "another GitLab project"}, // of an event that is not read, nothing is
		{"gitlab", pipelineEvent(31, 1, "success"), "another GitLab project"},
		{"gitlab", `{"event_name":"user_add_to_group","group_id":100,"group_path":"dynors"}`, "another GitLab project"}, // the webhook of a group
		{"gitlab", ours(pipelineEvent(31, 1, "running")), "has not ended"},
		{"gitlab", ours(strings.Replace(pipelineEvent(31, 1, "success"), `"push"`, `"parent_pipeline"`, 1)), "part of another"},
		{"gitlab", ours(jobEvent("lint", 1, "running")), "has not ended"},
		{"gitlab", ours(jobEvent("tests", 1, "success")), "figures"},
		{"gitlab", ours(jobEvent("e2e", 1, "success")), "no gate asks"},
		{"gitlab", ours(jobEvent("Build it", 1, "success")), "no gate can ask"},
		{"gitlab", ours(deploymentEvent(1, "dev", "running")), "has not ended"},
		{"gitlab", ours(deploymentEvent(1, "elsewhere", "success")), "no environment"},
		{"gitlab", ours(strings.ReplaceAll(deploymentEvent(1, "dev", "success"), someCommit[:8], otherSHA[:8])), "no release"},
		{"gitlab", ours(tagEvent("nightly", someCommit)), "no semantic version"},
		{"gitlab", ours(tagEvent("v1.2.3", otherSHA)), "no release"},
		{"gitlab", ours(`{"object_kind":"tag_push","ref":"refs/tags/v1.2.3","checkout_sha":null}`), "deleted"},
		{"harbor", `{"type":"PULL_ARTIFACT"}`, "nothing depends"},
		{"harbor", `{"type":"a type of the future","event_data":7}`, "nothing depends"},
		{"harbor", scanEvent("SCANNING_COMPLETED", 1, "sha256:"+strings.Repeat("a", 64), "latest", ""), "names no commit"},
		{"harbor", strings.ReplaceAll(scanEvent("SCANNING_COMPLETED", 1, "sha256:"+strings.Repeat("a", 64), "dev-"+otherSHA[:7], ""), "supergest/backend", "mallory/backend"), "none of the project's images"},
		{"harbor", scanEvent("SCANNING_COMPLETED", 1, "sha256:"+strings.Repeat("a", 64), "dev-"+someCommit[:7], ""), "none of release"},
		{"harbor", `{"type":"SCANNING_COMPLETED","occur_at":1,"event_data":{}}`, "names no image"},
		{"harbor", strings.Replace(scanEvent("SCANNING_COMPLETED", 1, hookDigest, "dev-"+someCommit[:7], ""), `"scan_overview"`, `"x"`, 1), "spec.harbor.scan"},
		{"harbor", strings.Replace(scanEvent("SCANNING_COMPLETED", 1, hookDigest, "dev-"+someCommit[:7], ""), `"repository":`, `"scan":{"scan_type":"sbom"},"repository":`, 1), "sbom"},
		{"harbor", strings.Replace(scanEvent("SCANNING_FAILED", 1, hookDigest, "dev-"+someCommit[:7], ""), `"repository":`, `"scan":{"scan_type":"sbom"},"repository":`, 1), "sbom"},
		{"sonarqube", strings.Replace(sonarEvent("a", "OK", 1), `"backend"`, `"frontend"`, 1), "does not name"},
		{"sonarqube", strings.Replace(sonarEvent("a", "OK", 1), "BRANCH", "PULL_REQUEST", 1), "pull request"},
		{"sonarqube", strings.Replace(sonarEvent("a", "OK", 1), someCommit, "", 1), "no commit"},
	} {
		if answer := b.want(tc.source, tc.body, hookIgnored); !strings.Contains(answer.Detail, tc.detail) {
			t.Errorf("%s: %q, want it to say %q", tc.body, answer.Detail, tc.detail)
		}
	}
	if n := len(b.ciResults()); n != 0 {
		t.Errorf("%d results", n)
	}
	if r := b.releases(); len(r) != 1 || r[0].Spec.Version != "" {
		t.Errorf("releases %+v", r)
	}
	b.want("gitlab", ours(pipelineEvent(31, 1, "success")), hookStored)
}

// GitLab stops calling a webhook that refuses too often: events that groups, and GitLabs of the future, send are answered with 200.
func TestEventsOfGroups(t *testing.T) {
	b := newHooked(t, nil)
	for _, event := range []string{"user_add_to_group", "user_remove_from_group", "subgroup_create", "project_destroy", "anything new"} {
		if answer := b.want("gitlab", fmt.Sprintf(`{"event_name":%q,"group_id":100}`, event), hookIgnored); answer.Event != event {
			t.Errorf("%+v", answer)
		}
	}
}

// What SIRRAT has GitLab record comes back, and proves nothing: a deployment that was replaced is canceled there, which would fail it here.
func TestOwnDeploymentsComeBack(t *testing.T) {
	for _, told := range []bool{true, false} {
		b := newHooked(t, func(spec *v1alpha1.ProjectSpec) {
			spec.GitLab = &v1alpha1.GitLab{URL: "https://gitlab.example", Project: ourPath, TokenSecretRef: &v1alpha1.SecretKey{Name: "x", Key: "y"}, Deployments: told, CommitStatus: true}
		})
		b.release(someCommit)
		recorded, byJob := deploymentEvent(7, "dev", "canceled"), strings.Replace(deploymentEvent(8, "dev", "success"), "{", `{"deployable_id":796,`, 1)
		if !told { // somebody else uses GitLab's API
			b.want("gitlab", recorded, hookStored)
			continue
		}
		if answer := b.want("gitlab", recorded, hookIgnored); !strings.Contains(answer.Detail, "spec.gitlab.deployments") {
			t.Error(answer.Detail)
		}
		b.want("gitlab", byJob, hookStored)
		if s := evidence.Deployments(b.ciResults())["dev"].Spec; s.Run != "8" || s.Status != v1alpha1.StatusDeployed {
			t.Errorf("%+v", s)
		}
	}
}

// Where only jobs may report, a webhook changes nothing.
func TestHooksWhereJobsMustReport(t *testing.T) {
	b := newHooked(t, func(spec *v1alpha1.ProjectSpec) {
		spec.CI = v1alpha1.CI{RequireOIDC: true, OIDC: &v1alpha1.OIDC{Issuer: "https://gitlab.example", ProjectPath: ourPath}}
		spec.Hooks.GitLab.ProjectPath = ""
	})
	b.release(someCommit)
	ours := func(body string) string {
		return strings.TrimSuffix(body, "}") + `,"project":{"path_with_namespace":"` + ourPath + `"}}`
	}
	for _, body := range []string{pipelineEvent(31, 1, "success"), jobEvent("lint", 1, "success"), deploymentEvent(1, "dev", "success"), tagEvent("v1.2.3", someCommit)} {
		if answer := b.want("gitlab", ours(body), hookIgnored); answer.Detail != onlyJobs {
			t.Errorf("%s: %s", body, answer.Detail)
		}
	}
	if answer := b.want("harbor", scanEvent("SCANNING_COMPLETED", 1, hookDigest, "", ""), hookIgnored); answer.Detail != onlyJobs {
		t.Error(answer.Detail)
	}
	if answer := b.want("sonarqube", sonarEvent("a", "OK", 1), hookIgnored); answer.Detail != onlyJobs {
		t.Error(answer.Detail)
	}
	b.want("harbor", scanEvent("PUSH_ARTIFACT", 1, hookDigest, "", ""), hookNoted)
	if r := b.releases(); len(b.ciResults()) != 0 || r[0].Spec.Version != "" {
		t.Errorf("%d results, version %q", len(b.ciResults()), r[0].Spec.Version)
	}
}

// A tag names the version of its commit's release, once.
func TestTagHooks(t *testing.T) {
	b := newHooked(t, nil)
	b.release(someCommit)
	b.release(otherSHA)
	b.want("gitlab", tagEvent("v1.2.3", someCommit), hookStored)
	b.want("gitlab", tagEvent("1.2.3", someCommit), hookRepeated)
	for tag, commit := range map[string]string{"v1.2.4": someCommit, "v1.2.3": otherSHA} { // another version; a tag that was moved
		b.want("gitlab", tagEvent(tag, commit), hookIgnored)
	}
	// The pipeline of a tag sets the version too: the tag was there before its commit's release.
	tagged := strings.Replace(pipelineEvent(31, 1, "success"), `"ref":"main","sha":"`+someCommit, `"tag":true,"ref":"v2.0.0-rc.1","sha":"`+otherSHA, 1)
	if answer := b.want("gitlab", tagged, hookStored); len(answer.Results) != 1 || !strings.Contains(answer.Detail, "v2.0.0-rc.1") {
		t.Errorf("%+v", answer)
	}
	got := map[string]string{}
	for _, r := range b.releases() {
		got[r.Spec.Commit] = r.Spec.Version
	}
	if diff := cmp.Diff(map[string]string{someCommit: "v1.2.3", otherSHA: "v2.0.0-rc.1"}, got); diff != "" {
		t.Error(diff)
	}
}

// Of deployments the one with the highest id is the newest; a failure of the same one counts.
func TestDeploymentHooks(t *testing.T) {
	b := newHooked(t, nil)
	b.release(someCommit)
	newest := func() v1alpha1.CIResult { return evidence.Deployments(b.ciResults())["dev"] }
	b.want("gitlab", deploymentEvent(16, "dev", "success"), hookStored)
	b.want("gitlab", deploymentEvent(15, "dev", "failed"), hookStored) // late
	if s := newest().Spec; s.Run != "16" || s.Status != v1alpha1.StatusDeployed || s.Commit != someCommit || s.Branch != "main" {
		t.Errorf("%+v", s)
	}
	b.want("gitlab", deploymentEvent(16, "dev", "canceled"), hookStored)
	b.want("gitlab", deploymentEvent(16, "dev", "success"), hookRepeated)
	if s := newest().Spec; s.Run != "16" || s.Status != v1alpha1.StatusFailed {
		t.Errorf("%+v", s)
	}
}

// A write that fails is never acknowledged.
func TestHookStoreFails(t *testing.T) {
	var fails atomic.Bool
	b := newHooked(t, nil, func(o *Options) {
		o.Client = intercept(t, o.Client, interceptor.Funcs{
			Create: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
				if _, ok := obj.(*v1alpha1.CIResult); ok && fails.Load() {
					return errors.New("no")
				}
				return c.Create(ctx, obj, opts...)
			}})
	})
	body := pipelineEvent(31, 1, "success")
	fails.Store(true)
	status, header, raw := b.send(http.MethodPost, b.hookURL("gitlab"), "", body, credentials("gitlab", body))
	b.wantProblem(status, raw, http.StatusServiceUnavailable, "")
	if header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	fails.Store(false)
	b.want("gitlab", body, hookStored)
}

// No secret of a webhook is in a log line, an answer or an object.
func TestNoHookSecretsAnywhere(t *testing.T) {
	b := newHooked(t, nil)
	var seen strings.Builder
	for source, body := range map[string]string{"gitlab": pipelineEvent(31, 1, "success"), "harbor": `{"type":"x"}`, "sonarqube": sonarEvent("a", "OK", 1)} {
		for _, url := range []string{b.hookURL(source), b.url + "/hooks/" + source + "/no-such-project"} {
			_, header, raw := b.send(http.MethodPost, url, "", body, credentials(source, body))
			fmt.Fprint(&seen, header, string(raw))
		}
	}
	for _, r := range b.ciResults() {
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		seen.Write(text)
		seen.Write(r.Spec.Report)
	}
	seen.WriteString(b.log.String())
	if strings.Contains(seen.String(), "canary-token") || strings.Contains(seen.String(), "canary-harbor") || strings.Contains(seen.String(), "canary-sonar") {
		t.Error("a secret is somewhere")
	}
}
