// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

// Account is the user name and password that a Docker config.json has for a registry's host; both are empty where it has none,
// or a token instead.
func Account(dockerConfigJSON []byte, host string) (username, password string, err error) {
	keys, err := keychainOf(dockerConfigJSON)
	if err != nil {
		return "", "", err
	}
	at, err := name.NewRegistry(host)
	if err != nil {
		return "", "", errors.New("the registry's host is none")
	}
	auth, err := keys.Resolve(at)
	if err != nil {
		return "", "", err
	}
	found, err := auth.Authorization()
	if err != nil || auth == authn.Anonymous {
		return "", "", err
	}
	return found.Username, found.Password, nil
}
