// SPDX-License-Identifier: Apache-2.0

// Package socket is how the commands on a server ask the agent that runs there: HTTP on a unix socket in the agent's data
// folder. Only root and the user that the agent runs as get through: the folder is theirs, and the kernel says of each
// connection who made it.
//
// It knows nothing of what is asked. It may import the standard library and agent/disk.
package socket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"gitlab.com/dynors/sirrat/agent/disk"
)

// Name of the socket within the data folder.
const Name = "agent.sock"

// ErrNotRunning says that no agent answers in a data folder.
var ErrNotRunning = errors.New("no agent runs here")

// Bounds of a request and of an answer.
const (
	headerTimeout = 5 * time.Second
	maxHeader     = 16 << 10
	maxAnswer     = 1 << 20
	dialTimeout   = 2 * time.Second
	// maxPath is what the kernel takes as a socket's path.
	maxPath = 107
)

// Serve answers requests on the socket in a data folder until ctx ends. Whoever calls it holds the folder's lock, so that a
// socket that is there already is what a killed agent left.
func Serve(ctx context.Context, dir string, handler http.Handler) error {
	if err := disk.MkdirPrivate(dir); err != nil {
		return err
	}
	path := filepath.Join(dir, Name)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove old socket: %w", err)
	}
	short, release, err := shorten(dir)
	if err != nil {
		return err
	}
	listener, err := net.Listen("unix", short)
	release()
	if err != nil {
		return fmt.Errorf("listen on %s: %w", path, err)
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false) // by then the name may be that of the next agent's
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(fmt.Errorf("protect %s: %w", path, err), listener.Close())
	}
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: headerTimeout, ReadTimeout: headerTimeout, MaxHeaderBytes: maxHeader,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(&guarded{listener}); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", path, err)
	}
	return nil
}

// guarded accepts connections of root and of the process's own user only.
type guarded struct{ net.Listener }

func (g *guarded) Accept() (net.Conn, error) {
	for {
		connection, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if uid, err := peer(connection); err == nil && admitted(uid, os.Geteuid()) {
			return connection, nil
		}
		_ = connection.Close()
	}
}

// admitted says whether a user may ask an agent that runs as self.
func admitted(uid, self int) bool { return uid == 0 || uid == self }

// peer is the user at the other end of a connection, as the kernel knows it.
func peer(connection net.Conn) (uid int, err error) {
	raw, err := connection.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var credentials *syscall.Ucred
	var optionErr error
	err = raw.Control(func(fd uintptr) {
		credentials, optionErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err := errors.Join(err, optionErr); err != nil {
		return 0, err
	}
	return int(credentials.Uid), nil
}

// shorten is the path of a folder's socket in a form that the kernel takes, however long the folder's name is.
func shorten(dir string) (path string, release func(), err error) {
	if path := filepath.Join(dir, Name); len(path) <= maxPath {
		return path, func() {}, nil
	}
	folder, err := os.Open(dir)
	if err != nil {
		return "", nil, fmt.Errorf("open folder: %w", err)
	}
	return filepath.Join("/proc/self/fd", strconv.Itoa(int(folder.Fd())), Name), func() { _ = folder.Close() }, nil
}

// Get asks the agent of a data folder, and decodes what it answers. ErrNotRunning when there is none.
func Get(ctx context.Context, dir, path string, query url.Values, into any) error {
	return do(ctx, dir, http.MethodGet, path, query, into)
}

// Post has the agent of a data folder do something.
func Post(ctx context.Context, dir, path string, query url.Values, into any) error {
	return do(ctx, dir, http.MethodPost, path, query, into)
}

func do(ctx context.Context, dir, method, path string, query url.Values, into any) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		short, release, err := shorten(dir)
		if err != nil {
			return nil, err
		}
		defer release()
		return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "unix", short)
	}}}
	address := url.URL{Scheme: "http", Host: "agent", Path: path, RawQuery: query.Encode()}
	request, err := http.NewRequestWithContext(ctx, method, address.String(), nil)
	if err != nil {
		return fmt.Errorf("ask the agent: %w", err)
	}
	answer, err := client.Do(request)
	if err != nil {
		var refused *net.OpError
		if errors.As(err, &refused) && refused.Op == "dial" || errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: %w", ErrNotRunning, err)
		}
		return fmt.Errorf("ask the agent: %w", err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the agent's answer: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the agent refuses: %s", strings.TrimSpace(string(text)))
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("read the agent's answer: %w", err)
	}
	return nil
}

// Answer writes a value as JSON.
func Answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value) // whoever asked is gone
}
