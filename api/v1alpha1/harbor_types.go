// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// FormatHarbor is the format of CIResults that SIRRAT fetched from Harbor; their source is SourceHarbor.
const FormatHarbor = "harbor"

const (
	// ConditionScanned is True on a Release when Harbor's scan of every image that it holds is evidence, False with a reason
	// while one is not. Absent where Project.spec.harbor.scan asks for none.
	ConditionScanned = "Scanned"
	// ConditionReplicated is True on an Environment when Harbor reports that the release that is to run there has reached the
	// registry that the environment pulls from, False with a reason while it has not. Absent where
	// Project.spec.harbor.replication names no policy for it.
	ConditionReplicated = "Replicated"
)

// Reasons of these conditions, besides those of registries.
const (
	ReasonScanned           = "Scanned"           // every image is scanned
	ReasonScanning          = "Scanning"          // Harbor is asked, or at it
	ReasonScanFailed        = "ScanFailed"        // a scan ended without a report, or was stopped
	ReasonHarborDenied      = "HarborDenied"      // Harbor refuses the account
	ReasonHarborBusy        = "HarborBusy"        // Harbor asks to come back later
	ReasonHarborError       = "HarborError"       // Harbor does not answer as it should
	ReasonReplicated        = "Replicated"        // the images have arrived
	ReasonReplicating       = "Replicating"       // they are on their way, or wait to be
	ReasonReplicationFailed = "ReplicationFailed" // Harbor could not copy them
)

// Harbor is a Harbor registry, and what is asked of its API v2.0. Conditions of Releases (Scanned, Tagged) and Environments
// (Replicated) tell what it answers.
type Harbor struct {
	// Address of Harbor, with https; a path is where a proxy put it. A private authority that signed its certificate is trusted
	// when its certificate is under ca.crt in the Secret of secretRef, or of spec.registrySecretRef. Default: the host of the
	// images, which must then be one and the same. Example: https://harbor.example.com.
	// +optional
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:Pattern=`^(https://[A-Za-z0-9.\-\[\]:]+(/[A-Za-z0-9._~/\-]*)?)?$`
	URL string `json:"url,omitempty"`
	// Host by which images name this Harbor, where it is another than in url. Images on other hosts are none of its. Default: the
	// host of url. Example: registry.example.com.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9.\-:]*$`
	Registry string `json:"registry,omitempty"`
	// Secret in the project's namespace with the keys username and password of a robot account, name in full
	// (robot$shop+sirrat), and perhaps ca.crt. What the account must be allowed to do is in docs/harbor.md. Default: the account
	// that the Secret of spec.registrySecretRef has for the registry's host, or, where url is on another host, for that one.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	SecretRef string `json:"secretRef,omitempty"`
	// Harbor's scans as evidence of type scan. Default: they are not looked at.
	// +optional
	Scan *HarborScan `json:"scan,omitempty"`
	// Room in the quota before tags are given. Default: it is not looked at.
	// +optional
	Quota *HarborQuota `json:"quota,omitempty"`
	// Environments that pull from another registry, to which Harbor replicates: nothing is deployed there before Harbor reports
	// that the images arrived. Default: none.
	// +optional
	// +kubebuilder:validation:MaxItems=32
	// +listType=map
	// +listMapKey=environment
	Replication []HarborReplication `json:"replication,omitempty"`
}

// HarborScan says how Harbor's scans become evidence.
type HarborScan struct {
	// Take the scan of every image of a release that Harbor holds as a CIResult of type scan, asking for one where there is
	// none. Until all are there, no scan passes, whatever pipelines reported; afterwards the worse of both counts. Default false.
	// +optional
	Enabled bool `json:"enabled,omitempty"`
	// Time after which a scanned release that is not superseded is looked at again: a scan that Harbor made since is judged anew. At
	// least 10m. Default 24h. Example: 6h.
	// +optional
	// +kubebuilder:default="24h"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('10m')",message="at least 10m"
	Interval metav1.Duration `json:"interval,omitzero"`
}

// HarborQuota says how much room a project in Harbor must have.
type HarborQuota struct {
	// Least room, in MiB, that the quota of an image's project in Harbor leaves for a release to be given tags; with less the
	// condition Tagged is False for the reason RegistryFull, and no tag is put. A further tag of an image takes no room itself:
	// this keeps some for the next push. Default 0: the quota must not be used up.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1073741824
	MinFreeMiB int64 `json:"minFreeMiB,omitempty"`
}

// HarborReplication is the replication policy that feeds the registry of an environment.
type HarborReplication struct {
	// Environment that waits.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=40
	Environment string `json:"environment"`
	// Name of the replication policy in Harbor.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	Policy string `json:"policy"`
	// Start the policy once the tags of the environment are given, unless it ran since. Takes a system robot that may create
	// replications. Default false: the policy starts by itself, on events or by schedule.
	// +optional
	Start bool `json:"start,omitempty"`
}
