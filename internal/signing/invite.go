// SPDX-License-Identifier: Apache-2.0

package signing

import (
	"context"
	"errors"
	"fmt"
	"net/mail"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/cli/inert"
	"gitlab.com/dynors/sirrat/internal/page"
)

const (
	// defaultValidity of a link, for Projects that were stored before the field had a default.
	defaultValidity = 336 * time.Hour
	// mailTimeout bounds the handing over of one mail.
	mailTimeout = 20 * time.Second
	// A link that could not be handed over is tried again after firstRetry, then after twice as long, up to lastRetry.
	firstRetry = time.Minute
	lastRetry  = time.Hour
)

// Invited is what Invite did.
type Invited struct {
	// Sent is how many links were handed over now.
	Sent int
	// Failed says of each link that waits why it was not handed over, with a masked address.
	Failed []string
	// RetryAfter is when to call Invite again for what Failed; 0: not before something changes.
	RetryAfter time.Duration
}

// stored is an invitation with its Secret.
type stored struct {
	secret *corev1.Secret
	*invitation
}

// Invite sends each signatory of the project who has an address a link to the PV, once: again only when the PV's
// v1alpha1.AnnotationSendLink has a new value, which ends older links, and when a link was not handed over to a mail server.
// It sends nothing once the PV has a decision, and ends the links of people who are no longer signatories.
//
// The Secrets of a PV without a decision are the memory of what was sent, expired ones too: Forget keeps those.
// A mail that does not go out is no error but is said in the result.
func (p *Page) Invite(ctx context.Context, key client.ObjectKey) (Invited, error) {
	var out Invited
	var obj v1alpha1.PV
	if err := p.o.APIReader.Get(ctx, key, &obj); err != nil {
		return out, client.IgnoreNotFound(err)
	}
	var project v1alpha1.Project
	if err := p.o.APIReader.Get(ctx, client.ObjectKey{Name: key.Namespace}, &project); err != nil {
		return out, client.IgnoreNotFound(err)
	}
	if obj.Status.Decision != "" || !obj.DeletionTimestamp.IsZero() || !project.DeletionTimestamp.IsZero() {
		return out, nil
	}
	have, err := p.invitations(ctx, &obj)
	if err != nil {
		return out, err
	}
	var current []stored
	for _, inv := range have {
		if !inv.revoked(&obj) && inv.forAnyOf(&project) {
			current = append(current, inv)
		} else if err := p.delete(ctx, inv); err != nil {
			return out, err
		}
	}
	var done []v1alpha1.Signatory
	for _, s := range project.Spec.Client.Signatories {
		if s.Email == "" || slices.Contains(done, s) {
			continue
		}
		done = append(done, s)
		var mine *stored
		if i := slices.IndexFunc(current, func(inv stored) bool { return inv.isFor(s) }); i >= 0 {
			mine = &current[i]
		}
		if err := p.inviteOne(ctx, &project, &obj, s, mine, &out); err != nil {
			return out, err
		}
	}
	return out, nil
}

// inviteOne sends one link unless that was done. The Secret is stored before the mail leaves, so that a link that somebody
// holds works; a crash before Sent is stored makes a second mail, and the first link ends.
func (p *Page) inviteOne(ctx context.Context, project *v1alpha1.Project, obj *v1alpha1.PV, s v1alpha1.Signatory, mine *stored, out *Invited) error {
	now := p.o.Now()
	tries := 0
	if mine != nil {
		if mine.Sent {
			return nil
		}
		if wait := mine.RetryAt.Sub(now); wait > 0 && wait <= lastRetry { // a longer one is a clock that was set back
			out.fail(s.Email, errors.New("the last mail was not handed over"), wait)
			return nil
		}
		tries = mine.Tries
		if err := p.delete(ctx, *mine); err != nil {
			return err
		}
	}
	if a, err := mail.ParseAddress(s.Email); err != nil || a.Address != s.Email {
		out.fail(s.Email, errors.New("not an address: correct it in the Project"), 0)
		return nil
	}
	validity := project.Spec.Client.LinkValidity.Duration
	if validity <= 0 {
		validity = defaultValidity
	}
	token, err := newToken()
	if err != nil {
		return err
	}
	wait := min(firstRetry<<min(tries, 10), lastRetry)
	inv := &invitation{
		Project: obj.Namespace, PV: obj.Name, PVUID: string(obj.UID), Signatory: s.Name, Email: s.Email,
		Send: obj.Annotations[v1alpha1.AnnotationSendLink], Expires: now.Add(validity), Tries: tries + 1, RetryAt: now.Add(wait),
	}
	if err := p.createInvitation(ctx, token, inv); err != nil {
		return err
	}
	if err := p.send(ctx, invitationMail(project, obj, inv, p.base+Prefix+token)); err != nil {
		out.fail(s.Email, err, wait)
		p.o.Log.Info("a link to a PV could not be mailed", "project", obj.Namespace, "pv", obj.Name, "to", page.Mask(s.Email), "error", masked(err, s.Email))
		return nil
	}
	if err := p.change(ctx, token, func(inv *invitation) error {
		inv.Sent, inv.RetryAt = true, time.Time{}
		return nil
	}); err != nil {
		return fmt.Errorf("note that the link to PV %s/%s was sent: %w", obj.Namespace, obj.Name, err)
	}
	p.o.Log.Info("a link to a PV was mailed", "project", obj.Namespace, "pv", obj.Name, "to", page.Mask(s.Email))
	out.Sent++
	return nil
}

