// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"

	"gitlab.com/dynors/sirrat/agent/compose"
	"gitlab.com/dynors/sirrat/agent/plan"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// pull fetches every image that is not on disk. A newer Rollout interrupts it: nothing was touched.
func (w *worker) pull(ctx context.Context, target *resolved) error {
	attempt := w.disk.Attempt
	var missing []string
	for _, image := range target.images() {
		present, err := w.agent.engine.Present(ctx, image)
		if err != nil {
			return err
		}
		if !present {
			missing = append(missing, image)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	credentials, err := w.credentials(ctx, attempt.Spec)
	if err != nil {
		return err
	}
	ctx, stop := w.untilNewer(ctx)
	defer stop()
	for _, image := range missing {
		if err := w.pullOne(ctx, target, image, credentials); err != nil {
			if errors.Is(context.Cause(ctx), errInterrupted) {
				return errInterrupted
			}
			if ctx.Err() != nil || errors.Is(err, compose.ErrUnreachable) {
				return err
			}
			return &failed{v1alpha1.ReasonPullFailed, err, untouched(attempt.Phase)}
		}
	}
	return nil
}

func (w *worker) pullOne(ctx context.Context, target *resolved, image string, credentials []byte) error {
	name, uid := target.servicesOf(image), w.disk.Attempt.UID
	w.say(uid, "pulling "+name)
	wait := pullRetry
	for try := 1; ; try++ {
		err := w.agent.engine.Pull(ctx, image, credentials, func(percent int) {
			w.say(uid, fmt.Sprintf("pulling %s: %d%%", name, percent))
		})
		w.agent.monitor.pulled(err)
		final := errors.Is(err, compose.ErrNotFound) || errors.Is(err, compose.ErrDenied) || errors.Is(err, compose.ErrUnreachable)
		if err == nil || final || try == pullTries || ctx.Err() != nil {
			return err
		}
		w.log.Info("pull failed, trying again", "image", image, "try", try, "error", err.Error())
		w.say(uid, fmt.Sprintf("pulling %s: try %d failed, trying again", name, try))
		sleep(ctx, wait)
		wait *= 2
	}
}

// untilNewer is a context that ends when a newer Rollout is authorised. While it lasts, nobody may change the state.
func (w *worker) untilNewer(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-ctx.Done():
				return
			case <-w.offered:
				if w.newer(ctx) {
					cancel(errInterrupted)
					return
				}
			}
		}
	}()
	if w.newer(ctx) {
		cancel(errInterrupted)
	}
	return ctx, func() { cancel(nil); <-ended }
}

func (w *worker) newer(ctx context.Context) bool {
	_, offer := w.best(ctx)
	return offer == plan.New
}
