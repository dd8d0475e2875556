// SPDX-License-Identifier: Apache-2.0

// Package etcdlog silences the etcd client inside the API server, when imported.
//
// That client has a logger of its own: JSON on standard error, with a warning
// for each request whose caller went away, out of reach of klog and of any
// option. It is built when k8s.io/apiserver's storage package initializes, from
// the defaults that this package changes first: by the language specification
// packages initialize in the order of their import paths once what they import
// has, and gitlab.com comes before k8s.io. Nothing is lost, since the client
// returns its errors as well.
//
// It imports etcd's logging defaults and must import nothing from k8s.io.
package etcdlog

import "go.etcd.io/etcd/client/pkg/v3/logutil"

func init() {
	logutil.DefaultZapLoggerConfig.OutputPaths = nil
	logutil.DefaultZapLoggerConfig.ErrorOutputPaths = nil
}
