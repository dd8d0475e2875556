// SPDX-License-Identifier: Apache-2.0

package harbor

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxExecutions bounds how many executions of a policy are looked into at a time, newest first.
const maxExecutions = 50

// Copying is how far the copies of some repositories are.
type Copying string

// States of copies.
const (
	// Copied: Harbor reports a copy of every one that succeeded.
	Copied Copying = "Copied"
	// UnderWay: an execution runs.
	UnderWay Copying = "UnderWay"
	// NotStarted: no execution was started.
	NotStarted Copying = "NotStarted"
	// NotCopied: the executions ended, and a copy failed, was stopped, or was not among them.
	NotCopied Copying = "NotCopied"
)

// Replication is what the executions of a policy did since a moment.
type Replication struct {
	State Copying
	// Missing are the repositories without a copy that succeeded, each with what is known of it. Example: shop/api (Failed).
	Missing []string
}

type executionAnswer struct {
	ID        int64
	Status    string
	StartTime time.Time `json:"start_time"`
}

type taskAnswer struct {
	Status, Operation string
	SrcResource       string `json:"src_resource"`
}

// Replicated looks at the executions of a policy that were started at since or later. Harbor's tasks name repositories, neither
// tags nor digests: what is known in the end is that a copy of each repository succeeded after that moment.
func (c *Client) Replicated(ctx context.Context, policy string, since time.Time, repositories []Repository) (Replication, error) {
	id, err := c.policy(ctx, policy)
	if err != nil {
		return Replication{}, err
	}
	started, err := c.executions(ctx, policy, id, since)
	if err != nil {
		return Replication{}, err
	}
	known := map[Repository]string{}
	running := false
	for _, e := range started {
		running = running || !ended(e.Status)
		if err := c.tasks(ctx, policy, e.ID, repositories, known); err != nil {
			return Replication{}, err
		}
	}
	return summarise(repositories, known, running, len(started) > 0), nil
}

func summarise(repositories []Repository, known map[Repository]string, running, started bool) Replication {
	out := Replication{State: Copied}
	for _, r := range repositories {
		if status := known[r]; status == "" {
			out.Missing = append(out.Missing, r.String()+" (not among what was copied)")
		} else if status != succeeded {
			out.Missing = append(out.Missing, r.String()+" ("+status+")")
			running = running || !ended(status)
		}
	}
	switch {
	case len(out.Missing) == 0:
	case !started:
		out.State = NotStarted
	case running:
		out.State = UnderWay
	default:
		out.State = NotCopied
	}
	return out
}

// Statuses of executions and tasks (read: goharbor/harbor src/server/v2.0/handler/replication.go).
const (
	succeeded = "Succeed"
	failed    = "Failed"
	stopped   = "Stopped"
)

func ended(status string) bool { return status == succeeded || status == failed || status == stopped }

// policy is the id of a policy.
func (c *Client) policy(ctx context.Context, name string) (id int64, err error) {
	type answer struct {
		ID      int64
		Name    string
		Enabled bool
	}
	doing := "look up the replication policy " + name
	var found *answer
	err = list(ctx, c, call{doing: doing, method: http.MethodGet, path: "/replication/policies"}, func(page []answer) bool {
		for i := range page {
			if page[i].Name == name {
				found = &page[i]
			}
		}
		return found != nil
	})
	switch {
	case err != nil:
		return 0, err
	case found == nil:
		return 0, &Problem{Kind: KindNotFound, Doing: doing, Text: "Harbor has no replication policy of this name, or the account may not see it"}
	case !found.Enabled:
		return 0, &Problem{Kind: KindRefused, Doing: doing, Text: "the policy is disabled in Harbor"}
	}
	return found.ID, nil
}

// executions are those since a moment, newest first.
func (c *Client) executions(ctx context.Context, policy string, id int64, since time.Time) (out []executionAnswer, err error) {
	err = list(ctx, c, call{
		doing: "look up the executions of the replication policy " + policy, method: http.MethodGet, path: "/replication/executions",
		query: url.Values{"policy_id": {strconv.FormatInt(id, 10)}, "sort": {"-start_time"}},
	}, func(page []executionAnswer) bool {
		for _, e := range page {
			if e.StartTime.Before(since) {
				return true
			}
			out = append(out, e)
		}
		return len(out) >= maxExecutions
	})
	return out[:min(len(out), maxExecutions)], err
}

// tasks adds what the tasks of an execution say of repositories: a copy that succeeded stays, otherwise the newest counts, which
// is what was added first.
func (c *Client) tasks(ctx context.Context, policy string, execution int64, repositories []Repository, known map[Repository]string) error {
	return list(ctx, c, call{
		doing: "look up what the replication policy " + policy + " copied", method: http.MethodGet,
		path: "/replication/executions/" + strconv.FormatInt(execution, 10) + "/tasks",
	}, func(page []taskAnswer) bool {
		for _, t := range page {
			for _, r := range repositories {
				if t.copies(r) && (known[r] == "" || t.Status == succeeded) {
					known[r] = t.Status
				}
			}
		}
		return false
	})
}

// copies says whether a task copies a repository: "shop/api [2 item(s) in total]", or "shop/api:[v1]" as it was once written.
func (t taskAnswer) copies(r Repository) bool {
	rest, ok := strings.CutPrefix(t.SrcResource, r.String())
	return ok && (rest == "" || rest[0] == ' ' || rest[0] == ':') && (t.Operation == "" || t.Operation == "copy")
}

// Replicate starts a policy.
func (c *Client) Replicate(ctx context.Context, policy string) error {
	id, err := c.policy(ctx, policy)
	if err != nil {
		return err
	}
	_, err = c.do(ctx, call{
		doing: fmt.Sprintf("start the replication policy %s", policy), method: http.MethodPost, path: "/replication/executions",
		in: map[string]int64{"policy_id": id},
	})
	return err
}
