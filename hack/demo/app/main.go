// SPDX-License-Identifier: Apache-2.0

// Command app stands for the backend of SuperGest: a small HTTP service that knows which commit it was built from.
//
// Its image is made from scratch, so that it also answers its container's healthcheck: `backend health` asks the running
// service. The file /release.json in the image names the commit; a release marked broken there never becomes healthy.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"
)

const (
	address     = ":8080"
	releaseFile = "/release.json"
)

// release is what the image says of itself.
type release struct {
	Commit string `json:"commit"`
	Broken bool   `json:"broken,omitempty"`
}

func main() {
	log.SetFlags(log.LstdFlags | log.Lmsgprefix)
	if len(os.Args) > 1 && os.Args[1] == "health" {
		os.Exit(health())
	}
	if err := serve(); err != nil {
		log.Fatal(err)
	}
}

// health asks the service in the same container, as the image has no other program.
func health() int {
	client := http.Client{Timeout: 2 * time.Second}
	response, err := client.Get("http://127.0.0.1" + address + "/actuator/health")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		fmt.Fprintln(os.Stderr, "health:", response.Status)
		return 1
	}
	return 0
}

func serve() error {
	text, err := os.ReadFile(releaseFile)
	if err != nil {
		return fmt.Errorf("read what this image is: %w", err)
	}
	var r release
	if err := json.Unmarshal(text, &r); err != nil {
		return fmt.Errorf("read %s: %w", releaseFile, err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "SuperGest backend %s in %s\n", r.Commit, os.Getenv("ENVIRONMENT"))
	})
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, r)
	})
	mux.HandleFunc("GET /actuator/health", func(w http.ResponseWriter, _ *http.Request) {
		if r.Broken {
			answer(w, http.StatusServiceUnavailable, map[string]string{"status": "DOWN"})
			return
		}
		answer(w, http.StatusOK, map[string]string{"status": "UP"})
	})
	if r.Broken {
		log.Print("cannot reach the database: connection refused")
	}
	log.Printf("backend %s listens on %s", r.Commit, address)
	server := http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	return server.ListenAndServe()
}

// answer writes JSON as Spring Boot's Actuator does.
func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/vnd.spring-boot.actuator.v3+json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		log.Print(err)
	}
}
