// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// journalHeads is the ConfigMap, in the system namespace, that remembers how far each project's journal had come, so that
// a shortened one is noticed: project uid → "<sequence> <hash>".
const journalHeads = "journal-heads"

// Anchor keeps the heads of the journals in the cluster, away from the archive. It implements journal.Anchor.
type Anchor struct{ Client client.Client }

// Load implements journal.Anchor.
func (a Anchor) Load(ctx context.Context, projectUID string) (seq int64, hash string, err error) {
	var cm corev1.ConfigMap
	if err := a.Client.Get(ctx, client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: journalHeads}, &cm); err != nil {
		if apierrors.IsNotFound(err) {
			return 0, "", nil
		}
		return 0, "", fmt.Errorf("read heads of the journals: %w", err)
	}
	text, known := cm.Data[projectUID]
	if !known {
		return 0, "", nil
	}
	number, hash, ok := strings.Cut(text, " ")
	if seq, err = strconv.ParseInt(number, 10, 64); err != nil || !ok {
		return 0, "", fmt.Errorf("configmap %s/%s: the head of %s cannot be read", v1alpha1.SystemNamespace, journalHeads, projectUID)
	}
	return seq, hash, nil
}

// Store implements journal.Anchor.
func (a Anchor) Store(ctx context.Context, projectUID string, seq int64, hash string) error {
	err := patchSystemMap(ctx, a.Client, journalHeads, projectUID, fmt.Sprintf("%d %s", seq, hash))
	if err != nil {
		log.FromContext(ctx).Info("the head of a journal could not be stored, it will be tried again", "project", projectUID, "cause", err.Error())
	}
	return err
}
