// SPDX-License-Identifier: Apache-2.0

package hostpolicy

import (
	"strings"
	"testing"

	"gitlab.com/dynors/sirrat/internal/composefile"
)

// Whatever loads can be judged, and a policy that allows more never refuses more.
func FuzzLoadAndJudge(f *testing.F) {
	f.Add("services: {web: {image: a, privileged: true, volumes: ['/etc:/e'], ports: ['1-5:1-5']}}")
	f.Add("services: {web: {image: a, env_file: /a}}\nvolumes: {v: {driver_opts: {o: bind, device: /x}}}\nnetworks: {n: {external: true}}")
	f.Add("services: {web: {image: a, deploy: {resources: {limits: {devices: [{capabilities: [gpu]}]}}}}}\nconfigs: {c: {file: /a}}")
	open := parse(f, all)
	f.Fuzz(func(t *testing.T, text string) {
		project, err := composefile.Load(t.Context(), text, "p", values)
		if err != nil {
			return
		}
		refused := map[string]bool{}
		for _, finding := range Default().Judge(Subject{Model: project}, nil) {
			refused[finding.Object+"."+finding.Field] = true
			if finding.Asks == "" || finding.Rule == "" || strings.Contains(finding.String(), "%!") {
				t.Errorf("finding %+v", finding)
			}
		}
		for _, finding := range open.Judge(Subject{Model: project}, nil) {
			if !refused[finding.Object+"."+finding.Field] {
				t.Errorf("allowed by default, refused by a policy that allows all: %+v", finding)
			}
		}
	})
}
