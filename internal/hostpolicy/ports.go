// SPDX-License-Identifier: Apache-2.0

package hostpolicy

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/distribution/reference"
)

// portRange is one entry of a policy's ports, or what a service publishes.
type portRange struct {
	// address is the one that may be listened on; invalid: every one.
	address     netip.Addr
	first, last int
	// protocol is tcp or udp; empty: both.
	protocol string
}

// Ports.
const (
	maxPort = 65535
	// The engine chooses from these where a service names no port of the server.
	firstChosen, lastChosen = 32768, 60999
)

// parsePorts reads [ADDRESS:]PORT[-PORT][/PROTOCOL], with * for all ports.
func parsePorts(text string) (portRange, error) {
	r := portRange{}
	rest, protocol, given := strings.Cut(text, "/")
	if r.protocol = strings.ToLower(protocol); given && r.protocol != "tcp" && r.protocol != "udp" {
		return r, fmt.Errorf("%q: the protocol is tcp or udp", text)
	}
	if i := strings.LastIndex(rest, ":"); i >= 0 {
		address, err := netip.ParseAddr(strings.Trim(rest[:i], "[]"))
		if err != nil {
			return r, fmt.Errorf("%q: before the port comes nothing or an address, like 127.0.0.1:8000-8999", text)
		}
		r.address, rest = address.Unmap(), rest[i+1:]
	}
	if rest == "*" {
		r.first, r.last = 1, maxPort
		return r, nil
	}
	from, to, isRange := strings.Cut(rest, "-")
	if !isRange {
		to = from
	}
	var err1, err2 error
	r.first, err1 = strconv.Atoi(from)
	r.last, err2 = strconv.Atoi(to)
	if err1 != nil || err2 != nil || r.first < 1 || r.last > maxPort || r.first > r.last {
		return r, fmt.Errorf("%q: write a port from 1 to %d, a range like 8000-8999, or *", text, maxPort)
	}
	return r, nil
}

func (r portRange) covers(address netip.Addr, port int, protocol string) bool {
	return port >= r.first && port <= r.last && (r.protocol == "" || r.protocol == protocol) && (!r.address.IsValid() || r.address == address)
}

func (j *judge) ports(object string, ports []types.ServicePortConfig) {
	var allowed []portRange
	for _, entry := range j.policy.Ports {
		if r, err := parsePorts(entry); err == nil { // Parse has refused others
			allowed = append(allowed, r)
		}
	}
	for _, p := range ports {
		asked, err := publishedBy(p)
		if err != nil {
			j.never(object, "ports", err.Error(), "only ports and addresses that can be judged are published")
			continue
		}
		for port := asked.first; port <= asked.last; port++ {
			covered := false
			for _, r := range allowed {
				covered = covered || r.covers(asked.address, port, asked.protocol)
			}
			if !covered {
				j.refuse(object, "ports", "publishing "+asked.String(), "it is not among the ports that this server gives", line("ports", asked.String()))
				break
			}
		}
	}
}

// publishedBy is what a service's port takes of the server. The engine listens on every address where none is named.
func publishedBy(p types.ServicePortConfig) (portRange, error) {
	r := portRange{first: firstChosen, last: lastChosen, protocol: p.Protocol}
	if r.protocol == "" {
		r.protocol = "tcp"
	}
	if p.HostIP != "" {
		address, err := netip.ParseAddr(strings.Trim(p.HostIP, "[]"))
		if err != nil {
			return r, fmt.Errorf("host_ip %.60q is not an address", p.HostIP)
		}
		if r.address = address.Unmap(); address.IsUnspecified() {
			r.address = netip.Addr{}
		}
	}
	if p.Published == "" || p.Published == "0" {
		return r, nil
	}
	asked, err := parsePorts(p.Published)
	if err != nil || asked.address.IsValid() {
		return r, fmt.Errorf("published port %.60q is neither a port nor a range", p.Published)
	}
	r.first, r.last = asked.first, asked.last
	return r, nil
}

func (r portRange) String() string {
	text := strconv.Itoa(r.first)
	if r.last != r.first {
		text += "-" + strconv.Itoa(r.last)
	}
	if r.address.Is6() {
		text = "[" + r.address.String() + "]:" + text
	} else if r.address.IsValid() {
		text = r.address.String() + ":" + text
	}
	if r.protocol != "" && r.protocol != "tcp" {
		text += "/" + r.protocol
	}
	return text
}

// registryPrefix is an entry of a policy's registries in the full form of a repository: docker.io/library for library.
func registryPrefix(entry string) (string, error) {
	if entry == "*" {
		return entry, nil
	}
	short := strings.TrimSuffix(strings.TrimSuffix(entry, "/*"), "/")
	if short == "" || strings.ContainsAny(short, "*@ \t\n") || strings.Contains(short, "://") {
		return "", fmt.Errorf("%q: write a registry or repository without a scheme, like registry.example.com/shop", entry)
	}
	host, _, _ := strings.Cut(short, "/")
	if !strings.ContainsAny(host, ".:") && host != "localhost" {
		short = "docker.io/" + short
	}
	return short, nil
}

func (j *judge) image(object, image string) {
	if len(j.policy.Registries) == 0 {
		return
	}
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		j.never(object, "image", fmt.Sprintf("%.200q", image), "it is not the name of an image")
		return
	}
	name := named.Name()
	for _, entry := range j.policy.Registries {
		prefix, err := registryPrefix(entry)
		official := strings.Replace(prefix, "docker.io/", "docker.io/library/", 1)
		if err == nil && (prefix == "*" || name == prefix || name == official || strings.HasPrefix(name, prefix+"/")) {
			return
		}
	}
	j.refuse(object, "image", "an image of "+name, "only images of the registries that the server's owner named run here", line("registries", name))
}
