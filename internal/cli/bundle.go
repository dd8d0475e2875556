// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/authorization"
	"gitlab.com/dynors/sirrat/internal/offline"
	"gitlab.com/dynors/sirrat/internal/registry"
)

func (s *session) bundleCommand() *cobra.Command {
	return s.group("bundle", "bundle", s.bundleExportCommand(), s.bundleReportCommand())
}

type bundleOptions struct {
	project, environment, host   string
	file, platform, registryFile string
	withSecrets                  bool
}

func (s *session) bundleExportCommand() *cobra.Command {
	var o bundleOptions
	cmd := s.command("export PROJECT ENVIRONMENT HOST -o FILE [--platform OS/ARCH] [--with-secrets]", "bundle.export")
	cmd.Args = s.args(3, 3)
	flags := cmd.Flags()
	flags.StringVarP(&o.file, "output", "o", "", s.T("flag.bundle-file"))
	flags.StringVar(&o.platform, "platform", "", s.T("flag.bundle-platform"))
	flags.StringVar(&o.registryFile, "registry-config", "", s.T("flag.bundle-registry"))
	flags.BoolVar(&o.withSecrets, "with-secrets", false, s.T("flag.bundle-secrets"))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.project, o.environment, o.host = args[0], args[1], args[2]
		if o.file == "" {
			return s.usage(cmd, s.T("error.bundle-file"))
		}
		return s.exportBundle(cmd.Context(), o)
	}
	return cmd
}

// exportBundle writes the newest Rollout of an environment on a host, with its images.
func (s *session) exportBundle(ctx context.Context, o bundleOptions) error {
	var host v1alpha1.Host
	if _, err := s.read(ctx, &host, "kind.host", "", o.host); err != nil {
		return err
	}
	rollout, err := s.orderFor(ctx, o)
	if err != nil {
		return err
	}
	until, err := s.usable(ctx, host, *rollout)
	if err != nil {
		return err
	}
	m := offline.Manifest{Version: offline.Version, Host: o.host, Platform: o.platform}
	if m.Platform == "" && host.Status.Agent != nil {
		m.Platform = host.Status.Agent.Platform
	}
	if m.Platform == "" {
		return s.fail("error.bundle-platform", o.host).with(s.T("hint.bundle-platform"))
	}
	if m.KeySets, err = s.keySets(ctx, o.host); err != nil {
		return err
	}
	if m.Secrets, err = s.bundledSecrets(ctx, rollout, o.withSecrets); err != nil {
		return err
	}
	images := registry.ForUser()
	if o.registryFile != "" {
		text, err := os.ReadFile(o.registryFile)
		if err != nil {
			return wrap("read --registry-config", err)
		}
		if images, err = registry.New(text, nil); err != nil {
			return err
		}
	}
	size, fingerprint, err := s.writeBundle(ctx, o.file, m, rollout, images)
	if err != nil {
		return err
	}
	s.say("bundle.written", o.file, rollout.Spec.Release.Name, rollout.Spec.Sequence, o.host, m.Platform, megabytes(size))
	s.say("bundle.until", until.In(s.Zone).Format("2006-01-02 15:04 MST"))
	s.sayAboutSecrets(o, m.Secrets)
	return s.print("sirrat-agent apply " + o.file + " --fingerprint " + fingerprint + "\n")
}

// usable is until when an order may be begun on its server. What would be refused there need not be carried there.
func (s *session) usable(ctx context.Context, host v1alpha1.Host, rollout v1alpha1.Rollout) (until time.Time, err error) {
	set, err := s.trustedKeys(ctx, host.Name)
	if err != nil {
		return until, err
	}
	keys, err := set.Parse()
	if err != nil {
		return until, wrap("read the authorization keys", err)
	}
	trust := authorization.Trust{Keys: keys.Keys, Retired: keys.Retired, Revoked: keys.Revoked}
	receiver := authorization.Host{Name: host.Name, UID: string(host.UID)}
	statement, err := authorization.Verify(ctx, rollout.Spec, receiver, s.Now(), 0, false, trust)
	if err != nil {
		return until, s.fail("error.bundle-refused", host.Name, rollout.Spec.Release.Name, err.Error()).
			with(s.T("hint.bundle-refused", rollout.Name, rollout.Namespace))
	}
	return statement.Predicate.NotAfter, nil
}

// sayAboutSecrets warns of those that are in the file, or names those that the server must have itself.
func (s *session) sayAboutSecrets(o bundleOptions, secrets []offline.Secret) {
	var keys []string
	for _, secret := range secrets {
		for _, key := range secret.Keys {
			keys = append(keys, secret.Name+"/"+key)
		}
	}
	switch {
	case len(keys) == 0:
	case o.withSecrets:
		s.say("bundle.with-secrets", o.file, len(keys))
	default:
		s.say("bundle.without-secrets", strings.Join(keys, ", "))
	}
}

