// SPDX-License-Identifier: Apache-2.0

package compose

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/moby/moby/client"
)

// hookWords is how much of what a hook said goes into an error, in bytes.
const hookWords = 500

// PreStop runs in containers, by service, what the service declares to be run before it is stopped (pre_stop): for each
// container one hook after the other, all together within the time that the container has to stop. The error says which hook
// failed or did not end; it is no reason not to stop the container.
func (e *Engine) PreStop(ctx context.Context, model Model, containers map[string][]string) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var all []error
	for name, ids := range containers {
		service, found := model.project.Services[name]
		if !found || len(service.PreStop) == 0 {
			continue
		}
		for _, id := range ids {
			wg.Go(func() {
				if err := e.preStop(ctx, service, id); err != nil {
					mu.Lock()
					all = append(all, fmt.Errorf("services.%s.pre_stop: %w", name, err))
					mu.Unlock()
				}
			})
		}
	}
	wg.Wait()
	return errors.Join(all...)
}

func (e *Engine) preStop(ctx context.Context, service types.ServiceConfig, container string) error {
	grace, exists, err := e.grace(ctx, container)
	if err != nil || !exists {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	for i, hook := range service.PreStop {
		var env []string
		for name, value := range hook.Environment {
			if value != nil {
				env = append(env, name+"="+*value)
			}
		}
		code, said, err := e.exec(limited, container, client.ExecCreateOptions{
			Cmd: hook.Command, User: hook.User, Privileged: hook.Privileged, WorkingDir: hook.WorkingDir, Env: env,
		}, hookWords)
		if err != nil {
			return fmt.Errorf("hook %d: %w", i, err)
		}
		if code != 0 {
			return fmt.Errorf("hook %d exited %d: %s", i, code, said)
		}
	}
	return nil
}
