// SPDX-License-Identifier: Apache-2.0

// Package cli is kubectl-sirrat: the commands with which people look at the bridge, approve and reject releases, sign PVs
// and let pipelines and servers in.
//
// The commands gather objects with the caller's own rights, let package view draw them, and change no more than the
// caller asked for: annotations, a PV's signature, tokens, hosts. What holds is decided by the API server's admission and
// by the controllers; nothing here is trusted by anybody.
//
// It may import api/v1alpha1, the packages pv, pv/pdf, envelope, attestation, apitoken, journal and archive (to read), reports,
// client libraries, and the packages below it.
package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/internal/cli/inert"
	"gitlab.com/dynors/sirrat/internal/cli/lang"
	"gitlab.com/dynors/sirrat/internal/cli/view"
)

// World is what the commands know of the process they run in.
type World struct {
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
	// IsTerminal tells whether In or Out is a terminal; nil means to ask the system.
	IsTerminal func(stream any) bool
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Zone is where times of day are shown; nil means the local zone.
	Zone *time.Location
	// Patience bounds what a command waits for the controllers to answer; 0 means 10 s.
	Patience time.Duration
}

const (
	defaultPatience = 10 * time.Second
	helpWidth       = 100
)

// Process is the World of a real process.
func Process() World {
	return World{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv}
}

// session is shared by the commands of one invocation.
type session struct {
	World
	lang      lang.Language
	langAsked bool // by --lang, not by the locale
	langFlag  string
	flags     *genericclioptions.ConfigFlags

	cached client.WithWatch
	typed  *bufio.Reader // of In, once something was asked
}

// Main runs the command line and returns the exit code: 0 for success, 1 for an error, 2 for a wrong invocation, 3 when
// an asked-for check does not hold.
func Main(ctx context.Context, w World, args []string) int {
	cmd, s := build(w, args)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return exitError
	}
	text, hint, code := s.explain(err)
	if text != "" {
		fmt.Fprintln(w.Err, s.T("error.prefix")+inert.Text(text))
	}
	if hint != "" {
		fmt.Fprintln(w.Err, inert.Text(hint))
	}
	return code
}

// New is the command tree in the language that the arguments or the locale ask for.
func New(w World, args []string) *cobra.Command {
	cmd, _ := build(w, args)
	return cmd
}

func build(w World, args []string) (*cobra.Command, *session) {
	if w.Now == nil {
		w.Now = time.Now
	}
	if w.Zone == nil {
		w.Zone = time.Local
	}
	if w.Patience == 0 {
		w.Patience = defaultPatience
	}
	s := &session{World: w, flags: configFlags()}
	s.chooseLanguage(args)

	root := s.group("kubectl-sirrat", "root",
		s.statusCommand(), s.whyCommand(), s.whenCommand(),
		s.approveCommand(), s.rejectCommand(), s.resumeCommand(),
		s.breakGlassCommand(), s.regulariseCommand(),
		s.retryCommand(), s.rollbackCommand(), s.suspendCommand(), s.unsuspendCommand(), s.decommissionCommand(), s.removeCommand(),
		s.pvCommand(), s.auditCommand(), s.tokenCommand(), s.hostCommand(), s.bundleCommand(), s.reportCommand(), s.verifyCommand(),
		s.logsCommand(), s.versionCommand())
	root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl sirrat"}
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetIn(w.In)
	root.SetOut(w.Out)
	root.SetErr(w.Err)
	s.addGlobalFlags(root)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return s.usage(cmd, err.Error()) })
	root.SetUsageTemplate(s.usageTemplate())
	root.SetHelpCommand(s.helpCommand(root))
	s.localizeHelp(root)
	return root, s
}

// configFlags are kubectl's, but for --server: `host add --server` means another server, and the kubeconfig names this
// one.
func configFlags() *genericclioptions.ConfigFlags {
	f := genericclioptions.NewConfigFlags(true)
	f.APIServer = nil
	return f
}

// everydayFlags of kubectl stay visible in the help; the others work all the same.
var everydayFlags = map[string]lang.ID{
	"kubeconfig": "flag.kubeconfig", "context": "flag.context", "namespace": "flag.namespace", "as": "flag.as",
}

func (s *session) addGlobalFlags(root *cobra.Command) {
	flags := root.PersistentFlags()
	s.flags.AddFlags(flags)
	for _, name := range []string{"as-group", "as-uid", "as-user-extra", "cache-dir", "certificate-authority", "client-certificate",
		"client-key", "cluster", "disable-compression", "insecure-skip-tls-verify", "request-timeout", "tls-server-name",
		"token", "user", "proxy-url"} {
		if f := flags.Lookup(name); f != nil {
			f.Hidden = true
		}
	}
	for name, id := range everydayFlags {
		if f := flags.Lookup(name); f != nil {
			f.Usage = s.T(id)
		}
	}
	flags.StringVar(&s.langFlag, "lang", "", s.T("flag.lang"))
	must(root.RegisterFlagCompletionFunc("lang", cobra.FixedCompletions([]string{"en", "fr"}, cobra.ShellCompDirectiveNoFileComp)))
	must(root.RegisterFlagCompletionFunc("namespace", s.completeProjects))
}

