// SPDX-License-Identifier: Apache-2.0

// Package compose drives a Docker engine: it pulls images by digest, converges compose projects through the Compose SDK,
// observes containers and follows the engine's events. It is the only package that imports the Compose SDK, Docker's
// command line and Docker's client; whatever surprises they hold is dealt with here.
//
// It decides nothing: the agent tells it what to do and judges what it reports. It may import agent/health and
// agent/converge for the observed state, agent/registry for credentials, compose-go for the model, and nothing else of this
// module.
package compose

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/cli/cli/command"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/context/docker"
	"github.com/docker/compose/v5/pkg/api"
	sdk "github.com/docker/compose/v5/pkg/compose"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"
	"github.com/sirupsen/logrus"

	"gitlab.com/dynors/sirrat/agent/health"
)

// DefaultHost is the engine's usual address.
const DefaultHost = client.DefaultDockerHost

// ErrUnreachable is wrapped by errors that say that no engine answered.
var ErrUnreachable = errors.New("the Docker engine does not answer")

// Engine is a Docker engine. Its methods may be called from several goroutines; calls for the same project must not
// overlap.
type Engine struct {
	host   string
	client *client.Client
	cli    *dockerCLI
	sdk    api.Compose
}

// Connect prepares to talk to the engine at host; empty means $DOCKER_HOST, or else the default socket. It does not need
// the engine to answer.
func Connect(host string) (*Engine, error) {
	host = cmp.Or(host, os.Getenv(client.EnvOverrideHost), DefaultHost)
	options := []client.Opt{client.WithHost(host)}
	if os.Getenv(client.EnvOverrideCertPath) != "" {
		options = append(options, client.WithTLSClientConfigFromEnv())
	}
	c, err := client.New(options...)
	if err != nil {
		return nil, fmt.Errorf("docker engine at %s: %w", host, err)
	}
	// What the SDK says through its global logger is said again in its errors, or is meant for somebody at a terminal.
	logrus.SetOutput(io.Discard)
	base, err := command.NewDockerCli(command.WithAPIClient(c), command.WithInputStream(io.NopCloser(strings.NewReader(""))),
		command.WithCombinedStreams(io.Discard))
	if err != nil {
		return nil, fmt.Errorf("docker engine at %s: %w", host, err)
	}
	e := &Engine{host: host, client: c}
	e.cli = &dockerCLI{Cli: base, client: c, config: configfile.New(""), endpoint: docker.Endpoint{EndpointMeta: docker.EndpointMeta{Host: host}}}
	if e.sdk, err = sdk.NewComposeService(e.cli, sdk.WithPrompt(decline)); err != nil {
		return nil, fmt.Errorf("compose: %w", err)
	}
	return e, nil
}

// Host is the engine's address.
func (e *Engine) Host() string { return e.host }

// Close ends the connections to the engine.
func (e *Engine) Close() error { return e.client.Close() }

// callTimeout is how long the engine may take to answer a question. Pulls, starts and stops have limits of their own.
const callTimeout = 30 * time.Second

// bounded limits one question, so that an engine that hangs never hangs the agent.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, callTimeout)
}

// Info is what an engine says of itself.
type Info struct {
	Version     string
	APIVersion  string
	Platform    string
	CPUs        int
	MemoryBytes int64
	// Name of the machine that it runs on, and the folder there in which it keeps images.
	Name    string
	RootDir string
	// Insecure says of a registry's host that the engine talks to it without a trusted certificate.
	Insecure func(host string) bool
}

// Info asks the engine about itself.
func (e *Engine) Info(ctx context.Context) (Info, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	version, err := e.client.ServerVersion(ctx, client.ServerVersionOptions{})
	if err != nil {
		return Info{}, e.explain("ask for the version", err)
	}
	system, err := e.client.Info(ctx, client.InfoOptions{})
	if err != nil {
		return Info{}, e.explain("ask for information", err)
	}
	return Info{
		Version: version.Version, APIVersion: version.APIVersion, Platform: version.Os + "/" + version.Arch,
		CPUs: system.Info.NCPU, MemoryBytes: system.Info.MemTotal,
		Name: system.Info.Name, RootDir: system.Info.DockerRootDir, Insecure: insecure(system.Info.RegistryConfig),
	}, nil
}

