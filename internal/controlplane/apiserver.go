// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	apiextensionsapiserver "k8s.io/apiextensions-apiserver/pkg/apiserver"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/admission/plugin/namespace/lifecycle"
	mutatingpolicy "k8s.io/apiserver/pkg/admission/plugin/policy/mutating"
	validatingpolicy "k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	mutatingwebhook "k8s.io/apiserver/pkg/admission/plugin/webhook/mutating"
	validatingwebhook "k8s.io/apiserver/pkg/admission/plugin/webhook/validating"
	"k8s.io/apiserver/pkg/endpoints/filters"
	"k8s.io/apiserver/pkg/features"
	genericapiserver "k8s.io/apiserver/pkg/server"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/apiserver/pkg/util/notfoundhandler"
	"k8s.io/apiserver/pkg/util/webhook"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	aggregatorapiserver "k8s.io/kube-aggregator/pkg/apiserver"
	aggregatorscheme "k8s.io/kube-aggregator/pkg/apiserver/scheme"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/controlplane"
	controlplaneapiserver "k8s.io/kubernetes/pkg/controlplane/apiserver"
	"k8s.io/kubernetes/pkg/controlplane/apiserver/options"
	generatedopenapi "k8s.io/kubernetes/pkg/generated/openapi"
	"k8s.io/kubernetes/pkg/kubeapiserver/authorizer/modes"
	kubeoptions "k8s.io/kubernetes/pkg/kubeapiserver/options"
	rbacrest "k8s.io/kubernetes/pkg/registry/rbac/rest"
	certapproval "k8s.io/kubernetes/plugin/pkg/admission/certificates/approval"
	certsigning "k8s.io/kubernetes/plugin/pkg/admission/certificates/signing"
	certsubject "k8s.io/kubernetes/plugin/pkg/admission/certificates/subjectrestriction"
	"k8s.io/kubernetes/plugin/pkg/admission/gc"
	"k8s.io/kubernetes/plugin/pkg/admission/serviceaccount"
)

const (
	// issuer names the origin of service account tokens. It is a name, not an
	// address that anybody connects to, and a change would void every token.
	issuer = "https://kubernetes.default.svc"
	// watchGrace is how long a stopping server takes to end the watches of its
	// clients one after the other, so that they do not all return at once.
	watchGrace = 2 * time.Second
)

// authenticationConfig lets the anonymous read whether the server lives, and
// nothing else: RBAC could be edited to give them more, this cannot.
const authenticationConfig = `apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
anonymous:
  enabled: true
  conditions:
  - path: /livez
  - path: /readyz
  - path: /healthz
`

// admissionPlugins are the plugins that run. Of kube-apiserver's default set the
// ones about pods, nodes, storage and quotas are missing, since none of those
// exists here. OwnerReferencesPermissionEnforcement is added: without it whoever
// may patch an object can have it collected as garbage.
var admissionPlugins = sets.New(
	lifecycle.PluginName,
	serviceaccount.PluginName,
	gc.PluginName,
	certapproval.PluginName,
	certsigning.PluginName,
	certsubject.PluginName,
	mutatingpolicy.PluginName,
	validatingpolicy.PluginName,
	mutatingwebhook.PluginName,
	validatingwebhook.PluginName,
)

// apiServer is a kube-apiserver that is built and not yet run.
type apiServer struct {
	// run serves until ctx ends and returns when requests have drained.
	run func(ctx context.Context) error
	// loopback is a client of the server for the loops of this process. It
	// works once the server runs.
	loopback *rest.Config
	// informers are the server's own; the loops share their caches.
	informers informers.SharedInformerFactory
}

// newAPIServer builds a server on listener, which it owns from then on.
func newAPIServer(ctx context.Context, d dataDir, listener net.Listener, etcdEndpoint, externalHost string) (*apiServer, error) {
	if err := writeFile(d.authentication(), []byte(authenticationConfig)); err != nil {
		return nil, err
	}
	// One server only: no lease to renew every ten seconds, no peers to look for.
	if err := utilfeature.DefaultMutableFeatureGate.SetFromMap(map[string]bool{
		string(features.APIServerIdentity):                   false,
		string(features.UnknownVersionInteroperabilityProxy): false,
	}); err != nil {
		return nil, fmt.Errorf("set the API server's features: %w", err)
	}
	completed, err := serverOptions(d, listener, etcdEndpoint, externalHost).Complete(ctx, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("complete the API server's options: %w", err)
	}
	if errs := completed.Validate(); len(errs) > 0 {
		return nil, fmt.Errorf("check the API server's options: %w", utilerrors.NewAggregate(errs))
	}
	server, err := buildChain(completed)
	if err != nil {
		return nil, fmt.Errorf("build the API server: %w", err)
	}
	return server, nil
}

