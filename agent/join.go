// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"gitlab.com/dynors/sirrat/agent/compose"
	"gitlab.com/dynors/sirrat/agent/control"
	"gitlab.com/dynors/sirrat/agent/disk"
	"gitlab.com/dynors/sirrat/agent/enrol"
	"gitlab.com/dynors/sirrat/agent/service"
)

// JoinOptions of the command `join`.
type JoinOptions struct {
	enrol.Request
	DataDir    string
	DockerHost string
	// Force joins again although this server has joined already.
	Force bool
	// Service says whether to install the agent as a service: one of the modes of agent/service. Empty means none.
	Service string
}

// Join makes this server a host. Joining again where it has joined already does nothing. say is told what happens, for
// people.
func Join(ctx context.Context, o JoinOptions, say func(format string, args ...any)) error {
	if err := disk.MkdirPrivate(o.DataDir); err != nil {
		return err
	}
	known, err := enrol.LoadIdentity(o.DataDir)
	var pinned *enrol.Identity
	switch {
	case o.Force, errors.Is(err, enrol.ErrNotEnrolled):
	case err == nil && known.Offline():
		pinned = known
	case err != nil:
		return fmt.Errorf("%w (--force replaces it)", err)
	case o.SameServer(known):
		say("This server has joined %s already, as host %s: nothing to do.", known.Server, known.Host)
		return o.install(ctx, say)
	default:
		return fmt.Errorf("this server has joined %s as host %s: --force makes it join %s instead", known.Server, known.Host, o.Server)
	}
	identity, err := enrol.Join(ctx, o.Request, say)
	if err != nil {
		return err
	}
	if err := upgrade(pinned, identity); err != nil {
		return err
	}
	if err := identity.Save(o.DataDir); err != nil { // at once: the token is used up
		return err
	}
	connection, err := enrol.Connect(*identity, o.UserAgent)
	if err != nil {
		return err
	}
	client, err := control.New(connection.Config())
	if err != nil {
		return err
	}
	if pinned != nil {
		say("The %d keys that were pinned offline stay the ones that count.", len(identity.AuthorizationKeys))
	} else if err := enrol.PinKeys(ctx, identity, client); err != nil {
		say("The keys that sign authorizations could not be read yet (%s); the agent pins them when it runs.", err)
	} else {
		if err := identity.Save(o.DataDir); err != nil {
			return err
		}
		say("Only deployments signed with one of %d pinned keys are accepted.", len(identity.AuthorizationKeys))
	}
	checkEngine(ctx, o.DockerHost, say)
	say("Joined as host %s.", identity.Host)
	return o.install(ctx, say)
}

// install has the agent run from now on.
func (o JoinOptions) install(ctx context.Context, say func(format string, args ...any)) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	dir, err := filepath.Abs(o.DataDir)
	if err != nil {
		return fmt.Errorf("find the data folder: %w", err)
	}
	return service.Service{Program: program, DataDir: dir, DockerHost: o.DockerHost}.Install(ctx, o.Service, say)
}

// checkEngine warns when the engine does not answer, which matters only once the agent runs.
func checkEngine(ctx context.Context, host string, say func(format string, args ...any)) {
	engine, err := compose.Connect(host)
	if err != nil {
		say("Warning: %s.", err)
		return
	}
	defer engine.Close()
	info, err := engine.Info(ctx)
	if err != nil {
		say("Warning: %s. Install or start Docker before the agent runs.", err)
		return
	}
	say("Docker engine %s (API %s, %s) answers.", info.Version, info.APIVersion, info.Platform)
}
