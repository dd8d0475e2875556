// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"gitlab.com/dynors/sirrat/agent/control"
	"gitlab.com/dynors/sirrat/agent/enrol"
)

// Waits between tries to come back with an expired certificate.
const (
	firstAgainRetry = 2 * time.Second
	lastAgainRetry  = time.Hour
)

// unauthenticated notes that the control plane does not know this agent (any more), most likely because its certificate has
// expired.
func (a *Agent) unauthenticated(err error) {
	if !apierrors.IsUnauthorized(err) {
		return
	}
	poke(a.barred)
}

// renewals has a new certificate issued in time. When it could not, for too long, the agent comes back through the HTTP API,
// with the key of the certificate that has expired.
func (a *Agent) renewals(ctx context.Context) {
	for ctx.Err() == nil {
		identity := a.connection.Identity()
		notBefore, notAfter, err := identity.Validity()
		if err != nil {
			a.log.Error(err, "certificate cannot be read")
			return
		}
		if expired := a.untilDue(ctx, enrol.RenewAt(notBefore, notAfter), notAfter); ctx.Err() != nil {
			return
		} else if expired {
			a.comeBack(ctx)
			continue
		}
		next, err := enrol.Renew(ctx, identity, a.client)
		if err == nil {
			err = a.takeCertificate(*next)
		}
		switch {
		case err == nil:
			a.log.Info("certificate renewed")
			a.beatNow()
		case errors.Is(err, context.Canceled):
			return
		default:
			a.unauthenticated(err)
			a.log.Error(err, "certificate not renewed", "expires", notAfter.UTC().Format(time.RFC3339))
			retry := time.Now().Add(max(time.Second, min(time.Hour, notAfter.Sub(notBefore)/50)))
			if a.untilDue(ctx, retry, notAfter) {
				a.comeBack(ctx)
			}
		}
	}
}

// untilDue waits for a time, and returns early, with true, when the certificate is of no use any more.
func (a *Agent) untilDue(ctx context.Context, due, notAfter time.Time) (expired bool) {
	for ctx.Err() == nil {
		now := time.Now()
		if now.After(notAfter) {
			return true
		}
		if !now.Before(due) {
			return false
		}
		timer := time.NewTimer(min(due.Sub(now), time.Hour)) // the clock may jump
		select {
		case <-ctx.Done():
		case <-a.barred:
			timer.Stop()
			return true
		case <-timer.C:
		}
	}
	return false
}

// comeBack tries until the control plane takes this agent back, or the certificate turns out to be good.
func (a *Agent) comeBack(ctx context.Context) {
	wait := firstAgainRetry
	for ctx.Err() == nil {
		if _, err := a.client.WhoAmI(ctx); err == nil { // it was the control plane's moment of weakness
			_, notAfter, err := a.validity()
			if err == nil && time.Now().Before(notAfter) {
				return
			}
		}
		identity := a.connection.Identity()
		next, err := enrol.Again(ctx, identity, UserAgent(a.options.Version), time.Now())
		if err == nil {
			err = a.proveCertificate(ctx, *next)
		}
		if err == nil {
			err = a.takeCertificate(*next)
		}
		if err == nil {
			a.log.Info("the certificate had expired; a new one was issued for the proof of the old key")
			a.drainBarred()
			a.beatNow()
			return
		}
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, enrol.ErrNoWayBack) {
			wait = lastAgainRetry
		}
		a.log.Error(err, "the certificate has expired and there is no new one; what runs is kept running", "next", wait.String())
		sleep(ctx, early(wait))
		wait = min(2*wait, lastAgainRetry)
	}
}

func (a *Agent) validity() (notBefore, notAfter time.Time, err error) {
	identity := a.connection.Identity()
	return identity.Validity()
}

// drainBarred forgets a complaint about the certificate that was exchanged.
func (a *Agent) drainBarred() {
	select {
	case <-a.barred:
	default:
	}
}

// proveCertificate makes sure that the control plane knows the holder of a certificate before the old one, with the only
// key that proves anything, is given up for it.
func (a *Agent) proveCertificate(ctx context.Context, next enrol.Identity) error {
	connection, err := enrol.Connect(next, UserAgent(a.options.Version))
	if err != nil {
		return err
	}
	client, err := control.New(connection.Config())
	if err != nil {
		return err
	}
	user, err := client.WhoAmI(ctx)
	if err != nil {
		return fmt.Errorf("the new certificate does not work: %w", err)
	}
	if user.Username != next.User() {
		return fmt.Errorf("the new certificate is of %s", user.Username)
	}
	return nil
}

// takeCertificate saves a certificate and its key and uses them from now on.
func (a *Agent) takeCertificate(next enrol.Identity) error {
	return a.change(func(i *enrol.Identity) { i.Certificate, i.Key = next.Certificate, next.Key })
}
