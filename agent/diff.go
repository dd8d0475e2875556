// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gitlab.com/dynors/sirrat/agent/compose"
	"gitlab.com/dynors/sirrat/agent/health"
	"gitlab.com/dynors/sirrat/agent/state"
)

// Kinds of differences.
const (
	// DiffMissing: a container that must run does not exist.
	DiffMissing = "missing"
	// DiffDown: it exists, but does not run.
	DiffDown = "down"
	// DiffUnhealthy: it runs, but its healthcheck fails.
	DiffUnhealthy = "unhealthy"
	// DiffImage: it was made from another image.
	DiffImage = "image"
	// DiffConfig: it was made from another configuration.
	DiffConfig = "config"
	// DiffExtra: nothing asks for it.
	DiffExtra = "extra"
	// DiffUnknown: it cannot be said what must run.
	DiffUnknown = "unknown"
)

// Difference is one way in which what runs is not what must run.
type Difference struct {
	Project     string `json:"project"`
	Environment string `json:"environment"`
	Service     string `json:"service,omitempty"`
	// Container's name, where it is about one.
	Container string `json:"container,omitempty"`
	// Kind is one of the above.
	Kind string `json:"kind"`
	// Details in words.
	Details string `json:"details"`
}

// openState opens the states in a data folder; nil when the agent has never run there.
func openState(dataDir string) (*state.Store, error) {
	dir := filepath.Join(dataDir, stateFolder)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return state.Open(dir)
}

// chosen are the environments of a data folder; with only, that one.
func chosen(dataDir string, only *state.Key) (*state.Store, []state.Key, error) {
	store, err := openState(dataDir)
	if err != nil {
		return nil, nil, err
	}
	var keys []state.Key
	if store != nil {
		if keys, err = store.Keys(); err != nil {
			return nil, nil, err
		}
	}
	if only == nil {
		return store, keys, nil
	}
	if !slices.Contains(keys, *only) {
		return nil, nil, fmt.Errorf("nothing of %s was ever deployed here: sirrat-agent status lists what was", only)
	}
	return store, []state.Key{*only}, nil
}

// ParseKey reads PROJECT/ENVIRONMENT.
func ParseKey(text string) (state.Key, error) {
	project, environment, found := strings.Cut(text, "/")
	if !found || project == "" || environment == "" || strings.Contains(environment, "/") {
		return state.Key{}, fmt.Errorf("%q: give PROJECT/ENVIRONMENT", text)
	}
	return state.Key{Project: project, Environment: environment}, nil
}

// ReadDiff compares what the state in a data folder says must run with what the engine says runs. policy is
// the file of the host's owner, which says what files may be read; empty means hostpolicy.DefaultFile. The agent need not run.
func ReadDiff(ctx context.Context, dataDir, dockerHost, policy string, only *state.Key) ([]Difference, error) {
	store, keys, err := chosen(dataDir, only)
	if err != nil {
		return nil, err
	}
	engine, err := compose.Connect(dockerHost)
	if err != nil {
		return nil, err
	}
	defer engine.Close()
	all := []Difference{}
	for _, key := range keys {
		found, err := diffOf(ctx, engine, store, newHostFiles(dataDir, policy, engine.Host()), key)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		for _, d := range found {
			d.Project, d.Environment = key.Project, key.Environment
			all = append(all, d)
		}
	}
	return all, nil
}

func diffOf(ctx context.Context, engine *compose.Engine, store *state.Store, files *hostFiles, key state.Key) ([]Difference, error) {
	e, err := store.Load(key)
	if err != nil {
		return []Difference{{Kind: DiffUnknown, Details: err.Error()}}, nil
	}
	if e.Current == nil {
		return nil, nil // nothing must run, and what a failed rollout left is there to be looked at
	}
	target, err := files.resolve(ctx, e.Current)
	if err != nil {
		return []Difference{{Kind: DiffUnknown, Details: redact(err.Error(), e.Current.Secrets)}}, nil
	}
	containers, err := engine.Containers(ctx, target.project.Name)
	if err != nil {
		return nil, err
	}
	made, err := engine.ContainerHashes(ctx, target.project.Name)
	if err != nil {
		return nil, err
	}
	wanted, err := compose.Hashes(target.project, target.labels)
	if err != nil {
		return nil, err
	}
	list := differences(target.services, wanted, e.Current.Completed, containers, made)
	for i := range list { // the engine's own words may quote a command
		list[i].Details = redact(list[i].Details, e.Current.Secrets)
	}
	return list, nil
}

// differences compares services with containers. wanted are the services' hashes, made those of the containers by id.
func differences(services []health.Service, wanted map[string]string, completed []string, containers []health.Container, made map[string]string) []Difference {
	var list []Difference
	byService := map[string][]health.Container{}
	for _, c := range containers {
		byService[c.Service] = append(byService[c.Service], c)
	}
	for _, s := range services {
		found := byService[s.Name]
		delete(byService, s.Name)
		done := slices.Contains(completed, s.Name)
		if missing := s.Replicas - len(found); missing > 0 && !done {
			list = append(list, Difference{Service: s.Name, Kind: DiffMissing, Details: fmt.Sprintf("%d of %d containers do not exist", missing, s.Replicas)})
		}
		for i, c := range found {
			list = append(list, differencesOf(s, c, i, wanted[s.Name], made[c.ID], done)...)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(byService)) {
		for _, c := range byService[name] {
			list = append(list, Difference{Service: name, Container: c.Name, Kind: DiffExtra, Details: "the release has no such service"})
		}
	}
	return list
}

// differencesOf is what is wrong with the container at place i of its service's.
func differencesOf(s health.Service, c health.Container, i int, wanted, made string, completed bool) []Difference {
	var list []Difference
	add := func(kind, details string) {
		list = append(list, Difference{Service: s.Name, Container: c.Name, Kind: kind, Details: details})
	}
	if i >= s.Replicas {
		add(DiffExtra, fmt.Sprintf("the release asks for %d of it", s.Replicas))
		return list
	}
	if c.Image != s.Image {
		add(DiffImage, "runs "+c.Image+", not "+s.Image)
	}
	if wanted != "" && made != wanted {
		add(DiffConfig, "was made from another configuration")
	}
	switch {
	case c.State == health.StateRunning && c.Check == health.CheckUnhealthy:
		add(DiffUnhealthy, "its healthcheck fails")
	case c.State == health.StateRunning, completed && c.State == health.StateExited && c.ExitCode == 0:
	case c.State == health.StateExited:
		add(DiffDown, c.Ending())
	default:
		add(DiffDown, "is "+c.State)
	}
	return list
}
