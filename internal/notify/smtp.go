// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	netmail "net/mail"
	"net/textproto"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/wneessen/go-mail"

	"gitlab.com/dynors/sirrat/internal/cli/inert"
)

// mailTimeout bounds one mail from dialling to the server's last answer.
const mailTimeout = time.Minute

// maxText bounds a mail's text, in characters.
const maxText = 64 << 10

// maxAnswer bounds what is repeated of a server's answer, in characters.
const maxAnswer = 300

// SMTPOptions say how mail leaves.
type SMTPOptions struct {
	// Addr is smtps://host[:465] (TLS from the first byte) or smtp://host[:587] (STARTTLS, without which nothing is sent;
	// plain text to a loopback address only).
	Addr string
	// Username and the file that holds the password, read for every mail. Both empty: no authentication.
	Username, PasswordFile string
	// From is the sender. Example: SIRRAT <sirrat@dynors.com>
	From string
	// RootCAs are those that the server's certificate is verified with; nil for the system's.
	RootCAs *x509.CertPool
}

// SMTP hands mails to a mail server. It is safe for concurrent use.
type SMTP struct {
	o    SMTPOptions
	host string
	port int
	// implicit is TLS from the first byte; plain is a server on this machine, reached without.
	implicit, plain bool
	from            *netmail.Address
}

// NewSMTP checks the options. It does not connect.
func NewSMTP(o SMTPOptions) (*SMTP, error) {
	u, err := url.Parse(o.Addr)
	if err != nil || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		// Not the address itself: somebody may have put a password into it.
		return nil, errors.New("mail server: it is not smtp://host:port or smtps://host:port")
	}
	s := &SMTP{o: o, host: u.Hostname()}
	switch u.Scheme {
	case "smtps":
		s.implicit, s.port = true, 465
	case "smtp":
		s.port, s.plain = 587, loopback(s.host)
	default:
		return nil, fmt.Errorf("mail server: scheme %.20q: it can be smtp or smtps", u.Scheme)
	}
	if p := u.Port(); p != "" {
		if s.port, err = strconv.Atoi(p); err != nil || s.port < 1 || s.port > 65535 {
			return nil, fmt.Errorf("mail server: port %.20q", p)
		}
	}
	if s.from, err = netmail.ParseAddress(o.From); err != nil {
		return nil, fmt.Errorf("sender %.100q is not an address", o.From)
	}
	if (o.Username == "") != (o.PasswordFile == "") {
		return nil, errors.New("mail server: give both a user name and a password file, or neither")
	}
	return s, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// mailError is a failure to send. Its text holds neither the password nor what was sent, whatever the server answered.
type mailError struct {
	text      string
	permanent bool
	cause     error // of the context, or nil
}

func (e *mailError) Error() string { return e.text }
func (e *mailError) Unwrap() error { return e.cause }

// Permanent says that the server will not take this mail to this address, however often it is tried.
func (e *mailError) Permanent() bool { return e.permanent }

// Send returns nil once the server took the mail over. to is one bare address. Control characters in subject and text
// become visible escapes, so that neither adds a header. It returns when ctx ends, and after a minute in any case.
func (s *SMTP) Send(ctx context.Context, to, subject, text string) error {
	msg, err := s.message(to, subject, text)
	if err != nil {
		return err
	}
	password := ""
	if s.o.PasswordFile != "" {
		raw, err := os.ReadFile(s.o.PasswordFile)
		if err != nil {
			return fmt.Errorf("read the mail server's password: %w", err)
		}
		password = strings.TrimRight(string(raw), "\r\n")
	}
	ctx, cancel := context.WithTimeout(ctx, mailTimeout)
	defer cancel()
	c := &connector{ctx: ctx, smtp: s}
	defer c.close()
	client, err := mail.NewClient(s.host, s.options(password, c)...)
	if err != nil {
		return fmt.Errorf("mail server: %w", err)
	}
	// An error while saying good-bye comes after the server took the mail over.
	if err := client.DialAndSendWithContext(ctx, msg); err != nil && !msg.IsDelivered() {
		return failure(ctx, err)
	}
	return nil
}

