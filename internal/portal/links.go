// SPDX-License-Identifier: Apache-2.0

package portal

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// Prefix of every path that a Portal serves.
const Prefix = "/releases/"

// KeyBytes is the length of the key of links.
const KeyBytes = 32

// purpose keeps an HMAC of this key from meaning anything else, should the key ever have another use.
const purpose = "sirrat release page v1"

// Links are the addresses of releases' pages.
type Links struct {
	key  []byte
	base string // without the slash at the end
}

// NewLinks returns links below the address at which people reach the server. Example: https://sirrat.dynors.com.
func NewLinks(key []byte, publicURL string) (*Links, error) {
	if len(key) != KeyBytes {
		return nil, fmt.Errorf("links to pages: the key has %d bytes, want %d", len(key), KeyBytes)
	}
	u, err := url.Parse(publicURL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.RawQuery != "" || u.User != nil || u.Fragment != "" {
		return nil, errors.New("links to pages: the public URL is not like https://sirrat.example.com")
	}
	return &Links{key: key, base: strings.TrimRight(u.String(), "/")}, nil
}

// Of is the address of a release's page. It opens the page of this release, and not of a later one with its name.
func (l *Links) Of(r *v1alpha1.Release) string {
	return l.base + Prefix + r.Namespace + "/" + r.Name + "/" + l.capability(r)
}

// capability is 256 bits that nobody can guess who does not have the key. Names and UIDs hold no NUL.
func (l *Links) capability(r *v1alpha1.Release) string {
	mac := hmac.New(sha256.New, l.key)
	mac.Write([]byte(strings.Join([]string{purpose, r.Namespace, r.Name, string(r.UID)}, "\x00")))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// opens tells whether a capability is the release's. A release that was never stored has none.
func (l *Links) opens(r *v1alpha1.Release, capability string) bool {
	same := hmac.Equal([]byte(l.capability(r)), []byte(capability))
	return same && r.UID != ""
}
