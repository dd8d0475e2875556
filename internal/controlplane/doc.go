// SPDX-License-Identifier: Apache-2.0

// Package controlplane runs SIRRAT's own Kubernetes API: the generic control
// plane of kube-apiserver, an embedded etcd and the few
// kube-controller-manager loops that SIRRAT's objects rely on, all in the
// calling process and all in one data directory.
//
// It knows nothing of SIRRAT's kinds. Whoever starts it installs the CRDs and
// policies through RESTConfig, as against any other Kubernetes cluster; that is
// what keeps `sirrat controller` (an existing cluster) and `sirrat server` (this
// package) the same program but for where the API comes from.
//
// # What holds
//
//   - One TCP listener: the secure port. etcd listens on unix sockets in a 0700
//     folder, so that no local user finds a way around RBAC.
//   - Nobody is anonymous but for /livez, /readyz and /healthz.
//   - A write that the API acknowledged is on disk (fsync) and survives kill -9.
//   - The data directory is 0700 and belongs to one process at a time.
//   - The CA key never changes: agents pin it by SPKIHash.
//   - An idle control plane writes nothing. The API server's own identity lease,
//     renewed every ten seconds, is off since there is only ever one server.
//
// # The data directory
//
//	lock               flock(2) of the process that owns the directory
//	admin.kubeconfig   0600, user admin, group system:masters
//	authentication.yaml  what anonymous requests may reach; rewritten at start
//	etcd/              the data
//	run/               etcd's unix sockets
//	pki/ca.*           signs the serving certificate; what clients trust and pin
//	pki/client-ca.*    signs client certificates: users, agents, the admin
//	pki/serving.pem    serving certificate, key and CA; reissued when needed
//	pki/admin.pem, pki/server.pem  the certificates of the admin and of the process
//	pki/sa.key         signs service account tokens
//
// Two CAs, since a client certificate can then never be mistaken for a server's.
//
// # Imports
//
// This package is imported by the commands and, through its subpackage cptest,
// by tests; by nothing else. It imports k8s.io/* and go.etcd.io/* and no other package of
// this module.
//
// Kubernetes keeps feature gates, metrics and loggers in global variables: one
// process can start one control plane, once.
package controlplane
