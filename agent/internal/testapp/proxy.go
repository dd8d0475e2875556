// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"time"
)

// dialTimeout of one attempt: an address whose container is gone does not refuse, it is silent.
const dialTimeout = 500 * time.Millisecond

// proxy passes requests on to the addresses of a name. It tries the next one when a connection cannot be made, since nothing
// was sent then, and when a connection broke under a request that may be sent twice.
type proxy struct{ upstream string }

type addressKey struct{}

var transport = &http.Transport{
	DisableKeepAlives: true, // as nginx does unless told
	DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		address, _ := ctx.Value(addressKey{}).(string)
		return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, network, address)
	},
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	idempotent := r.Method == http.MethodGet || r.Method == http.MethodHead
	var last error
	for range 3 { // a name may have lost an address since it was resolved
		host, port, err := net.SplitHostPort(p.upstream)
		if err != nil {
			last = err
			break
		}
		addresses, err := net.DefaultResolver.LookupHost(r.Context(), host)
		if last = err; err != nil {
			continue
		}
		for _, i := range rand.Perm(len(addresses)) {
			answer, err := pass(r, net.JoinHostPort(addresses[i], port), body)
			if err == nil {
				w.WriteHeader(answer.status)
				_, _ = w.Write(answer.body)
				return
			}
			last = err
			var op *net.OpError
			if dialled := errors.As(err, &op) && op.Op == "dial"; !dialled && !idempotent {
				http.Error(w, err.Error(), http.StatusBadGateway)
				return
			}
		}
	}
	http.Error(w, fmt.Sprint("no upstream: ", last), http.StatusBadGateway)
}

type answer struct {
	status int
	body   []byte
}

func pass(r *http.Request, address string, body []byte) (*answer, error) {
	ctx := context.WithValue(r.Context(), addressKey{}, address)
	request, err := http.NewRequestWithContext(ctx, r.Method, "http://"+address+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return &answer{response.StatusCode, text}, err
}
