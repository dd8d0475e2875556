// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gitlab.com/dynors/sirrat/internal/attestation"
	"gitlab.com/dynors/sirrat/internal/cli/view"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/registry"
)

// maxKeyList bounds a list of keys, in bytes; keyListTimeout the time for fetching it.
const (
	maxKeyList     = 1 << 20
	keyListTimeout = 30 * time.Second
)

type verifyOptions struct {
	image                      string
	keys, keyLists, clientKeys []string
	gates                      []string
	project                    string
}

func (s *session) verifyCommand() *cobra.Command {
	var o verifyOptions
	cmd := s.command("verify IMAGE (--key FILE... | --keys FILE|URL) [--project NAME] [--gate NAME...] [--client-key FILE...]", "verify")
	cmd.Args = s.args(1, 1)
	flags := cmd.Flags()
	flags.StringArrayVar(&o.keys, "key", nil, s.T("flag.verify-key"))
	flags.StringArrayVar(&o.keyLists, "keys", nil, s.T("flag.verify-keys"))
	flags.StringArrayVar(&o.clientKeys, "client-key", nil, s.T("flag.verify-client-key"))
	flags.StringArrayVar(&o.gates, "gate", nil, s.T("flag.verify-gate"))
	flags.StringVar(&o.project, "project", "", s.T("flag.verify-project"))
	output := s.outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.image = args[0]
		if len(o.keys)+len(o.keyLists) == 0 {
			return s.usage(cmd, s.T("error.verify-key"))
		}
		return s.verifyImage(cmd.Context(), o, *output)
	}
	return cmd
}

// verifyImage reads what is attached to an image, and needs no cluster.
func (s *session) verifyImage(ctx context.Context, o verifyOptions, f format) error {
	trust, err := s.imageTrust(ctx, o)
	if err != nil {
		return err
	}
	repository, err := registry.Repository(o.image)
	if err != nil {
		return &failure{text: err.Error(), code: exitUsage, cause: err}
	}
	images := registry.ForUser()
	digest, err := images.Resolve(ctx, o.image)
	if err != nil {
		return s.registryFailure(err)
	}
	report := attestation.Report{Digest: digest}
	var unread []attestation.Problem
	q := registry.Query{Repository: repository, Digest: digest, Wanted: func(artifactType string) bool {
		return artifactType == attestation.VerdictArtifact || artifactType == attestation.DecisionArtifact
	}}
	complete, err := images.EachAttached(ctx, q, func(a registry.Artifact) bool {
		if a.Problem != nil {
			unread = append(unread, attestation.Problem{Artifact: a.Digest, Err: fmt.Errorf("%w: %w", attestation.ErrIncomplete, a.Problem)})
			return true
		}
		artifact := attestation.Artifact{Digest: a.Digest, Type: a.Type}
		for _, l := range a.Layers {
			artifact.Layers = append(artifact.Layers, attestation.Layer{MediaType: l.MediaType, Data: l.Data})
		}
		report.Look(ctx, artifact, trust)
		return true
	})
	if err != nil {
		return s.registryFailure(err)
	}
	if !complete {
		unread = append(unread, attestation.Problem{Err: attestation.ErrIncomplete})
	}
	report.Conclude(o.gates, trust)
	report.Problems = append(report.Problems, unread...)
	return s.tellImage(report, repository+"@"+digest, o, f)
}

func (s *session) registryFailure(err error) error {
	return s.fail("error.verify-registry", err).with(s.T("hint.verify-registry"))
}

// tellImage shows what is proven; the error is for what is not, with the exit code of a check that does not hold.
func (s *session) tellImage(r attestation.Report, image string, o verifyOptions, f format) error {
	ok := r.OK(o.gates)
	if f.structured() {
		if err := s.emit(f, imageReportOf(r, image, o)); err != nil {
			return err
		}
	} else if err := s.print(view.Attested(r, image, o.gates, s.screen())); err != nil {
		return err
	}
	if ok {
		return nil
	}
	failed := &failure{text: s.T("error.not-proven", image), code: exitCheck}
	if len(r.Missing) > 0 && errors.Is(r.Missing[0].Err, attestation.ErrNothing) && len(r.Problems) == 0 {
		failed.hint = s.T("hint.nothing-attached")
		if o.project != "" {
			failed.hint = s.T("hint.nothing-attached-of", o.project)
		}
	}
	return failed
}

// imageTrust reads the keys that were given. One that a list calls revoked is not believed, wherever else it is given.
func (s *session) imageTrust(ctx context.Context, o verifyOptions) (attestation.Trust, error) {
	t := attestation.Trust{Project: o.project}
	var err error
	if t.Keys, err = s.publicKeyFiles(o.keys); err != nil {
		return t, err
	}
	if t.Client, err = s.publicKeyFiles(o.clientKeys); err != nil {
		return t, err
	}
	for _, from := range o.keyLists {
		text, err := s.readKeyList(ctx, from)
		if err != nil {
			return t, err
		}
		good, revoked, err := parseKeyList(text)
		if err != nil {
			return t, s.fail("error.key-list", from, err).with(s.T("hint.key-list"))
		}
		t.Keys, t.Revoked = append(t.Keys, good...), append(t.Revoked, revoked...)
	}
	t.Keys = slices.DeleteFunc(t.Keys, func(k envelope.PublicKey) bool {
		return slices.ContainsFunc(t.Revoked, func(r envelope.PublicKey) bool { return r.ID == k.ID })
	})
	return t, nil
}

