// SPDX-License-Identifier: Apache-2.0

package envelope

import (
	"crypto"
	"io"
	"sync/atomic"
)

// Changing is a private key that is exchanged while it is in use. Whoever signs more than one thing that belongs together,
// or names the key beside the signature, takes Present once; Sign of this package does. It is safe for concurrent use.
type Changing struct{ key atomic.Pointer[crypto.Signer] }

// NewChanging returns one that holds key.
func NewChanging(key crypto.Signer) *Changing {
	c := &Changing{}
	c.Exchange(key)
	return c
}

// Exchange puts another key in its place.
func (c *Changing) Exchange(key crypto.Signer) { c.key.Store(&key) }

// Present is the key of this moment, which stays as it is.
func (c *Changing) Present() crypto.Signer { return *c.key.Load() }

// Public implements crypto.Signer with the key of this moment.
func (c *Changing) Public() crypto.PublicKey { return c.Present().Public() }

// Sign implements crypto.Signer with the key of this moment.
func (c *Changing) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return c.Present().Sign(rand, digest, opts)
}
