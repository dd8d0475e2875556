// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"context"

	"gitlab.com/dynors/sirrat/agent/compose"
	"gitlab.com/dynors/sirrat/internal/composefile"
	"gitlab.com/dynors/sirrat/internal/hostpolicy"
)

// CheckOptions of the command `policy check`.
type CheckOptions struct {
	// Compose is the compose file's text, and Values are all its variables.
	Compose string
	Values  map[string]string
	// ComposeProject is the name of the compose project.
	ComposeProject string
	// Project and Environment of SIRRAT; empty ones are not judged.
	Project     string
	Environment string
	// Policy is the owner's file.
	Policy     string
	DataDir    string
	DockerHost string
}

// CheckPolicy judges a compose file as the agent would, with this server's files before its eyes. Nothing is started, and no
// file that it names is opened.
func CheckPolicy(ctx context.Context, o CheckOptions) ([]hostpolicy.Finding, error) {
	model, err := composefile.Load(ctx, o.Compose, o.ComposeProject, o.Values)
	if err != nil {
		return nil, err
	}
	h := newHostFiles(o.DataDir, o.Policy, cmp.Or(o.DockerHost, compose.DefaultHost))
	policy, err := h.policy.Current()
	if err != nil {
		return nil, err
	}
	return policy.Judge(hostpolicy.Subject{Project: o.Project, Environment: o.Environment, Model: model}, h.server), nil
}