func (s *SMTP) message(to, subject, text string) (*mail.Msg, error) {
	address, err := netmail.ParseAddress(to)
	if err != nil || address.Address != to || inert.Line(to) != to {
		return nil, &mailError{text: "the receiver is not an e-mail address", permanent: true}
	}
	msg := mail.NewMsg(mail.WithCharset(mail.CharsetUTF8), mail.WithEncoding(mail.EncodingQP), mail.WithNoDefaultUserAgent())
	msg.FromMailAddress(s.from)
	msg.ToMailAddress(address)
	msg.Subject(line(subject, maxSubject))
	msg.SetDate()
	// The domain is the sender's: the default is this machine's name.
	msg.SetMessageIDWithValue(rand.Text() + s.from.Address[strings.LastIndexByte(s.from.Address, '@'):])
	// RFC 3834: no out-of-office answers.
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.SetBodyString(mail.TypeTextPlain, clip(inert.Text(clip(text, maxText)), maxText))
	return msg, nil
}

func (s *SMTP) options(password string, c *connector) []mail.Option {
	policy := mail.TLSMandatory
	if s.implicit || s.plain {
		policy = mail.NoTLS // the connector did it, or there is none
	}
	o := []mail.Option{
		mail.WithPort(s.port), mail.WithTimeout(mailTimeout), mail.WithTLSPolicy(policy), mail.WithTLSConfig(s.tlsConfig()),
		mail.WithDialContextFunc(c.dial),
	}
	if s.o.Username != "" {
		// The library sends a password in plain text over TLS only, or to localhost.
		o = append(o, mail.WithUsername(s.o.Username), mail.WithPassword(password), mail.WithOpportunisticSMTPAuth(
			mail.SMTPAuthSCRAMSHA256, mail.SMTPAuthPlain, mail.SMTPAuthLogin, mail.SMTPAuthCramMD5))
	}
	return o
}

func (s *SMTP) tlsConfig() *tls.Config {
	return &tls.Config{ServerName: s.host, RootCAs: s.o.RootCAs, MinVersion: tls.VersionTLS12}
}

// connector makes the connection of one mail end with its context and not outlive it: the library looks at the context
// while it dials only, and leaves the connection open after some errors.
type connector struct {
	ctx  context.Context
	smtp *SMTP
	conn net.Conn
	stop func() bool
}

func (c *connector) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d interface {
		DialContext(ctx context.Context, network, address string) (net.Conn, error)
	} = &net.Dialer{}
	if c.smtp.implicit {
		d = &tls.Dialer{Config: c.smtp.tlsConfig()}
	}
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c.conn, c.stop = conn, context.AfterFunc(c.ctx, func() { conn.Close() })
	return conn, nil
}

func (c *connector) close() {
	if c.conn != nil {
		c.stop()
		c.conn.Close()
	}
}

// failure says what went wrong. Of what the server answered it keeps the code: a server may repeat what it was sent, and
// that can be a password or a link that signs.
func failure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return &mailError{text: "the mail server did not take the mail over in time", cause: ctx.Err()}
	}
	var refusal *mail.SendError
	if errors.As(err, &refusal) && refusal.ErrorCode() > 0 {
		code := refusal.ErrorCode()
		answer := strings.TrimSpace(strconv.Itoa(code) + " " + line(refusal.EnhancedStatusCode(), 20))
		switch refusal.Reason {
		case mail.ErrSMTPRcptTo:
			return &mailError{text: "the mail server does not take mail for the receiver: " + answer, permanent: permanentCode(code)}
		case mail.ErrSMTPMailFrom:
			return &mailError{text: "the mail server does not take mail from the sender: " + answer}
		}
		return &mailError{text: "the mail server does not take the mail: " + answer, permanent: permanentCode(code)}
	}
	var answer *textproto.Error
	if errors.As(err, &answer) {
		return &mailError{text: "the mail server does not let SIRRAT in: " + strconv.Itoa(answer.Code)}
	}
	var nonsense textproto.ProtocolError
	if errors.As(err, &nonsense) || errors.As(err, &refusal) {
		return &mailError{text: "the mail server ended the conversation, or does not speak SMTP"}
	}
	return &mailError{text: "mail server: " + line(err.Error(), maxAnswer)}
}

// permanentCode says that trying again is useless: RFC 5321, 4.2.1. Codes of authentication are not: what is wrong there
// is the configuration, which can be put right.
func permanentCode(code int) bool {
	return code >= 550 && code < 560
}
