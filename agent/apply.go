// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"gitlab.com/dynors/sirrat/agent/disk"
	"gitlab.com/dynors/sirrat/agent/layout"
	"gitlab.com/dynors/sirrat/agent/socket"
	"gitlab.com/dynors/sirrat/agent/state"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/authorization"
	"gitlab.com/dynors/sirrat/internal/offline"
)

// unpackedPrefix of the folders, within the data folder, in which bundles are unpacked.
const unpackedPrefix = "bundle-"

// applyPoll is how often the command asks a running agent how far it is.
const applyPoll = 200 * time.Millisecond

// Load is a bundle, as it is handed to the command.
type Load struct {
	// File is the bundle.
	File string
	// Secrets is the env file with the values of Secrets that are not in it; empty for none.
	Secrets string
	// Fingerprint is the SHA-256 ("sha256:…") that the file must have; empty when nobody compared it.
	Fingerprint string
}

// Applied is what became of a bundle, as `sirrat-agent apply` tells it.
type Applied struct {
	// Bundle is the file.
	Bundle string `json:"bundle"`
	// Unpacked are the bytes of Size that were read, while it is unpacked.
	Unpacked int64 `json:"unpacked,omitempty"`
	Size     int64 `json:"size,omitempty"`
	// Done says that nothing more comes.
	Done bool `json:"done"`
	// Refused says why nothing of it was handed on; empty when it was.
	Refused string `json:"refused,omitempty"`
	// Reason why it did not end with what was ordered, where it is one of those that a Rollout's conditions name.
	Reason string `json:"reason,omitempty"`
	// Advice is what a person can do about it.
	Advice string `json:"advice,omitempty"`
	// What is in it.
	Project     string `json:"project,omitempty"`
	Environment string `json:"environment,omitempty"`
	Release     string `json:"release,omitempty"`
	Sequence    int64  `json:"sequence,omitempty"`
	// Rollout that the status is of.
	Namespace string    `json:"namespace,omitempty"`
	Rollout   string    `json:"rollout,omitempty"`
	UID       types.UID `json:"uid,omitempty"`
	// Status as the control plane would show it.
	Status v1alpha1.RolloutStatus `json:"status"`
}

// Well says that it ended with what was ordered.
func (a Applied) Well() bool {
	return a.Refused == "" && (a.Status.Phase == v1alpha1.RolloutHealthy || a.Status.Phase == v1alpha1.RolloutRemoved)
}

// conclude names the reason of an end that is not what was ordered.
func (a *Applied) conclude() {
	if stalled := meta.FindStatusCondition(a.Status.Conditions, v1alpha1.ConditionStalled); stalled != nil && stalled.Status == metav1.ConditionTrue {
		a.Reason = stalled.Reason
	}
	if a.Status.Phase == v1alpha1.RolloutSuperseded {
		a.Reason = v1alpha1.ReasonSuperseded
	}
	a.advise()
}

// Ways out of what a bundle alone cannot mend.
const (
	signAnew   = "an administrator has it signed anew (kubectl delete rollout %s -n %s: the control plane makes it again, with the same number); then export the bundle again"
	newRelease = "it is not tried again: deploy another release, and export that"
)

// advise says what to do about the reason.
func (a *Applied) advise() {
	switch a.Reason {
	case v1alpha1.ReasonAuthorizationExpired:
		a.Advice = fmt.Sprintf(signAnew, a.Rollout, a.Namespace)
	case v1alpha1.ReasonUnknownKey, v1alpha1.ReasonRetiredKey, v1alpha1.ReasonRevokedKey:
		a.Advice = fmt.Sprintf(signAnew, a.Rollout, a.Namespace) +
			"; when the server was joined with the keys of another control plane, join it again with a new kubectl sirrat host export"
	case v1alpha1.ReasonPolicyRefused:
		a.Advice = "the owner of this server decides in the host policy (sirrat-agent policy); then apply the bundle again"
	case v1alpha1.ReasonAcceptanceMissing, v1alpha1.ReasonAcceptanceUntrusted, v1alpha1.ReasonAcceptanceRefused, v1alpha1.ReasonAcceptanceOther:
		a.Advice = "the client signs the PV of this release with the key that the host policy names (kubectl sirrat pv sign); " + fmt.Sprintf(signAnew, a.Rollout, a.Namespace)
	case v1alpha1.ReasonSuperseded, v1alpha1.ReasonOlderSequence:
		a.Advice = "this server has a newer order: export the newest"
	default:
		if a.Status.Phase == v1alpha1.RolloutFailed || a.Status.Phase == v1alpha1.RolloutRolledBack || a.Status.Phase == v1alpha1.RolloutHeld {
			a.Advice = newRelease
		}
	}
}

