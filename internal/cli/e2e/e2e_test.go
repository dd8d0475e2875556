// SPDX-License-Identifier: Apache-2.0

// Package e2e plays kubectl-sirrat against a real control plane with the real admission policies, roles and controllers,
// each command with the rights of the person who would run it.
package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/controllers"
	"gitlab.com/dynors/sirrat/controllers/controllertest"
	"gitlab.com/dynors/sirrat/internal/cli"
	"gitlab.com/dynors/sirrat/internal/controlplane"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/install"
)

// running are the controllers of this process, once cptest.Start has returned.
var running *controllertest.Running

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	ctx := context.Background() // as long as the process
	cptest.Main(m,
		func(ctx context.Context, e *cptest.Env) error { return install.Apply(ctx, e.Config) },
		func(ctx context.Context, e *cptest.Env) error { return install.WaitEnforced(ctx, e.Config) },
		func(_ context.Context, e *cptest.Env) error {
			var err error
			running, err = controllertest.Start(ctx, e, controllertest.Options{})
			return err
		})
}

// People of the tests.
const (
	admin    = "root@dynors.com"
	operator = "op@dynors.com"
	dev      = "dev@dynors.com"
	qa       = "qa@dynors.com"
	cto      = "cto@dynors.com"
	customer = "recette@client.example"
)

// kit is one test's project and the ways to act on it.
type kit struct {
	*cptest.Env
	client  client.WithWatch
	project string
	dir     string
}

func newKit(t *testing.T) *kit {
	t.Helper()
	e := cptest.Start(t)
	scheme, err := controllers.NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.NewWithWatch(e.Config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	return &kit{Env: e, client: c, dir: t.TempDir(), project: strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-"))}
}

// outcome is what a command did.
type outcome struct {
	out, err string
	code     int
}

// as runs a command as somebody, answering the questions it asks; with no answers there is no terminal.
func (k *kit) as(t *testing.T, user string, answers []string, args ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), cptest.Deadline)
	defer cancel()
	var out, errOut bytes.Buffer
	in := strings.NewReader(strings.Join(answers, "\n") + "\n")
	w := cli.World{
		In: in, Out: &out, Err: &errOut, Getenv: func(string) string { return "" }, Zone: time.UTC,
		IsTerminal: func(stream any) bool { return stream == in && len(answers) > 0 },
		Patience:   cptest.Deadline / 2,
	}
	args = append([]string{"--kubeconfig", k.kubeconfig(t, user)}, args...)
	code := cli.Main(ctx, w, args)
	return outcome{out.String(), errOut.String(), code}
}

func (k *kit) kubeconfig(t *testing.T, user string) string {
	t.Helper()
	file := filepath.Join(k.dir, user)
	if _, err := os.Stat(file); err == nil {
		return file
	}
	issue := func() ([]byte, error) { return controlplane.IssueKubeconfig(k.DataDir, user, nil, "", time.Hour) }
	if user == admin {
		issue = func() ([]byte, error) { return controlplane.IssueAdminKubeconfig(k.DataDir, user, "", time.Hour) }
	}
	data, err := issue()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// expect fails unless the command ended with code and said every part, in its output or beside it.
func (o outcome) expect(t *testing.T, code int, parts ...string) {
	t.Helper()
	if o.code != code {
		t.Fatalf("exit code %d, want %d\n--- out\n%s\n--- err\n%s", o.code, code, o.out, o.err)
	}
	for _, part := range parts {
		if !strings.Contains(o.out+o.err, part) {
			t.Errorf("does not say %q\n--- out\n%s\n--- err\n%s", part, o.out, o.err)
		}
	}
}

func (k *kit) create(t *testing.T, objects ...client.Object) {
	t.Helper()
	for _, o := range objects {
		if err := k.client.Create(t.Context(), o); err != nil {
			t.Fatalf("create %T %s: %v", o, o.GetName(), err)
		}
	}
}

// bind gives a person a ClusterRole, in the project or everywhere.
func (k *kit) bind(t *testing.T, user, role, namespace string) {
	t.Helper()
	ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role}
	subjects := []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}}
	meta := metav1.ObjectMeta{GenerateName: "e2e-", Namespace: namespace}
	if namespace == "" {
		k.create(t, &rbacv1.ClusterRoleBinding{ObjectMeta: meta, RoleRef: ref, Subjects: subjects})
		return
	}
	k.create(t, &rbacv1.RoleBinding{ObjectMeta: meta, RoleRef: ref, Subjects: subjects})
}

// projectYAML takes project, repository, public key and the three people.
const projectYAML = `
apiVersion: sirrat.dynors.com/v1alpha1
kind: Project
metadata: {name: %s}
spec:
  displayName: SuperGest
  images: [{name: backend, repository: "%s"}]
  client: {name: Client SARL, signatories: [{name: Claire Client}], publicKeys: [%s]}
  members: {developer: [%s], qa: [%s], cto: [%s]}
`

