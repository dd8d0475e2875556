// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
)

// letter is a mail that somebody got.
type letter struct{ to, subject, text string }

// mailbox is a mail server on this machine that keeps what everybody gets.
type mailbox struct {
	mu      sync.Mutex
	letters []letter
	server  *smtp.Server
	addr    string
}

func startMailbox() (*mailbox, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	m := &mailbox{addr: l.Addr().String()}
	m.server = smtp.NewServer(m)
	m.server.Domain, m.server.MaxMessageBytes = "localhost", 1<<20
	m.server.ReadTimeout, m.server.WriteTimeout = time.Minute, time.Minute
	go m.server.Serve(l) //nolint:errcheck // ends with the process
	return m, nil
}

// NewSession implements smtp.Backend.
func (m *mailbox) NewSession(*smtp.Conn) (smtp.Session, error) { return &delivery{box: m}, nil }

// delivery is one mail on its way in.
type delivery struct {
	box *mailbox
	to  []string
}

func (d *delivery) Mail(string, *smtp.MailOptions) error { return nil }

func (d *delivery) Rcpt(to string, _ *smtp.RcptOptions) error {
	d.to = append(d.to, to)
	return nil
}

func (d *delivery) Data(r io.Reader) error {
	msg, err := mail.ReadMessage(r)
	if err != nil {
		return err
	}
	body := msg.Body
	if strings.EqualFold(msg.Header.Get("Content-Transfer-Encoding"), "quoted-printable") {
		body = quotedprintable.NewReader(body)
	}
	text, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(msg.Header.Get("Subject"))
	if err != nil {
		return err
	}
	d.box.mu.Lock()
	defer d.box.mu.Unlock()
	for _, to := range d.to {
		d.box.letters = append(d.box.letters, letter{to, subject, string(text)})
	}
	return nil
}

func (d *delivery) Reset()        { d.to = nil }
func (d *delivery) Logout() error { return nil }

// all are the mails so far.
func (m *mailbox) all() []letter {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]letter(nil), m.letters...)
}

// await waits for a mail to somebody, after the first n, of which find makes something.
func (m *mailbox) await(ctx context.Context, to string, n int, what string, find func(text string) string) (string, error) {
	var found string
	err := await(ctx, startTimeout, what+" by mail to "+to, func(context.Context) (string, bool, error) {
		all := m.all()
		for _, l := range all[min(n, len(all)):] {
			if l.to == to {
				if found = find(l.text); found != "" {
					return "", true, nil
				}
			}
		}
		return fmt.Sprintf("%d mails", len(all)), false, nil
	})
	return found, err
}
