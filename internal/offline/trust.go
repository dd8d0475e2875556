// SPDX-License-Identifier: Apache-2.0

package offline

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
)

// maxTrust is the most that a file of trust may have.
const maxTrust = 1 << 20

// Trust is what a server must know to be a host that never speaks with its control plane. None of it is secret; that it is
// unaltered is what its fingerprint, compared by people, says.
type Trust struct {
	// Version of the format.
	Version int `json:"version"`
	// Host and UID of the Host object.
	Host string `json:"host"`
	UID  string `json:"uid"`
	// Server is the control plane's address and CA its CA (PEM), for the day on which it can be reached.
	Server string `json:"server,omitempty"`
	CA     string `json:"ca,omitempty"`
	// Keys (PEM, by id) may sign authorizations; KeySet is the serial number of the statement that they are from, 0 for none.
	Keys    map[string]string `json:"keys"`
	KeySet  int64             `json:"keySet,omitempty"`
	Retired map[string]string `json:"retired,omitempty"`
	Revoked map[string]string `json:"revoked,omitempty"`
}

// Encode is the content of the file, and its fingerprint: the SHA-256 of the file, as sha256sum shows it.
func (t Trust) Encode() (text []byte, fingerprint string, err error) {
	if text, err = json.MarshalIndent(t, "", "  "); err != nil {
		return nil, "", fmt.Errorf("encode trust: %w", err)
	}
	text = append(text, '\n')
	return text, sum(text), nil
}

// ParseTrust reads such a file, if it has that fingerprint.
func ParseTrust(text []byte, fingerprint string) (*Trust, error) {
	if len(text) > maxTrust {
		return nil, fmt.Errorf("it has more than %d bytes", maxTrust)
	}
	if err := CheckDigest(fingerprint); err != nil {
		return nil, fmt.Errorf("fingerprint %q: it is sha256: and 64 hexadecimal digits, as `kubectl sirrat host export` printed it", fingerprint)
	}
	if got := sum(text); subtle.ConstantTimeCompare([]byte(got), []byte(fingerprint)) != 1 {
		return nil, fmt.Errorf("its fingerprint is %s, not %s: it was altered, or is another one", got, fingerprint)
	}
	t := &Trust{}
	if err := decode(text, t); err != nil {
		return nil, fmt.Errorf("it cannot be read: %w", err)
	}
	if t.Version != Version || t.Host == "" || t.UID == "" || len(t.Keys) == 0 {
		return nil, fmt.Errorf("it is of format %d, this program reads %d; or it names no host or no key", t.Version, Version)
	}
	return t, nil
}
