// SPDX-License-Identifier: Apache-2.0

package idtoken

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/time/rate"

	"gitlab.com/dynors/sirrat/internal/egress"
)

// Bounds of what is asked of issuers.
const (
	// refreshAfter is when keys are fetched again, so that one that the issuer withdrew opens nothing for much longer.
	refreshAfter = time.Hour
	// maxStale is how long the last keys are good while the issuer cannot be reached.
	maxStale = 24 * time.Hour
	// failurePause lies between a fetch that failed and the next.
	failurePause = 15 * time.Second
	// A key that is not known may be new: such fetches are limited, since anybody can make kids up.
	unknownEvery = 10 * time.Second
	unknownBurst = 2

	fetchTimeout = 5 * time.Second // for both documents
	maxDiscovery = 64 << 10        // bytes
	maxKeySet    = 256 << 10       // bytes
	maxKeys      = 64
	maxRedirects = 3
	maxIssuers   = 256
)

// Options of NewVerifier.
type Options struct {
	// Transport reaches the issuers. Default: one that reaches the public internet only.
	Transport http.RoundTripper
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// Verifier keeps the keys of issuers. It is safe for concurrent use.
type Verifier struct {
	o      Options
	client *http.Client

	mu      sync.Mutex
	issuers map[string]*issuer
}

// NewVerifier returns a Verifier that knows no issuer yet: each is asked for its keys when the first token of it comes.
func NewVerifier(o Options) *Verifier {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Transport == nil {
		dialer := egress.Guard{}.Dialer()
		o.Transport = egress.Transport(&dialer)
	}
	return &Verifier{o: o, issuers: map[string]*issuer{}, client: &http.Client{Transport: o.Transport, Timeout: fetchTimeout, CheckRedirect: checkRedirect}}
}

func checkRedirect(r *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return fmt.Errorf("more than %d redirects", maxRedirects)
	}
	return checkURL(r.URL)
}

func checkURL(u *url.URL) error {
	if u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return errors.New("not an https URL with a host")
	}
	return nil
}

// issuer is what is known of one.
type issuer struct {
	used time.Time // guarded by the Verifier

	mu      sync.Mutex
	keys    map[string]jose.JSONWebKey // by kid; nil before the first fetch that succeeded
	fetched time.Time                  // when keys were
	tried   time.Time                  // when the last fetch ended
	failure error                      // of the last fetch
	flight  chan struct{}              // closed when the fetch that runs has ended; nil when none runs
	unknown *rate.Limiter
}

// issuer returns what is known of an issuer. The one that was not asked about for longest gives way when there are too many.
func (v *Verifier) issuer(name string) *issuer {
	v.mu.Lock()
	defer v.mu.Unlock()
	is := v.issuers[name]
	if is == nil {
		if len(v.issuers) >= maxIssuers {
			var oldest string
			for name, other := range v.issuers {
				if oldest == "" || other.used.Before(v.issuers[oldest].used) {
					oldest = name
				}
			}
			delete(v.issuers, oldest)
		}
		is = &issuer{unknown: rate.NewLimiter(rate.Every(unknownEvery), unknownBurst)}
		v.issuers[name] = is
	}
	is.used = v.o.Now()
	return is
}

// key returns the issuer's key of that id, after fetching the keys if they are old or do not have it.
func (v *Verifier) key(ctx context.Context, name, kid string) (jose.JSONWebKey, error) {
	if kid == "" {
		return jose.JSONWebKey{}, &Foreign{"no kid"}
	}
	is := v.issuer(name)
	if flight := v.wanted(is, name, kid); flight != nil {
		select {
		case <-flight:
		case <-ctx.Done():
			return jose.JSONWebKey{}, &Unavailable{After: time.Second, Err: ctx.Err()}
		}
	}
	is.mu.Lock()
	defer is.mu.Unlock()
	now := v.o.Now()
	key, known := is.keys[kid]
	switch {
	case is.keys != nil && now.Sub(is.fetched) < maxStale && known:
		return key, nil
	case is.failure != nil:
		return jose.JSONWebKey{}, &Unavailable{After: max(time.Second, failurePause-now.Sub(is.tried)), Err: is.failure}
	}
	return jose.JSONWebKey{}, &Foreign{"the issuer has no key of that kid"}
}

// wanted returns the fetch that is to be waited for before the key is looked up, starting one if need be; nil for none.
func (v *Verifier) wanted(is *issuer, name, kid string) <-chan struct{} {
	is.mu.Lock()
	defer is.mu.Unlock()
	now := v.o.Now()
	_, known := is.keys[kid]
	old := is.keys == nil || now.Sub(is.fetched) >= refreshAfter
	switch {
	case known && !old:
		return nil
	case is.flight != nil:
		return is.flight
	case is.failure != nil && now.Sub(is.tried) < failurePause:
		return nil
	case !old && !is.unknown.AllowN(now, 1):
		return nil
	}
	flight := make(chan struct{})
	is.flight = flight
	go func() { // whoever waits may go away; the keys are for all
		keys, err := v.fetch(name)
		is.mu.Lock()
		defer is.mu.Unlock()
		is.tried, is.failure, is.flight = v.o.Now(), err, nil
		if err == nil {
			is.keys, is.fetched = keys, is.tried
		}
		close(flight)
	}()
	return flight
}

// fetch asks the issuer where its keys are, and for them.
func (v *Verifier) fetch(name string) (map[string]jose.JSONWebKey, error) {
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
	defer cancel()
	var found struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	if err := v.get(ctx, strings.TrimSuffix(name, "/")+"/.well-known/openid-configuration", maxDiscovery, &found); err != nil {
		return nil, fmt.Errorf("discovery: %w", err)
	}
	if found.Issuer != name {
		return nil, errors.New("discovery: the document is of another issuer")
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := v.get(ctx, found.JWKSURI, maxKeySet, &set); err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("key set: more than %d keys", maxKeys)
	}
	keys := map[string]jose.JSONWebKey{}
	for _, raw := range set.Keys {
		// Keys of kinds that are not known sign nothing here. Of two with one kid the first counts.
		if key, ok := usable(raw); ok && keys[key.KeyID].Key == nil {
			keys[key.KeyID] = key
		}
	}
	return keys, nil // none, if the issuer withdrew them all
}

// usable returns a key that may have signed a token: public, for signatures, long enough. A symmetric key is none.
func usable(raw []byte) (jose.JSONWebKey, bool) {
	var key jose.JSONWebKey
	if err := key.UnmarshalJSON(raw); err != nil || key.KeyID == "" || !key.Valid() || !key.IsPublic() || key.Use != "" && key.Use != "sig" {
		return key, false
	}
	if public, ok := key.Key.(*rsa.PublicKey); ok && public.N.BitLen() < minRSA {
		return key, false
	}
	return key, true
}

// get reads a JSON document of at most size bytes.
func (v *Verifier) get(ctx context.Context, address string, size int64, into any) error {
	u, err := url.Parse(address)
	if err == nil {
		err = checkURL(u)
	}
	if err != nil {
		return errors.New("not an https URL with a host")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "SIRRAT")
	resp, err := v.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the issuer answers %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, size+1))
	if err != nil {
		return err
	}
	if int64(len(body)) > size {
		return fmt.Errorf("more than %d bytes", size)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return errors.New("not the JSON that was expected")
	}
	return nil
}
