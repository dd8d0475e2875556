// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/internal/apitoken"
	"gitlab.com/dynors/sirrat/internal/idtoken"
)

// Bounds, unless Options say otherwise.
const (
	// MaxBody bounds the body of a report, in bytes.
	MaxBody = 64 << 10
	// MaxWait bounds ?wait=.
	MaxWait = 60 * time.Second

	defaultWait         = 3 * time.Second
	defaultMaxInFlight  = 256
	defaultMaxRequests  = 4096
	defaultBodyTimeout  = 10 * time.Second
	defaultScanTimeout  = 2 * time.Minute
	defaultStoreTimeout = 15 * time.Second
	slotTimeout         = time.Second // how long a request waits for its turn at the store
)

// Options are what New needs. Client, APIReader and Cache are required.
type Options struct {
	// Client writes CIResults and Releases. It reads Projects and Secrets from a cache, at no cost: that is how requests prove
	// themselves, whatever else is sent. It may read all from one: what the cache does not have is looked for with APIReader before
	// it counts as missing. It should have no rate limit of its own: MaxInFlight is the limit.
	Client client.Client
	// APIReader reads from the API server.
	APIReader client.Reader
	// Cache has the informers of Release and CIResult. It may be started after New; until it has synced, requests about
	// projects are answered with 503.
	Cache Informers
	// Now is the clock for expiry and time of receipt. Default time.Now.
	Now func() time.Time
	// Log gets one line for each server error, and one for each request at V(1). The zero value drops them.
	Log logr.Logger
	// Ready is asked by /readyz. Default: always ready.
	Ready func() error
	// Stopping is closed when the process is about to stop: requests that wait are answered at once with what is known.
	// Default: never.
	Stopping <-chan struct{}
	// CreatedBy is this process's user name at the API server, to be recorded in the annotation created-by of the Releases
	// that the API creates. Default: no annotation.
	CreatedBy string
	// Journal is what audits read, and Archive where scans and reports go. Without them, which tests may be, such requests are answered
	// with 503.
	Journal Journal
	Archive Archive
	// Keys returns all public keys by which this installation ever signed, for exports: id ("sha256:…") → PEM. Default: none.
	Keys func() map[string]string
	// IDTokens verifies the id_tokens of the projects' jobs. Nil: none is accepted.
	IDTokens *idtoken.Verifier
	// PublicURL is the address of this installation, which id_tokens must be for where a project names no audience. Default:
	// each project must name one.
	PublicURL string
	// Reenrol judges agents whose certificate has expired. Nil: they are answered with 503.
	Reenrol Reenrolments
	// ExportDir is where an export is put together before it is sent, in a folder that is removed afterwards. Default: the
	// system's folder for temporary files.
	ExportDir string

	// MaxInFlight bounds the requests that use the API server at a time; others queue for a second. A quarter as many more are
	// about who has proven nothing by what the cache knows, of one project a sixteenth; others are refused. Default 256.
	MaxInFlight int
	// MaxRequests bounds the requests that are handled at a time, those that wait for a verdict included. At most a quarter of
	// them are webhooks that have proven nothing yet, and a quarter id_tokens that are being verified, of one project an eighth.
	// Default 4096.
	MaxRequests int
	// BodyTimeout bounds the time in which a body must arrive. Default 10 s.
	BodyTimeout time.Duration
	// ScanTimeout is BodyTimeout for scans and files of reports, which are larger. Default 2 min.
	ScanTimeout time.Duration
	// Wait is how long a report waits to be judged when it does not say. Default 3 s, at most MaxWait.
	Wait time.Duration
	// StoreTimeout bounds the reads and writes of one request. Default 15 s.
	StoreTimeout time.Duration
}

type api struct {
	o       Options
	hub     *hub
	makings makings
	slots   chan struct{}
	scans   chan struct{} // taken by requests with a scan
	scanned chan struct{} // taken by those of them whose body is kept in memory
	exports chan struct{}
	// reenrolments is taken by agents that wait for a certificate; proofs bounds those that are looked at.
	reenrolments chan struct{}
	reportRoom   *semaphore.Weighted // bytes of files that may be in memory
	hookRoom     *shares             // bytes of webhooks that may be in memory
	arriving     *shares             // webhooks that have proven nothing yet
	verifying    *shares             // id_tokens that are being verified, for which keys may have to be fetched
	doubts       *shares             // questions to the API server about who has proven nothing
	hookRates    hookRates
	versions     sync.Mutex    // held by who looks at the versions of a project's releases to set one
	readings     chan struct{} // taken by requests whose files are read
	proofs       *rate.Limiter
	requests     atomic.Int64
	cross        *http.CrossOriginProtection
	mux          *http.ServeMux
}

// New returns the handler of /api/…, /healthz, /readyz and /metrics. It adds event handlers to the cache's informers for the
// life of the cache.
func New(o Options) (http.Handler, error) {
	if o.Client == nil || o.APIReader == nil || o.Cache == nil {
		return nil, errors.New("ingest: Client, APIReader and Cache are required")
	}
	o.setDefaults()
	hub, err := newHub(o.Cache)
	if err != nil {
		return nil, err
	}
	a := &api{o: o, hub: hub, slots: make(chan struct{}, o.MaxInFlight), cross: http.NewCrossOriginProtection()}
	a.scans, a.scanned, a.exports = make(chan struct{}, maxScans), make(chan struct{}, maxScansKept), make(chan struct{}, maxExports)
	a.reenrolments, a.proofs = make(chan struct{}, maxReenrolments), rate.NewLimiter(reenrolRate, reenrolBurst)
	a.reportRoom, a.readings = semaphore.NewWeighted(maxReportMemory), make(chan struct{}, maxReadings)
	requests, reads := int64(o.MaxRequests), int64(o.MaxInFlight)
	a.hookRoom, a.doubts = newShares(maxHookMemory, maxHookMemory/4), newShares(reads/4, reads/16)
	a.arriving, a.verifying = newShares(requests/4, requests/8), newShares(requests/4, requests/8)
	a.mux = a.routes()
	return a, nil
}

