// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/http/httptest"
	netmail "net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// mailServer is an SMTP server in this process.
type mailServer struct {
	addr  string
	roots *x509.CertPool

	mu sync.Mutex
	// refuse answers RCPT, refuseData what follows DATA; nil takes everything.
	refuse, refuseData func(string) error
	user, password     string // needed if set
	mails              []received
}

type received struct {
	from, to string
	raw      string
	secure   bool
	authed   bool
}

// serverTLS is a certificate for 127.0.0.1 and its root.
func serverTLS(t *testing.T) (*tls.Config, *x509.CertPool) {
	s := httptest.NewTLSServer(nil)
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return &tls.Config{Certificates: s.TLS.Certificates}, roots
}

// startMail serves on a free port: mode is "plain", "starttls" or "tls".
func startMail(t *testing.T, mode string) *mailServer {
	t.Helper()
	m := &mailServer{}
	srv := smtp.NewServer(m)
	srv.Domain, srv.ErrorLog, srv.AllowInsecureAuth = "localhost", quiet{}, true
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.addr = listener.Addr().String()
	if mode != "plain" {
		var config *tls.Config
		config, m.roots = serverTLS(t)
		if mode == "tls" {
			listener = tls.NewListener(listener, config)
		} else {
			srv.TLSConfig = config
		}
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(listener) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	return m
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}

func (m *mailServer) NewSession(c *smtp.Conn) (smtp.Session, error) {
	return &mailSession{server: m, conn: c}, nil
}

func (m *mailServer) set(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

func (m *mailServer) got() []received {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.mails)
}

type mailSession struct {
	server *mailServer
	conn   *smtp.Conn
	mail   received
	authed bool
}

func (s *mailSession) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *mailSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != s.server.user || password != s.server.password {
			// As a careless server might.
			return &smtp.SMTPError{Code: 535, Message: "not the password of " + user + ": " + password}
		}
		s.authed = true
		return nil
	}), nil
}

func (s *mailSession) Mail(from string, _ *smtp.MailOptions) error {
	if s.server.user != "" && !s.authed {
		return smtp.ErrAuthRequired
	}
	_, secure := s.conn.TLSConnectionState()
	s.mail = received{from: from, secure: secure, authed: s.authed}
	return nil
}

func (s *mailSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.server.mu.Lock()
	refuse := s.server.refuse
	s.server.mu.Unlock()
	s.mail.to = to
	if refuse != nil {
		return refuse(to)
	}
	return nil
}

func (s *mailSession) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.mail.raw = string(raw)
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	if s.server.refuseData != nil {
		return s.server.refuseData(s.mail.raw)
	}
	s.server.mails = append(s.server.mails, s.mail)
	return nil
}

func (s *mailSession) Reset()        {}
func (s *mailSession) Logout() error { return nil }

// read parses a mail as a reader would.
func (r received) read(t *testing.T) (h netmail.Header, subject, text string) {
	t.Helper()
	msg, err := netmail.ReadMessage(strings.NewReader(r.raw))
	if err != nil {
		t.Fatal(err)
	}
	if subject, err = new(mime.WordDecoder).DecodeHeader(msg.Header.Get("Subject")); err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(quotedprintable.NewReader(msg.Body))
	if err != nil {
		t.Fatal(err)
	}
	return msg.Header, subject, strings.ReplaceAll(string(body), "\r\n", "\n")
}

