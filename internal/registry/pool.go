// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"crypto/sha256"
	"net"
	"net/http"
	"sync"
	"time"

	"k8s.io/utils/lru"

	"gitlab.com/dynors/sirrat/internal/egress"
)

// pooled is how many clients are kept: one for each project's credentials.
const pooled = 1024

// Pool keeps the clients of all projects, so that each stays logged in. Safe for concurrent use.
type Pool struct {
	dialer  net.Dialer
	first   time.Duration
	mu      sync.Mutex
	clients *lru.Cache
}

// NewPool makes an empty pool, whose clients connect to no address that the guard does not allow.
func NewPool(guard egress.Guard) *Pool { return NewPoolRetrying(guard, firstPause) }

// NewPoolRetrying is NewPool with another pause after the first failure in a row.
func NewPoolRetrying(guard egress.Guard, after time.Duration) *Pool {
	return &Pool{dialer: guard.Dialer(), first: after, clients: lru.New(pooled)}
}

// Client is the one for these credentials and authorities, as in New. When they cannot be used, every call of it says so.
func (p *Pool) Client(dockerConfigJSON, ca []byte) *Client {
	return p.ClientOf(ProjectAccount, dockerConfigJSON, ca)
}

// ClientOf is the same for credentials that are declared elsewhere than in the Project: account is what messages call the
// place.
func (p *Pool) ClientOf(account string, dockerConfigJSON, ca []byte) *Client {
	type material struct {
		account    string
		config, ca [sha256.Size]byte
	}
	key := material{account, sha256.Sum256(dockerConfigJSON), sha256.Sum256(ca)}
	p.mu.Lock()
	defer p.mu.Unlock()
	if known, ok := p.clients.Get(key); ok {
		return known.(*Client)
	}
	c, err := makeClient(dockerConfigJSON, ca, &p.dialer)
	if err != nil {
		problem := &Problem{Kind: KindUnusable, Text: err.Error() + ": mend the Secret of " + account, cause: err}
		c = newClient(anonymous{}, refusing{problem})
		c.unusable = problem
	}
	c.account, c.first = account, p.first
	p.clients.Add(key, c)
	return c
}

// refusing is the transport of a client that cannot be used: whichever way a request takes, it goes nowhere.
type refusing struct{ problem *Problem }

// RoundTrip implements http.RoundTripper.
func (r refusing) RoundTrip(*http.Request) (*http.Response, error) { return nil, r.problem }
