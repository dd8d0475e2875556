// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"gitlab.com/dynors/sirrat/internal/egress"
	"gitlab.com/dynors/sirrat/internal/idtoken"
)

// egressFlags say where, beyond the public internet, the server may connect to because a project says so.
type egressFlags struct{ networks []string }

func (f *egressFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&f.networks, "allow-private-addresses", nil, "networks or addresses, beyond the public internet, in which projects may name registries, issuers of id_tokens and webhooks, for a registry or GitLab of your own. Example: 10.1.0.0/16,192.168.7.20")
}

func (f egressFlags) guard() (egress.Guard, error) {
	networks, err := egress.ParseNetworks(f.networks)
	if err != nil {
		return egress.Guard{}, fmt.Errorf("--allow-private-addresses: %w", err)
	}
	return egress.Guard{Networks: networks}, nil
}

// idTokens verifies id_tokens with keys of issuers that the guard lets through.
func idTokens(guard egress.Guard) *idtoken.Verifier {
	dialer := guard.Dialer()
	return idtoken.NewVerifier(idtoken.Options{Transport: egress.Transport(&dialer)})
}
