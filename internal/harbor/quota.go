// SPDX-License-Identifier: Apache-2.0

package harbor

import (
	"context"
	"math"
	"net/http"
)

// Unlimited is the room of a project without a quota.
const Unlimited = math.MaxInt64

// Room is how many bytes a project's quota leaves; 0 when it is used up, Unlimited when there is none. Harbor counts a blob once in
// a project: a further tag of an image that the project has takes no room, a copy from another project or registry does.
func (c *Client) Room(ctx context.Context, project string) (free int64, err error) {
	var answer struct {
		Quota *struct {
			Hard, Used struct{ Storage *int64 }
		}
	}
	doing := "read the quota of the project " + project
	_, err = c.do(ctx, call{
		doing: doing, method: http.MethodGet, path: "/projects/" + segment(project) + "/summary",
		header: map[string]string{"X-Is-Resource-Name": "true"}, out: &answer, // a name of digits is no id
	})
	if err != nil {
		return 0, err
	}
	bad := func(text string) error { return &Problem{Kind: KindUnreadable, Doing: doing, Text: text} }
	if answer.Quota == nil || answer.Quota.Hard.Storage == nil || answer.Quota.Used.Storage == nil {
		return 0, bad("Harbor tells no quota: give the robot account the permission to read the quota of the project, and see that quotas are switched on")
	}
	hard, used := *answer.Quota.Hard.Storage, *answer.Quota.Used.Storage
	switch {
	case used < 0, hard < -1:
		return 0, bad("Harbor tells a quota that cannot be")
	case hard == -1:
		return Unlimited, nil
	}
	return max(0, hard-used), nil
}
