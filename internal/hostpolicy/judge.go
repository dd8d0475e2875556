// SPDX-License-Identifier: Apache-2.0

package hostpolicy

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// Subject is what is judged.
type Subject struct {
	// Project and Environment of SIRRAT. Empty ones are not judged.
	Project     string
	Environment string
	// Model is the resolved compose file.
	Model *types.Project
	// Checks beyond the containers' own.
	Checks []v1alpha1.HealthCheck
}

// Finding is one thing that a policy does not allow.
type Finding struct {
	// Object that asks for it. Example: services.web.
	Object string `json:"object"`
	// Field of it. Example: volumes.
	Field string `json:"field"`
	// Asks is what it asks for. Example: mounting /etc.
	Asks string `json:"asks"`
	// Rule says why not.
	Rule string `json:"rule"`
	// Allow are the lines of the policy that would allow it; empty when none would.
	Allow string `json:"allow,omitempty"`
}

func (f Finding) String() string {
	where := f.Object
	if f.Field != "" {
		where += "." + f.Field
	}
	return where + ": " + f.Asks + ": " + f.Rule
}

// Refusal is an error of one finding or more.
type Refusal []Finding

// told is how many findings an error tells; the rest are counted.
const told = 5

func (r Refusal) Error() string {
	var texts []string
	for _, f := range r[:min(len(r), told)] {
		texts = append(texts, f.String())
	}
	if more := len(r) - told; more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(texts, "; ")
}

// Admit is nil when a policy allows everything that a subject asks for, and otherwise a Refusal.
func (p Policy) Admit(s Subject, server *Server) error {
	if findings := p.Judge(s, server); len(findings) > 0 {
		return Refusal(findings)
	}
	return nil
}

// Judge tells everything that a policy does not allow, in the order of the objects' names. server is where it would run;
// nil where that server's files cannot be seen, so that paths are judged as they are written.
func (p Policy) Judge(s Subject, server *Server) []Finding {
	j := &judge{policy: p, server: server, project: s.Model.Name}
	if len(p.Projects) > 0 && s.Project != "" && !allows(p.Projects, s.Project) {
		j.refuse("project", "", s.Project, "it does not run on this server", line("projects", s.Project))
	}
	if len(p.Environments) > 0 && s.Environment != "" && !allows(p.Environments, s.Environment) {
		j.refuse("environment", "", s.Environment, "it does not run on this server", line("environments", s.Environment))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Model.Services)) {
		j.service("services."+name, s.Model.Services[name])
	}
	for _, name := range slices.Sorted(maps.Keys(s.Model.Volumes)) {
		j.volume("volumes."+name, s.Model.Volumes[name])
	}
	for _, name := range slices.Sorted(maps.Keys(s.Model.Networks)) {
		j.network("networks."+name, s.Model.Networks[name])
	}
	for _, name := range slices.Sorted(maps.Keys(s.Model.Configs)) {
		j.object("configs."+name, types.FileObjectConfig(s.Model.Configs[name]))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Model.Secrets)) {
		j.object("secrets."+name, types.FileObjectConfig(s.Model.Secrets[name]))
	}
	for i, check := range s.Checks {
		if check.Exec != nil && !isTrue(p.Exec) {
			j.refuse(fmt.Sprintf("healthChecks[%d]", i), "exec", "a command inside "+check.Exec.Service, "commands inside containers are not allowed here", "exec: true")
		}
	}
	return j.findings
}

// judge collects findings.
type judge struct {
	policy   Policy
	server   *Server
	project  string
	findings []Finding
}

// refuse tells what lines of the policy would allow.
func (j *judge) refuse(object, field, asks, rule, allow string) {
	f := Finding{Object: object, Field: field, Asks: asks, Rule: rule, Allow: allow}
	if !slices.Contains(j.findings, f) {
		j.findings = append(j.findings, f)
	}
}

// never tells what no policy allows.
func (j *judge) never(object, field, asks, rule string) { j.refuse(object, field, asks, rule, "") }

const notHere = "not allowed here"

