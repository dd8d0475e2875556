// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/docker/compose/v5/pkg/api"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/composefile"
)

// load asks a server for something, over and over, by several clients at once that each wait for their answer.
type load struct {
	mu           sync.Mutex
	total, fails int
	// gap is the longest time during which no request succeeded.
	gap, slowest time.Duration
	last         time.Time
	first        string
	stop         func()
}

func startLoad(t testing.TB, url, body string) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{last: time.Now()}
	var wg sync.WaitGroup
	l.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(l.stop)
	for worker := range 4 {
		wg.Go(func() {
			c := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: worker%2 == 0}}
			for i := 0; ctx.Err() == nil; i++ {
				method, path := http.MethodGet, "/version"
				switch i % 8 {
				case 3:
					method = http.MethodPost // not to be sent twice
				case 7:
					path = "/slow" // under way when its server is told to stop
				}
				begin := time.Now()
				err := ask(c, method, url+path, body)
				l.count(err, begin)
				select {
				case <-ctx.Done():
				case <-time.After(5 * time.Millisecond):
				}
			}
		})
	}
	return l
}

func ask(c *http.Client, method, url, body string) error {
	request, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	if method == http.MethodGet {
		request.Body, request.ContentLength = http.NoBody, 0
	}
	answer, err := c.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %.200s", method, url, answer.Status, said)
	}
	return err
}

func (l *load) count(err error, begin time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.total++
	if err != nil {
		l.fails++
		if l.first == "" {
			l.first = err.Error()
		}
		return
	}
	l.slowest = max(l.slowest, now.Sub(begin))
	l.gap, l.last = max(l.gap, now.Sub(l.last)), now
}

func (l *load) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := fmt.Sprintf("%d failed requests of %d, longest time without an answer %d ms, slowest answer %d ms",
		l.fails, l.total, l.gap.Milliseconds(), l.slowest.Milliseconds())
	if l.first != "" {
		text += ", first failure: " + l.first
	}
	return text
}

// front is a proxy in front of one application, with its own way to find its upstream.
type front struct {
	name string
	// service are the lines of the proxy's service; config is the content of its configuration file, if it has one.
	service, config string
	// body of the requests that have one.
	body  string
	image func(s *server) string
}

// fronts are proxies that learn from the engine's DNS what is registered.
var fronts = []front{
	{"proxy by DNS", `environment: {PROXY_TO: "web:8080"}`, "", "x", func(s *server) string { return s.registry.Image(s, "proxy") }},
	{"nginx", "configs: [{source: proxy, target: /nginx.conf}]", `
daemon off;
user root;
pid /tmp/nginx.pid;
error_log stderr;
events {}
http {
  access_log off;
  client_body_temp_path /tmp/body;
  proxy_temp_path /tmp/proxy;
  fastcgi_temp_path /tmp/fastcgi;
  uwsgi_temp_path /tmp/uwsgi;
  scgi_temp_path /tmp/scgi;
  resolver 127.0.0.11 valid=1s ipv6=off;
  server {
    listen 8080;
    location / {
      set $$upstream web;
      proxy_pass http://$$upstream:8080$$request_uri;
      proxy_connect_timeout 1s;
    }
  }
}
`, "x", func(s *server) string {
		return s.registry.Debian(s, "nginx", "/usr/sbin/nginx", "-e", "stderr", "-c", "/nginx.conf")
	}},
	{"Caddy", "configs: [{source: proxy, target: /Caddyfile}]", `
{
  admin off
  auto_https off
}
:8080 {
  reverse_proxy {
    dynamic a web 8080 {
      refresh 1s
    }
    lb_try_duration 5s
    transport http {
      keepalive off
      dial_timeout 1s
    }
  }
}
`, "", func(s *server) string { // Caddy 2.6 fails with a body once it tried an upstream that is gone, although it sent none of it
		return s.registry.Debian(s, "caddy", "/usr/bin/caddy", "run", "--adapter", "caddyfile", "--config", "/Caddyfile")
	}},
}

// compose is the stack: the proxy, and the application behind it.
func (f front) compose() string {
	text := fmt.Sprintf(`
services:
  proxy:
    image: proxy
    restart: unless-stopped
    ports: ["127.0.0.1:${PORT}:8080"]
    %s
  web:
    image: web
    restart: unless-stopped
    healthcheck: {test: [CMD, /app, health], interval: 1s, retries: 10, start_period: 300ms}
    stop_grace_period: 10s
`, f.service)
	if f.config != "" {
		text += "configs:\n  proxy:\n    content: |" + strings.ReplaceAll(f.config, "\n", "\n      ")
	}
	return text
}

