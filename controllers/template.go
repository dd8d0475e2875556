// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// day is a calendar day of soak.
const day = 24 * time.Hour

// templateDynors is the bridge of the seed: ci → qa → client → production. The compose file starts as one service per
// image, for the user to replace.
func templateDynors(p *v1alpha1.Project) []client.Object {
	var out []client.Object
	environment := func(name, after string, tags ...string) {
		out = append(out, &v1alpha1.Environment{
			ObjectMeta: templated(p, name),
			Spec: v1alpha1.EnvironmentSpec{
				After: after, Tags: tags,
				Hosts:   &metav1.LabelSelector{MatchLabels: map[string]string{v1alpha1.LabelEnvironment: name}},
				Compose: v1alpha1.ComposeSource{Inline: startingCompose(p)},
			},
		})
	}
	environment("dev", "", "dev-{{ .SHA7 }}")
	environment("rmoa-dynors", "dev", "rmoa-dynors-{{ .SHA7 }}")
	environment("rmoa-client", "rmoa-dynors", "rmoa-client-{{ .SHA7 }}")
	environment("production", "rmoa-client", "{{ .Version }}", "latest")

	gate := func(number int32, name, environment, mode string, criteria ...v1alpha1.Criterion) {
		out = append(out, &v1alpha1.QualityGate{
			ObjectMeta: templated(p, name),
			Spec:       v1alpha1.QualityGateSpec{Number: number, Environment: environment, Mode: mode, Criteria: criteria},
		})
	}
	none := int32(0)
	approval := &v1alpha1.ApprovalCriterion{Minimum: 1}
	gate(0, "ci", "dev", v1alpha1.ModeAutomatic,
		v1alpha1.Criterion{Name: "tests", Result: &v1alpha1.ResultCriterion{Type: v1alpha1.TypeTests}},
		v1alpha1.Criterion{Name: "coverage", Coverage: &v1alpha1.CoverageCriterion{Minimum: 80}},
		v1alpha1.Criterion{Name: "scan", Result: &v1alpha1.ResultCriterion{Type: v1alpha1.TypeScan, MaxCritical: &none}},
		v1alpha1.Criterion{Name: "images", Images: &v1alpha1.ImagesCriterion{}})
	gate(1, "qa", "rmoa-dynors", v1alpha1.ModeManual,
		v1alpha1.Criterion{Name: "healthy", Healthy: &v1alpha1.HealthyCriterion{Environment: "dev"}},
		v1alpha1.Criterion{Name: "testing", Soak: soak("dev", 3*day, 5*day)},
		v1alpha1.Criterion{Name: "approval", Approval: approval})
	gate(2, "client", "rmoa-client", v1alpha1.ModeManual,
		v1alpha1.Criterion{Name: "healthy", Healthy: &v1alpha1.HealthyCriterion{Environment: "rmoa-dynors"}},
		v1alpha1.Criterion{Name: "approval", Approval: approval})
	gate(3, "production", "production", v1alpha1.ModeManual,
		v1alpha1.Criterion{Name: "healthy", Healthy: &v1alpha1.HealthyCriterion{Environment: "rmoa-client"}},
		v1alpha1.Criterion{Name: "client-testing", Soak: soak("rmoa-client", 7*day, 14*day)},
		v1alpha1.Criterion{Name: "pv", PV: &v1alpha1.PVCriterion{AllowReservations: true}},
		v1alpha1.Criterion{Name: "cto", Approval: approval})
	return out
}

// templateModule is the way of a module: ci → published. There are no environments: nothing of it is deployed.
func templateModule(p *v1alpha1.Project) []client.Object {
	gate := func(number int32, name, mode string, criteria ...v1alpha1.Criterion) client.Object {
		return &v1alpha1.QualityGate{ObjectMeta: templated(p, name), Spec: v1alpha1.QualityGateSpec{Number: number, Mode: mode, Criteria: criteria}}
	}
	none := int32(0)
	return []client.Object{
		gate(0, "ci", v1alpha1.ModeAutomatic,
			v1alpha1.Criterion{Name: "tests", Result: &v1alpha1.ResultCriterion{Type: v1alpha1.TypeTests}},
			v1alpha1.Criterion{Name: "coverage", Coverage: &v1alpha1.CoverageCriterion{Minimum: 80}},
			v1alpha1.Criterion{Name: "scan", Result: &v1alpha1.ResultCriterion{Type: v1alpha1.TypeScan, MaxCritical: &none}}),
		gate(1, "published", v1alpha1.ModeManual,
			v1alpha1.Criterion{Name: "artifacts", Artifacts: &v1alpha1.ArtifactsCriterion{}},
			v1alpha1.Criterion{Name: "approval", Approval: &v1alpha1.ApprovalCriterion{Minimum: 1}}),
	}
}

func templated(p *v1alpha1.Project, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: p.Name, Labels: map[string]string{v1alpha1.LabelTemplate: v1alpha1.TemplateDynors}}
}

func soak(environment string, low, high time.Duration) *v1alpha1.SoakCriterion {
	return &v1alpha1.SoakCriterion{Environment: environment, Min: metav1.Duration{Duration: low}, Max: metav1.Duration{Duration: high}}
}

func startingCompose(p *v1alpha1.Project) string {
	if len(p.Spec.Images) == 0 {
		return ""
	}
	text := "services:\n"
	for _, img := range p.Spec.Images {
		text += fmt.Sprintf("  %s:\n    image: %s\n    restart: unless-stopped\n", img.Name, img.Repository)
	}
	return text
}
