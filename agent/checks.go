// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"gitlab.com/dynors/sirrat/agent/health"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// Defaults of a check, as the API documents them, and bounds of one try.
const (
	checkTimeout   = 2 * time.Minute
	checkInterval  = time.Second
	checkSuccesses = 3
	tryTimeout     = 5 * time.Second
	maxAnswer      = 64 << 10
	// maxSaid is how much of a failing command's words is quoted, in bytes.
	maxSaid = 200
)

// checks are the declared checks of a deployment, each tried at its interval until it succeeded often enough in a row.
type checks struct {
	// changed receives when one of them has news.
	changed chan struct{}
	list    []*check
}

type check struct {
	spec v1alpha1.HealthCheck
	exec execute
	// hurry asks for a try before the interval is over.
	hurry chan struct{}

	mu        sync.Mutex
	successes int32
	last      error
	// until is when it must have succeeded; zero while the containers are not healthy yet.
	until time.Time
}

// execute runs a command in every container of a service.
type execute func(ctx context.Context, service string, command []string) error

// startChecks tries the checks until ctx ends or they have succeeded.
func startChecks(ctx context.Context, specs []v1alpha1.HealthCheck, exec execute) *checks {
	c := &checks{changed: make(chan struct{}, 1)}
	for _, spec := range specs {
		spec.Timeout.Duration = cmp.Or(spec.Timeout.Duration, checkTimeout)
		spec.Interval.Duration = cmp.Or(spec.Interval.Duration, checkInterval)
		spec.Successes = cmp.Or(spec.Successes, checkSuccesses)
		one := &check{spec: spec, exec: exec, hurry: make(chan struct{}, 1)}
		c.list = append(c.list, one)
		go one.run(ctx, c.changed)
	}
	return c
}

// begin starts the clock of every check: the containers are healthy.
func (c *checks) begin(now time.Time) {
	for _, one := range c.list {
		one.mu.Lock()
		one.until = now.Add(one.spec.Timeout.Duration)
		one.mu.Unlock()
		poke(one.hurry)
	}
}

// deadline is the next time at which a check fails if it did not succeed before; zero for none.
func (c *checks) deadline() time.Time {
	var first time.Time
	for _, one := range c.list {
		one.mu.Lock()
		if one.successes < one.spec.Successes {
			first = earliest(first, one.until)
		}
		one.mu.Unlock()
	}
	return first
}

// result says what is waited for, whether anything is, and fails when a check is over its time.
func (c *checks) result(now time.Time) (message string, pending bool, err error) {
	for _, one := range c.list {
		one.mu.Lock()
		successes, last, until := one.successes, one.last, one.until
		one.mu.Unlock()
		if successes >= one.spec.Successes {
			continue
		}
		name := one.name()
		message = fmt.Sprintf("%s: %d of %d successes", name, successes, one.spec.Successes)
		if last != nil {
			message = fmt.Sprintf("%s: %s", name, last)
		}
		if !until.IsZero() && !now.Before(until) {
			return message, true, fmt.Errorf("check not passed within %s: %s", one.spec.Timeout.Duration, message)
		}
		return message, true, nil
	}
	return "", false, nil
}

func (c *check) name() string {
	switch {
	case c.spec.HTTP != nil:
		return c.spec.HTTP.URL
	case c.spec.Exec != nil:
		return c.spec.Exec.Command[0] + " in " + c.spec.Exec.Service
	}
	return c.spec.TCP.Address
}

func (c *check) run(ctx context.Context, changed chan struct{}) {
	for ctx.Err() == nil {
		err := c.try(ctx)
		c.mu.Lock()
		news := (err == nil) != (c.last == nil) || c.successes == 0
		c.last = err
		if c.successes++; err != nil {
			c.successes = 0
		}
		passed := c.successes >= c.spec.Successes
		c.mu.Unlock()
		if news || passed {
			poke(changed)
		}
		if passed {
			return
		}
		timer := time.NewTimer(c.spec.Interval.Duration)
		select {
		case <-ctx.Done():
		case <-c.hurry:
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (c *check) try(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	switch {
	case c.spec.HTTP != nil:
		return tryHTTP(ctx, c.spec.HTTP.URL)
	case c.spec.Exec != nil:
		return c.exec(ctx, c.spec.Exec.Service, c.spec.Exec.Command)
	}
	connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.spec.TCP.Address)
	if err != nil {
		return err
	}
	return connection.Close()
}

// checkClient asks directly, with a connection of its own each time, and does not follow where it is sent.
var checkClient = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// tryHTTP wants 200 and, from JSON with a member "status", UP.
func tryHTTP(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	request.Header.Set("User-Agent", "sirrat-agent")
	answer, err := checkClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("answers %d", answer.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return err
	}
	var actuator struct {
		Status any `json:"status"`
	}
	if json.Unmarshal(body, &actuator) == nil && actuator.Status != nil && actuator.Status != "UP" {
		return fmt.Errorf("has status %.40q", fmt.Sprint(actuator.Status))
	}
	return nil
}

// execIn runs a check's command in every running container of a service of a project; all must end with 0.
func (w *worker) execIn(project string) execute {
	return func(ctx context.Context, service string, command []string) error {
		containers, err := w.agent.engine.Containers(ctx, project)
		if err != nil {
			return err
		}
		ran := false
		for _, c := range containers {
			if c.Service != service {
				continue
			}
			if c.State != health.StateRunning {
				return fmt.Errorf("%s does not run", c.Name)
			}
			ran = true
			code, said, err := w.agent.engine.Exec(ctx, c.ID, command, maxSaid)
			if err != nil {
				return fmt.Errorf("%s: %w", c.Name, err)
			}
			if code != 0 {
				return fmt.Errorf("%s: exited %d: %s", c.Name, code, said)
			}
		}
		if !ran {
			return fmt.Errorf("no container of service %s runs", service)
		}
		return nil
	}
}
