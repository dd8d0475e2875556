// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TemplateDynors is the built-in template: the bridge ci → qa → client → production.
const TemplateDynors = "dynors"

// Project is one product of the software house, delivered to one client. It owns a namespace of the same name, in which
// its environments, gates, releases, results and PVs live. Its name is the SIRRAT_PROJECT_ID of its pipelines.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=projects,scope=Cluster,shortName=proj,categories=sirrat
// +kubebuilder:printcolumn:name="Client",type=string,JSONPath=`.spec.client.name`
// +kubebuilder:printcolumn:name="Karma",type=integer,JSONPath=`.status.karma`
// +kubebuilder:printcolumn:name="Level",type=string,JSONPath=`.status.level`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 40",message="a project's name is also its namespace: at most 40 characters of a-z, 0-9 and '-'"
// +kubebuilder:validation:XValidation:rule="!self.metadata.name.startsWith('kube-') && !self.metadata.name.startsWith('host-') && !(self.metadata.name in ['default', 'sirrat-system'])",message="this name belongs to the cluster or to hosts: choose another"
type Project struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What the project delivers, to whom, and who may do what.
	Spec ProjectSpec `json:"spec"`
	// What the controllers observed. Written by the controllers alone.
	Status ProjectStatus `json:"status,omitempty"`
}

// ProjectSpec declares a product and its people.
//
// +kubebuilder:validation:XValidation:rule="(has(self.images) && size(self.images) > 0) || (has(self.maven) && size(self.maven) > 0)",message="declare at least one image (an application) or one Maven coordinate (a module)"
type ProjectSpec struct {
	// Name shown to people. Default: the object's name.
	// +optional
	// +kubebuilder:validation:MaxLength=120
	DisplayName string `json:"displayName,omitempty"`

	// Template that creates environments and gates once: "dynors" for the bridge ci → qa → client → production, or, for a
	// module (Maven coordinates and no images), the gates ci → published; "" (the default) for none. What the template made may
	// be edited; it is not written again while it exists.
	// +optional
	// +kubebuilder:validation:Enum="";dynors
	Template string `json:"template,omitempty"`

	// Images that each release of the project consists of. Required for applications; modules (Maven) have none.
	// +optional
	// +kubebuilder:validation:MaxItems=32
	// +listType=map
	// +listMapKey=name
	Images []ProjectImage `json:"images,omitempty"`

	// Maven coordinates group:artifact of a module project. Default: none.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:Pattern=`^[A-Za-z0-9_.\-]+:[A-Za-z0-9_.\-]+$`
	// +kubebuilder:validation:items:MaxLength=200
	Maven []string `json:"maven,omitempty"`

	// Where the artifacts of a module project are published. Default: nowhere, and no release of it can be published.
	// +optional
	PackageRegistry *PackageRegistry `json:"packageRegistry,omitempty"`

	// Legal name of the party that delivers, as printed in the PV. Default DYNORS.
	// +optional
	// +kubebuilder:default=DYNORS
	// +kubebuilder:validation:MaxLength=200
	Supplier string `json:"supplier,omitempty"`

	// Whom to tell what people wait for. Never holds a decision up.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=name
	Notifications []Notification `json:"notifications,omitempty"`

	// The customer who accepts releases and owns the production server.
	// +optional
	Client Client `json:"client,omitzero"`

	// People by role, bound to the ClusterRoles sirrat-<role> in the project's namespace.
	// +optional
	Members Members `json:"members,omitzero"`

	// Weights of karma. Each has the default of the standard scale (works 50, crossing 50).
	// +optional
	// +kubebuilder:default={}
	Karma KarmaPolicy `json:"karma,omitzero"`

	// How much history is kept.
	// +optional
	// +kubebuilder:default={}
	Retention Retention `json:"retention,omitzero"`

	// Secret of type kubernetes.io/dockerconfigjson in the project's namespace with which images are resolved, tagged and
	// pulled. Delivered to the hosts that run the project. Default: none, anonymous access. A key ca.crt in it holds the
	// certificates (PEM) of private authorities that its registries and their token servers are signed by; what the system
	// trusts is trusted besides. Engines on hosts are told of them in /etc/docker/certs.d as ever. A Secret for them alone has
	// {"auths":{}} under .dockerconfigjson.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	RegistrySecretRef string `json:"registrySecretRef,omitempty"`

	// With what agents pull: credentials of their own, short-lived and for pulling only, each for one host and environment.
	// Default: a copy of registrySecretRef.
	// +optional
	PullCredentials *PullCredentials `json:"pullCredentials,omitempty"`

	// Whether proofs of what the gates and the client decided are attached to the images in the registry, for
	// `kubectl sirrat verify`. Default: they are not.
	// +optional
	Attestations *Attestations `json:"attestations,omitempty"`
	// How the project's pipelines show who they are. Default: with API tokens only.
	// +optional
	CI CI `json:"ci,omitzero"`
	// The Harbor that holds the images, for what a registry's own API does not know: scans, quotas, replication. Default: Harbor
	// is a registry like any other.
	// +optional
	Harbor *Harbor `json:"harbor,omitempty"`
	// GitLab that is told what becomes of the project's commits. Default: none is.
	// +optional
	GitLab *GitLab `json:"gitlab,omitempty"`
	// Webhooks of GitLab, Harbor and SonarQube that the project takes. Default: none.
	// +optional
	Hooks *Hooks `json:"hooks,omitempty"`
}

