// SPDX-License-Identifier: Apache-2.0

package hostpolicy

import (
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/composefile"
)

var values = map[string]string{"YES": "true", "FOLDER": "/root"}

func load(t testing.TB, text string) *types.Project {
	t.Helper()
	project, err := composefile.Load(t.Context(), text, "p", values)
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// parse reads a policy that is right.
func parse(t testing.TB, text string) Policy {
	t.Helper()
	p, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestJudge(t *testing.T) {
	const never = ""
	for name, c := range map[string]struct {
		// service and rest are the compose file, want is the only finding, allow the policy that allows it.
		service, rest, want, allow string
	}{
		"privileged":          {"privileged: true", "", "services.web.privileged", "privileged: true"},
		"privileged text":     {"privileged: \"${YES}\"", "", "services.web.privileged", "privileged: true"},
		"capability":          {"cap_add: [sys_admin]", "", "services.web.cap_add: the capability sys_admin", "capabilities: [SYS_ADMIN]"},
		"capability, prefix":  {"cap_add: [CAP_NET_RAW]", "", "services.web.cap_add", "capabilities: [NET_*]"},
		"capability all":      {"cap_add: [ALL]", "", "services.web.cap_add", "capabilities: [ALL]"},
		"oom":                 {"oom_kill_disable: true", "", "services.web.oom_kill_disable", "capabilities: [SYS_RESOURCE]"},
		"oom score":           {"oom_score_adj: -900", "", "services.web.oom_score_adj", "capabilities: [SYS_RESOURCE]"},
		"seccomp":             {"security_opt: [\"seccomp:unconfined\"]", "", "services.web.security_opt", "securityOptions: [seccomp=unconfined]"},
		"seccomp file":        {"security_opt: [\"seccomp=/etc/shadow\"]", "", "services.web.security_opt", "securityOptions: [seccomp=/etc/shadow]"},
		"apparmor":            {"security_opt: [apparmor=unconfined]", "", "services.web.security_opt", "securityOptions: [\"*\"]"},
		"no new privileges":   {"security_opt: [\"no-new-privileges:false\"]", "", "services.web.security_opt", "securityOptions: [no-new-privileges=false]"},
		"label":               {"security_opt: [\"label:disable\"]", "", "services.web.security_opt", "securityOptions: [label=disable]"},
		"runtime":             {"runtime: nvidia", "", "services.web.runtime", "runtimes: [nvidia]"},
		"cgroup parent":       {"cgroup_parent: /", "", "services.web.cgroup_parent", never},
		"annotations":         {"annotations: {run.oci.hooks: x}", "", "services.web.annotations", never},
		"credential spec":     {"credential_spec: {file: a.json}", "", "services.web.credential_spec", never},
		"host network":        {"network_mode: host", "", "services.web.network_mode: sharing the server's network", "hostNamespaces: [network]"},
		"container's network": {"network_mode: \"container:other\"", "", "services.web.network_mode: another project", never},
		"other network":       {"network_mode: other_default", "", "services.web.network_mode", never},
		"host pid":            {"pid: host", "", "services.web.pid", "hostNamespaces: [pid]"},
		"container's pid":     {"pid: \"container:other\"", "", "services.web.pid", never},
		"host ipc":            {"ipc: host", "", "services.web.ipc", "hostNamespaces: [ipc]"},
		"container's ipc":     {"ipc: \"container:other\"", "", "services.web.ipc", never},
		"host uts":            {"uts: host", "", "services.web.uts", "hostNamespaces: [uts]"},
		"host user":           {"userns_mode: host", "", "services.web.userns_mode", "hostNamespaces: [user]"},
		"host cgroup":         {"cgroup: host", "", "services.web.cgroup", "hostNamespaces: [\"*\"]"},
		"device":              {"devices: [\"/dev/sda:/dev/sda\"]", "", "services.web.devices: /dev/sda", "devices: [/dev/sda]"},
		"cdi device":          {"devices: [\"vendor.com/gpu=all\"]", "", "services.web.devices", "devices: [vendor.com/gpu=all]"},
		"device rule":         {"device_cgroup_rules: [\"b 8:* rwm\"]", "", "services.web.device_cgroup_rules", "devices: [\"*\"]"},
		"gpus":                {"gpus: all", "", "services.web.gpus", "devices: [\"*\"]"},
		"reserved device":     {"deploy: {resources: {reservations: {devices: [{capabilities: [gpu]}]}}}", "", "services.web.deploy.resources", "devices: [\"*\"]"},
		"log driver":          {"logging: {driver: syslog, options: {syslog-address: \"unix:///var/run/docker.sock\"}}", "", "services.web.logging", "logDrivers: [syslog]"},
		"external link":       {"external_links: [other_db_1]", "", "services.web.external_links", never},

		"socket":               {"volumes: [\"/var/run/docker.sock:/s\"]", "", "services.web.volumes: the Docker socket", "engineSocket: true"},
		"socket, other way":    {"volumes: [\"/run/./docker.sock:/s\"]", "", "services.web.volumes: the Docker socket", "engineSocket: true"},
		"socket, dots":         {"volumes: [\"/srv/../run/docker.sock:/s\"]", "", "services.web.volumes: the Docker socket", "engineSocket: true"},
		"socket, read only":    {"volumes: [\"/run/docker.sock:/s:ro\"]", "", "services.web.volumes: the Docker socket", "engineSocket: true"},
		"containerd":           {"volumes: [\"/run/containerd/containerd.sock:/s\"]", "", "services.web.volumes: the Docker socket", "engineSocket: true"},
		"podman, rootless":     {"volumes: [\"/run/user/1000/podman/podman.sock:/s\"]", "", "services.web.volumes: the Docker socket", "engineSocket: true"},
		"socket's folder":      {"volumes: [\"/run:/s\"]", "", "services.web.volumes: the Docker socket or a folder", "engineSocket: true\nbindPaths: [/run]"},
		"its folder, var":      {"volumes: [\"/var/run/:/s\"]", "", "services.web.volumes: the Docker socket or a folder", "engineSocket: true\nbindPaths: [/var/run]"},
		"its folder, deep":     {"volumes: [\"/run/containerd:/s\"]", "", "services.web.volumes: the Docker socket or a folder", "engineSocket: true\nbindPaths: [/run]"},
		"api socket":           {"use_api_socket: true", "", "services.web.use_api_socket", "engineSocket: true"},
		"bind":                 {"volumes: [\"/home/x:/host\"]", "", "services.web.volumes: mounting a path of the server (/home/x)", "bindPaths: [/home]"},
		"bind, long":           {"volumes: [{type: bind, source: /srv/, target: /host}]", "", "services.web.volumes", "bindPaths: [/srv/]"},
		"bind, relative":       {"volumes: [\"./data:/data\"]", "", "services.web.volumes", never},
		"bind, home":           {"volumes: [\"~/.ssh:/data\"]", "", "services.web.volumes", never},
		"bind, by value":       {"volumes: [\"${FOLDER}:/data\"]", "", "services.web.volumes", "bindPaths: [/root]"},
		"/proc":                {"volumes: [\"/proc:/host\"]", "", "services.web.volumes", never},
		"/sys":                 {"volumes: [\"/sys/fs/cgroup:/host\"]", "", "services.web.volumes", never},
		"the policy":           {"volumes: [\"/etc/sirrat/host-policy.yaml:/p\"]", "", "services.web.volumes", never},
		"over the policy":      {"volumes: [\"/etc:/etc\"]", "", "services.web.volumes", never},
		"the agent's data":     {"volumes: [\"/var/lib/sirrat-agent/state:/p\"]", "", "services.web.volumes", never},
		"others' volumes":      {"volumes: [\"/var/lib/docker/volumes:/p\"]", "", "services.web.volumes", never},
		"image mount":          {"volumes: [{type: image, source: alpine, target: /a}]", "", "services.web.volumes: a mount of type image", never},
		"named pipe":           {"volumes: [{type: npipe, source: a, target: /a}]", "", "services.web.volumes: a mount of type npipe", never},
		"volumes of others":    {"volumes_from: [\"container:other\"]", "", "services.web.volumes_from", never},
		"hook":                 {"post_start: [{command: a, privileged: true}]", "", "services.web.post_start", "privileged: true"},
		"hook at the end":      {"pre_stop: [{command: a, privileged: true}]", "", "services.web.pre_stop", "privileged: true"},
		"label of compose":     {"labels: {com.docker.compose.project: other}", "", "services.web.labels", never},
		"label of ours":        {"labels: [Sirrat.dynors.com/project=other]", "", "services.web.labels", never},
		"env file":             {"env_file: /etc/app/app.env", "", "services.web.env_file: reading a path of the server (/etc/app/app.env)", "envFiles: [/etc/app]"},
		"env file, dots":       {"env_file: /etc/app/../shadow", "", "services.web.env_file", "envFiles: [/etc/shadow]"},
		"env file, policy":     {"env_file: /etc/sirrat/host-policy.yaml", "", "services.web.env_file", never},
		"environ of a process": {"env_file: [{path: /proc/1/environ, format: raw}]", "", "services.web.env_file", never},

		"hidden bind":      {"", "volumes: {v: {driver_opts: {type: none, o: bind, device: /home/x}}}", "volumes.v.driver_opts: mounting a path of the server (/home/x)", "bindPaths: [/home]"},
		"hidden bind, nfs": {"", "volumes: {v: {driver_opts: {type: nfs, o: \"addr=1.2.3.4,rbind\", device: /home/x}}}", "volumes.v.driver_opts: mounting a path", "bindPaths: [/home]"},
		"hidden dots":      {"", "volumes: {v: {driver_opts: {o: bind, device: /srv/link/../x}}}", "volumes.v.driver_opts: mounting a path", never},
		"hidden relative":  {"", "volumes: {v: {driver_opts: {o: bind, device: etc}}}", "volumes.v.driver_opts: mounting a path", never},
		"hidden, no flag":  {"", "volumes: {v: {driver_opts: {device: /home/x}}}", "volumes.v.driver_opts: mounting a path", "bindPaths: [/home]"},
		"hidden socket":    {"", "volumes: {v: {driver_opts: {type: none, o: bind, device: /var/run/docker.sock}}}", "volumes.v.driver_opts: the Docker socket", "engineSocket: true"},
		"hidden /":         {"", "volumes: {v: {driver_opts: {type: none, o: bind, device: /}}}", "volumes.v.driver_opts: the Docker socket", never},
		"nfs":              {"", "volumes: {v: {driver_opts: {type: nfs, o: addr=1.2.3.4, device: \":/x\"}}}", "volumes.v.driver_opts", "volumeOptions: true"},
		"overlay":          {"", "volumes: {v: {driver_opts: {type: overlay, o: \"lowerdir=/etc,upperdir=/a,workdir=/b\", device: overlay}}}", "volumes.v.driver_opts", "volumeOptions: true\nprivileged: true"},
		"disk":             {"", "volumes: {v: {driver_opts: {type: ext4, device: /dev/sda1}}}", "volumes.v.driver_opts", "volumeOptions: true\nprivileged: true"},
		"volume driver":    {"", "volumes: {v: {driver: sshfs}}", "volumes.v.driver", "volumeDrivers: [sshfs]"},
		"external volume":  {"", "volumes: {v: {external: true, name: other_data}}", "volumes.v.name: the volume other_data", "externalVolumes: [other_*]"},
		"another's volume": {"", "volumes: {v: {name: other_data}}", "volumes.v.name: the volume other_data", "externalVolumes: [other_data]"},
		"volume's label":   {"", "volumes: {v: {labels: {com.docker.compose.project: x}}}", "volumes.v.labels", never},
		"network driver":   {"", "networks: {n: {driver: macvlan}}", "networks.n.driver", "networkDrivers: [macvlan]"},
		"network's bridge": {"", "networks: {n: {driver_opts: {com.docker.network.bridge.name: br0}}}", "networks.n.driver_opts", "networkOptions: true"},
		"ipam driver":      {"", "networks: {n: {ipam: {driver: dhcp}}}", "networks.n.ipam.driver", "networkDrivers: [dhcp]"},
		"host by name":     {"", "networks: {n: {external: true, name: host}}", "networks.n.name: sharing", "hostNamespaces: [network]"},
		"external network": {"", "networks: {n: {external: true, name: proxy}}", "networks.n.name: the network proxy", "externalNetworks: [proxy]"},
		"another's":        {"", "networks: {n: {name: other_default}}", "networks.n.name", "externalNetworks: [\"*\"]"},
		"config file":      {"", "configs: {c: {file: /srv/c}}", "configs.c.file", "files: [/srv/c]"},
		"config, relative": {"", "configs: {c: {file: ./c}}", "configs.c.file", never},
		"secret file":      {"", "secrets: {c: {file: /srv/c}}", "secrets.c.file", "files: [/srv]"},

		"port below 1024":  {"ports: [\"22:22\"]", "", "services.web.ports: publishing 22", "ports: [22]"},
		"port and address": {"ports: [\"127.0.0.1:53:53/udp\"]", "", "services.web.ports: publishing 127.0.0.1:53/udp", "ports: [\"127.0.0.1:53/udp\"]"},
		"range over it":    {"ports: [{target: 80, published: \"1020-1030\"}]", "", "services.web.ports: publishing 1020-1030", "ports: [\"*\"]"},
		"port, IPv6":       {"ports: [\"[::1]:25:25\"]", "", "services.web.ports: publishing [::1]:25", "ports: [\"[::1]:25\"]"},
	} {
		t.Run(name, func(t *testing.T) {
			service := "services:\n  web: {image: a"
			if c.service != "" {
				service += ", " + c.service
			}
			project := load(t, service+"}\n"+c.rest)
			findings := Default().Judge(Subject{Model: project}, nil)
			if len(findings) != 1 {
				t.Fatalf("%d findings: %v", len(findings), findings)
			}
			if !strings.HasPrefix(findings[0].String(), c.want) {
				t.Errorf("%q does not begin with %q", findings[0], c.want)
			}
			if c.allow == never {
				everything := parse(t, all)
				if err := everything.Admit(Subject{Model: project}, nil); err == nil {
					t.Error("there is a policy that allows it")
				}
				return
			}
			if err := parse(t, c.allow).Admit(Subject{Model: project}, nil); err != nil {
				t.Errorf("%s does not allow it: %v", c.allow, err)
			}
			if line := findings[0].Allow; line == "" {
				t.Error("it does not say what would allow it")
			} else if again := parse(t, line).Judge(Subject{Model: project}, nil); len(again) > 0 && again[0].Allow == line {
				t.Errorf("the line that it gives, %q, does not allow it: %v", line, again)
			}
		})
	}
}

// all is a policy that allows whatever a policy can allow.
const all = `
privileged: true
engineSocket: true
hostNamespaces: ["*"]
bindPaths: [/]
envFiles: [/]
files: [/]
devices: ["*"]
capabilities: ["*"]
securityOptions: ["*"]
runtimes: ["*"]
logDrivers: ["*"]
volumeDrivers: ["*"]
volumeOptions: true
externalVolumes: ["*"]
networkDrivers: ["*"]
networkOptions: true
externalNetworks: ["*"]
ports: ["*"]
registries: ["*"]
`

func TestJudgeAdmits(t *testing.T) {
	for name, text := range map[string]string{
		"plain": `
services:
  web:
    image: a
    security_opt: ["no-new-privileges:true"]
    cap_drop: [ALL]
    ports: ["80:80", "127.0.0.1:8080:8080", "443:443/udp", "9000", "3000-3005:3000-3005"]
    volumes: ["data:/data", "/anonymous", {type: tmpfs, target: /t}]
    network_mode: service:db
    pid: service:db
    ipc: shareable
    logging: {driver: json-file, options: {max-size: 10m}}
    tmpfs: [/tmp]
    volumes_from: [db]
    post_start: [{command: echo}]
    configs: [c]
    secrets: [s]
  db: {image: b, networks: [back], oom_score_adj: 100, ulimits: {nofile: 1000}, sysctls: {net.core.somaxconn: 1}}
volumes: {data: {driver: local, driver_opts: {type: tmpfs, device: tmpfs, o: size=1m}}, named: {name: p_named}}
networks: {back: {internal: true, driver: bridge, driver_opts: {com.docker.network.driver.mtu: "1400"}}}
configs: {c: {content: x}}
secrets: {s: {environment: YES}}
`,
		"unused network": "services: {web: {image: a, network_mode: none}}",
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(text, "    ports: [\"80:80\"", "    ports: [\"80:80\"", 1)
			if err := Default().Admit(Subject{Model: load(t, text)}, nil); err != nil {
				t.Error(err)
			}
		})
	}
}

