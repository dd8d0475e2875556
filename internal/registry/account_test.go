// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gitlab.com/dynors/sirrat/internal/egress"
	"gitlab.com/dynors/sirrat/internal/registry"
	"gitlab.com/dynors/sirrat/internal/registry/registrytest"
)

// TestSecretsSpeakForThemselves: a project's Secret has the server run no program, and has it prove nothing that is not in the
// Secret: what the server's own machine and environment have belongs to whoever operates it.
func TestSecretsSpeakForThemselves(t *testing.T) {
	r := registrytest.Start(t, registrytest.Options{Auth: registrytest.Htpasswd})
	r.Push(repository, "dev-a1b2c3d")
	dir := t.TempDir()
	ran := filepath.Join(dir, "ran")
	helper := fmt.Sprintf("#!/bin/sh\ntouch %s\necho '{\"Username\":%q,\"Secret\":%q}'\n", ran, registrytest.User, registrytest.Password)
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-operator"), []byte(helper), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	for name, c := range map[string]struct{ config, environment string }{
		"a store":     {`{"auths":{"` + r.Host + `":{}},"credsStore":"operator"}`, ""},
		"a helper":    {`{"credHelpers":{"` + r.Host + `":"operator"}}`, ""},
		"environment": {`{"auths":{}}`, fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, r.Host, base64.StdEncoding.EncodeToString([]byte(registrytest.User+":"+registrytest.Password)))},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			t.Setenv("DOCKER_AUTH_CONFIG", c.environment)
			_, err := registry.NewPool(egress.Guard{Private: true}).Client([]byte(c.config), nil).Resolve(t.Context(), r.Host+"/"+repository+":dev-a1b2c3d")
			if err == nil {
				t.Error("it was let in")
			} else if c.environment == "" && !strings.Contains(err.Error(), "mend the Secret of spec.registrySecretRef of the Project") {
				t.Errorf("no way out: %v", err)
			}
			if _, err := os.Stat(ran); err == nil {
				t.Error("the program was run")
				_ = os.Remove(ran)
			}
		})
	}
}

// TestAccountsOfPaths: of several accounts at one registry the one for the repository is used, always.
func TestAccountsOfPaths(t *testing.T) {
	r := registrytest.Start(t, registrytest.Options{Auth: registrytest.Htpasswd})
	r.Push(repository, "dev-a1b2c3d")
	config := fmt.Sprintf(`{"auths":{"%[1]s/elsewhere":{"username":"x","password":"y"},"%[1]s/%[2]s":{"username":%[3]q,"password":%[4]q},"%[1]s/zone":{"username":"x","password":"y"}}}`,
		r.Host, repository, registrytest.User, registrytest.Password)
	for range 10 {
		if _, err := registry.NewPool(egress.Guard{Private: true}).Client([]byte(config), nil).Resolve(t.Context(), r.Host+"/"+repository+":dev-a1b2c3d"); err != nil {
			t.Fatal(err)
		}
	}
}

// What an account is called is what the Secret says of the host, and nobody's where it says nothing.
func TestAccount(t *testing.T) {
	for name, c := range map[string]struct{ config, host, username, password string }{
		"its own":   {`{"auths":{"r.example":{"username":"u","password":"p"},"s.example":{"username":"x","password":"y"}}}`, "r.example", "u", "p"},
		"encoded":   {`{"auths":{"r.example":{"auth":"dTpwOnE="}}}`, "r.example", "u", "p:q"},
		"another's": {`{"auths":{"s.example":{"username":"x","password":"y"}}}`, "r.example", "", ""},
		"none":      {``, "r.example", "", ""},
	} {
		if username, password, err := registry.Account([]byte(c.config), c.host); err != nil || username != c.username || password != c.password {
			t.Errorf("%s: %q, %q, %v", name, username, password, err)
		}
	}
	for name, c := range map[string]struct{ config, host string }{"no config": {`{`, "r.example"}, "no host": {`{"auths":{}}`, "r.example/shop"}} {
		if username, password, err := registry.Account([]byte(c.config), c.host); err == nil || username+password != "" {
			t.Errorf("%s: %q, %q", name, username, password)
		}
	}
}
