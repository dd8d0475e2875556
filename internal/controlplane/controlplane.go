// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
)

// Names in the pki folder.
const (
	servingCA         = "ca"
	clientsCA         = "client-ca"
	servingLeaf       = "serving.pem"
	adminLeaf         = "admin.pem"
	serverLeaf        = "server.pem"
	serviceAccountKey = "sa.key"
)

const (
	// DefaultBind is the secure port that an empty Options.Bind means.
	DefaultBind = "127.0.0.1:6443"

	readyPoll = 25 * time.Millisecond
	// stopLimit bounds what Stop waits for requests in flight and for the loops,
	// each, when its context has no earlier end.
	stopLimit = 15 * time.Second
)

// Options say where a control plane lives and under which names it is known.
type Options struct {
	// DataDir is created with mode 0700 when missing. Required.
	DataDir string
	// Bind is the host:port of the secure port, the only TCP port that is
	// opened. Port 0 picks a free one. Empty means DefaultBind.
	Bind string
	// Advertise are DNS names and IP addresses, without port, to put into the
	// serving certificate beside localhost and the host of Bind. The first is
	// the public name, see AdvertiseURL.
	Advertise []string
	// Logger gets errors at once, what else the API server and its loops say at
	// V(1), and etcd's information at V(2). The zero value drops everything.
	// klog has one logger per process: this becomes it.
	Logger logr.Logger
	// QuotaBytes bounds the size of the database; writes are refused above it.
	// 0 means 4 GiB.
	QuotaBytes int64
}

// ControlPlane is a running control plane. Its methods may be called from
// several goroutines.
type ControlPlane struct {
	dir       dataDir
	lock      *os.File
	ca        []byte
	pin       string
	localURL  string
	publicURL string
	config    *rest.Config
	gate      *errorGate

	etcd    *etcdServer
	loops   *loops
	stopAPI context.CancelFunc
	apiDone chan struct{} // closed when the API server has returned
	stopAux context.CancelFunc
	aux     sync.WaitGroup

	stopOnce sync.Once
	stopErr  error
	done     chan struct{}
	failOnce sync.Once
	err      atomic.Pointer[error]
}

// started guards the one start that the global state of Kubernetes allows.
var started atomic.Bool

// Start returns when the API answers, the namespaces default and kube-system
// exist and the loops run. It fails, with a message for the user, when another
// process has the data directory or the port. ctx bounds the start only; the
// control plane runs until Stop.
//
// A process can start one control plane: a second call fails, even after Stop.
func Start(ctx context.Context, o Options) (*ControlPlane, error) {
	if o.Bind == "" {
		o.Bind = DefaultBind
	}
	if o.QuotaBytes == 0 {
		o.QuotaBytes = defaultQuota
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	d := dataDir(o.DataDir)
	if err := d.prepare(); err != nil {
		return nil, err
	}
	lock, err := d.lock()
	if err != nil {
		return nil, err
	}
	listener, err := listen(o.Bind)
	if err != nil {
		lock.Close()
		return nil, err
	}
	if !started.CompareAndSwap(false, true) {
		listener.Close()
		lock.Close()
		return nil, errors.New("this process has already started a control plane, and can start only one")
	}
	logger, gate := setupLogging(o.Logger)
	c := &ControlPlane{dir: d, lock: lock, gate: gate, apiDone: make(chan struct{}), done: make(chan struct{})}
	if err := c.start(klog.NewContext(ctx, logger), o, listener); err != nil {
		listener.Close()
		return nil, errors.Join(err, c.Stop(context.WithoutCancel(ctx)))
	}
	gate.open()
	return c, nil
}

func (o Options) check() error {
	if o.DataDir == "" {
		return errors.New("no data directory given (--data-dir)")
	}
	if _, _, err := net.SplitHostPort(o.Bind); err != nil {
		return fmt.Errorf("--kube-bind %q is not host:port: %w", o.Bind, err)
	}
	for _, name := range o.Advertise {
		if net.ParseIP(name) == nil && len(validation.IsDNS1123Subdomain(name)) > 0 {
			return fmt.Errorf("--advertise %q is neither a DNS name in lower case nor an IP address", name)
		}
	}
	return nil
}

func listen(bind string) (net.Listener, error) {
	listener, err := net.Listen("tcp", bind)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("the port of %s is taken by another program: stop it or choose another one with --kube-bind", bind)
	case err != nil:
		return nil, fmt.Errorf("listen on %s (--kube-bind): %w", bind, err)
	}
	return listener, nil
}

