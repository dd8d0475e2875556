// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gitlab.com/dynors/sirrat/agent/enrol"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/authorization"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/hostpolicy"
)

// errNotVerified says that a check failed, which was printed.
var errNotVerified = errors.New("not verified")

// maxRollout bounds a file to verify, in bytes.
const maxRollout = 4 << 20

// verifyFlags are what may stand for the identity and the policy of this server.
type verifyFlags struct {
	keys, clientKeys, host, uid, policy string
	minimum                             int64
}

func verifyCommand(s *settings) *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:   "verify [ROLLOUT.json|-]",
		Short: "Check an order as the agent would, without the control plane",
		Long: `verify reads a Rollout (kubectl get rollout … -o json) and says what its authorization states and which checks it passes: the
signature, the host, the images, the compose file, the sequence, the time, and the client's signature where the owner's
policy demands it. It talks to nobody and changes nothing. The exit code is 0 when all checks hold.

Host and keys are those of this server; --keys, --host and --uid stand for them elsewhere.`,
		Example: `  kubectl get rollout -n host-vps-1 shop.production.7 -o json | sirrat-agent verify -
  sirrat-agent verify rollout.json --keys keys.pem --host vps-1 --uid 0b4f9c3e-5f0e-4b43-9a5d-1f6f3a2c7d11`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := "-"
			if len(args) == 1 {
				name = args[0]
			}
			return f.run(cmd, s.dataDir, name)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.keys, "keys", "", "file of the keys that may sign (PEM, one or more) instead of those pinned here")
	fl.StringVar(&f.clientKeys, "client-keys", "", "file of the client's keys (PEM): demand the client's signature too")
	fl.StringVar(&f.host, "host", "", "name of the host instead of this one")
	fl.StringVar(&f.uid, "uid", "", "uid of the host instead of this one's")
	fl.Int64Var(&f.minimum, "minimum", 0, "lowest sequence that is accepted")
	fl.StringVar(&f.policy, "policy", hostpolicy.DefaultFile, "file of the owner's policy, which may demand the client's signature")
	return cmd
}

func (f verifyFlags) run(cmd *cobra.Command, dataDir, name string) error {
	rollout, err := readRollout(cmd.InOrStdin(), name)
	if err != nil {
		return err
	}
	host, trust, err := f.whom(dataDir)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	ctx, spec := cmd.Context(), rollout.Spec
	st, err := authorization.Open(ctx, spec.Authorization, false, trust)
	if !check(out, "signed by a trusted key", err) {
		return errNotVerified
	}
	printStatement(out, st)
	good := true
	_, err = authorization.Verify(ctx, spec, host, st.Predicate.NotAfter, 0, true, trust)
	good = check(out, "is for this host, and says of images, compose file, values and checks what the rollout has", err) && good
	_, err = authorization.Verify(ctx, spec, host, st.Predicate.NotAfter, f.minimum, true, trust)
	if errors.Is(err, authorization.ErrOldSequence) || err == nil {
		good = check(out, fmt.Sprintf("is not older than sequence %d", f.minimum), err) && good
	}
	_, err = authorization.Verify(ctx, spec, host, time.Now(), 0, false, trust)
	if errors.Is(err, authorization.ErrExpired) || err == nil {
		good = check(out, "has not expired", err) && good
	}
	if keys, needed, err := f.second(spec.Environment); err != nil {
		return err
	} else if needed {
		_, err := authorization.VerifyAcceptance(ctx, spec, keys)
		good = check(out, "the client signed for exactly this", err) && good
	} else {
		fmt.Fprintln(out, "-   the client's signature is not demanded for "+spec.Environment)
	}
	if !good {
		return errNotVerified
	}
	return nil
}

// check prints one check and says whether it passed.
func check(out io.Writer, what string, err error) bool {
	if err != nil {
		fmt.Fprintf(out, "NO  %s: %s\n", what, err)
		return false
	}
	fmt.Fprintf(out, "ok  %s\n", what)
	return true
}

