// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// errImpatient is the cause when the controllers have not answered within World.Patience.
var errImpatient = errors.New("no answer from the controllers yet")

// await watches one object until done holds, for at most World.Patience (errImpatient), and returns it as it is then.
// list is an empty list of its kind. An object that does not exist yet is waited for.
func await[T client.Object](ctx context.Context, s *session, key client.ObjectKey, list client.ObjectList, done func(T) bool) (T, error) {
	var none T
	c, err := s.client()
	if err != nil {
		return none, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.Patience, errImpatient)
	defer cancel()
	for {
		found, ok, err := follow(ctx, c, key, list, done)
		switch {
		case ok:
			return found, nil
		case errors.Is(context.Cause(ctx), errImpatient):
			return none, errImpatient
		case err != nil:
			return none, err
		}
	}
}

// follow is one watch: it ends with done, with ctx, or when the API server closes it.
func follow[T client.Object](ctx context.Context, c client.WithWatch, key client.ObjectKey, list client.ObjectList,
	done func(T) bool,
) (found T, ok bool, err error) {
	// Without a resource version a watch begins with what exists now.
	w, err := c.Watch(ctx, list, client.InNamespace(key.Namespace),
		client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector("metadata.name", key.Name)})
	if err != nil {
		return found, false, wrap("watch "+key.String(), err)
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return found, false, ctx.Err()
		case event, open := <-w.ResultChan():
			if !open {
				return found, false, nil
			}
			object, isT := event.Object.(T)
			if isT && (event.Type == watch.Added || event.Type == watch.Modified) && done(object) {
				return object, true, nil
			}
		}
	}
}