// run deploys once, then count more times under load, and returns what the clients saw.
func (f front) run(s *server, strategy string, count int) *load {
	s.Helper()
	proxy := f.image(s)
	o := s.order(s.project)
	o.compose, o.values = f.compose(), map[string]string{"PORT": fmt.Sprint(s.port)}
	o.strategy = func(r *v1alpha1.RolloutStrategy) {
		r.Strategy, r.Drain = strategy, metav1.Duration{Duration: 1500 * time.Millisecond}
	}
	deploy := func(i int) {
		o.sequence = int64(i + 1)
		o.images = map[string]string{"proxy": proxy, "web": s.registry.Image(s, "app", fmt.Sprint("VERSION=", i))}
		s.await(s.send(o), v1alpha1.RolloutHealthy)
	}
	deploy(0)
	s.serves("0")
	l := startLoad(s, fmt.Sprintf("http://127.0.0.1:%d", s.port), f.body)
	for i := range count {
		deploy(i + 1)
	}
	s.serves(fmt.Sprint(count))
	l.stop()
	return l
}

// plain does the same as `docker compose up -d` does.
func (f front) plain(s *server, count int) *load {
	s.Helper()
	bare := newBare(s)
	proxy := f.image(s)
	deploy := func(i int) {
		project, err := composefile.Load(s.Context(), f.compose(), bare.project, map[string]string{"PORT": fmt.Sprint(s.port)})
		if err != nil {
			s.Fatal(err)
		}
		images := map[string]string{"proxy": proxy, "web": s.registry.Image(s, "app", fmt.Sprint("VERSION=", i))}
		bare.up(s, project, images)
	}
	deploy(0)
	s.serves("0")
	l := startLoad(s, fmt.Sprintf("http://127.0.0.1:%d", s.port), f.body)
	for i := range count {
		deploy(i + 1)
		s.serves(fmt.Sprint(i + 1))
	}
	l.stop()
	return l
}

// up does what `docker compose up -d` does, labels included.
func (b *bare) up(t testing.TB, project *types.Project, images map[string]string) {
	t.Helper()
	for name, service := range project.Services {
		if image := images[name]; image != "" {
			service.Image = image
		}
		service.CustomLabels = types.Labels{
			api.ProjectLabel: project.Name, api.ServiceLabel: name, api.VersionLabel: api.ComposeVersion,
			api.WorkingDirLabel: "/srv/app", api.ConfigFilesLabel: "/srv/app/compose.yaml", api.OneoffLabel: "False",
		}
		project.Services[name] = service
	}
	up := api.UpOptions{Create: api.CreateOptions{Recreate: api.RecreateDiverged, RecreateDependencies: api.RecreateDiverged, Inherit: true}, Start: api.StartOptions{Project: project}}
	if err := b.service.Up(t.Context(), project, up); err != nil {
		t.Fatal(err)
	}
}

// No request through a proxy of the stack fails while releases take each other's place.
func TestZeroDowntime(t *testing.T) {
	const rollouts = 3
	for _, f := range fronts {
		t.Run(f.name, func(t *testing.T) {
			s := newServer(t)
			s.run()
			l := f.run(s, v1alpha1.StrategyStartFirst, rollouts)
			t.Logf("%s, %d rollouts with StartFirst: %s", f.name, rollouts, l)
			if l.fails > 0 || l.total < 100 {
				t.Errorf("%d of %d requests failed", l.fails, l.total)
			}
		})
	}
}

// BenchmarkDowntime prints what the clients of a stack see during twenty rollouts, by strategy.
func BenchmarkDowntime(b *testing.B) {
	const rollouts = 20
	for _, f := range fronts {
		for _, strategy := range []string{v1alpha1.StrategyStartFirst, v1alpha1.StrategyRecreate, "docker compose up -d"} {
			b.Run(strings.ReplaceAll(f.name+", "+strategy, " ", "_"), func(b *testing.B) {
				s := newServer(b)
				var l *load
				if strategy == "docker compose up -d" {
					l = f.plain(s, rollouts)
				} else {
					s.run()
					l = f.run(s, strategy, rollouts)
				}
				b.Logf("%s, %s, %d rollouts: %s", f.name, strategy, rollouts, l)
				b.ReportMetric(float64(l.fails), "failed")
				b.ReportMetric(float64(l.total), "requests")
				b.ReportMetric(float64(l.gap.Milliseconds()), "ms-longest-gap")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
