// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// port of the server that a service publishes.
type port struct {
	service, protocol string
	// address to listen on; the zero value means all.
	address netip.Addr
	number  uint16
}

func (p port) String() string {
	text := strconv.Itoa(int(p.number))
	if p.address.IsValid() && !p.address.IsUnspecified() {
		text = netip.AddrPortFrom(p.address, p.number).String()
	}
	return text + "/" + p.protocol
}

// wantedPorts are the ports that a release publishes. A range out of which the engine chooses is left to the engine.
func wantedPorts(target *resolved) []port {
	var wanted []port
	for _, name := range slices.Sorted(maps.Keys(target.project.Services)) {
		for _, published := range target.project.Services[name].Ports {
			number, err := strconv.ParseUint(published.Published, 10, 16)
			if err != nil || number == 0 {
				continue
			}
			p := port{service: name, protocol: published.Protocol, number: uint16(number)}
			if p.protocol == "" {
				p.protocol = "tcp"
			}
			if address, err := netip.ParseAddr(published.HostIP); err == nil {
				p.address = address
			}
			wanted = append(wanted, p)
		}
	}
	return wanted
}

// meets says whether somebody who listens on an address and port would be in the way.
func (p port) meets(address string, number uint16, protocol string) bool {
	if number != p.number || protocol != p.protocol {
		return false
	}
	other, err := netip.ParseAddr(address)
	everywhere := func(a netip.Addr) bool { return !a.IsValid() || a.IsUnspecified() }
	return err != nil || everywhere(other) || everywhere(p.address) || other == p.address
}

// holder tries whether the port is free on this machine, and names who has it.
func (p port) holder() (taken bool, owner string) {
	host := ""
	if p.address.IsValid() {
		host = p.address.String()
	}
	address := net.JoinHostPort(host, strconv.Itoa(int(p.number)))
	var err error
	switch p.protocol {
	case "tcp":
		var l net.Listener
		if l, err = net.Listen("tcp", address); err == nil {
			err = l.Close()
		}
	case "udp":
		var l net.PacketConn
		if l, err = net.ListenPacket("udp", address); err == nil {
			err = l.Close()
		}
	}
	if !errors.Is(err, syscall.EADDRINUSE) {
		return false, ""
	}
	return true, listenerName(p.protocol, p.number)
}

// listenerName finds the process that listens on a port in what the kernel tells.
func listenerName(protocol string, number uint16) string {
	unknown := "another process of this server"
	sockets := map[string]bool{}
	for _, version := range []string{"", "6"} {
		f, err := os.Open("/proc/net/" + protocol + version)
		if err != nil {
			continue
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			fields := strings.Fields(lines.Text())
			if len(fields) < 10 || fields[3] != "0A" && protocol == "tcp" { // 0A: listening
				continue
			}
			_, hex, _ := strings.Cut(fields[1], ":")
			if n, err := strconv.ParseUint(hex, 16, 16); err == nil && uint16(n) == number {
				sockets["socket:["+fields[9]+"]"] = true
			}
		}
		f.Close()
	}
	if len(sockets) == 0 {
		return unknown
	}
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return unknown
	}
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil || !sockets[target] {
			continue
		}
		process := filepath.Base(filepath.Dir(filepath.Dir(link)))
		name, err := os.ReadFile("/proc/" + process + "/comm")
		if err != nil {
			continue
		}
		return fmt.Sprintf("%s (process %s)", strings.TrimSpace(string(name)), process)
	}
	return unknown
}
