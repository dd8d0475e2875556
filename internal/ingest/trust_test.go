// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/apitoken"
	"gitlab.com/dynors/sirrat/internal/egress"
	"gitlab.com/dynors/sirrat/internal/hooks"
	"gitlab.com/dynors/sirrat/internal/idtoken"
	"gitlab.com/dynors/sirrat/internal/idtoken/idtokentest"
)

// wantRefused checks the problem with which something is refused; none for status 0.
func wantRefused(t *testing.T, name string, err error, status int, field string) {
	t.Helper()
	var p *Problem
	if status == 0 {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		return
	}
	if !errors.As(err, &p) || p.Status != status || p.Field != field {
		t.Errorf("%s: %+v, want status %d and field %q", name, err, status, field)
	}
}

func TestBearer(t *testing.T) {
	for name, tc := range map[string]struct {
		values []string
		want   string // "": refused
	}{
		"a token":             {[]string{"Bearer sirrat_a"}, "sirrat_a"},
		"in other letters":    {[]string{"bEARER sirrat_a"}, "sirrat_a"},
		"with spaces":         {[]string{"Bearer   sirrat_a "}, "sirrat_a"},
		"none":                {nil, ""},
		"the scheme alone":    {[]string{"Bearer"}, ""},
		"the token alone":     {[]string{"sirrat_a"}, ""},
		"another scheme":      {[]string{"Basic sirrat_a"}, ""},
		"one that begins so":  {[]string{"Bearers sirrat_a"}, ""},
		"twice":               {[]string{"Bearer sirrat_a", "Bearer sirrat_b"}, ""},
		"twice, one is empty": {[]string{"Bearer sirrat_a", ""}, ""},
	} {
		got, err := bearer(http.Header{"Authorization": tc.values})
		if got != tc.want {
			t.Errorf("%s: %q", name, got)
		}
		status := 0
		if tc.want == "" {
			status = http.StatusUnauthorized
		}
		wantRefused(t, name, err, status, "")
	}
}

