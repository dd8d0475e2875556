// SPDX-License-Identifier: Apache-2.0

package enrol

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"gitlab.com/dynors/sirrat/agent/control"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/keyset"
)

// Times of enrolment.
const (
	// Lifetime that is asked for a certificate.
	Lifetime = 30 * 24 * time.Hour
	// issueTimeout is how long a request for a certificate is waited for.
	issueTimeout = 2 * time.Minute
	// keysTimeout is how long the keys that sign authorizations are waited for after the certificate was issued.
	keysTimeout = time.Minute
	// firstLook and lastLook are the waits between looks at a request: an agent may read its own request by name, but may
	// not watch, which would show it everybody's.
	firstLook = 100 * time.Millisecond
	lastLook  = 2 * time.Second
)

// Request is what the command `join` was given.
type Request struct {
	// Server is the control plane's address. Example: https://sirrat.example:6443.
	Server string
	// Token is a bootstrap token: 6 and 16 characters of a-z0-9, with a dot between them.
	Token string
	// CAHash is "sha256:" and the hex digest of the CA key (SubjectPublicKeyInfo). CAFile is the CA itself (PEM). One of them.
	CAHash string
	CAFile string
	// Proxy and NoProxy as in HTTPS_PROXY and NO_PROXY; without Proxy those of the environment are used, and kept.
	Proxy, NoProxy string
	// UserAgent for the requests.
	UserAgent string
}

var (
	tokenFormat = regexp.MustCompile(`^[a-z0-9]{6}\.[a-z0-9]{16}$`)
	hashFormat  = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
)

func (r *Request) check() (address string, err error) {
	u, err := url.Parse(r.Server)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" {
		return "", fmt.Errorf("server %q: use https://host:port", r.Server)
	}
	r.Server = "https://" + u.Host
	r.Proxy, r.NoProxy = chosenProxy(r.Proxy, r.NoProxy)
	if _, err := wayOut(r.Proxy, r.NoProxy); err != nil {
		return "", err
	}
	r.Token, r.CAHash = strings.TrimSpace(r.Token), strings.ToLower(strings.TrimSpace(r.CAHash))
	if !tokenFormat.MatchString(r.Token) {
		return "", errors.New("--token: not a token, it looks like abcdef.0123456789abcdef") // without quoting it
	}
	if (r.CAHash == "") == (r.CAFile == "") {
		return "", errors.New("give exactly one of --ca-hash and --ca-file")
	}
	if r.CAHash != "" && !hashFormat.MatchString(r.CAHash) {
		return "", fmt.Errorf("--ca-hash %q: use sha256: and 64 hex digits", r.CAHash)
	}
	address = u.Host
	if u.Port() == "" {
		address = net.JoinHostPort(u.Hostname(), "443")
	}
	return address, nil
}

// SameServer says whether an identity was issued by the server of a request.
func (r Request) SameServer(i *Identity) bool {
	return strings.TrimRight(r.Server, "/") == i.Server
}

// Join enrols this server. say is told what happens, for people.
func Join(ctx context.Context, r Request, say func(format string, args ...any)) (*Identity, error) {
	address, err := r.check()
	if err != nil {
		return nil, err
	}
	ca, err := r.findCA(ctx, address)
	if err != nil {
		return nil, err
	}
	say("The control plane %s is the right one.", r.Server)
	way, err := wayOut(r.Proxy, r.NoProxy)
	if err != nil {
		return nil, err
	}
	client, err := control.New(&rest.Config{
		Host: r.Server, BearerToken: r.Token, UserAgent: r.UserAgent, TLSClientConfig: rest.TLSClientConfig{CAData: []byte(ca)},
		Proxy: way.proxy, Dial: way.dial,
	})
	if err != nil {
		return nil, err
	}
	user, err := client.WhoAmI(ctx)
	if err != nil {
		return nil, explainToken(r.Server, err)
	}
	identity := &Identity{Server: r.Server, CA: ca, Proxy: r.Proxy, NoProxy: r.NoProxy}
	if identity.Host, identity.HostUID, identity.Revocations, err = hostOf(user.Groups); err != nil {
		return nil, err
	}
	say("The token enrols the host %s.", identity.Host)
	if err := identity.obtain(ctx, client); err != nil {
		return nil, err
	}
	_, until, err := identity.Validity()
	if err != nil {
		return nil, err
	}
	say("A certificate was issued, valid until %s; the agent renews it.", until.UTC().Format(time.RFC3339))
	return identity, nil
}