// application is the bundle that is being applied, one at a time.
type application struct {
	mu      sync.Mutex
	running bool
	last    Applied
}

func (p *application) set(a Applied) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = a
}

func (p *application) get() Applied {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}

// removeUnpacked deletes what an apply that was killed left behind.
func removeUnpacked(dataDir string) error {
	left, err := filepath.Glob(filepath.Join(dataDir, unpackedPrefix+"*"))
	if err != nil {
		return fmt.Errorf("look for unpacked bundles: %w", err)
	}
	for _, dir := range left {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove an unpacked bundle: %w", err)
		}
	}
	return nil
}

// begin applies a bundle beside everything else, unless one is being applied.
func (a *Agent) begin(ctx context.Context, load Load) error {
	p := &a.applying
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running {
		return fmt.Errorf("%s is being applied: wait until that has ended", p.last.Bundle)
	}
	p.running, p.last = true, Applied{Bundle: load.File}
	go func() {
		applied := a.apply(ctx, load)
		applied.Done = true
		p.mu.Lock()
		defer p.mu.Unlock()
		p.running, p.last = false, applied
	}()
	return nil
}

// apply unpacks a bundle, hands its Rollout to the worker as if the control plane had offered it, and waits for the outcome.
func (a *Agent) apply(ctx context.Context, load Load) Applied {
	applied := Applied{Bundle: load.File}
	refuse := func(err error) Applied {
		applied.Refused = err.Error()
		applied.advise()
		a.log.Info("bundle refused", "bundle", load.File, "why", applied.Refused)
		return applied
	}
	dir, err := os.MkdirTemp(a.options.DataDir, unpackedPrefix)
	if err != nil {
		return refuse(fmt.Errorf("make a folder to unpack the bundle in: %w", err))
	}
	defer os.RemoveAll(dir) //nolint:errcheck // the next start removes what is left
	bundle, err := a.unpack(ctx, load, dir)
	if err != nil {
		return refuse(err)
	}
	rollout := strip(bundle.Rollout)
	spec := rollout.Spec
	applied.Project, applied.Environment, applied.Release, applied.Sequence = spec.Project, spec.Environment, spec.Release.Name, spec.Sequence
	applied.Namespace, applied.Rollout, applied.UID = rollout.Namespace, rollout.Name, rollout.UID
	secrets, err := a.vouch(ctx, bundle, load.Secrets)
	if err != nil {
		applied.Reason = reasonOf(err)
		return refuse(err)
	}
	registry, err := layout.Open(ctx, dir)
	if err != nil {
		return refuse(err)
	}
	defer registry.Close() //nolint:errcheck // nothing is pulled any more
	a.log.Info("bundle is applied", "bundle", load.File, "rollout", rollout.Name, "release", spec.Release.Name, "sequence", spec.Sequence)
	w, brought := a.worker(state.Key{Project: spec.Project, Environment: spec.Environment}), &carried{rollout: rollout, registry: registry, secrets: secrets}
	w.takeUp(brought)
	defer w.putDown(brought)
	news := a.reporter.follow(rollout.UID) // what was said of it before is of no concern
	defer a.reporter.unfollow(rollout.UID)
	w.offer(rollout)
	for {
		select {
		case <-ctx.Done():
			return refuse(errors.New("interrupted: apply the bundle again"))
		case <-news:
		}
		applied.Status = a.reporter.newest(rollout.UID)
		if ended(applied.Status.Phase) {
			applied.conclude()
			return applied
		}
		if why := w.heldBack(rollout.UID, applied.Status); why != "" { // nobody knows for how long
			applied.Status = v1alpha1.RolloutStatus{}
			return refuse(fmt.Errorf("%s; apply the bundle again when it may begin", why))
		}
		a.applying.set(applied)
	}
}

