// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/lru"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/composefile"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/registry"
)

// resolver is what freezing needs of a registry: the digest of any image, and of one that is to be tagged later.
type resolver interface {
	Resolve(ctx context.Context, ref string) (digest string, err error)
	Pin(ctx context.Context, ref string) (digest string, err error)
}

// material is everything of one environment that a bundle is made of, read from the API.
type material struct {
	compose string
	// values are the Environment's values and, over them, the keys of its Secrets.
	values map[string]string
	// secrets are the Secrets' contents by name.
	secrets map[string]map[string][]byte
}

// userError is a problem that a user must mend; its text is shown to users.
type userError struct{ text string }

func (e userError) Error() string { return e.text }

func userErrorf(format string, args ...any) error { return userError{fmt.Sprintf(format, args...)} }

// readMaterial reads an environment's compose file, values and secrets for a release.
func readMaterial(ctx context.Context, reader client.Reader, env v1alpha1.Environment, r *v1alpha1.Release) (material, error) {
	m := material{values: maps.Clone(env.Spec.Values), secrets: map[string]map[string][]byte{}}
	if m.values == nil {
		m.values = map[string]string{}
	}
	compose, err := readCompose(ctx, reader, env, r)
	if err != nil {
		return material{}, err
	}
	m.compose = compose
	for _, name := range env.Spec.SecretRefs {
		var s corev1.Secret
		if err := reader.Get(ctx, client.ObjectKey{Namespace: env.Namespace, Name: name}, &s); err != nil {
			if apierrors.IsNotFound(err) {
				return material{}, userErrorf("Secret %s (spec.secretRefs) does not exist", name)
			}
			return material{}, fmt.Errorf("read secret %s: %w", name, err)
		}
		m.secrets[name] = s.Data
		for k, v := range s.Data {
			m.values[k] = string(v)
		}
	}
	return m, nil
}

func readCompose(ctx context.Context, reader client.Reader, env v1alpha1.Environment, r *v1alpha1.Release) (string, error) {
	if text := string(r.Spec.Compose[env.Name]); text != "" {
		return text, nil
	}
	if env.Spec.Compose.Inline != "" {
		return env.Spec.Compose.Inline, nil
	}
	ref := env.Spec.Compose.ConfigMapKeyRef
	if ref == nil {
		if env.Spec.Hosts == nil {
			return "", nil // deployed by a pipeline: it has its own compose file
		}
		return "", userErrorf("no compose file: set spec.compose.inline or spec.compose.configMapKeyRef of Environment %s", env.Name)
	}
	var cm corev1.ConfigMap
	if err := reader.Get(ctx, client.ObjectKey{Namespace: env.Namespace, Name: ref.Name}, &cm); err != nil {
		if apierrors.IsNotFound(err) {
			return "", userErrorf("ConfigMap %s (spec.compose.configMapKeyRef) does not exist", ref.Name)
		}
		return "", fmt.Errorf("read configmap %s: %w", ref.Name, err)
	}
	text, ok := cm.Data[ref.Key]
	if !ok {
		return "", userErrorf("ConfigMap %s has no key %s (spec.compose.configMapKeyRef)", ref.Name, ref.Key)
	}
	return text, nil
}

// composeProject is the name of the compose project on the server.
func composeProject(env v1alpha1.Environment) string {
	if env.Spec.Compose.ProjectName != "" {
		return env.Spec.Compose.ProjectName
	}
	return env.Namespace + "-" + env.Name
}

// freezeResult is a bundle as far as it is complete, and what is missing.
type freezeResult struct {
	bundle          *v1alpha1.Bundle
	reason, message string // "" when every image of the project is pinned
	// retry is when to try again what may heal by itself: a tag not pushed yet, a registry that is away. Zero: never.
	retry time.Time
}

