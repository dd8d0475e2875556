// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/cli/lang"
	"gitlab.com/dynors/sirrat/internal/cli/view"
	"gitlab.com/dynors/sirrat/internal/version"
)

// defaultNamespace is what a kubeconfig without a namespace means; it can never be a project.
const defaultNamespace = "default"

// newScheme knows the kinds that the commands touch.
func newScheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	must(v1alpha1.AddToScheme(scheme))
	must(corev1.AddToScheme(scheme))
	must(coordinationv1.AddToScheme(scheme))
	must(authenticationv1.AddToScheme(scheme))
	return scheme
}

// newMapper names the resources of these kinds, so that no command begins with discovery.
func newMapper() meta.RESTMapper {
	mapper := meta.NewDefaultRESTMapper(nil)
	add := func(gv schema.GroupVersion, kind, plural string, scope meta.RESTScope) {
		mapper.AddSpecific(gv.WithKind(kind), gv.WithResource(plural), gv.WithResource(strings.ToLower(kind)), scope)
	}
	add(v1alpha1.GroupVersion, "Project", "projects", meta.RESTScopeRoot)
	add(v1alpha1.GroupVersion, "Host", "hosts", meta.RESTScopeRoot)
	add(v1alpha1.GroupVersion, "Rollout", "rollouts", meta.RESTScopeNamespace)
	add(v1alpha1.GroupVersion, "Environment", "environments", meta.RESTScopeNamespace)
	add(v1alpha1.GroupVersion, "QualityGate", "qualitygates", meta.RESTScopeNamespace)
	add(v1alpha1.GroupVersion, "Release", "releases", meta.RESTScopeNamespace)
	add(v1alpha1.GroupVersion, "PV", "pvs", meta.RESTScopeNamespace)
	add(corev1.SchemeGroupVersion, "Namespace", "namespaces", meta.RESTScopeRoot)
	add(corev1.SchemeGroupVersion, "ConfigMap", "configmaps", meta.RESTScopeNamespace)
	add(corev1.SchemeGroupVersion, "Secret", "secrets", meta.RESTScopeNamespace)
	add(corev1.SchemeGroupVersion, "ConfigMap", "configmaps", meta.RESTScopeNamespace)
	add(coordinationv1.SchemeGroupVersion, "Lease", "leases", meta.RESTScopeNamespace)
	add(authenticationv1.SchemeGroupVersion, "SelfSubjectReview", "selfsubjectreviews", meta.RESTScopeRoot)
	return mapper
}

// restConfig is the kubeconfig's, with kubectl's rules of where to find it.
func (s *session) restConfig() (*rest.Config, error) {
	loader := s.flags.ToRawKubeConfigLoader()
	raw, err := loader.RawConfig()
	if err != nil {
		return nil, configError{err}
	}
	if len(raw.Clusters) == 0 && s.Getenv("KUBERNETES_SERVICE_HOST") == "" {
		return nil, errNoCluster
	}
	config, err := s.flags.ToRESTConfig()
	if err != nil {
		return nil, configError{err}
	}
	config.QPS, config.Burst = -1, -1
	config.UserAgent = "kubectl-sirrat/" + version.Version
	config.WarningHandler = rest.NewWarningWriter(s.Err, rest.WarningWriterOptions{Deduplicate: true})
	return config, nil
}

func (s *session) client() (client.WithWatch, error) {
	if s.cached != nil {
		return s.cached, nil
	}
	config, err := s.restConfig()
	if err != nil {
		return nil, err
	}
	c, err := client.NewWithWatch(config, client.Options{Scheme: newScheme(), Mapper: newMapper()})
	if err != nil {
		return nil, wrap("prepare the client", err)
	}
	s.cached = c
	return c, nil
}

// project is the one that -n, the kubeconfig's context or, where there is only one, the cluster names.
func (s *session) project(ctx context.Context) (string, error) {
	c, err := s.client()
	if err != nil {
		return "", err
	}
	namespace, _, err := s.flags.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return "", err
	}
	if namespace != "" && namespace != defaultNamespace {
		return namespace, nil
	}
	var projects v1alpha1.ProjectList
	if err := c.List(ctx, &projects); err != nil {
		if apierrors.IsForbidden(err) {
			return "", s.fail("error.which-project").with(s.T("hint.which-project"))
		}
		return "", err
	}
	switch len(projects.Items) {
	case 0:
		return "", s.fail("error.no-project").with(s.T("hint.no-project"))
	case 1:
		return projects.Items[0].Name, nil
	}
	var names []string
	for _, p := range projects.Items {
		names = append(names, p.Name)
	}
	return "", s.fail("error.which-project").with(s.T("hint.which-project-of", strings.Join(names, ", ")))
}

