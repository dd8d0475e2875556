// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"gitlab.com/dynors/sirrat/internal/install"
)

type controllerFlags struct {
	kubeconfig, httpBind string
	archive, publicURL   string
	agents               string
	mail                 mailFlags
	egress               egressFlags
	leaderElect          bool
	logLevel             int
}

func newControllerCommand() *cobra.Command {
	f := controllerFlags{}
	cmd := &cobra.Command{
		Use:   "controller",
		Short: "Run controllers and HTTP API against an existing Kubernetes cluster",
		Long: `Runs what sirrat server runs, without the embedded control plane: controllers and HTTP API against any Kubernetes
cluster (1.30 or newer). CRDs, roles and admission policies must be installed: charts/sirrat, or sirrat install.`,
		Example: "  sirrat controller --kubeconfig ~/.kube/config --http-bind 127.0.0.1:8080",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return runController(ctx, f)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.kubeconfig, "kubeconfig", os.Getenv("KUBECONFIG"), "kubeconfig of the cluster ($KUBECONFIG); none: as a pod inside it")
	fl.StringVar(&f.httpBind, "http-bind", "127.0.0.1:8080", "address of the HTTP API (plain HTTP, for an ingress or reverse proxy)")
	fl.StringVar(&f.archive, "archive", "./sirrat-archive", archiveUsage+"; several replicas need a bucket")
	fl.StringVar(&f.agents, "agents", "./sirrat-agents", "folder of the agents' programs, as sirrat agent publish --to fills it")
	f.mail.add(cmd)
	f.egress.add(cmd)
	fl.StringVar(&f.publicURL, "public-url", "", publicURLUsage)
	fl.BoolVar(&f.leaderElect, "leader-elect", true, "let one of several replicas act; all of them serve the HTTP API")
	fl.IntVar(&f.logLevel, "log-level", 0, "0: what an operator needs; 1 and more: details")
	return cmd
}

func runController(ctx context.Context, f controllerFlags) error {
	if err := checkPublicURL(f.publicURL); err != nil {
		return err
	}
	guard, err := f.egress.guard()
	if err != nil {
		return err
	}
	cfg, err := loadConfig(f.kubeconfig)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", f.httpBind)
	if err != nil {
		return fmt.Errorf("--http-bind: %w", err)
	}
	log := newLogger(f.logLevel)
	return runBridge(ctx, bridgeOptions{config: cfg, listener: listener, leaderElection: f.leaderElect, archive: f.archive, agents: f.agents, publicURL: f.publicURL, mail: f.mail, egress: guard, log: log}, func() {
		log.Info("ready", "http", "http://"+listener.Addr().String()+"/api", "kubernetes", cfg.Host)
	})
}

func newInstallCommand() *cobra.Command {
	var kubeconfig string
	cmd := &cobra.Command{
		Use:     "install",
		Short:   "Apply CRDs, roles and admission policies to an existing Kubernetes cluster",
		Long:    "Applies, by server-side apply, the CRDs, roles and admission policies that this binary was built with. sirrat server does\nso for itself at every start.",
		Example: "  sirrat install --kubeconfig ~/.kube/config",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(kubeconfig)
			if err != nil {
				return err
			}
			if err := install.Apply(cmd.Context(), cfg); err != nil {
				return err
			}
			return install.WaitEnforced(cmd.Context(), cfg)
		},
	}
	cmd.Flags().StringVar(&kubeconfig, "kubeconfig", os.Getenv("KUBECONFIG"), "kubeconfig of the cluster ($KUBECONFIG); none: as a pod inside it")
	return cmd
}

func loadConfig(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" {
		cfg, err := rest.InClusterConfig()
		if errors.Is(err, rest.ErrNotInCluster) {
			return nil, errors.New("not inside a cluster: give --kubeconfig")
		}
		return cfg, err
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("--kubeconfig %s: %w", kubeconfig, err)
	}
	return cfg, nil
}
