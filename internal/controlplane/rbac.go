// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"fmt"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/wait"
	genericapiserver "k8s.io/apiserver/pkg/server"
	rbacclient "k8s.io/client-go/kubernetes/typed/rbac/v1"
	"k8s.io/component-helpers/auth/rbac/reconciliation"
	rbacrest "k8s.io/kubernetes/pkg/registry/rbac/rest"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac/bootstrappolicy"
)

// bootstrapRoles are those of kube-apiserver's own roles that mean something
// without pods and nodes: what people and tools expect to find. The roles of
// kube-controller-manager are not among them; its loops run in this process.
var bootstrapRoles = sets.New(
	"cluster-admin", "admin", "edit", "view",
	"system:aggregate-to-admin", "system:aggregate-to-edit", "system:aggregate-to-view",
	"system:basic-user", "system:discovery", "system:public-info-viewer", "system:monitoring",
	"system:service-account-issuer-discovery",
)

const (
	// rolesRetry and rolesLimit are for an API that is not up yet. Kubernetes
	// waits a second before it looks for the first time, longer than all the
	// rest of a start together.
	rolesRetry = 20 * time.Millisecond
	rolesLimit = 30 * time.Second
)

// rbacProvider is the RBAC API with a start hook of our own.
type rbacProvider struct{ rbacrest.RESTStorageProvider }

// PostStartHook makes sure of the bootstrap roles. /readyz waits for it.
func (rbacProvider) PostStartHook() (string, genericapiserver.PostStartHookFunc, error) {
	return rbacrest.PostStartHookName, func(hook genericapiserver.PostStartHookContext) error {
		client, err := rbacclient.NewForConfig(hook.LoopbackClientConfig)
		if err != nil {
			return fmt.Errorf("create a client for the bootstrap roles: %w", err)
		}
		return wait.PollUntilContextTimeout(hook, rolesRetry, rolesLimit, true, func(context.Context) (bool, error) {
			if err := ensureRoles(client); err != nil {
				utilruntime.HandleErrorWithContext(hook, err, "Bootstrap roles are not in place yet")
				return false, nil
			}
			return true, nil
		})
	}, nil
}

// ensureRoles creates what is missing and adds missing rules, and leaves alone
// what somebody added or marked with rbac.authorization.kubernetes.io/autoupdate=false.
// It writes nothing when everything is there.
func ensureRoles(client rbacclient.RbacV1Interface) error {
	for _, role := range bootstrappolicy.ClusterRoles() {
		if !bootstrapRoles.Has(role.Name) {
			continue
		}
		reconcile := reconciliation.ReconcileRoleOptions{
			Role:    reconciliation.ClusterRoleRuleOwner{ClusterRole: &role},
			Client:  reconciliation.ClusterRoleModifier{Client: client.ClusterRoles()},
			Confirm: true,
		}
		if _, err := reconcile.Run(); err != nil {
			return fmt.Errorf("ensure cluster role %s: %w", role.Name, err)
		}
	}
	for _, binding := range bootstrapBindings() {
		reconcile := reconciliation.ReconcileRoleBindingOptions{
			RoleBinding: reconciliation.ClusterRoleBindingAdapter{ClusterRoleBinding: &binding},
			Client:      reconciliation.ClusterRoleBindingClientAdapter{Client: client.ClusterRoleBindings()},
			Confirm:     true,
		}
		if _, err := reconcile.Run(); err != nil {
			return fmt.Errorf("ensure cluster role binding %s: %w", binding.Name, err)
		}
	}
	return nil
}

func bootstrapBindings() []rbacv1.ClusterRoleBinding {
	var bindings []rbacv1.ClusterRoleBinding
	for _, binding := range bootstrappolicy.ClusterRoleBindings() {
		if bootstrapRoles.Has(binding.RoleRef.Name) {
			bindings = append(bindings, binding)
		}
	}
	return bindings
}
