// SPDX-License-Identifier: Apache-2.0

package hooks

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// Kinds of GitLab's events that are read; any other is named and no more.
const (
	KindPipeline   = "pipeline"
	KindJob        = "build"
	KindDeployment = "deployment"
	KindTag        = "tag_push"
	KindPush       = "push"
)

// GitLab is what an event of GitLab's says.
type GitLab struct {
	// Kind is object_kind as GitLab gives it, or event_name for the events of groups, which have no object_kind.
	Kind string `json:"kind"`
	// ProjectPath and ProjectID say which GitLab project it is about; empty if it does not say.
	ProjectPath string `json:"projectPath,omitempty"`
	ProjectID   int64  `json:"projectID,omitempty"`
	// Commit is the full commit. Of a deployment it may be the digits that GitLab gives.
	Commit string `json:"commit,omitempty"`
	Branch string `json:"branch,omitempty"`
	// Tag that the event is about, if it is about one.
	Tag string `json:"tag,omitempty"`
	// Deleted says that the tag was.
	Deleted bool `json:"deleted,omitempty"`
	// Word is the status in GitLab's words, and Status what it means; "" for one that is not the end of anything, or is not known.
	Word   string `json:"word,omitempty"`
	Status string `json:"status,omitempty"`
	// Origin is what started the pipeline (source).
	Origin string `json:"origin,omitempty"`
	// Pipeline, Job and Run are as in a CIResult.
	Pipeline string `json:"pipeline,omitempty"`
	Job      string `json:"job,omitempty"`
	Run      string `json:"run,omitempty"`
	// Environment that was deployed to, as GitLab calls it, and in the form of a DNS label.
	Environment     string `json:"environment,omitempty"`
	EnvironmentSlug string `json:"environmentSlug,omitempty"`
	// ByJob says that a job deployed: who records a deployment by GitLab's API has none.
	ByJob bool   `json:"byJob,omitempty"`
	URL   string `json:"url,omitempty"`
}

type gitlabProject struct {
	ID     int64  `json:"id"`
	Path   string `json:"path_with_namespace"`
	WebURL string `json:"web_url"`
}

type gitlabPipeline struct {
	Attributes struct {
		ID     int64  `json:"id"`
		Ref    string `json:"ref"`
		Tag    bool   `json:"tag"`
		SHA    string `json:"sha"`
		Source string `json:"source"`
		Status string `json:"status"`
		URL    string `json:"url"`
	} `json:"object_attributes"`
	Project gitlabProject `json:"project"`
	Builds  []struct {
		ID int64 `json:"id"`
	} `json:"builds"`
}

type gitlabJob struct {
	Ref        string        `json:"ref"`
	Tag        bool          `json:"tag"`
	SHA        string        `json:"sha"`
	BuildID    int64         `json:"build_id"`
	BuildName  string        `json:"build_name"`
	Status     string        `json:"build_status"`
	PipelineID int64         `json:"pipeline_id"`
	ProjectID  int64         `json:"project_id"`
	Project    gitlabProject `json:"project"`
}

type gitlabDeployment struct {
	Status      string        `json:"status"`
	ID          int64         `json:"deployment_id"`
	Job         int64         `json:"deployable_id"`
	URL         string        `json:"deployable_url"`
	Environment string        `json:"environment"`
	Slug        string        `json:"environment_slug"`
	ShortSHA    string        `json:"short_sha"`
	CommitURL   string        `json:"commit_url"`
	Project     gitlabProject `json:"project"`
}

type gitlabTag struct {
	Ref         string        `json:"ref"`
	CheckoutSHA string        `json:"checkout_sha"` // null when the tag was deleted
	Project     gitlabProject `json:"project"`
}

// ReadGitLab reads the body of an event. The error is an *Error.
func ReadGitLab(body []byte) (GitLab, error) {
	if err := check(body); err != nil {
		return GitLab{}, err
	}
	var head struct {
		Kind  string `json:"object_kind"`
		Event string `json:"event_name"`
	}
	if err := decode(body, &head); err != nil {
		return GitLab{}, err
	}
	switch head.Kind {
	case KindPipeline:
		return readPipeline(body)
	case KindJob:
		return readJob(body)
	case KindDeployment:
		return readDeployment(body)
	case KindTag:
		return readTag(body)
	}
	kind := cmp.Or(head.Kind, head.Event)
	if kind == "" {
		return GitLab{}, refuse("object_kind", "is required: this is no event of GitLab's")
	}
	return GitLab{Kind: clip(printable(kind), 40)}, nil
}

// gitlabStatuses are the ends of pipelines and jobs. A pipeline that was cancelled, or of which nothing ran, has proven nothing.
var gitlabStatuses = map[string]string{
	"success": v1alpha1.StatusPassed, "failed": v1alpha1.StatusFailed,
	"canceled": v1alpha1.StatusSkipped, "skipped": v1alpha1.StatusSkipped,
}

