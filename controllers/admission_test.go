// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/hostpolicy"
)

// beat renews the Lease of the bench's host, with a policy, as its agent does.
func (b *bench) beat(policy v1alpha1.HostPolicy) {
	b.t.Helper()
	effective := hostpolicy.Effective(policy)
	text, err := json.Marshal(v1alpha1.AgentInfo{AgentVersion: "v1.0.0", Policy: &effective})
	if err != nil {
		b.t.Fatal(err)
	}
	holder, seconds, now := "agent", int32(10), metav1.NewMicroTime(time.Now())
	lease := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: v1alpha1.HostNamespace(b.host.Name), Name: v1alpha1.AgentLease, Annotations: map[string]string{v1alpha1.AnnotationAgentInfo: string(text)},
		},
		Spec: coordinationv1.LeaseSpec{HolderIdentity: &holder, LeaseDurationSeconds: &seconds, RenewTime: &now},
	}
	if err := b.c.Create(b.t.Context(), lease); client.IgnoreAlreadyExists(err) != nil {
		b.t.Fatal(err)
	} else if err != nil {
		if err := b.patch(lease, fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, v1alpha1.AnnotationAgentInfo, text)); err != nil {
			b.t.Fatal(err)
		}
	}
}

// The release's author sees what a host's owner does not allow before anything is ordered: on the Environment and in the
// bundle, with host, service and field. When the owner allows it, both are well without anybody touching them.
func TestHostPolicyIsJudgedEarly(t *testing.T) {
	b := newBench(t)
	b.setUp(b.compose() + "    volumes: [\"/srv/data:/data\"]\n")
	env := &v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: "dev", Namespace: b.project}}
	b.beat(v1alpha1.HostPolicy{BindPaths: []string{"/opt"}})
	b.push("dev-" + commitA[:7])
	rel := b.release(commitA)

	named := []string{"host " + b.host.Name, "services.web.volumes", "/srv/data"}
	for _, part := range named {
		b.condition(env, v1alpha1.ConditionAdmitted, metav1.ConditionFalse, part)
	}
	b.bundleProblem(rel, "dev", func(problem string) bool {
		for _, part := range named {
			if !strings.Contains(problem, part) {
				return false
			}
		}
		return true
	})
	b.beat(v1alpha1.HostPolicy{BindPaths: []string{"/srv"}})
	b.condition(env, v1alpha1.ConditionAdmitted, metav1.ConditionTrue, "")
	b.bundleProblem(rel, "dev", func(problem string) bool { return problem == "" })
	b.rollout("dev", func(*v1alpha1.Rollout) error { return nil })
}

// bundleProblem waits for what the bundle of a release says of an environment.
func (b *bench) bundleProblem(rel *v1alpha1.Release, environment string, check func(string) bool) {
	b.t.Helper()
	cptest.Wait(b.t, "the bundle's problem in "+environment, func(ctx context.Context) error {
		if err := b.c.Get(ctx, client.ObjectKeyFromObject(rel), rel); err != nil {
			return err
		}
		if rel.Status.Bundle == nil {
			return fmt.Errorf("no bundle: %+v", rel.Status.Conditions)
		}
		for _, e := range rel.Status.Bundle.Environments {
			if e.Environment == environment && check(e.Problem) {
				return nil
			}
		}
		return fmt.Errorf("%+v", rel.Status.Bundle.Environments)
	})
}
