// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"net"
	"sync"
	"testing"
)

// relay passes connections on until it is told otherwise.
type relay struct {
	listener net.Listener
	dial     func() (net.Conn, error)

	mu          sync.Mutex
	cut, frozen bool
	thawed      chan struct{}
	accepted    int
	open        map[net.Conn]bool
	stranded    map[net.Conn]bool
}

func newRelay(t testing.TB, listener net.Listener, dial func() (net.Conn, error)) *relay {
	r := &relay{listener: listener, dial: dial, open: map[net.Conn]bool{}, stranded: map[net.Conn]bool{}, thawed: make(chan struct{})}
	close(r.thawed)
	go r.serve()
	t.Cleanup(func() {
		listener.Close()
		r.thaw()
		r.set(true)
	})
	return r
}

// set cuts all connections and closes new ones at once, or lets them through again.
func (r *relay) set(cut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = cut
	if cut {
		for connection := range r.open {
			connection.Close()
		}
		clear(r.open)
	}
}

// freeze takes connections and bytes and passes nothing on, in either direction, until thaw.
func (r *relay) freeze() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.frozen {
		r.frozen, r.thawed = true, make(chan struct{})
	}
}

func (r *relay) thaw() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.frozen {
		r.frozen = false
		close(r.thawed)
	}
}

func (r *relay) gate() chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.thawed
}

func (r *relay) serve() {
	for {
		in, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.mu.Lock()
		r.accepted++
		r.mu.Unlock()
		go r.pass(in)
	}
}

func (r *relay) pass(in net.Conn) {
	defer in.Close()
	<-r.gate()
	out, err := r.dial()
	if err != nil {
		return
	}
	defer out.Close()
	r.mu.Lock()
	if r.cut {
		r.mu.Unlock()
		return
	}
	r.open[in], r.open[out] = true, true
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.open, in)
		delete(r.open, out)
		delete(r.stranded, in)
		delete(r.stranded, out)
	}()
	done := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
		go func() {
			r.copy(way[1], way[0])
			// Half-closing matters: the engine's API upgrades connections and ends them one way at a time.
			if half, ok := way[1].(interface{ CloseWrite() error }); ok {
				_ = half.CloseWrite()
			}
			done <- struct{}{}
		}()
	}
	<-done
	<-done
}

// copy passes bytes on. A connection that was stranded swallows them.
func (r *relay) copy(to, from net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		<-r.gate()
		if n > 0 && !r.isStranded(from) {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// strand leaves the connections there are without an answer for ever, and lets new ones through.
func (r *relay) strand() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for connection := range r.open {
		r.stranded[connection] = true
	}
}

// accepts is how many connections came so far.
func (r *relay) accepts() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.accepted
}

func (r *relay) isStranded(connection net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stranded[connection]
}
