// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"gitlab.com/dynors/sirrat/agent/enrol"
	"gitlab.com/dynors/sirrat/internal/authorization"
	"gitlab.com/dynors/sirrat/internal/keyset"
)

// Times of looks at the authorization keys. Each new Rollout has them looked at too, before it is judged.
const (
	keysEvery      = time.Hour
	firstKeysRetry = time.Second
	lastKeysRetry  = time.Minute
)

// trust is whose signatures count.
func (a *Agent) trust() authorization.Trust {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.keys
}

// setTrust parses the keys of an identity and uses them from now on.
func (a *Agent) setTrust(identity enrol.Identity) error {
	parsed, err := identity.Keys().Parse()
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keys = authorization.Trust{Keys: parsed.Keys, Retired: parsed.Retired, Revoked: parsed.Revoked}
	return nil
}

// followKeys keeps the keys up to date until ctx ends.
func (a *Agent) followKeys(ctx context.Context) {
	wait := firstKeysRetry
	for ctx.Err() == nil {
		if err := a.lookAtKeys(ctx, time.Now()); err == nil {
			wait = keysEvery - time.Duration(rand.Float64()*jitter*float64(keysEvery))
		} else {
			a.log.V(1).Info("authorization keys cannot be looked at", "error", err.Error())
			wait = min(2*wait, lastKeysRetry)
		}
		sleep(ctx, wait)
	}
}

// lookAtKeys takes over what the control plane says of the keys, if it has not been asked since a time. Keys are pinned when
// enrolment ended before it could; from then on only statements count that a trusted key has signed: whoever holds the
// control plane, but none of its keys, cannot add one. An error says that the control plane could not be asked.
func (a *Agent) lookAtKeys(ctx context.Context, since time.Time) error {
	if a.offline {
		return nil
	}
	a.looking.Lock()
	defer a.looking.Unlock()
	if a.looked.After(since) {
		return nil
	}
	begun := time.Now()
	identity := a.connection.Identity()
	before := identity.Keys()
	address := identity.API
	if address == "" || begun.Sub(a.lookedAPI) > keysEvery/2 {
		var err error
		if address, err = a.client.API(ctx, identity.Host); err != nil {
			return err
		}
		a.lookedAPI = begun
	}
	var err, said error
	if len(before.Keys) == 0 {
		err = enrol.PinKeys(ctx, &identity, a.client)
	} else {
		statements, readErr := a.client.KeySets(ctx, identity.Host)
		if readErr != nil {
			return readErr
		}
		var set keyset.Set
		set, said = keyset.Advance(ctx, before, statements)
		identity.SetKeys(set)
	}
	if err != nil {
		return err
	}
	a.looked = begun
	a.tellKeys(said, identity.KeySet)
	moved := identity.KeySet != before.Serial || len(before.Keys) == 0
	if !moved && (address == "" || address == identity.API) {
		return nil
	}
	err = a.change(func(i *enrol.Identity) {
		i.SetKeys(identity.Keys())
		if address != "" {
			i.API = address
		}
	})
	if err != nil {
		return fmt.Errorf("keep the authorization keys: %w", err)
	}
	if !moved {
		return nil
	}
	return a.trustAnew(identity)
}

// takeKeys takes over what statements in a bundle say of the keys, as if the control plane had offered them.
func (a *Agent) takeKeys(ctx context.Context, statements map[int64]string) error {
	a.looking.Lock()
	defer a.looking.Unlock()
	identity := a.connection.Identity()
	before := identity.Keys()
	set, said := keyset.Advance(ctx, before, statements)
	if said != nil && !errors.Is(said, keyset.ErrRollback) { // the Rollout is judged by the keys that are known
		a.log.Info("what the bundle says of the authorization keys is not believed", "error", said.Error())
	}
	if set.Serial == before.Serial {
		return nil
	}
	identity.SetKeys(set)
	if err := a.change(func(i *enrol.Identity) { i.SetKeys(set) }); err != nil {
		return fmt.Errorf("keep the authorization keys: %w", err)
	}
	return a.trustAnew(identity)
}

// trustAnew uses the keys of an identity from now on, and has what was refused judged by them.
func (a *Agent) trustAnew(identity enrol.Identity) error {
	if err := a.setTrust(identity); err != nil {
		return err
	}
	a.log.Info("authorization keys taken over", "set", identity.KeySet, "trusted", len(identity.AuthorizationKeys), "revoked", len(identity.RevokedKeys))
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.workers {
		w.reconsider()
	}
	a.beatNow()
	return nil
}

// tellKeys notes what is wrong with the keys on offer, in the log and for the heartbeat, once for each change.
func (a *Agent) tellKeys(wrong error, serial int64) {
	text := ""
	if errors.Is(wrong, keyset.ErrRollback) {
		text = wrong.Error()
	}
	a.mu.Lock()
	said := a.keysSaid
	a.keysSaid, a.keySerial = "", serial
	if wrong != nil {
		a.keysSaid = wrong.Error()
	}
	changed := said != a.keysSaid
	a.keysBehind = text
	a.mu.Unlock()
	if changed && wrong != nil {
		a.log.Info("what the control plane says of the authorization keys is not believed", "error", wrong.Error())
	}
	if changed {
		a.beatNow()
	}
}

// change saves a changed identity and uses it from now on.
func (a *Agent) change(f func(*enrol.Identity)) error {
	a.changing.Lock()
	defer a.changing.Unlock()
	identity := a.connection.Identity()
	f(&identity)
	if err := identity.Save(a.options.DataDir); err != nil {
		return err
	}
	return a.connection.Replace(identity)
}