const bridgeYAML = `
apiVersion: sirrat.dynors.com/v1alpha1
kind: Environment
metadata: {name: dev, namespace: PROJECT}
spec: {}
---
apiVersion: sirrat.dynors.com/v1alpha1
kind: Environment
metadata: {name: recette, namespace: PROJECT}
spec: {after: dev}
---
apiVersion: sirrat.dynors.com/v1alpha1
kind: Environment
metadata: {name: production, namespace: PROJECT}
spec: {after: recette}
---
apiVersion: sirrat.dynors.com/v1alpha1
kind: QualityGate
metadata: {name: ci, namespace: PROJECT}
spec: {number: 0, environment: dev, mode: Automatic, criteria: [{name: images, images: {}}]}
---
apiVersion: sirrat.dynors.com/v1alpha1
kind: QualityGate
metadata: {name: qa, namespace: PROJECT}
spec: {number: 1, environment: recette, criteria: [{name: approval, approval: {allowCreator: true}}]}
---
apiVersion: sirrat.dynors.com/v1alpha1
kind: QualityGate
metadata: {name: production, namespace: PROJECT}
spec:
  number: 2
  environment: production
  criteria: [{name: approval, approval: {allowCreator: true}}, {name: pv, pv: {allowReservations: true}}]
`

// apply creates the objects of a manifest, as a user writes them.
func (k *kit) apply(t *testing.T, manifest string) {
	t.Helper()
	for text := range strings.SplitSeq(manifest, "\n---\n") {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(text), &object.Object); err != nil {
			t.Fatal(err)
		}
		k.create(t, object)
	}
}

// bridge makes a project of three environments that a pipeline deploys by itself, and waits until its people can act.
func (k *kit) bridge(t *testing.T, publicKey, repository string) {
	t.Helper()
	k.bridgeOf(t, publicKey, repository, bridgeYAML)
}

// bridgeOf is bridge with other environments and gates.
func (k *kit) bridgeOf(t *testing.T, publicKey, repository, manifest string) {
	t.Helper()
	k.apply(t, fmt.Sprintf(projectYAML, k.project, repository, strings.TrimPrefix(fmt.Sprintf("%q", publicKey), `""`), dev, qa, cto))
	cptest.Wait(t, "the project", func(ctx context.Context) error {
		var p v1alpha1.Project
		if err := k.client.Get(ctx, client.ObjectKey{Name: k.project}, &p); err != nil {
			return err
		}
		for _, c := range p.Status.Conditions {
			if c.Type == v1alpha1.ConditionReady && c.Status == metav1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("conditions %v", p.Status.Conditions)
	})
	k.apply(t, strings.ReplaceAll(manifest, "PROJECT", k.project))
	cptest.Wait(t, "the roles", func(context.Context) error {
		if o := k.as(t, qa, nil, "status", "-n", k.project); o.code != 0 {
			return fmt.Errorf("%s", o.err)
		}
		return nil
	})
}

// release pushes an image for a commit, makes its release and waits until it waits at the gate qa.
func (k *kit) release(t *testing.T, repository, commit string) string {
	t.Helper()
	name := k.push(t, repository, commit)
	k.deployed(t, commit, "dev")
	k.await(t, name, "qa", v1alpha1.VerdictWaiting)
	return name
}

// push pushes an image for a commit and makes its release.
func (k *kit) push(t *testing.T, repository, commit string, edits ...func(*v1alpha1.Release)) string {
	t.Helper()
	image, err := random.Image(64, 1)
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(repository + ":dev-" + v1alpha1.ShortSHA(commit))
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, image, remote.WithContext(t.Context())); err != nil {
		t.Fatal(err)
	}
	r := &v1alpha1.Release{
		// Named, as the HTTP API does: the policy that fills it in knows new kinds a few seconds after their first installation.
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ShortSHA(commit), Namespace: k.project, Annotations: map[string]string{
			v1alpha1.AnnotationCreatedBy: controlplane.ServerUser,
		}},
		Spec: v1alpha1.ReleaseSpec{Commit: commit, Branch: "release/1.3\u202e", Version: "v1.3.0"},
	}
	for _, edit := range edits {
		edit(r)
	}
	k.create(t, r)
	return r.Name
}

// deployed reports, as the HTTP API would have stored it, that a pipeline deployed a commit.
func (k *kit) deployed(t *testing.T, commit, environment string) {
	t.Helper()
	k.create(t, &v1alpha1.CIResult{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: "deployment-", Namespace: k.project, Labels: map[string]string{v1alpha1.LabelCommit: v1alpha1.ShortSHA(commit)},
		},
		Spec: v1alpha1.CIResultSpec{
			Commit: commit, Type: v1alpha1.TypeDeployment, Status: v1alpha1.StatusDeployed, Environment: environment,
			Received: metav1.Now(), ReportHash: "sha256:" + strings.Repeat("0", 64),
		},
	})
}

func (k *kit) await(t *testing.T, release, gate string, want v1alpha1.Verdict) {
	t.Helper()
	cptest.Wait(t, fmt.Sprintf("gate %s to be %s", gate, want), func(ctx context.Context) error {
		var r v1alpha1.Release
		if err := k.client.Get(ctx, client.ObjectKey{Namespace: k.project, Name: release}, &r); err != nil {
			return err
		}
		for _, g := range r.Status.Gates {
			if g.Name == gate && g.Verdict == want && r.Status.Bundle != nil {
				return nil
			}
		}
		return fmt.Errorf("gates %+v, conditions %+v", r.Status.Gates, r.Status.Conditions)
	})
}

// images is an OCI registry for one test.
func images(t *testing.T) (repository string) {
	t.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://") + "/supergest/backend"
}
