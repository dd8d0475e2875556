// SPDX-License-Identifier: Apache-2.0

// Command app is what these tests run in containers: a small HTTP server whose misbehaviour is switched on by its
// environment. It imports the standard library only, so that it is built in a moment and runs in an empty image.
package main

import (
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

// address in the container.
const address = ":8080"

func main() {
	if len(os.Args) > 1 && os.Args[1] == "health" {
		answer, err := http.Get("http://127.0.0.1" + address + "/health")
		if err != nil {
			os.Exit(1)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			os.Exit(1)
		}
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "job" {
		job()
		return
	}
	fmt.Println("version", os.Getenv("VERSION"), "starts")
	begin := time.Now()
	if after, err := time.ParseDuration(os.Getenv("EXIT_AFTER")); err == nil {
		time.AfterFunc(after, func() {
			fmt.Fprintln(os.Stderr, "boom")
			os.Exit(3)
		})
	}
	if size, err := strconv.Atoi(os.Getenv("HOG")); err == nil {
		go hog(size)
	}
	flap, _ := time.ParseDuration(os.Getenv("FLAP"))
	http.HandleFunc("/version", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, os.Getenv("VERSION")) })
	http.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, err := os.Stat(os.Getenv("SICK_FILE"))
		sick := os.Getenv("SICK") != "" || err == nil || flap > 0 && int(time.Since(begin)/flap)%2 == 1
		if sick {
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
	if err := http.ListenAndServe(address, nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// job takes JOB_TIME and ends with JOB_EXIT.
func job() {
	took, _ := time.ParseDuration(os.Getenv("JOB_TIME"))
	code, _ := strconv.Atoi(os.Getenv("JOB_EXIT"))
	time.Sleep(took)
	fmt.Println("migrated to", os.Getenv("VERSION"))
	os.Exit(code)
}

// hog takes memory page by page.
func hog(size int) {
	memory := make([]byte, size)
	for i := 0; i < len(memory); i += os.Getpagesize() {
		memory[i] = 1
	}
	fmt.Println("took", len(memory))
}