// Attestations are signed statements that SIRRAT attaches to the project's images as OCI referrers.
type Attestations struct {
	// Attach a statement per image for each gate through which a release goes from now on, and each PV that the client has
	// decided. Whoever may pull an image can read them, with the names of those who approved and signed. The registry
	// credentials must allow to push; where the registry does not list referrers, each image gets one more tag,
	// sha256-<digest>. Default false.
	// +optional
	Enabled bool `json:"enabled,omitempty"`
}

// CI says what pipelines authenticate with at the HTTP API.
//
// +kubebuilder:validation:XValidation:rule="!has(self.requireOIDC) || !self.requireOIDC || has(self.oidc)",message="requireOIDC needs oidc: nobody could report anything"
type CI struct {
	// id_tokens of GitLab's jobs as credentials: signed by GitLab for one job, they last as long as the job and name its
	// project, commit and ref. Default: not accepted.
	// +optional
	OIDC *OIDC `json:"oidc,omitempty"`
	// Refuse results and deployments that are sent with an API token: only a job of the project can report then. Reading
	// verdicts stays possible with both. Default false.
	// +optional
	RequireOIDC bool `json:"requireOIDC,omitempty"`
}

// OIDC says which id_tokens a project trusts.
type OIDC struct {
	// Address of the GitLab that signs the tokens, exactly as in their claim iss; its keys are found by OpenID Connect
	// Discovery below it. It must be on the public internet, unless the server runs with --allow-private-addresses.
	// Default https://gitlab.com. Example: https://gitlab.dynors.com.
	// +optional
	// +kubebuilder:default="https://gitlab.com"
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:Pattern=`^https://[A-Za-z0-9.\-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~/\-]*)?$`
	Issuer string `json:"issuer,omitempty"`
	// What the tokens must be for: aud below id_tokens in .gitlab-ci.yml. Default: the address of this installation (the
	// server's --public-url). Example: https://sirrat.dynors.com.
	// +optional
	// +kubebuilder:validation:MaxLength=255
	Audience string `json:"audience,omitempty"`
	// Full path of the GitLab project, exactly as in the claim project_path. The path of a fork is another one. Example:
	// dynors/clients/supergest.
	// +kubebuilder:validation:MinLength=3
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9_.\-]+(/[A-Za-z0-9_.\-]+)+$`
	ProjectPath string `json:"projectPath"`
	// Id of the GitLab project, as in the claim project_id. Worth giving: a path that was given up can become somebody
	// else's, an id cannot. Default: any.
	// +optional
	// +kubebuilder:validation:Minimum=1
	ProjectID int64 `json:"projectID,omitempty"`
	// Accept only jobs of branches and tags that are protected in GitLab (claim ref_protected). Default true.
	// +optional
	// +kubebuilder:default=true
	ProtectedRefsOnly *bool `json:"protectedRefsOnly,omitempty"`
}

// ProjectImage maps a short name to a repository.
type ProjectImage struct {
	// Short name, unique in the project. Example: backend.
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`
	// Repository without tag or digest. Example: registry.gitlab.com/dynors/supergest/backend.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:Pattern=`^[a-z0-9]+([._\-][a-z0-9]+)*(:[0-9]{1,5})?(/[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*)*$`
	Repository string `json:"repository"`
}

