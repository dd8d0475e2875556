// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// HostPolicy is what the owner of a server lets releases do there, in /etc/sirrat/host-policy.yaml. Nothing in the control
// plane overrides it; a Host's status repeats what its agent said of it, so that a release's author learns early. Lists of
// names take "*" for all of them, and a name that ends in "*" for all that begin with it.
type HostPolicy struct {
	// Projects that may run here. Default: all that the control plane sends.
	// +optional
	Projects []string `json:"projects,omitempty"`
	// Environments that may run here. Default: all that the control plane sends.
	// +optional
	Environments []string `json:"environments,omitempty"`
	// Registries and repositories that images may come from, with all below them. Default: all.
	// Example: [registry.example.com/shop, docker.io/library].
	// +optional
	Registries []string `json:"registries,omitempty"`
	// Ports of the server that may be published: [ADDRESS:]PORT[-PORT][/tcp|/udp]; an address alone stands for itself, none
	// for every one. Default: [80, 443, 1024-65535]. Example: [127.0.0.1:8000-8999, 443].
	// +optional
	Ports []string `json:"ports,omitzero"`
	// Privileged containers and hooks, which are root on the server. Default false.
	// +optional
	Privileged bool `json:"privileged,omitempty"`
	// The engine's socket inside a container, which is root on the server. Default false.
	// +optional
	EngineSocket bool `json:"engineSocket,omitempty"`
	// Namespaces of the server that containers may share: network, pid, ipc, uts, user, cgroup. Default: none.
	// +optional
	HostNamespaces []string `json:"hostNamespaces,omitempty"`
	// Folders and files of the server that may be mounted, with all below them. Default: none. Example: [/srv/shop].
	// +optional
	BindPaths []string `json:"bindPaths,omitempty"`
	// Folders and files that env_file may name; their content never leaves the server. Default: none.
	// Example: [/etc/shop].
	// +optional
	EnvFiles []string `json:"envFiles,omitempty"`
	// Folders and files that configs and secrets may name with file:. Default: none.
	// +optional
	Files []string `json:"files,omitempty"`
	// Devices of the server that may be used. Default: none. Example: [/dev/ttyUSB0].
	// +optional
	Devices []string `json:"devices,omitempty"`
	// Capabilities that may be added, without CAP_. Default: none. Example: [NET_ADMIN].
	// +optional
	Capabilities []string `json:"capabilities,omitempty"`
	// Values of security_opt beyond no-new-privileges. Default: none. Example: [seccomp=unconfined].
	// +optional
	SecurityOptions []string `json:"securityOptions,omitempty"`
	// Runtimes beyond the engine's default. Default: none. Example: [nvidia].
	// +optional
	Runtimes []string `json:"runtimes,omitempty"`
	// Log drivers beyond json-file, local, journald and none, which stay on the server. Default: none. Example: [gelf].
	// +optional
	LogDrivers []string `json:"logDrivers,omitempty"`
	// Volume drivers beyond local. Default: none.
	// +optional
	VolumeDrivers []string `json:"volumeDrivers,omitempty"`
	// Options of volume drivers: network file systems and, together with privileged, any other. Folders of the server are
	// judged by bindPaths all the same. Default false.
	// +optional
	VolumeOptions bool `json:"volumeOptions,omitempty"`
	// Volumes that are not the compose project's own: external ones, and those with a name that does not begin with the
	// project's. Default: none. Example: [shared_assets].
	// +optional
	ExternalVolumes []string `json:"externalVolumes,omitempty"`
	// Network drivers beyond bridge. Default: none.
	// +optional
	NetworkDrivers []string `json:"networkDrivers,omitempty"`
	// Options of network drivers beyond MTU and the like. Default false.
	// +optional
	NetworkOptions bool `json:"networkOptions,omitempty"`
	// Networks that are not the compose project's own, such as a reverse proxy's. Default: none. Example: [proxy].
	// +optional
	ExternalNetworks []string `json:"externalNetworks,omitempty"`
	// When the control plane may change what runs here. Outside it no rollout begins; healing goes on. Default: always.
	// +optional
	Window *Window `json:"window,omitempty"`
	// Whether health checks may run a command inside the release's own containers. Default true.
	// +optional
	Exec *bool `json:"exec,omitempty"`
	// Whether people may read the containers' logs from afar with `kubectl sirrat logs`. Default false.
	// +optional
	Logs *bool `json:"logs,omitempty"`
	// Whether the agent may replace itself by a signed newer version. Default true.
	// +optional
	Update *bool `json:"update,omitempty"`
}