func (j *judge) service(object string, s types.ServiceConfig) {
	j.image(object, s.Image)
	j.privileges(object, s)
	j.namespaces(object, s)
	j.devices(object, s)
	j.mounts(object, s)
	j.ports(object, s.Ports)
	j.logging(object, s)
	j.labels(object, s.Labels)
	for _, file := range s.EnvFiles {
		j.path(object, "env_file", "reading", file.Path, "envFiles", j.policy.EnvFiles, "use values")
	}
	if len(s.LabelFiles) > 0 {
		j.never(object, "label_file", s.LabelFiles[0], "files of labels are not read: write them under labels:")
	}
	for _, link := range s.ExternalLinks {
		j.never(object, "external_links", link, "another project's container is out of reach: use a network of externalNetworks")
	}
	for _, key := range slices.Sorted(maps.Keys(s.Annotations)) {
		j.never(object, "annotations", key, "annotations steer the server's container runtime")
	}
	if s.Provider != nil || len(s.Models) > 0 || len(s.PreStart) > 0 {
		j.never(object, "", "a provider, models or pre_start", "not supported")
	}
}

func (j *judge) privileges(object string, s types.ServiceConfig) {
	p := j.policy
	if s.Privileged && !p.Privileged {
		j.refuse(object, "privileged", "all of the server", "a privileged container is root on the server", "privileged: true")
	}
	for field, hooks := range map[string][]types.ServiceHook{"post_start": s.PostStart, "pre_stop": s.PreStop} {
		if !p.Privileged && slices.ContainsFunc(hooks, func(h types.ServiceHook) bool { return h.Privileged }) {
			j.refuse(object, field, "all of the server", "a privileged hook is root on the server", "privileged: true")
		}
	}
	for _, capability := range s.CapAdd {
		if name := strings.TrimPrefix(strings.ToUpper(capability), "CAP_"); !allows(p.Capabilities, name) {
			j.refuse(object, "cap_add", "the capability "+capability, notHere, line("capabilities", name))
		}
	}
	if !allows(p.Capabilities, "SYS_RESOURCE") && (s.OomKillDisable || s.OomScoreAdj < 0) {
		field := "oom_score_adj"
		if s.OomKillDisable {
			field = "oom_kill_disable"
		}
		j.refuse(object, field, "being spared when memory runs out", "the server's own programs would be killed instead", "capabilities: [SYS_RESOURCE]")
	}
	for _, option := range s.SecurityOpt {
		normal := strings.Replace(option, ":", "=", 1)
		if normal != "no-new-privileges" && normal != "no-new-privileges=true" && !allows(p.SecurityOptions, normal) {
			j.refuse(object, "security_opt", option, notHere, line("securityOptions", normal))
		}
	}
	if s.Runtime != "" && !allows(p.Runtimes, s.Runtime) {
		j.refuse(object, "runtime", s.Runtime, notHere, line("runtimes", s.Runtime))
	}
	if s.CredentialSpec != nil {
		j.never(object, "credential_spec", "credentials of the server", notHere)
	}
	if s.CgroupParent != "" {
		j.never(object, "cgroup_parent", s.CgroupParent, "limits are given with deploy.resources")
	}
}

func (j *judge) namespaces(object string, s types.ServiceConfig) {
	for _, namespace := range []struct{ field, kind, value string }{
		{"network_mode", "network", s.NetworkMode}, {"net", "network", s.Net},
		{"pid", "pid", s.Pid}, {"ipc", "ipc", s.Ipc}, {"uts", "uts", s.Uts},
		{"userns_mode", "user", s.UserNSMode}, {"cgroup", "cgroup", s.Cgroup},
	} {
		value := strings.ToLower(namespace.value)
		switch {
		case value == "host":
			if !allows(j.policy.HostNamespaces, namespace.kind) {
				j.refuse(object, namespace.field, "sharing the server's "+namespace.kind+" namespace", notHere, line("hostNamespaces", namespace.kind))
			}
		case strings.HasPrefix(value, types.ContainerPrefix):
			j.never(object, namespace.field, "another project's container", "use service:<name>")
		case namespace.kind == "network" && !slices.Contains([]string{"", "none", "bridge", "default"}, value) && !strings.HasPrefix(value, types.ServicePrefix):
			j.never(object, namespace.field, namespace.value, "declare networks instead")
		}
	}
}