func (r Request) findCA(ctx context.Context, address string) (string, error) {
	if r.CAHash != "" {
		return FindCA(ctx, address, r.CAHash, r.Proxy, r.NoProxy)
	}
	data, err := os.ReadFile(r.CAFile)
	if err != nil {
		return "", fmt.Errorf("--ca-file: %w", err)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(data) {
		return "", fmt.Errorf("--ca-file %s: no certificate in it", r.CAFile)
	}
	return string(data), nil
}

func explainToken(server string, err error) error {
	switch {
	case apierrors.IsUnauthorized(err):
		return errors.New("the token is not valid (any more): it was used, has expired, or is for another server; `kubectl sirrat host add` makes a new one")
	case apierrors.IsForbidden(err):
		return fmt.Errorf("the token may not enrol a host: %w", err)
	}
	return fmt.Errorf("ask %s whom the token is for: %w", server, err)
}

// hostOf finds the one host that a token may enrol among its groups.
func hostOf(groups []string) (name, uid string, revocations int64, err error) {
	for _, group := range groups {
		rest, found := strings.CutPrefix(group, v1alpha1.EnrolGroupPrefix)
		if !found {
			continue
		}
		if name != "" {
			return "", "", 0, errors.New("the token is for more than one host")
		}
		var ok bool
		if name, uid, revocations, ok = v1alpha1.ParseAgent(rest); !ok {
			return "", "", 0, fmt.Errorf("the token's group %q names no host", group)
		}
	}
	if name == "" {
		return "", "", 0, errors.New("the token is for no host: use the one that `kubectl sirrat host add` printed")
	}
	return name, uid, revocations, nil
}

// obtain makes a new key and has a certificate issued for it.
func (i *Identity) obtain(ctx context.Context, client *control.Client) error {
	key, request, err := i.request()
	if err != nil {
		return err
	}
	seconds := int32(Lifetime / time.Second)
	created, err := client.Request(ctx, &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "sirrat-agent-" + i.Host + "-"},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request:           request,
			SignerName:        certificatesv1.KubeAPIServerClientSignerName,
			ExpirationSeconds: &seconds,
			Usages:            []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth, certificatesv1.UsageDigitalSignature},
		},
	})
	if err != nil {
		return fmt.Errorf("ask for a certificate: %w", err)
	}
	certificate, err := awaitCertificate(ctx, client, created.Name)
	if err != nil {
		return err
	}
	return i.take(certificate, key)
}

// request makes a new key (PEM) and a request for a certificate for it (PEM).
func (i *Identity) request() (key, request []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("generate key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, fmt.Errorf("encode key: %w", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: i.User(), Organization: []string{v1alpha1.AgentGroup}},
	}, private)
	if err != nil {
		return nil, nil, fmt.Errorf("make certificate request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}), nil
}

// take uses an issued certificate and its key, if they are what was asked for.
func (i *Identity) take(certificate, key []byte) error {
	next := *i
	next.Certificate, next.Key = string(certificate), string(key)
	if err := next.checkOwner(); err != nil {
		return fmt.Errorf("the issued certificate is not what was asked for: %w", err)
	}
	*i = next
	return nil
}

func awaitCertificate(ctx context.Context, client *control.Client, name string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, issueTimeout, fmt.Errorf("request %s was not answered within %s: is the controller running?", name, issueTimeout))
	defer cancel()
	for wait := firstLook; ; wait = min(2*wait, lastLook) {
		csr, err := client.RequestNamed(ctx, name)
		if err != nil && ctx.Err() == nil {
			return nil, fmt.Errorf("read request %s: %w", name, err)
		}
		if err == nil {
			for _, condition := range csr.Status.Conditions {
				refused := condition.Type == certificatesv1.CertificateDenied || condition.Type == certificatesv1.CertificateFailed
				if refused && condition.Status == corev1.ConditionTrue {
					return nil, fmt.Errorf("the certificate was refused: %s (%s)", condition.Message, condition.Reason)
				}
			}
			if len(csr.Status.Certificate) > 0 {
				return csr.Status.Certificate, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

// PinKeys reads the keys that may sign authorizations and pins them in the identity, waiting until there are some: the
// rights of a new host may take a moment.
func PinKeys(ctx context.Context, identity *Identity, client *control.Client) error {
	ctx, cancel := context.WithTimeout(ctx, keysTimeout)
	defer cancel()
	for wait := firstLook; ; wait = min(2*wait, lastLook) {
		keys, err := client.AuthorizationKeys(ctx, identity.Host)
		if err == nil && len(keys) == 0 {
			err = errors.New("the control plane names no key that may sign authorizations")
		}
		if err == nil {
			return identity.pin(ctx, keys, client)
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}

// pin takes the keys that the control plane shows for the right ones, this one time, with the statements that belong to them.
func (i *Identity) pin(ctx context.Context, keys map[string]string, client *control.Client) error {
	pinned := Identity{AuthorizationKeys: keys}
	set := pinned.Keys()
	if _, err := set.Parse(); err != nil {
		return fmt.Errorf("authorization keys: %w", err)
	}
	statements, err := client.KeySets(ctx, i.Host)
	if err != nil {
		return err
	}
	if i.API, err = client.API(ctx, i.Host); err != nil {
		return err
	}
	set, err = keyset.Advance(ctx, set, statements)
	i.SetKeys(set)
	if err != nil {
		return fmt.Errorf("the keys were pinned, but not all that is said of them fits: %w", err)
	}
	return nil
}

// Renew has a certificate issued for a new key, with the rights of the present one.
func Renew(ctx context.Context, identity Identity, client *control.Client) (*Identity, error) {
	if err := identity.obtain(ctx, client); err != nil {
		return nil, fmt.Errorf("renew the certificate: %w", err)
	}
	return &identity, nil
}

// RenewAt is when to renew a certificate: at a random point of its last quarter, so that a fleet does not come at once.
func RenewAt(notBefore, notAfter time.Time) time.Time {
	quarter := notAfter.Sub(notBefore) / 4
	// The second half of the last quarter is left for retries.
	offset, err := rand.Int(rand.Reader, big.NewInt(max(1, int64(quarter/2))))
	if err != nil {
		return notAfter.Add(-quarter)
	}
	return notAfter.Add(-quarter).Add(time.Duration(offset.Int64()))
}

func spkiHash(certificate *x509.Certificate) string {
	sum := sha256.Sum256(certificate.RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(sum[:])
}