// reasonOf names why a bundle is refused, as a Rollout's conditions would; "" when it is about something else.
func reasonOf(err error) string {
	var f *failed
	if errors.As(err, &f) {
		return f.reason
	}
	if r := unauthorised(err); r.reason != v1alpha1.ReasonAuthorizationInvalid {
		return r.reason
	}
	return ""
}

// ended says that a phase lasts.
func ended(phase string) bool {
	return slices.Contains([]string{v1alpha1.RolloutHealthy, v1alpha1.RolloutFailed, v1alpha1.RolloutRolledBack, v1alpha1.RolloutHeld,
		v1alpha1.RolloutRejected, v1alpha1.RolloutSuperseded, v1alpha1.RolloutRemoved}, phase)
}

// strip leaves of a Rollout what its authorization covers, and who it is.
func strip(r *v1alpha1.Rollout) *v1alpha1.Rollout {
	s := &v1alpha1.Rollout{Spec: r.Spec}
	s.Name, s.Namespace, s.UID, s.Generation = r.Name, r.Namespace, r.UID, 1
	return s
}

// unpack reads a bundle into a folder, and tells how far it is.
func (a *Agent) unpack(ctx context.Context, load Load, dir string) (*offline.Bundle, error) {
	archive, err := os.Open(load.File)
	if err != nil {
		return nil, fmt.Errorf("open the bundle: %w", err)
	}
	defer archive.Close()
	info, err := archive.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("open the bundle: %s is not a file", load.File)
	}
	space, err := disk.Free(a.options.DataDir)
	if err != nil {
		return nil, err
	}
	hash := sha256.New()
	from := io.Reader(&reading{from: archive, applying: &a.applying, now: Applied{Bundle: load.File, Size: info.Size()}})
	if load.Fingerprint != "" {
		from = io.TeeReader(from, hash)
	}
	bundle, err := offline.Read(ctx, from, dir, space.Bytes-ownNeed)
	if err != nil || load.Fingerprint == "" {
		return bundle, err
	}
	if _, err := io.Copy(io.Discard, from); err != nil { // what follows the archive's end is part of the file
		return nil, fmt.Errorf("read the bundle: %w", err)
	}
	if got := fmt.Sprintf("sha256:%x", hash.Sum(nil)); got != load.Fingerprint {
		return nil, fmt.Errorf("the bundle has the fingerprint %s, not %s: it was altered on its way, or is another one", got, load.Fingerprint)
	}
	return bundle, nil
}

// reading tells how much of a bundle was read.
type reading struct {
	from     io.Reader
	applying *application
	now      Applied
}

func (r *reading) Read(p []byte) (int, error) {
	n, err := r.from.Read(p)
	r.now.Unpacked += int64(n)
	r.applying.set(r.now)
	return n, err
}

// vouch says whether a bundle may be handed on: it is for this server, and a trusted key signed its Rollout for it. The worker
// judges all the rest, as always.
func (a *Agent) vouch(ctx context.Context, b *offline.Bundle, secretsFile string) (map[string]string, error) {
	host := authorization.Host{Name: a.identity.Host, UID: a.identity.HostUID}
	if b.Host != host.Name {
		return nil, fmt.Errorf("%w: the bundle is for host %s, this is %s", authorization.ErrOtherHost, b.Host, host.Name)
	}
	if err := a.takeKeys(ctx, b.KeySets); err != nil {
		return nil, err
	}
	if _, err := authorization.Verify(ctx, b.Rollout.Spec, host, time.Now(), 0, true, a.trust()); err != nil {
		return nil, err
	}
	if !a.engine.IsLocal() {
		return nil, errors.New("a bundle can be applied only where the engine runs on the same server")
	}
	info, err := a.engineInfo(ctx)
	if err != nil {
		return nil, err
	}
	if b.Platform != info.Platform {
		return nil, &failed{v1alpha1.ReasonWrongArchitecture, fmt.Errorf("the bundle has images for %s, this server is %s: export it with --platform %s",
			b.Platform, info.Platform, info.Platform), true}
	}
	given, err := readSecrets(secretsFile)
	if err != nil {
		return nil, err
	}
	return b.SecretsFor(given)
}

