// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// threadNet is the network namespace of the calling thread.
const threadNet = "/proc/thread-self/ns/net"

// namespace is a network namespace of its own, with a loopback interface. It is gone when the test and all processes in it
// are.
type namespace struct{ fd, home int }

func newNamespace(t testing.TB) *namespace {
	t.Helper()
	n := &namespace{}
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
		unix.Close(n.fd)
		unix.Close(n.home)
	})
	return n
}

func loopbackUp() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, request)
}

// do calls f in the namespace: sockets that it opens and processes that it starts belong there.
func (n *namespace) do(f func() error) error {
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

func (n *namespace) start(cmd *exec.Cmd) error { return n.do(cmd.Start) }

func (n *namespace) listen(t testing.TB) net.Listener {
	t.Helper()
	var listener net.Listener
	err := n.do(func() (err error) {
		listener, err = net.Listen("tcp", "127.0.0.1:0")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

func (n *namespace) dial(ctx context.Context, network, address string) (connection net.Conn, err error) {
	err = n.do(func() (err error) {
		connection, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return connection, err
}

// run runs a command in the namespace.
func (n *namespace) run(t testing.TB, name string, args ...string) {
	t.Helper()
	err := n.do(func() error {
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s %q: %w: %s", name, args, err, out)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