// What an anchor, extends or a merge brings in is judged where it ends up, and everything is told at once.
func TestJudgeTellsAll(t *testing.T) {
	project := load(t, `
x-open: &open {privileged: true, volumes: ["/etc:/e"]}
services:
  base: {image: a, <<: *open}
  web: {image: b, extends: {service: base}, pid: host}
volumes: {v: {external: true}}
`)
	findings := Default().Judge(Subject{Model: project}, nil)
	var got []string
	for _, f := range findings {
		got = append(got, f.Object+"."+f.Field)
	}
	want := "services.base.privileged services.base.volumes services.web.privileged services.web.pid services.web.volumes volumes.v.name"
	if strings.Join(got, " ") != want {
		t.Errorf("findings %v, want %s", got, want)
	}
	text := Refusal(findings).Error()
	if !strings.HasSuffix(text, "and 1 more") || strings.Count(text, "; ") != told {
		t.Errorf("error %q", text)
	}
}

func TestJudgeNames(t *testing.T) {
	project := load(t, "services: {web: {image: a}}")
	policy := parse(t, "projects: [shop, lab-*]\nenvironments: [production]\nexec: false")
	exec := []v1alpha1.HealthCheck{{Exec: &v1alpha1.ExecCheck{Service: "web", Command: []string{"true"}}}}
	for _, c := range []struct {
		project, environment string
		checks               []v1alpha1.HealthCheck
		want                 int
	}{
		{"shop", "production", nil, 0}, {"lab-7", "production", nil, 0}, {"other", "production", nil, 1}, {"other", "dev", nil, 2}, {"", "", nil, 0}, {"shop", "production", exec, 1},
	} {
		findings := policy.Judge(Subject{Project: c.project, Environment: c.environment, Model: project, Checks: c.checks}, nil)
		if len(findings) != c.want {
			t.Errorf("%s/%s: %v", c.project, c.environment, findings)
		}
	}
	if err := Default().Admit(Subject{Model: project, Checks: exec}, nil); err != nil {
		t.Error(err)
	}
}

