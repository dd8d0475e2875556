// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/notify"
)

// notificationCursors is the ConfigMap, in the system namespace, that remembers how far each receiver was told: project uid
// → JSON object, receiver → sequence in the journal.
const notificationCursors = "notification-cursors"

// Cursors keep how far receivers were told. They implement notify.Cursors.
type Cursors struct{ Client client.Client }

// Load implements notify.Cursors.
func (c Cursors) Load(ctx context.Context, projectUID string) (map[string]int64, error) {
	var cm corev1.ConfigMap
	if err := c.Client.Get(ctx, client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: notificationCursors}, &cm); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("read notification cursors: %w", err)
	}
	if cm.Data[projectUID] == "" {
		return nil, nil
	}
	var cursors map[string]int64
	if err := json.Unmarshal([]byte(cm.Data[projectUID]), &cursors); err != nil {
		return nil, fmt.Errorf("configmap %s/%s, key %s: %w", v1alpha1.SystemNamespace, notificationCursors, projectUID, err)
	}
	return cursors, nil
}

// Store implements notify.Cursors.
func (c Cursors) Store(ctx context.Context, projectUID string, cursors map[string]int64) error {
	value, err := json.Marshal(cursors)
	if err != nil {
		return err
	}
	return patchSystemMap(ctx, c.Client, notificationCursors, projectUID, string(value))
}

// patchSystemMap sets one key of a ConfigMap of the system namespace; whoever sets another at the same time is not in the
// way.
func patchSystemMap(ctx context.Context, c client.Client, name, key, value string) error {
	text, err := json.Marshal(map[string]any{"data": map[string]string{key: value}})
	if err != nil {
		return err
	}
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: name}}
	patch := client.RawPatch(types.MergePatchType, text)
	err = c.Patch(ctx, cm.DeepCopy(), patch)
	if apierrors.IsNotFound(err) {
		if err = ignoreExists(c.Create(ctx, cm.DeepCopy())); err == nil {
			err = c.Patch(ctx, cm, patch)
		}
	}
	if err != nil {
		return fmt.Errorf("write configmap %s/%s: %w", v1alpha1.SystemNamespace, name, err)
	}
	return nil
}

// Receivers read who wants to be told from Projects. They implement notify.Projects.
type Receivers struct {
	// Reader is a cache: it is asked before each message.
	Reader client.Reader
	Events events.EventRecorder
}

// Receivers implements notify.Projects.
func (r Receivers) Receivers(ctx context.Context, projectUID string) ([]notify.Receiver, error) {
	p, err := r.project(ctx, projectUID)
	if p == nil || err != nil {
		return nil, err
	}
	var out []notify.Receiver
	for _, n := range p.Spec.Notifications {
		receiver := notify.Receiver{Name: n.Name, Language: n.Language}
		for _, kind := range n.Events {
			receiver.On = append(receiver.On, notify.Kind(kind))
		}
		if n.Email != nil {
			receiver.Email = n.Email.To
		}
		if n.Webhook != nil {
			receiver.Webhook = &notify.Webhook{Format: notify.Format(n.Webhook.Format), URL: r.address(p.Name, n.Webhook.URLFrom)}
		}
		out = append(out, receiver)
	}
	return out, nil
}

// address reads a webhook's address when it is needed; its errors do not tell it.
func (r Receivers) address(namespace string, from v1alpha1.SecretKey) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		var s corev1.Secret
		if err := r.Reader.Get(ctx, client.ObjectKey{Namespace: namespace, Name: from.Name}, &s); err != nil {
			return "", fmt.Errorf("read secret %s/%s: %w", namespace, from.Name, err)
		}
		text, ok := s.Data[from.Key]
		if !ok {
			return "", fmt.Errorf("secret %s/%s: %w %s", namespace, from.Name, errNoKey, from.Key)
		}
		return string(text), nil
	}
}

var errNoKey = errors.New("it has no key")

// GaveUp tells, as an event of the Project, that a receiver was not told something.
func (r Receivers) GaveUp(ctx context.Context, projectUID, receiver string, e notify.Event, err error) {
	if p, _ := r.project(ctx, projectUID); p != nil {
		r.Events.Eventf(p, nil, corev1.EventTypeWarning, "NotTold", "Notify", "receiver %s was not told of %s %s: %s", receiver, e.Kind, e.Release, err)
	}
}

func (r Receivers) project(ctx context.Context, uid string) (*v1alpha1.Project, error) {
	var list v1alpha1.ProjectList
	if err := r.Reader.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("list projects: %w", err)
	}
	for i := range list.Items {
		if string(list.Items[i].UID) == uid {
			return &list.Items[i], nil
		}
	}
	return nil, nil
}