// gather reads all that there is to see of a project.
func (s *session) gather(ctx context.Context, project string) (view.Bridge, error) {
	b := view.Bridge{Namespace: project}
	c, err := s.client()
	if err != nil {
		return b, err
	}
	var p v1alpha1.Project
	switch err := c.Get(ctx, client.ObjectKey{Name: project}, &p); {
	case err == nil:
		b.Project = &p
	case apierrors.IsForbidden(err): // who may read the namespace only still sees the bridge
	case apierrors.IsNotFound(err):
		return b, s.notFound(ctx, err, "kind.project", project, "")
	default:
		return b, err
	}
	var environments v1alpha1.EnvironmentList
	var gates v1alpha1.QualityGateList
	var releases v1alpha1.ReleaseList
	for _, list := range []client.ObjectList{&environments, &gates, &releases} {
		if err := c.List(ctx, list, client.InNamespace(project)); err != nil {
			return b, err
		}
	}
	b.Environments, b.Gates, b.Releases = environments.Items, gates.Items, releases.Items
	b.PVs, err = s.pvs(ctx, project)
	return b, err
}

// pvs are those of a project; none for somebody who may not read them.
func (s *session) pvs(ctx context.Context, project string) ([]v1alpha1.PV, error) {
	c, err := s.client()
	if err != nil {
		return nil, err
	}
	var list v1alpha1.PVList
	if err := c.List(ctx, &list, client.InNamespace(project)); err != nil && !apierrors.IsForbidden(err) {
		return nil, err
	}
	return list.Items, nil
}

// read reads an object by its name, and says what there is instead when there is none; project is "" for those of the
// cluster. It returns the client that read it.
func (s *session) read(ctx context.Context, o client.Object, kind lang.ID, project, name string) (client.Client, error) {
	c, err := s.client()
	if err != nil {
		return nil, err
	}
	if err := c.Get(ctx, client.ObjectKey{Namespace: project, Name: name}, o); err != nil {
		return nil, s.notFound(ctx, err, kind, name, project)
	}
	return c, nil
}

// readMine reads an object of the project that is meant.
func (s *session) readMine(ctx context.Context, o client.Object, kind lang.ID, name string) error {
	project, err := s.project(ctx)
	if err != nil {
		return err
	}
	_, err = s.read(ctx, o, kind, project, name)
	return err
}

// gate reads a quality gate.
func (s *session) gate(ctx context.Context, project, name string) (*v1alpha1.QualityGate, error) {
	gate := &v1alpha1.QualityGate{}
	_, err := s.read(ctx, gate, "kind.gate", project, name)
	return gate, err
}

// release reads a release; without a name the newest.
func (s *session) release(ctx context.Context, project, name string) (*v1alpha1.Release, error) {
	if name == "" {
		c, err := s.client()
		if err != nil {
			return nil, err
		}
		var list v1alpha1.ReleaseList
		if err := c.List(ctx, &list, client.InNamespace(project)); err != nil {
			return nil, err
		}
		if len(list.Items) == 0 {
			return nil, s.fail("error.no-release", project).with(s.T("hint.no-release"))
		}
		newest := view.Newest(list.Items)[0]
		return &newest, nil
	}
	r := &v1alpha1.Release{}
	_, err := s.read(ctx, r, "kind.release", project, name)
	return r, err
}

// notFound adds to a NotFound what there is instead; other errors stay as they are.
func (s *session) notFound(ctx context.Context, err error, kind lang.ID, name, project string) error {
	if !apierrors.IsNotFound(err) {
		return err
	}
	text := s.T("error.not-found", s.T(kind), name)
	if project != "" {
		text = s.T("error.not-found-in", s.T(kind), name, project)
	}
	f := &failure{text: text, code: exitError, cause: err}
	if names := s.names(ctx, kind, project); len(names) > 0 {
		f.hint = s.T("hint.there-is", strings.Join(names[:min(len(names), 20)], ", "))
	}
	return f
}

// names lists the objects of a kind, the newest release first and all else by name; nothing when that fails.
func (s *session) names(ctx context.Context, kind lang.ID, project string) []string {
	c, err := s.client()
	if err != nil {
		return nil
	}
	var list client.ObjectList
	switch kind {
	case "kind.project":
		list = &v1alpha1.ProjectList{}
	case "kind.host":
		list = &v1alpha1.HostList{}
	case "kind.gate":
		list = &v1alpha1.QualityGateList{}
	case "kind.release":
		list = &v1alpha1.ReleaseList{}
	case "kind.environment":
		list = &v1alpha1.EnvironmentList{}
	case "kind.pv":
		list = &v1alpha1.PVList{}
	default:
		panic(fmt.Sprintf("no list of %s", kind))
	}
	if err := c.List(ctx, list, client.InNamespace(project)); err != nil {
		return nil
	}
	if releases, ok := list.(*v1alpha1.ReleaseList); ok {
		releases.Items = view.Newest(releases.Items)
	}
	var names []string
	_ = meta.EachListItem(list, func(o runtime.Object) error {
		names = append(names, o.(client.Object).GetName())
		return nil
	})
	if kind != "kind.release" {
		slices.Sort(names)
	}
	return names
}

// whoami is the caller's user name, as the API server sees it.
func (s *session) whoami(ctx context.Context) (string, error) {
	c, err := s.client()
	if err != nil {
		return "", err
	}
	var review authenticationv1.SelfSubjectReview
	if err := c.Create(ctx, &review); err != nil {
		return "", wrap("ask who you are", err)
	}
	user := review.Status.UserInfo.Username
	if user == "" {
		return "", s.fail("error.nobody")
	}
	return user, nil
}
