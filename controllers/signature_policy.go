// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/lru"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/gate"
	"gitlab.com/dynors/sirrat/internal/sigstore"
)

// parsedPolicies is how many policies are remembered: there is one for each environment at most.
const parsedPolicies = 256

// signaturePolicies reads the policies of environments. Safe for concurrent use.
type signaturePolicies struct {
	reader client.Reader
	parsed *lru.Cache
}

func newSignaturePolicies(reader client.Reader) *signaturePolicies {
	return &signaturePolicies{reader, lru.New(parsedPolicies)}
}

// parsedPolicy is what became of a policy: one of the two.
type parsedPolicy struct {
	policy  *sigstore.Policy
	problem string
}

// of is the policy of an environment, as gates see it; nil when it has none. The policy is nil too when it cannot be used: then
// what gates see says why.
func (p *signaturePolicies) of(ctx context.Context, env v1alpha1.Environment) (*gate.Signatures, *sigstore.Policy, error) {
	spec := env.Spec.Signatures
	if spec == nil {
		return nil, nil, nil
	}
	seen := &gate.Signatures{Spec: *spec}
	root, problem, err := p.trustedRoot(ctx, env.Namespace, spec.Keyless)
	if err != nil {
		return nil, nil, err
	}
	if seen.Problem = problem; problem != "" {
		return seen, nil, nil
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return nil, nil, fmt.Errorf("encode spec.signatures: %w", err)
	}
	key := envelope.Hash(text) + envelope.Hash(root)
	known, ok := p.parsed.Get(key)
	if !ok {
		policy, err := sigstore.Parse(*spec, root)
		made := parsedPolicy{policy: policy}
		if err != nil {
			made.problem = err.Error()
		}
		p.parsed.Add(key, made)
		known = made
	}
	made := known.(parsedPolicy)
	if seen.Problem = made.problem; made.policy != nil {
		seen.Hash = made.policy.Hash()
	}
	return seen, made.policy, nil
}

// trustedRoot reads what the policy names, or says what is missing.
func (p *signaturePolicies) trustedRoot(ctx context.Context, namespace string, k *v1alpha1.KeylessSignatures) (root []byte, problem string, err error) {
	if k == nil {
		return nil, "", nil
	}
	var kind string
	var ref v1alpha1.TrustedRootRef
	var object client.Object
	var content func(key string) ([]byte, bool)
	switch from := k.TrustedRoot; {
	case from.ConfigMapKeyRef != nil:
		cm := &corev1.ConfigMap{}
		kind, ref, object = "ConfigMap", *from.ConfigMapKeyRef, cm
		content = func(key string) ([]byte, bool) {
			if text, ok := cm.Data[key]; ok {
				return []byte(text), true
			}
			raw, ok := cm.BinaryData[key]
			return raw, ok
		}
	case from.SecretKeyRef != nil:
		s := &corev1.Secret{}
		kind, ref, object = "Secret", *from.SecretKeyRef, s
		content = func(key string) ([]byte, bool) { raw, ok := s.Data[key]; return raw, ok }
	default:
		return nil, "keyless.trustedRoot names nothing", nil
	}
	if err := p.reader.Get(ctx, client.ObjectKey{Namespace: namespace, Name: ref.Name}, object); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, fmt.Sprintf("%s %s (keyless.trustedRoot) does not exist", kind, ref.Name), nil
		}
		return nil, "", fmt.Errorf("read trusted root: %w", err)
	}
	key := cmp.Or(ref.Key, v1alpha1.TrustedRootKey)
	root, ok := content(key)
	if !ok {
		return nil, fmt.Sprintf("%s %s has no key %s (keyless.trustedRoot)", kind, ref.Name, key), nil
	}
	return root, "", nil
}

// signaturesOf are the policies of a bridge by environment, as gates see them.
func (p *signaturePolicies) signaturesOf(ctx context.Context, bridge []v1alpha1.Environment) (map[string]*gate.Signatures, error) {
	out := map[string]*gate.Signatures{}
	for _, env := range bridge {
		seen, _, err := p.of(ctx, env)
		if err != nil {
			return nil, err
		}
		if seen != nil {
			out[env.Name] = seen
		}
	}
	return out, nil
}
