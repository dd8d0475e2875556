// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/util/keyutil"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/controller/bootstrap"
	"k8s.io/kubernetes/pkg/controller/certificates/cleaner"
	"k8s.io/kubernetes/pkg/controller/certificates/signer"
	"k8s.io/kubernetes/pkg/controller/clusterroleaggregation"
	"k8s.io/kubernetes/pkg/controller/garbagecollector"
	"k8s.io/kubernetes/pkg/controller/namespace"
	serviceaccountcontroller "k8s.io/kubernetes/pkg/controller/serviceaccount"
	"k8s.io/kubernetes/pkg/serviceaccount"
)

const (
	workers = 5
	// discoveryInterval is how often the garbage collector looks for kinds that
	// were added or removed; a new CRD's objects are collected after that.
	discoveryInterval = 5 * time.Second
	// resync is that of the API server's informers, which the loops share.
	resync = 10 * time.Minute
)

// loops are the parts of kube-controller-manager that a control plane without
// pods needs. Left out on purpose are the publisher of kube-root-ca.crt (a
// ConfigMap in every namespace, which only pods read) and everything about
// nodes, pods, volumes and quotas.
type loops struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// loopEnv is what the loops are made from.
type loopEnv struct {
	client    kubernetes.Interface
	metadata  metadata.Interface
	informers informers.SharedInformerFactory
	dir       dataDir
	ca        []byte
}

// startLoops needs an API server that answers. The loops end with stop.
func startLoops(ctx context.Context, api *apiServer, d dataDir, ca []byte) (*loops, error) {
	ctx, cancel := context.WithCancel(ctx)
	l := &loops{cancel: cancel}
	config := rest.CopyConfig(api.loopback)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return boundTransport{ctx, next} })
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("create a client for the loops: %w", err)
	}
	objects, err := metadata.NewForConfig(config)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("create a metadata client for the loops: %w", err)
	}
	env := loopEnv{client, objects, api.informers, d, ca}

	for _, build := range []func(context.Context, loopEnv) ([]func(context.Context), error){
		garbageCollection, namespaceDeletion, certificates, serviceAccounts, roleAggregation, bootstrapTokens,
	} {
		runs, err := build(ctx, env)
		if err != nil {
			l.cancel()
			l.done.Wait()
			return nil, err
		}
		for _, run := range runs {
			l.done.Go(func() { run(ctx) })
		}
	}
	api.informers.Start(ctx.Done())
	return l, nil
}

// stop returns when every loop has, or with the error of ctx.
func (l *loops) stop(ctx context.Context) error {
	l.cancel()
	ended := make(chan struct{})
	go func() { l.done.Wait(); close(ended) }()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop the controller loops: %w", ctx.Err())
	}
}

// boundTransport ends requests with the loops. Discovery, for one, takes no
// context and would retry for seconds against an API that has stopped.
type boundTransport struct {
	loops context.Context
	next  http.RoundTripper
}

func (b boundTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := b.loops.Err(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(req.Context())
	release := context.AfterFunc(b.loops, cancel)
	resp, err := b.next.RoundTrip(req.WithContext(ctx))
	if err != nil {
		release()
		cancel()
		return nil, err
	}
	resp.Body = boundBody{resp.Body, func() { release(); cancel() }}
	return resp, nil
}

// WrappedRoundTripper lets client-go find what it wraps.
func (b boundTransport) WrappedRoundTripper() http.RoundTripper { return b.next }

type boundBody struct {
	io.ReadCloser
	release func()
}

func (b boundBody) Close() error {
	defer b.release()
	return b.ReadCloser.Close()
}

// garbageCollection deletes what only dead owners hold. It watches the metadata
// of every kind, reduced to what owner references need.
//
// Events and Leases are ignored: events expire, and a Lease per agent changes
// every minute and goes with its namespace.
func garbageCollection(ctx context.Context, env loopEnv) ([]func(context.Context), error) {
	ignored := map[schema.GroupResource]struct{}{{Group: "coordination.k8s.io", Resource: "leases"}: {}}
	for resource := range garbagecollector.DefaultIgnoredResources() {
		ignored[resource] = struct{}{}
	}
	started := make(chan struct{})
	close(started)
	discovery := env.client.Discovery()
	collector, err := garbagecollector.NewGarbageCollector(ctx, env.client, env.metadata,
		restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(discovery)), ignored,
		metadataInformers{metadatainformer.NewSharedInformerFactoryWithOptions(env.metadata, resync,
			metadatainformer.WithTransform(ownershipOnly))}, started)
	if err != nil {
		return nil, fmt.Errorf("create the garbage collector: %w", err)
	}
	return []func(context.Context){
		func(ctx context.Context) { collector.Run(ctx, workers, discoveryInterval) },
		func(ctx context.Context) { collector.Sync(ctx, discovery, discoveryInterval) },
	}, nil
}

