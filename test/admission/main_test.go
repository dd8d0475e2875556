// SPDX-License-Identifier: Apache-2.0

// Package admission tests, against a real control plane, what the API itself refuses: the CRDs' schemas, the admission
// policies and the roles under config/. No controller runs here; statuses are written by the tests in the controllers'
// place.
package admission

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/config"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
)

// People of the tests, each with the role of that name in every project that newProject makes.
const (
	viewer = "viewer@dynors.com"
	dev    = "dev@dynors.com"
	qa     = "qa@dynors.com"
	qa2    = "qa2@dynors.com"
	cto    = "cto@dynors.com"
	signer = "recette@client.example"
	// lead is a developer and QA at once: may create a release and has the verb approve.
	lead = "lead@dynors.com"
)

var members = map[string][]string{
	"sirrat-viewer":    {viewer},
	"sirrat-developer": {dev, lead},
	"sirrat-qa":        {qa, qa2, lead},
	"sirrat-cto":       {cto},
	"sirrat-client":    {signer},
}

const commit = "a1b2c3d4e5f60718293a4b5c6d7e8f9001122334"

func TestMain(m *testing.M) {
	log.SetLogger(logr.Discard())
	cptest.Main(m, cptest.Install(config.FS), policiesEnforced)
}

var scheme = func() *runtime.Scheme {
	s := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(s), v1alpha1.AddToScheme(s)); err != nil {
		panic(err)
	}
	return s
}()

// policiesEnforced returns once the API server has compiled the policies, which it does a moment after they are stored.
// The first policy in the alphabet's order says nothing of the others, so that each is probed.
func policiesEnforced(ctx context.Context, env *cptest.Env) error {
	ctx, cancel := context.WithTimeout(ctx, cptest.Deadline)
	defer cancel()
	admin, err := client.New(env.Config, client.Options{Scheme: scheme})
	if err != nil {
		return err
	}
	probes := map[string]func() error{
		"sirrat-approvals": func() error {
			return admin.Create(ctx, release("default", "probe", v1alpha1.ApprovalPrefix+"qa", "nobody"), client.DryRunAll)
		},
		"sirrat-created-by": func() error {
			return admin.Create(ctx, release("default", "probe", v1alpha1.AnnotationCreatedBy, "nobody"), client.DryRunAll)
		},
		"sirrat-pv": func() error {
			pv := newPV("default", "probe")
			pv.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "x", UID: "x"}}
			return admin.Create(ctx, pv, client.DryRunAll)
		},
		"sirrat-agents": func() error {
			config := rest.CopyConfig(env.Config)
			config.Impersonate = rest.ImpersonationConfig{UserName: "probe", Groups: []string{v1alpha1.AgentGroup, "system:masters"}}
			agent, err := client.New(config, client.Options{Scheme: scheme})
			if err != nil {
				return err
			}
			return agent.Create(ctx, release("default", "probe", "", ""), client.DryRunAll)
		},
	}
	for name, probe := range probes {
		if err := enforced(ctx, "the policy "+name, func() (bool, error) {
			err := probe()
			return err != nil && strings.Contains(err.Error(), "'"+name+"'"), err
		}); err != nil {
			return err
		}
	}
	// The mutating policy refuses nothing: its effect shows in the answer.
	return enforced(ctx, "the policy that fills in "+v1alpha1.AnnotationCreatedBy, func() (bool, error) {
		r := release("default", "probe", "", "")
		err := admin.Create(ctx, r, client.DryRunAll)
		return err == nil && r.Annotations[v1alpha1.AnnotationCreatedBy] != "", err
	})
}

func enforced(ctx context.Context, what string, holds func() (bool, error)) error {
	var answer error
	err := wait.PollUntilContextCancel(ctx, 20*time.Millisecond, true, func(context.Context) (ok bool, _ error) {
		ok, answer = holds()
		return ok, nil
	})
	if err != nil {
		return fmt.Errorf("%s is not enforced: %w", what, errors.Join(err, answer))
	}
	return nil
}

