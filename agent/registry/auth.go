// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"encoding/base64"
	"fmt"

	"github.com/distribution/reference"

	"gitlab.com/dynors/sirrat/internal/dockerconfig"
)

// Auth is how to prove to a registry who asks.
type Auth dockerconfig.Auth

// IsZero says whether it proves nothing.
func (a Auth) IsZero() bool { return a == Auth{} }

func (a Auth) basic() string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(a.Username+":"+a.Password))
}

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
	found, err := dockerconfig.For(credentials, named.Name())
	return Auth(found), reference.Domain(named), err
}
