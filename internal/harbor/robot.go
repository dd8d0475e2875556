// SPDX-License-Identifier: Apache-2.0

package harbor

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Levels of robot accounts.
const (
	levelProject = "project"
	levelSystem  = "system"
)

// Robot is a robot account. Secret is there in the answer to its creation alone.
type Robot struct {
	ID int64 `json:"id"`
	// Name in full, as it logs in: robot$shop+name, or robot$name for one of the system; the prefix is Harbor's to configure.
	Name   string `json:"name"`
	Secret string `json:"secret,omitempty"`
	// Expires is in seconds since 1970; -1 for never.
	Expires int64 `json:"expires_at"`
}

// String shows no secret.
func (r Robot) String() string { return fmt.Sprintf("robot account %s (%d)", r.Name, r.ID) }

// GoString shows no secret.
func (r Robot) GoString() string { return r.String() }

// ExpiresAt is when it ends.
func (r Robot) ExpiresAt() time.Time { return time.Unix(r.Expires, 0).UTC() }

// robotRequest is Harbor's RobotCreate.
type robotRequest struct {
	Name        string            `json:"name"`
	Description string            `json:"description"`
	Level       string            `json:"level"`
	Disable     bool              `json:"disable"`
	Duration    int64             `json:"duration"`
	Permissions []robotPermission `json:"permissions"`
}

type robotPermission struct {
	Kind      string        `json:"kind"`
	Namespace string        `json:"namespace"`
	Access    []robotAccess `json:"access"`
}

type robotAccess struct {
	Resource string `json:"resource"`
	Action   string `json:"action"`
}

// day is the unit in which Harbor counts how long robot accounts last.
const day = 24 * time.Hour

// CreatePuller makes a robot account that may pull from these projects and do nothing else. It ends after lifetime, rounded
// up to days; never one that does not end. For one project it is that project's own; for several it is one of the system, which
// system administrators alone may make.
func (c *Client) CreatePuller(ctx context.Context, name string, projects []string, lifetime time.Duration) (Robot, error) {
	days := int64((lifetime + day - 1) / day)
	in := robotRequest{Name: name, Description: "pulls images; made and deleted by SIRRAT", Level: level(projects), Duration: max(days, 1)}
	for _, p := range projects {
		in.Permissions = append(in.Permissions, robotPermission{Kind: levelProject, Namespace: p, Access: []robotAccess{{Resource: "repository", Action: "pull"}}})
	}
	doing := "create a robot account for " + strings.Join(projects, ", ")
	var r Robot
	if _, err := c.do(ctx, call{doing: doing, method: http.MethodPost, path: "/robots", in: in, out: &r}); err != nil {
		return Robot{}, err
	}
	if r.ID <= 0 || r.Secret == "" || r.Expires <= 0 || !strings.HasSuffix(r.Name, name) {
		return Robot{}, &Problem{Kind: KindUnreadable, Doing: doing, Text: "Harbor's answer is not used: it has no id, secret or end, or another name"}
	}
	return r, nil
}

func level(projects []string) string {
	if len(projects) == 1 {
		return levelProject
	}
	return levelSystem
}

// Robots lists the robot accounts for these projects, made as CreatePuller does, whose own names begin with prefix; Name is that
// own name here.
func (c *Client) Robots(ctx context.Context, projects []string, prefix string) ([]Robot, error) {
	q := "name=~" + prefix
	if level(projects) == levelProject {
		id, err := c.projectID(ctx, projects[0])
		if err != nil {
			return nil, err
		}
		q = "Level=project,ProjectID=" + strconv.FormatInt(id, 10) + "," + q
	}
	var out []Robot
	r := call{doing: "list the robot accounts of " + strings.Join(projects, ", "), method: http.MethodGet, path: "/robots", query: url.Values{"q": {q}}}
	err := list(ctx, c, r, func(page []Robot) bool {
		for _, robot := range page {
			if robot.Name = ownName(robot.Name, prefix); robot.Name != "" {
				out = append(out, robot)
			}
		}
		return false
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(out, func(a, b Robot) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// ownName is what a robot account was called when it was made, if that begins with prefix; "" otherwise: the query finds names
// that hold it anywhere. "$" and "+" are in no own name and no project's, while the prefix of all that Harbor is configured for may
// be without them.
func ownName(full, prefix string) string {
	at := strings.LastIndexAny(full, "$+") + 1
	if at == 0 {
		at = max(strings.LastIndex(full, prefix), 0)
	}
	if own := full[at:]; strings.HasPrefix(own, prefix) {
		return own
	}
	return ""
}

// projectID is the number of a project.
func (c *Client) projectID(ctx context.Context, name string) (int64, error) {
	var p struct {
		ID   int64  `json:"project_id"`
		Name string `json:"name"`
	}
	doing := "read the project " + name
	// The header keeps a name of digits from being taken for a number.
	_, err := c.do(ctx, call{doing: doing, method: http.MethodGet, path: "/projects/" + segment(name), header: map[string]string{"X-Is-Resource-Name": "true"}, out: &p})
	if err != nil {
		return 0, err
	}
	if p.ID <= 0 || p.Name != name {
		return 0, &Problem{Kind: KindUnreadable, Doing: doing, Text: "Harbor's answer is not used: it is about another project"}
	}
	return p.ID, nil
}

// DeleteRobot makes a robot account worthless at once. One that is gone is no error.
func (c *Client) DeleteRobot(ctx context.Context, id int64) error {
	_, err := c.do(ctx, call{doing: fmt.Sprintf("delete robot account %d", id), method: http.MethodDelete, path: "/robots/" + strconv.FormatInt(id, 10)})
	if IsKind(err, KindNotFound) {
		return nil
	}
	return err
}
