// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Statuses of a CI result.
const (
	StatusPassed  = "passed"
	StatusFailed  = "failed"
	StatusSkipped = "skipped"

	// Statuses of a deployment reported by a pipeline (type deployment).
	StatusDeployed   = "deployed"
	StatusRolledBack = "rolled-back"

	// Types of results that need no declaration.
	TypeTests      = "tests"
	TypeCoverage   = "coverage"
	TypeScan       = "scan"
	TypeQuality    = "quality"
	TypeSBOM       = "sbom"
	TypeDeployment = "deployment"
)

// CIResult is one thing that a pipeline reported about a commit. Written by the HTTP API only; immutable.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=ciresults,scope=Namespaced,shortName=cir,categories=sirrat
// +kubebuilder:printcolumn:name="Type",type=string,JSONPath=`.spec.type`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.spec.status`
// +kubebuilder:printcolumn:name="Commit",type=string,JSONPath=`.spec.commit`
// +kubebuilder:printcolumn:name="Pipeline",type=string,JSONPath=`.spec.pipeline`
// +kubebuilder:printcolumn:name="Coverage",type=number,JSONPath=`.spec.coverage`
// +kubebuilder:printcolumn:name="Counts",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Received",type=date,JSONPath=`.spec.received`
// +kubebuilder:validation:XValidation:rule="self.spec == oldSelf.spec",message="a CI result cannot be changed: report a newer run"
type CIResult struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What was reported.
	Spec CIResultSpec `json:"spec"`
	// What the controllers made of it.
	Status CIResultStatus `json:"status,omitempty"`
}

// CIResultSpec is a report as received.
type CIResultSpec struct {
	// Full commit: 40 or 64 hex digits, lower case; or the 7 or more digits that were reported, when no release of the
	// project had that commit at the time.
	// +kubebuilder:validation:Pattern=`^[0-9a-f]{7,64}$`
	Commit string `json:"commit"`
	// Type: tests, coverage, scan, quality, sbom, deployment, or any declared name.
	// +kubebuilder:validation:Pattern=`^[a-z][-a-z0-9]*$`
	// +kubebuilder:validation:MaxLength=40
	Type string `json:"type"`
	// passed, failed or skipped; for a deployment deployed, failed or rolled-back.
	// +kubebuilder:validation:Enum=passed;failed;skipped;deployed;rolled-back
	Status string `json:"status"`
	// Branch, as the pipeline named it.
	// +optional
	// +kubebuilder:validation:MaxLength=255
	Branch string `json:"branch,omitempty"`
	// Pipeline id. A result of a newer pipeline replaces one of an older; within one pipeline the worst counts.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Pipeline string `json:"pipeline,omitempty"`
	// Name of the job in the pipeline. Results of different jobs stand beside each other: the worst counts.
	// +optional
	// +kubebuilder:validation:MaxLength=255
	Job string `json:"job,omitempty"`
	// Id of the run of the job. A newer run of a job replaces an older one of the same pipeline; one run has one result.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Run string `json:"run,omitempty"`
	// Coverage in percent, 0–100.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	Coverage *float64 `json:"coverage,omitempty"`
	// Lines over which coverage was measured.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100000000
	CoverageBase *int32 `json:"coverageBase,omitempty"`
	// Score of a quality tool, 0–100.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	Score *float64 `json:"score,omitempty"`
	// Counts of tests.
	// +optional
	Tests *TestCounts `json:"tests,omitempty"`
	// Counts of findings by severity.
	// +optional
	Vulnerabilities *VulnerabilityCounts `json:"vulnerabilities,omitempty"`
	// Maven components that the file lists. Absent for a file that is no bill of materials or lock file.
	// +optional
	Maven *MavenComponents `json:"maven,omitempty"`
	// Digest of the image that was examined.
	// +optional
	// +kubebuilder:validation:Pattern=`^(sha256:[0-9a-f]{64})?$`
	Digest string `json:"digest,omitempty"`
	// Where the full report can be read.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	URL string `json:"url,omitempty"`
	// Environment, for a deployment.
	// +optional
	// +kubebuilder:validation:MaxLength=40
	Environment string `json:"environment,omitempty"`
	// Time at which SIRRAT stored it.
	Received metav1.Time `json:"received"`
	// Id of the API token with which it was sent; gitlab, harbor or sonarqube for what came with a webhook, harbor also for what
	// SIRRAT fetched there itself. What Harbor and SonarQube found out stands beside what pipelines sent: of both the worse counts.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Source string `json:"source,omitempty"`
	// Format of the file that was read for the figures: junit, jacoco, cobertura, go-coverprofile, lcov, sarif, trivy,
	// gitlab-security, gitlab-codequality, cyclonedx-json, cyclonedx-xml, gradle-lockfile or harbor. Empty: the figures
	// themselves were reported.
	// +optional
	// +kubebuilder:validation:MaxLength=32
	Format string `json:"format,omitempty"`
	// What wrote the file, as far as it says. Example: Trivy 0.69.1.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	Producer string `json:"producer,omitempty"`
	// Job that sent it, as GitLab's signature says. Absent for what was sent with an API token.
	// +optional
	Identity *JobIdentity `json:"identity,omitempty"`
	// sha256 of the request's body as received; with a format, of the file as received, under which the archive has it; of a
	// webhook, of report.
	// +kubebuilder:validation:Pattern=`^sha256:[0-9a-f]{64}$`
	ReportHash string `json:"reportHash"`
	// The request's body as received, at most 64 KiB, until and beyond its archival; of a webhook, what was read of the body,
	// which may hold the variables of a pipeline. Absent with a format.
	// +optional
	// +kubebuilder:validation:MaxLength=87384
	Report []byte `json:"report,omitempty"`
}

