// SPDX-License-Identifier: Apache-2.0

package composefile

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
)

// Policy says what a compose file may reach outside its containers. The zero value allows nothing beyond plain
// containers, named volumes and bridge networks.
type Policy struct {
	// Privileged allows privileged containers and hooks.
	Privileged bool
	// EngineSocket allows the Docker engine's socket inside a container, which is root on the server.
	EngineSocket bool
	// HostNamespaces that containers may share with the server: network, pid, ipc, uts, user, cgroup.
	HostNamespaces []string
	// BindPaths are the folders of the server that may be mounted, with all below them. Example: /srv/app.
	BindPaths []string
	// Devices of the server that may be used. Example: /dev/ttyUSB0. "*" allows all.
	Devices []string
	// Capabilities that may be added, without the prefix CAP_. Example: NET_BIND_SERVICE. "*" allows all.
	Capabilities []string
	// SecurityOptions that may be set beyond no-new-privileges. Example: seccomp=unconfined.
	SecurityOptions []string
	// VolumeDrivers beyond local. VolumeOptions allows options of a volume's driver, with which a volume can be any folder.
	VolumeDrivers []string
	VolumeOptions bool
	// NetworkDrivers beyond bridge.
	NetworkDrivers []string
	// Runtimes beyond the engine's default.
	Runtimes []string
}

// DefaultPolicy holds wherever a server's owner declared nothing else.
var DefaultPolicy = Policy{}

// Admit judges a resolved model by the DefaultPolicy. The error names the service and what it asked for.
func Admit(project *types.Project) error { return DefaultPolicy.Admit(project) }

