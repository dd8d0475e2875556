// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

var (
	linkPattern   = regexp.MustCompile(`http://\S+/pv/[A-Za-z0-9_-]{43}`)
	codePattern   = regexp.MustCompile(`\b(\d{4}) (\d{4})\b`)
	hiddenPattern = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)"`)
)

// visitor is the client at a browser, as far as pages without scripts need one.
type visitor struct {
	http http.Client
	link string
}

func newVisitor(link string) (*visitor, error) {
	jar, err := cookiejar.New(nil)
	return &visitor{http: http.Client{Jar: jar}, link: link}, err
}

// open gets a page, or posts a form to it if there is one.
func (v *visitor) open(ctx context.Context, path string, form url.Values) (string, error) {
	method, body := http.MethodGet, io.Reader(nil)
	if form != nil {
		method, body = http.MethodPost, strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(ctx, method, v.link+path, body)
	if err != nil {
		return "", err
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := v.http.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s", method, path, resp.Status)
	}
	return string(page), err
}

// hidden are the fields of a page's forms that nobody types.
func hidden(page string) url.Values {
	form := url.Values{}
	for _, m := range hiddenPattern.FindAllStringSubmatch(page, -1) {
		form.Set(html.UnescapeString(m[1]), html.UnescapeString(m[2]))
	}
	return form
}

// getLink waits for the PV of the first release and for the link to it in the signatory's mail.
func (d *demo) getLink(ctx context.Context) (string, error) {
	link, err := d.mail.await(ctx, signatory, 0, "the link", func(text string) string { return linkPattern.FindString(text) })
	if err != nil {
		return "", err
	}
	if r, err := d.release(ctx, good.short()); err != nil {
		return "", err
	} else if inEnvironment(r, "production") != nil {
		return "", fmt.Errorf("expected nothing in production before the PV is signed: %s", describe(r))
	}
	d.visitor, err = newVisitor(link)
	return "mail to " + signatory + ": " + link, err
}

// getCode asks for a code on the page and opens the document with it.
func (d *demo) getCode(ctx context.Context) (string, error) {
	before := len(d.mail.all())
	if _, err := d.visitor.open(ctx, "/code", url.Values{}); err != nil {
		return "", err
	}
	code, err := d.mail.await(ctx, signatory, before, "the code", func(text string) string { return codePattern.FindString(text) })
	if err != nil {
		return "", err
	}
	_, err = d.visitor.open(ctx, "/enter", url.Values{"code": {code}})
	return "mail to " + signatory + ": " + code, err
}

// signPV reads the document and accepts it.
func (d *demo) signPV(ctx context.Context) (string, error) {
	paper, err := d.visitor.open(ctx, "/document.pdf", nil)
	if err != nil {
		return "", err
	}
	page, err := d.visitor.open(ctx, "", nil)
	if err != nil {
		return "", err
	}
	form := hidden(page)
	form.Set("decision", string(v1alpha1.PVAccepted))
	if page, err = d.visitor.open(ctx, "/decide", form); err != nil {
		return "", err
	}
	if _, err = d.visitor.open(ctx, "/sign", hidden(page)); err != nil {
		return "", err
	}
	pv := v1alpha1.PV{}
	err = await(ctx, startTimeout, "PV "+good.short()+" Accepted", func(ctx context.Context) (string, bool, error) {
		if err := d.cluster.Get(ctx, client.ObjectKey{Namespace: project, Name: good.short()}, &pv); err != nil {
			return "", false, err
		}
		ready := meta.FindStatusCondition(pv.Status.Conditions, v1alpha1.ConditionReady)
		return fmt.Sprintf("%s, %+v", pv.Status.Decision, ready), pv.Status.Decision == v1alpha1.PVAccepted, nil
	})
	return fmt.Sprintf("%s %s by %s, method %s; PDF of %d KB", pv.Name, pv.Status.Decision, pv.Status.SignedBy, pv.Status.Method, len(paper)/1000), err
}
