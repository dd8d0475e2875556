// SPDX-License-Identifier: Apache-2.0

package egress_test

import (
	"crypto/tls"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gitlab.com/dynors/sirrat/internal/egress"
)

func TestAllowedAddresses(t *testing.T) {
	for _, c := range []struct {
		ip              string
		public, private bool
	}{
		{"1.1.1.1", true, true}, {"2606:4700::1111", true, true}, {"::ffff:1.1.1.1", true, true},
		{"127.0.0.1", false, true}, {"127.8.8.8", false, true}, {"::1", false, true}, {"::ffff:127.0.0.1", false, true},
		{"10.0.0.1", false, true}, {"172.16.0.1", false, true}, {"192.168.1.1", false, true}, {"fd00::1", false, true}, {"::ffff:10.0.0.1", false, true},
		{"169.254.169.254", false, false}, {"::ffff:169.254.169.254", false, false}, {"fe80::1", false, false}, {"fe80::1%eth0", false, false},
		{"fd00:ec2::254", false, false}, {"fd20:ce::254", false, false}, {"168.63.129.16", false, false}, {"100.100.100.200", false, false},
		{"0.0.0.0", false, false}, {"::", false, false}, {"224.0.0.1", false, false}, {"ff02::1", false, false}, {"255.255.255.255", false, false},
		{"::ffff:168.63.129.16", false, false}, {"::ffff:100.64.0.1", false, false}, {"100.64.0.1", false, false}, {"198.18.0.1", false, false}, {"240.0.0.1", false, false}, {"0.1.2.3", false, false},
		{"64:ff9b::7f00:1", false, false}, {"64:ff9b::a9fe:a9fe", false, false}, {"2002:7f00:1::", false, false}, {"2001::1", false, false},
		{"::7f00:1", false, false}, {"fec0::1", false, false}, {"2001:db8::1", false, false},
	} {
		ip := netip.MustParseAddr(c.ip)
		if got := (egress.Guard{}).Allows(ip); got != c.public {
			t.Errorf("%s: %v", c.ip, got)
		}
		if got := (egress.Guard{Private: true}).Allows(ip); got != c.private {
			t.Errorf("%s on premises: %v", c.ip, got)
		}
	}
	if (egress.Guard{Private: true}).Allows(netip.Addr{}) {
		t.Error("no address is allowed")
	}
}

