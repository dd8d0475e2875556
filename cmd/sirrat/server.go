// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/zapr"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"gitlab.com/dynors/sirrat/internal/controlplane"
	"gitlab.com/dynors/sirrat/internal/install"
)

// Memory: the Go runtime collects earlier than by default, and harder near the limit, which is below the 350 MB that a
// small VPS is promised.
const (
	gcPercent   = 50
	memoryLimit = 300 << 20
)

type serverFlags struct {
	dataDir, kubeBind, httpBind string
	archive, publicURL          string
	mail                        mailFlags
	egress                      egressFlags
	advertise                   []string
	logLevel                    int
}

func newServerCommand() *cobra.Command {
	f := serverFlags{}
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Run everything in one process: control plane, controllers, HTTP API",
		Long: `Runs an embedded Kubernetes control plane (API server and etcd), the controllers and the HTTP API in one process.
All state is in the data directory; the server may be killed at any time and starts again onto it.

It writes <data-dir>/admin.kubeconfig and, once ready, <data-dir>/server.json with the addresses it listens on.`,
		Example: `  sirrat server --data-dir /var/lib/sirrat --advertise sirrat.dynors.com --kube-bind 0.0.0.0:6443`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return runServer(ctx, f)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.dataDir, "data-dir", dataDirFromEnvironment(), "where everything is kept ($SIRRAT_DATA_DIR)")
	fl.StringVar(&f.kubeBind, "kube-bind", "127.0.0.1:6443", "address of the Kubernetes API (TLS); agents and kubectl connect here; port 0 picks a free one")
	fl.StringVar(&f.httpBind, "http-bind", "127.0.0.1:8080", "address of the HTTP API (plain HTTP, for a reverse proxy); port 0 picks a free one")
	fl.StringVar(&f.archive, "archive", "", archiveUsage+"; default <data-dir>/archive")
	f.mail.add(cmd)
	f.egress.add(cmd)
	fl.StringVar(&f.publicURL, "public-url", "", publicURLUsage)
	fl.StringSliceVar(&f.advertise, "advertise", nil, "names or addresses under which agents reach this server, added to its certificate; the first is the one that is shown")
	fl.IntVar(&f.logLevel, "log-level", 0, "0: what an operator needs; 1 and more: details")
	return cmd
}

func runServer(ctx context.Context, f serverFlags) (err error) {
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryLimit)
	log := newLogger(f.logLevel)
	begun := time.Now()
	if err := checkPublicURL(f.publicURL); err != nil {
		return err
	}
	guard, err := f.egress.guard()
	if err != nil {
		return err
	}
	info := filepath.Join(f.dataDir, "server.json")
	if err := os.Remove(info); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove old %s: %w", info, err)
	}
	listener, err := net.Listen("tcp", f.httpBind)
	if err != nil {
		return fmt.Errorf("--http-bind: %w", err)
	}
	defer listener.Close() // the server closes it first
	cp, err := controlplane.Start(ctx, controlplane.Options{DataDir: f.dataDir, Bind: f.kubeBind, Advertise: f.advertise, Logger: log.WithName("controlplane")})
	if err != nil {
		return err
	}
	defer func() {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
		defer cancel()
		err = errors.Join(err, cp.Stop(stop))
	}()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // a control plane that ends by itself ends everything
		<-cp.Done()
		cancel()
	}()
	log.V(1).Info("control plane answers", "after", time.Since(begun).String())
	if err := install.Apply(ctx, cp.RESTConfig()); err != nil {
		return err
	}
	log.V(1).Info("definitions are served", "after", time.Since(begun).String())
	err = runBridge(ctx, bridgeOptions{
		config: cp.RESTConfig(), listener: listener, archive: cmp.Or(f.archive, filepath.Join(f.dataDir, "archive")), agents: agentsFolder(f.dataDir), publicURL: f.publicURL, mail: f.mail, egress: guard, log: log,
	}, func() {
		if err := install.WaitEnforced(ctx, cp.RESTConfig()); err != nil {
			log.Error(err, "not ready")
			cancel()
			return
		}
		addresses := serverInfo{
			KubeURL: cp.LocalURL(), AdvertiseURL: cp.AdvertiseURL(), HTTPURL: "http://" + listener.Addr().String(),
			CAHash: cp.CAHash(), Kubeconfig: cp.AdminKubeconfigPath(), PID: os.Getpid(),
		}
		if err := addresses.write(info); err != nil {
			log.Error(err, "the addresses could not be written")
		}
		log.Info("ready", "after", time.Since(begun).Round(time.Millisecond).String(), "http", addresses.HTTPURL+"/api", "kubernetes", addresses.KubeURL, "kubeconfig", addresses.Kubeconfig)
	})
	return errors.Join(err, cp.Err())
}

// serverInfo tells scripts where a server listens.
type serverInfo struct {
	KubeURL      string `json:"kubeURL"`
	AdvertiseURL string `json:"advertiseURL"`
	HTTPURL      string `json:"httpURL"`
	CAHash       string `json:"caHash"`
	Kubeconfig   string `json:"kubeconfig"`
	PID          int    `json:"pid"`
}

// write replaces the file as a whole, so that a reader never sees half of it.
func (i serverInfo) write(path string) error {
	text, err := json.MarshalIndent(i, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// newLogger writes JSON lines to standard error.
func newLogger(level int) logr.Logger {
	cfg := zap.NewProductionEncoderConfig()
	cfg.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	core := zapcore.NewCore(zapcore.NewJSONEncoder(cfg), zapcore.Lock(os.Stderr), zapcore.Level(-level))
	return zapr.NewLogger(zap.New(core))
}