// as returns a client of that user, who is impersonated: authorization and admission see the user and not the test.
func as(t *testing.T, user string, groups ...string) client.WithWatch {
	t.Helper()
	config := rest.CopyConfig(cptest.Start(t).Config)
	config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: append(slices.Clone(groups), "system:authenticated")}
	c, err := client.NewWithWatch(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// controller returns a client of an administrator, who stands for the controllers.
func controller(t *testing.T) client.WithWatch {
	t.Helper()
	return as(t, "system:serviceaccount:sirrat-system:sirrat", "system:masters")
}

// newProject makes a namespace in which the people of the tests have their roles, as the Project controller does.
func newProject(t *testing.T) string {
	t.Helper()
	env := cptest.Start(t)
	ns := env.Namespace(t)
	for role, users := range members {
		binding := &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: role},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		}
		for _, user := range users {
			binding.Subjects = append(binding.Subjects, rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: "User", Name: user})
		}
		if _, err := env.Client.RbacV1().RoleBindings(ns).Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	cptest.Wait(t, "the roles to take effect", func(ctx context.Context) error {
		for _, users := range members {
			for _, user := range users {
				if err := as(t, user).List(ctx, &v1alpha1.PVList{}, client.InNamespace(ns)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return ns
}

// release returns a valid Release with one annotation, or none when key is empty.
func release(ns, name, key, value string) *v1alpha1.Release {
	r := &v1alpha1.Release{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name},
		Spec:       v1alpha1.ReleaseSpec{Commit: commit},
	}
	if key != "" {
		r.Annotations = map[string]string{key: value}
	}
	return r
}

func newPV(ns, name string) *v1alpha1.PV {
	return &v1alpha1.PV{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, Labels: map[string]string{v1alpha1.LabelRelease: "a1b2c3d"}},
		Spec: v1alpha1.PVSpec{
			Release:      v1alpha1.PVRelease{Name: "a1b2c3d", UID: "5a4f", Commit: commit, BundleHash: digest('0'), AuthorizedAt: metav1.NowMicro()},
			Environment:  "rmoa-client",
			Client:       "Client SARL",
			Document:     `{"client":"Client SARL"}`,
			DocumentHash: digest('a'),
		},
	}
}

// digest is a well-formed digest of nothing.
func digest(c byte) string { return "sha256:" + strings.Repeat(string(c), 64) }

// mustCreate creates an object in the controllers' place.
func mustCreate[T client.Object](t *testing.T, object T) T {
	t.Helper()
	if err := controller(t).Create(t.Context(), object); err != nil {
		t.Fatalf("create %T %s: %v", object, object.GetName(), err)
	}
	return object
}

// merge is a JSON merge patch.
func merge(format string, args ...any) client.Patch {
	return client.RawPatch(types.MergePatchType, fmt.Appendf(nil, format, args...))
}

// wantRefused fails unless the API refused with a message that holds every one of parts.
func wantRefused(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("accepted, want a refusal")
	}
	if !apierrors.IsForbidden(err) && !apierrors.IsInvalid(err) && !apierrors.IsBadRequest(err) {
		t.Fatalf("failed for another reason: %v", err)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("refused with\n%v\nwhich does not say %q", err, part)
		}
	}
}

func wantAccepted(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("refused: %v", err)
	}
}

// manifests decodes a YAML file with several documents.
func manifests(t *testing.T, path string) []*unstructured.Unstructured {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, data)
}

// bind gives a user a role in a namespace.
func bind(t *testing.T, ns, role, user string, groups ...string) {
	t.Helper()
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{GenerateName: role + "-", Namespace: ns},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
	}
	if user != "" {
		binding.Subjects = append(binding.Subjects, rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: "User", Name: user})
	}
	for _, group := range groups {
		binding.Subjects = append(binding.Subjects, rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: "Group", Name: group})
	}
	mustCreate(t, binding)
}

// eventually repeats an attempt until it is accepted: the API server learns of new bindings a moment after they are stored.
func eventually(t *testing.T, what string, attempt func() error) {
	t.Helper()
	cptest.Wait(t, what, func(context.Context) error { return attempt() })
}
