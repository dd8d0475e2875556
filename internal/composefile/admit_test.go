// SPDX-License-Identifier: Apache-2.0

package composefile

import (
	"strings"
	"testing"
)

func TestAdmitRefuses(t *testing.T) {
	for name, c := range map[string]struct{ service, rest, want string }{
		"privileged":          {"privileged: true", "", "services.web.privileged"},
		"privileged text":     {"privileged: \"${YES}\"", "", "services.web.privileged"},
		"capability":          {"cap_add: [sys_admin]", "", "services.web.cap_add: the capability sys_admin"},
		"capability all":      {"cap_add: [ALL]", "", "services.web.cap_add"},
		"seccomp":             {"security_opt: [\"seccomp:unconfined\"]", "", "services.web.security_opt"},
		"seccomp file":        {"security_opt: [\"seccomp=/etc/shadow\"]", "", "services.web.security_opt"},
		"apparmor":            {"security_opt: [apparmor=unconfined]", "", "services.web.security_opt"},
		"label":               {"security_opt: [\"label:disable\"]", "", "services.web.security_opt"},
		"runtime":             {"runtime: nvidia", "", "services.web.runtime"},
		"cgroup parent":       {"cgroup_parent: /", "", "services.web.cgroup_parent"},
		"host network":        {"network_mode: host", "", "services.web.network_mode: sharing the server's network"},
		"container's network": {"network_mode: \"container:other\"", "", "services.web.network_mode: another project"},
		"other network":       {"network_mode: other_default", "", "services.web.network_mode"},
		"host pid":            {"pid: host", "", "services.web.pid"},
		"container's pid":     {"pid: \"container:other\"", "", "services.web.pid"},
		"host ipc":            {"ipc: host", "", "services.web.ipc"},
		"host uts":            {"uts: host", "", "services.web.uts"},
		"host user":           {"userns_mode: host", "", "services.web.userns_mode"},
		"host cgroup":         {"cgroup: host", "", "services.web.cgroup"},
		"device":              {"devices: [\"/dev/sda:/dev/sda\"]", "", "services.web.devices: /dev/sda"},
		"device rule":         {"device_cgroup_rules: [\"b 8:* rwm\"]", "", "services.web.device_cgroup_rules"},
		"gpus":                {"gpus: all", "", "services.web.gpus"},
		"reserved device":     {"deploy: {resources: {reservations: {devices: [{capabilities: [gpu]}]}}}", "", "services.web.deploy.resources"},
		"socket":              {"volumes: [\"/var/run/docker.sock:/s\"]", "", "services.web.volumes: the Docker socket"},
		"socket, other way":   {"volumes: [\"/run/./docker.sock:/s\"]", "", "services.web.volumes: the Docker socket"},
		"api socket":          {"use_api_socket: true", "", "services.web.use_api_socket"},
		"bind":                {"volumes: [\"/etc:/host\"]", "", "services.web.volumes: mounting a path of the server (/etc)"},
		"bind, long":          {"volumes: [{type: bind, source: /, target: /host}]", "", "services.web.volumes"},
		"bind, relative":      {"volumes: [\"./data:/data\"]", "", "services.web.volumes"},
		"bind, home":          {"volumes: [\"~/.ssh:/data\"]", "", "services.web.volumes"},
		"bind, by value":      {"volumes: [\"${FOLDER}:/data\"]", "", "services.web.volumes"},
		"bind, by extends":    {"extends: {service: base}", "  base: {image: a, volumes: [\"/etc:/e\"]}", "services.base.volumes"},
		"image mount":         {"volumes: [{type: image, source: alpine, target: /a}]", "", "services.web.volumes: a mount of type image"},
		"volumes of others":   {"volumes_from: [\"container:other\"]", "", "services.web.volumes_from"},
		"hook":                {"post_start: [{command: a, privileged: true}]", "", "services.web.post_start"},
		"label of compose":    {"labels: {com.docker.compose.project: other}", "", "services.web.labels"},
		"label of ours":       {"labels: [sirrat.dynors.com/project=other]", "", "services.web.labels"},
		"hidden bind":         {"volumes: [\"v:/v\"]", "volumes: {v: {driver_opts: {type: none, o: bind, device: /etc}}}", "volumes.v.driver_opts: mounting a path of the server (/etc)"},
		"hidden socket":       {"volumes: [\"v:/v\"]", "volumes: {v: {driver_opts: {type: none, o: bind, device: /var/run/docker.sock}}}", "volumes.v.driver_opts: the Docker socket"},
		"nfs":                 {"volumes: [\"v:/v\"]", "volumes: {v: {driver_opts: {type: nfs, o: addr=1.2.3.4, device: \":/x\"}}}", "volumes.v.driver_opts"},
		"volume driver":       {"volumes: [\"v:/v\"]", "volumes: {v: {driver: sshfs}}", "volumes.v.driver"},
		"network driver":      {"networks: [n]", "networks: {n: {driver: macvlan}}", "networks.n.driver"},
		"host by name":        {"networks: [n]", "networks: {n: {external: true, name: host}}", "networks.n.name"},
		"config file":         {"configs: [c]", "configs: {c: {file: /etc/shadow}}", "configs.c.file"},
		"secret file":         {"secrets: [c]", "secrets: {c: {file: ./shadow}}", "secrets.c.file"},
		"credential spec":     {"credential_spec: {file: a.json}", "", "services.web.credential_spec"},
	} {
		t.Run(name, func(t *testing.T) {
			text := "services:\n  web: {image: a, " + c.service + "}\n" + c.rest
			project, err := Load(t.Context(), text, "p", map[string]string{"YES": "true", "FOLDER": "/root"})
			if err != nil {
				t.Fatal(err)
			}
			err = Admit(project)
			if err == nil {
				t.Fatal("admitted")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %q does not say %q", err, c.want)
			}
		})
	}
}

func TestPolicyOpens(t *testing.T) {
	const text = `
services:
  web:
    image: a
    cap_add: [CAP_NET_ADMIN]
    network_mode: host
    security_opt: ["no-new-privileges:true", "seccomp:unconfined"]
    devices: ["/dev/ttyUSB0"]
    volumes: ["/srv/app/data:/data", "/srv/app:/app"]
`
	project, err := Load(t.Context(), text, "p", nil)
	if err != nil {
		t.Fatal(err)
	}
	policy := Policy{
		HostNamespaces: []string{"network"}, BindPaths: []string{"/srv/app/"}, Devices: []string{"/dev/ttyUSB0"},
		Capabilities: []string{"NET_ADMIN"}, SecurityOptions: []string{"seccomp=unconfined"},
	}
	if err := policy.Admit(project); err != nil {
		t.Error(err)
	}
	for _, source := range []string{"/srv/application", "/srv/app/../../etc", "/srv", "srv/app"} {
		if err := policy.admitBind("volumes", source); err == nil {
			t.Errorf("bind of %s admitted", source)
		}
	}
	if err := (Policy{BindPaths: []string{"/"}}).admitBind("volumes", "/var/run/docker.sock"); err == nil {
		t.Error("the Docker socket is admitted as a bind")
	}
}