// Client is the customer side (MOA).
type Client struct {
	// Legal name, as printed in the PV.
	// +optional
	// +kubebuilder:validation:MaxLength=200
	Name string `json:"name,omitempty"`
	// People who may sign for the client.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	Signatories []Signatory `json:"signatories,omitempty"`
	// Public keys with which the client signs PVs: PEM (PKIX), ed25519 or ECDSA P-256. No key, no valid signature.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=4096
	PublicKeys []string `json:"publicKeys,omitempty"`
	// Language of the PV: fr (default) or en.
	// +optional
	// +kubebuilder:default=fr
	// +kubebuilder:validation:Enum=fr;en
	Language string `json:"language,omitempty"`
	// How long the link of the signing page works that each signatory with an address is sent. Default 336h (14 days).
	// +optional
	// +kubebuilder:default="336h"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('2160h')",message="a duration from 1s to 90 days"
	LinkValidity metav1.Duration `json:"linkValidity,omitzero"`
}

// Notification is one receiver.
//
// +kubebuilder:validation:XValidation:rule="has(self.email) != has(self.webhook)",message="give exactly one of email and webhook"
type Notification struct {
	// Name, unique in the project.
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +kubebuilder:validation:MaxLength=40
	Name string `json:"name"`
	// What to tell: ApprovalWanted, PVToSign, Refused, Deployed, RolledBack, Debt. Default: all.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:Enum=ApprovalWanted;PVToSign;Refused;Deployed;RolledBack;Debt
	// +listType=set
	Events []string `json:"events,omitempty"`
	// By e-mail.
	// +optional
	Email *EmailReceiver `json:"email,omitempty"`
	// By a webhook.
	// +optional
	Webhook *WebhookReceiver `json:"webhook,omitempty"`
	// Language: fr (default) or en.
	// +optional
	// +kubebuilder:default=fr
	// +kubebuilder:validation:Enum=fr;en
	Language string `json:"language,omitempty"`
}

// EmailReceiver is a list of addresses.
type EmailReceiver struct {
	// Addresses.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=254
	To []string `json:"to"`
}

// WebhookReceiver is an address that takes JSON.
type WebhookReceiver struct {
	// Shape of the JSON: slack, mattermost, teams or generic.
	// +kubebuilder:validation:Enum=slack;mattermost;teams;generic
	Format string `json:"format"`
	// Key of a Secret of the project's namespace that holds the address: whoever knows it can post.
	URLFrom SecretKey `json:"urlFrom"`
}

// SecretKey names one key of a Secret.
type SecretKey struct {
	// Secret's name.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Key in its data.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key"`
}

// Signatory is a person who signs PVs.
type Signatory struct {
	// Full name.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=200
	Name string `json:"name"`
	// E-mail address.
	// +optional
	// +kubebuilder:validation:MaxLength=254
	Email string `json:"email,omitempty"`
}

