// SPDX-License-Identifier: Apache-2.0

// Package chart checks the Helm chart: it lints, every object it renders is valid to the strictest reader, and wrong
// values are refused with the name of the value.
package chart

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	clientscheme "k8s.io/client-go/kubernetes/scheme"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

const (
	root    = "../.."
	oldest  = "1.30.0"
	current = "1.37.0"
)

// comment is a line of YAML that says nothing to a program.
var comment = regexp.MustCompile(`(?m)^(#.*|---)$`)

// helmProgram builds helm once, from the tools' own module file: it is no dependency of the product.
var helmProgram = sync.OnceValues(func() (string, error) {
	cmd := exec.Command("go", "tool", "-n", "-modfile=hack/tools/go.mod", "helm")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return "", fmt.Errorf("build helm: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
})

// helm runs helm on the chart with an empty configuration of its own.
func helm(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	program, err := helmProgram()
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	cmd := exec.Command(program, args...)
	cmd.Dir = root
	cmd.Env = append(cmd.Environ(), "HELM_CONFIG_HOME="+home, "HELM_CACHE_HOME="+home, "HELM_DATA_HOME="+home)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err = cmd.Run()
	return out.String(), errOut.String(), err
}

// render returns the decoded objects of the chart with these arguments.
func render(t *testing.T, args ...string) []runtime.Object {
	t.Helper()
	out, stderr, err := helm(t, append([]string{"template", "sirrat", "charts/sirrat",
		"--namespace", v1alpha1.SystemNamespace, "--include-crds"}, args...)...)
	if err != nil {
		t.Fatalf("helm template: %v\n%s", err, stderr)
	}
	return decode(t, out)
}

// decode reads every document, refusing unknown and repeated fields as the API server does with fieldValidation=Strict.
func decode(t *testing.T, text string) []runtime.Object {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientscheme.AddToScheme, apiextensionsv1.AddToScheme, v1alpha1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	var objects []runtime.Object
	documents := yaml.NewYAMLReader(bufio.NewReader(strings.NewReader(text)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(strings.TrimSpace(comment.ReplaceAllString(string(document), ""))) == 0 {
			continue
		}
		object, _, err := decoder.Decode(document, nil, nil)
		if err != nil {
			t.Errorf("decode: %v\n%s", err, document)
			continue
		}
		objects = append(objects, object)
	}
}

// names lists "Kind/name" of objects, sorted.
func names(t *testing.T, objects []runtime.Object) []string {
	t.Helper()
	var all []string
	for _, object := range objects {
		accessor, err := meta.Accessor(object)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, object.GetObjectKind().GroupVersionKind().Kind+"/"+accessor.GetName())
	}
	slices.Sort(all)
	return all
}

func TestLint(t *testing.T) {
	t.Parallel()
	out, stderr, err := helm(t, "lint", "--strict", "--kube-version", current, "--namespace", v1alpha1.SystemNamespace, "charts/sirrat")
	if err != nil {
		t.Fatalf("helm lint: %v\n%s%s", err, out, stderr)
	}
}

func TestRenders(t *testing.T) {
	t.Parallel()
	all := []string{
		"ClusterRole/sirrat-agent", "ClusterRole/sirrat-controller", "ClusterRole/sirrat-cto",
		"ClusterRole/sirrat-developer", "ClusterRole/sirrat-operator", "ClusterRole/sirrat-qa", "ClusterRole/sirrat-viewer",
		"ClusterRoleBinding/sirrat-controller",
		"CustomResourceDefinition/projects.sirrat.dynors.com", "CustomResourceDefinition/rollouts.sirrat.dynors.com",
		"Deployment/sirrat", "Service/sirrat", "ServiceAccount/sirrat",
		"ValidatingAdmissionPolicy/sirrat-approvals", "ValidatingAdmissionPolicyBinding/sirrat-approvals",
	}
	for name, tc := range map[string]struct {
		args       []string
		want, lack []string
	}{
		"defaults": {
			args: []string{"--kube-version", current},
			want: append(all, "MutatingAdmissionPolicy/sirrat-created-by", "PersistentVolumeClaim/sirrat-archive"), lack: []string{"Ingress/sirrat"},
		},
		"oldest Kubernetes": {
			args: []string{"--kube-version", oldest},
			want: all, lack: []string{"MutatingAdmissionPolicy/sirrat-created-by"},
		},
		"everything": {
			args: []string{"--kube-version", current,
				"--set", "ingress.enabled=true,ingress.host=sirrat.dynors.com,ingress.tlsSecret=tls,ingress.className=nginx",
				"--set", "archive.bucket=s3+https://s3.example/sirrat,archive.credentialsSecret=s3,mail.smtp=smtps://mail.example:465,mail.user=u,mail.passwordSecret=m",
				"--set", "replicas=2,image.digest=sha256:" + strings.Repeat("a", 64),
				"--set", "allowPrivateAddresses={10.1.0.0/16,fd00::7}",
				"--set", "imagePullSecrets={pull},extraArgs={--v=2},extraEnv[0].name=A,extraEnv[0].value=b",
				"--set", "podLabels.a=b,podAnnotations.a=b,nodeSelector.a=b,tolerations[0].key=x,priorityClassName=high",
				"--set", "serviceAccount.name=guardian,serviceAccount.annotations.a=b,service.annotations.a=b,ingress.annotations.a=b"},
			want: []string{"Ingress/sirrat", "ServiceAccount/guardian"}, lack: []string{"ServiceAccount/sirrat", "PersistentVolumeClaim/sirrat-archive"},
		},
		"without what the cluster has already": {
			args: []string{"--kube-version", current, "--set", "rbac.create=false,policies.create=false,serviceAccount.create=false"},
			want: []string{"Deployment/sirrat"},
			lack: []string{"ClusterRole/sirrat-qa", "ValidatingAdmissionPolicy/sirrat-approvals", "ServiceAccount/sirrat"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := names(t, render(t, tc.args...))
			for _, want := range tc.want {
				if !slices.Contains(got, want) {
					t.Errorf("%s is missing among\n%s", want, strings.Join(got, "\n"))
				}
			}
			for _, lack := range tc.lack {
				if slices.Contains(got, lack) {
					t.Errorf("%s is there and should not be", lack)
				}
			}
		})
	}
}

// TestDeploymentIsHardened: the pod meets the restricted Pod Security Standard.
func TestDeploymentIsHardened(t *testing.T) {
	t.Parallel()
	objects := render(t, "--kube-version", current)
	i := slices.IndexFunc(objects, func(o runtime.Object) bool { _, ok := o.(*appsv1.Deployment); return ok })
	if i < 0 {
		t.Fatal("no Deployment")
	}
	pod := objects[i].(*appsv1.Deployment).Spec.Template.Spec
	container := pod.Containers[0]
	for what, holds := range map[string]bool{
		"not root":              *pod.SecurityContext.RunAsNonRoot,
		"seccomp":               pod.SecurityContext.SeccompProfile.Type == "RuntimeDefault",
		"read-only file system": *container.SecurityContext.ReadOnlyRootFilesystem,
		"no escalation":         !*container.SecurityContext.AllowPrivilegeEscalation,
		"no capabilities":       slices.Equal(container.SecurityContext.Capabilities.Drop, []corev1.Capability{"ALL"}),
		"probes":                container.LivenessProbe != nil && container.ReadinessProbe != nil && container.StartupProbe != nil,
		"bounded memory":        !container.Resources.Limits.Memory().IsZero(),
		"leader election":       slices.Contains(container.Args, "--leader-elect"),
	} {
		if !holds {
			t.Errorf("the Deployment lacks: %s", what)
		}
	}
}

// TestCopies: the chart carries exactly what config/ holds.
func TestCopies(t *testing.T) {
	t.Parallel()
	for source, copied := range map[string]string{
		"config/crd": "charts/sirrat/crds", "config/rbac": "charts/sirrat/files/rbac", "config/policies": "charts/sirrat/files/policies",
	} {
		out, err := exec.Command("diff", "-r", filepath.Join(root, source), filepath.Join(root, copied)).CombinedOutput()
		if err != nil {
			t.Errorf("%s differs from %s; run make generate\n%s", copied, source, out)
		}
	}
}

func TestWrongValuesAreRefused(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ set, want string }{
		"unknown value":           {"replica=2", "replica"},
		"too many replicas":       {"replicas=50", "replicas"},
		"replicas and a volume":   {"replicas=2", "archive.bucket"},
		"not a bucket":            {"archive.bucket=https://s3.example", "bucket"},
		"no password":             {"mail.user=u", "passwordSecret"},
		"replicas in words":       {"replicas=two", "replicas"},
		"wrong policy":            {"image.pullPolicy=Sometimes", "pullPolicy"},
		"wrong digest":            {"image.digest=sha256:abc", "digest"},
		"wrong port":              {"service.port=70000", "port"},
		"a name for an address":   {"allowPrivateAddresses={gitlab.example}", "allowPrivateAddresses"},
		"ingress without a host":  {"ingress.enabled=true", "host"},
		"annotation not a string": {"podAnnotations.a=1", "podAnnotations"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, stderr, err := helm(t, "template", "sirrat", "charts/sirrat", "--namespace", v1alpha1.SystemNamespace,
				"--kube-version", current, "--set", tc.set)
			if err == nil {
				t.Fatalf("--set %s was accepted", tc.set)
			}
			if !strings.Contains(stderr, tc.want) {
				t.Errorf("the error does not name %s: %s", tc.want, stderr)
			}
		})
	}
}

func TestOtherNamespaceIsRefused(t *testing.T) {
	t.Parallel()
	_, stderr, err := helm(t, "template", "sirrat", "charts/sirrat", "--namespace", "default", "--kube-version", current)
	if err == nil || !strings.Contains(stderr, v1alpha1.SystemNamespace) {
		t.Errorf("installing elsewhere: error %v, %s", err, stderr)
	}
}
