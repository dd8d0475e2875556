// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	ctrl "sigs.k8s.io/controller-runtime"

	"gitlab.com/dynors/sirrat/controllers"
	"gitlab.com/dynors/sirrat/internal/portal"
	"gitlab.com/dynors/sirrat/internal/signing"
)

// openPortal makes the pages of releases and the links to them; nil for both where no browser could follow one, for want of a
// --public-url that is public.
func openPortal(ctx context.Context, mgr ctrl.Manager, p *proof, o bridgeOptions) (*portal.Portal, *portal.Links, error) {
	if !reachable(o.publicURL) {
		return nil, nil, nil
	}
	key, err := controllers.EnsurePageKey(ctx, p.direct)
	if err != nil {
		return nil, nil, err
	}
	links, err := portal.NewLinks(key, o.publicURL)
	if err != nil {
		return nil, nil, fmt.Errorf("--public-url: %w", err)
	}
	pages, err := portal.New(portal.Options{Reader: mgr.GetClient(), Links: links, Log: o.log.WithName("portal")})
	return pages, links, err
}

// reachable says whether people may reach an address: a Service's name (the chart's, without an ingress) is for the cluster.
func reachable(publicURL string) bool {
	u, err := url.Parse(publicURL)
	if err != nil || u.Host == "" {
		return false
	}
	host := strings.TrimSuffix(u.Hostname(), ".")
	return !strings.HasSuffix(host, ".svc") && !strings.HasSuffix(host, ".svc.cluster.local")
}

// withPages puts the pages that there are beside the API.
func withPages(api http.Handler, pages *portal.Portal, sign *signing.Page) http.Handler {
	mux := http.NewServeMux()
	if pages != nil {
		mux.Handle(portal.Prefix, pages)
	}
	if sign != nil {
		mux.Handle(signing.Prefix, sign)
	}
	mux.Handle("/", api)
	return mux
}
