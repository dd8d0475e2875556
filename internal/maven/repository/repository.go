// SPDX-License-Identifier: Apache-2.0

package repository

import (
	"bytes"
	"context"
	"crypto/sha1" // one of the checksums that repositories have; never the identity of anything
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/utils/lru"

	"gitlab.com/dynors/sirrat/internal/egress"
	"gitlab.com/dynors/sirrat/internal/maven"
)

// Bounds of what is read.
const (
	// MaxArtifact is the largest artifact, in bytes. A fat jar has some 100 MB; GitLab takes 3 GB by default.
	MaxArtifact = 512 << 20
	// maxChecksum is the longest file with a checksum: digits, and perhaps a name, in bytes.
	maxChecksum = 1 << 10
	// smallTimeout is for a POM or a checksum, largeTimeout for an artifact.
	smallTimeout = 20 * time.Second
	largeTimeout = 2 * time.Minute
	headTimeout  = 15 * time.Second
	idleTimeout  = 30 * time.Second
	maxRedirects = 3
	// pooled is how many clients are kept: one for each project's repository and credentials.
	pooled = 256
)

// userAgent is what repositories see in their logs.
const userAgent = "sirrat"

// Config of a client.
type Config struct {
	// URL of the repository (https).
	URL string
	// Header in which the token goes: Private-Token, Deploy-Token, Job-Token; "Basic" for user name and password; "" for none.
	Header          string
	Username, Token string
	// CA are certificates (PEM) of authorities that are trusted besides the system's.
	CA []byte
}

// Client reads one repository with the credentials of one project. Safe for concurrent use.
type Client struct {
	base *url.URL
	http *http.Client
	// unusable is why nothing can be asked at all.
	unusable *Problem
}

// Pool keeps the clients of all projects. Safe for concurrent use.
type Pool struct {
	dialer  net.Dialer
	mu      sync.Mutex
	clients *lru.Cache
}

// NewPool makes an empty pool, whose clients connect to no address that the guard does not allow.
func NewPool(guard egress.Guard) *Pool {
	return &Pool{dialer: guard.Dialer(), clients: lru.New(pooled)}
}

// Client is the one for this repository and these credentials. When they cannot be used, every call of it says so.
func (p *Pool) Client(c Config) *Client {
	key := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %q", c.URL, c.Header, c.Username, c.Token, c.CA))
	p.mu.Lock()
	defer p.mu.Unlock()
	if known, ok := p.clients.Get(key); ok {
		return known.(*Client)
	}
	made, err := newClient(c, &p.dialer)
	if err != nil {
		made = &Client{unusable: problem(KindUnusable, "%s", err)}
	}
	p.clients.Add(key, made)
	return made
}

func newClient(c Config, dialer *net.Dialer) (*Client, error) {
	base, err := url.Parse(strings.TrimSuffix(c.URL, "/") + "/")
	if err != nil || base.Scheme != "https" || base.Hostname() == "" || base.User != nil || base.RawQuery != "" || base.Fragment != "" {
		return nil, errors.New("spec.packageRegistry.url of the Project is not an https address of a Maven repository")
	}
	if strings.ContainsFunc(c.Token+c.Username, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return nil, errors.New("the Secret of spec.packageRegistry.secretRef holds control characters (a line's end?) in its token or user name")
	}
	t := egress.Transport(dialer)
	t.DisableKeepAlives, t.IdleConnTimeout, t.ResponseHeaderTimeout = false, idleTimeout, headTimeout // several files at a time
	t.DisableCompression = true                                                                       // what is hashed are the bytes that are stored
	if len(c.CA) > 0 {
		roots, err := x509.SystemCertPool()
		if err != nil {
			return nil, errors.New("the certificates that the system trusts cannot be read")
		}
		if !roots.AppendCertsFromPEM(c.CA) {
			return nil, errors.New("the key ca.crt of the Secret of spec.packageRegistry.secretRef holds no certificate (PEM)")
		}
		t.TLSClientConfig.RootCAs = roots
	}
	return &Client{base: base, http: &http.Client{Transport: &authenticated{base, c, t}, CheckRedirect: checkRedirect}}, nil
}

// authenticated adds the credentials to what goes to the repository itself. They are not part of the request, so that no
// redirect takes them anywhere else: of headers with names of its own net/http would not know that they are secret.
type authenticated struct {
	base *url.URL
	c    Config
	next http.RoundTripper
}

func (a *authenticated) RoundTrip(r *http.Request) (*http.Response, error) {
	if a.c.Header == "" || r.URL.Scheme != a.base.Scheme || !strings.EqualFold(r.URL.Host, a.base.Host) || !strings.HasPrefix(r.URL.Path, a.base.Path) {
		return a.next.RoundTrip(r)
	}
	own := r.Clone(r.Context())
	if a.c.Header == "Basic" {
		own.SetBasicAuth(a.c.Username, a.c.Token)
	} else {
		own.Header.Set(a.c.Header, a.c.Token)
	}
	return a.next.RoundTrip(own)
}