func TestJudgeRegistries(t *testing.T) {
	for _, c := range []struct {
		registries, image string
		want              bool
	}{
		{"[]", "anything.example/a:1", true},
		{"[registry.example]", "registry.example/shop/web:1", true},
		{"[registry.example/shop]", "registry.example/shop/web@sha256:" + strings.Repeat("a", 64), true},
		{"[registry.example/shop]", "registry.example/shopping/web", false},
		{"[registry.example/shop/]", "registry.example/shop", true},
		{"[registry.example]", "registry.example.evil/web", false},
		{"[registry.example]", "evil/registry.example/web", false},
		{"[\"registry.example:5000\"]", "registry.example:5000/web", true},
		{"[\"registry.example:5000\"]", "registry.example/web", false},
		{"[docker.io]", "postgres:16", true},
		{"[library]", "postgres:16", true},
		{"[postgres]", "postgres:16", true},
		{"[postgres]", "docker.io/library/postgres", true},
		{"[postgres]", "postgres-evil", false},
		{"[docker.io/library]", "traefik/whoami", false},
		{"[\"ghcr.io/*\"]", "ghcr.io/a/b", true},
		{"[\"*\"]", "ghcr.io/a/b", true},
	} {
		findings := parse(t, "registries: "+c.registries).Judge(Subject{Model: load(t, "services: {web: {image: \""+c.image+"\"}}")}, nil)
		if (len(findings) == 0) != c.want {
			t.Errorf("%s with %s: %v", c.image, c.registries, findings)
		}
	}
}

