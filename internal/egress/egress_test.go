// SPDX-License-Identifier: Apache-2.0

package egress_test

import (
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