// JobIdentity is a job of a CI server, from the id_token with which it sent a report.
type JobIdentity struct {
	// Issuer of the token: the address of the CI server.
	// +kubebuilder:validation:MaxLength=255
	Issuer string `json:"issuer"`
	// Path of the project in the CI server.
	// +kubebuilder:validation:MaxLength=255
	ProjectPath string `json:"projectPath"`
	// Id of the project in the CI server.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	ProjectID string `json:"projectID,omitempty"`
	// Id of the pipeline.
	// +kubebuilder:validation:MaxLength=20
	Pipeline string `json:"pipeline"`
	// Id of the run of the job.
	// +kubebuilder:validation:MaxLength=20
	Job string `json:"job"`
	// Branch or tag that the pipeline runs for.
	// +kubebuilder:validation:MaxLength=255
	Ref string `json:"ref"`
	// branch or tag.
	// +kubebuilder:validation:Enum=branch;tag
	RefType string `json:"refType"`
	// Whether the branch or tag is protected.
	RefProtected bool `json:"refProtected"`
	// Login of who started the job.
	// +optional
	// +kubebuilder:validation:MaxLength=255
	User string `json:"user,omitempty"`
}

// TestCounts counts tests.
//
// +kubebuilder:validation:XValidation:rule="self.passed + self.failed + self.skipped <= self.total",message="passed, failed and skipped exceed total"
type TestCounts struct {
	// Tests known.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100000000
	Total int32 `json:"total"`
	// Tests passed.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100000000
	Passed int32 `json:"passed"`
	// Tests failed.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100000000
	Failed int32 `json:"failed"`
	// Tests skipped.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100000000
	Skipped int32 `json:"skipped"`
}

// VulnerabilityCounts counts findings by severity.
type VulnerabilityCounts struct {
	// Critical findings.
	// +kubebuilder:validation:Minimum=0
	Critical int32 `json:"critical"`
	// High findings.
	// +kubebuilder:validation:Minimum=0
	High int32 `json:"high"`
	// Medium findings.
	// +kubebuilder:validation:Minimum=0
	Medium int32 `json:"medium"`
	// Low findings.
	// +kubebuilder:validation:Minimum=0
	Low int32 `json:"low"`
}

// CIResultStatus says whether the result counts.
type CIResultStatus struct {
	// Release of whose evidence it is part.
	// +optional
	Release string `json:"release,omitempty"`
	// The archive outside the cluster holds the report.
	// +optional
	Archived bool `json:"archived,omitempty"`
	// Ready: Counted, Replaced or Awaiting.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// CIResultList is a list of CIResults.
//
// +kubebuilder:object:root=true
type CIResultList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []CIResult `json:"items"`
}