// start brings the parts up in the order in which they need each other. On an
// error what is up stays up, for Stop.
func (c *ControlPlane) start(ctx context.Context, o Options, listener net.Listener) error {
	if err := c.setupIdentities(o, listener.Addr().(*net.TCPAddr), time.Now()); err != nil {
		return err
	}
	logger := klog.FromContext(ctx)
	var err error
	if c.etcd, err = startEtcd(ctx, c.dir, o.QuotaBytes, logger); err != nil {
		return err
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	c.stopAux = stop
	api, err := newAPIServer(run, c.dir, listener, c.etcd.endpoint, c.externalHost(o, listener))
	if err != nil {
		return err
	}
	apiCtx, stopAPI := context.WithCancel(run)
	c.stopAPI = stopAPI
	go func() {
		defer close(c.apiDone)
		if err := api.run(apiCtx); err != nil || apiCtx.Err() == nil {
			c.fail(fmt.Errorf("the API server ended: %w", errors.Join(err, errEnded)))
		}
	}()
	if err := c.waitReady(ctx); err != nil {
		return err
	}
	if c.loops, err = startLoops(run, api, c.dir, c.ca); err != nil {
		return err
	}
	c.aux.Go(func() { c.watchEtcd(run) })
	c.aux.Go(func() { c.etcd.reclaimSpace(run, logger) })
	c.aux.Go(func() { c.renew(run, o, logger) })
	return nil
}

// errEnded is the cause when a part ends without being told to or saying why.
var errEnded = errors.New("it was not told to stop")

// externalHost is the name that the API server calls itself.
func (c *ControlPlane) externalHost(o Options, listener net.Listener) string {
	host := localHost(o.Bind)
	if len(o.Advertise) > 0 {
		host = o.Advertise[0]
	}
	return net.JoinHostPort(host, strconv.Itoa(listener.Addr().(*net.TCPAddr).Port))
}

// localHost is where a client on this machine finds a server bound to bind.
func localHost(bind string) string {
	host, _, _ := net.SplitHostPort(bind)
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return "127.0.0.1"
	}
	return host
}

// setupIdentities makes sure of every certificate and key, reissuing what is
// about to expire or names other hosts than o does, and writes admin.kubeconfig.
func (c *ControlPlane) setupIdentities(o Options, addr *net.TCPAddr, now time.Time) error {
	ca, err := ensureAuthority(c.dir, servingCA, now)
	if err != nil {
		return err
	}
	clientCA, err := ensureAuthority(c.dir, clientsCA, now)
	if err != nil {
		return err
	}
	if _, err := ensureKey(c.dir.key(serviceAccountKey)); err != nil {
		return err
	}
	port := strconv.Itoa(addr.Port)
	c.ca, c.pin = ca.pem, SPKIHash(ca.cert)
	c.localURL = "https://" + net.JoinHostPort(localHost(o.Bind), port)
	c.publicURL = c.localURL
	if len(o.Advertise) > 0 {
		c.publicURL = "https://" + net.JoinHostPort(o.Advertise[0], port)
	}
	if err := issueLeaves(c.dir, ca, clientCA, servingNames(o), now); err != nil {
		return err
	}
	c.config = &rest.Config{
		Host:  c.localURL,
		QPS:   -1, // no client-side limit: the server's priority and fairness decide
		Burst: -1,
		TLSClientConfig: rest.TLSClientConfig{
			CAData:   c.ca,
			CertFile: c.dir.key(serverLeaf), // by name, so that a renewed one is picked up
			KeyFile:  c.dir.key(serverLeaf),
		},
	}
	return c.writeAdminKubeconfig()
}

func issueLeaves(d dataDir, ca, clientCA *authority, names []string, now time.Time) error {
	for _, leaf := range []struct {
		file   string
		signer *authority
		id     identity
	}{
		{servingLeaf, ca, identity{user: "sirrat", names: names}},
		{adminLeaf, clientCA, identity{user: AdminUser, groups: []string{mastersGroup}}},
		{serverLeaf, clientCA, identity{user: ServerUser, groups: []string{mastersGroup}}},
	} {
		if _, err := leaf.signer.ensureLeaf(d.key(leaf.file), leaf.id, now); err != nil {
			return err
		}
	}
	return nil
}

// servingNames are the names of the serving certificate, each once, in order.
func servingNames(o Options) []string {
	names := []string{"localhost", "127.0.0.1", "::1"}
	seen := map[string]bool{"localhost": true, "127.0.0.1": true, "::1": true}
	for _, name := range append([]string{localHost(o.Bind)}, o.Advertise...) {
		if !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	return names
}

func (c *ControlPlane) writeAdminKubeconfig() error {
	pair, err := os.ReadFile(c.dir.key(adminLeaf))
	if err != nil {
		return fmt.Errorf("read the admin's certificate: %w", err)
	}
	want, err := encodeKubeconfig(c.localURL, AdminUser, c.ca, pair)
	if err != nil {
		return err
	}
	if have, err := os.ReadFile(c.dir.adminKubeconfig()); err == nil && bytes.Equal(have, want) {
		return nil
	}
	return writeFile(c.dir.adminKubeconfig(), want)
}

// renew reissues certificates before they expire. The API server and the
// clients of RESTConfig read theirs again when the file changes.
func (c *ControlPlane) renew(ctx context.Context, o Options, logger logr.Logger) {
	ticker := time.NewTicker(renewInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			if err := c.renewOnce(o, now); err != nil {
				logger.Error(err, "Certificates could not be renewed", "expire_in_at_most", renewBefore.String())
			}
		}
	}
}

