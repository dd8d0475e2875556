// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/controllers"
	"gitlab.com/dynors/sirrat/internal/agentfiles"
	"gitlab.com/dynors/sirrat/internal/egress"
	"gitlab.com/dynors/sirrat/internal/ingest"
	"gitlab.com/dynors/sirrat/internal/reenrol"
)

// stopGrace is how long requests in flight may take when the process is told to stop.
const stopGrace = 10 * time.Second

// bridgeOptions are what controllers and HTTP API need, wherever the API server is.
type bridgeOptions struct {
	config         *rest.Config
	listener       net.Listener
	leaderElection bool
	agents         string // folder of the agents' programs
	archive        string // folder, or s3+https://host/bucket/prefix
	publicURL      string // of the HTTP API, as people reach it; empty: the listener's
	mail           mailFlags
	egress         egress.Guard // of what projects have the server connect to
	log            logr.Logger
}

// runBridge runs the controllers and the HTTP API until ctx ends. ready is called once both are up.
func runBridge(ctx context.Context, o bridgeOptions, ready func()) error {
	mgr, err := newManager(o)
	if err != nil {
		return err
	}
	proof, err := openProof(ctx, mgr, o)
	if err != nil {
		return err
	}
	defer proof.close()
	pages, links, err := openPortal(ctx, mgr, proof, o)
	if err != nil {
		return err
	}
	o.publicURL = cmp.Or(o.publicURL, "http://"+o.listener.Addr().String())
	page, err := o.mail.tell(mgr, proof, o)
	if err != nil {
		return err
	}
	agents := agentfiles.Open(o.agents)
	offerOwnAgent(agents, o.log)
	setup := controllers.Options{
		Keys: proof.keys, Journal: proof.journal, Archive: proof.store, Signing: page, Agents: agents, URL: o.publicURL,
		Egress: o.egress,
	}
	if links != nil {
		setup.Link = links.Of
	}
	if err := controllers.Setup(ctx, mgr, setup); err != nil {
		return err
	}
	if err := publishInfo(ctx, proof.direct, o.publicURL); err != nil {
		return err
	}
	user, err := whoAmI(ctx, o.config)
	if err != nil {
		return err
	}
	handler, err := ingest.New(ingest.Options{
		Client: mgr.GetClient(), APIReader: mgr.GetAPIReader(), Cache: mgr.GetCache(), Log: o.log.WithName("http"),
		Stopping: ctx.Done(), CreatedBy: user,
		Journal: proof.journal, Archive: proof.store, Keys: proof.keys.Public, ExportDir: proof.temp,
		Reenrol: reenrolments(proof.direct), IDTokens: idTokens(o.egress), PublicURL: o.publicURL,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, 2)
	go func() { failed <- mgr.Start(ctx) }()
	server := ingest.NewServer(withAgents(withPages(handler, pages, page), agents), o.listener.Addr().String())
	go func() { failed <- serve(server, o.listener) }()
	go func() {
		if mgr.GetCache().WaitForCacheSync(ctx) {
			ready()
		}
	}()

	err = <-failed
	shutdown, stop := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
	defer stop()
	cancel()
	if closeErr := server.Shutdown(shutdown); closeErr != nil {
		o.log.Info("requests were cut off", "cause", closeErr.Error())
	}
	return errors.Join(err, <-failed)
}

func serve(server *http.Server, l net.Listener) error {
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("HTTP API: %w", err)
	}
	return nil
}

func newManager(o bridgeOptions) (ctrl.Manager, error) {
	scheme, err := controllers.NewScheme()
	if err != nil {
		return nil, err
	}
	cfg := rest.CopyConfig(o.config)
	cfg.QPS = -1 // the API server's own fairness is the limit
	ctrl.SetLogger(o.log)
	mgr, err := ctrl.NewManager(cfg, ctrl.Options{
		Scheme: scheme, Logger: o.log,
		Metrics:                       metricsserver.Options{BindAddress: "0"}, // served by the HTTP API under /metrics
		LeaderElection:                o.leaderElection,
		LeaderElectionID:              "sirrat-controller",
		LeaderElectionNamespace:       v1alpha1.SystemNamespace,
		LeaderElectionReleaseOnCancel: true,
		Cache:                         cache.Options{DefaultTransform: cache.TransformStripManagedFields(), ByObject: controllers.CacheOptions()},
	})
	if err != nil {
		return nil, fmt.Errorf("controllers: %w", err)
	}
	return mgr, nil
}

// whoAmI is the user name that the API server knows this process by.
func whoAmI(ctx context.Context, cfg *rest.Config) (string, error) {
	c, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return "", fmt.Errorf("client: %w", err)
	}
	review, err := c.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("ask who we are: %w", err)
	}
	return review.Status.UserInfo.Username, nil
}

// reenrolments lets agents whose certificate has expired come back through the HTTP API.
func reenrolments(reader client.Reader) ingest.Reenrolments {
	judge := controllers.Reenrolments(reader, time.Now)
	return func(ctx context.Context, host string, proof reenrol.Proof) error {
		err := judge(ctx, host, proof)
		if errors.Is(err, reenrol.ErrRefused) || errors.Is(err, controllers.ErrNoReenrolment) {
			return ingest.Refusal{Err: err}
		}
		return err
	}
}