// readKeyList reads a list of keys from a file or over HTTPS; over plain HTTP from this machine only, since whoever is on the
// way could put their own key in.
func (s *session) readKeyList(ctx context.Context, from string) ([]byte, error) {
	u, err := url.Parse(from)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		text, err := os.ReadFile(from)
		if err != nil {
			return nil, &failure{text: err.Error(), code: exitError, cause: err}
		}
		return text, nil
	}
	if u.Scheme == "http" && !local(u.Hostname()) {
		return nil, s.fail("error.key-list-http", from)
	}
	ctx, cancel := context.WithTimeout(ctx, keyListTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, s.fail("error.key-list", from, err)
	}
	c := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := c.Do(req)
	if err != nil {
		return nil, s.fail("error.key-list", from, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, s.fail("error.key-list", from, resp.Status)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxKeyList+1))
	if err != nil {
		return nil, s.fail("error.key-list", from, err)
	}
	return text, nil
}

// parseKeyList reads what `sirrat keys list -o json` writes.
func parseKeyList(text []byte) (good, revoked []envelope.PublicKey, err error) {
	if len(text) > maxKeyList {
		return nil, nil, fmt.Errorf("more than %d bytes", maxKeyList)
	}
	var list struct {
		Keys []struct {
			ID     string `json:"id"`
			State  string `json:"state"`
			Public string `json:"public"`
		} `json:"keys"`
	}
	if err := envelope.DecodeOpen(text, &list); err != nil {
		return nil, nil, err
	}
	for _, k := range list.Keys {
		key, err := envelope.ParsePublicKey(k.Public)
		switch {
		case err != nil:
			return nil, nil, fmt.Errorf("key %s: %w", k.ID, err)
		case key.ID != k.ID:
			return nil, nil, fmt.Errorf("the key called %s is %s", k.ID, key.ID)
		case k.State == "revoked":
			revoked = append(revoked, key)
		case slices.Contains([]string{"signing", "accepted", "retired"}, k.State):
			good = append(good, key)
		default:
			return nil, nil, fmt.Errorf("key %s is %q", k.ID, k.State)
		}
	}
	if len(good)+len(revoked) == 0 {
		return nil, nil, errors.New("it holds no key")
	}
	return good, revoked, nil
}

// imageReport is `verify` for programs.
type imageReport struct {
	// OK answers for Demanded, the gates that were asked for: all of them are proven; none was: at least one gate is, and nothing
	// that is attached is wrong.
	OK       bool           `json:"ok"`
	Image    string         `json:"image"`
	Demanded []string       `json:"demanded"`
	Project  string         `json:"project,omitempty"`
	Gates    []gateReport   `json:"gates"`
	PVs      []pvReport     `json:"pvs"`
	Problems []imageProblem `json:"problems"`
	Missing  []imageProblem `json:"missing"`
}

type gateReport struct {
	attestation.Gate `json:",inline"`
	Passed           bool      `json:"passed"`
	Time             time.Time `json:"time"`
	Verifier         string    `json:"verifier"`
	Policy           string    `json:"policy"`
	KeyID            string    `json:"keyID"`
	Artifact         string    `json:"artifact"`
}

type pvReport struct {
	attestation.Decision `json:",inline"`
	// ClientKeyID of the client's key whose signature was verified; "" if it was not.
	ClientKeyID string `json:"clientKeyID,omitempty"`
	Artifact    string `json:"artifact"`
}

type imageProblem struct {
	Artifact string `json:"artifact,omitempty"`
	Gate     string `json:"gate,omitempty"`
	Message  string `json:"message"`
}

func imageReportOf(r attestation.Report, image string, o verifyOptions) imageReport {
	out := imageReport{
		OK: r.OK(o.gates), Image: image, Demanded: append([]string{}, o.gates...), Project: o.project,
		Gates: []gateReport{}, PVs: []pvReport{}, Problems: problemsOf(r.Problems), Missing: problemsOf(r.Missing),
	}
	for _, g := range r.Gates {
		v := g.Verdict
		out.Gates = append(out.Gates, gateReport{
			Gate: v.Gate, Passed: g.Passed(), Time: v.TimeVerified, Verifier: v.Verifier.ID, Policy: "sha256:" + v.Policy.Digest["sha256"],
			KeyID: g.KeyID, Artifact: g.Artifact,
		})
	}
	for _, p := range r.PVs {
		out.PVs = append(out.PVs, pvReport{Decision: p.Decision, ClientKeyID: p.ClientKey, Artifact: p.Artifact})
	}
	return out
}

func problemsOf(list []attestation.Problem) []imageProblem {
	out := []imageProblem{}
	for _, p := range list {
		out = append(out, imageProblem{Artifact: p.Artifact, Gate: p.Gate, Message: strings.ReplaceAll(p.Err.Error(), "\n", "; ")})
	}
	return out
}
