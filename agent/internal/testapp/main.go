// SPDX-License-Identifier: Apache-2.0

// Command testapp is what the tests of the agent run in containers: a small HTTP server whose misbehaviour is switched on by
// its environment, and which ends in good order when it is told to. It imports next to nothing, so that it is built in a moment
// and runs in an empty image.
//
// Told to proxy, it passes requests on to another service, whose name it resolves for every request, as nginx with a
// resolver, HAProxy with server-template or Caddy with dynamic upstreams do.
package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// grace is how long requests may take that are under way when it is told to stop.
const grace = 8 * time.Second

func main() {
	pose()
	port := os.Getenv("PORT")
	if port == "" {
		port = "8080"
	}
	if len(os.Args) > 1 && os.Args[1] == "health" {
		answer, err := http.Get("http://127.0.0.1:" + port + "/health")
		if err != nil || answer.StatusCode != http.StatusOK {
			os.Exit(1)
		}
		return
	}
	if len(os.Args) > 2 && os.Args[1] == "ask" { // its own server
		if answer, err := http.Get("http://127.0.0.1:" + port + os.Args[2]); err != nil || answer.StatusCode != http.StatusOK {
			os.Exit(1)
		}
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "job" {
		job(os.Args[2:])
	}
	if len(os.Args) > 2 && os.Args[1] == "says" { // ends well if its variable has that value
		if os.Getenv("SAYS") != os.Args[2] {
			fmt.Println("SAYS is", os.Getenv("SAYS"))
			os.Exit(1)
		}
		return
	}
	fmt.Println("version", os.Getenv("VERSION"), "starts")
	if os.Getenv("SAY") != "" {
		fmt.Println(os.Getenv("SAY"))
	}
	if code := os.Getenv("EXIT"); code != "" {
		fmt.Fprintln(os.Stderr, "boom: the database is on fire")
		n, _ := strconv.Atoi(code)
		os.Exit(n)
	}
	handle()
	if upstream := os.Getenv("PROXY_TO"); upstream != "" {
		http.Handle("/", &proxy{upstream: upstream})
	}
	serve(port)
}

// handle installs what it answers.
func handle() {
	var sick atomic.Bool
	sick.Store(os.Getenv("SICK") != "")
	if delay, err := time.ParseDuration(os.Getenv("READY_AFTER")); err == nil {
		sick.Store(true)
		time.AfterFunc(delay, func() { sick.Store(false) })
	}
	handle := func(path string, answer http.HandlerFunc) {
		if os.Getenv("PROXY_TO") == "" || path == "/health" {
			http.HandleFunc(path, answer)
		}
	}
	handle("/version", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, os.Getenv("VERSION")) })
	handle("/slow", func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(200 * time.Millisecond)
		fmt.Fprint(w, os.Getenv("VERSION"))
	})
	handle("/runs", func(w http.ResponseWriter, _ *http.Request) {
		text, _ := os.ReadFile("/data/runs")
		_, _ = w.Write(text)
	})
	handle("/sicken", func(http.ResponseWriter, *http.Request) { sick.Store(true) })
	handle("/cure", func(http.ResponseWriter, *http.Request) { sick.Store(false) })
	handle("/health", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if sick.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, `{"status":"DOWN"}`)
			return
		}
		fmt.Fprint(w, `{"status":"UP"}`)
	})
}

// serve until it is told to stop, then end what is under way and accept nothing new.
func serve(port string) {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT)
	if delay, err := time.ParseDuration(os.Getenv("LISTEN_AFTER")); err == nil {
		select {
		case <-stop:
			return
		case <-time.After(delay):
		}
	}
	listener, err := net.Listen("tcp", ":"+port)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	server := &http.Server{}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-stop
		if err := deafen(listener.(*net.TCPListener)); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), grace)
		defer cancel()
		_ = server.Shutdown(ctx)
	}()
	if err := server.Serve(listener); err != http.ErrServerClosed {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	<-ended
}

// backlog is how long it takes at most to accept the connections that the kernel has made already.
const backlog = 200 * time.Millisecond

// deafen lets no new connection be made, and waits until those that were made are accepted: a listener that is just closed
// resets what its backlog holds, under requests that nobody may send twice. Who knocks meanwhile is refused once it is closed.
func deafen(l *net.TCPListener) error {
	raw, err := l.SyscallConn()
	if err != nil {
		return err
	}
	drop := unix.SockFprog{Len: 1, Filter: &unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &drop)
	})
	if err != nil {
		return err
	}
	time.Sleep(backlog)
	return failed
}

// job notes that it runs in /data/runs, takes its time, and ends with an exit code: job NAME DURATION CODE.
func job(args []string) {
	f, err := os.OpenFile("/data/runs", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Fprintln(f, args[0], os.Getenv("VERSION"))
	f.Close()
	fmt.Println("job", args[0], "of version", os.Getenv("VERSION"), "runs")
	if secret, err := os.ReadFile("/run/secrets/password"); err == nil {
		fmt.Println("the secret is", string(secret))
	}
	d, _ := time.ParseDuration(args[1])
	time.Sleep(d)
	code, _ := strconv.Atoi(args[2])
	os.Exit(code)
}
