// SPDX-License-Identifier: Apache-2.0

package hostpolicy

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
)

// classes of the fields of a compose file: by whom each is dealt with. A field that is in none was brought by a new version
// of compose-go, and nobody has thought about what it reaches on a server.
var classes = map[string]map[string]string{
	// Judged here.
	"judged": {
		"Project":              "Services Volumes Networks Configs Secrets",
		"ServiceConfig":        "ExternalLinks Net PostStart PreStop",
		"ContainerSpec":        "Annotations CapAdd Cgroup CgroupParent CredentialSpec DeviceCgroupRules Devices EnvFiles Gpus Image Ipc Labels LogDriver Logging NetworkMode OomKillDisable OomScoreAdj Pid Privileged Runtime SecurityOpt UseAPISocket UserNSMode Uts VolumeDriver Volumes VolumesFrom",
		"WorkloadSpec":         "Ports",
		"ServiceHook":          "Privileged",
		"EnvFile":              "Path",
		"LoggingConfig":        "Driver",
		"DeviceMapping":        "Source",
		"DeployConfig":         "Resources",
		"Resources":            "Limits Reservations",
		"Resource":             "Devices",
		"ServicePortConfig":    "HostIP Published Protocol",
		"ServiceVolumeConfig":  "Source Type",
		"NetworkConfig":        "Driver DriverOpts External Ipam Labels Name",
		"IPAMConfig":           "Driver Options",
		"VolumeConfig":         "Driver DriverOpts External Labels Name",
		"ConfigObjConfig":      "File",
		"SecretConfig":         "File",
		"CredentialSpecConfig": "Config File Registry",
	},
	// Refused, resolved or dropped by composefile.Load, or set by the agent itself.
	"loaded": {
		"Project":         "Jobs Models Name Environment WorkingDir ComposeFiles DisabledServices DisabledJobs Profiles",
		"ServiceConfig":   "Develop Extends Name PreStart Profiles Provider Scale",
		"ContainerSpec":   "CustomLabels LabelFiles Models PullPolicy PullRefreshAfter",
		"WorkloadSpec":    "Build Dockerfile",
		"NetworkConfig":   "CustomLabels",
		"VolumeConfig":    "CustomLabels",
		"ConfigObjConfig": "Driver DriverOpts External TemplateDriver",
		"SecretConfig":    "Driver DriverOpts External TemplateDriver",
		"EnvFile":         "Format Required",
		"BuildConfig":     "*", "DevelopConfig": "*", "Trigger": "*", "ExtendsConfig": "*", "SSHKey": "*",
		"JobConfig": "*", "TriggerConfig": "*", "ScheduleConfig": "*", "ModelConfig": "*", "ServiceModelConfig": "*",
		"ServiceProviderConfig": "*", "PreStartHook": "*",
	},
	// Stays within the service's own containers, volumes and networks, or only takes from what they have.
	"harmless": {
		"ServiceConfig":       "Attach ContainerName Deploy Links Restart",
		"ContainerSpec":       "BlkioConfig CPUCount CPUPercent CPUPeriod CPUQuota CPURTPeriod CPURTRuntime CPUS CPUSet CPUShares CapDrop Command Configs DNS DNSOpts DNSSearch DomainName Entrypoint Environment ExtraHosts GroupAdd Hostname Init Isolation LogOpt MacAddress MemLimit MemReservation MemSwapLimit MemSwappiness Networks PidsLimit Platform ReadOnly Secrets ShmSize StopGracePeriod StopSignal StorageOpt Sysctls Tmpfs Ulimits User WorkingDir",
		"WorkloadSpec":        "DependsOn Expose HealthCheck StdinOpen Tty",
		"ServiceHook":         "Command Environment User WorkingDir",
		"LoggingConfig":       "Options", // of drivers that keep to the server; the others are judged as a whole
		"DeviceMapping":       "Permissions Target",
		"DeployConfig":        "EndpointMode Labels Mode Placement Replicas RestartPolicy RollbackConfig UpdateConfig",
		"Resource":            "GenericResources MemoryBytes NanoCPUs Pids",
		"ServicePortConfig":   "AppProtocol Mode Name Target",
		"ServiceVolumeConfig": "Bind Consistency Image ReadOnly Target Tmpfs Volume",
		"NetworkConfig":       "Attachable EnableIPv4 EnableIPv6 Internal",
		"IPAMConfig":          "Config",
		"ConfigObjConfig":     "Content Environment Labels Name",
		"SecretConfig":        "Content Environment Labels Name",
		"BlkioConfig":         "*", "WeightDevice": "*", "ThrottleDevice": "*", // limits of the container
		"DeviceRequest":   "*", // judged by being there
		"GenericResource": "*", "DiscreteGenericResource": "*", "HealthCheckConfig": "*", "IPAMPool": "*", "Placement": "*",
		"PlacementPreferences": "*", "RestartPolicy": "*", "UpdateConfig": "*", "UlimitsConfig": "*", "ServiceDependency": "*",
		"ServiceConfigObjConfig": "*", "ServiceSecretConfig": "*", "ServiceNetworkConfig": "*",
		"ServiceVolumeBind": "*", "ServiceVolumeImage": "*", "ServiceVolumeTmpfs": "*", "ServiceVolumeVolume": "*",
	},
}

func TestEveryFieldIsClassified(t *testing.T) {
	classified := func(kind, field string) (in []string) {
		for class, kinds := range classes {
			if names := strings.Fields(kinds[kind]); slices.Contains(names, field) || slices.Contains(names, "*") {
				in = append(in, class)
			}
		}
		return in
	}
	there := map[string]map[string]bool{}
	var visit func(reflect.Type)
	visit = func(kind reflect.Type) {
		switch kind.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
			visit(kind.Elem())
			return
		case reflect.Struct:
		default:
			return
		}
		if there[kind.Name()] != nil {
			return
		}
		there[kind.Name()] = map[string]bool{}
		for i := range kind.NumField() {
			field := kind.Field(i)
			if field.Name == "Extensions" || !field.IsExported() && !field.Anonymous { // x-… keys: nobody reads them
				continue
			}
			if !field.Anonymous {
				there[kind.Name()][field.Name] = true
				if in := classified(kind.Name(), field.Name); len(in) != 1 {
					t.Errorf("%s.%s is classified as %v: decide what it can reach on a server, judge it, then put it into one class", kind.Name(), field.Name, in)
				}
			}
			visit(field.Type)
		}
	}
	visit(reflect.TypeFor[types.Project]())
	for class, kinds := range classes {
		for _, kind := range slices.Sorted(maps.Keys(kinds)) {
			for _, field := range strings.Fields(kinds[kind]) {
				if field != "*" && !there[kind][field] || there[kind] == nil {
					t.Errorf("%s: compose-go has no %s.%s", class, kind, field)
				}
			}
		}
	}
	if len(there) < 40 {
		t.Errorf("only %d types were looked at", len(there))
	}
}
