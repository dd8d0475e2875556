// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"net/http"
	"sync"

	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/filters"
	"k8s.io/apiserver/pkg/endpoints/request"
	rbacinformers "k8s.io/client-go/informers/rbac/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	rbacv1 "k8s.io/api/rbac/v1"
)

// watchGuard ends watches in a namespace when the right to them does. Kubernetes asks for the right once, when a watch
// begins, so that somebody whose role was withdrawn goes on seeing everything until the watch ends by itself, which is up to
// an hour later.
type watchGuard struct {
	authorizer authorizer.Authorizer

	mu   sync.Mutex
	open map[string]map[*openWatch]struct{} // by namespace
}

// openWatch is a watch under way.
type openWatch struct {
	attributes authorizer.Attributes
	end        context.CancelFunc
}

func newWatchGuard(a authorizer.Authorizer) *watchGuard {
	return &watchGuard{authorizer: a, open: map[string]map[*openWatch]struct{}{}}
}

// wrap has a handler's watches known to the guard. It comes after authentication and authorization.
func (g *watchGuard) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info, found := request.RequestInfoFrom(r.Context())
		if !found || !info.IsResourceRequest || info.Verb != "watch" || info.Namespace == "" {
			next.ServeHTTP(w, r)
			return
		}
		attributes, err := filters.GetAuthorizerAttributes(r.Context())
		if err != nil {
			http.Error(w, "the request cannot be read", http.StatusInternalServerError)
			return
		}
		ctx, end := context.WithCancel(r.Context())
		defer end()
		watch := &openWatch{attributes, end}
		g.add(info.Namespace, watch)
		defer g.remove(info.Namespace, watch)
		// The right may have ended between the authorization and here.
		if !g.allowed(ctx, watch) {
			end()
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

func (g *watchGuard) add(namespace string, watch *openWatch) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open[namespace] == nil {
		g.open[namespace] = map[*openWatch]struct{}{}
	}
	g.open[namespace][watch] = struct{}{}
}

func (g *watchGuard) remove(namespace string, watch *openWatch) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if delete(g.open[namespace], watch); len(g.open[namespace]) == 0 {
		delete(g.open, namespace)
	}
}

// follow looks at the watches of a namespace again when one of its role bindings changes.
func (g *watchGuard) follow(informers rbacinformers.Interface) error {
	look := func(object any) {
		if gone, ok := object.(cache.DeletedFinalStateUnknown); ok {
			object = gone.Obj
		}
		if binding, ok := object.(*rbacv1.RoleBinding); ok {
			g.review(binding.Namespace)
		}
	}
	_, err := informers.RoleBindings().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		UpdateFunc: func(_, object any) { look(object) }, DeleteFunc: look,
	})
	return err
}

// review ends the watches of a namespace that would not be allowed any more. The authorizer reads from the informer that
// called, whose cache is up to date before its handlers are called.
func (g *watchGuard) review(namespace string) {
	g.mu.Lock()
	var watches []*openWatch
	for watch := range g.open[namespace] {
		watches = append(watches, watch)
	}
	g.mu.Unlock()
	for _, watch := range watches {
		if !g.allowed(context.Background(), watch) {
			klog.Background().V(1).Info("a watch ends with the right to it", "user", watch.attributes.GetUser().GetName(), "namespace", namespace)
			watch.end()
		}
	}
}

func (g *watchGuard) allowed(ctx context.Context, watch *openWatch) bool {
	decision, _, err := g.authorizer.Authorize(ctx, watch.attributes)
	return err == nil && decision == authorizer.DecisionAllow
}
