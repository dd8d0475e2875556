// SPDX-License-Identifier: Apache-2.0

// Command sirrat-agent makes a server with a Docker engine a host of SIRRAT. It is wiring only: package agent does the work.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/zapr"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/term"
	"k8s.io/klog/v2"

	"gitlab.com/dynors/sirrat/agent"
	"gitlab.com/dynors/sirrat/agent/service"
	"gitlab.com/dynors/sirrat/internal/hostpolicy"
	"gitlab.com/dynors/sirrat/internal/version"
)

// Memory: the agent mostly waits, so little garbage is worth more than a few milliseconds of processor time.
const (
	gcPercent   = 40
	memoryLimit = 64 << 20 // soft
)

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		if !errors.Is(err, errDiffers) && !errors.Is(err, errRefused) && !errors.Is(err, errNotVerified) && !errors.Is(err, errNotApplied) { // it was printed
			fmt.Fprintln(os.Stderr, "Error:", err)
		}
		os.Exit(1)
	}
}

// settings are the flags that several commands share.
type settings struct {
	dataDir    string
	dockerHost string
	policy     string
	logLevel   string
}

func command() *cobra.Command {
	s := &settings{}
	root := &cobra.Command{
		Use:   "sirrat-agent",
		Short: "Deploys on this server what SIRRAT has authorised, and nothing else",
		Long: `sirrat-agent runs on a server with a Docker engine. It asks the control plane what to run, checks that it was authorised,
pulls the images by digest, starts them with Docker Compose, judges their health, goes back when they fail, and keeps
running what runs, with or without the control plane. The server needs no open port.`,
		SilenceUsage: true, SilenceErrors: true,
	}
	root.PersistentFlags().StringVar(&s.dataDir, "data-dir", "/var/lib/sirrat-agent", "folder of the agent's identity and state")
	root.PersistentFlags().StringVar(&s.dockerHost, "docker-host", "", "address of the Docker engine (default $DOCKER_HOST, or else the default socket)")
	root.PersistentFlags().StringVar(&s.policy, "policy", hostpolicy.DefaultFile, "file of this server's owner that says what releases may do here")
	root.AddCommand(joinCommand(s), runCommand(s), applyCommand(s), statusCommand(s), suspendCommand(s), resumeCommand(s), logsCommand(s), diffCommand(s), historyCommand(s),
		policyCommand(s), verifyCommand(s), &cobra.Command{
			Use: "version", Short: "Print the version", Args: cobra.NoArgs,
			Run: func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), version.Version) },
		})
	return root
}

