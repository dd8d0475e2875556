// SPDX-License-Identifier: Apache-2.0

// Package state keeps on disk what an agent must know after a crash, a reboot or days without the control plane: for each
// project and environment what runs, what ran well before, what is under way and what failed.
//
// Every file is replaced as a whole, through a temporary file, fsync and rename, and carries a checksum. A file that cannot
// be read is never taken for an empty one: its environment is not touched until a person has looked.
//
// It holds no lock; the agent holds one on the folder. It may import api/v1alpha1, agent/disk and
// agent/health.
package state

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/agent/disk"
	"gitlab.com/dynors/sirrat/agent/health"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// ErrDamaged is wrapped by errors about a file that is there but cannot be trusted.
var ErrDamaged = errors.New("the state file is damaged")

// version of the files' format.
const version = 1

// keepFailed is how many failures of an environment are remembered. Sequences only grow, so older ones are refused anyway.
const keepFailed = 20

// Key names an environment of a project.
type Key struct {
	Project     string
	Environment string
}

func (k Key) String() string { return k.Project + "/" + k.Environment }

// Deployment is a Rollout with all that is needed to run it without the control plane.
type Deployment struct {
	// Name and UID of the Rollout.
	Name string `json:"name"`
	UID  string `json:"uid"`
	// Spec as it was authorised.
	Spec v1alpha1.RolloutSpec `json:"spec"`
	// Secrets are the values from Secrets, and those hidden.
	Secrets Secrets `json:"secrets,omitempty"`
	// Local are the names under which the engine has images that came in a bundle, by the pinned reference that was
	// authorised; the digest is the same. Images that are not in it go by the authorised reference itself.
	Local map[string]string `json:"local,omitempty"`
	// Completed are the one-shot services that ended well.
	Completed []string `json:"completed,omitempty"`
	// Excused are the services that were not well before this release already, were not touched by it, and were not seen well
	// since: they do not count against it.
	Excused []string `json:"excused,omitempty"`
	// HealthySince is the beginning of the present streak of health; zero while it is not healthy.
	HealthySince time.Time `json:"healthySince,omitzero"`
	// Timings say when each phase began.
	Timings []v1alpha1.PhaseTiming `json:"timings,omitempty"`
	// Manner says in words how its services took the place of those before.
	Manner string `json:"manner,omitempty"`
}

// LocalImage is what the engine calls an image of the deployment.
func (d *Deployment) LocalImage(pinned string) string {
	if local, found := d.Local[pinned]; found {
		return local
	}
	return pinned
}

// Secrets are values that must not leave the host. Those that were read from the host's own files are hidden: they are
// redacted like the others, but never stored, since the files are there to be read again.
type Secrets map[string]string

// hiddenPrefix of a name cannot begin the name of a variable.
const hiddenPrefix = "\x00"

// Hide notes a value that is to be redacted and not stored.
func (s Secrets) Hide(name, value string) { s[hiddenPrefix+name] = value }

// Values are the secrets that are not hidden.
func (s Secrets) Values() map[string]string {
	values := make(map[string]string, len(s))
	for name, value := range s {
		if !strings.HasPrefix(name, hiddenPrefix) {
			values[name] = value
		}
	}
	return values
}

// MarshalJSON leaves out what is hidden.
func (s Secrets) MarshalJSON() ([]byte, error) { return json.Marshal(s.Values()) }

// Begin notes the beginning of a phase. A phase that began before, until the agent was restarted, keeps its first time.
func (d *Deployment) Begin(phase string, now time.Time) {
	for _, t := range d.Timings {
		if t.Phase == phase {
			return
		}
	}
	d.Timings = append(d.Timings, v1alpha1.PhaseTiming{Phase: phase, Started: metav1.NewMicroTime(now)})
}

// Attempt is a deployment under way.
type Attempt struct {
	Deployment
	// Phase is Preflight, Pulling, Migrating, Starting or Checking, written before anything of it is done. From Migrating on,
	// containers may have been touched.
	Phase string `json:"phase"`
	// Owned are, while it is a removal, the compose projects in which something of this environment ran.
	Owned []string `json:"owned,omitempty"`
	// Jobs are the pre-deploy jobs that ended well; none of them runs again for this rollout.
	Jobs []string `json:"jobs,omitempty"`
	// JobBegun is the job that was started last and whose end is not noted yet.
	JobBegun string `json:"jobBegun,omitempty"`
	// Before is what was observed before anything was touched; nil until then.
	Before *health.Baseline `json:"before,omitempty"`
	// Touched says that something of what served before was touched, so that only going back makes it serve again.
	Touched bool `json:"touched,omitempty"`
	// Failure is set once it failed: from then on the way leads back.
	Failure *Failure `json:"failure,omitempty"`
}

