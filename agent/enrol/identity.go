// SPDX-License-Identifier: Apache-2.0

// Package enrol makes a server a host of SIRRAT: it finds out with a one-time token which host this is to be, has a
// certificate issued for a key that never leaves the server, pins the keys that may sign authorizations, and renews the
// certificate in time.
//
// Nothing secret is sent before the control plane has shown a CA whose key has the expected hash. It may import agent/control,
// agent/disk, api/v1alpha1, internal/envelope, internal/keyset, internal/reenrol and client-go.
package enrol

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/connrotation"

	"gitlab.com/dynors/sirrat/agent/disk"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/keyset"
	"gitlab.com/dynors/sirrat/internal/reenrol"
)

// ErrNotEnrolled says that the server has not joined.
var ErrNotEnrolled = errors.New("this server has not joined: run sirrat-agent join with the command that `kubectl sirrat host add` printed")

// identityFile within the data folder.
const identityFile = "identity.json"

// Identity is what makes a server a host. It is one file, so that its parts always belong together.
type Identity struct {
	// Server is the control plane's address. Example: https://sirrat.example:6443.
	Server string `json:"server"`
	// Host and HostUID are those of the Host object.
	Host    string `json:"host"`
	HostUID string `json:"hostUID"`
	// CA, Certificate and Key are PEM.
	CA          string `json:"ca"`
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
	// Revocations of the host before this agent joined; part of its user name.
	Revocations int64 `json:"revocations,omitempty"`
	// API is the address of the HTTP API, without /api: the way back when the certificate has expired.
	API string `json:"api,omitempty"`
	// Proxy and NoProxy are as in HTTPS_PROXY and NO_PROXY; the former may hold a password. They are kept so that the service
	// goes the same way as `join` did.
	Proxy   string `json:"proxy,omitempty"`
	NoProxy string `json:"noProxy,omitempty"`
	// AuthorizationKeys that may sign: key id → PEM (PKIX). They were pinned at enrolment, or follow from those by signed
	// statements, of which KeySet is the serial number of the last.
	AuthorizationKeys map[string]string `json:"authorizationKeys,omitempty"`
	KeySet            int64             `json:"keySet,omitempty"`
	// RetiredKeys and RevokedKeys are known so that a refusal can say what is wrong.
	RetiredKeys map[string]string `json:"retiredKeys,omitempty"`
	RevokedKeys map[string]string `json:"revokedKeys,omitempty"`
}

// User is the agent's name at the control plane.
func (i *Identity) User() string { return v1alpha1.AgentUserAfter(i.Host, i.HostUID, i.Revocations) }

// Offline says that the server was joined by hand: it has no certificate, and never spoke with the control plane.
func (i *Identity) Offline() bool {
	return i.Certificate == "" && i.Key == "" && i.Host != "" && i.HostUID != "" && len(i.AuthorizationKeys) > 0
}

// KeyHash is the hash of the key that the agent authenticates with.
func (i *Identity) KeyHash() string {
	pair, err := i.certificate()
	if err != nil {
		return ""
	}
	return reenrol.Hash(pair.Leaf.RawSubjectPublicKeyInfo)
}

// Keys are the keys that the agent knows, as a set.
func (i *Identity) Keys() keyset.Set {
	whole := func(keys map[string]string) map[string]string {
		out := map[string]string{}
		for id, text := range keys {
			out["sha256:"+strings.TrimPrefix(id, "sha256:")] = text
		}
		return out
	}
	return keyset.Set{Serial: i.KeySet, Keys: whole(i.AuthorizationKeys), Retired: whole(i.RetiredKeys), Revoked: whole(i.RevokedKeys)}
}

// SetKeys replaces the keys that the agent knows.
func (i *Identity) SetKeys(s keyset.Set) {
	i.KeySet, i.AuthorizationKeys, i.RetiredKeys, i.RevokedKeys = s.Serial, s.Keys, s.Retired, s.Revoked
}