func readPipeline(body []byte) (GitLab, error) {
	var in gitlabPipeline
	if err := decode(body, &in); err != nil {
		return GitLab{}, err
	}
	at := in.Attributes
	sha, err := commit("object_attributes.sha", at.SHA)
	if err != nil {
		return GitLab{}, err
	}
	if err := positive("object_attributes.id", at.ID); err != nil {
		return GitLab{}, err
	}
	if at.Status == "" {
		return GitLab{}, refuse("object_attributes.status", "is required")
	}
	e := in.Project.event(KindPipeline)
	e.Commit, e.Pipeline, e.Origin, e.URL = sha, strconv.FormatInt(at.ID, 10), shown(at.Source), link(at.URL)
	e.Word, e.Status = shown(at.Status), gitlabStatuses[at.Status]
	e.setRef(at.Ref, at.Tag)
	// A job that is run again is a new job with a higher id, and the pipeline's end counts anew: the highest of the ids tells
	// which of two ends of one pipeline is the newer.
	var newest int64
	for _, b := range in.Builds {
		newest = max(newest, b.ID)
	}
	if newest > 0 {
		e.Run = strconv.FormatInt(newest, 10)
	}
	return e, nil
}

func readJob(body []byte) (GitLab, error) {
	var in gitlabJob
	if err := decode(body, &in); err != nil {
		return GitLab{}, err
	}
	sha, err := commit("sha", in.SHA)
	if err != nil {
		return GitLab{}, err
	}
	for _, id := range []struct {
		field string
		value int64
	}{{"build_id", in.BuildID}, {"pipeline_id", in.PipelineID}} {
		if err := positive(id.field, id.value); err != nil {
			return GitLab{}, err
		}
	}
	if in.BuildName == "" || in.Status == "" {
		return GitLab{}, refuse("build_name", "and build_status are required")
	}
	e := in.Project.event(KindJob)
	if e.ProjectID == 0 {
		e.ProjectID = in.ProjectID
	}
	e.Commit, e.Pipeline, e.Run, e.Job = sha, strconv.FormatInt(in.PipelineID, 10), strconv.FormatInt(in.BuildID, 10), shown(in.BuildName)
	e.Word, e.Status = shown(in.Status), gitlabStatuses[in.Status]
	if base := link(in.Project.WebURL); base != "" {
		e.URL = link(base + "/-/jobs/" + e.Run)
	}
	e.setRef(in.Ref, in.Tag)
	return e, nil
}

// gitlabDeployments are the ends of deployments. One that was cancelled may have been done by half.
var gitlabDeployments = map[string]string{
	"success": v1alpha1.StatusDeployed, "failed": v1alpha1.StatusFailed, "canceled": v1alpha1.StatusFailed,
}

var abbreviated = regexp.MustCompile(`^[0-9a-f]{7,64}$`)

func readDeployment(body []byte) (GitLab, error) {
	var in gitlabDeployment
	if err := decode(body, &in); err != nil {
		return GitLab{}, err
	}
	if err := positive("deployment_id", in.ID); err != nil {
		return GitLab{}, err
	}
	if !abbreviated.MatchString(in.ShortSHA) {
		return GitLab{}, refuse("short_sha", "must be 7 to 64 hex digits")
	}
	if in.Environment == "" || in.Status == "" {
		return GitLab{}, refuse("environment", "and status are required")
	}
	e := in.Project.event(KindDeployment)
	e.Commit, e.Run, e.URL = in.ShortSHA, strconv.FormatInt(in.ID, 10), link(in.URL)
	e.ByJob = in.Job > 0 || in.URL != ""
	// The whole commit is the end of its address only.
	if full := in.CommitURL[strings.LastIndexByte(in.CommitURL, '/')+1:]; commitPattern.MatchString(full) && strings.HasPrefix(full, in.ShortSHA) {
		e.Commit = full
	}
	e.Environment, e.EnvironmentSlug = shown(in.Environment), shown(in.Slug)
	e.Word, e.Status = shown(in.Status), gitlabDeployments[in.Status]
	return e, nil
}

func readTag(body []byte) (GitLab, error) {
	var in gitlabTag
	if err := decode(body, &in); err != nil {
		return GitLab{}, err
	}
	name, ok := strings.CutPrefix(in.Ref, "refs/tags/")
	if !ok || name == "" {
		return GitLab{}, refuse("ref", "must be refs/tags/ and a name")
	}
	e := in.Project.event(KindTag)
	e.Tag, e.Deleted = shown(name), in.CheckoutSHA == ""
	if e.Deleted {
		return e, nil
	}
	var err error
	e.Commit, err = commit("checkout_sha", in.CheckoutSHA)
	return e, err
}

func (p gitlabProject) event(kind string) GitLab {
	return GitLab{Kind: kind, ProjectPath: shown(p.Path), ProjectID: p.ID}
}

func (e *GitLab) setRef(ref string, tag bool) {
	switch {
	case printable(ref) != ref || len(ref) > maxText:
	case tag:
		e.Tag = ref
	default:
		e.Branch = ref
	}
}

// judging are the origins of pipelines that say how a commit is. Others (parent_pipeline, webide, the on-demand scans) are parts of
// another pipeline or leave some out, and their ids are higher: their success would hide the failure of the whole.
var judging = []string{"push", "web", "trigger", "schedule", "api", "external", "pipeline", "chat", "merge_request_event", "external_pull_request_event"}

// Judges tells whether a pipeline says how its commit is. Without an origin, which GitLab before 11 did not give, it does.
func (e GitLab) Judges() bool { return e.Origin == "" || slices.Contains(judging, e.Origin) }

var semver = regexp.MustCompile(`^v?((0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-[0-9A-Za-z.-]+)?)$`)

const maxVersion = 64

// Version is the semantic version that a tag names, with a leading v; "" if it names none.
func (e GitLab) Version() string {
	m := semver.FindStringSubmatch(e.Tag)
	if m == nil || len(m[1])+1 > maxVersion {
		return ""
	}
	return "v" + m[1]
}
