// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"slices"
	"strings"

	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// annotate changes one annotation of a release: see annotateObject.
func (s *session) annotate(ctx context.Context, project, name, key string,
	change func(*v1alpha1.Release) (string, error),
) (changed bool, err error) {
	object := client.ObjectKey{Namespace: project, Name: name}
	return annotateObject(ctx, s, object, func() *v1alpha1.Release { return &v1alpha1.Release{} }, key, change)
}

// annotateObject changes one annotation of an object. change gets the object as it is now and returns the value, "" for
// none; it is called anew when somebody else wrote in between, so that it can object. The patch names the resource version
// that change saw. changed is false when there was nothing to do.
func annotateObject[T client.Object](ctx context.Context, s *session, object client.ObjectKey, empty func() T, key string,
	change func(T) (string, error),
) (changed bool, err error) {
	c, err := s.client()
	if err != nil {
		return false, err
	}
	err = retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		o := empty()
		if err := c.Get(ctx, object, o); err != nil {
			return err
		}
		value, err := change(o)
		if err != nil {
			return err
		}
		annotations := o.GetAnnotations()
		if value == annotations[key] {
			changed = false
			return nil
		}
		before := o.DeepCopyObject().(T)
		if annotations == nil {
			annotations = map[string]string{}
		}
		if annotations[key] = value; value == "" {
			delete(annotations, key)
		}
		o.SetAnnotations(annotations)
		changed = true
		return c.Patch(ctx, o, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	})
	return changed && err == nil, err
}

// approvers reads the value of an approval annotation.
func approvers(value string) []string {
	if value == "" {
		return nil
	}
	return strings.Split(value, ",")
}

// withApprover appends a name to an approval annotation, and leaves the others as they are.
func withApprover(value, user string) string {
	list := approvers(value)
	if slices.Contains(list, user) {
		return value
	}
	return strings.Join(append(list, user), ",")
}

// withoutApprover takes a name out.
func withoutApprover(value, user string) string {
	return strings.Join(slices.DeleteFunc(approvers(value), func(u string) bool { return u == user }), ",")
}

// record finds what the controllers recorded of a person's decision at a gate.
func record(r *v1alpha1.Release, gate, user, decision string) *v1alpha1.ApprovalRecord {
	for i := range r.Status.Approvals {
		a := &r.Status.Approvals[i]
		if a.Gate == gate && a.User == user && a.Decision == decision {
			return a
		}
	}
	return nil
}
