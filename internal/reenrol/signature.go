// SPDX-License-Identifier: Apache-2.0

package reenrol

import (
	"crypto"
	"crypto/ecdsa"
)

// check verifies a signature by the only kind of key that agents make: ECDSA on P-256.
func check(key crypto.PublicKey, digest, signature []byte) error {
	public, ok := key.(*ecdsa.PublicKey)
	if !ok || !ecdsa.VerifyASN1(public, digest, signature) {
		return refusal("it is not signed by the certificate's key")
	}
	return nil
}