// Admit judges a resolved model. The error names the service and what it asked for.
func (p Policy) Admit(project *types.Project) error {
	for _, name := range slices.Sorted(maps.Keys(project.Services)) {
		if err := p.admitService(project.Services[name]); err != nil {
			return fmt.Errorf("services.%s.%w", name, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(project.Volumes)) {
		if err := p.admitVolume(project.Volumes[name]); err != nil {
			return fmt.Errorf("volumes.%s.%w", name, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(project.Networks)) {
		if err := p.admitNetwork(project.Networks[name]); err != nil {
			return fmt.Errorf("networks.%s.%w", name, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(project.Configs)) {
		if file := project.Configs[name].File; file != "" {
			return fmt.Errorf("configs.%s.file: a file of the server (%s) is not allowed, use content: or environment:", name, file)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(project.Secrets)) {
		if file := project.Secrets[name].File; file != "" {
			return fmt.Errorf("secrets.%s.file: a file of the server (%s) is not allowed, use environment:", name, file)
		}
	}
	return nil
}

func (p Policy) admitService(s types.ServiceConfig) error {
	for _, judge := range []func(types.ServiceConfig) error{
		p.admitPrivileges, p.admitNamespaces, p.admitDevices, p.admitMounts, p.admitHooks, admitLabels,
	} {
		if err := judge(s); err != nil {
			return err
		}
	}
	return nil
}

func (p Policy) admitPrivileges(s types.ServiceConfig) error {
	if s.Privileged && !p.Privileged {
		return refuse("privileged", "a privileged container is root on the server")
	}
	for _, capability := range s.CapAdd {
		if !allows(p.Capabilities, strings.TrimPrefix(strings.ToUpper(capability), "CAP_")) {
			return refuse("cap_add", "the capability %s is not allowed here", capability)
		}
	}
	for _, option := range s.SecurityOpt {
		normal := strings.Replace(option, ":", "=", 1)
		harmless := normal == "no-new-privileges" || normal == "no-new-privileges=true"
		if !harmless && !allows(p.SecurityOptions, normal) {
			return refuse("security_opt", "%s is not allowed here", option)
		}
	}
	if s.Runtime != "" && !allows(p.Runtimes, s.Runtime) {
		return refuse("runtime", "%s is not allowed here", s.Runtime)
	}
	if s.CredentialSpec != nil {
		return refuse("credential_spec", "not allowed here")
	}
	if s.CgroupParent != "" {
		return refuse("cgroup_parent", "not allowed here")
	}
	return nil
}

func (p Policy) admitNamespaces(s types.ServiceConfig) error {
	for _, namespace := range []struct{ field, kind, value string }{
		{"network_mode", "network", s.NetworkMode}, {"net", "network", s.Net},
		{"pid", "pid", s.Pid}, {"ipc", "ipc", s.Ipc}, {"uts", "uts", s.Uts},
		{"userns_mode", "user", s.UserNSMode}, {"cgroup", "cgroup", s.Cgroup},
	} {
		switch value := namespace.value; {
		case value == "host" && !allows(p.HostNamespaces, namespace.kind):
			return refuse(namespace.field, "sharing the server's %s namespace is not allowed here", namespace.kind)
		case strings.HasPrefix(value, types.ContainerPrefix):
			return refuse(namespace.field, "another project's container is not allowed, use service:<name>")
		case namespace.kind == "network" && !slices.Contains([]string{"", "host", "none", "bridge", "default"}, value) &&
			!strings.HasPrefix(value, types.ServicePrefix):
			return refuse(namespace.field, "%s: declare networks instead", value)
		}
	}
	return nil
}

func (p Policy) admitDevices(s types.ServiceConfig) error {
	for _, device := range s.Devices {
		if !allows(p.Devices, device.Source) {
			return refuse("devices", "%s is not allowed here", device.Source)
		}
	}
	all := allows(p.Devices, "*")
	switch {
	case len(s.DeviceCgroupRules) > 0 && !all:
		return refuse("device_cgroup_rules", "not allowed here")
	case len(s.Gpus) > 0 && !all:
		return refuse("gpus", "not allowed here")
	}
	if s.Deploy != nil && !all {
		for _, r := range []*types.Resource{s.Deploy.Resources.Limits, s.Deploy.Resources.Reservations} {
			if r != nil && len(r.Devices) > 0 {
				return refuse("deploy.resources", "devices are not allowed here")
			}
		}
	}
	return nil
}

func (p Policy) admitMounts(s types.ServiceConfig) error {
	if s.UseAPISocket && !p.EngineSocket {
		return refuse("use_api_socket", "the Docker socket is root on the server")
	}
	for _, mount := range s.Volumes {
		switch mount.Type {
		case types.VolumeTypeVolume, types.VolumeTypeTmpfs:
		case types.VolumeTypeBind:
			if err := p.admitBind("volumes", mount.Source); err != nil {
				return err
			}
		default:
			return refuse("volumes", "a mount of type %s is not allowed here", mount.Type)
		}
	}
	for _, from := range s.VolumesFrom {
		if strings.HasPrefix(from, types.ContainerPrefix) {
			return refuse("volumes_from", "another project's container is not allowed")
		}
	}
	if s.VolumeDriver != "" && s.VolumeDriver != "local" && !allows(p.VolumeDrivers, s.VolumeDriver) {
		return refuse("volume_driver", "%s is not allowed here", s.VolumeDriver)
	}
	return nil
}

// admitBind judges one folder or file of the server.
func (p Policy) admitBind(field, source string) error {
	if strings.HasSuffix(path.Clean(source), ".sock") && strings.Contains(source, "docker") && !p.EngineSocket {
		return refuse(field, "the Docker socket (%s) is root on the server", source)
	}
	clean := path.Clean(source)
	for _, allowed := range p.BindPaths {
		folder := strings.TrimSuffix(path.Clean(allowed), "/")
		if path.IsAbs(source) && (clean == folder || strings.HasPrefix(clean, folder+"/")) {
			return nil
		}
	}
	return refuse(field, "mounting a path of the server (%s) is not allowed here, use a named volume", source)
}

func (p Policy) admitHooks(s types.ServiceConfig) error {
	for field, hooks := range map[string][]types.ServiceHook{"post_start": s.PostStart, "pre_stop": s.PreStop} {
		for _, hook := range hooks {
			if hook.Privileged && !p.Privileged {
				return refuse(field, "a privileged hook is root on the server")
			}
		}
	}
	return nil
}

// ownLabels are the prefixes of labels by which the engine's containers are told apart.
var ownLabels = []string{"com.docker.compose.", "sirrat.dynors.com/"}

func admitLabels(s types.ServiceConfig) error {
	for _, label := range slices.Sorted(maps.Keys(s.Labels)) {
		for _, prefix := range ownLabels {
			if strings.HasPrefix(strings.ToLower(label), prefix) {
				return refuse("labels", "%s is set by SIRRAT itself", label)
			}
		}
	}
	return nil
}

func (p Policy) admitVolume(v types.VolumeConfig) error {
	if v.Driver != "" && v.Driver != "local" && !allows(p.VolumeDrivers, v.Driver) {
		return refuse("driver", "%s is not allowed here", v.Driver)
	}
	if len(v.DriverOpts) == 0 || p.VolumeOptions || v.DriverOpts["type"] == "tmpfs" && v.DriverOpts["device"] == "tmpfs" {
		return nil
	}
	if device := v.DriverOpts["device"]; path.IsAbs(device) {
		return p.admitBind("driver_opts", device)
	}
	return refuse("driver_opts", "options of a volume's driver are not allowed here")
}

func (p Policy) admitNetwork(n types.NetworkConfig) error {
	if (n.Driver == "host" || n.Name == "host") && !allows(p.HostNamespaces, "network") {
		return refuse("name", "sharing the server's network namespace is not allowed here")
	}
	if !slices.Contains([]string{"", "default", "bridge", "host", "none"}, n.Driver) && !allows(p.NetworkDrivers, n.Driver) {
		return refuse("driver", "%s is not allowed here", n.Driver)
	}
	return nil
}

func allows(list []string, value string) bool {
	return slices.Contains(list, value) || slices.Contains(list, "*")
}

func refuse(field, format string, args ...any) error {
	return fmt.Errorf(field+": "+format, args...)
}
