// SPDX-License-Identifier: Apache-2.0

package hooks

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"strings"
	"time"
)

const (
	// MinSecret is the least length of a secret that opens anything, in bytes.
	MinSecret = 16
	// Tolerance is how far the time of a signed delivery may be from now, either way: that of the Standard Webhooks libraries.
	Tolerance = 5 * time.Minute

	// maxSignatures bounds the signatures that one header may hold: one for each key while keys change.
	maxSignatures = 8
	maxSignedID   = 256
	signingPrefix = "whsec_"
)

// Secret is a value of a Secret as a webhook proves itself with: without a line break at its end; nil if it is too short to
// be one.
func Secret(value []byte) []byte {
	if value = bytes.TrimRight(value, "\r\n"); len(value) < MinSecret {
		return nil
	}
	return value
}

// IsSigningToken tells whether a value of a Secret is a signing token (whsec_…) with a key that is long enough.
func IsSigningToken(value []byte) bool { return usable(signingKey(Secret(value))) == 1 }

// TokenMatches tells whether a header's value is one of the secrets. It takes as long for each, found or not, and as long for
// none as for one that is not it.
func TokenMatches(value string, secrets ...[]byte) bool {
	sent, found := sha256.Sum256([]byte(value)), 0
	for _, secret := range some(secrets) {
		want := sha256.Sum256(secret)
		found |= subtle.ConstantTimeCompare(sent[:], want[:]) & usable(secret)
	}
	return found == 1
}

// BodySigned tells whether signature is the hexadecimal HMAC-SHA256 of the body under one of the secrets, as SonarQube sends
// it in X-Sonar-Webhook-HMAC-SHA256. It takes as long for none as for one.
func BodySigned(signature string, body []byte, secrets ...[]byte) bool {
	sent, err := hex.DecodeString(signature)
	if err != nil {
		sent = nil
	}
	found := 0
	for _, secret := range some(secrets) {
		found |= subtle.ConstantTimeCompare(sent, sum(secret, body)) & usable(secret)
	}
	return found == 1
}

// Signed is what the headers of a delivery say of its signature, in the scheme of Standard Webhooks: webhook-id,
// webhook-timestamp and webhook-signature.
type Signed struct{ ID, Timestamp, Signature string }

// Fresh tells whether the headers have the scheme's form and the delivery was signed at about now. It does not depend on any
// secret, and means nothing without Matches.
func (s Signed) Fresh(now time.Time) bool {
	seconds, err := strconv.ParseInt(s.Timestamp, 10, 64)
	if err != nil || s.ID == "" || len(s.ID) > maxSignedID || strings.Count(s.Signature, " ") >= maxSignatures {
		return false
	}
	at := time.Unix(seconds, 0)
	return at.After(now.Add(-Tolerance)) && at.Before(now.Add(Tolerance))
}

// Matches tells whether one of the signatures is that of the body under one of the signing tokens (whsec_…). It takes as long
// for none as for one.
func (s Signed) Matches(body []byte, tokens ...[]byte) bool {
	signed, found := []byte(s.ID+"."+s.Timestamp+"."), 0
	for _, token := range some(tokens) {
		key := signingKey(token)
		want := sum(key, signed, body)
		for i, signature := range strings.Split(s.Signature, " ") {
			if i == maxSignatures {
				break
			}
			version, encoded, _ := strings.Cut(signature, ",")
			sent, err := base64.StdEncoding.DecodeString(encoded)
			if version == "v1" && err == nil {
				found |= subtle.ConstantTimeCompare(sent, want) & usable(key)
			}
		}
	}
	return found == 1
}

// signingKey is the key in a signing token; nil for what is none.
func signingKey(token []byte) []byte {
	encoded, ok := bytes.CutPrefix(token, []byte(signingPrefix))
	if !ok {
		return nil
	}
	key, err := base64.StdEncoding.DecodeString(string(encoded))
	if err != nil {
		return nil
	}
	return key
}

// some is secrets, or one that opens nothing if there are none: how long a comparison takes tells nobody what is expected.
func some(secrets [][]byte) [][]byte {
	if len(secrets) == 0 {
		return [][]byte{nil}
	}
	return secrets
}

// usable is 1 for a secret that may open something.
func usable(secret []byte) int {
	if len(secret) >= MinSecret {
		return 1
	}
	return 0
}

// sum signs the parts one after the other: bodies are large, and are not copied for who may be nobody.
func sum(key []byte, parts ...[]byte) []byte {
	mac := hmac.New(sha256.New, key)
	for _, part := range parts {
		mac.Write(part)
	}
	return mac.Sum(nil)
}
