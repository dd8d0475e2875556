// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/cli/view"
)

const (
	// settle gathers the changes of one moment into one picture.
	settle = 150 * time.Millisecond
	// redraw keeps the ages in a watched picture true.
	redraw = 15 * time.Second
	// rewatch is the pause after a watch that could not be opened.
	rewatch = time.Second

	clearScreen = "\x1b[H\x1b[2J\x1b[3J"
)

type statusOptions struct {
	output   *format
	all      bool
	watch    bool
	name     string
	projects []string // nil with all
}

func (s *session) statusCommand() *cobra.Command {
	var o statusOptions
	cmd := s.command("status [RELEASE] [-n PROJECT | -A]", "status")
	cmd.Args = s.args(0, 1)
	cmd.ValidArgsFunction = s.completion("kind.release")
	o.output = s.outputFlag(cmd)
	cmd.Flags().BoolVarP(&o.all, "all-projects", "A", false, s.T("flag.all-projects"))
	cmd.Flags().BoolVarP(&o.watch, "watch", "w", false, s.T("flag.watch"))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			o.name = args[0]
		}
		switch {
		case o.all && o.name != "":
			return s.usage(cmd, s.T("error.all-and-release"))
		case o.watch && o.output.structured():
			return s.usage(cmd, s.T("error.watch-and-output"))
		}
		return s.status(cmd.Context(), o)
	}
	return cmd
}

func (s *session) status(ctx context.Context, o statusOptions) error {
	if !o.all {
		project, err := s.project(ctx)
		if err != nil {
			return err
		}
		o.projects = []string{project}
	}
	bridges, err := s.bridges(ctx, o)
	if err != nil {
		return err
	}
	if o.output.structured() {
		return s.emitBridges(*o.output, o, bridges)
	}
	text, err := s.drawBridges(ctx, o, bridges)
	if err != nil {
		return err
	}
	if !o.watch {
		return s.print(text)
	}
	return s.watchBridges(ctx, o, bridges)
}

func (s *session) bridges(ctx context.Context, o statusOptions) ([]view.Bridge, error) {
	projects := o.projects
	if o.all {
		c, err := s.client()
		if err != nil {
			return nil, err
		}
		var list v1alpha1.ProjectList
		if err := c.List(ctx, &list); err != nil {
			return nil, err
		}
		for _, p := range list.Items {
			projects = append(projects, p.Name)
		}
		slices.Sort(projects)
	}
	if len(projects) == 0 {
		return nil, s.fail("error.no-project").with(s.T("hint.no-project"))
	}
	bridges := make([]view.Bridge, 0, len(projects))
	for _, project := range projects {
		b, err := s.gather(ctx, project)
		if err != nil {
			return nil, err
		}
		bridges = append(bridges, b)
	}
	return bridges, nil
}

func (s *session) drawBridges(ctx context.Context, o statusOptions, bridges []view.Bridge) (string, error) {
	if o.name != "" {
		r, err := s.releaseOf(ctx, bridges[0], o.name)
		if err != nil {
			return "", err
		}
		return view.Release(bridges[0], r, s.screen()), nil
	}
	text := ""
	for i, b := range bridges {
		if i > 0 {
			text += "\n"
		}
		text += view.Status(b, s.screen())
	}
	return text, nil
}

func (s *session) releaseOf(ctx context.Context, b view.Bridge, name string) (*v1alpha1.Release, error) {
	for i := range b.Releases {
		if b.Releases[i].Name == name {
			return &b.Releases[i], nil
		}
	}
	return s.release(ctx, b.Namespace, name) // for the error, or what was made meanwhile
}

func (s *session) emitBridges(f format, o statusOptions, bridges []view.Bridge) error {
	if o.name != "" {
		r, err := s.releaseOf(context.Background(), bridges[0], o.name)
		if err != nil {
			return err
		}
		return s.emit(f, r)
	}
	all := objectList{APIVersion: "v1", Kind: "List", Items: []client.Object{}}
	for _, b := range bridges {
		if b.Project != nil {
			all.Items = append(all.Items, b.Project)
		}
		for _, e := range view.Order(b.Environments) {
			all.Items = append(all.Items, &e)
		}
		for i := range b.Gates {
			all.Items = append(all.Items, &b.Gates[i])
		}
		for _, r := range view.Newest(b.Releases) {
			all.Items = append(all.Items, &r)
		}
	}
	for _, object := range all.Items {
		if err := s.complete(object); err != nil {
			return err
		}
	}
	return s.emit(f, all)
}

// watchBridges draws anew at every change until ctx ends: in place on a terminal, one below the other elsewhere.
func (s *session) watchBridges(ctx context.Context, o statusOptions, bridges []view.Bridge) error {
	_, onTerminal := s.terminal(s.Out)
	changes, err := s.changes(ctx, o)
	if err != nil {
		return err
	}
	var clock <-chan time.Time
	if onTerminal {
		ticker := time.NewTicker(redraw)
		defer ticker.Stop()
		clock = ticker.C
	}
	previous := ""
	for {
		text, err := s.drawBridges(ctx, o, bridges)
		if err != nil {
			return err
		}
		switch {
		case onTerminal:
			text = clearScreen + text
		case text == previous:
			text = ""
		case previous != "":
			text = "\n" + text
		}
		if err := s.print(text); err != nil {
			return err
		}
		if text != "" {
			previous = text
		}
		select {
		case <-ctx.Done():
			return nil
		case <-clock:
			continue
		case <-changes:
		}
		bridges, err = s.bridges(ctx, o)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// changes signals that something on the bridge is no longer as it was.
func (s *session) changes(ctx context.Context, o statusOptions) (<-chan struct{}, error) {
	c, err := s.client()
	if err != nil {
		return nil, err
	}
	var opts []client.ListOption
	if !o.all {
		opts = append(opts, client.InNamespace(o.projects[0]))
	}
	raw := make(chan struct{}, 1)
	for _, list := range []client.ObjectList{
		&v1alpha1.ReleaseList{}, &v1alpha1.EnvironmentList{}, &v1alpha1.QualityGateList{}, &v1alpha1.PVList{},
	} {
		go signalChanges(ctx, c, list, opts, raw)
	}
	settled := make(chan struct{})
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-raw:
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(settle):
			}
			select { // what came while it settled is part of it
			case <-raw:
			default:
			}
			select {
			case <-ctx.Done():
				return
			case settled <- struct{}{}:
			}
		}
	}()
	return settled, nil
}

func signalChanges(ctx context.Context, c client.WithWatch, list client.ObjectList, opts []client.ListOption, signal chan<- struct{}) {
	for ctx.Err() == nil {
		w, err := c.Watch(ctx, list, opts...)
		if err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(rewatch):
			}
			continue
		}
		for range w.ResultChan() {
			select {
			case signal <- struct{}{}:
			default: // one is waiting already
			}
		}
		w.Stop()
	}
}
