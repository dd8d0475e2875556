// SPDX-License-Identifier: Apache-2.0

// Package egresstest has a name server for tests of guarded connections.
package egresstest

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
)

// Resolver answers every name with these addresses, one after the other.
func Resolver(t testing.TB, addresses ...string) *net.Resolver {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, 1500)
		for {
			n, from, err := server.ReadFrom(buffer)
			if err != nil {
				return
			}
			if reply := dnsReply(buffer[:n], addresses, &asked); reply != nil {
				_, _ = server.WriteTo(reply, from)
			}
		}
	}()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
}

// dnsReply answers a question for A or AAAA with the next of the addresses of its family.
func dnsReply(question []byte, addresses []string, asked *atomic.Int64) []byte {
	end := bytes.IndexByte(question[12:], 0) + 12 + 5
	kind := binary.BigEndian.Uint16(question[end-4:])
	var of []netip.Addr
	for _, a := range addresses {
		if ip := netip.MustParseAddr(a); ip.Is4() == (kind == 1) {
			of = append(of, ip)
		}
	}
	reply := append([]byte{}, question[:end]...)
	reply[2], reply[3] = 0x81, 0x80
	binary.BigEndian.PutUint64(reply[4:], 1<<48) // one question, nothing else
	if len(of) == 0 {
		return reply
	}
	ip := of[int(asked.Add(1)-1)%len(of)]
	reply[7] = 1
	reply = append(reply, 0xc0, 12, 0, byte(kind), 0, 1, 0, 0, 0, 0, 0, byte(len(ip.AsSlice())))
	return append(reply, ip.AsSlice()...)
}
