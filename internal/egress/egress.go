// SPDX-License-Identifier: Apache-2.0

// Package egress guards connections to addresses that somebody else than the operator chose: webhooks and issuers that a
// project names, and whatever those redirect to. Without it, whoever may edit a project could have the server speak to what
// only the server can reach.
//
// The check is made on the very address that is connected to, after names were resolved: what a name means cannot change
// between the check and the connection, and neither a redirect nor an odd spelling of an address gets around it. No proxy is
// used, since it would connect in the place of the dialer, to whatever it likes.
//
// It imports the standard library only.
package egress

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// Bounds of a connection.
const (
	dialTimeout      = 10 * time.Second
	handshakeTimeout = 10 * time.Second
	maxHeaders       = 16 << 10 // bytes
)

// ErrBlocked does not say which address it was: it would tell what names mean inside.
var ErrBlocked = errors.New("it leads to an address that the server may not reach")

// Guard says which addresses may be reached. The zero value allows those of the public internet only.
type Guard struct {
	// Private also allows loopback and private addresses.
	Private bool
	// Networks are allowed too. Like Private they never open link-local, multicast and metadata addresses.
	Networks []netip.Prefix
}

// ParseNetworks reads networks (10.1.0.0/16) and single addresses (10.1.2.3).
func ParseNetworks(texts []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range texts {
		text = strings.TrimSpace(text)
		network, err := netip.ParsePrefix(text)
		if ip, ipErr := netip.ParseAddr(text); ipErr == nil {
			network, err = ip.Prefix(ip.BitLen())
		}
		if err != nil {
			return nil, fmt.Errorf("%q is neither a network like 10.1.0.0/16 nor an address", text)
		}
		out = append(out, network.Masked())
	}
	return out, nil
}

// Control is for a net.Dialer: it refuses, with ErrBlocked, to connect to what is not allowed.
func (g Guard) Control(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil || !g.Allows(to.Addr()) {
		return ErrBlocked
	}
	return nil
}

// Dialer returns a dialer that connects to allowed addresses only.
func (g Guard) Dialer() net.Dialer { return net.Dialer{Timeout: dialTimeout, Control: g.Control} }

// Transport returns a transport over the dialer, which stays the caller's to configure.
func Transport(dialer *net.Dialer) *http.Transport {
	return &http.Transport{
		Proxy:                  nil,
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    handshakeTimeout,
		MaxResponseHeaderBytes: maxHeaders,
		DisableKeepAlives:      true, // such connections are rare
	}
}

// metadata are addresses of cloud providers' own services outside the ranges below.
var metadata = prefixes("168.63.129.16/32", "100.100.100.200/32", "fd00:ec2::/32", "fd20:ce::/64")

// special are the blocks that are not the public internet's, beyond those that netip knows (IANA's IPv4 and IPv6
// special-purpose registries), or that hold an IPv4 address in which a private one could be hidden.
var special = prefixes(
	"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24",
	"192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
	"::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fec0::/10",
)

func prefixes(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, t := range texts {
		out = append(out, netip.MustParsePrefix(t))
	}
	return out
}

// Allows says whether an address may be connected to.
func (g Guard) Allows(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	switch {
	case !ip.IsValid() || ip.IsUnspecified() || ip.IsMulticast() || ip.IsLinkLocalUnicast() || within(ip, metadata):
		return false
	case within(ip, g.Networks):
		v4, translated := behindNAT64(ip)
		return !translated || g.Allows(v4)
	case ip.IsLoopback() || ip.IsPrivate():
		return g.Private
	}
	return !within(ip, special) && ip.IsGlobalUnicast()
}

// nat64 is the well-known prefix under which a network without IPv4 reaches IPv4 addresses (RFC 6052).
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// behindNAT64 is the IPv4 address that a translator connects to: who opens the prefix opens what may be reached anyway.
func behindNAT64(ip netip.Addr) (netip.Addr, bool) {
	if !nat64.Contains(ip) {
		return netip.Addr{}, false
	}
	bytes := ip.As16()
	return netip.AddrFrom4([4]byte(bytes[12:])), true
}

func within(ip netip.Addr, blocks []netip.Prefix) bool {
	for _, b := range blocks {
		if b.Contains(ip) {
			return true
		}
	}
	return false
}