// Members lists user names of the cluster by role; "group:<name>" binds a group. A person may hold several roles.
type Members struct {
	// Read, create releases, annotate nothing that approves.
	// +optional
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MaxLength=253
	Developer []string `json:"developer,omitempty"`
	// Approve and reject at the gates qa and client.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=253
	QA []string `json:"qa,omitempty"`
	// Approve and reject at every gate.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=253
	CTO []string `json:"cto,omitempty"`
	// Read only.
	// +optional
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MaxLength=253
	Viewer []string `json:"viewer,omitempty"`
}

// KarmaPolicy holds the weights of karma, in points. works = tests + coverage + scan; karma = works + crossing − losses,
// clamped to 0–100.
type KarmaPolicy struct {
	// Points for all tests passed. Default 20.
	// +optional
	// +kubebuilder:default=20
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=50
	Tests int32 `json:"tests"`
	// Points for coverage at or above coverageTarget. Default 15.
	// +optional
	// +kubebuilder:default=15
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=50
	Coverage int32 `json:"coverage"`
	// Coverage in percent that earns all points. Default 80.
	// +optional
	// +kubebuilder:default=80
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	CoverageTarget int32 `json:"coverageTarget"`
	// Points for a scan without findings; a critical finding earns 0. Default 15.
	// +optional
	// +kubebuilder:default=15
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=50
	Scan int32 `json:"scan"`
	// Points lost per high finding. Default 3.
	// +optional
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=50
	PerHigh int32 `json:"perHigh"`
	// Points lost per medium finding. Default 1.
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=50
	PerMedium int32 `json:"perMedium"`
	// Points for being healthy in production. Default 50.
	// +optional
	// +kubebuilder:default=50
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	Crossing int32 `json:"crossing"`
	// Points lost, beyond the crossing, for a rollback in production. Default 10.
	// +optional
	// +kubebuilder:default=10
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	RolledBack int32 `json:"rolledBack"`
	// Points lost per PV that the client refused. Default 10.
	// +optional
	// +kubebuilder:default=10
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	PVRefused int32 `json:"pvRefused"`
	// Points lost per gate opened by break-glass. Default 20.
	// +optional
	// +kubebuilder:default=20
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	BreakGlass int32 `json:"breakGlass"`
}

// Retention bounds history.
type Retention struct {
	// Releases kept per project, newest first; releases that run anywhere are always kept. Default 50.
	// +optional
	// +kubebuilder:default=50
	// +kubebuilder:validation:Minimum=5
	// +kubebuilder:validation:Maximum=1000
	Releases int32 `json:"releases"`
}

// ProjectStatus is what the controllers know of a project.
type ProjectStatus struct {
	// Generation of the spec that this status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Weighted mean of the karma of the last ten releases, the newest weighing most. 0–100.
	// +optional
	Karma int32 `json:"karma"`
	// Level of the karma: Damné, Pécheur, Repenti, Pieux, Saint or Code Divin.
	// +optional
	Level string `json:"level,omitempty"`
	// Gates that were opened in an emergency and not regularised since; they block other releases there.
	// +optional
	// +listType=atomic
	Debts []Debt `json:"debts,omitempty"`
	// Current release of each environment.
	// +optional
	// +listType=map
	// +listMapKey=environment
	Current []CurrentRelease `json:"current,omitempty"`
	// Ready, with the reason when not.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Debt is a gate that somebody opened by break-glass.
type Debt struct {
	// Release that went through.
	Release string `json:"release"`
	// Gate.
	Gate string `json:"gate"`
	// Environment it guards.
	Environment string `json:"environment"`
	// Who opened it.
	User string `json:"user"`
	// Why.
	Reason string `json:"reason"`
}

// CurrentRelease names what runs in an environment.
type CurrentRelease struct {
	// Environment's name.
	Environment string `json:"environment"`
	// Release's name.
	Release string `json:"release"`
	// Version of the release, if it has one.
	// +optional
	Version string `json:"version,omitempty"`
}

// ProjectList is a list of Projects.
//
// +kubebuilder:object:root=true
type ProjectList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Project `json:"items"`
}
