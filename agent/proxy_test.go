// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"gitlab.com/dynors/sirrat/agent"
	"gitlab.com/dynors/sirrat/agent/control"
	"gitlab.com/dynors/sirrat/agent/enrol"
	"gitlab.com/dynors/sirrat/agent/internal/enginetest"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// Nobody listens at the address that the agent is told; the proxy alone knows where it leads. The dot keeps the name from
// being exempt from proxies, which "localhost" is.
func unresolved(t *testing.T) string { return fmt.Sprintf("localhost.:%d", enginetest.FreePort(t)) }

// onlyWay is a proxy that alone knows the way to the control plane.
type onlyWay struct {
	*httptest.Server
	target string

	mu       sync.Mutex
	asked    []string
	refused  int
	password string
}

func newProxy(t *testing.T, target string) *onlyWay {
	t.Helper()
	p := &onlyWay{target: target, password: "hunter2-s3cret"}
	p.Server = httptest.NewServer(http.HandlerFunc(p.serve))
	t.Cleanup(p.Close)
	return p
}

func (p *onlyWay) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.asked = append(p.asked, r.Method+" "+r.Host)
	p.mu.Unlock()
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("agent:"+p.password))
	if r.Header.Get("Proxy-Authorization") != want {
		p.mu.Lock()
		p.refused++
		p.mu.Unlock()
		w.WriteHeader(http.StatusProxyAuthRequired)
		return
	}
	if r.Method != http.MethodConnect {
		http.Error(w, "CONNECT only", http.StatusMethodNotAllowed)
		return
	}
	to, err := net.Dial("tcp", p.target)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer to.Close()
	w.WriteHeader(http.StatusOK)
	from, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer from.Close()
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(to, buffered); to.Close() })
	both.Go(func() { _, _ = io.Copy(from, to); from.Close() })
	both.Wait()
}

// Everything of enrolment and of the agent goes through the proxy: nothing else could get there.
func TestThroughProxy(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	address, err := url.Parse(h.env.ControlPlane.LocalURL())
	if err != nil {
		t.Fatal(err)
	}
	p := newProxy(t, address.Host)
	o := h.joinOptions()
	name := unresolved(t)
	o.Server = "https://" + name
	o.Proxy = strings.Replace(p.URL, "http://", "http://agent:"+p.password+"@", 1)
	h.answer(true)
	say := func(format string, args ...any) { h.log.add(fmt.Sprintf(format, args...)) }
	enginetest.Wait(t, "the host to join", func() error { return agent.Join(t.Context(), o, say) })
	identity, err := enrol.LoadIdentity(h.dir)
	if err != nil {
		t.Fatal(err)
	}
	connection, err := enrol.Connect(*identity, "test")
	if err != nil {
		t.Fatal(err)
	}
	client, err := control.New(connection.Config())
	if err != nil {
		t.Fatal(err)
	}
	if user, err := client.WhoAmI(t.Context()); err != nil || user.Username != v1alpha1.AgentUser(h.name, h.uid) {
		t.Errorf("%s, %v", user.Username, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.asked) < 3 || p.refused > 0 {
		t.Errorf("%d connections, %d refused", len(p.asked), p.refused)
	}
	for _, asked := range p.asked {
		if asked != "CONNECT "+name {
			t.Errorf("asked the proxy for %s", asked)
		}
	}
	if said := h.log.String(); strings.Contains(said, p.password) {
		t.Errorf("the password of the proxy was said: %s", said)
	}
}

// A proxy that does not answer, or does not want us, is named without its password; nobody goes around it.
func TestProxyRefuses(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	address, err := url.Parse(h.env.ControlPlane.LocalURL())
	if err != nil {
		t.Fatal(err)
	}
	p := newProxy(t, address.Host)
	for name, proxy := range map[string]string{
		"a wrong password": strings.Replace(p.URL, "http://", "http://agent:wrong-s3cret@", 1),
		"nobody there":     fmt.Sprintf("http://agent:wrong-s3cret@127.0.0.1:%d", enginetest.FreePort(t)),
		"not an address":   "http://agent:wrong-s3cret@ a",
		"another scheme":   "ftp://agent:wrong-s3cret@proxy",
	} {
		t.Run(name, func(t *testing.T) {
			o := h.joinOptions()
			o.DataDir, o.Server, o.Proxy = t.TempDir(), "https://"+unresolved(t), proxy
			err := agent.Join(t.Context(), o, func(string, ...any) {})
			if err == nil || strings.Contains(err.Error(), "wrong-s3cret") || !strings.Contains(err.Error(), "proxy") {
				t.Errorf("%v", err)
			}
			if _, err := os.Stat(o.DataDir + "/identity.json"); err == nil {
				t.Error("an identity was written")
			}
		})
	}
}
