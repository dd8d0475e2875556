// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
)

func TestSocketDirFitsAnAddress(t *testing.T) {
	base := t.TempDir()
	for name, dir := range map[string]string{
		"short": filepath.Join(base, "run"),
		"long":  filepath.Join(base, strings.Repeat("x", 120)),
		"odd":   filepath.Join(base, "ma société %41"),
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.Mkdir(dir, dirMode); err != nil {
				t.Fatal(err)
			}
			path, handle, err := socketDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer closeHandle(handle)
			listener, err := net.Listen("unix", filepath.Join(path, "etcd-http.sock"))
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			if _, err := os.Stat(filepath.Join(dir, "etcd-http.sock")); err != nil {
				t.Errorf("the socket is not in the folder: %v", err)
			}
		})
	}
}

// A database at its quota refuses writes. Once objects are deleted it takes them
// again, without anybody at an etcdctl.
func TestFullDatabaseRecovers(t *testing.T) {
	d := newDataDir(t)
	const quota = 8 << 20
	server, err := startEtcd(t.Context(), d, quota, logr.Discard())
	if err != nil {
		t.Fatal(err)
	}
	defer server.stop()
	client := v3client.New(server.etcd.Server)
	ctx := t.Context()

	value := strings.Repeat("x", 256<<10)
	written := 0
	fill := func() {
		for err = nil; err == nil; written++ {
			if written > 20*quota/len(value) { // the size is known at the next commit only
				t.Fatal("etcd takes more than its quota")
			}
			_, err = client.Put(ctx, fmt.Sprintf("/key/%d", written), value)
		}
		if !errors.Is(err, rpctypes.ErrNoSpace) || !server.full() {
			t.Fatalf("got %v (full: %t), want %v", err, server.full(), rpctypes.ErrNoSpace)
		}
	}
	fill()
	for err = server.reclaim(ctx, client); err == nil; err = server.reclaim(ctx, client) {
		fill() // the file was full, what is in it was not: how it grows depends on when it is written
	}
	if !strings.Contains(err.Error(), "in use by current objects") {
		t.Errorf("reclaiming a database full of current objects: %v", err)
	}
	if _, err := client.Delete(ctx, "/key/", clientv3.WithPrefix()); err != nil {
		t.Fatalf("delete from a full database: %v", err)
	}
	if err := server.reclaim(ctx, client); err != nil {
		t.Fatal(err)
	}
	if server.full() {
		t.Error("the alarm is still up")
	}
	if _, err := client.Put(ctx, "/key/after", value); err != nil {
		t.Errorf("write after reclaiming: %v", err)
	}
}