// What a project says of its pipelines is all that is trusted.
func TestWhatAProjectTrusts(t *testing.T) {
	base := idtoken.Expected{Issuer: "https://gitlab.example", ProjectPath: ourPath, ProtectedOnly: true}
	with := func(edit func(*idtoken.Expected)) idtoken.Expected { e := base; edit(&e); return e }
	for name, tc := range map[string]struct {
		public string
		change func(*v1alpha1.OIDC)
		want   idtoken.Expected
	}{
		"no address is known": {"", func(*v1alpha1.OIDC) {}, base},
		"the server's own":    {ourURL, func(*v1alpha1.OIDC) {}, with(func(e *idtoken.Expected) { e.Audiences = []string{ourURL, ourURL + "/"} })},
		"with a slash":        {ourURL + "/", func(*v1alpha1.OIDC) {}, with(func(e *idtoken.Expected) { e.Audiences = []string{ourURL, ourURL + "/"} })},
		"the project's, and no other": {ourURL, func(o *v1alpha1.OIDC) { o.Audience = "https://other.example" },
			with(func(e *idtoken.Expected) { e.Audiences = []string{"https://other.example"} })},
		"an id":                     {"", func(o *v1alpha1.OIDC) { o.ProjectID = 20 }, with(func(e *idtoken.Expected) { e.ProjectID = "20" })},
		"protected refs":            {"", func(o *v1alpha1.OIDC) { o.ProtectedRefsOnly = ptr.To(true) }, base},
		"refs that are unprotected": {"", func(o *v1alpha1.OIDC) { o.ProtectedRefsOnly = ptr.To(false) }, with(func(e *idtoken.Expected) { e.ProtectedOnly = false })},
	} {
		o := &v1alpha1.OIDC{Issuer: "https://gitlab.example", ProjectPath: ourPath}
		tc.change(o)
		if diff := cmp.Diff(tc.want, (&api{o: Options{PublicURL: tc.public}}).expected(o)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// Whoever has no token of the project learns nothing of why; whose token is the project's learns what is wrong with it.
func TestProblemsOfJobs(t *testing.T) {
	foreign := opensNothing("no such project")
	down := &idtoken.Unavailable{After: 7 * time.Second, Err: errors.New("away")}
	for name, tc := range map[string]struct {
		err    error
		status int
		field  string
		says   string
	}{
		"foreign":           {&idtoken.Foreign{Reason: "another issuer"}, 403, "", "no such project"},
		"anything else":     {errors.New("canary"), 403, "", "no such project"},
		"expired":           {&idtoken.Refusal{Claim: "exp", Reason: "the token has expired"}, 401, "", "expired"},
		"another claim":     {&idtoken.Refusal{Claim: "aud", Reason: "for another audience"}, 403, "aud", "for another audience"},
		"the issuer's away": {down, 503, "", "nothing is acknowledged"},
		"the issuer's inside": {&idtoken.Unavailable{After: time.Second, Err: fmt.Errorf("discovery: %w", egress.ErrBlocked)}, 503, "",
			"--allow-private-addresses"},
	} {
		err := jobProblem(tc.err, foreign)
		wantRefused(t, name, err, tc.status, tc.field)
		var p *Problem
		if errors.As(err, &p) && (!strings.Contains(p.Detail+fmt.Sprint(p.Errors), tc.says) || strings.Contains(p.Detail, "canary") || strings.Contains(p.Detail, "another issuer")) {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

// A job speaks of its own commit, branch, pipeline and run, whatever it says; who holds an API token says whose they are.
func TestVouch(t *testing.T) {
	if got, err := (caller{}).ownCommit("commit", "abc"); got != "abc" || err != nil {
		t.Errorf("whoever holds an API token: %q, %v", got, err)
	}
	job := idtoken.Claims{Commit: someCommit, Ref: "main", RefType: "branch", Pipeline: "574", Job: "302"}
	onTag := job
	onTag.Ref, onTag.RefType = "v1.2.3", "tag"
	odd := job
	odd.Ref = "a b"
	type spec = v1alpha1.CIResultSpec
	for name, tc := range map[string]struct {
		job    *idtoken.Claims
		report spec
		want   spec
		field  string // that is refused
	}{
		"nothing more":             {&job, spec{Commit: someCommit}, spec{Commit: someCommit, Branch: "main", Pipeline: "574"}, ""},
		"a job's run":              {&job, spec{Commit: someCommit, Job: "unit"}, spec{Commit: someCommit, Branch: "main", Pipeline: "574", Job: "unit", Run: "302"}, ""},
		"the same":                 {&job, spec{Commit: someCommit, Branch: "main", Pipeline: "574", Job: "unit", Run: "302"}, spec{Commit: someCommit, Branch: "main", Pipeline: "574", Job: "unit", Run: "302"}, ""},
		"an abbreviation":          {&job, spec{Commit: someCommit[:7]}, spec{Commit: someCommit, Branch: "main", Pipeline: "574"}, ""},
		"of a tag":                 {&onTag, spec{Commit: someCommit}, spec{Commit: someCommit, Pipeline: "574"}, ""},
		"of a tag, which it names": {&onTag, spec{Commit: someCommit, Branch: "v1.2.3"}, spec{Commit: someCommit, Branch: "v1.2.3", Pipeline: "574"}, ""},
		"of a branch that is none": {&odd, spec{Commit: someCommit}, spec{Commit: someCommit, Pipeline: "574"}, ""},
		"another commit":           {&job, spec{Commit: otherSHA}, spec{}, "commit"},
		"another abbreviation":     {&job, spec{Commit: otherSHA[:7]}, spec{}, "commit"},
		"longer than the commit":   {&job, spec{Commit: someCommit + "0"}, spec{}, "commit"},
		"the end of the commit":    {&job, spec{Commit: someCommit[1:]}, spec{}, "commit"},
		"another branch":           {&job, spec{Commit: someCommit, Branch: "release"}, spec{}, "branch"},
		"another pipeline":         {&job, spec{Commit: someCommit, Pipeline: "575"}, spec{}, "pipeline"},
		"another run":              {&job, spec{Commit: someCommit, Job: "unit", Run: "303"}, spec{}, "run"},
		"another run, of no job":   {&job, spec{Commit: someCommit, Run: "303"}, spec{}, "run"},
		"no job speaks":            {nil, spec{Commit: otherSHA[:7], Branch: "x", Pipeline: "1", Job: "y", Run: "2"}, spec{Commit: otherSHA[:7], Branch: "x", Pipeline: "1", Job: "y", Run: "2"}, ""},
		"no job speaks, nor names": {nil, spec{Commit: otherSHA, Pipeline: "1", Run: "2"}, spec{Commit: otherSHA, Pipeline: "1"}, ""},
	} {
		got := tc.report
		err := caller{job: tc.job}.vouch(&got, "commit")
		if tc.field != "" {
			wantRefused(t, name, err, http.StatusForbidden, tc.field)
			continue
		}
		if diff := cmp.Diff(tc.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
	}
}

// What a delivery must prove itself with is all that the project expects, and each of it.
func TestHookProofs(t *testing.T) {
	const key = "0123456789abcdef0123456789abcdef"
	body, now := `{"object_kind":"push"}`, time.Unix(1_800_000_000, 0)
	token, previous, signing := []byte("the token of the webhook"), []byte("the token before that"), []byte("whsec_"+base64.StdEncoding.EncodeToString([]byte(key)))
	none := [][]byte(nil)
	some := func(v ...[]byte) [][]byte { return v }
	by := func(token string) http.Header { return http.Header{"X-Gitlab-Token": {token}} }
	signed := signedWith(key, "one", body, now)
	both := signed.Clone()
	both.Set("X-Gitlab-Token", string(token))
	forged := signed.Clone()
	forged.Set("webhook-id", "two")
	sonar := http.Header{http.CanonicalHeaderKey(sonarSignature): {hex.EncodeToString(hmacOf(string(token), body))}}
	harbor := http.Header{"Authorization": {string(token)}}
	for name, tc := range map[string]struct {
		source hookSource
		header http.Header
		values [][][]byte
		want   bool
	}{
		"the token":                             {gitlabHook, by(string(token)), [][][]byte{some(token), none}, true},
		"the token before":                      {gitlabHook, by(string(previous)), [][][]byte{some(token, previous), none}, true},
		"another token":                         {gitlabHook, by(string(previous)), [][][]byte{some(token), none}, false},
		"the token where nothing is expected":   {gitlabHook, by(string(token)), [][][]byte{none, none}, false},
		"the token where its Secret is not":     {gitlabHook, by(""), [][][]byte{some(nil), none}, false},
		"the signature":                         {gitlabHook, signed, [][][]byte{none, some(signing)}, true},
		"the signature, forged":                 {gitlabHook, forged, [][][]byte{none, some(signing)}, false},
		"the signature where its Secret is not": {gitlabHook, signed, [][][]byte{none, some(nil)}, false},
		"the token where a signature is asked":  {gitlabHook, by(string(token)), [][][]byte{none, some(signing)}, false},
		"the signature where a token is asked":  {gitlabHook, signed, [][][]byte{some(token), none}, false},
		"both":                                  {gitlabHook, both, [][][]byte{some(token), some(signing)}, true},
		"both, one is expected":                 {gitlabHook, both, [][][]byte{some(token), none}, true},
		"the token, both are expected":          {gitlabHook, by(string(token)), [][][]byte{some(token), some(signing)}, false},
		"the signature, both are expected":      {gitlabHook, signed, [][][]byte{some(token), some(signing)}, false},
		"both, and one Secret is not":           {gitlabHook, both, [][][]byte{some(token), some(nil)}, false},
		"both, and the other Secret is not":     {gitlabHook, both, [][][]byte{some(nil), some(signing)}, false},
		"Harbor's header":                       {harborHook, harbor, [][][]byte{some(token)}, true},
		"Harbor's, another":                     {harborHook, harbor, [][][]byte{some(previous)}, false},
		"Harbor's where nothing is expected":    {harborHook, harbor, [][][]byte{none}, false},
		"Harbor's twice":                        {harborHook, http.Header{"Authorization": {string(token), string(token)}}, [][][]byte{some(token)}, false},
		"SonarQube's signature":                 {sonarHook, sonar, [][][]byte{some(token)}, true},
		"SonarQube's by another key":            {sonarHook, sonar, [][][]byte{some(previous)}, false},
		"SonarQube's where nothing is expected": {sonarHook, sonar, [][][]byte{none}, false},
		"GitLab's token twice":                  {gitlabHook, http.Header{"X-Gitlab-Token": {string(token), string(token)}}, [][][]byte{some(token), none}, false},
	} {
		if got := tc.source.proves(tc.header, []byte(body), tc.values); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	at := func(d time.Duration) http.Header { return signedWith(key, "one", body, now.Add(d)) }
	for name, tc := range map[string]struct {
		source hookSource
		header http.Header
		kind   string // of what is refused; "" for what may prove itself
	}{
		"a token":                    {gitlabHook, by("x"), ""},
		"a signature":                {gitlabHook, at(0), ""},
		"a signature, just in time":  {gitlabHook, at(1 - hooks.Tolerance + time.Second), ""},
		"a signature of before":      {gitlabHook, at(-hooks.Tolerance), "stale-delivery"},
		"a signature of later":       {gitlabHook, at(hooks.Tolerance), "stale-delivery"},
		"a stale one with the token": {gitlabHook, func() http.Header { h := at(-time.Hour); h.Set("X-Gitlab-Token", "x"); return h }(), "stale-delivery"},
		"GitLab, nothing":            {gitlabHook, http.Header{}, "no-secret"},
		"GitLab, a time alone":       {gitlabHook, http.Header{"Webhook-Id": {"x"}, "Webhook-Timestamp": {strconv.FormatInt(now.Unix(), 10)}}, "no-secret"},
		"Harbor":                     {harborHook, harbor, ""},
		"Harbor, nothing":            {harborHook, by("x"), "no-secret"},
		"SonarQube":                  {sonarHook, sonar, ""},
		"SonarQube, nothing":         {sonarHook, harbor, "no-secret"},
	} {
		p := tc.source.offers(tc.header, now)
		if tc.kind == "" && p != nil || tc.kind != "" && (p == nil || p.Type != problemPrefix+tc.kind || p.Status != http.StatusUnauthorized) {
			t.Errorf("%s: %+v", name, p)
		}
	}
	// As many credentials for a project that says nothing as for one that says all.
	all := &v1alpha1.Hooks{GitLab: &v1alpha1.GitLabHook{SecretRef: &v1alpha1.HookSecret{Name: "a"}, SigningRef: &v1alpha1.HookSecret{Name: "b"}},
		Harbor: &v1alpha1.HarborHook{SecretRef: v1alpha1.HookSecret{Name: "c"}}, SonarQube: &v1alpha1.SonarQubeHook{SecretRef: v1alpha1.HookSecret{Name: "d"}}}
	for source, want := range map[string]string{"gitlab": "a b", "harbor": "c", "sonarqube": "d"} {
		s := map[string]hookSource{"gitlab": gitlabHook, "harbor": harborHook, "sonarqube": sonarHook}[source]
		var names []string
		for _, ref := range s.credentials(all) {
			names = append(names, ref.Name)
		}
		nothing := s.credentials(expectedOf(&v1alpha1.Project{}))
		for _, ref := range nothing {
			if ref != nil {
				t.Errorf("%s expects %+v of a project that says nothing", source, ref)
			}
		}
		if strings.Join(names, " ") != want || len(nothing) != len(names) {
			t.Errorf("%s: %q, and %d for nothing", source, names, len(nothing))
		}
	}
}

// A group's webhook brings the events of all its projects: only those of the project's own repository count.
func TestOtherGitLab(t *testing.T) {
	for name, tc := range map[string]struct {
		oidc  *v1alpha1.OIDC
		own   string
		path  string
		id    int64
		other bool
	}{
		"nothing is said":                         {nil, "", "x/y", 9, false},
		"ours":                                    {nil, ourPath, ourPath, 9, false},
		"ours in other letters":                   {nil, ourPath, strings.ToUpper(ourPath), 9, false},
		"another":                                 {nil, ourPath, "x/y", 9, true},
		"not said":                                {nil, ourPath, "", 9, true},
		"one that begins so":                      {nil, ourPath, ourPath + "/x", 9, true},
		"that of the jobs":                        {&v1alpha1.OIDC{ProjectPath: ourPath}, "", ourPath, 9, false},
		"another than that of the jobs":           {&v1alpha1.OIDC{ProjectPath: ourPath}, "", "x/y", 9, true},
		"the id of the jobs":                      {&v1alpha1.OIDC{ProjectPath: ourPath, ProjectID: 9}, "", ourPath, 9, false},
		"another id under that path":              {&v1alpha1.OIDC{ProjectPath: ourPath, ProjectID: 8}, "", ourPath, 9, true},
		"no id under that path":                   {&v1alpha1.OIDC{ProjectPath: ourPath, ProjectID: 8}, "", ourPath, 0, false},
		"another path under that id":              {&v1alpha1.OIDC{ProjectPath: ourPath, ProjectID: 9}, "", "x/y", 9, true},
		"the webhook's path before the jobs'":     {&v1alpha1.OIDC{ProjectPath: "x/y", ProjectID: 8}, ourPath, ourPath, 9, false},
		"the jobs' path, which is not the hook's": {&v1alpha1.OIDC{ProjectPath: "x/y", ProjectID: 8}, ourPath, "x/y", 8, true},
		"the same path twice, and the id":         {&v1alpha1.OIDC{ProjectPath: ourPath, ProjectID: 8}, ourPath, ourPath, 9, true},
	} {
		spec := v1alpha1.ProjectSpec{CI: v1alpha1.CI{OIDC: tc.oidc}, Hooks: &v1alpha1.Hooks{GitLab: &v1alpha1.GitLabHook{ProjectPath: tc.own}}}
		if why := otherGitLab(spec, hooks.GitLab{ProjectPath: tc.path, ProjectID: tc.id}); (why != "") != tc.other {
			t.Errorf("%s: %q", name, why)
		}
	}
}

// A version is set once, and is one release's.
func TestVersionTaken(t *testing.T) {
	none, has, other := release("a", someCommit, ""), release("b", otherSHA, "v1.2.3"), release("c", otherSHA, "v1.3.0")
	for name, tc := range map[string]struct {
		releases []*v1alpha1.Release
		release  *v1alpha1.Release
		taken    bool
	}{
		"free":                     {[]*v1alpha1.Release{none, other}, none, false},
		"its own already":          {[]*v1alpha1.Release{has}, has, true},
		"it has another":           {[]*v1alpha1.Release{other}, other, true},
		"another release's":        {[]*v1alpha1.Release{none, has}, none, true},
		"another release's, first": {[]*v1alpha1.Release{has, none}, none, true},
	} {
		if why := versionTaken(tc.releases, tc.release, "v1.2.3"); (why != "") != tc.taken {
			t.Errorf("%s: %q", name, why)
		}
	}
}

// A repository of Harbor's is ours by its address, or by its name in Harbor.
func TestIsOurs(t *testing.T) {
	project := &v1alpha1.Project{Spec: v1alpha1.ProjectSpec{Images: []v1alpha1.ProjectImage{{Name: "web", Repository: "hub.example/shop/web"}, {Name: "db", Repository: "hub.example/shop/db"}}}}
	for _, tc := range []struct {
		repository, reference string
		want                  bool
	}{
		{"shop/web", "hub.example/shop/web", true}, {"shop/db", "harbor-core/shop/db", true}, {"", "hub.example/shop/web", true},
		{"", "", false}, {"", "harbor-core/shop/web", false}, {"shop/webs", "hub.example/shop/webs", false}, {"hop/web", "x/hop/web", false}, {"other/web", "hub.example/other/web", false},
	} {
		if got := isOurs(project, tc.repository, tc.reference); got != tc.want {
			t.Errorf("%q at %q: %v", tc.repository, tc.reference, got)
		}
	}
}

// Digits stand for a commit when they are the beginning of exactly one.
func TestUniqueCommit(t *testing.T) {
	const a, b = "a1b2c3d000000000000000000000000000000000", "a1b2c3d111111111111111111111111111111111"
	long := strings.Repeat("c", 64)
	for name, tc := range map[string]struct {
		prefix string
		known  []string
		want   string // "": ambiguous
	}{
		"of none":                    {"a1b2c3d", nil, "a1b2c3d"},
		"of one":                     {"a1b2c3d", []string{a}, a},
		"of one, known often":        {"a1b2c3d", []string{a, a, long, a}, a},
		"of two":                     {"a1b2c3d", []string{a, b}, ""},
		"of two, known often":        {"a1b2c3d", []string{a, b, a}, ""},
		"more digits":                {"a1b2c3d1", []string{a, b}, b},
		"of an abbreviation":         {"a1b2c3d", []string{"a1b2c3d0"}, "a1b2c3d"},
		"of one and an abbreviation": {"a1b2c3d", []string{"a1b2c3d1", a}, a},
		"in the middle of one":       {"1b2c3d0", []string{a}, "1b2c3d0"},
		"of a long one":              {"ccccccc", []string{long}, long},
	} {
		got, err := uniqueCommit("commit", tc.prefix, tc.known)
		if tc.want == "" {
			wantRefused(t, name, err, http.StatusConflict, "commit")
		} else if err != nil || got != tc.want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// Figures are about an image of the release as it was frozen; as long as none is known, about any.
func TestCheckDigest(t *testing.T) {
	const one, two = "sha256:1", "sha256:2"
	declared := release("a", someCommit, "")
	declared.Spec.Images = []v1alpha1.ReleaseImage{{Name: "web", Digest: one}}
	empty := declared.DeepCopy()
	empty.Status.Bundle = &v1alpha1.Bundle{}
	frozen := declared.DeepCopy()
	frozen.Status.Bundle = &v1alpha1.Bundle{Images: []v1alpha1.FrozenImage{{Name: "web", Digest: two}}}
	for name, tc := range map[string]struct {
		digest  string
		release *v1alpha1.Release
		refused bool
	}{
		"no release": {one, nil, false}, "no image": {one, release("a", someCommit, ""), false}, "no digest": {"", frozen, false},
		"declared, and nothing is frozen": {two, empty, true}, "declared": {one, declared, false}, "not declared": {two, declared, true},
		"frozen": {two, frozen, false}, "declared, and another is frozen": {one, frozen, true},
	} {
		if err := checkDigest(tc.digest, tc.release); (err != nil) != tc.refused {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a source says of a time that has not come counts for nothing: it would be the newest for good.
func TestCheckTime(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	a := &api{o: Options{Now: func() time.Time { return now }}}
	for ahead, refused := range map[time.Duration]bool{-time.Hour: false, 0: false, maxAhead: false, maxAhead + 1: true} {
		if err := a.checkTime("at", now.Add(ahead)); (err != nil) != refused {
			t.Errorf("%s ahead: %v", ahead, err)
		}
	}
	for header, want := range map[string]string{"one": "one", strings.Repeat("a", 64): strings.Repeat("a", 64), strings.Repeat("a", 65): "", "a\nb": "", "a b": ""} {
		if got := deliveryID(http.Header{"Webhook-Id": {header}}); got != want {
			t.Errorf("delivery %q: %q", header, got)
		}
	}
	if got := one(http.Header{"X": {"a", "a"}}, "X"); got != "" {
		t.Errorf("a header that is given twice: %q", got)
	}
}

// Events that are not the end of anything, or say of a part what would count for the whole, are no evidence. Without a store none of
// them can be kept.
func TestHooksThatProveNothing(t *testing.T) {
	a := &api{o: Options{Now: time.Now}}
	project := func(change func(*v1alpha1.ProjectSpec)) *delivery {
		p := &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: v1alpha1.ProjectSpec{Hooks: &v1alpha1.Hooks{GitLab: &v1alpha1.GitLabHook{}, SonarQube: &v1alpha1.SonarQubeHook{}}}}
		if change != nil {
			change(&p.Spec)
		}
		return &delivery{project: p}
	}
	gitlab := func(d *delivery, body string) (HookAnswer, error) {
		d.body = []byte(body)
		return a.takeGitLab(t.Context(), d)
	}
	sonar := func(d *delivery, body string) (HookAnswer, error) {
		d.body = []byte(body)
		return a.takeSonarQube(t.Context(), d)
	}
	harbor := func(d *delivery, body string) (HookAnswer, error) {
		d.body = []byte(body)
		return a.takeHarbor(t.Context(), d)
	}
	onlyOIDC := func(spec *v1alpha1.ProjectSpec) { spec.CI.RequireOIDC = true }
	success := pipelineEvent(31, 1, "success")
	for name, tc := range map[string]struct {
		take func(*delivery, string) (HookAnswer, error)
		spec func(*v1alpha1.ProjectSpec)
		body string
		says string
	}{
		"a pipeline that runs":            {gitlab, nil, pipelineEvent(31, 1, "running"), "has not ended"},
		"a part of a pipeline":            {gitlab, nil, strings.Replace(success, `"push"`, `"parent_pipeline"`, 1), "parent_pipeline"},
		"another project":                 {gitlab, func(spec *v1alpha1.ProjectSpec) { spec.Hooks.GitLab.ProjectPath = ourPath }, success, "another GitLab project"},
		"only jobs may report":            {gitlab, onlyOIDC, success, "own jobs only"},
		"a push":                          {gitlab, nil, `{"object_kind":"push"}`, "a push proves nothing"},
		"another kind":                    {gitlab, nil, `{"object_kind":"note"}`, "nothing depends"},
		"a job of a type with figures":    {gitlab, nil, jobEvent("tests", 1, "success"), "have figures"},
		"a job called deployment":         {gitlab, nil, jobEvent("deployment", 1, "success"), "have figures"},
		"a job of no type":                {gitlab, nil, jobEvent("Unit tests", 1, "success"), "no gate can ask"},
		"a job of a long name":            {gitlab, nil, jobEvent(strings.Repeat("a", maxType+1), 1, "success"), "no gate can ask"},
		"a job that runs":                 {gitlab, nil, jobEvent("lint", 1, "running"), "has not ended"},
		"a deployment that runs":          {gitlab, nil, deploymentEvent(1, "dev", "running"), "has not ended"},
		"our own deployment":              {gitlab, func(spec *v1alpha1.ProjectSpec) { spec.GitLab = &v1alpha1.GitLab{Deployments: true} }, deploymentEvent(1, "dev", "success"), "no job of GitLab's"},
		"a tag that is no version":        {gitlab, nil, tagEvent("latest", someCommit), "no semantic version"},
		"SonarQube's, only jobs":          {sonar, onlyOIDC, sonarEvent("a", "OK", 1), "own jobs only"},
		"Harbor's, only jobs":             {harbor, onlyOIDC, scanEvent("SCANNING_COMPLETED", 1, hookDigest, "", ""), "own jobs only"},
		"another of SonarQube's projects": {sonar, func(spec *v1alpha1.ProjectSpec) { spec.Hooks.SonarQube.Projects = []string{"others"} }, sonarEvent("a", "OK", 1), "does not name"},
		"a tag that was deleted":          {gitlab, nil, `{"object_kind":"tag_push","ref":"refs/tags/v1.2.3","checkout_sha":null}`, "was deleted"},
		"a pull request":                  {sonar, nil, strings.Replace(sonarEvent("a", "OK", 1), "BRANCH", "PULL_REQUEST", 1), "pull request"},
		"an analysis of no commit":        {sonar, nil, strings.Replace(sonarEvent("a", "OK", 1), someCommit, "r4711", 1), "names no commit"},
	} {
		answer, err := tc.take(project(tc.spec), tc.body)
		if err != nil || answer.Outcome != hookIgnored || !strings.Contains(answer.Detail, tc.says) {
			t.Errorf("%s: %+v, %v", name, answer, err)
		}
	}
	// What is not what the source documents, or has not happened yet, is refused.
	analysis, ahead := sonarEvent("a", "OK", 1), time.Now().Add(time.Hour)
	for name, tc := range map[string]struct {
		take        func(*delivery, string) (HookAnswer, error)
		body, field string
	}{
		"GitLab":                  {gitlab, strings.Replace(success, someCommit, "x", 1), "object_attributes.sha"},
		"Harbor":                  {harbor, `{"type":"SCANNING_COMPLETED"}`, "occur_at"},
		"Harbor, of the future":   {harbor, scanEvent("SCANNING_COMPLETED", int(ahead.Unix()), hookDigest, "", ""), "occur_at"},
		"SonarQube":               {sonar, `{}`, "project.key"},
		"SonarQube, at no time":   {sonar, strings.NewReplacer("2026-01-01T10:00:00+0100", "", "2026-01-01T10:01:00+0100", "").Replace(analysis), "analysedAt"},
		"SonarQube of the future": {sonar, strings.Replace(analysis, "2026-01-01T10:00:00+0100", ahead.Format("2006-01-02T15:04:05-0700"), 1), "analysedAt"},
	} {
		_, err := tc.take(project(nil), tc.body)
		wantRefused(t, name, err, http.StatusBadRequest, tc.field)
	}
}

// Of several releases of one commit the oldest counts, and of those of one moment the first by name: whichever was found first.
func TestOldestRelease(t *testing.T) {
	at := func(name, commit string, second int64) *v1alpha1.Release {
		r := release(name, commit, "")
		r.CreationTimestamp = metav1.NewTime(time.Unix(second, 0))
		return r
	}
	a, b, c, other := at("a", someCommit, 2), at("b", someCommit, 1), at("c", someCommit, 1), at("0", otherSHA, 0)
	for _, releases := range [][]*v1alpha1.Release{{a, b, c, other}, {other, c, b, a}, {b, a, other, c}} {
		if got, err := pickRelease("commit", someCommit[:7], releases); err != nil || got != b {
			t.Errorf("%v, %v", got, err)
		}
	}
	if got := oldest([]*v1alpha1.Release{other}, someCommit); got != nil {
		t.Errorf("%v", got)
	}
}

// shelf is what a reader has: the projects and Secrets on it, or an error for what it cannot read.
type shelf struct {
	client.Client
	project *v1alpha1.Project
	secret  *corev1.Secret
	fails   map[string]bool // by the kind of what is read
	reads   int
}

var errShelf = apierrors.NewTimeoutError("request did not complete", 1)

// Get implements client.Reader.
func (s *shelf) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	s.reads++
	none := apierrors.NewNotFound(schema.GroupResource{}, key.Name)
	switch o := into.(type) {
	case *v1alpha1.Project:
		if s.fails["Project"] {
			return errShelf
		}
		if s.project == nil || s.project.Name != key.Name {
			return none
		}
		s.project.DeepCopyInto(o)
	case *corev1.Secret:
		if s.fails["Secret"] {
			return errShelf
		}
		if s.secret == nil || client.ObjectKeyFromObject(s.secret) != key {
			return none
		}
		s.secret.DeepCopyInto(o)
	default:
		return fmt.Errorf("%T is not read here", into)
	}
	return nil
}

// reading is an API over a cache and an API server.
func reading(cache, server *shelf) *api {
	a := &api{o: Options{Client: cache, APIReader: server}, slots: make(chan struct{}, 1), doubts: newShares(1, 1), verifying: newShares(1, 1)}
	a.o.setDefaults()
	return a
}

// Who cannot be looked up is nobody yet: neither taken in nor turned away for good.
func TestTokensThatCannotBeLookedUp(t *testing.T) {
	token, secret, err := apitoken.New("p", "", time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	past, gone, err := apitoken.New("p", "", time.Now().Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	fails := map[string]bool{"Secret": true}
	for name, tc := range map[string]struct {
		cache, server *shelf
		project       string
		token         string
		busy          bool
		status, reads int // reads of the API server
	}{
		"known":                         {&shelf{secret: secret}, &shelf{fails: fails}, "p", token, false, 0, 0},
		"known since a moment ago":      {&shelf{}, &shelf{secret: secret}, "p", token, false, 0, 1},
		"unknown":                       {&shelf{}, &shelf{}, "p", token, false, 403, 1},
		"another project's":             {&shelf{secret: secret}, &shelf{secret: secret}, "q", token, false, 403, 1},
		"no project's name":             {&shelf{secret: secret}, &shelf{secret: secret}, "../p", token, false, 403, 0},
		"another secret":                {&shelf{secret: secret}, &shelf{secret: secret}, "p", token[:len(token)-1] + "x", false, 403, 1},
		"expired":                       {&shelf{secret: gone}, &shelf{fails: fails}, "p", past, false, 401, 0},
		"the cache fails":               {&shelf{fails: fails}, &shelf{secret: secret}, "p", token, false, 503, 0},
		"the API server fails":          {&shelf{}, &shelf{fails: fails}, "p", token, false, 503, 1},
		"too many others are in doubt":  {&shelf{}, &shelf{secret: secret}, "p", token, true, 503, 0},
		"in no doubt, however many are": {&shelf{secret: secret}, &shelf{}, "p", token, true, 0, 0},
	} {
		a := reading(tc.cache, tc.server)
		if tc.busy {
			a.doubts.take(tc.project, 1)
		}
		id, err := a.authenticateToken(t.Context(), tc.token, tc.project, apitoken.ScopePipeline)
		wantRefused(t, name, err, tc.status, "")
		if (id != "") != (tc.status == 0) || tc.server.reads != tc.reads {
			t.Errorf("%s: id %q, %d reads of the API server", name, id, tc.server.reads)
		}
	}
}

func TestHooksThatCannotBeLookedUp(t *testing.T) {
	const value, old = "the secret of the webhook", "the secret before that"
	project := &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: v1alpha1.ProjectSpec{
		Hooks: &v1alpha1.Hooks{Harbor: &v1alpha1.HarborHook{SecretRef: v1alpha1.HookSecret{Name: "hooks", Key: "harbor"}}}}}
	rotating, silent := project.DeepCopy(), project.DeepCopy()
	rotating.Spec.Hooks.Harbor.SecretRef.PreviousKey, silent.Spec.Hooks = "old", nil
	secret := func(namespace string, data map[string]string) *corev1.Secret {
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "hooks"}, Data: map[string][]byte{}}
		for k, v := range data {
			s.Data[k] = []byte(v)
		}
		return s
	}
	both := secret("p", map[string]string{"harbor": value, "old": old})
	for name, tc := range map[string]struct {
		cache, server *shelf
		sent          string
		path          string
		status        int
	}{
		"known":                        {&shelf{project: project, secret: both}, &shelf{}, value, "p", 0},
		"a Secret of a moment ago":     {&shelf{project: project}, &shelf{secret: both}, value, "p", 0},
		"no Secret":                    {&shelf{project: project}, &shelf{}, value, "p", 401},
		"another's Secret":             {&shelf{project: project, secret: secret("q", map[string]string{"harbor": value})}, &shelf{}, value, "p", 401},
		"no such key":                  {&shelf{project: project, secret: secret("p", map[string]string{"other": value})}, &shelf{}, value, "p", 401},
		"an empty key, and nothing":    {&shelf{project: project, secret: secret("p", map[string]string{"harbor": ""})}, &shelf{}, "", "p", 401},
		"a short secret":               {&shelf{project: project, secret: secret("p", map[string]string{"harbor": "short"})}, &shelf{}, "short", "p", 401},
		"the one before":               {&shelf{project: rotating, secret: both}, &shelf{}, old, "p", 0},
		"the one before, not named":    {&shelf{project: project, secret: both}, &shelf{}, old, "p", 401},
		"hooks are not spoken of":      {&shelf{project: silent, secret: both}, &shelf{secret: both}, value, "p", 401},
		"no such project":              {&shelf{secret: both}, &shelf{secret: both}, value, "p", 401},
		"no project's name":            {&shelf{project: project, secret: both}, &shelf{}, value, "P", 401},
		"the project cannot be read":   {&shelf{project: project, secret: both, fails: map[string]bool{"Project": true}}, &shelf{secret: both}, value, "p", 503},
		"the Secret cannot be read":    {&shelf{project: project, secret: both, fails: map[string]bool{"Secret": true}}, &shelf{secret: both}, value, "p", 503},
		"the API server cannot answer": {&shelf{project: project}, &shelf{secret: both, fails: map[string]bool{"Secret": true}}, value, "p", 503},
	} {
		r := &http.Request{Header: http.Header{"Authorization": {tc.sent}}}
		r.SetPathValue("id", tc.path)
		got, err := reading(tc.cache, tc.server).authenticateHook(t.Context(), harborHook, r, nil)
		wantRefused(t, name, err, tc.status, "")
		if (got != nil) != (tc.status == 0) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestJobsThatCannotBeLookedUp(t *testing.T) {
	issuer, key := idtokentest.New(t), idtokentest.EC(t)
	issuer.Publish(map[string]any{"k1": key})
	token := idtokentest.Sign(t, jose.ES256, "k1", key, issuer.Claims(ourURL, ourPath, someCommit, nil))
	project := &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: v1alpha1.ProjectSpec{CI: v1alpha1.CI{RequireOIDC: true,
		OIDC: &v1alpha1.OIDC{Issuer: issuer.URL, ProjectPath: ourPath}}}}
	silent := project.DeepCopy()
	silent.Spec.CI = v1alpha1.CI{}
	elsewhere := project.DeepCopy()
	elsewhere.Spec.CI.OIDC.ProjectPath = "dynors/other"
	fails := &shelf{project: project, fails: map[string]bool{"Project": true}}
	for name, tc := range map[string]struct {
		cache  *shelf
		path   string
		scope  apitoken.Scope
		change func(*api)
		status int
	}{
		"known":                        {&shelf{project: project}, "p", apitoken.ScopePipeline, nil, 0},
		"another project's":            {&shelf{project: elsewhere}, "p", apitoken.ScopePipeline, nil, 403},
		"another scope":                {&shelf{project: project}, "p", apitoken.ScopeAudit, nil, 403},
		"no such project":              {&shelf{}, "p", apitoken.ScopePipeline, nil, 403},
		"no project's name":            {&shelf{project: project}, "../p", apitoken.ScopePipeline, nil, 403},
		"jobs are not spoken of":       {&shelf{project: silent}, "p", apitoken.ScopePipeline, nil, 403},
		"the server verifies no token": {&shelf{project: project}, "p", apitoken.ScopePipeline, func(a *api) { a.o.IDTokens = nil }, 403},
		"the project cannot be read":   {fails, "p", apitoken.ScopePipeline, nil, 503},
		"too many of the project's":    {&shelf{project: project}, "p", apitoken.ScopePipeline, func(a *api) { a.verifying.take("p", 1) }, 503},
	} {
		a := reading(tc.cache, &shelf{})
		a.o.PublicURL, a.o.IDTokens = ourURL, issuer.Verifier(t, &idtokentest.Clock{})
		if tc.change != nil {
			tc.change(a)
		}
		for range 2 { // the first leaves its place to the next
			job, err := a.authenticateJob(t.Context(), token, tc.path, tc.scope)
			wantRefused(t, name, err, tc.status, "")
			if (job != nil) != (tc.status == 0) {
				t.Errorf("%s: %+v", name, job)
			}
		}
	}
	// Where jobs must report, an API token does not; and where that cannot be looked up, nothing is taken.
	for name, tc := range map[string]struct {
		cache  *shelf
		c      caller
		status int
	}{
		"demanded":            {&shelf{project: project}, caller{project: "p", tokenID: "x"}, 403},
		"a job":               {fails, caller{project: "p", job: &idtoken.Claims{}}, 0},
		"not demanded":        {&shelf{project: silent}, caller{project: "p", tokenID: "x"}, 0},
		"no Project yet":      {&shelf{}, caller{project: "p", tokenID: "x"}, 0},
		"cannot be looked up": {fails, caller{project: "p", tokenID: "x"}, 503},
	} {
		wantRefused(t, name, reading(tc.cache, &shelf{}).checkDemand(t.Context(), tc.c), tc.status, "")
	}
}
