// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	ctrl "sigs.k8s.io/controller-runtime"

	"gitlab.com/dynors/sirrat/controllers"
	"gitlab.com/dynors/sirrat/internal/notify"
	"gitlab.com/dynors/sirrat/internal/pv/pdf"
	"gitlab.com/dynors/sirrat/internal/signing"
)

// mailFlags say how people are told things.
type mailFlags struct {
	smtp, user, passwordFile, from string
	privateWebhooks                bool
}

func (f *mailFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.smtp, "smtp", "", "mail server for notifications, and for the links and codes of the signing page: smtps://host:465 or smtp://host:587 (STARTTLS); default: none, and clients sign by key or on paper")
	fl.StringVar(&f.user, "smtp-user", "", "user name at the mail server")
	fl.StringVar(&f.passwordFile, "smtp-password-file", "", "file that holds the password, read for every mail")
	fl.StringVar(&f.from, "mail-from", "SIRRAT <sirrat@localhost>", "sender of mails")
	fl.BoolVar(&f.privateWebhooks, "allow-private-webhooks", false, "let projects have webhooks in private networks and without TLS, for a chat server of your own")
}

// mailer is the mail server as the signing page wants it.
type mailer struct{ *notify.SMTP }

func (m mailer) Send(ctx context.Context, msg signing.Message) error {
	return m.SMTP.Send(ctx, msg.To, msg.Subject, msg.Text)
}

// tell makes what tells people things: the dispatcher of notifications, which the manager runs, and the signing page; nil
// without a mail server.
func (f mailFlags) tell(mgr ctrl.Manager, p *proof, o bridgeOptions) (*signing.Page, error) {
	options := notify.Options{
		Journal: p.journal, Cursors: controllers.Cursors{Client: p.direct}, Webhooks: notify.NewWebhooks(f.privateWebhooks, o.egress.Networks...), BaseURL: o.publicURL, Log: o.log.WithName("notify"),
	}
	receivers := controllers.Receivers{Reader: mgr.GetClient(), Events: mgr.GetEventRecorder("sirrat")}
	options.Projects, options.GaveUp = receivers, receivers.GaveUp
	var page *signing.Page
	if f.smtp != "" {
		smtp, err := notify.NewSMTP(notify.SMTPOptions{Addr: f.smtp, Username: f.user, PasswordFile: f.passwordFile, From: f.from})
		if err != nil {
			return nil, fmt.Errorf("--smtp: %w", err)
		}
		options.Mail = smtp
		page, err = signing.New(signing.Options{
			Client: p.direct, APIReader: p.direct, Signer: p.keys.Signer, Mail: mailer{smtp}, PDF: pdf.Of, BaseURL: o.publicURL, Log: o.log.WithName("signing"),
		})
		if err != nil {
			return nil, fmt.Errorf("--public-url: %w", err)
		}
	}
	dispatcher, err := notify.New(options)
	if err != nil {
		return nil, err
	}
	if err := mgr.Add(dispatcher); err != nil {
		return nil, fmt.Errorf("notifications: %w", err)
	}
	return page, nil
}