func (out *Invited) fail(email string, err error, wait time.Duration) {
	out.Failed = append(out.Failed, page.Mask(email)+": "+masked(err, email))
	if wait > 0 && (out.RetryAfter == 0 || wait < out.RetryAfter) {
		out.RetryAfter = wait
	}
}

// masked is what a mail server said, without the address that it likes to repeat.
func masked(err error, email string) string {
	return inert.Line(strings.ReplaceAll(err.Error(), email, page.Mask(email)))
}

// Forget deletes what is of no more use of a PV's invitations: all once the PV is gone, and once it has a decision those
// that expired, and the one that signed when its session is over. Other links live on until they expire: they say that the
// PV was signed. It returns how long until there is more to forget; 0: not before something changes.
func (p *Page) Forget(ctx context.Context, key client.ObjectKey) (time.Duration, error) {
	var obj v1alpha1.PV
	if err := p.o.APIReader.Get(ctx, key, &obj); client.IgnoreNotFound(err) != nil {
		return 0, fmt.Errorf("read PV: %w", err)
	}
	var secrets corev1.SecretList
	if err := p.o.APIReader.List(ctx, &secrets, client.InNamespace(v1alpha1.SystemNamespace), client.HasLabels{LabelInvitation},
		client.MatchingLabels{v1alpha1.LabelProject: key.Namespace}); err != nil {
		return 0, fmt.Errorf("list invitations: %w", err)
	}
	var next time.Duration
	now := p.o.Now()
	for i := range secrets.Items {
		inv, err := decode(&secrets.Items[i])
		if err != nil {
			p.o.Log.Error(err, "an invitation was skipped")
			continue
		}
		if inv.PV != key.Name {
			continue
		}
		if inv.PVUID == string(obj.UID) {
			if obj.Status.Decision == "" {
				continue
			}
			end := inv.Expires
			if inv.Used != nil && inv.SessionExpires.Before(end) {
				end = inv.SessionExpires
			}
			if wait := end.Sub(now); wait > 0 {
				if next == 0 || wait < next {
					next = wait
				}
				continue
			}
		}
		if err := p.delete(ctx, stored{&secrets.Items[i], inv}); err != nil {
			return 0, err
		}
	}
	return next, nil
}

func (p *Page) invitations(ctx context.Context, obj *v1alpha1.PV) ([]stored, error) {
	var secrets corev1.SecretList
	if err := p.o.APIReader.List(ctx, &secrets, client.InNamespace(v1alpha1.SystemNamespace), client.MatchingLabels{LabelInvitation: string(obj.UID)}); err != nil {
		return nil, fmt.Errorf("list invitations: %w", err)
	}
	out := make([]stored, 0, len(secrets.Items))
	for i := range secrets.Items {
		inv, err := decode(&secrets.Items[i])
		if err != nil {
			return nil, err
		}
		out = append(out, stored{&secrets.Items[i], inv})
	}
	return out, nil
}

func (p *Page) delete(ctx context.Context, inv stored) error {
	if err := p.o.Client.Delete(ctx, inv.secret); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete invitation to PV %s/%s: %w", inv.Project, inv.PV, err)
	}
	return nil
}

func (p *Page) send(ctx context.Context, m Message) error {
	ctx, cancel := context.WithTimeout(ctx, mailTimeout)
	defer cancel()
	return p.o.Mail.Send(ctx, m)
}

// invitationMail is in the client's language.
func invitationMail(project *v1alpha1.Project, obj *v1alpha1.PV, inv *invitation, link string) Message {
	t := texts.In(page.First(project.Spec.Client.Language))
	name := projectName(project)
	return Message{To: inv.Email, Subject: inert.Line(t("mail.subject", name, release(obj))),
		Text: inert.Text(t("mail.text", inv.Signatory, project.Spec.Client.Name, name, release(obj), link, page.Stamp(page.First(project.Spec.Client.Language), inv.Expires)))}
}

func codeMail(language string, project *v1alpha1.Project, obj *v1alpha1.PV, inv *invitation, code string) Message {
	t := texts.In(language)
	return Message{To: inv.Email, Subject: inert.Line(t("code.mail.subject", projectName(project))),
		Text: inert.Text(t("code.mail.text", code[:codeDigits/2]+" "+code[codeDigits/2:], projectName(project), release(obj), int(codeValidity/time.Minute)))}
}

func projectName(p *v1alpha1.Project) string {
	if p.Spec.DisplayName != "" {
		return p.Spec.DisplayName
	}
	return p.Name
}

func release(obj *v1alpha1.PV) string {
	if obj.Spec.Release.Version != "" {
		return obj.Spec.Release.Version
	}
	return obj.Spec.Release.Name
}