func printStatement(out io.Writer, st *authorization.Statement) {
	p := st.Predicate
	fmt.Fprintf(out, "    project      %s (%s)\n    release      %s (%s), commit %s\n    environment  %s, sequence %d\n    host         %s (%s)\n",
		p.Project, p.ProjectUID, p.Release, p.ReleaseUID, p.Commit, p.Environment, p.Sequence, p.Host, p.HostUID)
	fmt.Fprintf(out, "    to be begun  by %s\n    bundle       %s\n", p.NotAfter.UTC().Format(time.RFC3339), p.BundleHash)
	for _, subject := range st.Subject {
		for algorithm, digest := range subject.Digest {
			fmt.Fprintf(out, "    image        %s %s:%s\n", subject.Name, algorithm, digest)
		}
	}
	for _, gate := range p.Gates {
		fmt.Fprintf(out, "    because      %s\n", strings.Map(printable, gate))
	}
}

// printable keeps what somebody wrote from commanding a terminal.
func printable(r rune) rune {
	if r < ' ' || r >= 0x7f && r < 0xa0 {
		return '?'
	}
	return r
}

func readRollout(stdin io.Reader, name string) (*v1alpha1.Rollout, error) {
	reader := stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		reader = file
	}
	text, err := io.ReadAll(io.LimitReader(reader, maxRollout+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	rollout := &v1alpha1.Rollout{}
	if err := json.Unmarshal(text, rollout); err != nil || len(text) > maxRollout {
		return nil, fmt.Errorf("%s is not a Rollout in JSON of at most %d bytes", name, maxRollout)
	}
	if rollout.Spec.Authorization == "" {
		return nil, fmt.Errorf("%s has no spec.authorization: is it a Rollout?", name)
	}
	return rollout, nil
}

// whom returns the host that orders must be for, and whose signatures count.
func (f verifyFlags) whom(dataDir string) (authorization.Host, authorization.Trust, error) {
	host := authorization.Host{Name: f.host, UID: f.uid}
	var trust authorization.Trust
	if f.keys == "" || f.host == "" || f.uid == "" {
		identity, err := enrol.LoadIdentity(dataDir)
		if err != nil {
			return host, trust, fmt.Errorf("%w; or give --keys, --host and --uid", err)
		}
		parsed, err := identity.Keys().Parse()
		if err != nil {
			return host, trust, err
		}
		trust = authorization.Trust{Keys: parsed.Keys, Retired: parsed.Retired, Revoked: parsed.Revoked}
		if f.host == "" && f.uid == "" {
			host = authorization.Host{Name: identity.Host, UID: identity.HostUID}
		}
	}
	if host.Name == "" || host.UID == "" {
		return host, trust, errors.New("give --host and --uid together")
	}
	if f.keys != "" {
		keys, err := readKeys(f.keys)
		if err != nil {
			return host, trust, fmt.Errorf("--keys: %w", err)
		}
		trust = authorization.Trust{Keys: keys}
	}
	return host, trust, nil
}

// second returns the client's keys if its signature is demanded.
func (f verifyFlags) second(environment string) (keys []envelope.PublicKey, needed bool, err error) {
	if f.clientKeys != "" {
		keys, err := readKeys(f.clientKeys)
		if err != nil {
			return nil, false, fmt.Errorf("--client-keys: %w", err)
		}
		return keys, true, nil
	}
	policy, _, err := hostpolicy.Read(f.policy)
	if err != nil {
		return nil, false, err
	}
	if !policy.SecondSignature.Needed(environment) {
		return nil, false, nil
	}
	keys, err = policy.SecondSignature.PublicKeys()
	return keys, true, err
}

// readKeys reads a file of one or more public keys.
func readKeys(name string) ([]envelope.PublicKey, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var keys []envelope.PublicKey
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		key, err := envelope.ParsePublicKey(string(pem.EncodeToMemory(block)))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		keys, text = append(keys, key), rest
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s: no key in it", name)
	}
	return keys, nil
}