// Failure says why a deployment failed.
type Failure struct {
	Name     string `json:"name"`
	UID      string `json:"uid"`
	Release  string `json:"release"`
	Sequence int64  `json:"sequence"`
	// BundleHash is what failed.
	BundleHash string `json:"bundleHash"`
	// Phase that the Rollout ends in: Failed, RolledBack or Held.
	Phase string `json:"phase"`
	// Reason of its conditions.
	Reason  string `json:"reason"`
	Message string `json:"message"`
	// Logs are the last lines of the services that failed, without secrets.
	Logs []string `json:"logs,omitempty"`
	// Serving is the sequence that serves instead; 0 for none.
	Serving  int64                   `json:"serving,omitempty"`
	Services []v1alpha1.ServiceState `json:"services,omitempty"`
	Timings  []v1alpha1.PhaseTiming  `json:"timings,omitempty"`
	At       time.Time               `json:"at"`
}

// Environment is the state of one environment on this host.
type Environment struct {
	Version     int    `json:"version"`
	Project     string `json:"project"`
	ProjectUID  string `json:"projectUID"`
	Environment string `json:"environment"`
	// Highest sequence whose carrying out has begun; lower ones are refused.
	Highest int64 `json:"highest"`
	// Current is what must run; nil when nothing must, because nothing ever became healthy or the user wants no way back.
	Current *Deployment `json:"current,omitempty"`
	// LastGood is the last that was healthy, to go back to.
	LastGood *Deployment `json:"lastGood,omitempty"`
	// Attempt is what is under way.
	Attempt *Attempt `json:"attempt,omitempty"`
	// Failed is what failed, newest last.
	Failed []Failure `json:"failed,omitempty"`
	// Removed is the order by which everything was taken down last; nil once something was deployed again.
	Removed *Deployment `json:"removed,omitempty"`
	// Suspended is what the control plane said last of leaving it alone: by whose word; "" when it may be touched.
	Suspended string `json:"suspended,omitempty"`
	// NoWayBack names the irreversible release whose carrying out has passed the point of no return; empty when the last good
	// set may serve again. The next commit clears it.
	NoWayBack string `json:"noWayBack,omitempty"`
	// Pulled are the images, by digest, that this agent fetched for this environment: the only ones that it removes again.
	Pulled []string `json:"pulled,omitempty"`
	// Sets are the images of sets that were committed before the last good one, newest last.
	Sets [][]string `json:"sets,omitempty"`
	// PruneDue says that images may be left behind by sets that nobody goes back to.
	PruneDue bool `json:"pruneDue,omitempty"`
	// Retired are uids of earlier projects of the same name, whose authorizations are void.
	Retired []string `json:"retired,omitempty"`
}

// Key of the environment.
func (e *Environment) Key() Key { return Key{e.Project, e.Environment} }

// Attempted is the deployment under way; nil when none is, or when it is a removal.
func (e *Environment) Attempted() *Deployment {
	if e.Attempt == nil || e.Attempt.Spec.Remove != nil {
		return nil
	}
	return &e.Attempt.Deployment
}

// FailureOf returns how the Rollout of that uid failed, nil if it did not.
func (e *Environment) FailureOf(uid string) *Failure {
	for i := range e.Failed {
		if e.Failed[i].UID == uid {
			return &e.Failed[i]
		}
	}
	return nil
}

// FailureFor returns how the order of that sequence failed with that bundle, nil if it did not.
func (e *Environment) FailureFor(sequence int64, bundleHash string) *Failure {
	for i := range e.Failed {
		if e.Failed[i].Sequence == sequence && e.Failed[i].BundleHash == bundleHash {
			return &e.Failed[i]
		}
	}
	return nil
}

