// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"os"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// maxReport is the most that a report may have.
const maxReport = 1 << 20

// broughtBack is what `sirrat-agent apply --report` wrote, as far as it is of concern.
type broughtBack struct {
	Done      bool                   `json:"done"`
	Refused   string                 `json:"refused"`
	Namespace string                 `json:"namespace"`
	Rollout   string                 `json:"rollout"`
	UID       types.UID              `json:"uid"`
	Status    v1alpha1.RolloutStatus `json:"status"`
}

func (s *session) bundleReportCommand() *cobra.Command {
	cmd := s.command("report FILE", "bundle.report")
	cmd.Args = s.args(1, 1)
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return s.reportBundle(cmd.Context(), args[0]) }
	return cmd
}

// reportBundle writes the outcome into the Rollout's status, with the rights of whoever runs the command: nobody but the host's
// agent has them unless an administrator gave them, because what it says counts as evidence.
func (s *session) reportBundle(ctx context.Context, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return wrap("read the report", err)
	}
	var report broughtBack
	if err := json.Unmarshal(text, &report); len(text) > maxReport || err != nil || !report.Done || report.Refused != "" ||
		report.Rollout == "" || report.UID == "" || report.Status.Phase == "" {
		return s.fail("error.report", file).with(s.T("hint.report"))
	}
	c, err := s.client()
	if err != nil {
		return err
	}
	var rollout v1alpha1.Rollout
	if err := c.Get(ctx, client.ObjectKey{Namespace: report.Namespace, Name: report.Rollout}, &rollout); err != nil {
		return err
	}
	if rollout.UID != report.UID {
		return s.fail("error.report-other", report.Rollout, report.Namespace)
	}
	base := rollout.DeepCopy()
	rollout.Status = report.Status
	rollout.Status.ObservedGeneration = rollout.Generation
	err = c.Status().Patch(ctx, &rollout, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{}))
	if apierrors.IsForbidden(err) {
		return s.fail("error.report-forbidden", report.Rollout, report.Namespace).with(s.T("hint.report-forbidden"))
	}
	if err != nil {
		return err
	}
	s.say("bundle.reported", report.Rollout, report.Namespace, report.Status.Phase)
	return nil
}