// insecure reads the engine's configuration of registries as the engine does.
func insecure(config *registry.ServiceConfig) func(host string) bool {
	return func(host string) bool {
		if config == nil {
			return false
		}
		if index, named := config.IndexConfigs[host]; named && index != nil {
			return !index.Secure
		}
		name, _, err := net.SplitHostPort(host)
		if err != nil {
			name = host
		}
		if name == "localhost" {
			return true
		}
		address, err := netip.ParseAddr(name)
		return err == nil && slices.ContainsFunc(config.InsecureRegistryCIDRs, func(p netip.Prefix) bool { return p.Contains(address) })
	}
}

// IsLocal says whether the engine is reached through a socket of this machine.
func (e *Engine) IsLocal() bool { return strings.HasPrefix(e.host, "unix://") }

// Containers reports every container of a compose project, in the order of services and numbers.
func (e *Engine) Containers(ctx context.Context, project string) ([]health.Container, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	list, err := e.list(ctx, project)
	if err != nil {
		return nil, err
	}
	containers := make([]health.Container, 0, len(list))
	for _, summary := range list {
		inspected, err := e.client.ContainerInspect(ctx, summary.ID, client.ContainerInspectOptions{})
		if errdefs.IsNotFound(err) {
			continue // removed since it was listed
		}
		if err != nil {
			return nil, e.explain("inspect a container", err)
		}
		containers = append(containers, observed(inspected.Container))
	}
	slices.SortFunc(containers, func(a, b health.Container) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Name, b.Name))
	})
	return containers, nil
}

func (e *Engine) list(ctx context.Context, project string) ([]container.Summary, error) {
	filters := client.Filters{}.Add("label", api.ProjectLabel+"="+project, api.OneoffLabel+"=False")
	list, err := e.client.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: filters})
	if err != nil {
		return nil, e.explain("list containers", err)
	}
	return list.Items, nil
}

func observed(c container.InspectResponse) health.Container {
	o := health.Container{
		ID: c.ID, Name: strings.TrimPrefix(c.Name, "/"), ImageID: c.Image, Check: health.CheckNone, Restarts: c.RestartCount,
	}
	if c.Config != nil {
		o.Service, o.Image = c.Config.Labels[api.ServiceLabel], c.Config.Image
	}
	if s := c.State; s != nil {
		o.State, o.ExitCode, o.OOMKilled, o.Error = string(s.Status), s.ExitCode, s.OOMKilled, s.Error
		if started, err := time.Parse(time.RFC3339Nano, s.StartedAt); err == nil && started.Year() > 1 {
			o.StartedAt = started
		}
		if s.Health != nil && s.Health.Status != "" {
			o.Check = string(s.Health.Status)
		}
	}
	return o
}

// Logs returns the last lines that a container wrote, at most tail lines and size bytes of each stream.
func (e *Engine) Logs(ctx context.Context, container string, tail, size int) ([]string, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	inspected, err := e.client.ContainerInspect(ctx, container, client.ContainerInspectOptions{})
	if err != nil {
		return nil, e.explain("inspect a container", err)
	}
	stream, err := e.client.ContainerLogs(ctx, container, client.ContainerLogsOptions{
		ShowStdout: true, ShowStderr: true, Tail: strconv.Itoa(tail),
	})
	if err != nil {
		return nil, e.explain("read the logs of a container", err)
	}
	defer stream.Close()
	tty := inspected.Container.Config != nil && inspected.Container.Config.Tty
	return lastLines(stream, tty, tail, size)
}

// Remove stops and removes all containers and networks of a compose project; volumes stay.
func (e *Engine) Remove(ctx context.Context, project string) error {
	if err := e.sdk.Down(ctx, project, api.DownOptions{RemoveOrphans: true}); err != nil {
		return e.explain("remove project "+project, err)
	}
	return ctx.Err()
}

// explain says what was being done, and whether the engine is there at all.
func (e *Engine) explain(what string, err error) error {
	if client.IsErrConnectionFailed(err) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w at %s: %w", ErrUnreachable, e.host, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// dockerCLI is Docker's command line reduced to what the SDK asks of it: our client, and an empty configuration instead of
// the file of whoever runs the agent, whose proxies and registry passwords are nobody else's.
type dockerCLI struct {
	command.Cli
	client   client.APIClient
	config   *configfile.ConfigFile
	endpoint docker.Endpoint
}

func (c *dockerCLI) Client() client.APIClient           { return c.client }
func (c *dockerCLI) ConfigFile() *configfile.ConfigFile { return c.config }
func (c *dockerCLI) DockerEndpoint() docker.Endpoint    { return c.endpoint }
func (c *dockerCLI) CurrentContext() string             { return command.DefaultContextName }