// LoadIdentity reads the identity in a data folder; ErrNotEnrolled when there is none.
func LoadIdentity(dir string) (*Identity, error) {
	data, err := os.ReadFile(filepath.Join(dir, identityFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotEnrolled
	}
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	i := &Identity{}
	if err := json.Unmarshal(data, i); err != nil {
		return nil, fmt.Errorf("%s is damaged, join again: it is not JSON", filepath.Join(dir, identityFile))
	}
	if _, err := i.certificate(); err != nil && !i.Offline() {
		return nil, fmt.Errorf("%s is damaged, join again: %w", filepath.Join(dir, identityFile), err)
	}
	return i, nil
}

// Save writes the identity into a data folder.
func (i *Identity) Save(dir string) error {
	data, err := json.MarshalIndent(i, "", "  ")
	if err != nil {
		return fmt.Errorf("encode identity: %w", err)
	}
	if err := disk.MkdirPrivate(dir); err != nil {
		return err
	}
	return disk.WriteFile(filepath.Join(dir, identityFile), append(data, '\n'))
}

func (i *Identity) certificate() (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair([]byte(i.Certificate), []byte(i.Key))
	if err != nil {
		return nil, errors.New("certificate and key cannot be read")
	}
	return &pair, nil
}

// Validity of the certificate.
func (i *Identity) Validity() (notBefore, notAfter time.Time, err error) {
	pair, err := i.certificate()
	if err != nil {
		return time.Time{}, time.Time{}, err
	}
	return pair.Leaf.NotBefore, pair.Leaf.NotAfter, nil
}

// checkOwner says whether the certificate is for this host and this key, and nothing more.
func (i *Identity) checkOwner() error {
	pair, err := i.certificate()
	if err != nil {
		return err
	}
	subject := pair.Leaf.Subject
	if subject.CommonName != i.User() || !slices.Equal(subject.Organization, []string{v1alpha1.AgentGroup}) {
		return fmt.Errorf("the certificate is for %q in %q", subject.CommonName, subject.Organization)
	}
	return nil
}

// Connection authenticates with an identity that can be exchanged while it is in use. Its methods may be called from
// several goroutines.
type Connection struct {
	mu       sync.Mutex
	identity Identity
	pair     *tls.Certificate
	dialer   *connrotation.Dialer
	config   *rest.Config
}

// Connect prepares connections with an identity.
func Connect(identity Identity, userAgent string) (*Connection, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(identity.CA)) && !identity.Offline() {
		return nil, errors.New("the CA certificate cannot be read, join again")
	}
	way, err := wayOut(identity.Proxy, identity.NoProxy)
	if err != nil {
		return nil, err
	}
	c := &Connection{dialer: connrotation.NewDialer(way.dial)}
	if err := c.Replace(identity); err != nil {
		return nil, err
	}
	transport := utilnet.SetTransportDefaults(&http.Transport{
		TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS12, RootCAs: roots,
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				c.mu.Lock()
				defer c.mu.Unlock()
				if c.pair == nil {
					return &tls.Certificate{}, nil
				}
				return c.pair, nil
			},
		},
		TLSHandshakeTimeout: dialTimeout, DialContext: c.dialer.DialContext, Proxy: way.proxy,
		MaxIdleConnsPerHost: 2,
	})
	c.config = &rest.Config{Host: identity.Server, Transport: transport, UserAgent: userAgent, QPS: -1}
	return c, nil
}

const (
	dialTimeout = 15 * time.Second
	keepAlive   = 30 * time.Second
)

// Config is a client configuration that always uses the present identity.
func (c *Connection) Config() *rest.Config { return c.config }

// Identity that is in use.
func (c *Connection) Identity() Identity {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.identity
}

// Replace exchanges the identity and closes the connections that were made with the old one.
func (c *Connection) Replace(identity Identity) error {
	if identity.Offline() {
		c.mu.Lock()
		c.identity = identity
		c.mu.Unlock()
		return nil
	}
	pair, err := identity.certificate()
	if err != nil {
		return err
	}
	c.mu.Lock()
	fresh := c.pair == nil || !bytes.Equal(c.pair.Certificate[0], pair.Certificate[0])
	c.identity, c.pair = identity, pair
	c.mu.Unlock()
	if fresh {
		c.dialer.CloseAll()
	}
	return nil
}

// errSeen ends a connection once the chain has been seen.
var errSeen = errors.New("the certificates were seen")

// FindCA connects to a server, through the proxy if there is one, without trusting it and without sending it anything, and
// returns the certificate (PEM) in the chain it presents whose key has the hash "sha256:<hex>".
func FindCA(ctx context.Context, address, hash, proxy, noProxy string) (string, error) {
	way, err := wayOut(proxy, noProxy)
	if err != nil {
		return "", err
	}
	var chain []*x509.Certificate
	transport := &http.Transport{
		Proxy: way.proxy, DialContext: way.dial, TLSHandshakeTimeout: dialTimeout, DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS12,
			// Nothing is trusted yet, and nothing but the presented chain is taken from this connection, which ends here, before
			// the request is sent.
			InsecureSkipVerify: true, //nolint:gosec // the chain is judged by the hash of the CA's key
			VerifyConnection: func(state tls.ConnectionState) error {
				chain = state.PeerCertificates
				return errSeen
			},
		},
	}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address, nil)
	if err != nil {
		return "", fmt.Errorf("connect to %s: %w", address, err)
	}
	response, err := transport.RoundTrip(request)
	if err == nil {
		response.Body.Close()
	}
	if !errors.Is(err, errSeen) {
		return "", fmt.Errorf("connect to %s%s: %w", address, way.via(), err)
	}
	for _, certificate := range chain {
		if certificate.IsCA && spkiHash(certificate) == hash {
			return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})), nil
		}
	}
	for _, certificate := range chain {
		if certificate.IsCA {
			return "", fmt.Errorf("the CA of %s has the key hash %s, not %s: somebody may stand in between, or the command is for another server",
				address, spkiHash(certificate), hash)
		}
	}
	return "", fmt.Errorf("%s does not present its CA: give it with --ca-file", address)
}
