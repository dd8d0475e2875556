// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/egress"
	"gitlab.com/dynors/sirrat/internal/evidence"
	"gitlab.com/dynors/sirrat/internal/harbor"
	"gitlab.com/dynors/sirrat/internal/registry"
)

// harbors are those of all projects, each with its project's account.
type harbors struct {
	reader client.Reader
	guard  egress.Guard
}

// harborPlace is where a project's Harbor is: the address of its API, and the host by which images name it.
type harborPlace struct{ address, registry string }

// accountHost is the host for which a Docker configuration must have an account that is sent to the API: the registry's, unless the
// API is on another machine. What was given for one host is told to no other.
func (p harborPlace) accountHost() string {
	api, err := url.Parse(p.address)
	images, err2 := url.Parse("https://" + p.registry)
	if err != nil || err2 != nil || strings.EqualFold(api.Hostname(), images.Hostname()) {
		return p.registry
	}
	return api.Host
}

// harborOf is the place of the Harbor that a project declares. Its error is a userError.
func harborOf(p *v1alpha1.Project) (harborPlace, error) {
	place := harborPlace{address: p.Spec.Harbor.URL, registry: p.Spec.Harbor.Registry}
	if place.address == "" {
		hosts := map[string]bool{}
		for _, img := range p.Spec.Images {
			host, _, _ := strings.Cut(img.Repository, "/")
			hosts[host] = true
			place.address = "https://" + cmp.Or(place.registry, host)
		}
		if place.registry == "" && len(hosts) != 1 {
			return harborPlace{}, userErrorf("spec.harbor.url of the Project is needed: its images are not all on one host")
		}
	}
	u, err := url.Parse(place.address)
	if err != nil || u.Host == "" {
		return harborPlace{}, userErrorf("spec.harbor.url of the Project is no address like https://harbor.example.com")
	}
	place.registry = cmp.Or(place.registry, u.Host)
	return place, nil
}

// of is the client for a project that declares a Harbor. What the project's people must mend is a userError.
func (h harbors) of(ctx context.Context, p *v1alpha1.Project) (*harbor.Client, harborPlace, error) {
	place, err := harborOf(p)
	if err != nil {
		return nil, harborPlace{}, err
	}
	shared, err := registrySecret(ctx, h.reader, p)
	if err != nil {
		return nil, harborPlace{}, fmt.Errorf("read registry secret: %w", err)
	}
	account, ca, err := h.account(ctx, p, place, shared)
	if err != nil {
		return nil, harborPlace{}, err
	}
	if len(ca) == 0 {
		ca = shared[caKey]
	}
	transport, err := h.transport(ca)
	if err != nil {
		return nil, harborPlace{}, err
	}
	c, err := harbor.New(place.address, account, transport)
	if err != nil {
		return nil, harborPlace{}, userErrorf("spec.harbor of the Project: %s", err)
	}
	return c, place, nil
}

// account is who asks, with the certificates that its Secret may hold.
func (h harbors) account(ctx context.Context, p *v1alpha1.Project, place harborPlace, shared map[string][]byte) (harbor.Account, []byte, error) {
	name := p.Spec.Harbor.SecretRef
	if name == "" {
		username, password, err := registry.Account(shared[corev1.DockerConfigJsonKey], place.accountHost())
		if err != nil || username == "" || password == "" {
			return harbor.Account{}, nil, userErrorf("there is no account for Harbor: name a Secret with username and password in spec.harbor.secretRef of the Project, or give the Secret of spec.registrySecretRef an account for %s", place.accountHost())
		}
		return harbor.Account{Username: username, Password: password}, nil, nil
	}
	var s corev1.Secret
	if err := h.reader.Get(ctx, client.ObjectKey{Namespace: p.Name, Name: name}, &s); err != nil {
		if apierrors.IsNotFound(err) {
			return harbor.Account{}, nil, userErrorf("Secret %s (spec.harbor.secretRef of the Project) does not exist", name)
		}
		return harbor.Account{}, nil, fmt.Errorf("read secret %s: %w", name, err)
	}
	account := harbor.Account{
		Username: strings.TrimSpace(string(s.Data[corev1.BasicAuthUsernameKey])), Password: strings.TrimSpace(string(s.Data[corev1.BasicAuthPasswordKey])),
	}
	if account.Username == "" || account.Password == "" {
		return harbor.Account{}, nil, userErrorf("Secret %s (spec.harbor.secretRef of the Project) needs the keys username and password", name)
	}
	return account, s.Data[caKey], nil
}

