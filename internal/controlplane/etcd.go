// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/go-logr/logr"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"

	// Keeps the API server's etcd client off standard error.
	_ "gitlab.com/dynors/sirrat/internal/controlplane/etcdlog"
)

const (
	// defaultQuota bounds the data file. etcd refuses writes above it until
	// space is reclaimed (see reclaimSpace). 10,000 releases with their history
	// take well under a tenth.
	defaultQuota = 4 << 30
	// snapshotEvery is how many writes raft keeps in memory before it takes a
	// snapshot; etcd's own 10,000 would cost tens of MB for followers that we
	// do not have.
	snapshotEvery = 2_000
	catchUp       = 100
	// historyKept is how long etcd keeps old revisions. The API server compacts
	// every five minutes by itself, but with a write, which etcd refuses once
	// the quota is reached; etcd's own compaction goes on.
	historyKept = "15m"
	// Election of a leader among one. It only adds to the time of a start.
	tick     = 50 * time.Millisecond
	election = 5 * tick
	// sunPathMax is what struct sockaddr_un takes (108 bytes) without the final 0.
	sunPathMax = 107
	// spaceCheckInterval is how often a full database is looked for.
	spaceCheckInterval = 15 * time.Second
)

// etcdServer is the embedded etcd.
type etcdServer struct {
	etcd     *embed.Etcd
	sockets  *os.File // keeps a path through /proc alive; nil when the plain path does
	endpoint string   // for --etcd-servers
	// reclaimed is the revision at which space was last reclaimed; the loop's own.
	reclaimed int64
}

// startEtcd returns when etcd has elected itself and serves. Every write is
// synced to disk before it is acknowledged: the defaults do that, and
// UnsafeNoFsync stays off.
func startEtcd(ctx context.Context, d dataDir, quota int64, logger logr.Logger) (*etcdServer, error) {
	dir, handle, err := socketDir(d.run())
	if err != nil {
		return nil, err
	}
	socket := func(name string) url.URL { return url.URL{Scheme: "unix", Path: filepath.Join(dir, name)} }

	cfg := embed.NewConfig()
	cfg.Name = "sirrat"
	cfg.Dir = d.etcd()
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.ListenPeerUrls = nil // a cluster of one has no peers; the advertised URL is a name only
	cfg.ListenClientUrls = []url.URL{socket("etcd.sock")}
	cfg.ListenClientHttpUrls = []url.URL{socket("etcd-http.sock")} // leaves etcd.sock to gRPC alone
	cfg.AdvertiseClientUrls = cfg.ListenClientUrls
	cfg.EnableGRPCGateway = false
	cfg.TickMs = uint(tick.Milliseconds())
	cfg.ElectionMs = uint(election.Milliseconds())
	cfg.SnapshotCount = snapshotEvery
	cfg.SnapshotCatchUpEntries = catchUp
	cfg.QuotaBackendBytes = quota
	cfg.AutoCompactionMode = embed.CompactorModePeriodic
	cfg.AutoCompactionRetention = historyKept
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(newEtcdLogger(logger))

	etcd, err := embed.StartEtcd(cfg)
	if err != nil {
		closeHandle(handle)
		return nil, fmt.Errorf("start etcd on %s: %w", d.etcd(), err)
	}
	s := &etcdServer{etcd: etcd, sockets: handle, endpoint: "unix://" + filepath.Join(dir, "etcd.sock")}
	select {
	case <-etcd.Server.ReadyNotify():
		return s, nil
	case err := <-etcd.Err():
		s.stop()
		return nil, fmt.Errorf("start etcd on %s: %w", d.etcd(), err)
	case <-ctx.Done():
		s.stop()
		return nil, fmt.Errorf("start etcd on %s: %w", d.etcd(), ctx.Err())
	}
}

// plainPath is what etcd's client takes in a unix:// URL without unescaping it.
var plainPath = regexp.MustCompile(`^[A-Za-z0-9/._-]+$`)

// socketDir returns dir under a name that fits a socket address. When dir is too
// long, or holds characters that a URL would escape, that name goes through an
// open file of this process: /proc/self/fd/N. Only this process dials the
// sockets, and they lie in dir either way.
func socketDir(dir string) (string, *os.File, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", nil, fmt.Errorf("find the socket folder: %w", err)
	}
	if len(abs)+len("/etcd-http.sock") <= sunPathMax && plainPath.MatchString(abs) {
		return abs, nil, nil
	}
	f, err := os.Open(abs)
	if err != nil {
		return "", nil, fmt.Errorf("open the socket folder: %w", err)
	}
	return fmt.Sprintf("/proc/self/fd/%d", f.Fd()), f, nil
}

func closeHandle(f *os.File) {
	if f != nil {
		f.Close()
	}
}

// failed reports an etcd that ended by itself.
func (s *etcdServer) failed() <-chan error { return s.etcd.Err() }

// stop returns when everything is on disk and the files are closed.
func (s *etcdServer) stop() {
	s.etcd.Close()
	closeHandle(s.sockets)
}

// reclaimSpace lets writes in again after the database was full. etcd raises the
// NOSPACE alarm at the quota and leaves it up for good, so once compaction has
// freed enough, give the free pages back to the disk and take the alarm down.
// It returns when ctx ends.
func (s *etcdServer) reclaimSpace(ctx context.Context, logger logr.Logger) {
	client := v3client.New(s.etcd.Server)
	ticker := time.NewTicker(spaceCheckInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if !s.full() {
			continue
		}
		if err := s.reclaim(ctx, client); err != nil {
			logger.Error(err, "The database is full: writes are refused. Delete old objects, or free the disk.",
				"database", s.etcd.Config().Dir, "bytes", s.etcd.Server.Backend().Size())
		}
	}
}

func (s *etcdServer) full() bool {
	for _, alarm := range s.etcd.Server.Alarms() {
		if alarm.Alarm == etcdserverpb.AlarmType_NOSPACE {
			return true
		}
	}
	return false
}

// reclaim compacts, gives the space of what is gone back to the disk, and takes the alarm down if that was enough. What is
// in use is known for certain only afterwards: until then etcd's own figure may lag behind its deletions. It does nothing
// where nothing changed since the last try, since a defragmentation stops the database for its time.
func (s *etcdServer) reclaim(ctx context.Context, client *clientv3.Client) error {
	rev := s.etcd.Server.KV().Rev()
	backend, quota := s.etcd.Server.Backend(), s.etcd.Config().QuotaBackendBytes
	if rev != s.reclaimed {
		if _, err := client.Compact(ctx, rev, clientv3.WithCompactPhysical()); err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
			return fmt.Errorf("compact: %w", err)
		}
		if err := backend.Defrag(); err != nil {
			return fmt.Errorf("give space back to the disk: %w", err)
		}
		s.reclaimed = rev
	}
	if inUse := backend.Size(); inUse > quota/10*9 {
		return fmt.Errorf("%d of %d bytes are in use by current objects", inUse, quota)
	}
	alarm := &clientv3.AlarmMember{MemberID: uint64(s.etcd.Server.MemberID()), Alarm: etcdserverpb.AlarmType_NOSPACE}
	if _, err := client.AlarmDisarm(ctx, alarm); err != nil {
		return fmt.Errorf("take the alarm down: %w", err)
	}
	return nil
}
