// SPDX-License-Identifier: Apache-2.0

// Package dockerconfig picks the credentials for a repository out of a Docker config.json, which is the content of Secrets of type
// kubernetes.io/dockerconfigjson.
//
// The content alone counts. A credential helper that it names would be a program of the machine that reads it, with accounts of
// that machine's own: none is run. Neither does the environment have a say (DOCKER_AUTH_CONFIG). Errors never quote the content.
//
// It imports the standard library only: agents use it as well.
package dockerconfig

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Auth is how to prove to a registry who asks.
type Auth struct {
	Username      string `json:"username"`
	Password      string `json:"password"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

// IsZero says whether it proves nothing.
func (a Auth) IsZero() bool { return a == Auth{} }

type entry struct {
	Auth
	Encoded string `json:"auth"`
}

// For is what the configuration has for a repository, given in full ("registry.example.com/team/app", or a registry's host alone);
// nothing, when it has nothing. Of several entries for one host that of the longest path above the repository counts, then the
// one for the whole host, then the first in the order of their keys.
func For(config []byte, repository string) (Auth, error) {
	var file struct {
		Auths   map[string]entry  `json:"auths"`
		Store   string            `json:"credsStore"`
		Helpers map[string]string `json:"credHelpers"`
	}
	if err := json.Unmarshal(config, &file); err != nil {
		return Auth{}, errors.New("the registry secret is not a Docker config.json") // the cause could quote a password
	}
	host, path := split(repository)
	best, rank := "", -1
	for _, key := range slices.Sorted(maps.Keys(file.Auths)) {
		if of, below := split(key); of == host && fit(below, path) > rank {
			best, rank = key, fit(below, path)
		}
	}
	auth, err := file.Auths[best].decoded()
	if err != nil {
		return Auth{}, fmt.Errorf("the registry secret's entry for %s cannot be read", host)
	}
	helped := rank >= 0 && file.Store != ""
	for key := range file.Helpers {
		of, _ := split(key)
		helped = helped || of == host
	}
	if auth.IsZero() && helped {
		return Auth{}, fmt.Errorf("the registry secret holds no password for %s: it names a program (credsStore, credHelpers) that has it on the machine "+
			"where the file was made. Make the secret with `kubectl create secret docker-registry`", host)
	}
	return auth, nil
}

// decoded is an entry with what "auth" holds, which is user and password.
func (e entry) decoded() (Auth, error) {
	if e.Encoded == "" {
		return e.Auth, nil
	}
	plain, err := base64.StdEncoding.DecodeString(e.Encoded)
	user, password, found := strings.Cut(string(plain), ":")
	if err != nil || !found || user == "" {
		return Auth{}, errors.New("no user and password")
	}
	e.Username, e.Password = user, strings.Trim(password, "\x00")
	return e.Auth, nil
}

// fit is how well an entry's path fits a repository's: its length where it is above, 1 where it is empty, 0 where it is another.
func fit(entry, repository string) int {
	switch {
	case entry == "":
		return 1
	case repository == entry || strings.HasPrefix(repository, entry+"/"):
		return 1 + len(entry)
	}
	return 0
}

// split is the registry's host and the path below, without what people put around them. Docker's own registry has several names.
func split(key string) (host, path string) {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	host, path, _ = strings.Cut(key, "/")
	path = strings.Trim(path, "/")
	switch host = strings.TrimSuffix(strings.ToLower(host), ":443"); host {
	case "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com":
		host = "docker.io"
	}
	if path == "v1" || path == "v2" { // of the API
		path = ""
	}
	return host, path
}
