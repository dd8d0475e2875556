// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/registry"
)

// An environment with a registry of its own (spec.registry) runs the very digests that were approved, from other repositories.
// The bundle, and with it every approval, names the project's repositories; the orders to hosts, what the client signs for
// them and what their policies are asked name those that they pull from.

// destination is the repository in which an environment's own registry has an image of the project; "" when none is named.
func destination(own *v1alpha1.EnvironmentRegistry, image string) string {
	for _, r := range own.Repositories {
		if r.Image == image {
			return r.Repository
		}
	}
	if own.Prefix == "" {
		return ""
	}
	return own.Prefix + "/" + image
}

// destinations are the images as an environment's hosts pull them: themselves where it has no registry of its own.
func destinations(env v1alpha1.Environment, images []v1alpha1.FrozenImage) ([]v1alpha1.FrozenImage, error) {
	if env.Spec.Registry == nil {
		return images, nil
	}
	var out []v1alpha1.FrozenImage
	for _, img := range images {
		repository := destination(env.Spec.Registry, img.Name)
		if repository == "" {
			return nil, userErrorf("spec.registry of Environment %s names no repository for image %s: set its prefix, or list the image in its repositories", env.Name, img.Name)
		}
		if _, err := registry.Repository(repository); err != nil {
			return nil, userErrorf("spec.registry of Environment %s: %s", env.Name, err)
		}
		out = append(out, v1alpha1.FrozenImage{Name: img.Name, Repository: repository, Digest: img.Digest})
	}
	if one, other := confused(images, out); one != "" {
		return nil, userErrorf("spec.registry of Environment %s puts images %s and %s into one repository, %s, where each would take the other's tags: give each its own", env.Name, one, other, repositoryOf(out, one))
	}
	return out, nil
}

// checkRegistry says what is wrong with an environment's own registry, for any release.
func checkRegistry(env v1alpha1.Environment, p *v1alpha1.Project) error {
	var images []v1alpha1.FrozenImage
	for _, img := range p.Spec.Images {
		images = append(images, v1alpha1.FrozenImage{Name: img.Name, Repository: img.Repository})
	}
	if _, err := destinations(env, images); err != nil || env.Spec.Registry == nil {
		return err
	}
	for i, r := range env.Spec.Registry.Repositories {
		if !slices.ContainsFunc(p.Spec.Images, func(img v1alpha1.ProjectImage) bool { return img.Name == r.Image }) {
			return userErrorf("spec.registry.repositories[%d] of Environment %s names image %s, which is none of spec.images of the Project", i, env.Name, r.Image)
		}
	}
	return nil
}

// pulledFrom names for every service what an environment's hosts pull: the same digests, those of the project's images in the
// environment's own registry.
func pulledFrom(env v1alpha1.Environment, b *v1alpha1.Bundle, services []v1alpha1.ServiceImage) ([]v1alpha1.ServiceImage, error) {
	there, err := destinations(env, b.Images)
	if err != nil {
		return nil, err
	}
	out := slices.Clone(services)
	for i := range out {
		for j, img := range b.Images {
			if out[i].Image == img.Repository+"@"+img.Digest {
				out[i].Image = there[j].Repository + "@" + there[j].Digest
				break
			}
		}
	}
	return out, nil
}

// relocations are the repositories of a project's images by the repositories from which an environment's hosts do not pull
// them; nil when it has no registry of its own.
func (f *freezer) relocations(ctx context.Context, env v1alpha1.Environment) (map[string]string, error) {
	if env.Spec.Registry == nil {
		return nil, nil
	}
	var p v1alpha1.Project
	if err := f.reader.Get(ctx, client.ObjectKey{Name: env.Namespace}, &p); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	out := map[string]string{}
	for _, img := range p.Spec.Images {
		repository, err := registry.Repository(img.Repository)
		if to := destination(env.Spec.Registry, img.Name); err == nil && to != "" {
			out[repository] = to
		}
	}
	return out, nil
}

// relocate has a model's services name the images that hosts pull.
func relocate(model *types.Project, moved map[string]string) {
	for name, service := range model.Services {
		repository, err := registry.Repository(service.Image)
		if to := moved[repository]; err == nil && to != "" {
			service.Image = to
			model.Services[name] = service
		}
	}
}

func findMirror(mirrors []v1alpha1.ReleaseMirror, environment string) *v1alpha1.ReleaseMirror {
	for i := range mirrors {
		if mirrors[i].Environment == environment {
			return &mirrors[i]
		}
	}
	return nil
}

// completeMirror is the proof that an environment's own registry serves every image of a release, since it was let in there
// the last time; nil when there is none.
func completeMirror(rel *v1alpha1.Release, env v1alpha1.Environment) *v1alpha1.ReleaseMirror {
	e, m := findEntry(rel.Status.Environments, env.Name), findMirror(rel.Status.Mirrors, env.Name)
	if e == nil || !servedBefore(rel, env) || !m.AuthorizedAt.Equal(&e.AuthorizedAt) {
		return nil
	}
	return m
}

