// SPDX-License-Identifier: Apache-2.0

// Package page is what the server's web pages have in common: their headers, their languages and how dates read in them, the
// stylesheet that they build on, and how both are sent. It knows nothing of what pages say.
//
// It may import the standard library and golang.org/x/text.
package page

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

//go:embed base.css
var base []byte

// Secure sets the headers of every answer. Nothing is loaded but the stylesheet, nothing is kept by a browser or a proxy,
// and the address of the page, which opens it, is told to nobody.
func Secure(h http.Header, https bool) {
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Robots-Tag", "noindex, nofollow")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	if https {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
}

// Write sends an answer whose headers are set. It has no error to return: the status is sent, and a browser that went away
// cannot be told.
func Write(w http.ResponseWriter, r *http.Request, status int, body []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}

// Stylesheet is the base with what one kind of page adds. It serves itself.
type Stylesheet struct {
	// Name of the file; it changes with its content, so that browsers may keep it.
	Name string
	text []byte
}

// NewStylesheet puts a page's own rules after the base.
func NewStylesheet(own []byte) Stylesheet {
	text := slices.Concat(base, own)
	sum := sha256.Sum256(text)
	return Stylesheet{Name: "style-" + hex.EncodeToString(sum[:6]) + ".css", text: text}
}

// ServeHTTP implements http.Handler.
func (s Stylesheet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	h.Set("Content-Type", "text/css; charset=utf-8")
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	Write(w, r, http.StatusOK, s.text)
}

// Up is the relative address of a prefix from a path below it: "../../" from /releases/a/b/c to /releases/. Relative addresses
// work where a proxy serves the pages below a path of its own, too.
func Up(path, prefix string) string {
	return strings.Repeat("../", strings.Count(strings.TrimPrefix(path, prefix), "/"))
}