// metadataInformers is the factory that the garbage collector wants, without the
// full objects that kube-controller-manager would cache.
type metadataInformers struct {
	metadatainformer.SharedInformerFactory
}

func (f metadataInformers) ForResource(gvr schema.GroupVersionResource) (informers.GenericInformer, error) {
	return f.SharedInformerFactory.ForResource(gvr), nil
}

// ownershipOnly keeps of an object what the garbage collector reads from its
// cache. Before it acts it reads the object anew.
func ownershipOnly(obj any) (any, error) {
	if object, err := meta.Accessor(obj); err == nil {
		object.SetManagedFields(nil)
		object.SetAnnotations(nil)
		object.SetLabels(nil)
	}
	return obj, nil
}

// namespaceDeletion empties a namespace that is being deleted.
func namespaceDeletion(ctx context.Context, env loopEnv) ([]func(context.Context), error) {
	controller := namespace.NewNamespaceController(ctx, env.client, env.metadata,
		env.client.Discovery().ServerPreferredNamespacedResources,
		env.informers.Core().V1().Namespaces(), resync, corev1.FinalizerKubernetes)
	return []func(context.Context){func(ctx context.Context) { controller.Run(ctx, workers) }}, nil
}

// certificates signs approved requests of clients, for as long as they ask up to
// MaxClientLifetime, and deletes old requests. Approving is not for this package.
func certificates(ctx context.Context, env loopEnv) ([]func(context.Context), error) {
	requests := env.informers.Certificates().V1().CertificateSigningRequests()
	sign, err := signer.NewKubeAPIServerClientCSRSigningController(ctx, env.client, requests,
		env.dir.key(clientsCA+".crt"), env.dir.key(clientsCA+".key"), MaxClientLifetime)
	if err != nil {
		return nil, fmt.Errorf("create the signer of client certificates: %w", err)
	}
	clean := cleaner.NewCSRCleanerController(env.client.CertificatesV1().CertificateSigningRequests(), requests)
	return []func(context.Context){
		func(ctx context.Context) { sign.Run(ctx, workers) },
		func(ctx context.Context) { clean.Run(ctx, 1) },
	}, nil
}

// serviceAccounts keeps the account "default" in every namespace, fills Secrets
// of type kubernetes.io/service-account-token and deletes those of dead accounts.
func serviceAccounts(ctx context.Context, env loopEnv) ([]func(context.Context), error) {
	logger := klog.FromContext(ctx)
	accounts := env.informers.Core().V1().ServiceAccounts()
	ensure, err := serviceaccountcontroller.NewServiceAccountsController(logger, accounts,
		env.informers.Core().V1().Namespaces(), env.client, serviceaccountcontroller.DefaultServiceAccountsControllerOptions())
	if err != nil {
		return nil, fmt.Errorf("create the service account loop: %w", err)
	}
	key, err := keyutil.PrivateKeyFromFile(env.dir.key(serviceAccountKey))
	if err != nil {
		return nil, fmt.Errorf("read the service account key: %w", err)
	}
	generator, err := serviceaccount.JWTTokenGenerator(serviceaccount.LegacyIssuer, key)
	if err != nil {
		return nil, fmt.Errorf("create the signer of service account tokens: %w", err)
	}
	tokens, err := serviceaccountcontroller.NewTokensController(logger, accounts, env.informers.Core().V1().Secrets(), env.client,
		serviceaccountcontroller.TokensControllerOptions{TokenGenerator: generator, RootCA: env.ca})
	if err != nil {
		return nil, fmt.Errorf("create the service account token loop: %w", err)
	}
	return []func(context.Context){
		func(ctx context.Context) { ensure.Run(ctx, 1) },
		func(ctx context.Context) { tokens.Run(ctx, 1) },
	}, nil
}

// roleAggregation fills ClusterRoles that have an aggregation rule.
func roleAggregation(_ context.Context, env loopEnv) ([]func(context.Context), error) {
	controller := clusterroleaggregation.NewClusterRoleAggregation(env.informers.Rbac().V1().ClusterRoles(), env.client.RbacV1())
	return []func(context.Context){func(ctx context.Context) { controller.Run(ctx, 1) }}, nil
}

// bootstrapTokens deletes the expired ones from kube-system.
func bootstrapTokens(_ context.Context, env loopEnv) ([]func(context.Context), error) {
	options := bootstrap.DefaultTokenCleanerOptions()
	options.TokenSecretNamespace = metav1.NamespaceSystem
	controller, err := bootstrap.NewTokenCleaner(env.client, env.informers.Core().V1().Secrets(), options)
	if err != nil {
		return nil, fmt.Errorf("create the cleaner of bootstrap tokens: %w", err)
	}
	return []func(context.Context){controller.Run}, nil
}
