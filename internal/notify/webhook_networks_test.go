// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"gitlab.com/dynors/sirrat/internal/egress"
)

// What the operator opens for all that projects name is open to webhooks, by https, and nothing beside it.
func TestWebhooksReachWhatIsOpened(t *testing.T) {
	var reached atomic.Int64
	handler := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) })
	secure, plain := httptest.NewTLSServer(handler), httptest.NewServer(handler)
	defer secure.Close()
	defer plain.Close()
	for network, want := range map[string]string{"127.0.0.1/32": "", "127.0.0.2/32": egress.ErrBlocked.Error(), "10.0.0.0/8": egress.ErrBlocked.Error()} {
		w := NewWebhooks(false, netip.MustParsePrefix(network))
		w.client.Transport.(*http.Transport).TLSClientConfig = secure.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		err := w.Post(t.Context(), secure.URL, []byte("{}"))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", network, err)
		}
		if err := w.Post(t.Context(), plain.URL, []byte("{}")); err == nil || !strings.Contains(err.Error(), "https://") {
			t.Errorf("%s without TLS: %v", network, err)
		}
	}
	if n := reached.Load(); n != 1 {
		t.Errorf("%d requests arrived, want 1", n)
	}
}
