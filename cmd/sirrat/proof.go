// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/controllers"
	"gitlab.com/dynors/sirrat/internal/archive"
	"gitlab.com/dynors/sirrat/internal/journal"
)

// archiveUsage explains --archive.
const archiveUsage = "where journal, reports and PVs are kept for good: a folder, or s3+https://host/bucket/prefix?region=… with $SIRRAT_S3_ACCESS_KEY and $SIRRAT_S3_SECRET_KEY"

// proof is what outlives the objects: the installation's keys, the archive and the journal in it.
type proof struct {
	keys   *controllers.Keys
	direct client.Client
	store  archive.Store
	// temp is a folder of the archive that is emptied at every start; empty if the archive is a bucket.
	temp    string
	journal *journal.Journal
	closers []func() error
	log     logr.Logger
}

func openProof(ctx context.Context, mgr ctrl.Manager, o bridgeOptions) (*proof, error) {
	direct, err := client.New(mgr.GetConfig(), client.Options{Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper()})
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	p := &proof{log: o.log, direct: direct}
	if p.keys, err = controllers.EnsureKeys(ctx, direct); err != nil {
		return nil, err
	}
	if err := p.openArchive(ctx, o.archive); err != nil {
		return nil, err
	}
	if p.journal, err = journal.Open(p.store, p.keys.Signer, time.Now, controllers.Anchor{Client: direct}); err != nil {
		p.close()
		return nil, err
	}
	p.closers = append([]func() error{p.journal.Close}, p.closers...)
	return p, nil
}

// openArchive opens a folder, or a bucket: s3+https://<host>/<bucket>[/<prefix>][?region=<region>], with the access key in
// $SIRRAT_S3_ACCESS_KEY and $SIRRAT_S3_SECRET_KEY.
func (p *proof) openArchive(ctx context.Context, where string) error {
	address, isBucket := strings.CutPrefix(where, "s3+")
	if !isBucket {
		dir, err := archive.OpenDirectory(where, func(t archive.Torn) {
			p.log.Info("a record that was being written when the process died was cut off; it had not been acknowledged", "log", t.Log)
		})
		if err != nil {
			return fmt.Errorf("--archive: %w", err)
		}
		p.store, p.closers, p.temp = dir, append(p.closers, dir.Close), filepath.Join(where, "tmp")
		return nil
	}
	u, err := url.Parse(address)
	if err != nil {
		return errors.New("--archive: not of the form s3+https://host/bucket/prefix?region=…")
	}
	bucket, prefix, _ := strings.Cut(strings.Trim(u.Path, "/"), "/")
	if prefix != "" {
		prefix += "/"
	}
	p.store, err = archive.OpenS3(ctx, archive.S3Options{
		Endpoint: u.Scheme + "://" + u.Host, Region: u.Query().Get("region"), Bucket: bucket, Prefix: prefix,
		AccessKey: os.Getenv("SIRRAT_S3_ACCESS_KEY"), SecretKey: os.Getenv("SIRRAT_S3_SECRET_KEY"),
	})
	if err != nil {
		return fmt.Errorf("--archive: %w", err)
	}
	return nil
}

func (p *proof) close() {
	for _, f := range p.closers {
		if err := f(); err != nil {
			p.log.Error(err, "closing the archive")
		}
	}
}
