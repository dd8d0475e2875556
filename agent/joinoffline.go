// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"os"

	"gitlab.com/dynors/sirrat/agent/disk"
	"gitlab.com/dynors/sirrat/agent/enrol"
	"gitlab.com/dynors/sirrat/internal/keyset"
	"gitlab.com/dynors/sirrat/internal/offline"
)

// JoinOffline makes this server a host that never speaks with its control plane, from the file that `kubectl sirrat host export`
// wrote, if it has the fingerprint that a person compared. Joining so again with the same host does nothing.
func JoinOffline(ctx context.Context, o JoinOptions, file, fingerprint string, say func(format string, args ...any)) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read the trust of this host: %w", err)
	}
	trust, err := offline.ParseTrust(text, fingerprint)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	identity := enrol.Identity{Server: trust.Server, CA: trust.CA, Host: trust.Host, HostUID: trust.UID}
	identity.SetKeys(keyset.Set{Serial: trust.KeySet, Keys: trust.Keys, Retired: trust.Retired, Revoked: trust.Revoked})
	if _, err := identity.Keys().Parse(); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if err := disk.MkdirPrivate(o.DataDir); err != nil {
		return err
	}
	known, err := enrol.LoadIdentity(o.DataDir)
	switch {
	case o.Force, errors.Is(err, enrol.ErrNotEnrolled):
	case err != nil:
		return fmt.Errorf("%w (--force replaces it)", err)
	case known.Host == identity.Host && known.HostUID == identity.HostUID: // its keys may have moved on since
		say("This server is host %s already: nothing to do.", known.Host)
		return o.install(ctx, say)
	default:
		return fmt.Errorf("this server is host %s: --force makes it host %s instead", known.Host, identity.Host)
	}
	if err := identity.Save(o.DataDir); err != nil {
		return err
	}
	say("Only deployments signed with one of %d pinned keys are accepted.", len(identity.AuthorizationKeys))
	checkEngine(ctx, o.DockerHost, say)
	say("Joined offline as host %s: releases come in bundles (sirrat-agent apply).", identity.Host)
	return o.install(ctx, say)
}

// upgrade has an identity that was just enrolled go on with what was pinned offline, which was compared by people: the control
// plane that answered must be that of the same host.
func upgrade(known, identity *enrol.Identity) error {
	if known == nil {
		return nil
	}
	if identity.Host != known.Host || identity.HostUID != known.HostUID {
		return fmt.Errorf("this server was joined offline as host %s (%s), and the token is for %s (%s): --force makes it that one",
			known.Host, known.HostUID, identity.Host, identity.HostUID)
	}
	identity.SetKeys(known.Keys())
	return nil
}
