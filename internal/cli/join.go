// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	bootstrapapi "k8s.io/cluster-bootstrap/token/api"
	bootstraputil "k8s.io/cluster-bootstrap/token/util"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

const (
	bootstrapNamespace = metav1.NamespaceSystem
	defaultJoinLife    = time.Hour
	maxJoinLife        = time.Hour
)

type hostAddOptions struct {
	output   *format
	name     string
	projects []string
	labels   map[string]string
	life     time.Duration
	server   string
}

func (s *session) hostAddCommand() *cobra.Command {
	var o hostAddOptions
	cmd := s.command("add NAME --project PROJECT... [--label KEY=VALUE...] [--ttl DURATION]", "host.add")
	cmd.Args = s.args(1, 1)
	cmd.Flags().StringSliceVar(&o.projects, "project", nil, s.T("flag.host-project"))
	cmd.Flags().StringToStringVar(&o.labels, "label", nil, s.T("flag.host-label"))
	cmd.Flags().DurationVar(&o.life, "ttl", defaultJoinLife, s.T("flag.host-ttl"))
	cmd.Flags().StringVar(&o.server, "server", "", s.T("flag.host-server"))
	must(cmd.RegisterFlagCompletionFunc("project", s.completeProjects))
	o.output = s.outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.name = args[0]
		if o.life <= 0 || o.life > maxJoinLife {
			return s.usage(cmd, s.T("error.ttl", maxJoinLife))
		}
		if u, err := url.Parse(o.server); o.server != "" && (err != nil || u.Scheme != "https" || u.Host == "") {
			return s.usage(cmd, s.T("error.server", o.server))
		}
		return s.addHost(cmd.Context(), cmd, o)
	}
	return cmd
}

// joinCommand is `host add` for programs.
type joinCommand struct {
	Host    string    `json:"host"`
	UID     string    `json:"uid"`
	Server  string    `json:"server"`
	Token   string    `json:"token"`
	CAHash  []string  `json:"caHash"`
	Expires time.Time `json:"expires"`
	Command string    `json:"command"`
}

func (s *session) addHost(ctx context.Context, cmd *cobra.Command, o hostAddOptions) error {
	config, err := s.restConfig()
	if err != nil {
		return err
	}
	j := joinCommand{Host: o.name, Server: cmp.Or(o.server, config.Host), Expires: s.Now().Add(o.life).UTC().Truncate(time.Second)}
	if j.CAHash, err = s.pins(config); err != nil {
		return err
	}
	host, err := s.ensureHost(ctx, cmd, o)
	if err != nil {
		return err
	}
	j.UID = string(host.UID)
	if err := s.awaitHostNamespace(ctx, o.name); err != nil {
		return err
	}
	if j.Token, err = s.createJoinToken(ctx, host, j.Expires); err != nil {
		return err
	}
	j.Command = fmt.Sprintf("sirrat-agent join %s --token %s", j.Server, j.Token)
	for _, pin := range j.CAHash {
		j.Command += " --ca-hash " + pin
	}
	if host.Spec.Revocations > 0 { // the server may still hold what was revoked
		j.Command += " --force"
	}
	if o.output.structured() {
		return s.emit(*o.output, j)
	}
	s.say("host.join", o.name, o.life)
	if loopback(j.Server) {
		s.say("host.loopback", j.Server)
	}
	return s.print(j.Command + "\n")
}

// ensureHost creates the Host, or finds the one that is there to be as wanted.
func (s *session) ensureHost(ctx context.Context, cmd *cobra.Command, o hostAddOptions) (*v1alpha1.Host, error) {
	c, err := s.client()
	if err != nil {
		return nil, err
	}
	var host v1alpha1.Host
	err = c.Get(ctx, client.ObjectKey{Name: o.name}, &host)
	switch {
	case apierrors.IsNotFound(err):
		if len(o.projects) == 0 {
			return nil, s.usage(cmd, s.T("error.host-needs-project", o.name))
		}
		if err := createHost(ctx, c, &host, o); err != nil {
			return nil, err
		}
		s.say("host.created", o.name, strings.Join(o.projects, ", "))
		return &host, nil
	case err != nil:
		return nil, err
	}
	for _, p := range o.projects {
		if !slices.Contains(host.Spec.Projects, p) {
			return nil, s.fail("error.host-other-projects", o.name, strings.Join(host.Spec.Projects, ", ")).
				with(s.T("hint.host-edit", o.name))
		}
	}
	for k, v := range o.labels {
		if host.Labels[k] != v {
			return nil, s.fail("error.host-other-label", o.name, k, host.Labels[k]).with(s.T("hint.host-label", o.name, k, v))
		}
	}
	s.say("host.exists", o.name)
	return &host, nil
}

