// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/apitoken"
	"gitlab.com/dynors/sirrat/internal/cli/view"
)

// defaultTokenLife is a year: long enough to forget, short enough to end.
const defaultTokenLife = 8760 * time.Hour

func (s *session) tokenCommand() *cobra.Command {
	return s.group("token", "token", s.tokenCreateCommand(), s.tokenListCommand(), s.tokenRevokeCommand())
}

func (s *session) tokenCreateCommand() *cobra.Command {
	var name, scope string
	var life time.Duration
	cmd := s.command("create PROJECT [--name NAME] [--expires DURATION] [--scope audit]", "token.create")
	cmd.Args = s.args(1, 1)
	cmd.ValidArgsFunction = s.completion("kind.project")
	cmd.Flags().StringVar(&name, "name", "ci", s.T("flag.token-name"))
	cmd.Flags().DurationVar(&life, "expires", defaultTokenLife, s.T("flag.token-expires"))
	cmd.Flags().StringVar(&scope, "scope", "", s.T("flag.token-scope"))
	must(cmd.RegisterFlagCompletionFunc("scope", cobra.FixedCompletions([]string{string(apitoken.ScopeAudit)}, cobra.ShellCompDirectiveNoFileComp)))
	output := s.outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case life < 0:
			return s.usage(cmd, s.T("error.negative-duration", "--expires"))
		case scope != string(apitoken.ScopePipeline) && scope != string(apitoken.ScopeAudit):
			return s.usage(cmd, s.T("error.token-scope", scope))
		}
		return s.createToken(cmd.Context(), args[0], apitoken.Scope(scope), name, life, *output)
	}
	return cmd
}

// newToken is a fresh token for programs.
type newToken struct {
	view.TokenRow `json:",inline"`
	Token         string `json:"token"`
}

func (s *session) createToken(ctx context.Context, project string, scope apitoken.Scope, name string, life time.Duration, f format) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	var expires time.Time
	if life > 0 {
		expires = s.Now().Add(life)
	}
	plaintext, secret, err := apitoken.NewScoped(project, scope, name, expires)
	if err != nil {
		return err
	}
	if err := c.Create(ctx, secret); err != nil {
		if apierrors.IsNotFound(err) { // the namespace
			return s.notFound(ctx, err, "kind.project", project, "")
		}
		return err
	}
	row := tokenRow(secret)
	if f.structured() {
		return s.emit(f, newToken{row, plaintext})
	}
	if err := s.print(plaintext + "\n"); err != nil {
		return err
	}
	if scope == apitoken.ScopeAudit {
		s.say("token.created-audit", row.ID, project)
		return nil
	}
	if expires.IsZero() {
		s.say("token.created-forever", row.ID, project)
	} else {
		s.say("token.created", row.ID, project, expires.In(s.Zone).Format("2006-01-02"))
	}
	return nil
}

func (s *session) tokenListCommand() *cobra.Command {
	cmd := s.command("list PROJECT", "token.list")
	cmd.Args = s.args(1, 1)
	cmd.ValidArgsFunction = s.completion("kind.project")
	output := s.outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		rows, err := s.tokens(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if output.structured() {
			return s.emit(*output, rows)
		}
		if len(rows) == 0 {
			s.say("token.none", args[0])
			return nil
		}
		return s.print(view.Tokens(rows, s.screen()))
	}
	return cmd
}

func (s *session) tokens(ctx context.Context, project string) ([]view.TokenRow, error) {
	c, err := s.client()
	if err != nil {
		return nil, err
	}
	var secrets corev1.SecretList
	if err := c.List(ctx, &secrets, client.InNamespace(project), client.HasLabels{v1alpha1.LabelToken}); err != nil {
		return nil, err
	}
	rows := []view.TokenRow{}
	for i := range secrets.Items {
		if secrets.Items[i].Type == apitoken.SecretType {
			rows = append(rows, tokenRow(&secrets.Items[i]))
		}
	}
	slices.SortFunc(rows, func(a, b view.TokenRow) int { return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID)) })
	return rows, nil
}

func tokenRow(secret *corev1.Secret) view.TokenRow {
	row := view.TokenRow{
		ID:          secret.Name[min(len(secret.Name), len(apitoken.SecretName(""))):],
		Description: string(secret.Data[apitoken.DataName]),
		Scope:       string(secret.Data[apitoken.DataScope]),
		Created:     secret.CreationTimestamp.Time,
	}
	if t, err := time.Parse(time.RFC3339, string(secret.Data[apitoken.DataExpires])); err == nil {
		row.Expires = t
	}
	return row
}

func (s *session) tokenRevokeCommand() *cobra.Command {
	cmd := s.command("revoke PROJECT ID", "token.revoke")
	cmd.Args = s.args(2, 2)
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		if len(args) != 1 {
			return s.completion("kind.project")(cmd, args, toComplete)
		}
		rows, err := s.tokens(cmd.Context(), args[0])
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var ids []string
		for _, row := range rows {
			ids = append(ids, row.ID)
		}
		return ids, cobra.ShellCompDirectiveNoFileComp
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return s.revokeToken(cmd.Context(), args[0], args[1]) }
	return cmd
}

// revokeToken deletes the token's Secret, and nothing else of that name.
func (s *session) revokeToken(ctx context.Context, project, id string) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	if whole, err := apitoken.ID(id); err == nil { // somebody pasted the token itself
		id = whole
	}
	var secret corev1.Secret
	err = c.Get(ctx, client.ObjectKey{Namespace: project, Name: apitoken.SecretName(id)}, &secret)
	if apierrors.IsNotFound(err) || err == nil && secret.Type != apitoken.SecretType {
		return s.fail("error.no-token", id, project).with(s.T("hint.token-list", project))
	}
	if err != nil {
		return err
	}
	if err := c.Delete(ctx, &secret, client.Preconditions{UID: &secret.UID}); err != nil {
		return err
	}
	s.say("token.revoked", id, project)
	return nil
}