// freeze pins what is not pinned yet and hashes each environment's bundle. What was pinned once is never resolved again,
// so that moving a tag changes nothing.
func (f *freezer) freeze(ctx context.Context, p *v1alpha1.Project, r *v1alpha1.Release, bridge []v1alpha1.Environment, images resolver, now time.Time) (freezeResult, error) {
	if p.IsModule() {
		return freezeModule(p, r)
	}
	out := freezeResult{bundle: &v1alpha1.Bundle{}}
	if old := r.Status.Bundle; old != nil {
		out.bundle.Images, out.bundle.Pins = slices.Clone(old.Images), slices.Clone(old.Pins)
	}
	for _, img := range p.Spec.Images {
		if err := freezeImage(ctx, out.bundle, img, r, images); err != nil {
			out.retry = earlier(out.retry, tryAgain(err, now))
			out.reason, out.message = registryReason(err), fmt.Sprintf("image %s: %s", img.Name, err)
		}
	}
	if one, other := confused(out.bundle.Images, out.bundle.Images); one != "" && out.message == "" {
		out.reason, out.message = v1alpha1.ReasonInvalid, fmt.Sprintf("images %s and %s of spec.images of the Project are both in %s with different digests, so that nobody "+
			"could say which of them a service of a compose file is: give each a repository of its own", one, other, repositoryOf(out.bundle.Images, one))
	}
	for _, env := range bridge {
		eb := v1alpha1.EnvironmentBundle{Environment: env.Name}
		if out.message == "" {
			hash, err := f.freezeEnvironment(ctx, p, r, env, out.bundle, images, &eb)
			var user userError
			switch {
			case errors.As(err, &user):
				eb.Problem = user.text
			case err != nil && errors.Is(err, errRegistry):
				eb.Problem, out.retry = err.Error(), earlier(out.retry, tryAgain(err, now))
			case err != nil:
				return freezeResult{}, err
			default:
				eb.Hash = hash
				// The hash stays: what was approved is the same bundle, whatever a host thinks of it now.
				if eb.Problem, err = f.refusals(ctx, r, env); err != nil {
					return freezeResult{}, err
				}
			}
		}
		out.bundle.Environments = append(out.bundle.Environments, eb)
	}
	return out, nil
}

// confused names two images that are not the same and would be in one repository: at is where each of them is.
func confused(images, at []v1alpha1.FrozenImage) (one, other string) {
	for i := range at {
		for j := range i {
			here, err := registry.Repository(at[i].Repository)
			there, err2 := registry.Repository(at[j].Repository)
			same := images[i].Repository == images[j].Repository && images[i].Digest == images[j].Digest
			if err == nil && err2 == nil && here == there && !same {
				return at[j].Name, at[i].Name
			}
		}
	}
	return "", ""
}

func repositoryOf(images []v1alpha1.FrozenImage, name string) string {
	i := slices.IndexFunc(images, func(img v1alpha1.FrozenImage) bool { return img.Name == name })
	return images[i].Repository
}

// errRegistry marks failures that a registry may answer differently later.
var errRegistry = errors.New("registry")

func freezeImage(ctx context.Context, b *v1alpha1.Bundle, img v1alpha1.ProjectImage, r *v1alpha1.Release, images resolver) error {
	for _, f := range b.Images {
		if f.Name == img.Name {
			return nil
		}
	}
	ref := img.Repository + ":dev-" + v1alpha1.ShortSHA(r.Spec.Commit)
	for _, given := range r.Spec.Images {
		if given.Name == img.Name {
			ref = img.Repository + "@" + given.Digest
		}
	}
	digest, err := images.Pin(ctx, ref)
	if err != nil {
		return err
	}
	b.Images = append(b.Images, v1alpha1.FrozenImage{Name: img.Name, Repository: img.Repository, Digest: digest})
	return nil
}

// freezer hashes bundles.
type freezer struct {
	reader client.Reader
	// salt keys the hash of values and secrets, so that status tells nothing about them.
	salt []byte
	// loaded remembers what compose files name, by the keyed hash of file and values: every release of a project is judged
	// on the same few files, and reading one takes longer than all the rest of a judgement.
	loaded *lru.Cache
}

// loadedFiles is how many compose files are remembered.
const loadedFiles = 1024

func newFreezer(reader client.Reader, salt []byte) *freezer {
	return &freezer{reader: reader, salt: salt, loaded: lru.New(loadedFiles)}
}

// loadedFile is what a compose file names, or what is wrong with it; and, by the hash of a host's policy, what that does not
// allow.
type loadedFile struct {
	refs    map[string]string
	problem error

	mu      sync.Mutex
	refused map[string]string
}

// references reads a compose file and returns the image reference of every service. What the hosts think of it is another
// question: see refusals.
func (f *freezer) references(ctx context.Context, env v1alpha1.Environment, m material) (map[string]string, error) {
	file, _, err := f.load(ctx, env, m)
	if err != nil {
		return nil, err
	}
	return file.refs, file.problem
}