// readSecrets reads the env file of --secrets; nothing for none.
func readSecrets(file string) (map[string]string, error) {
	if file == "" {
		return nil, nil
	}
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("--secrets: %w", err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o007 != 0 {
		return nil, fmt.Errorf("--secrets: %s must be a file that others cannot read: chmod 600 %s", file, file)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("--secrets: %w", err)
	}
	values, err := offline.ParseEnv(string(text))
	if err != nil {
		return nil, fmt.Errorf("--secrets: %s: %w", file, err)
	}
	return values, nil
}

// answerApply lets the command have a bundle applied by the agent that runs, and ask what became of it.
func (a *Agent) answerApply(ctx context.Context, mux *http.ServeMux) {
	mux.HandleFunc("POST /apply", func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		if err := a.begin(ctx, Load{query.Get("bundle"), query.Get("secrets"), query.Get("fingerprint")}); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		socket.Answer(w, struct{}{})
	})
	mux.HandleFunc("GET /apply", func(w http.ResponseWriter, _ *http.Request) { socket.Answer(w, a.applying.get()) })
}

// Apply has a bundle applied: by the agent that runs on the data folder, or else by this process, which then is the agent until
// the outcome is known. tell is given what there is to say on the way. What runs at the end keeps running either way.
func Apply(ctx context.Context, o Options, load Load, tell func(Applied)) (Applied, error) {
	var err error
	if load.File, err = filepath.Abs(load.File); err != nil {
		return Applied{}, fmt.Errorf("find the bundle: %w", err)
	}
	if load.Secrets != "" {
		if load.Secrets, err = filepath.Abs(load.Secrets); err != nil {
			return Applied{}, fmt.Errorf("--secrets: %w", err)
		}
	}
	if load.Fingerprint != "" {
		if err := offline.CheckDigest(load.Fingerprint); err != nil {
			return Applied{}, errors.New("--fingerprint: give it as the export printed it, sha256: and 64 hexadecimal digits")
		}
	}
	err = socket.Post(ctx, o.DataDir, "/apply", url.Values{"bundle": {load.File}, "secrets": {load.Secrets}, "fingerprint": {load.Fingerprint}}, nil)
	if errors.Is(err, socket.ErrNotRunning) {
		return applyAlone(ctx, o, load, tell)
	}
	for err == nil && sleep(ctx, applyPoll) {
		var applied Applied
		if err = socket.Get(ctx, o.DataDir, "/apply", nil, &applied); err != nil {
			return applied, fmt.Errorf("the agent that applies the bundle ended; apply it again: %w", err)
		}
		if applied.Done {
			return applied, nil
		}
		tell(applied)
	}
	return Applied{}, errors.Join(err, ctx.Err())
}

// applyAlone is the agent without a control plane, until the outcome is known.
func applyAlone(ctx context.Context, o Options, load Load, tell func(Applied)) (Applied, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var applied Applied
	o.alone, o.Heartbeat = true, DefaultHeartbeat
	o.started = func(ctx context.Context, a *Agent) {
		defer cancel()
		done := make(chan Applied, 1)
		go func() { done <- a.apply(ctx, load) }()
		for {
			select {
			case applied = <-done:
				applied.Done = true
				return
			case <-time.After(applyPoll):
				tell(a.applying.get())
			}
		}
	}
	err := runOnce(ctx, o)
	if err == nil && !applied.Done {
		err = errors.New("interrupted: apply the bundle again")
	}
	return applied, err
}
