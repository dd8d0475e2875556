// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/keyset"
	"gitlab.com/dynors/sirrat/internal/offline"
)

func (s *session) hostExportCommand() *cobra.Command {
	var file, server string
	cmd := s.command("export NAME -o FILE [--server URL]", "host.export")
	cmd.Args = s.args(1, 1)
	cmd.ValidArgsFunction = s.completion("kind.host")
	cmd.Flags().StringVarP(&file, "output", "o", "host-trust.json", s.T("flag.trust-file"))
	cmd.Flags().StringVar(&server, "server", "", s.T("flag.host-server"))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return s.exportHost(cmd.Context(), args[0], file, server)
	}
	return cmd
}

// exportHost writes what a server must know to be that host without ever speaking with the control plane.
func (s *session) exportHost(ctx context.Context, name, file, server string) error {
	var host v1alpha1.Host
	if _, err := s.read(ctx, &host, "kind.host", "", name); err != nil {
		return err
	}
	config, err := s.restConfig()
	if err != nil {
		return err
	}
	trust := offline.Trust{Version: offline.Version, Host: name, UID: string(host.UID), Server: config.Host, CA: string(config.CAData)}
	if server != "" {
		trust.Server = strings.TrimRight(server, "/")
	}
	if trust.CA == "" && config.CAFile != "" {
		text, err := os.ReadFile(config.CAFile)
		if err != nil {
			return wrap("read the CA", err)
		}
		trust.CA = string(text)
	}
	keys, err := s.trustedKeys(ctx, name)
	if err != nil {
		return err
	}
	trust.Keys, trust.KeySet, trust.Retired, trust.Revoked = keys.Keys, keys.Serial, keys.Retired, keys.Revoked
	text, fingerprint, err := trust.Encode()
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return wrap("write the trust of the host", err)
	}
	s.say("host.exported", file, name)
	return s.print("sirrat-agent join --offline " + file + " --fingerprint " + fingerprint + "\n")
}

// trustedKeys are the keys that an agent would pin now.
func (s *session) trustedKeys(ctx context.Context, host string) (keyset.Set, error) {
	data, err := s.hostConfigMap(ctx, host, v1alpha1.AuthorizationKeys)
	if err != nil {
		return keyset.Set{}, err
	}
	set := keyset.Set{Keys: map[string]string{}}
	for id, text := range data {
		set.Keys["sha256:"+strings.TrimPrefix(id, "sha256:")] = text
	}
	if len(set.Keys) == 0 {
		return set, s.fail("error.host-no-keys", host).with(s.T("hint.controllers", host))
	}
	statements, err := s.keySets(ctx, host)
	if err != nil {
		return set, err
	}
	set, err = keyset.Advance(ctx, set, statements)
	return set, wrap("read the authorization keys", err)
}
