// SPDX-License-Identifier: Apache-2.0

package enrol

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"gitlab.com/dynors/sirrat/internal/reenrol"
)

// againTimeout of the whole exchange.
const againTimeout = time.Minute

// maxAnswer bounds what the HTTP API answers, in bytes.
const maxAnswer = 64 << 10

// ErrNoWayBack says that the control plane does not take this server back by itself.
var ErrNoWayBack = errors.New("the control plane does not take this server back by itself")

// Again has a certificate issued for a new key after the present one has expired, by a proof with the present key, through
// the HTTP API. Nothing that it sends is of use to anybody else. Errors wrap ErrNoWayBack when trying again is of no use
// before a person has acted.
func Again(ctx context.Context, identity Identity, userAgent string, now time.Time) (*Identity, error) {
	if identity.API == "" {
		return nil, fmt.Errorf("%w: it never said where its HTTP API is", ErrNoWayBack)
	}
	pair, err := identity.certificate()
	if err != nil {
		return nil, err
	}
	old, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, errors.New("the key cannot sign")
	}
	key, request, err := identity.request()
	if err != nil {
		return nil, err
	}
	proof, err := reenrol.New(identity.Certificate, string(request), old, now)
	if err != nil {
		return nil, err
	}
	answer, err := identity.send(ctx, proof, userAgent)
	if err != nil {
		return nil, fmt.Errorf("ask %s for a new certificate: %w", identity.API, err)
	}
	if err := identity.take([]byte(answer.Certificate), key); err != nil {
		return nil, err
	}
	return &identity, nil
}

func (i *Identity) send(ctx context.Context, proof reenrol.Proof, userAgent string) (*reenrol.Answer, error) {
	way, err := wayOut(i.Proxy, i.NoProxy)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(proof)
	if err != nil {
		return nil, fmt.Errorf("encode proof: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, againTimeout)
	defer cancel()
	address := strings.TrimRight(i.API, "/") + "/api/hosts/" + url.PathEscape(i.Host) + "/certificate"
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", userAgent)
	client := &http.Client{
		Transport:     &http.Transport{Proxy: way.proxy, DialContext: way.dial, TLSHandshakeTimeout: dialTimeout, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, refusal(response.StatusCode, text)
	}
	answer := &reenrol.Answer{}
	if err := json.Unmarshal(text, answer); err != nil {
		return nil, errors.New("the answer cannot be read")
	}
	return answer, nil
}

// refusal words an answer other than 200.
func refusal(status int, text []byte) error {
	var problem struct{ Title, Detail string }
	_ = json.Unmarshal(text, &problem) // whoever answers something else is no API of ours: the status says enough
	if status == http.StatusForbidden {
		return fmt.Errorf("%w: %s", ErrNoWayBack, problem.Detail)
	}
	return fmt.Errorf("%d %s %s", status, problem.Title, problem.Detail)
}