func (j *judge) devices(object string, s types.ServiceConfig) {
	for _, device := range s.Devices {
		if !allows(j.policy.Devices, device.Source) {
			j.refuse(object, "devices", device.Source, notHere, line("devices", device.Source))
		}
	}
	if slices.Contains(j.policy.Devices, "*") {
		return
	}
	all := `devices: ["*"]`
	if len(s.DeviceCgroupRules) > 0 {
		j.refuse(object, "device_cgroup_rules", s.DeviceCgroupRules[0], notHere, all)
	}
	if len(s.Gpus) > 0 {
		j.refuse(object, "gpus", "the server's graphics cards", notHere, all)
	}
	if s.Deploy == nil {
		return
	}
	for _, r := range []*types.Resource{s.Deploy.Resources.Limits, s.Deploy.Resources.Reservations} {
		if r != nil && len(r.Devices) > 0 {
			j.refuse(object, "deploy.resources", "devices", notHere, all)
		}
	}
}

// harmlessLogs are the drivers that keep logs on the server and take no path or address.
var harmlessLogs = []string{"", "json-file", "local", "journald", "none"}

func (j *judge) logging(object string, s types.ServiceConfig) {
	drivers := []string{s.LogDriver}
	if s.Logging != nil {
		drivers = append(drivers, s.Logging.Driver)
	}
	for _, driver := range drivers {
		if !slices.Contains(harmlessLogs, driver) && !allows(j.policy.LogDrivers, driver) {
			j.refuse(object, "logging", "the driver "+driver, "the engine would write to wherever its options say", line("logDrivers", driver))
		}
	}
}

// ownLabels are the prefixes of labels by which the engine's objects are told apart.
var ownLabels = []string{"com.docker.compose.", "sirrat.dynors.com/"}

func (j *judge) labels(object string, labels types.Labels) {
	for _, label := range slices.Sorted(maps.Keys(labels)) {
		for _, prefix := range ownLabels {
			if strings.HasPrefix(strings.ToLower(label), prefix) {
				j.never(object, "labels", label, "it is set by SIRRAT itself")
			}
		}
	}
}

func (j *judge) network(object string, n types.NetworkConfig) {
	p := j.policy
	if (n.Driver == "host" || n.Name == "host") && !allows(p.HostNamespaces, "network") {
		j.refuse(object, "name", "sharing the server's network namespace", notHere, "hostNamespaces: [network]")
		return
	}
	if !slices.Contains([]string{"", "default", "bridge", "host", "none"}, n.Driver) && !allows(p.NetworkDrivers, n.Driver) {
		j.refuse(object, "driver", n.Driver, notHere, line("networkDrivers", n.Driver))
	}
	if driver := n.Ipam.Driver; driver != "" && driver != "default" && !allows(p.NetworkDrivers, driver) {
		j.refuse(object, "ipam.driver", driver, notHere, line("networkDrivers", driver))
	}
	if j.foreign(bool(n.External), n.Name) && n.Name != "host" && !allows(p.ExternalNetworks, n.Name) {
		j.refuse(object, "name", "the network "+n.Name, "it is not this compose project's own, others may be reached over it", line("externalNetworks", n.Name))
	}
	j.networkOptions(object, n)
	j.labels(object, n.Labels)
}

// harmlessNetworkOptions change nothing outside of the network.
var harmlessNetworkOptions = []string{
	"com.docker.network.driver.mtu", "com.docker.network.bridge.enable_icc", "com.docker.network.bridge.enable_ip_masquerade",
	"com.docker.network.container_iface_prefix",
}

func (j *judge) networkOptions(object string, n types.NetworkConfig) {
	if j.policy.NetworkOptions {
		return
	}
	options := slices.Concat(slices.Collect(maps.Keys(n.DriverOpts)), slices.Collect(maps.Keys(n.Ipam.Options)))
	for _, option := range slices.Sorted(slices.Values(options)) {
		if !slices.Contains(harmlessNetworkOptions, option) {
			j.refuse(object, "driver_opts", option, "options of a network's driver reach the server's own network", "networkOptions: true")
		}
	}
}

// foreign says whether a volume or network is not the compose project's own: declared external, or of a name that other
// projects may have given too.
func (j *judge) foreign(external bool, name string) bool {
	return external || name != "" && !strings.HasPrefix(name, j.project+"_")
}

func (j *judge) object(object string, o types.FileObjectConfig) {
	if o.File != "" {
		way := "use content: or environment:"
		if strings.HasPrefix(object, "secrets.") {
			way = "use environment:"
		}
		j.path(object, "file", "reading", o.File, "files", j.policy.Files, way)
	}
	if o.External || cmp.Or(o.Driver, o.TemplateDriver) != "" {
		j.never(object, "external", "an object of Swarm", "use environment: with a value")
	}
}
