// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/uuid"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/cli/inert"
)

// logsEvery is how often --follow asks.
const logsEvery = 2 * time.Second

type logsOptions struct {
	host, service, environment string
	tail                       int
	follow                     bool
}

func (s *session) logsCommand() *cobra.Command {
	var o logsOptions
	cmd := s.command("logs HOST [SERVICE] [--environment ENVIRONMENT] [--tail N] [-f]", "logs")
	cmd.Args = s.args(1, 2)
	cmd.ValidArgsFunction = s.completion("kind.host")
	cmd.Flags().StringVar(&o.environment, "environment", "", s.T("flag.logs-environment"))
	cmd.Flags().IntVar(&o.tail, "tail", 100, s.T("flag.logs-tail"))
	cmd.Flags().BoolVarP(&o.follow, "follow", "f", false, s.T("flag.logs-follow"))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.host = args[0]
		if len(args) > 1 {
			o.service = args[1]
		}
		return s.logs(cmd.Context(), o)
	}
	return cmd
}

func (s *session) logs(ctx context.Context, o logsOptions) error {
	rollout, err := s.newestRollout(ctx, o)
	if err != nil {
		return err
	}
	user, err := s.whoami(ctx)
	if err != nil {
		return err
	}
	key := client.ObjectKeyFromObject(rollout)
	defer s.endLogs(context.WithoutCancel(ctx), key)
	request := v1alpha1.LogsRequest{ID: string(uuid.NewUUID()), Service: o.service, Tail: o.tail}
	for n := 0; ; n++ {
		answer, err := s.askLogs(ctx, o.host, key, user, request)
		if err != nil {
			return err
		}
		if answer.Truncated && n == 0 {
			s.say("logs.truncated")
		}
		for _, line := range answer.Lines {
			fmt.Fprintln(s.Out, inert.Text(line))
		}
		if !o.follow {
			if len(answer.Lines) == 0 {
				s.say("logs.none")
			}
			return nil
		}
		if answer.Until != nil {
			request.Since, request.Tail = answer.Until, 0
		}
		base, _, _ := strings.Cut(request.ID, ".")
		request.ID = fmt.Sprintf("%s.%d", base, n+1)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(logsEvery):
		}
	}
}

// newestRollout is that of the environment on the host, which must be clear.
func (s *session) newestRollout(ctx context.Context, o logsOptions) (*v1alpha1.Rollout, error) {
	project, err := s.project(ctx)
	if err != nil {
		return nil, err
	}
	c, err := s.client()
	if err != nil {
		return nil, err
	}
	var list v1alpha1.RolloutList
	if err := c.List(ctx, &list, client.InNamespace(v1alpha1.HostNamespace(o.host))); err != nil {
		return nil, err
	}
	newest := map[string]*v1alpha1.Rollout{}
	for i := range list.Items {
		r := &list.Items[i]
		known := newest[r.Spec.Environment]
		if r.Spec.Project == project && (known == nil || r.Spec.Sequence > known.Spec.Sequence) {
			newest[r.Spec.Environment] = r
		}
	}
	names := slices.Sorted(maps.Keys(newest))
	switch {
	case len(names) == 0:
		return nil, s.fail("logs.no-rollout", project, o.host)
	case o.environment != "":
		if r := newest[o.environment]; r != nil {
			return r, nil
		}
		return nil, s.fail("logs.no-environment", o.environment, project, o.host, strings.Join(names, ", "))
	case len(names) > 1:
		return nil, s.fail("logs.which-environment", project, o.host).with(s.T("logs.hint-environment", strings.Join(names, ", ")))
	}
	return newest[names[0]], nil
}

// askLogs sets the annotation and waits for the agent's answer.
func (s *session) askLogs(ctx context.Context, host string, key client.ObjectKey, user string, r v1alpha1.LogsRequest) (*v1alpha1.RolloutLogs, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, wrap("encode the request", err)
	}
	_, err = annotateObject(ctx, s, key, newRollout, v1alpha1.AnnotationLogsRequest, func(*v1alpha1.Rollout) (string, error) {
		return user + ": " + string(text), nil
	})
	if err != nil {
		return nil, err
	}
	answered, err := await(ctx, s, key, &v1alpha1.RolloutList{}, func(ro *v1alpha1.Rollout) bool {
		return ro.Status.Logs != nil && ro.Status.Logs.ID == r.ID
	})
	if errors.Is(err, errImpatient) {
		return nil, s.fail("logs.no-answer", host, s.Patience).with(s.T("logs.hint-no-answer", host))
	}
	if err != nil {
		return nil, err
	}
	if answer := answered.Status.Logs; answer.Refused != "" {
		return nil, s.fail("logs.refused", host, answer.Refused).with(s.T("logs.hint-refused"))
	}
	return answered.Status.Logs, nil
}

// endLogs takes the request back, so that the lines go at once; without it they go by themselves.
func (s *session) endLogs(ctx context.Context, key client.ObjectKey) {
	ctx, cancel := context.WithTimeout(ctx, s.Patience)
	defer cancel()
	_, _ = annotateObject(ctx, s, key, newRollout, v1alpha1.AnnotationLogsRequest, func(*v1alpha1.Rollout) (string, error) { return "", nil })
}

func newRollout() *v1alpha1.Rollout { return &v1alpha1.Rollout{} }
