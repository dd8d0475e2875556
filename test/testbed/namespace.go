// SPDX-License-Identifier: Apache-2.0

package testbed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// threadNet is the network namespace of the calling thread.
const threadNet = "/proc/thread-self/ns/net"

// Namespace is a network namespace of its own, with a loopback interface. It is gone when the test and all processes in it
// are.
type Namespace struct{ fd, home int }

// NewNamespace makes a network namespace.
func NewNamespace(t testing.TB) *Namespace {
	t.Helper()
	n := &Namespace{}
	// The thread goes home and lives on: what it has started would be told to end with it (Pdeathsig).
	runtime.LockOSThread()
	err := func() (err error) {
		if n.home, err = unix.Open(threadNet, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return err
		}
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		if n.fd, err = unix.Open(threadNet, unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
			err = loopbackUp()
		}
		return errors.Join(err, unix.Setns(n.home, unix.CLONE_NEWNET))
	}()
	if err != nil {
		t.Fatalf("network namespaces cannot be made on this machine: %v", err)
	}
	runtime.UnlockOSThread()
	t.Cleanup(func() {
		_ = unix.Close(n.fd)
		_ = unix.Close(n.home)
	})
	return n
}

func loopbackUp() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(socket) }()
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, request)
}

// Do calls f in the namespace: sockets that it opens and processes that it starts belong there.
func (n *Namespace) Do(f func() error) error {
	runtime.LockOSThread()
	if err := unix.Setns(n.fd, unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter the network namespace: %w", err)
	}
	defer func() {
		if err := unix.Setns(n.home, unix.CLONE_NEWNET); err == nil {
			runtime.UnlockOSThread() // otherwise the thread ends with the goroutine
		}
	}()
	return f()
}

// Start starts a command in the namespace.
func (n *Namespace) Start(cmd *exec.Cmd) error { return n.Do(cmd.Start) }

// Listen listens on a free port of 127.0.0.1 in the namespace.
func (n *Namespace) Listen(t testing.TB) net.Listener {
	t.Helper()
	return n.ListenAt(t, "127.0.0.1:0")
}

// ListenAt listens at an address in the namespace.
func (n *Namespace) ListenAt(t testing.TB, address string) net.Listener {
	t.Helper()
	var listener net.Listener
	err := n.Do(func() (err error) {
		listener, err = net.Listen("tcp", address)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// Forward makes an address at which this process reaches somebody reachable in the namespace too, until the test is over.
func (n *Namespace) Forward(t testing.TB, address string) {
	t.Helper()
	listener := n.ListenAt(t, address)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			go splice(in, address)
		}
	}()
}

// splice passes bytes on in both directions until either side has said all.
func splice(in net.Conn, address string) {
	defer in.Close()
	out, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer out.Close()
	done := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
		go func() {
			_, _ = io.Copy(way[1], way[0]) // ends when either side is closed
			done <- struct{}{}
		}()
	}
	<-done
}

// Dial connects from within the namespace.
func (n *Namespace) Dial(ctx context.Context, network, address string) (connection net.Conn, err error) {
	err = n.Do(func() (err error) {
		connection, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return connection, err
}

// Run runs a command in the namespace.
func (n *Namespace) Run(t testing.TB, name string, args ...string) {
	t.Helper()
	err := n.Do(func() error {
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s %q: %w: %s", name, args, err, out)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
