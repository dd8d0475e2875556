// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/harbor"
)

const (
	// scanInterval is how often a scanned release is looked at where the project does not say, and scanIntervalLeast the
	// shortest that it may say.
	scanInterval, scanIntervalLeast = 24 * time.Hour, 10 * time.Minute
	// scanPatience is how long a scan may take before it is told that something is wrong with it.
	scanPatience = time.Hour
	// clockTolerance is how far Harbor's clock may be ahead: a scan that has yet to end would pass for newer than all that follow.
	clockTolerance = 5 * time.Minute
	// maxProducer bounds the name of a scanner, in characters: that of a CIResult.
	maxProducer = 128
)

// scanAction is what is to be done about the scan of an image.
type scanAction int

const (
	// scanRest: its newest scan is evidence.
	scanRest scanAction = iota
	// scanWait: Harbor is at it.
	scanWait
	// scanAsk: Harbor is to be asked for a scan.
	scanAsk
	// scanFetch: there is a scan that is not evidence yet.
	scanFetch
)

// scanState is how far an image is, for the condition Scanned.
type scanState struct {
	action          scanAction
	reason, message string
}

// decideScan says what is to be done about an image, from what Harbor says of it and the results on its commit. waits is since when
// the release has been waiting for its scans; zero if it does not. It is pure.
func decideScan(img v1alpha1.FrozenImage, o harbor.Overview, results []v1alpha1.CIResult, now, waits time.Time) scanState {
	own := slices.DeleteFunc(slices.Clone(results), func(r v1alpha1.CIResult) bool { return !isScanOf(r, img) })
	// An earlier scan of the same bytes counts until a newer one says otherwise.
	state := scanState{scanWait, v1alpha1.ReasonScanning, "image " + img.Name + " is being scanned by Harbor"}
	if len(own) > 0 {
		state.reason = v1alpha1.ReasonScanned
	}
	partly := ""
	if len(o.Partial) > 0 {
		partly = " (" + strings.Join(o.Partial, ", ") + ")"
	}
	switch o.State {
	case harbor.Scanned:
		run := strconv.FormatInt(o.Run, 10)
		if slices.ContainsFunc(own, func(r v1alpha1.CIResult) bool { return r.Spec.Run == run }) {
			return scanState{scanRest, v1alpha1.ReasonScanned, ""}
		}
		if ended := time.UnixMilli(o.Run); ended.After(now.Add(clockTolerance)) {
			return scanState{scanWait, v1alpha1.ReasonHarborError, fmt.Sprintf(
				"image %s: its scan in Harbor ended at %s, which is yet to come: set Harbor's clock, and have the image scanned again there", img.Name, ended.UTC().Format(time.RFC3339))}
		}
		state.action = scanFetch
	case harbor.Scanning:
		if !o.Started.IsZero() {
			waits = o.Started
		}
		if !waits.IsZero() && now.Sub(waits) > scanPatience {
			state.reason, state.message = v1alpha1.ReasonScanFailed, fmt.Sprintf(
				"image %s: Harbor says that it is being scanned%s, and there is no report since %s: look at the scanner and the job service in Harbor, and stop the scan there to have it asked for again",
				img.Name, partly, waits.UTC().Format(time.RFC3339))
		}
	case harbor.Unscanned:
		state.action, state.message = scanAsk, fmt.Sprintf("image %s has no scan in Harbor%s, which is asked for one", img.Name, partly)
	case harbor.Failed, harbor.Stopped:
		state = scanState{scanAsk, v1alpha1.ReasonScanFailed, fmt.Sprintf(
			"image %s: its newest scan in Harbor ended without a report%s; the log of the scan in Harbor says why. It is asked for again", img.Name, partly)}
	}
	return state
}