func (o *Options) setDefaults() {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Keys == nil {
		o.Keys = func() map[string]string { return nil }
	}
	if o.Log.GetSink() == nil {
		o.Log = logr.Discard()
	}
	if o.Ready == nil {
		o.Ready = func() error { return nil }
	}
	if o.MaxInFlight <= 0 {
		o.MaxInFlight = defaultMaxInFlight
	}
	if o.MaxRequests <= 0 {
		o.MaxRequests = defaultMaxRequests
	}
	if o.BodyTimeout <= 0 {
		o.BodyTimeout = defaultBodyTimeout
	}
	if o.ScanTimeout <= 0 {
		o.ScanTimeout = defaultScanTimeout
	}
	if o.Wait <= 0 {
		o.Wait = defaultWait
	}
	o.Wait = min(o.Wait, MaxWait)
	if o.StoreTimeout <= 0 {
		o.StoreTimeout = defaultStoreTimeout
	}
}

// route is one path of the API with its handlers by method. Its name labels metrics.
type route struct {
	name, pattern string
	methods       map[string]handler
}

// handler answers a request, or returns the problem that keeps it from that; any other error is a fault of this program.
type handler func(w http.ResponseWriter, r *http.Request) error

func (a *api) table() []route {
	return []route{
		{"results", "/api/projects/{id}/quality-gates/results", map[string]handler{http.MethodPost: a.fromPipeline(a.postResult)}},
		{"deployments", "/api/projects/{id}/deployments", map[string]handler{http.MethodPost: a.fromPipeline(a.postDeployment)}},
		{"reports", "/api/projects/{id}/reports", map[string]handler{http.MethodPost: a.fromPipeline(a.postReports)}},
		{"gates", "/api/projects/{id}/quality-gates", map[string]handler{http.MethodGet: a.inProject(a.getGates)}},
		{"audit-entries", "/api/projects/{id}/audit/entries", map[string]handler{http.MethodGet: a.inScope(apitoken.ScopeAudit, a.getEntries)}},
		{"audit-export", "/api/projects/{id}/audit/export", map[string]handler{http.MethodGet: a.inScope(apitoken.ScopeAudit, a.getExport)}},
		{"scan", "/api/projects/{id}/pvs/{name}/scan", map[string]handler{http.MethodPut: a.putScan}},
		{"hook-gitlab", "/api/hooks/gitlab/{id}", map[string]handler{http.MethodPost: a.fromHook(gitlabHook)}},
		{"hook-harbor", "/api/hooks/harbor/{id}", map[string]handler{http.MethodPost: a.fromHook(harborHook)}},
		{"hook-sonarqube", "/api/hooks/sonarqube/{id}", map[string]handler{http.MethodPost: a.fromHook(sonarHook)}},
		{"certificate", "/api/hosts/{name}/certificate", map[string]handler{http.MethodPost: a.postCertificate}},
		{"openapi", "/api/openapi.json", map[string]handler{http.MethodGet: getOpenAPI}},
		{"healthz", "/healthz", map[string]handler{http.MethodGet: getHealthz}},
		{"readyz", "/readyz", map[string]handler{http.MethodGet: a.getReadyz}},
		{"metrics", "/metrics", map[string]handler{http.MethodGet: getMetrics}},
		{"other", "/", nil},
	}
}

// caller is who sent a request, and about which project: the holder of an API token, or a job.
type caller struct {
	project, tokenID string
	job              *idtoken.Claims // nil for an API token
}

// fromPipeline is inProject for what counts as evidence.
func (a *api) fromPipeline(h func(w http.ResponseWriter, r *http.Request, c caller) error) handler {
	return a.inProject(func(w http.ResponseWriter, r *http.Request, c caller) error {
		if err := a.checkDemand(r.Context(), c); err != nil {
			return err
		}
		return h(w, r, c)
	})
}

// inProject lets a request through to h when it comes from a pipeline of the project in its path.
func (a *api) inProject(h func(w http.ResponseWriter, r *http.Request, c caller) error) handler {
	return a.inScope(apitoken.ScopePipeline, h)
}

// inScope lets a request through to h when who sent it may open the project in its path, in this scope.
func (a *api) inScope(scope apitoken.Scope, h func(w http.ResponseWriter, r *http.Request, c caller) error) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if !a.hub.hasSynced() {
			return unavailable("the server is starting", time.Second, nil)
		}
		c, err := a.authenticate(r.Context(), r.Header, r.PathValue("id"), scope)
		if err != nil {
			return err
		}
		return h(w, r, c)
	}
}

// withStore runs f, which reads or writes at the API server, in its turn and within StoreTimeout.
func (a *api) withStore(ctx context.Context, f func(context.Context) error) error {
	select {
	case a.slots <- struct{}{}:
	default:
		turn := time.NewTimer(slotTimeout)
		defer turn.Stop()
		select {
		case a.slots <- struct{}{}:
		case <-turn.C:
			return unavailable("too many requests at a time", time.Second, nil)
		case <-ctx.Done():
			return unavailable("the client went away", time.Second, ctx.Err())
		}
	}
	defer func() { <-a.slots }()
	ctx, cancel := context.WithTimeout(ctx, a.o.StoreTimeout)
	defer cancel()
	return f(ctx)
}
