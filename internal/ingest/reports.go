// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"context"
	"net/http"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// postResult stores what a pipeline found about a commit.
func (a *api) postResult(w http.ResponseWriter, r *http.Request, c caller) error {
	wait, err := waitParameter(r, a.o.Wait)
	if err != nil {
		return err
	}
	body, err := a.readBody(w, r)
	if err != nil {
		return err
	}
	spec, errs := decodeResult(body)
	if len(errs) > 0 {
		return invalid(errs)
	}
	if err := c.vouch(&spec, "commit"); err != nil {
		return err
	}
	a.stamp(&spec, body, c)
	var st stored
	err = a.withStore(r.Context(), func(ctx context.Context) (err error) {
		defer observeStore(time.Now())
		if err = a.checkType(ctx, c.project, spec.Type); err != nil {
			return err
		}
		if st.gates, err = a.automaticGates(ctx, c.project); err != nil {
			return err
		}
		if spec.Commit, err = a.resolveCommit(c.project, spec.Commit); err != nil {
			return err
		}
		if err = checkDigest(spec.Digest, oldest(a.hub.releasesWith(c.project, spec.Commit), spec.Commit)); err != nil {
			return err
		}
		if st.name, st.created, err = a.storeRun(ctx, c.project, spec); err != nil {
			return err
		}
		if isFull(spec.Commit) {
			return a.ensureRelease(ctx, c.project, spec.Commit, spec.Branch)
		}
		return nil
	})
	if err != nil {
		return err
	}
	st.spec = spec
	a.answerReport(w, r, c.project, st, wait)
	return nil
}

// postDeployment stores what a pipeline did to an environment. Deploying A, then B, then A again is three events, though the
// first and the third report read the same; the same report twice in a row is one.
func (a *api) postDeployment(w http.ResponseWriter, r *http.Request, c caller) error {
	wait, err := waitParameter(r, a.o.Wait)
	if err != nil {
		return err
	}
	body, err := a.readBody(w, r)
	if err != nil {
		return err
	}
	spec, version, errs := decodeDeployment(body)
	if len(errs) > 0 {
		return invalid(errs)
	}
	a.stamp(&spec, body, c)
	var st stored
	err = a.withStore(r.Context(), func(ctx context.Context) (err error) {
		defer observeStore(time.Now())
		if err = a.checkEnvironment(ctx, c.project, spec.Environment); err != nil {
			return err
		}
		if st.gates, err = a.automaticGates(ctx, c.project); err != nil {
			return err
		}
		release, err := a.resolveVersion(ctx, c.project, version)
		if err != nil {
			return err
		}
		spec.Commit = release.Spec.Commit
		if err := c.vouch(&spec, "version"); err != nil {
			return err
		}
		spec.Branch = release.Spec.Branch
		after := ""
		if last := a.hub.lastDeployment(c.project, spec.Environment); last != nil {
			if contentHash(last.Spec, "") == contentHash(spec, "") {
				st.name = last.Name
				return nil
			}
			after = last.Name
			// The newest counts, and times are kept to the second.
			if !last.Spec.Received.Before(&spec.Received) {
				spec.Received = metav1.NewTime(last.Spec.Received.Add(time.Second).UTC())
			}
		}
		var existing *v1alpha1.CIResult
		st.name, existing, err = a.storeResult(ctx, c.project, spec, contentHash(spec, after), func(o v1alpha1.CIResultSpec) bool { return sameContent(o, spec) })
		st.created = existing == nil
		return err
	})
	if err != nil {
		return err
	}
	st.spec = spec
	a.answerReport(w, r, c.project, st, wait)
	return nil
}

// stamp adds to a report what the server knows of it.
func (a *api) stamp(spec *v1alpha1.CIResultSpec, body []byte, c caller) {
	spec.Received = metav1.NewTime(a.o.Now().UTC().Truncate(time.Second))
	spec.Source, spec.Identity = c.tokenID, c.identity()
	spec.Report, spec.ReportHash = body, reportHash(body)
}

// stored is a report in the store: its CIResult's spec and name, whether this request created it, and the gates that open by
// themselves.
type stored struct {
	spec    v1alpha1.CIResultSpec
	name    string
	created bool
	gates   []string
}

// answerReport waits for the judgement of a stored report and answers: 201 for a new one, 200 for one that was there, 202 when
// the judgement is still to come. Nothing in it can fail, since the report is stored.
func (a *api) answerReport(w http.ResponseWriter, r *http.Request, project string, st stored, wait time.Duration) {
	answer, status := a.awaitJudgement(r, project, []stored{st}, wait)
	writeJSON(w, status, "application/json", answer)
}

// awaitJudgement waits until all that was stored of one commit is judged. The answer is about the first of it.
func (a *api) awaitJudgement(r *http.Request, project string, all []stored, wait time.Duration) (Answer, int) {
	commit, created := all[0].spec.Commit, false
	for _, st := range all {
		resultsTotal.WithLabelValues(typeLabel(st.spec.Type), st.spec.Status, strconv.FormatBool(!st.created)).Inc()
		created = created || st.created
	}
	var judged *v1alpha1.Release
	if isFull(commit) {
		a.await(r.Context(), commitTopic(project, commit), wait, func() bool {
			for _, st := range all {
				judged = judgedIn(a.hub.releasesWith(project, commit), a.hub.resultsWith(project, commit), commit, st.name)
				if judged == nil {
					return false
				}
			}
			return true
		})
	}
	release := judged
	if release == nil {
		release = oldest(a.hub.releasesWith(project, commit), commit)
	}
	answer := answerFor(project, commit, release)
	answer.Result, answer.Judged = all[0].name, judged != nil
	answer.Verdict = answer.together(all[0].gates)
	if release == nil && isFull(commit) {
		answer.Next = "the release is being created"
	}
	switch {
	case !answer.Judged:
		return answer, http.StatusAccepted
	case created:
		return answer, http.StatusCreated
	}
	return answer, http.StatusOK
}

// await waits until done, at most for limit, or until the server stops or the client goes away.
func (a *api) await(ctx context.Context, t topic, limit time.Duration, done func() bool) bool {
	if limit == 0 || done() {
		return done()
	}
	waitingRequests.Inc()
	defer waitingRequests.Dec()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return a.hub.wait(ctx, a.o.Stopping, t, done)
}

// waitParameter reads ?wait=60s or ?wait=60.
func waitParameter(r *http.Request, absent time.Duration) (time.Duration, error) {
	text := r.URL.Query().Get("wait")
	if text == "" {
		return absent, nil
	}
	d, err := time.ParseDuration(text)
	if seconds, errInt := strconv.Atoi(text); errInt == nil && seconds >= 0 && seconds <= int(MaxWait/time.Second) {
		d, err = time.Duration(seconds)*time.Second, nil
	}
	if err != nil || d < 0 || d > MaxWait {
		return 0, invalid([]FieldError{{"wait", "must be a duration from 0s to " + MaxWait.String() + ", like 30s"}})
	}
	return d, nil
}

func observeStore(start time.Time) { storeSeconds.Observe(time.Since(start).Seconds()) }