func newSMTP(t *testing.T, o SMTPOptions) *SMTP {
	t.Helper()
	if o.From == "" {
		o.From = "SIRRAT <sirrat@dynors.example>"
	}
	s, err := NewSMTP(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const secret = "canary-7Jq2-secret"

func passwordFile(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(name, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestMailArrives(t *testing.T) {
	for _, c := range []struct {
		mode, scheme string
		secure, auth bool
	}{{"plain", "smtp", false, false}, {"starttls", "smtp", true, false}, {"starttls", "smtp", true, true}, {"tls", "smtps", true, false}, {"tls", "smtps", true, true}} {
		t.Run(fmt.Sprintf("%s auth %v", c.mode, c.auth), func(t *testing.T) {
			server := startMail(t, c.mode)
			o := SMTPOptions{Addr: c.scheme + "://" + server.addr, RootCAs: server.roots}
			if c.auth {
				server.user, server.password = "sirrat", secret
				o.Username, o.PasswordFile = "sirrat", passwordFile(t)
			}
			s := newSMTP(t, o)
			if c.mode == "starttls" {
				s.plain = false // as for any other machine
			}
			text := "Bonjour,\n\nla release est prête : https://sirrat.dynors.com/sign/" + strings.Repeat("0123456789", 20) + "\n.\n..\nfin\n"
			if err := s.Send(t.Context(), "marie@client.example", "À signer : l’été", text); err != nil {
				t.Fatal(err)
			}
			mails := server.got()
			if len(mails) != 1 || mails[0].to != "marie@client.example" || mails[0].from != "sirrat@dynors.example" || mails[0].secure != c.secure || mails[0].authed != c.auth {
				t.Fatalf("%+v", mails)
			}
			h, subject, got := mails[0].read(t)
			if subject != "À signer : l’été" || strings.TrimRight(got, "\n") != strings.TrimRight(text, "\n") {
				t.Errorf("%q\n%q", subject, got)
			}
			if h.Get("Auto-Submitted") != "auto-generated" || !strings.HasSuffix(h.Get("Message-ID"), "@dynors.example>") || h.Get("Date") == "" {
				t.Errorf("headers %v", h)
			}
			if h.Get("From") != `"SIRRAT" <sirrat@dynors.example>` || h.Get("To") != "<marie@client.example>" {
				t.Errorf("headers %v", h)
			}
		})
	}
}

func TestMailWithoutTLSIsNotSent(t *testing.T) {
	server := startMail(t, "plain")
	s := newSMTP(t, SMTPOptions{Addr: "smtp://" + server.addr})
	s.plain = false // as for any other machine
	if err := s.Send(t.Context(), "marie@client.example", "s", "t"); err == nil || !strings.Contains(err.Error(), "STARTTLS") {
		t.Errorf("%v", err)
	}
	for _, mode := range []string{"starttls", "tls"} {
		server := startMail(t, mode)
		s := newSMTP(t, SMTPOptions{Addr: map[string]string{"tls": "smtps://", "starttls": "smtp://"}[mode] + server.addr}) // no root
		s.plain = false
		if err := s.Send(t.Context(), "marie@client.example", "s", "t"); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("%s: %v", mode, err)
		}
		if len(server.got()) != 0 {
			t.Errorf("%s: sent to a server that is not who it says", mode)
		}
	}
	if len(server.got()) != 0 {
		t.Error("sent in plain text")
	}
}

func TestMailHeadersCannotBeInjected(t *testing.T) {
	server := startMail(t, "plain")
	s := newSMTP(t, SMTPOptions{Addr: "smtp://" + server.addr})
	for _, text := range hostile {
		if err := s.Send(t.Context(), "marie@client.example", text, text); err != nil {
			t.Fatalf("%.100q: %v", text, err)
		}
		mails := server.got()
		h, subject, body := mails[len(mails)-1].read(t)
		if h.Get("Bcc") != "" || len(h["Subject"]) != 1 || subject != line(text, maxSubject) {
			t.Errorf("%.100q: %v", text, h)
		}
		for _, r := range body {
			if r < ' ' && r != '\n' || r == '\u202e' {
				t.Errorf("%.100q: %U in the text", text, r)
			}
		}
	}
	before := len(server.got())
	for _, to := range []string{"", "x", "a@b\r\nRCPT TO:<c@d>", "Marie <marie@client.example>", "a@b, c@d", "\u202ea@b", " a@b"} {
		err := s.Send(t.Context(), to, "s", "t")
		if err == nil || !permanent(err) {
			t.Errorf("%q: %v", to, err)
		}
	}
	if len(server.got()) != before {
		t.Error("a mail went to something that is not an address")
	}
}

func TestMailErrors(t *testing.T) {
	server := startMail(t, "plain")
	s := newSMTP(t, SMTPOptions{Addr: "smtp://" + server.addr})
	link := "https://sirrat.dynors.com/sign/" + secret
	answer := func(code int) func(string) error {
		return func(sent string) error {
			return &smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCode{code / 100, 1, 1}, Message: "no: " + sent + " " + link}
		}
	}
	for _, c := range []struct {
		name             string
		refuse, data     func(string) error
		want             string
		wantPermanent    bool
		username, passwd string
	}{
		{name: "no such user", refuse: answer(550), want: "does not take mail for the receiver: 550 5.1.1", wantPermanent: true},
		{name: "greylisted", refuse: answer(451), want: "does not take mail for the receiver: 451 4.1.1"},
		{name: "content", data: answer(554), want: "does not take the mail: 554", wantPermanent: true},
		{name: "busy", data: answer(452), want: "does not take the mail: 452"},
	} {
		server.set(func() { server.refuse, server.refuseData = c.refuse, c.data })
		err := s.Send(t.Context(), "marie@client.example", "s", "sign here: "+link)
		if err == nil || !strings.Contains(err.Error(), c.want) || permanent(err) != c.wantPermanent || strings.Contains(fmt.Sprintf("%+v", err), secret) {
			t.Errorf("%s: %v, permanent %v", c.name, err, permanent(err))
		}
	}

	server = startMail(t, "starttls")
	server.user, server.password = "sirrat", "another"
	s = newSMTP(t, SMTPOptions{Addr: "smtp://" + server.addr, RootCAs: server.roots, Username: "sirrat", PasswordFile: passwordFile(t)})
	s.plain = false
	if err := s.Send(t.Context(), "marie@client.example", "s", "t"); err == nil || permanent(err) || !strings.Contains(err.Error(), "535") || strings.Contains(err.Error(), secret) {
		t.Errorf("%v", err)
	}
	s.o.PasswordFile = filepath.Join(t.TempDir(), "absent")
	if err := s.Send(t.Context(), "marie@client.example", "s", "t"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// A server that never answers is left when the context ends, during every step.
func TestMailToASilentServerEnds(t *testing.T) {
	for _, greet := range []string{"", "220 hello\r\n"} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, greet)
			_, _ = io.Copy(io.Discard, conn) // until the other side closes
		}()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		err = newSMTP(t, SMTPOptions{Addr: "smtp://" + listener.Addr().String()}).Send(ctx, "marie@client.example", "s", "t")
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || permanent(err) {
			t.Errorf("%v", err)
		}
		select {
		case <-gone:
		case <-time.After(10 * time.Second):
			t.Error("the connection stays open")
		}
		listener.Close()
	}
}

func TestMailServerThatSpeaksNoSMTP(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			_, _ = io.WriteString(conn, "HTTP/1.1 400 "+secret+"\r\n\r\n")
			conn.Close()
		}
	}()
	err = newSMTP(t, SMTPOptions{Addr: "smtp://" + listener.Addr().String()}).Send(t.Context(), "marie@client.example", "s", "t")
	if err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("%v", err)
	}
}