// layoutKey is the key, in a request's context, of the path of the file in the repository's layout.
type layoutKey struct{}

// checkRedirect follows redirects to a storage, which has names of its own for files. One to the same path somewhere else is
// to another repository.
func checkRedirect(r *http.Request, via []*http.Request) error {
	layout, _ := r.Context().Value(layoutKey{}).(string)
	switch {
	case len(via) > maxRedirects || r.URL.Scheme != "https" || r.URL.User != nil:
		return errRedirect
	case !strings.EqualFold(r.URL.Host, via[0].URL.Host) && strings.HasSuffix(r.URL.Path, "/"+layout):
		return errForwarded
	}
	r.Header.Del("Referer")
	return nil
}

// File is a file of an artifact as it was read.
type File struct {
	Name   string
	Size   int64
	SHA256 string // sha256:…
	// Checksums that lie beside it in the repository, all of which match: sha1:…, sha256:…, sha512:….
	Checksums []string
}

// Artifact is what a repository has under some coordinates.
type Artifact struct {
	maven.Coordinates
	Packaging string
	// Files are the POM and, unless the packaging is pom, the artifact.
	Files []File
}

// Verify reads an artifact with its POM and checks both. An error is a *Problem, or that of the context.
func (c *Client) Verify(ctx context.Context, coordinates maven.Coordinates) (Artifact, error) {
	a := Artifact{Coordinates: coordinates}
	text := &bytes.Buffer{}
	file, err := c.file(ctx, coordinates, "pom", maven.MaxPOM, smallTimeout, text)
	if err != nil {
		return Artifact{}, err
	}
	pom, err := maven.ParsePOM(text.Bytes())
	if err != nil {
		return Artifact{}, problem(KindInvalid, "%s: %s", file.Name, err)
	}
	if pom.Coordinates != coordinates {
		return Artifact{}, problem(KindInvalid, "%s is the POM of %s, not of %s", file.Name, pom.Coordinates, coordinates)
	}
	extension, err := pom.Extension()
	if err != nil {
		return Artifact{}, problem(KindInvalid, "%s: %s", file.Name, err)
	}
	a.Packaging, a.Files = pom.Packaging, append(a.Files, file)
	if extension == "" {
		return a, c.alone(ctx, coordinates)
	}
	head := &archiveHead{}
	if file, err = c.file(ctx, coordinates, extension, MaxArtifact, largeTimeout, head); err != nil {
		return Artifact{}, err
	}
	if !head.isArchive() {
		return Artifact{}, problem(KindInvalid, "%s is no archive (ZIP)", file.Name)
	}
	a.Files = append(a.Files, file)
	return a, nil
}

// Look checks that an artifact is the one that was verified before. It reads the POM and the checksums; where those are not
// what they were, the artifact as well.
func (c *Client) Look(ctx context.Context, known Artifact) error {
	for i, before := range known.Files {
		extension := before.Name[strings.LastIndexByte(before.Name, '.')+1:]
		if i > 0 {
			now, err := c.checksums(ctx, known.Coordinates, extension)
			var p *Problem
			switch {
			case err == nil && slices.Equal(now.texts(), before.Checksums):
				continue
			case err != nil && !(errors.As(err, &p) && p.Kind == KindMissing): // whether the file is missing too is told below
				return err
			}
		}
		limit, timeout := int64(MaxArtifact), largeTimeout
		if i == 0 {
			limit, timeout = maven.MaxPOM, smallTimeout
		}
		now, err := c.file(ctx, known.Coordinates, extension, limit, timeout, io.Discard)
		if err != nil {
			return err
		}
		if now.SHA256 != before.SHA256 {
			return problem(KindChanged, "%s is another file than was judged: it is %s, and was %s. A released version never changes: put back the one that was judged, or release a new version", before.Name, now.SHA256, before.SHA256)
		}
	}
	if len(known.Files) == 1 {
		return c.alone(ctx, known.Coordinates)
	}
	return nil
}

// alone checks that a POM of packaging pom has no jar beside it: a build that asks for the module by its coordinates would get
// it, although it is none of what is judged.
func (c *Client) alone(ctx context.Context, of maven.Coordinates) error {
	err := c.get(ctx, of, "jar", 0, smallTimeout, io.Discard)
	var p *Problem
	switch {
	case errors.As(err, &p) && p.Kind == KindMissing:
		return nil
	case err == nil, errors.As(err, &p) && p.Kind == KindInvalid: // it is there
		return problem(KindInvalid, "%s says packaging pom, but %s lies beside it, which builds would use and nobody has judged: delete it, or publish a version with packaging jar",
			of.File("pom"), of.File("jar"))
	}
	return err
}