func serverOptions(d dataDir, listener net.Listener, etcdEndpoint, externalHost string) *options.Options {
	o := options.NewOptions()

	addr := listener.Addr().(*net.TCPAddr)
	o.SecureServing.Listener = listener
	o.SecureServing.BindAddress = addr.IP
	o.SecureServing.BindPort = addr.Port
	o.SecureServing.ServerCert.CertKey.CertFile = d.key(servingLeaf)
	o.SecureServing.ServerCert.CertKey.KeyFile = d.key(servingLeaf)
	o.SecureServing.MinTLSVersion = "VersionTLS12"

	o.GenericServerRunOptions.AdvertiseAddress = addr.IP
	if addr.IP.IsUnspecified() {
		o.GenericServerRunOptions.AdvertiseAddress = net.IPv4(127, 0, 0, 1)
	}
	o.GenericServerRunOptions.ExternalHost = externalHost
	o.GenericServerRunOptions.ShutdownSendRetryAfter = true // or clients that hold a connection keep it for a minute
	o.GenericServerRunOptions.ShutdownWatchTerminationGracePeriod = watchGrace

	o.Etcd.StorageConfig.Transport.ServerList = []string{etcdEndpoint}

	o.Authentication.AuthenticationConfigFile = d.authentication()
	o.Authentication.BootstrapToken.Enable = true
	o.Authentication.ClientCert.ClientCA = d.key(clientsCA + ".crt")
	o.Authentication.ServiceAccounts.Issuers = []string{issuer}
	o.Authentication.ServiceAccounts.KeyFiles = []string{d.key(serviceAccountKey)}
	o.Authentication.ServiceAccounts.OptionalTokenGetter = newTokenGetter
	o.ServiceAccountSigningKeyFile = d.key(serviceAccountKey)
	o.Authorization.Modes = []string{modes.ModeRBAC}

	o.Admission.GenericAdmission.DefaultOffPlugins = sets.New(kubeoptions.AllOrderedPlugins...).Difference(admissionPlugins)
	o.Features.EnableProfiling = false
	o.SystemNamespaces = []string{metav1.NamespaceSystem, metav1.NamespaceDefault}
	return o
}

// buildChain connects the three servers of a kube-apiserver: what nobody else
// serves falls from the aggregator (discovery and OpenAPI of everything) to the
// built-in kinds and from there to the CRDs.
func buildChain(o options.CompletedOptions) (*apiServer, error) {
	generic, shared, storage, err := controlplaneapiserver.BuildGenericConfig(o,
		[]*runtime.Scheme{legacyscheme.Scheme, apiextensionsapiserver.Scheme, aggregatorscheme.Scheme},
		controlplane.DefaultGenericAPIResourceConfigSource(), generatedopenapi.GetOpenAPIDefinitions, nil)
	if err != nil {
		return nil, fmt.Errorf("configure what the servers share: %w", err)
	}
	watches := newWatchGuard(generic.Authorization.Authorizer)
	generic.BuildHandlerChainFunc = func(api http.Handler, c *genericapiserver.Config) http.Handler {
		return genericapiserver.DefaultBuildHandlerChain(watches.wrap(api), c)
	}
	if err := watches.follow(shared.Rbac().V1()); err != nil {
		return nil, fmt.Errorf("follow role bindings: %w", err)
	}
	services := webhook.NewDefaultServiceResolver()
	native, initializers, err := controlplaneapiserver.CreateConfig(o, generic, shared, nil, storage, services, nil)
	if err != nil {
		return nil, fmt.Errorf("configure the built-in kinds: %w", err)
	}
	auth := webhook.NewDefaultAuthenticationInfoResolverWrapper(native.ProxyTransport,
		native.Generic.EgressSelector, native.Generic.LoopbackClientConfig, native.Generic.TracerProvider)
	crds, err := controlplaneapiserver.CreateAPIExtensionsConfig(*native.Generic, shared, initializers, o, 1, services, auth)
	if err != nil {
		return nil, fmt.Errorf("configure the CRDs: %w", err)
	}
	front, err := controlplaneapiserver.CreateAggregatorConfig(*native.Generic, o, shared, services, native.ProxyTransport, nil, initializers)
	if err != nil {
		return nil, fmt.Errorf("configure the aggregator: %w", err)
	}
	front.ExtraConfig.DisableRemoteAvailableConditionController = true // nothing is served elsewhere

	notFound := notfoundhandler.New(native.Generic.Serializer, filters.NoMuxAndDiscoveryIncompleteKey)
	crdServer, err := crds.Complete().New(genericapiserver.NewEmptyDelegateWithCustomHandler(notFound))
	if err != nil {
		return nil, fmt.Errorf("create the server of CRDs: %w", err)
	}
	nativeConfig := native.Complete()
	nativeServer, err := nativeConfig.New("sirrat", crdServer.GenericAPIServer)
	if err != nil {
		return nil, fmt.Errorf("create the server of built-in kinds: %w", err)
	}
	client, err := kubernetes.NewForConfig(generic.LoopbackClientConfig)
	if err != nil {
		return nil, err
	}
	providers, err := nativeConfig.GenericStorageProviders(client.Discovery())
	if err != nil {
		return nil, fmt.Errorf("create the storage of built-in kinds: %w", err)
	}
	for i, provider := range providers {
		if rbac, ok := provider.(rbacrest.RESTStorageProvider); ok {
			providers[i] = rbacProvider{rbac}
		}
	}
	if err := nativeServer.InstallAPIs(providers...); err != nil {
		return nil, fmt.Errorf("install the built-in kinds: %w", err)
	}
	frontServer, err := controlplaneapiserver.CreateAggregatorServer(front.Complete(), nativeServer.GenericAPIServer,
		crdServer.Informers.Apiextensions().V1().CustomResourceDefinitions(), true,
		controlplaneapiserver.DefaultGenericAPIServicePriorities())
	if err != nil {
		return nil, fmt.Errorf("create the aggregator: %w", err)
	}
	return prepare(frontServer, generic.LoopbackClientConfig, shared)
}

func prepare(front *aggregatorapiserver.APIAggregator, loopback *rest.Config, shared informers.SharedInformerFactory) (*apiServer, error) {
	prepared, err := front.PrepareRun()
	if err != nil {
		return nil, fmt.Errorf("prepare the API server: %w", err)
	}
	return &apiServer{run: prepared.Run, loopback: loopback, informers: shared}, nil
}
