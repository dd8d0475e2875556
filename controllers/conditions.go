// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

var errTagTemplate = errors.New("a tag template may use text and the fields .SHA7, .Commit, .Version, .Branch and .Environment, nothing else")

// maxMessage bounds the messages of conditions, in bytes (the API's own bound is 32768).
const maxMessage = 4096

// setCondition sets one condition; the transition time moves only when the status does.
func setCondition(conditions *[]metav1.Condition, generation int64, typ string, ok bool, reason, message string) {
	status := metav1.ConditionFalse
	if ok {
		status = metav1.ConditionTrue
	}
	if len(message) > maxMessage {
		message = strings.ToValidUTF8(message[:maxMessage-3], "") + "..."
	}
	meta.SetStatusCondition(conditions, metav1.Condition{
		Type: typ, Status: status, Reason: reason, Message: message, ObservedGeneration: generation,
	})
}

// writeStatus patches what changed since base, if nobody else wrote in between. The first status of an object is written
// in full: a patch would leave figures out that are zero, and tables would show nothing for them.
func writeStatus(ctx context.Context, c client.Client, o, base client.Object, first bool) error {
	var err error
	if first {
		err = c.Status().Update(ctx, o)
	} else {
		err = c.Status().Patch(ctx, o, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{}))
	}
	if err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	return nil
}

func findCondition(conditions []metav1.Condition, typ string) *metav1.Condition {
	return meta.FindStatusCondition(conditions, typ)
}