// archiveHead keeps how a file begins.
type archiveHead struct{ head []byte }

func (a *archiveHead) Write(p []byte) (int, error) {
	if missing := 4 - len(a.head); missing > 0 {
		a.head = append(a.head, p[:min(missing, len(p))]...)
	}
	return len(p), nil
}

func (a *archiveHead) isArchive() bool { return string(a.head) == "PK\x03\x04" }

// checksum of a kind.
type checksum struct {
	kind   string
	digits int
	make   func() hash.Hash
}

// kinds of checksums that count, the strongest first (read: Maven Resolver 1.9, "Expected checksums"). MD5 is none of them.
var kinds = []checksum{{"sha512", 128, sha512.New}, {"sha256", 64, sha256.New}, {"sha1", 40, sha1.New}}

// found are checksums by kind, in hex.
type found map[string]string

func (f found) texts() []string {
	var out []string
	for _, k := range kinds {
		if f[k.kind] != "" {
			out = append(out, k.kind+":"+f[k.kind])
		}
	}
	return out
}

// checksums reads what lies beside a file.
func (c *Client) checksums(ctx context.Context, of maven.Coordinates, extension string) (found, error) {
	all := found{}
	for _, k := range kinds {
		text := &bytes.Buffer{}
		name := extension + "." + k.kind
		err := c.get(ctx, of, name, maxChecksum, smallTimeout, text)
		var p *Problem
		if errors.As(err, &p) && p.Kind == KindMissing {
			continue
		}
		if err != nil {
			return nil, err
		}
		digits, _, _ := strings.Cut(strings.TrimSpace(text.String()), " ")
		digits = strings.ToLower(digits)
		if raw, err := hex.DecodeString(digits); err != nil || len(raw)*2 != k.digits {
			return nil, problem(KindInvalid, "%s is not a checksum of %d digits", of.File(name), k.digits)
		}
		all[k.kind] = digits
	}
	if len(all) == 0 {
		return nil, problem(KindMissing, "there is no checksum beside %s: one of SHA-512, SHA-256 and SHA-1 is needed", of.File(extension))
	}
	return all, nil
}

// file reads a file, into which it is copied, and compares it with all of its checksums.
func (c *Client) file(ctx context.Context, of maven.Coordinates, extension string, limit int64, timeout time.Duration, into io.Writer) (File, error) {
	hashes := map[string]hash.Hash{}
	size := &counter{}
	writers := []io.Writer{into, size}
	for _, k := range kinds {
		hashes[k.kind] = k.make()
		writers = append(writers, hashes[k.kind])
	}
	if err := c.get(ctx, of, extension, limit, timeout, io.MultiWriter(writers...)); err != nil {
		return File{}, err
	}
	expected, err := c.checksums(ctx, of, extension)
	if err != nil {
		return File{}, err
	}
	for _, k := range kinds {
		if want, got := expected[k.kind], hex.EncodeToString(hashes[k.kind].Sum(nil)); want != "" && want != got {
			return File{}, problem(KindInvalid, "%s does not match its checksum: %s is %s, the registry has %s beside it", of.File(extension), k.kind, got, want)
		}
	}
	return File{
		Name: of.File(extension), Size: size.n, SHA256: "sha256:" + hex.EncodeToString(hashes["sha256"].Sum(nil)), Checksums: expected.texts(),
	}, nil
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// get reads a file of at most limit bytes.
func (c *Client) get(ctx context.Context, of maven.Coordinates, extension string, limit int64, timeout time.Duration, into io.Writer) error {
	if c.unusable != nil {
		return c.unusable
	}
	name, path := of.File(extension), of.Path(extension)
	bound, cancel := context.WithTimeout(context.WithValue(ctx, layoutKey{}, path), timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(bound, http.MethodGet, c.base.JoinPath(path).String(), nil)
	if err != nil {
		return problem(KindUnusable, "%s has no address in the package registry", name)
	}
	req.Header.Set("User-Agent", userAgent)
	resp, err := c.http.Do(req)
	if err != nil {
		return given(ctx, unanswered(name, err))
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode != http.StatusOK:
		return answered(name, resp)
	case resp.Header.Get("Content-Encoding") != "":
		return problem(KindInvalid, "the package registry sends %s encoded, although that was not asked for", name)
	case resp.ContentLength > limit:
		return problem(KindInvalid, "%s is larger than %d bytes", name, limit)
	}
	n, err := io.Copy(into, io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return given(ctx, unanswered(name, err))
	case n > limit:
		return problem(KindInvalid, "%s is larger than %d bytes", name, limit)
	}
	return nil
}

// given is p, unless whoever asked does not want to know any more.
func given(ctx context.Context, p *Problem) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return p
}