func TestSMTPOptions(t *testing.T) {
	for _, c := range []struct {
		addr, user, file, from string
		host                   string
		port                   int
		implicit, plain        bool
	}{
		{addr: "smtps://mail.example", from: "a@b.example", host: "mail.example", port: 465, implicit: true},
		{addr: "smtp://mail.example", from: "A <a@b.example>", host: "mail.example", port: 587},
		{addr: "smtp://localhost:25", from: "a@b.example", host: "localhost", port: 25, plain: true},
		{addr: "smtp://[::1]:2525", from: "a@b.example", host: "::1", port: 2525, plain: true},
		{addr: "smtp://127.0.0.1.evil.example", from: "a@b.example", host: "127.0.0.1.evil.example", port: 587},
		{addr: "mail.example:25", from: "a@b.example"},
		{addr: "http://mail.example", from: "a@b.example"},
		{addr: "smtp://user:" + secret + "@mail.example", from: "a@b.example"},
		{addr: "smtp://mail.example:99999", from: "a@b.example"},
		{addr: "smtp://mail.example/x", from: "a@b.example"},
		{addr: "smtps://mail.example", from: "nobody"},
		{addr: "smtps://mail.example", from: "a@b\r\nBcc: c@d"},
		{addr: "smtps://mail.example", from: "a@b.example", user: "u"},
		{addr: "smtps://mail.example", from: "a@b.example", file: "f"},
	} {
		s, err := NewSMTP(SMTPOptions{Addr: c.addr, Username: c.user, PasswordFile: c.file, From: c.from})
		if c.host == "" {
			if err == nil || strings.Contains(err.Error(), secret) {
				t.Errorf("%s: %v", c.addr, err)
			}
			continue
		}
		if err != nil || s.host != c.host || s.port != c.port || s.implicit != c.implicit || s.plain != c.plain {
			t.Errorf("%s: %+v %v", c.addr, s, err)
		}
	}
}
