// SPDX-License-Identifier: Apache-2.0

package composefile

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/interpolation"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/template"
	"github.com/compose-spec/compose-go/v2/types"
)

// Bounds of a compose file. All are far above what people write and far below what hurts.
const (
	// MaxSize of the text, in bytes; the same as the API server enforces on the fields that carry it.
	MaxSize = 256 << 10
	// maxDepth of nested YAML collections.
	maxDepth = 64
	// maxNodes of the YAML tree after its aliases were followed.
	maxNodes = 20_000
	// maxExpanded is the size in bytes of all scalars after aliases and values were put in.
	maxExpanded = 4 << 20
	// maxEnvFiles of one service.
	maxEnvFiles = 16
	// maxServices of one file.
	maxServices = 100
	// maxReplicas of one service.
	maxReplicas = 100
	// maxPorts that one file publishes or exposes.
	maxPorts = 2048
)

// fileName is what a compose file is called in error messages.
const fileName = "compose file"

// Hash is "sha256:" and the hex digest of a compose file's text.
func Hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Images returns the image reference of every service, as written in the file.
func Images(project *types.Project) map[string]string {
	images := make(map[string]string, len(project.Services))
	for name, service := range project.Services {
		images[name] = service.Image
	}
	return images
}

// RawFormat of an env file: lines of NAME=value, taken as they are.
const RawFormat = "raw"

// Load reads a compose file under the given compose project name. values are all the variables there are. The model that
// it returns has its own environment, no build sections and unresolved paths. It may name files of the server, in env_file,
// in configs and secrets and as binds: none was opened, and whether they may be is for the server's policy to say. Errors
// name the field or service and never quote a value.
func Load(ctx context.Context, text string, project string, values map[string]string) (loaded *types.Project, err error) {
	defer func() {
		if r := recover(); r != nil {
			loaded, err = nil, fmt.Errorf("%s: cannot be read: %v", fileName, r)
		}
		if err != nil {
			err = withoutValues(err, values)
		}
	}()
	if project == "" || loader.NormalizeProjectName(project) != project {
		return nil, fmt.Errorf("compose project name %q: use a-z, 0-9, '-' and '_', beginning with a letter or digit", project)
	}
	tree, err := decode(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", fileName, err)
	}
	in := interpolator{values: values}
	tree, err = interpolation.Interpolate(tree, interpolation.Options{Substitute: in.substitute, LookupValue: in.lookup})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", fileName, firstError(err))
	}
	if err := checkTree(tree); err != nil {
		return nil, fmt.Errorf("%s: %w", fileName, err)
	}
	details := types.ConfigDetails{
		WorkingDir:  "/",
		ConfigFiles: []types.ConfigFile{{Filename: fileName, Config: tree}},
		Environment: maps.Clone(values),
	}
	model, err := loader.LoadWithContext(ctx, details, func(o *loader.Options) {
		o.SetProjectName(project, true)
		o.ResolvePaths = false
		o.SkipResolveEnvironment = true // it would open env files: that is for the server to do
		o.ResourceLoaders = []loader.ResourceLoader{noResources{}}
		// Everything is interpolated already; what remains to do is the conversion of numbers and booleans.
		o.Interpolate.Substitute = func(s string, _ template.Mapping) (string, error) { return s, nil }
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %s", fileName, plainWords.Replace(err.Error()))
	}
	if err := checkModel(model, values); err != nil {
		return nil, fmt.Errorf("%s: %w", fileName, err)
	}
	for name, service := range model.Services {
		service.Build, service.Develop = nil, nil // what runs is a pinned image, never something built or watched on the server
		service.Environment = service.Environment.Resolve(model.Environment.Resolve)
		model.Services[name] = service
	}
	return model, nil
}

// plainWords says in words what the loader and its schema say.
var plainWords = strings.NewReplacer("validating "+fileName+": ", "", " false schema", " is not allowed in a compose file")

// checkTree refuses what would make the loader read files, and ranges that explode, before the loader sees them.
func checkTree(tree map[string]any) error {
	if _, found := tree["include"]; found {
		return errors.New("include: not supported, give one self-contained file")
	}
	for _, section := range []string{"services", "jobs"} {
		entries, _ := tree[section].(map[string]any)
		if len(entries) > maxServices {
			return fmt.Errorf("%s: %d, at most %d are allowed", section, len(entries), maxServices)
		}
		ports := 0
		for _, name := range slices.Sorted(maps.Keys(entries)) {
			entry, _ := entries[name].(map[string]any)
			if _, found := entry["label_file"]; found {
				return fmt.Errorf("%s.%s.label_file: not supported, write them under labels:", section, name)
			}
			if extends, ok := entry["extends"].(map[string]any); ok {
				if _, found := extends["file"]; found {
					return fmt.Errorf("%s.%s.extends.file: not supported, give one self-contained file", section, name)
				}
			}
			if ports += countPorts(entry["ports"]) + countPorts(entry["expose"]); ports > maxPorts {
				return fmt.Errorf("%s.%s.ports: more than %d ports in all", section, name, maxPorts)
			}
		}
	}
	return nil
}

