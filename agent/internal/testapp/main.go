// SPDX-License-Identifier: Apache-2.0

// Command testapp is what the tests of the agent run in containers: a small HTTP server whose misbehaviour is switched on by
// its environment. It imports the standard library only, so that it is built in a moment and runs in an empty image.
package main

import (
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
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
	var sick atomic.Bool
	sick.Store(os.Getenv("SICK") != "")
	if delay, err := time.ParseDuration(os.Getenv("READY_AFTER")); err == nil {
		sick.Store(true)
		time.AfterFunc(delay, func() { sick.Store(false) })
	}
	http.HandleFunc("/version", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, os.Getenv("VERSION")) })
	http.HandleFunc("/runs", func(w http.ResponseWriter, _ *http.Request) {
		text, _ := os.ReadFile("/data/runs")
		_, _ = w.Write(text)
	})
	http.HandleFunc("/sicken", func(http.ResponseWriter, *http.Request) { sick.Store(true) })
	http.HandleFunc("/cure", func(http.ResponseWriter, *http.Request) { sick.Store(false) })
	http.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if sick.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, `{"status":"DOWN"}`)
			return
		}
		fmt.Fprint(w, `{"status":"UP"}`)
	})
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-stop
		os.Exit(0)
	}()
	if err := http.ListenAndServe(":"+port, nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
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