// scanResult is the CIResult of a scan.
func scanResult(release *v1alpha1.Release, img v1alpha1.FrozenImage, o harbor.Overview, report harbor.Report) v1alpha1.CIResultSpec {
	c := report.Counts
	producer := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.TrimSuffix("Harbor, "+o.Scanner, ", "))
	if runes := []rune(producer); len(runes) > maxProducer {
		producer = string(runes[:maxProducer])
	}
	return v1alpha1.CIResultSpec{
		Commit: release.Spec.Commit, Type: v1alpha1.TypeScan, Status: v1alpha1.StatusPassed, Branch: release.Spec.Branch,
		Job: img.Digest, Run: strconv.FormatInt(o.Run, 10), Digest: img.Digest,
		Vulnerabilities: &v1alpha1.VulnerabilityCounts{Critical: int32(c.Critical), High: int32(c.High), Medium: int32(c.Medium), Low: int32(c.Low)},
		Source:          v1alpha1.SourceHarbor, Format: v1alpha1.FormatHarbor, Producer: producer,
	}
}

// waitsForScans is since when a release has been waiting for its scans; zero if it does not.
func waitsForScans(release *v1alpha1.Release) time.Time {
	if c := findCondition(release.Status.Conditions, v1alpha1.ConditionScanned); c != nil && c.Status == metav1.ConditionFalse {
		return c.LastTransitionTime.Time
	}
	return time.Time{}
}

// setScanned sums up the images: the first reason that is not Scanned counts, errors first.
func setScanned(release *v1alpha1.Release, states []scanState) {
	worst, lines := scanState{reason: v1alpha1.ReasonScanned}, []string{}
	for _, s := range states {
		if scanRank(s.reason) > scanRank(worst.reason) {
			worst = s
		}
		if s.reason != v1alpha1.ReasonScanned {
			lines = append(lines, s.message)
		}
	}
	message := "Harbor's scan of every image that it holds is evidence"
	if len(lines) > 0 {
		message = strings.Join(lines, "\n")
	}
	setCondition(&release.Status.Conditions, release.Generation, v1alpha1.ConditionScanned, worst.reason == v1alpha1.ReasonScanned, worst.reason, message)
}

func scanRank(reason string) int {
	switch reason {
	case v1alpha1.ReasonScanned:
		return 0
	case v1alpha1.ReasonScanning:
		return 1
	case v1alpha1.ReasonScanFailed:
		return 2
	}
	return 3
}

// intervalOf is how long a scanned release rests.
func intervalOf(p *v1alpha1.Project) time.Duration {
	if d := p.Spec.Harbor.Scan.Interval.Duration; d > 0 {
		return max(d, scanIntervalLeast)
	}
	return scanInterval
}

// scannable says that a release has images to be scanned and somebody who may care.
func scannable(release *v1alpha1.Release) bool {
	frozen, ready := findCondition(release.Status.Conditions, v1alpha1.ConditionFrozen), findCondition(release.Status.Conditions, v1alpha1.ConditionReady)
	return release.Status.Bundle != nil && len(release.Status.Bundle.Images) > 0 && frozen != nil && frozen.Status == metav1.ConditionTrue &&
		(ready == nil || ready.Reason != v1alpha1.ReasonSuperseded)
}

// outdatedScans are the archived scans of an image beyond the newest keep.
func outdatedScans(results []v1alpha1.CIResult, img v1alpha1.FrozenImage, keep int) []v1alpha1.CIResult {
	own := slices.DeleteFunc(slices.Clone(results), func(r v1alpha1.CIResult) bool { return !isScanOf(r, img) })
	slices.SortFunc(own, func(a, b v1alpha1.CIResult) int { return strings.Compare(runKey(b), runKey(a)) })
	if len(own) <= keep {
		return nil
	}
	return slices.DeleteFunc(own[keep:], func(r v1alpha1.CIResult) bool { return !r.Status.Archived })
}

// runKey sorts as the run's number does.
func runKey(r v1alpha1.CIResult) string { return fmt.Sprintf("%020s", r.Spec.Run) }
