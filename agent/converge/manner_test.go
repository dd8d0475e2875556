// SPDX-License-Identifier: Apache-2.0

package converge

import (
	"strings"
	"testing"

	"gitlab.com/dynors/sirrat/internal/composefile"
)

func TestMannerOf(t *testing.T) {
	for name, c := range map[string]struct {
		service, rest string
		recreate      bool
		order         Order
		because       string
		ignored       string
	}{
		"plain":                      {order: StartFirst},
		"plain, environment says so": {recreate: true, order: InPlace},
		"its own start-first":        {service: "deploy: {update_config: {order: start-first}}", recreate: true, order: StartFirst},
		"its own stop-first":         {service: "deploy: {update_config: {order: stop-first}}", order: InPlace},
		"some at a time":             {service: "deploy: {replicas: 3, update_config: {order: stop-first}}", order: StopFirst},
		"all at a time":              {service: "deploy: {replicas: 3, update_config: {order: stop-first, parallelism: 0}}", order: InPlace},
		"delay in vain":              {service: "deploy: {update_config: {order: stop-first, delay: 10s}}", order: InPlace, ignored: "delay"},
		"failure action":             {service: "deploy: {update_config: {failure_action: pause}}", order: StartFirst, ignored: "failure_action pause"},
		"rollback":                   {service: "deploy: {update_config: {failure_action: rollback}}", order: StartFirst},
		"failure ratio":              {service: "deploy: {update_config: {max_failure_ratio: 0.2}}", order: StartFirst, ignored: "max_failure_ratio"},
		"host port":                  {service: "ports: [\"80:80\"]", because: "the port 80"},
		"ephemeral port":             {service: "ports: [\"80\"]", order: StartFirst},
		"range of ports":             {service: "ports: [\"8000-8003:80\"]\n    scale: 2", order: StartFirst},
		"range too narrow":           {service: "ports: [\"8000-8002:80\"]\n    scale: 2", because: "the port 8000-8002"},
		"container_name":             {service: "container_name: web", because: "container_name"},
		"volume":                     {service: "volumes: [\"data:/v\"]", rest: "volumes: {data: {}}", because: "it writes to data"},
		"volume read only":           {service: "volumes: [\"data:/v:ro\"]", rest: "volumes: {data: {}}", order: StartFirst},
		"volume shared":              {service: "volumes: [\"data:/v\"]\n    x-sirrat: {sharedVolumes: true}", rest: "volumes: {data: {}}", order: StartFirst},
		"bind":                       {service: "volumes: [\"/srv:/v\"]", because: "it writes to /srv"},
		"tmpfs":                      {service: "tmpfs: [/tmp]", order: StartFirst},
		"host network":               {service: "network_mode: host", because: "server's network"},
		"other's network":            {service: "network_mode: \"service:other\"", rest: "", because: "shares namespaces"},
		"shared with other":          {rest: "  more: {image: a, pid: \"service:web\"}", because: "the service more shares"},
		"volumes_from":               {service: "volumes_from: [other]", because: "shares namespaces or volumes"},
		"links":                      {service: "links: [other]", because: "links"},
		"device":                     {service: "devices: [\"/dev/null\"]", because: "device"},
		"fixed address":              {service: "networks: {n: {ipv4_address: 10.1.2.3}}", rest: "networks: {n: {ipam: {config: [{subnet: 10.1.2.0/24}]}}}", because: "fixed address in the network n"},
		"fixed MAC address":          {service: "mac_address: 02:42:ac:11:65:43", because: "fixed address"},
	} {
		t.Run(name, func(t *testing.T) {
			text := "services:\n  other: {image: a}\n  web:\n    image: a\n    " + c.service + "\n" + c.rest
			project, err := composefile.Load(t.Context(), text, "p", nil)
			if err != nil {
				t.Fatal(err)
			}
			m := MannerOf(project, project.Services["web"], !c.recreate)
			if m.Order != c.order {
				t.Errorf("order %s, want %s", m.Order, c.order)
			}
			if (c.because == "") != (m.InPlaceBecause == "") || !strings.Contains(m.InPlaceBecause, c.because) {
				t.Errorf("because %q, want %q", m.InPlaceBecause, c.because)
			}
			if ignored := strings.Join(m.Ignored, ", "); (c.ignored == "") != (ignored == "") || !strings.Contains(ignored, c.ignored) {
				t.Errorf("ignored %q, want %q", ignored, c.ignored)
			}
		})
	}
}