// Contradicts says that another order with the number of this one was carried out: a number is given once, so that a control
// plane that gives it again does not know what it ordered before.
func (e *Environment) Contradicts(spec v1alpha1.RolloutSpec) bool {
	if spec.ProjectUID != e.ProjectUID || spec.Sequence != e.Highest {
		return false
	}
	carried := []*Deployment{e.Current, e.LastGood, e.Removed}
	if e.Attempt != nil {
		carried = append(carried, &e.Attempt.Deployment)
	}
	for _, d := range carried {
		if d == nil || d.Spec.ProjectUID != spec.ProjectUID || d.Spec.Sequence != spec.Sequence {
			continue
		}
		if d.Spec.BundleHash != spec.BundleHash || !equality.Semantic.DeepEqual(d.Spec.Remove, spec.Remove) {
			return true
		}
	}
	return slices.ContainsFunc(e.Failed, func(f Failure) bool { return f.Sequence == spec.Sequence && f.BundleHash != spec.BundleHash })
}

// Retire makes the orders of an earlier project of the same name void: the one of that uid counts from one, and what failed
// before says nothing of it.
func (e *Environment) Retire(uid string) {
	if e.ProjectUID == uid {
		return
	}
	if e.ProjectUID != "" {
		e.Retired = append(e.Retired, e.ProjectUID)
		e.Highest, e.Failed = 0, nil
	}
	e.ProjectUID = uid
}

// Fail moves the attempt to the failures.
func (e *Environment) Fail(f Failure) {
	e.Failed = append(slices.DeleteFunc(e.Failed, func(o Failure) bool { return o.UID == f.UID }), f)
	e.Failed = e.Failed[max(0, len(e.Failed)-keepFailed):]
	e.Attempt = nil
}

// Store is the folder of state files.
type Store struct{ dir string }

// Open returns the store in a folder, which is created with mode 0700.
func Open(dir string) (*Store, error) {
	if err := disk.MkdirPrivate(dir); err != nil {
		return nil, err
	}
	return &Store{dir: dir}, nil
}

// suffix of state files.
const suffix = ".json"

// validName is what an environment's or project's name looks like; it becomes part of a file's name.
var validName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)

// Path of the file of an environment.
func (s *Store) Path(k Key) string {
	return filepath.Join(s.dir, k.Project+"."+k.Environment+suffix)
}

// Load reads an environment's state; a new one when there is no file. Errors wrap ErrDamaged when the file cannot be
// trusted.
func (s *Store) Load(k Key) (*Environment, error) {
	if !validName.MatchString(k.Project) || !validName.MatchString(k.Environment) {
		return nil, fmt.Errorf("%q: not the name of a project and an environment", k)
	}
	data, err := os.ReadFile(s.Path(k))
	if errors.Is(err, fs.ErrNotExist) {
		return &Environment{Version: version, Project: k.Project, Environment: k.Environment}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	e, err := decode(data)
	if err == nil && e.Key() != k {
		err = fmt.Errorf("it is about %s", e.Key())
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, s.Path(k), err)
	}
	return e, nil
}

// Save replaces an environment's state. When it returns nil the new state survives a power cut.
func (s *Store) Save(e *Environment) error {
	e.Version = version
	body, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode state of %s: %w", e.Key(), err)
	}
	data, err := json.Marshal(file{Checksum: checksum(body), State: body})
	if err != nil {
		return fmt.Errorf("encode state of %s: %w", e.Key(), err)
	}
	if err := disk.WriteFile(s.Path(e.Key()), data); err != nil {
		return fmt.Errorf("save state of %s: %w", e.Key(), err)
	}
	return nil
}

// Keys lists the environments that have a file, readable or not.
func (s *Store) Keys() ([]Key, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list state: %w", err)
	}
	var keys []Key
	for _, entry := range entries {
		name, isState := strings.CutSuffix(entry.Name(), suffix)
		project, environment, split := strings.Cut(name, ".")
		if isState && split && validName.MatchString(project) && validName.MatchString(environment) {
			keys = append(keys, Key{project, environment})
		}
	}
	return keys, nil
}

// file is what is on disk.
type file struct {
	Checksum string          `json:"checksum"`
	State    json.RawMessage `json:"state"`
}

func checksum(body []byte) string {
	sum := sha256.Sum256(body)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func decode(data []byte) (*Environment, error) {
	var f file
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, err
	}
	if checksum(f.State) != f.Checksum {
		return nil, errors.New("its checksum does not match")
	}
	e := &Environment{}
	if err := json.Unmarshal(f.State, e); err != nil {
		return nil, err
	}
	if e.Version != version {
		return nil, fmt.Errorf("version %d, this agent reads %d", e.Version, version)
	}
	return e, nil
}