// orderFor is the newest Rollout of the environment on the host, without what is of no concern elsewhere.
func (s *session) orderFor(ctx context.Context, o bundleOptions) (*v1alpha1.Rollout, error) {
	c, err := s.client()
	if err != nil {
		return nil, err
	}
	var list v1alpha1.RolloutList
	if err := c.List(ctx, &list, client.InNamespace(v1alpha1.HostNamespace(o.host))); err != nil {
		return nil, err
	}
	var newest *v1alpha1.Rollout
	for i := range list.Items {
		r := &list.Items[i]
		if r.Spec.Project == o.project && r.Spec.Environment == o.environment && r.DeletionTimestamp.IsZero() &&
			(newest == nil || r.Spec.Sequence > newest.Spec.Sequence) {
			newest = r
		}
	}
	if newest == nil {
		return nil, s.fail("error.bundle-no-rollout", o.environment, o.project, o.host).with(s.T("hint.bundle-no-rollout", o.host))
	}
	order := &v1alpha1.Rollout{TypeMeta: newest.TypeMeta, Spec: newest.Spec}
	order.Name, order.Namespace, order.UID = newest.Name, newest.Namespace, newest.UID
	return order, nil
}

// keySets are the signed statements about authorization keys, as the agent would read them.
func (s *session) keySets(ctx context.Context, host string) (map[int64]string, error) {
	data, err := s.hostConfigMap(ctx, host, v1alpha1.KeySets)
	statements := map[int64]string{}
	for name, text := range data {
		if serial, err := strconv.ParseInt(name, 10, 64); err == nil {
			statements[serial] = text
		}
	}
	return statements, err
}

// hostConfigMap is the content of a ConfigMap in a host's namespace; nil when there is none.
func (s *session) hostConfigMap(ctx context.Context, host, name string) (map[string]string, error) {
	c, err := s.client()
	if err != nil {
		return nil, err
	}
	var m corev1.ConfigMap
	err = c.Get(ctx, client.ObjectKey{Namespace: v1alpha1.HostNamespace(host), Name: name}, &m)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return m.Data, err
}

// bundledSecrets are the names and keys of the Secrets that the Rollout names, with their values if asked for.
func (s *session) bundledSecrets(ctx context.Context, rollout *v1alpha1.Rollout, values bool) ([]offline.Secret, error) {
	c, err := s.client()
	if err != nil {
		return nil, err
	}
	var list []offline.Secret
	for _, name := range slices.Sorted(slices.Values(rollout.Spec.SecretRefs)) {
		var secret corev1.Secret
		err := c.Get(ctx, client.ObjectKey{Namespace: rollout.Namespace, Name: name}, &secret)
		if apierrors.IsForbidden(err) {
			return nil, s.fail("error.bundle-secret", name, rollout.Namespace).with(s.T("hint.bundle-secret"))
		}
		if err != nil {
			return nil, err
		}
		entry := offline.Secret{Name: name, Keys: slices.Sorted(maps.Keys(secret.Data))}
		if values {
			entry.Values = map[string]string{}
			for key, value := range secret.Data {
				entry.Values[key] = string(value)
			}
		}
		list = append(list, entry)
	}
	return list, nil
}

// writeBundle writes the file beside its place and puts it there when it is whole. The fingerprint is its SHA-256.
func (s *session) writeBundle(ctx context.Context, file string, m offline.Manifest, rollout *v1alpha1.Rollout, from offline.Source,
) (size int64, fingerprint string, err error) {
	temporary, err := os.CreateTemp(filepath.Dir(file), ".bundle-*") // mode 0600: it may hold secrets
	if err != nil {
		return 0, "", wrap("write the bundle", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, temporary.Close(), os.Remove(temporary.Name()))
		}
	}()
	_, live := s.terminal(s.Err)
	progress := func(done, total int64) {
		line := s.T("bundle.progress", megabytes(done), megabytes(total))
		if live {
			line = "\r" + line
			if done == total {
				line += "\n"
			}
		} else {
			line += "\n"
		}
		fmt.Fprint(s.Err, line)
	}
	hash := sha256.New()
	if err = offline.Write(ctx, io.MultiWriter(temporary, hash), m, rollout, from, progress); err != nil {
		return 0, "", err
	}
	if size, err = temporary.Seek(0, io.SeekCurrent); err != nil {
		return 0, "", wrap("write the bundle", err)
	}
	err = cmp.Or(temporary.Sync(), temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), file)
	}
	return size, fmt.Sprintf("sha256:%x", hash.Sum(nil)), wrap("write the bundle", err)
}

func megabytes(bytes int64) string { return fmt.Sprintf("%.1f MB", float64(bytes)/1e6) }