// Each block that is not the public internet's is refused from its first address to its last, and nothing beside it.
func TestEdgesOfBlocks(t *testing.T) {
	for _, c := range []struct{ before, first, last, after string }{
		{"", "0.0.0.0", "0.255.255.255", "1.0.0.0"},
		{"100.63.255.255", "100.64.0.0", "100.127.255.255", "100.128.0.0"},
		{"191.255.255.255", "192.0.0.0", "192.0.0.255", "192.0.1.0"},
		{"192.0.1.255", "192.0.2.0", "192.0.2.255", "192.0.3.0"},
		{"192.31.195.255", "192.31.196.0", "192.31.196.255", "192.31.197.0"},
		{"192.52.192.255", "192.52.193.0", "192.52.193.255", "192.52.194.0"},
		{"192.88.98.255", "192.88.99.0", "192.88.99.255", "192.88.100.0"},
		{"192.175.47.255", "192.175.48.0", "192.175.48.255", "192.175.49.0"},
		{"198.17.255.255", "198.18.0.0", "198.19.255.255", "198.20.0.0"},
		{"198.51.99.255", "198.51.100.0", "198.51.100.255", "198.51.101.0"},
		{"203.0.112.255", "203.0.113.0", "203.0.113.255", "203.0.114.0"},
		{"223.255.255.255", "224.0.0.0", "255.255.255.255", ""},
		{"9.255.255.255", "10.0.0.0", "10.255.255.255", "11.0.0.0"},
		{"126.255.255.255", "127.0.0.0", "127.255.255.255", "128.0.0.0"},
		{"169.253.255.255", "169.254.0.0", "169.254.255.255", "169.255.0.0"},
		{"172.15.255.255", "172.16.0.0", "172.31.255.255", "172.32.0.0"},
		{"192.167.255.255", "192.168.0.0", "192.168.255.255", "192.169.0.0"},
		{"168.63.129.15", "168.63.129.16", "168.63.129.16", "168.63.129.17"},
		{"", "::", "::255.255.255.255", "::1:0:0:0"},
		{"64:ff9a:ffff:ffff:ffff:ffff:ffff:ffff", "64:ff9b::", "64:ff9b::ffff:ffff", "64:ff9b::1:0:0"},
		{"64:ff9b:0:ffff:ffff:ffff:ffff:ffff", "64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", "64:ff9b:2::"},
		{"ff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "100::", "100::ffff:ffff:ffff:ffff", "100:0:0:1::"},
		{"2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:200::"},
		{"2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::"},
		{"2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2003::"},
		{"3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", "3fff:1000::"},
		{"5eff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "5f01::"},
		{"", "fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ""},
		{"", "fe80::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ""},
		{"", "ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ""},
	} {
		for _, ip := range []string{c.first, c.last} {
			if (egress.Guard{}).Allows(netip.MustParseAddr(ip)) {
				t.Errorf("%s is allowed", ip)
			}
		}
		for _, ip := range []string{c.before, c.after} {
			if ip != "" && !(egress.Guard{}).Allows(netip.MustParseAddr(ip)) {
				t.Errorf("%s is refused", ip)
			}
		}
	}
	// The services of cloud providers are refused where the networks around them are private.
	for ip, want := range map[string]bool{"fd00:ec1:ffff:ffff:ffff:ffff:ffff:ffff": true, "fd00:ec2::": false, "fd00:ec2:ffff:ffff:ffff:ffff:ffff:ffff": false, "fd00:ec3::": true,
		"fd20:cd:ffff:ffff:ffff:ffff:ffff:ffff": true, "fd20:ce::": false, "fd20:ce::ffff:ffff:ffff:ffff": false, "fd20:ce:0:1::": true} {
		if (egress.Guard{Private: true}).Allows(netip.MustParseAddr(ip)) != want {
			t.Errorf("%s: %v", ip, !want)
		}
	}
}

// An operator who opens everything opens neither what is no address of a server nor what only the machine's provider answers at.
func TestEverythingOpened(t *testing.T) {
	all := egress.Guard{Private: true, Networks: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}}
	for ip, want := range map[string]bool{"127.0.0.1": true, "10.0.0.1": true, "198.18.0.1": true, "::1": true, "fd00::1": true, "100.100.100.199": true, "1.1.1.1": true,
		"0.0.0.0": false, "::": false, "::ffff:0.0.0.0": false, "224.0.0.1": false, "ff02::1": false, "ff0e::1": false, "169.254.169.254": false, "::ffff:169.254.169.254": false, "fe80::1%eth0": false,
		"168.63.129.16": false, "100.100.100.200": false, "fd00:ec2::254": false, "fd20:ce::254": false, "64:ff9b::a9fe:a9fe": false} {
		if all.Allows(netip.MustParseAddr(ip)) != want {
			t.Errorf("%s: %v", ip, !want)
		}
	}
	if all.Allows(netip.Addr{}) || all.Control("tcp", "localhost:80", nil) == nil || all.Control("tcp", "1.1.1.1", nil) == nil {
		t.Error("what is no address is allowed")
	}
}

// No connection is waited for without end, and no answer's headers are read without one.
func TestBounds(t *testing.T) {
	dialer := egress.Guard{}.Dialer()
	transport := egress.Transport(&dialer)
	if dialer.Timeout <= 0 || transport.TLSHandshakeTimeout <= 0 || transport.MaxResponseHeaderBytes <= 0 {
		t.Errorf("%+v, %+v", dialer, transport)
	}
	if transport.TLSClientConfig.MinVersion < tls.VersionTLS12 || transport.TLSClientConfig.InsecureSkipVerify {
		t.Errorf("%+v", transport.TLSClientConfig)
	}
}

// What an operator lists is opened, and nothing beside it; metadata and link-local addresses nothing opens.
func TestNetworks(t *testing.T) {
	networks, err := egress.ParseNetworks([]string{"10.1.0.0/16", " 127.0.0.1", "100.64.0.0/10", "169.254.0.0/16", "fd00::/8"})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	want := map[string]bool{
		"10.1.2.3": true, "::ffff:10.1.2.3": true, "127.0.0.1": true, "100.64.0.1": true, "fd00::1": true, "1.1.1.1": true,
		"10.2.0.1": false, "127.0.0.2": false, "::1": false, "192.168.1.1": false,
		"169.254.169.254": false, "100.100.100.200": false, "fd00:ec2::254": false,
	}
	for ip := range want {
		got[ip] = egress.Guard{Networks: networks}.Allows(netip.MustParseAddr(ip))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// A network without IPv4 opens the prefix of its translator, and with it no address that is not open anyway.
	networks, err = egress.ParseNetworks([]string{"64:ff9b::/96", "10.1.0.0/16"})
	if err != nil {
		t.Fatal(err)
	}
	for ip, want := range map[string]bool{"64:ff9b::101:101": true, "64:ff9b::a01:203": true, "64:ff9b::a02:1": false, "64:ff9b::7f00:1": false,
		"64:ff9b::a9fe:a9fe": false, "64:ff9b::6464:64c8": false, "64:ff9b::": false, "64:ff9b:1::101:101": false} {
		if got := (egress.Guard{Networks: networks}).Allows(netip.MustParseAddr(ip)); got != want {
			t.Errorf("%s by a translator: %v", ip, got)
		}
	}
	for _, text := range []string{"", "10.1.0.0/33", "localhost", "10.1.2"} {
		if _, err := egress.ParseNetworks([]string{text}); err == nil {
			t.Errorf("%q is a network", text)
		}
	}
}
