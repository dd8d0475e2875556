// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/distribution/reference"
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

func (a Auth) basic() string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(a.Username+":"+a.Password))
}

// hubKey is what Docker's configuration calls the Docker Hub.
const hubKey = "https://index.docker.io/v1/"

// AuthFor picks the credentials for an image's registry out of a dockerconfigjson, and names the registry. Nothing, when
// there are none. Errors never quote the content.
func AuthFor(ref string, credentials []byte) (auth Auth, host string, err error) {
	if len(credentials) == 0 {
		return Auth{}, "", nil
	}
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return Auth{}, "", fmt.Errorf("%q: %w", ref, err)
	}
	var config struct {
		Auths map[string]struct {
			Auth
			Encoded string `json:"auth"`
		} `json:"auths"`
	}
	if err := json.Unmarshal(credentials, &config); err != nil {
		return Auth{}, "", errors.New("the registry secret is not a dockerconfigjson")
	}
	host = reference.Domain(named)
	for key, entry := range config.Auths {
		if registryHost(key) != host && !(host == "docker.io" && key == hubKey) {
			continue
		}
		auth := entry.Auth
		if entry.Encoded != "" && auth.Username == "" {
			plain, err := base64.StdEncoding.DecodeString(entry.Encoded)
			user, password, found := strings.Cut(string(plain), ":")
			if err != nil || !found {
				return Auth{}, "", fmt.Errorf("the registry secret's entry for %s cannot be read", host)
			}
			auth.Username, auth.Password = user, strings.TrimRight(password, "\x00")
		}
		return auth, host, nil
	}
	return Auth{}, host, nil
}

// registryHost strips what people put around a registry's host in a configuration.
func registryHost(key string) string {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	host, _, _ := strings.Cut(key, "/")
	return host
}