// unmirrored says why a release cannot be sent to an environment's hosts yet; "" when its images are where they pull them. A way back
// is not held up by a registry that cannot be asked: the hosts have on disk what it proved to serve when the release was there before.
func unmirrored(rel *v1alpha1.Release, env v1alpha1.Environment) string {
	if env.Spec.Registry == nil || rel.Status.Bundle != nil && len(rel.Status.Bundle.Images) == 0 || completeMirror(rel, env) != nil {
		return ""
	}
	told := mirrorLine(rel, env)
	if e := findEntry(rel.Status.Environments, env.Name); told != "" && e != nil && e.Rollback != "" && mirrorFails(rel) && servedBefore(rel, env) {
		return ""
	}
	text := "its images are copied to " + registryName(env)
	if told != "" {
		text += ": " + told
	}
	return text
}

// mirrorFails says that a registry was asked and gave no answer that is of use.
func mirrorFails(rel *v1alpha1.Release) bool {
	c := findCondition(rel.Status.Conditions, v1alpha1.ConditionMirrored)
	return c != nil && slices.Contains([]string{
		v1alpha1.ReasonRegistryError, v1alpha1.ReasonRegistryBusy, v1alpha1.ReasonRegistryDenied, v1alpha1.ReasonRegistryFull, v1alpha1.ReasonImageNotFound,
	}, c.Reason)
}

// servedBefore says that an environment's own registry served the images when the release was let in there earlier.
func servedBefore(rel *v1alpha1.Release, env v1alpha1.Environment) bool {
	m := findMirror(rel.Status.Mirrors, env.Name)
	if m == nil || rel.Status.Bundle == nil {
		return false
	}
	want, err := destinations(env, rel.Status.Bundle.Images)
	return err == nil && slices.Equal(m.Images, want)
}

// mirrorLine is what the condition Mirrored says of an environment that waits; "" if nothing.
func mirrorLine(rel *v1alpha1.Release, env v1alpha1.Environment) string {
	c := findCondition(rel.Status.Conditions, v1alpha1.ConditionMirrored)
	if c == nil || c.Reason == v1alpha1.ReasonMirrored {
		return ""
	}
	for line := range strings.Lines(c.Message) {
		if told, ok := strings.CutPrefix(strings.TrimSpace(line), env.Name+": "); ok {
			return told
		}
	}
	return ""
}

// registryName is what messages call an environment's own registry.
func registryName(env v1alpha1.Environment) string {
	if own := env.Spec.Registry; own.Prefix != "" || len(own.Repositories) == 0 {
		return own.Prefix
	}
	host, _, _ := strings.Cut(env.Spec.Registry.Repositories[0].Repository, "/")
	return host
}

// mirror is the client of an environment's own registry.
func (r registries) mirror(ctx context.Context, env v1alpha1.Environment) (*registry.Client, error) {
	account := fmt.Sprintf("spec.registry.secretRef of Environment %s/%s", env.Namespace, env.Name)
	name := env.Spec.Registry.SecretRef
	if name == "" {
		return r.pool.ClientOf(account, nil, nil), nil
	}
	data, err := secretOf(ctx, r.reader, env, name, "secretRef")
	if err != nil {
		return nil, err
	}
	return r.pool.ClientOf(account, data[corev1.DockerConfigJsonKey], data[caKey]), nil
}

// secretOf reads a Secret that spec.registry names.
func secretOf(ctx context.Context, reader client.Reader, env v1alpha1.Environment, name, field string) (map[string][]byte, error) {
	var s corev1.Secret
	if err := reader.Get(ctx, client.ObjectKey{Namespace: env.Namespace, Name: name}, &s); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, userErrorf("Secret %s (spec.registry.%s of Environment %s) does not exist", name, field, env.Name)
		}
		return nil, fmt.Errorf("read secret %s: %w", name, err)
	}
	return s.Data, nil
}

// pullSecret is the Secret with which an environment's hosts pull, and its credentials; "" or none when they have none.
func pullSecret(ctx context.Context, reader client.Reader, p *v1alpha1.Project, env v1alpha1.Environment) (name string, credentials []byte, err error) {
	if own := env.Spec.Registry; own != nil {
		name, field := cmp.Or(own.PullSecretRef, own.SecretRef), "pullSecretRef"
		if name == "" {
			return "", nil, nil
		}
		if own.PullSecretRef == "" {
			field = "secretRef"
		}
		data, err := secretOf(ctx, reader, env, name, field)
		return name, data[corev1.DockerConfigJsonKey], err
	}
	secret, err := registrySecret(ctx, reader, p)
	return p.Spec.RegistrySecretRef, secret[corev1.DockerConfigJsonKey], err
}
