// SPDX-License-Identifier: Apache-2.0

// Package config embeds what an installation of SIRRAT consists of: the CRDs, the admission policies and the roles. The
// files are plain manifests; `kubectl apply -f` takes them as well.
//
// The folder samples is left out: samples are for people to read and apply.
package config

import "embed"

// FS holds the folders crd (generated from api/v1alpha1), policies and rbac. CRDs have to be established before the rest
// is of use. policies/created-by-default.yaml needs Kubernetes 1.36: where its kind is not served, it is to be left out.
//
//go:embed crd rbac policies
var FS embed.FS
