// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/pullcreds"
)

// The record of a project's pull credentials is a ConfigMap of the installation's: it outlives hosts and environments. It
// holds no password.
const (
	pullRecordPrefix = "pull-credentials."
	pullRecordKey    = "record"
)

// readPullRecord reads the record past the cache; stored is nil when there is none. One of an earlier project of that name is
// none: its project is gone, and with it the account that could revoke anything.
func (r *pullReconciler) readPullRecord(ctx context.Context, s *pullState) error {
	s.record = pullcreds.Record{ProjectUID: string(s.project.UID)}
	cm := &corev1.ConfigMap{}
	key := client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: pullRecordPrefix + s.project.Name}
	if err := r.fresh.Get(ctx, key, cm); err != nil {
		return client.IgnoreNotFound(err)
	}
	s.stored = cm
	var record pullcreds.Record
	if err := json.Unmarshal([]byte(cm.Data[pullRecordKey]), &record); err != nil {
		s.damaged = true
		s.invalid = userErrorf("ConfigMap %s/%s cannot be read: delete it, and the credentials that it told of are found by their names", key.Namespace, key.Name)
		return nil
	}
	if record.ProjectUID == s.record.ProjectUID {
		s.record = record
	}
	return nil
}

// savePullRecord writes the record down, unless somebody else has since it was read.
func (r *pullReconciler) savePullRecord(ctx context.Context, s *pullState) error {
	text, err := json.Marshal(s.record)
	if err != nil {
		return fmt.Errorf("encode the record of pull credentials: %w", err)
	}
	if s.stored == nil {
		s.stored = &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: pullRecordPrefix + s.project.Name},
			Data:       map[string]string{pullRecordKey: string(text)},
		}
		err = r.Create(ctx, s.stored)
		if apierrors.IsAlreadyExists(err) { // another replica was faster
			err = apierrors.NewConflict(corev1.Resource("configmaps"), s.stored.Name, err)
		}
	} else if s.stored.Data[pullRecordKey] != string(text) {
		s.stored.Data = map[string]string{pullRecordKey: string(text)}
		err = r.Update(ctx, s.stored)
	}
	if err != nil {
		return fmt.Errorf("write the record of pull credentials: %w", err)
	}
	return nil
}

// dropPullRecord deletes the record.
func (r *pullReconciler) dropPullRecord(ctx context.Context, s *pullState) error {
	if s.stored == nil {
		return nil
	}
	if err := client.IgnoreNotFound(r.Delete(ctx, s.stored)); err != nil {
		return fmt.Errorf("delete the record of pull credentials: %w", err)
	}
	s.stored = nil
	return nil
}

// adopt completes the record with what was delivered when the controllers ended before they had written that down.
func (r *pullReconciler) adopt(ctx context.Context, s *pullState) error {
	changed := false
	for _, c := range slices.Clone(s.record.Credentials) {
		secret := s.secrets[c.Target]
		if !c.Intended() || secret == nil {
			continue
		}
		if is, ok := deliveredCredential(secret); ok && is.Name == c.Name && is.ID != 0 {
			s.record.Issued(c.Number, is.ID, is.Issued, is.Expires)
			changed = true
		}
	}
	if !changed {
		return nil
	}
	return r.savePullRecord(ctx, s)
}

// hold keeps the project until its credentials are revoked.
func (r *pullReconciler) hold(ctx context.Context, p *v1alpha1.Project) error {
	if controllerutil.ContainsFinalizer(p, pullFinalizer) {
		return nil
	}
	base := p.DeepCopy()
	controllerutil.AddFinalizer(p, pullFinalizer)
	if err := r.Patch(ctx, p, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("add finalizer: %w", err)
	}
	return nil
}

// release lets the project go.
func (r *pullReconciler) release(ctx context.Context, p *v1alpha1.Project) error {
	base := p.DeepCopy()
	if !controllerutil.RemoveFinalizer(p, pullFinalizer) {
		return nil
	}
	if err := r.Patch(ctx, p, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("remove finalizer: %w", err)
	}
	pullExpiry.set(p.Name, time.Time{})
	return nil
}