func (c *ControlPlane) renewOnce(o Options, now time.Time) error {
	ca, err := loadAuthority(c.dir, servingCA, now)
	if err != nil {
		return err
	}
	clientCA, err := loadAuthority(c.dir, clientsCA, now)
	if err != nil {
		return err
	}
	if err := issueLeaves(c.dir, ca, clientCA, servingNames(o), now); err != nil {
		return err
	}
	return c.writeAdminKubeconfig()
}

// waitReady polls until /readyz answers 200 and the namespaces exist.
func (c *ControlPlane) waitReady(ctx context.Context) error {
	client, err := kubernetes.NewForConfig(c.config)
	if err != nil {
		return fmt.Errorf("create a client of the API: %w", err)
	}
	ticker := time.NewTicker(readyPoll)
	defer ticker.Stop()
	for {
		last := ready(ctx, client)
		if last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the API did not become ready: %w (last: %w)", ctx.Err(), last)
		case <-c.apiDone:
			return c.Err()
		case <-ticker.C:
		}
	}
}

func ready(ctx context.Context, client kubernetes.Interface) error {
	var status int
	// Without MaxRetries the client would wait for the second that Retry-After asks for.
	body, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").MaxRetries(0).Do(ctx).StatusCode(&status).Raw()
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("/readyz answers %d: %s", status, body)
	}
	for _, name := range []string{metav1.NamespaceDefault, metav1.NamespaceSystem} {
		ns, err := client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) || err == nil && ns.Status.Phase == corev1.NamespaceTerminating {
			return fmt.Errorf("namespace %s does not exist yet", name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// RESTConfig returns a new client configuration for ServerUser, who is in
// system:masters, with no client-side rate limit. It goes through the secure
// port like any other client.
func (c *ControlPlane) RESTConfig() *rest.Config { return rest.CopyConfig(c.config) }

// AdminKubeconfigPath is the file for `kubectl --kubeconfig`. It holds the
// admin's key.
func (c *ControlPlane) AdminKubeconfigPath() string { return c.dir.adminKubeconfig() }

// CABundle returns the PEM certificate of the CA that signs the serving certificate.
func (c *ControlPlane) CABundle() []byte { return bytes.Clone(c.ca) }

// CAHash is the SPKIHash of CABundle: what an agent pins.
func (c *ControlPlane) CAHash() string { return c.pin }

// LocalURL is the address of the API for clients on this machine, as in
// admin.kubeconfig.
func (c *ControlPlane) LocalURL() string { return c.localURL }

// AdvertiseURL is the address of the API for agents: the first of
// Options.Advertise with the port that is bound, or LocalURL without any.
func (c *ControlPlane) AdvertiseURL() string { return c.publicURL }

// Done is closed when the control plane has stopped or failed.
func (c *ControlPlane) Done() <-chan struct{} { return c.done }

// Err is nil until Done is closed, and after an orderly Stop.
func (c *ControlPlane) Err() error {
	if err := c.err.Load(); err != nil {
		return *err
	}
	return nil
}

// fail records the first reason why the control plane cannot go on.
func (c *ControlPlane) fail(err error) {
	c.failOnce.Do(func() {
		if err != nil {
			c.err.Store(&err)
		}
		close(c.done)
	})
}

func (c *ControlPlane) watchEtcd(ctx context.Context) {
	select {
	case <-ctx.Done():
	case err := <-c.etcd.failed():
		c.fail(fmt.Errorf("etcd ended: %w", errors.Join(err, errEnded)))
	}
}

// Stop ends the API first, so that nothing more is acknowledged and the loops
// find nobody to ask, then the loops, then etcd, and gives the data directory
// free. Requests in flight get until ctx
// ends, and stopLimit at most; what is on disk is consistent either way. Later
// calls return what the first did.
func (c *ControlPlane) Stop(ctx context.Context) error {
	c.stopOnce.Do(func() {
		c.gate.close()
		c.stopErr = c.stop(ctx)
		c.fail(nil)
	})
	return c.stopErr
}

func (c *ControlPlane) stop(ctx context.Context) error {
	var errs []error
	if c.stopAPI != nil {
		limited, cancel := context.WithTimeout(ctx, stopLimit)
		c.stopAPI()
		if c.loops != nil {
			c.loops.cancel() // now, or they would retry until the API has drained
		}
		select {
		case <-c.apiDone:
		case <-limited.Done():
			errs = append(errs, fmt.Errorf("drain the API: %w", limited.Err()))
		}
		cancel()
	}
	if c.loops != nil {
		limited, cancel := context.WithTimeout(ctx, stopLimit)
		errs = append(errs, c.loops.stop(limited))
		cancel()
	}
	if c.stopAux != nil {
		c.stopAux()
		c.aux.Wait()
	}
	if c.etcd != nil {
		c.etcd.stop()
	}
	errs = append(errs, c.lock.Close())
	return errors.Join(errs...)
}