func TestJudgePorts(t *testing.T) {
	for _, c := range []struct {
		ports, asked string
		want         bool
	}{
		{"[80]", "\"80:80\"", true},
		{"[80]", "\"127.0.0.1:80:80\"", true},
		{"[80]", "\"81:80\"", false},
		{"[80/tcp]", "\"80:80/udp\"", false},
		{"[\"127.0.0.1:8000-8999\"]", "\"127.0.0.1:8500:80\"", true},
		{"[\"127.0.0.1:8000-8999\"]", "\"8500:80\"", false},
		{"[\"127.0.0.1:8000-8999\"]", "\"0.0.0.0:8500:80\"", false},
		{"[\"127.0.0.1:8000-8999\"]", "\"[::]:8500:80\"", false},
		{"[\"127.0.0.1:*\"]", "\"127.0.0.1:22:80\"", true},
		{"[\"127.0.0.1:*\"]", "\"[::ffff:127.0.0.1]:22:80\"", true},
		{"[\"127.0.0.1:*\"]", "\"127.0.0.2:22:80\"", false},
		{"[80-90, 91-100]", "\"85-95:85-95\"", true},
		{"[80-90, 92-100]", "{target: 80, published: \"85-95\"}", false},
		{"[80]", "\"80\"", false}, // the engine chooses
		{"[80]", "{target: 80, published: \"0\"}", false},
		{"[1024-65535]", "\"80\"", true},
		{"[]", "\"8080:80\"", false},
		{"[]", "", true},
	} {
		findings := parse(t, "ports: "+c.ports).Judge(Subject{Model: load(t, "services: {web: {image: a, ports: ["+c.asked+"]}}")}, nil)
		if (len(findings) == 0) != c.want {
			t.Errorf("%s with %s: %v", c.asked, c.ports, findings)
		}
	}
}
