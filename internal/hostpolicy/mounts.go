// SPDX-License-Identifier: Apache-2.0

package hostpolicy

import (
	"path"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
)

// DefaultFile is where the owner's policy is, and DefaultDataDir where the agent keeps its own.
const (
	DefaultFile    = "/etc/sirrat/host-policy.yaml"
	DefaultDataDir = "/var/lib/sirrat-agent"
)

// private are folders that no container may see, whatever a policy says: what is in them is root on the server, or is by
// what the server's owner rules over us.
var private = []string{"/proc", "/sys", "/dev", "/boot", "/etc/sirrat", DefaultDataDir, "/var/lib/docker", "/var/lib/containerd"}

// Engines' sockets: whoever reaches one is root on the server.
var (
	runFolders = []string{"/run", "/var/run"}
	socketsIn  = []string{
		"docker.sock", "containerd/containerd.sock", "containerd.sock", "docker/containerd/containerd.sock", "podman/podman.sock", "podman.sock",
		"crio/crio.sock", "buildkit/buildkitd.sock", "cri-dockerd.sock",
	}
	engines = []string{"docker", "containerd", "podman", "crio", "buildkit"}
)

func (j *judge) mounts(object string, s types.ServiceConfig) {
	if s.UseAPISocket && !j.policy.EngineSocket {
		j.refuse(object, "use_api_socket", "the Docker socket", "it is root on the server", "engineSocket: true")
	}
	for _, mount := range s.Volumes {
		switch mount.Type {
		case types.VolumeTypeVolume, types.VolumeTypeTmpfs:
		case types.VolumeTypeBind:
			j.bind(object, "volumes", mount.Source)
		default:
			j.never(object, "volumes", "a mount of type "+mount.Type, notHere)
		}
	}
	for _, from := range s.VolumesFrom {
		if strings.HasPrefix(from, types.ContainerPrefix) {
			j.never(object, "volumes_from", "another project's container", "use a named volume")
		}
	}
	if driver := s.VolumeDriver; driver != "" && driver != "local" && !allows(j.policy.VolumeDrivers, driver) {
		j.refuse(object, "volume_driver", driver, notHere, line("volumeDrivers", driver))
	}
}

// bind judges the mount of one folder or file.
func (j *judge) bind(object, field, source string) {
	real := j.real(object, field, source)
	socket := j.server.isSocket(source) || j.server.isSocket(real)
	if socket || j.server.holdsSocket(source) || j.server.holdsSocket(real) {
		if !j.policy.EngineSocket {
			j.refuse(object, field, "the Docker socket or a folder that holds it ("+source+")", "it is root on the server", "engineSocket: true")
			return
		}
		if socket {
			return
		}
	}
	j.path(object, field, "mounting", source, "bindPaths", j.policy.BindPaths, "use a named volume")
}

// path judges that a file or folder of the server, and what it is behind its symlinks, is below one of those allowed.
func (j *judge) path(object, field, verb, source, list string, allowed []string, instead string) {
	asks := verb + " a path of the server (" + source + ")"
	if !path.IsAbs(source) {
		j.never(object, field, asks, "it must be absolute, or "+instead)
		return
	}
	source = path.Clean(source)
	real := j.real(object, field, source)
	for _, folder := range j.server.private() {
		for _, p := range []string{source, real} {
			if within(p, folder) || within(folder, p) {
				j.never(object, field, asks, folder+" is never to be seen by containers, whatever the policy says")
				return
			}
		}
	}
	if !covered(source, allowed) {
		j.refuse(object, field, asks, "only what "+list+" names, or "+instead, line(list, source))
		return
	}
	if real != source && !covered(real, allowed) && !covered(real, j.server.realAll(allowed)) {
		j.refuse(object, field, asks, "a symlink leads to "+real+", which "+list+" does not name", line(list, real))
	}
}

// real is what a path is behind its symlinks, as far as it exists.
func (j *judge) real(object, field, source string) string {
	if j.server == nil || !path.IsAbs(source) {
		return path.Clean(source)
	}
	real, err := j.server.Real(source)
	if err != nil {
		j.never(object, field, "a path of the server ("+source+")", "it cannot be followed: "+err.Error())
		return path.Clean(source)
	}
	return real
}

// within says whether a clean path is folder or below it.
func within(p, folder string) bool {
	return p == folder || folder == "/" || strings.HasPrefix(p, folder+"/")
}

func covered(p string, folders []string) bool {
	return slices.ContainsFunc(folders, func(folder string) bool { return within(p, path.Clean(folder)) })
}

func (j *judge) volume(object string, v types.VolumeConfig) {
	p := j.policy
	if v.Driver != "" && v.Driver != "local" && !allows(p.VolumeDrivers, v.Driver) {
		j.refuse(object, "driver", v.Driver, notHere, line("volumeDrivers", v.Driver))
	}
	if j.foreign(bool(v.External), v.Name) && !allows(p.ExternalVolumes, v.Name) {
		j.refuse(object, "name", "the volume "+v.Name, "it is not this compose project's own, its data may be another's", line("externalVolumes", v.Name))
	}
	j.labels(object, v.Labels)
	if len(v.DriverOpts) > 0 {
		j.volumeOptions(object, v.DriverOpts)
	}
}

// networkFilesystems are mounted from elsewhere.
var networkFilesystems = []string{"nfs", "nfs4", "cifs", "smb3"}

// volumeOptions judges what the local driver hands to mount(8): type, device and o.
func (j *judge) volumeOptions(object string, options map[string]string) {
	kind, device := strings.ToLower(options["type"]), options["device"]
	flags := strings.FieldsFunc(strings.ToLower(options["o"]), func(r rune) bool { return r == ',' || r == ' ' })
	isBind := slices.ContainsFunc(flags, func(f string) bool { return f == "bind" || f == "rbind" || f == "move" || f == "remount" })
	switch {
	case isBind, kind == "bind", kind == "none", kind == "" && device != "":
		if slices.Contains(strings.Split(device, "/"), "..") { // the kernel follows symlinks before it goes up
			j.never(object, "driver_opts", "mounting a path of the server ("+device+")", "it must be written without ..")
			return
		}
		j.bind(object, "driver_opts", device)
	case kind == "tmpfs", kind == "" && device == "" && options["o"] == "":
	case slices.Contains(networkFilesystems, kind):
		if !j.policy.VolumeOptions {
			j.refuse(object, "driver_opts", "a file system of type "+kind, "options of a volume's driver are not allowed here", "volumeOptions: true")
		}
	case !j.policy.VolumeOptions || !j.policy.Privileged:
		j.refuse(object, "driver_opts", "a file system of type "+kind, "it can be any disk or folder of the server", "volumeOptions: true\nprivileged: true")
	}
}
