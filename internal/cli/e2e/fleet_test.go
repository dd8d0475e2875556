// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"testing"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
)

// What concerns an environment as a whole: left alone, taken down, taken back. Who may not write it is refused by the server.
func TestFleetCommands(t *testing.T) {
	k := newKit(t)
	repository := images(t)
	k.bridge(t, "", repository)
	environment := func(what string, done func(*v1alpha1.Environment) bool) {
		t.Helper()
		cptest.Wait(t, what, func(context.Context) error {
			var e v1alpha1.Environment
			k.get(t, "dev", &e)
			if !done(&e) {
				return fmt.Errorf("%+v %+v %+v", e.Annotations, e.Spec, e.Status)
			}
			return nil
		})
	}
	k.as(t, qa, nil, k.with("suspend", "dev")...).expect(t, 1, "cannot patch")
	k.as(t, cto, nil, k.with("suspend", "dev", "--reason", "new disks")...).expect(t, 0, "dev is suspended", "unsuspend dev")
	environment("the suspension", func(e *v1alpha1.Environment) bool {
		return e.Spec.Suspend && e.Annotations[v1alpha1.AnnotationSuspend] == "by "+cto+": new disks"
	})
	k.as(t, cto, nil, k.with("unsuspend", "dev", "--lang", "fr")...).expect(t, 0, "n’est plus suspendu")
	environment("its end", func(e *v1alpha1.Environment) bool {
		return !e.Spec.Suspend && e.Annotations[v1alpha1.AnnotationSuspend] == ""
	})

	one := k.release(t, repository, commit)
	k.as(t, cto, nil, k.with("retry", one, "dev")...).expect(t, 1, "did not fail in dev")
	k.as(t, cto, nil, k.with("rollback", "dev")...).expect(t, 2, "--reason")
	k.as(t, cto, nil, k.with("rollback", "dev", "--reason", "wrong")...).expect(t, 1, "no earlier release was healthy in dev")
	k.as(t, cto, nil, k.with("rollback", "dev", "--to", one, "--reason", "wrong", "--yes")...).expect(t, 1, "a pipeline deploys to dev")
	k.as(t, cto, nil, k.with("remove", "dev", "web-9")...).expect(t, 1, "nothing of dev is known on host web-9")

	k.as(t, qa, nil, k.with("decommission", "dev", "--yes")...).expect(t, 1, "cannot patch")
	k.as(t, cto, nil, k.with("decommission", "dev", "--volumes")...).expect(t, 1, "DELETED", "no terminal")
	k.as(t, cto, []string{"production"}, k.with("decommission", "dev", "--volumes")...).expect(t, 1, `"production" is not "dev"`)
	k.as(t, cto, []string{"dev"}, k.with("decommission", "dev")...).expect(t, 0, "named volumes stay", "being taken down")
	environment("the decommissioning", func(e *v1alpha1.Environment) bool {
		return e.Spec.Decommission != nil && !e.Spec.Decommission.Volumes && e.Status.DecommissionedAt != nil
	})
	two := k.push(t, repository, commitTwo)
	k.as(t, qa, nil, k.with("when", two)...)
	k.wait(t, "the next release to wait", two, func(r *v1alpha1.Release) bool {
		return r.Status.Next != "" && len(r.Status.Environments) == 0
	})
	k.as(t, cto, nil, k.with("decommission", "dev", "--revoke")...).expect(t, 0, "may be deployed to again")
	k.wait(t, "the next release to be let in", two, func(r *v1alpha1.Release) bool { return len(r.Status.Environments) > 0 })
}
