// SPDX-License-Identifier: Apache-2.0

package converge

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
)

// Order in which the containers of a service are replaced.
type Order int

// Orders.
const (
	// InPlace: all at once, the old one ends before the new one begins.
	InPlace Order = iota
	// StopFirst: in place, but only some at a time.
	StopFirst
	// StartFirst: the new ones begin beside the old ones.
	StartFirst
)

func (o Order) String() string {
	return [...]string{"in place", "stop first", "start first"}[o]
}

// Manner in which a service's containers are replaced.
type Manner struct {
	Order Order
	// InPlaceBecause says why it is InPlace although StartFirst was asked for; empty otherwise.
	InPlaceBecause string
	// Parallelism is how many are replaced at a time; 0 for all.
	Parallelism int
	// Delay between two rounds.
	Delay time.Duration
	// Monitor is how long new containers must stay healthy before old ones end.
	Monitor time.Duration
	// Ignored says what the file asks for that cannot be honoured.
	Ignored []string
}

// MannerOf reads how a service wants to be replaced: its own deploy.update_config.order comes before startFirst, which is
// what the environment asks for.
func MannerOf(project *types.Project, service types.ServiceConfig, startFirst bool) Manner {
	var m Manner
	if service.Deploy != nil && service.Deploy.UpdateConfig != nil {
		m = mannerOfUpdate(*service.Deploy.UpdateConfig, &startFirst)
	}
	switch {
	case startFirst:
		m.Order = StartFirst
		if m.InPlaceBecause = obstacle(project, service); m.InPlaceBecause != "" {
			m.Order = InPlace
		}
	case m.Parallelism > 0 && m.Parallelism < service.GetScale() && !shares(service) && sharedBy(project, service.Name) == "":
		m.Order = StopFirst
	}
	if m.Order == InPlace && (m.Delay > 0 || m.Monitor > 0) {
		m.Ignored = append(m.Ignored, "delay and monitor (it is replaced all at once)")
	}
	return m
}

// mannerOfUpdate reads deploy.update_config. Its parallelism is 1 unless told, as in Swarm.
func mannerOfUpdate(update types.UpdateConfig, startFirst *bool) Manner {
	m := Manner{Parallelism: 1, Delay: time.Duration(update.Delay), Monitor: time.Duration(update.Monitor)}
	if update.Parallelism != nil {
		m.Parallelism = int(min(*update.Parallelism, 1<<16))
	}
	switch update.Order {
	case "start-first":
		*startFirst = true
	case "stop-first":
		*startFirst = false
	}
	if update.FailureAction == "pause" || update.FailureAction == "continue" {
		m.Ignored = append(m.Ignored, "failure_action "+update.FailureAction+" (whether a release that fails goes back is the environment's rollout.autoRollback)")
	}
	if update.MaxFailureRatio > 0 {
		m.Ignored = append(m.Ignored, "max_failure_ratio (a release is healthy when all of its containers are)")
	}
	return m
}

// Extension is the key of SIRRAT's own settings in a service.
const Extension = "x-sirrat"

// obstacle says why two generations of a service cannot run at the same time; empty when they can.
func obstacle(project *types.Project, service types.ServiceConfig) string {
	if service.ContainerName != "" {
		return "it has a container_name, which only one container can have"
	}
	for _, port := range service.Ports {
		if port.Published != "" && portRange(port.Published) < 2*service.GetScale() {
			return fmt.Sprintf("it publishes the port %s of the server, which only one container can have", port.Published)
		}
	}
	switch {
	case service.NetworkMode == "host":
		return "it uses the server's network, where only one container can listen"
	case shares(service):
		return "it shares namespaces or volumes with another service"
	case len(service.Links) > 0:
		return "it has links"
	case len(service.Devices) > 0:
		return "it uses a device"
	}
	if other := sharedBy(project, service.Name); other != "" {
		return "the service " + other + " shares something with it"
	}
	if service.MacAddress != "" {
		return "it has a fixed address"
	}
	for _, name := range slices.Sorted(maps.Keys(service.Networks)) {
		if n := service.Networks[name]; n != nil && (n.Ipv4Address != "" || n.Ipv6Address != "" || n.MacAddress != "") {
			return "it has a fixed address in the network " + name
		}
	}
	if !sharedVolumes(service) {
		for _, mount := range service.Volumes {
			if (mount.Type == types.VolumeTypeVolume || mount.Type == types.VolumeTypeBind) && !mount.ReadOnly && mount.Source != "" {
				return fmt.Sprintf("it writes to %s, which may bear one writer only (x-sirrat: {sharedVolumes: true} says otherwise)", mount.Source)
			}
		}
	}
	return ""
}

// portRange is how many ports of the server a publication may choose from: "8000-8009" are ten.
func portRange(published string) int {
	first, last, isRange := strings.Cut(published, "-")
	if !isRange {
		return 1
	}
	from, err1 := strconv.Atoi(first)
	to, err2 := strconv.Atoi(last)
	if err1 != nil || err2 != nil {
		return 1
	}
	return to - from + 1
}

// Shared are the services whose namespaces or volumes a service uses.
func Shared(service types.ServiceConfig) []string {
	var names []string
	for _, mode := range []string{service.NetworkMode, service.Ipc, service.Pid} {
		if name, found := strings.CutPrefix(mode, types.ServicePrefix); found {
			names = append(names, name)
		}
	}
	for _, from := range service.VolumesFrom {
		if !strings.HasPrefix(from, types.ContainerPrefix) {
			name, _, _ := strings.Cut(from, ":")
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func shares(service types.ServiceConfig) bool {
	return len(Shared(service))+len(service.VolumesFrom) > 0 || strings.HasPrefix(service.NetworkMode, types.ContainerPrefix)
}

func sharedBy(project *types.Project, name string) string {
	for _, other := range slices.Sorted(maps.Keys(project.Services)) {
		if slices.Contains(Shared(project.Services[other]), name) {
			return other
		}
	}
	return ""
}

// sharedVolumes says that the file declares the service's volumes to bear several writers.
func sharedVolumes(service types.ServiceConfig) bool {
	settings, _ := service.Extensions[Extension].(map[string]any)
	declared, _ := settings["sharedVolumes"].(bool)
	return declared
}