// transport connects to what the operator allows, and trusts ca besides what the system trusts.
func (h harbors) transport(ca []byte) (http.RoundTripper, error) {
	dialer := h.guard.Dialer()
	transport := egress.Transport(&dialer)
	if len(ca) == 0 {
		return transport, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("read the system's certificates: %w", err)
	}
	if !pool.AppendCertsFromPEM(ca) {
		return nil, userErrorf("the key ca.crt of the Secret of spec.harbor.secretRef, or spec.registrySecretRef, of the Project holds no certificate (PEM)")
	}
	transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return transport, nil
}

// heldImage is an image that Harbor holds.
type heldImage struct {
	v1alpha1.FrozenImage
	repository harbor.Repository
}

// heldImages are those of the images that are in the place. One that names no project there is among them: nothing can be
// said of it.
func heldImages(place harborPlace, images []v1alpha1.FrozenImage) []heldImage {
	var out []heldImage
	for _, img := range images {
		host, _, _ := strings.Cut(img.Repository, "/")
		if host == place.registry {
			_, repository, _ := harbor.RepositoryOf(img.Repository)
			out = append(out, heldImage{img, repository})
		}
	}
	return out
}

// harborReason is the reason of a condition for an error of Harbor, or of what the project says about it.
func harborReason(err error) string {
	var user userError
	var p *harbor.Problem
	switch {
	case errors.As(err, &user):
		return v1alpha1.ReasonInvalid
	case !errors.As(err, &p):
		return v1alpha1.ReasonHarborError
	}
	switch p.Kind {
	case harbor.KindDenied:
		return v1alpha1.ReasonHarborDenied
	case harbor.KindBusy:
		return v1alpha1.ReasonHarborBusy
	case harbor.KindNotFound:
		return v1alpha1.ReasonImageNotFound
	}
	return v1alpha1.ReasonHarborError
}

// harborUntil is before when Harbor asked not to be asked again; zero if it did not.
func harborUntil(err error) time.Time {
	var p *harbor.Problem
	if errors.As(err, &p) {
		return p.Until
	}
	return time.Time{}
}

// scansInHarbor says whether Harbor's scans are evidence in the project.
func scansInHarbor(p *v1alpha1.Project) bool {
	return p.Spec.Harbor != nil && p.Spec.Harbor.Scan != nil && p.Spec.Harbor.Scan.Enabled
}

// evidenceOn reduces the results on a release. images are nil while they are not all pinned.
func evidenceOn(p *v1alpha1.Project, results []v1alpha1.CIResult, images []v1alpha1.FrozenImage) evidence.Set {
	var digests []string
	for _, img := range images {
		digests = append(digests, img.Digest)
	}
	set := evidence.Reduce(evidence.ForImages(results, digests))
	if needs := awaitedScans(p, results, images); needs != "" {
		set.Await(v1alpha1.TypeScan, needs)
	}
	return set
}

// awaitedScans is what is still to come before a scan may pass in a project that relies on Harbor's; "" when nothing is.
func awaitedScans(p *v1alpha1.Project, results []v1alpha1.CIResult, images []v1alpha1.FrozenImage) string {
	if !scansInHarbor(p) || len(p.Spec.Images) == 0 {
		return ""
	}
	place, err := harborOf(p)
	if err != nil {
		return err.Error()
	}
	if len(images) == 0 {
		return "Harbor scans the images, once they are pinned"
	}
	held := heldImages(place, images)
	if len(held) == 0 {
		return "somebody mends spec.harbor of the Project: no image is on " + place.registry
	}
	for _, img := range held {
		if !slices.ContainsFunc(results, func(r v1alpha1.CIResult) bool { return isScanOf(r, img.FrozenImage) }) {
			return "Harbor scans the image " + img.Name
		}
	}
	return ""
}

// isScanOf says that a result is Harbor's scan of exactly this image.
func isScanOf(r v1alpha1.CIResult, img v1alpha1.FrozenImage) bool {
	return r.Spec.Source == v1alpha1.SourceHarbor && r.Spec.Type == v1alpha1.TypeScan && r.Spec.Digest == img.Digest
}