// createHost names only what was asked for, so that the API server fills in its defaults: the typed object would send
// zeros.
func createHost(ctx context.Context, c client.Client, host *v1alpha1.Host, o hostAddOptions) error {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("Host"))
	object.SetName(o.name)
	object.SetLabels(o.labels)
	if err := unstructured.SetNestedStringSlice(object.Object, o.projects, "spec", "projects"); err != nil {
		return wrap("make the host", err)
	}
	if err := c.Create(ctx, object); err != nil {
		return err
	}
	return wrap("read the host", runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, host))
}

// awaitHostNamespace: an agent that joins before its namespace is there would be turned away.
func (s *session) awaitHostNamespace(ctx context.Context, host string) error {
	key := client.ObjectKey{Name: v1alpha1.HostNamespace(host)}
	_, err := await(ctx, s, key, &corev1.NamespaceList{}, func(ns *corev1.Namespace) bool {
		return ns.Status.Phase != corev1.NamespaceTerminating && ns.Labels[v1alpha1.LabelHost] == host
	})
	switch {
	case errors.Is(err, errImpatient):
		return s.fail("error.host-namespace", key.Name, s.Patience).with(s.T("hint.controllers", host))
	case apierrors.IsForbidden(err): // may add hosts but not look at namespaces: the agent retries
		return nil
	}
	return err
}

// createJoinToken makes a bootstrap token that may enrol this one Host object.
func (s *session) createJoinToken(ctx context.Context, host *v1alpha1.Host, expires time.Time) (string, error) {
	c, err := s.client()
	if err != nil {
		return "", err
	}
	token, err := bootstraputil.GenerateBootstrapToken()
	if err != nil {
		return "", wrap("draw a join token", err)
	}
	id, secretPart, _ := strings.Cut(token, ".")
	group := strings.TrimSuffix(v1alpha1.EnrolGroupPrefix, ":")
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name: bootstrapapi.BootstrapTokenSecretPrefix + id, Namespace: bootstrapNamespace,
			Labels: map[string]string{v1alpha1.LabelHost: host.Name},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: v1alpha1.GroupVersion.String(), Kind: "Host", Name: host.Name, UID: host.UID,
			}},
		},
		Type: bootstrapapi.SecretTypeBootstrapToken,
		StringData: map[string]string{
			bootstrapapi.BootstrapTokenIDKey:                          id,
			bootstrapapi.BootstrapTokenSecretKey:                      secretPart,
			bootstrapapi.BootstrapTokenExpirationKey:                  expires.Format(time.RFC3339),
			bootstrapapi.BootstrapTokenUsagePrefix + "authentication": "true",
			bootstrapapi.BootstrapTokenDescriptionKey:                 "enrols the agent of host " + host.Name,
			bootstrapapi.BootstrapTokenExtraGroupsKey:                 group + "," + v1alpha1.EnrolGroup(host.Name, string(host.UID), host.Spec.Revocations),
		},
	}
	return token, c.Create(ctx, secret)
}

// pins are the hashes, as kubeadm writes them, of the keys of the CAs that the kubeconfig trusts.
func (s *session) pins(config *rest.Config) ([]string, error) {
	data := config.CAData
	if len(data) == 0 && config.CAFile != "" {
		var err error
		if data, err = os.ReadFile(config.CAFile); err != nil {
			return nil, wrap("read the CA of the kubeconfig", err)
		}
	}
	pins, err := caPins(data)
	if err != nil {
		return nil, err
	}
	if len(pins) == 0 {
		return nil, s.fail("error.no-ca").with(s.T("hint.no-ca"))
	}
	return pins, nil
}

// caPins are the SHA-256 of each certificate's SubjectPublicKeyInfo.
func caPins(bundle []byte) ([]string, error) {
	var pins []string
	for {
		block, rest := pem.Decode(bytes.TrimSpace(bundle))
		if block == nil {
			return pins, nil
		}
		bundle = rest
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, wrap("read the CA of the kubeconfig", err)
		}
		sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
		pins = append(pins, "sha256:"+hex.EncodeToString(sum[:]))
	}
}

// loopback tells whether an address means the machine that uses it.
func loopback(server string) bool {
	u, err := url.Parse(server)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}