func joinCommand(s *settings) *cobra.Command {
	var o agent.JoinOptions
	var trust, fingerprint string
	cmd := &cobra.Command{
		Use:   "join SERVER | --offline FILE --fingerprint sha256:…",
		Short: "Make this server a host, with the command that `kubectl sirrat host add` printed",
		Long: `join finds the control plane's CA by the hash of its key, has a certificate issued for a key that never leaves this server,
and pins the keys that may sign deployments. Nothing secret is sent before the CA is known to be the right one. It goes
through the proxy of $HTTPS_PROXY ($NO_PROXY), or --proxy, and so does the agent from then on. At the end it installs and
starts the agent as a service of systemd. Joining again does nothing but that.

A server with no way out is joined with --offline: from the file that ` + "`kubectl sirrat host export`" + ` wrote, if it has the
fingerprint that this command printed. Releases come there in bundles. Joining online later goes on with the same keys.`,
		Example: `  sirrat-agent join https://sirrat.example:6443 --token abcdef.0123456789abcdef \
    --ca-hash sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			say := func(format string, args ...any) { fmt.Fprintf(cmd.OutOrStdout(), format+"\n", args...) }
			o.DataDir, o.DockerHost, o.UserAgent = s.dataDir, s.dockerHost, agent.UserAgent(version.Version)
			switch {
			case trust != "" && (len(args) > 0 || o.Token != ""):
				return errors.New("--offline needs neither a server nor a token")
			case trust != "":
				return agent.JoinOffline(cmd.Context(), o, trust, fingerprint, say)
			case len(args) == 0 || o.Token == "":
				return errors.New("give the server and --token, as `kubectl sirrat host add` printed them, or --offline")
			}
			o.Server = args[0]
			return agent.Join(cmd.Context(), o, say)
		},
	}
	cmd.Flags().StringVar(&o.Token, "token", "", "one-time token of this host")
	cmd.Flags().StringVar(&o.CAHash, "ca-hash", "", "sha256:<hex> of the CA's public key (SubjectPublicKeyInfo)")
	cmd.Flags().StringVar(&o.CAFile, "ca-file", "", "file of the CA (PEM), instead of --ca-hash")
	cmd.Flags().StringVar(&o.Service, "service", service.Auto, "auto: a service of systemd where it runs; systemd: in any case; none")
	cmd.Flags().StringVar(&o.Proxy, "proxy", "", "http://[USER:PASSWORD@]HOST:PORT, or https:// or socks5:// (default $HTTPS_PROXY); kept in the identity")
	cmd.Flags().StringVar(&o.NoProxy, "no-proxy", "", "hosts to reach without the proxy, as in $NO_PROXY (the default)")
	cmd.Flags().BoolVar(&o.Force, "force", false, "join again, forgetting the identity that this server has")
	cmd.Flags().StringVar(&trust, "offline", "", "`FILE` that `kubectl sirrat host export` wrote: join without a way to the control plane")
	cmd.Flags().StringVar(&fingerprint, "fingerprint", "", "SHA-256 of that file, as the command printed it: compare it with whoever ran it")
	return cmd
}

func runCommand(s *settings) *cobra.Command {
	var heartbeat time.Duration
	var metrics string
	var trialTime time.Duration
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the agent until it is told to stop; containers stay as they are",
		Example: `  sirrat-agent run
  sirrat-agent run --data-dir ./agent --docker-host unix:///run/user/1000/docker.sock --log-level debug`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := logger(s.logLevel)
			if err != nil {
				return err
			}
			klog.SetLogger(log.WithName("client").V(1))
			o := agent.Options{
				DataDir: s.dataDir, DockerHost: s.dockerHost, Heartbeat: heartbeat, MetricsBind: metrics, Policy: s.policy, Trial: os.Getenv(agent.TrialVariable) != "", TrialTime: trialTime,
				Version: version.Version, Log: log,
			}
			agent.Redirect(o)
			return agent.Run(cmd.Context(), o)
		},
	}
	cmd.Flags().DurationVar(&heartbeat, "heartbeat", agent.DefaultHeartbeat, "time between two signs of life")
	cmd.Flags().DurationVar(&trialTime, "trial-time", 0, "time within which a new version of the agent must report healthy (default 2m)")
	cmd.Flags().StringVar(&metrics, "metrics-bind", "", "address for metrics in the Prometheus text format, GET /metrics. Example: 127.0.0.1:9465 (default none)")
	cmd.Flags().StringVar(&s.logLevel, "log-level", "info", "debug, info or error")
	return cmd
}

// logger writes to standard error: JSON for collectors, readable lines on a terminal.
func logger(level string) (logr.Logger, error) {
	var at zapcore.Level
	if err := at.UnmarshalText([]byte(level)); err != nil {
		return logr.Discard(), fmt.Errorf("--log-level %q: use debug, info or error", level)
	}
	config := zap.NewProductionEncoderConfig()
	config.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	config.EncodeDuration = zapcore.StringDurationEncoder
	encoder := zapcore.NewJSONEncoder(config)
	if term.IsTerminal(int(os.Stderr.Fd())) {
		config.EncodeTime = zapcore.TimeEncoderOfLayout(time.TimeOnly)
		config.EncodeLevel = zapcore.CapitalColorLevelEncoder
		encoder = zapcore.NewConsoleEncoder(config)
	}
	return zapr.NewLogger(zap.New(zapcore.NewCore(encoder, zapcore.Lock(os.Stderr), at))), nil
}