// checkModel refuses what cannot run as it is written.
func checkModel(model *types.Project, values map[string]string) error {
	if len(model.Services) == 0 {
		return errors.New("services: none is declared, or all are behind a profile")
	}
	for _, name := range slices.Sorted(maps.Keys(model.Services)) {
		service := model.Services[name]
		switch {
		case service.Provider != nil:
			return fmt.Errorf("services.%s.provider: not supported", name)
		case service.Image == "" && service.Build != nil:
			return fmt.Errorf("services.%s: has only a build section; images are built by CI, name one with image:", name)
		case service.Image == "":
			return fmt.Errorf("services.%s.image: missing", name)
		case service.GetScale() > maxReplicas:
			return fmt.Errorf("services.%s: %d replicas, at most %d are allowed", name, service.GetScale(), maxReplicas)
		case len(service.PreStart) > 0:
			return fmt.Errorf("services.%s.pre_start: not supported", name)
		case len(service.Models) > 0:
			return fmt.Errorf("services.%s.models: not supported", name)
		}
		if err := checkEnvFiles(service.EnvFiles); err != nil {
			return fmt.Errorf("services.%s.env_file: %w", name, err)
		}
	}
	if len(model.AllJobs()) > 0 {
		return errors.New("jobs: not supported, declare a service with restart: \"no\"")
	}
	for _, name := range slices.Sorted(maps.Keys(model.Secrets)) {
		if err := checkObject(types.FileObjectConfig(model.Secrets[name]), values); err != nil {
			return fmt.Errorf("secrets.%s: %w", name, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(model.Configs)) {
		if err := checkObject(types.FileObjectConfig(model.Configs[name]), values); err != nil {
			return fmt.Errorf("configs.%s: %w", name, err)
		}
	}
	return nil
}

// checkEnvFiles wants what a server can read: there is no folder that a relative path could begin at.
func checkEnvFiles(files []types.EnvFile) error {
	if len(files) > maxEnvFiles {
		return fmt.Errorf("%d files, at most %d are allowed", len(files), maxEnvFiles)
	}
	for _, file := range files {
		switch {
		case !path.IsAbs(file.Path):
			return fmt.Errorf("%.200q is not an absolute path; it names a file of the server, if its owner allows that; or use values", file.Path)
		case file.Format != "" && file.Format != RawFormat:
			return fmt.Errorf("unknown format %.40q, there is %s", file.Format, RawFormat)
		}
	}
	return nil
}

// checkObject judges one config or secret.
func checkObject(object types.FileObjectConfig, values map[string]string) error {
	if object.External {
		return errors.New("external: only Swarm has these, use environment: with a value")
	}
	if object.Driver != "" || object.TemplateDriver != "" {
		return errors.New("driver: only Swarm has these, use environment: with a value")
	}
	if object.Environment != "" {
		if _, found := values[object.Environment]; !found {
			return fmt.Errorf("variable %s has no value", object.Environment)
		}
	}
	return nil
}

// noResources stands before the loader's own access to files, so that nothing that escaped checkTree is ever opened.
type noResources struct{}

func (noResources) Accept(string) bool { return true }
func (noResources) Load(context.Context, string) (string, error) {
	return "", errors.New("other files are not supported, give one self-contained file")
}
func (noResources) Dir(string) string { return "/" }

// firstError is the first of joined errors: one is enough to act on.
func firstError(err error) error {
	for {
		joined, ok := err.(interface{ Unwrap() []error })
		if !ok || len(joined.Unwrap()) == 0 {
			return err
		}
		err = joined.Unwrap()[0]
	}
}

// minSecret is the length from which a value is worth hiding; shorter ones are switches and numbers.
const minSecret = 4

// withoutValues replaces values in an error's text by the names of their variables: any value may be a secret.
func withoutValues(err error, values map[string]string) error {
	text := err.Error()
	names := slices.SortedFunc(maps.Keys(values), func(a, b string) int { // the longest first: one may contain another
		return cmp.Or(cmp.Compare(len(values[b]), len(values[a])), cmp.Compare(a, b))
	})
	for _, name := range names {
		if value := values[name]; len(value) >= minSecret {
			text = strings.ReplaceAll(text, value, "${"+name+"}")
		}
	}
	if text == err.Error() {
		return err
	}
	return errors.New(text)
}