// chooseLanguage looks for --lang before cobra does, since the help texts are made before the flags are read.
func (s *session) chooseLanguage(args []string) {
	s.lang = lang.FromLocale(s.Getenv)
	for i, arg := range args {
		value, found := strings.CutPrefix(arg, "--lang=")
		if arg == "--lang" && i+1 < len(args) {
			value, found = args[i+1], true
		}
		if arg == "--" {
			return
		}
		if l, ok := lang.Parse(value); found && ok {
			s.lang, s.langAsked = l, true
		}
	}
}

// T is a text of the catalogue in the session's language.
func (s *session) T(id lang.ID, args ...any) string { return s.lang.T(id, args...) }

// say writes a line to the user beside the command's result.
func (s *session) say(id lang.ID, args ...any) {
	fmt.Fprintln(s.Err, inert.Text(s.T(id, args...)))
}

// screen is what the terminal, the locale and NO_COLOR allow.
func (s *session) screen() view.Screen {
	sc := view.Screen{Lang: s.lang, Now: s.Now(), Zone: s.Zone, ASCII: !lang.UTF8(s.Getenv)}
	if fd, ok := s.terminal(s.Out); ok {
		sc.Color = s.Getenv("NO_COLOR") == "" && s.Getenv("TERM") != "dumb"
		if columns, _, err := term.GetSize(fd); err == nil {
			sc.Width = columns
		}
	}
	return sc
}

// terminal tells whether a stream is one, and its file descriptor, which may be no use to anybody.
func (s *session) terminal(stream any) (fd int, ok bool) {
	if s.IsTerminal != nil {
		return -1, s.IsTerminal(stream)
	}
	f, isFile := stream.(*os.File)
	if !isFile {
		return 0, false
	}
	return int(f.Fd()), term.IsTerminal(int(f.Fd()))
}

// group is a command that only has others below it.
func (s *session) group(use, id string, below ...*cobra.Command) *cobra.Command {
	cmd := s.command(use, id)
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return s.unknownCommand(cmd, args[0])
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.SuggestionsMinimumDistance = 2
	cmd.AddCommand(below...)
	return cmd
}

// command has its texts from the catalogue: <id>.short, .long and .example.
func (s *session) command(use, id string) *cobra.Command {
	cmd := &cobra.Command{Use: use, DisableFlagsInUseLine: true, Short: s.T(lang.ID(id + ".short"))}
	if long := lang.ID(id + ".long"); lang.Known(long) {
		cmd.Long = view.Wrap(s.T(long), helpWidth)
	}
	if example := lang.ID(id + ".example"); lang.Known(example) {
		cmd.Example = s.T(example)
	}
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	return cmd
}

// helpCommand is `help COMMAND`, for those who expect it.
func (s *session) helpCommand(root *cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: "help [COMMAND]", Short: s.T("flag.help"), Hidden: true}
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		target, rest, err := root.Find(args)
		if err != nil || len(rest) > 0 {
			return s.unknownCommand(root, strings.Join(args, " "))
		}
		return target.Help()
	}
	return cmd
}

// args checks the number of arguments.
func (s *session) args(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return s.usage(cmd, s.T("error.too-few-arguments", cmd.UseLine()))
		case len(args) > most:
			return s.usage(cmd, s.T("error.too-many-arguments", cmd.UseLine()))
		}
		return nil
	}
}

// localizeHelp translates what cobra adds to every command.
func (s *session) localizeHelp(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() == "completion" {
			cmd.Short, cmd.Long = s.T("completion.short"), view.Wrap(s.T("completion.long"), helpWidth)
		}
	}
	var each func(*cobra.Command)
	each = func(cmd *cobra.Command) {
		cmd.InitDefaultHelpFlag()
		if f := cmd.Flags().Lookup("help"); f != nil {
			f.Usage = s.T("flag.help")
		}
		for _, below := range cmd.Commands() {
			each(below)
		}
	}
	each(root)
}

func (s *session) usageTemplate() string {
	return s.T("usage.usage") + `
  {{if .HasAvailableSubCommands}}{{.CommandPath}} ` + s.T("usage.command") + `{{else}}{{.UseLine}}{{end}}{{if .HasExample}}

` + s.T("usage.examples") + `
{{.Example}}{{end}}{{if .HasAvailableSubCommands}}

` + s.T("usage.commands") + `{{range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding }} {{.Short}}{{end}}{{end}}{{end}}{{if .HasAvailableLocalFlags}}

` + s.T("usage.flags") + `
{{.LocalFlags.FlagUsagesWrapped ` + strconv.Itoa(helpWidth) + ` | trimTrailingWhitespaces}}{{end}}{{if .HasAvailableInheritedFlags}}

` + s.T("usage.global-flags") + `
{{.InheritedFlags.FlagUsagesWrapped ` + strconv.Itoa(helpWidth) + ` | trimTrailingWhitespaces}}{{end}}{{if .HasAvailableSubCommands}}

` + s.T("usage.more", "{{.CommandPath}}") + `{{end}}
`
}

// must is for mistakes in this package, which the first run of any test finds.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