// load reads a compose file, or remembers what was read. The model is there when it was read just now only.
func (f *freezer) load(ctx context.Context, env v1alpha1.Environment, m material) (*loadedFile, *types.Project, error) {
	key, err := f.hash(composeProject(env), m.compose, m.values)
	if err != nil {
		return nil, nil, err
	}
	if known, ok := f.loaded.Get(key); ok {
		return known.(*loadedFile), nil, nil
	}
	file := &loadedFile{refused: map[string]string{}}
	loaded, err := composefile.Load(ctx, m.compose, composeProject(env), m.values)
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	if err != nil {
		file.problem, loaded = userErrorf("compose file: %s", err), nil
	} else {
		file.refs = composefile.Images(loaded)
	}
	f.loaded.Add(key, file)
	return file, loaded, nil
}

func (f *freezer) freezeEnvironment(ctx context.Context, p *v1alpha1.Project, r *v1alpha1.Release, env v1alpha1.Environment, b *v1alpha1.Bundle, images resolver, eb *v1alpha1.EnvironmentBundle) (string, error) {
	m, err := readMaterial(ctx, f.reader, env, r)
	if err != nil {
		return "", err
	}
	pinned, err := f.pinServices(ctx, env, m, b, images)
	if err != nil {
		return "", err
	}
	if err := checkTags(env, r); err != nil {
		return "", err
	}
	eb.ComposeHash = composefile.Hash(m.compose)
	eb.ValuesHash, err = f.hash(env.Spec.Values, m.secrets)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(map[string]any{
		"project": string(p.UID), "release": string(r.UID), "commit": r.Spec.Commit, "environment": env.Name,
		"images": b.Images, "services": pinned, "compose": eb.ComposeHash, "values": eb.ValuesHash,
		"composeProject": composeProject(env), "healthChecks": env.Spec.HealthChecks,
	})
	if err != nil {
		return "", fmt.Errorf("encode bundle: %w", err)
	}
	return envelope.Hash(text), nil
}

func checkTags(env v1alpha1.Environment, r *v1alpha1.Release) error {
	if _, err := environmentTaggings(env, r); err != nil {
		return userErrorf("spec.tags of Environment %s: %s", env.Name, err)
	}
	return nil
}

// hash is a keyed hash: the same input gives the same hash, and nobody can guess values from it.
func (f *freezer) hash(input ...any) (string, error) {
	text, err := json.Marshal(input)
	if err != nil {
		return "", fmt.Errorf("encode values: %w", err)
	}
	mac := hmac.New(sha256.New, f.salt)
	mac.Write(text)
	return "hmac-sha256:" + hex.EncodeToString(mac.Sum(nil)), nil
}

// pinServices gives every service of the compose file its image by digest, in the order of the services' names. Images of
// the project come from the bundle; any other is resolved once and kept in the bundle's pins.
func (f *freezer) pinServices(ctx context.Context, env v1alpha1.Environment, m material, b *v1alpha1.Bundle, images resolver) ([]v1alpha1.ServiceImage, error) {
	if m.compose == "" {
		return nil, nil
	}
	refs, err := f.references(ctx, env, m)
	if err != nil {
		return nil, err
	}
	var out []v1alpha1.ServiceImage
	for _, service := range slices.Sorted(maps.Keys(refs)) {
		image, err := pinReference(ctx, refs[service], b, images)
		if err != nil {
			return nil, fmt.Errorf("service %s: %w", service, err)
		}
		out = append(out, v1alpha1.ServiceImage{Service: service, Image: image})
	}
	return out, nil
}

func pinReference(ctx context.Context, ref string, b *v1alpha1.Bundle, images resolver) (string, error) {
	repository, err := registry.Repository(ref)
	if err != nil {
		return "", userError{err.Error()}
	}
	for _, f := range b.Images {
		if own, err := registry.Repository(f.Repository); err == nil && own == repository {
			return f.Repository + "@" + f.Digest, nil
		}
	}
	for _, p := range b.Pins {
		if p.Reference == ref {
			return repository + "@" + p.Digest, nil
		}
	}
	digest, err := images.Resolve(ctx, ref)
	if err != nil {
		return "", fmt.Errorf("%w: image %s: %w", errRegistry, ref, err)
	}
	b.Pins = append(b.Pins, v1alpha1.PinnedReference{Reference: ref, Digest: digest})
	slices.SortFunc(b.Pins, func(x, y v1alpha1.PinnedReference) int { return strings.Compare(x.Reference, y.Reference) })
	return repository + "@" + digest, nil
}
