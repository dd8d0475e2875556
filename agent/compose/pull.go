// SPDX-License-Identifier: Apache-2.0

package compose

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"
)

// Errors that Pull wraps, for those that trying again does not help.
var (
	ErrNotFound = errors.New("the registry has no such image")
	ErrDenied   = errors.New("the registry refuses access")
)

// CheckPinned says whether ref is a repository with a digest and nothing else.
func CheckPinned(ref string) error {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return fmt.Errorf("%q: %w", ref, err)
	}
	if _, digested := named.(reference.Digested); !digested {
		return fmt.Errorf("%q has no digest", ref)
	}
	if _, tagged := named.(reference.Tagged); tagged {
		return fmt.Errorf("%q has a tag beside its digest", ref)
	}
	return nil
}

// Present says whether the engine has an image, given by digest, on disk.
func (e *Engine) Present(ctx context.Context, ref string) (bool, error) {
	switch _, err := e.client.ImageInspect(ctx, ref); {
	case errdefs.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, e.explain("look for image "+ref, err)
	}
	return true, nil
}

// Pull fetches an image by digest unless it is on disk already. credentials is a dockerconfigjson, used for this pull and
// then forgotten; empty means none. progress receives percents from 0 to 100, more than once a second.
func (e *Engine) Pull(ctx context.Context, ref string, credentials []byte, progress func(percent int)) error {
	if err := CheckPinned(ref); err != nil {
		return err
	}
	if present, err := e.Present(ctx, ref); err != nil || present {
		return err
	}
	auth, err := authFor(ref, credentials)
	if err != nil {
		return err
	}
	stream, err := e.client.ImagePull(ctx, ref, client.ImagePullOptions{RegistryAuth: auth})
	if err != nil {
		return e.explainPull(ref, err)
	}
	layers := layerProgress{}
	for message, err := range stream.JSONMessages(ctx) {
		if err != nil {
			return e.explainPull(ref, err)
		}
		if message.Error != nil {
			return e.explainPull(ref, message.Error)
		}
		if percent, known := layers.add(message); known {
			progress(percent)
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	present, err := e.Present(ctx, ref)
	if err == nil && !present {
		err = fmt.Errorf("pull %s: the engine ended without an error, but does not have the image", ref)
	}
	return err
}

func (e *Engine) explainPull(ref string, err error) error {
	text := strings.ToLower(err.Error())
	switch {
	case client.IsErrConnectionFailed(err):
		return e.explain("pull "+ref, err)
	case errdefs.IsNotFound(err), strings.Contains(text, "manifest unknown"), strings.Contains(text, "not found"):
		return fmt.Errorf("pull %s: %w: %w", ref, ErrNotFound, err)
	case errdefs.IsUnauthorized(err), errdefs.IsPermissionDenied(err), strings.Contains(text, "unauthorized"), strings.Contains(text, "denied"):
		return fmt.Errorf("pull %s: %w: %w", ref, ErrDenied, err)
	}
	return fmt.Errorf("pull %s: %w", ref, err)
}

// layerProgress adds up what the engine says of each layer: current and total bytes.
type layerProgress map[string][2]int64

func (l layerProgress) add(m jsonstream.Message) (percent int, known bool) {
	switch m.Status {
	case "Downloading":
		if m.Progress == nil || m.Progress.Total <= 0 {
			return 0, false
		}
		l[m.ID] = [2]int64{m.Progress.Current, m.Progress.Total}
	case "Download complete", "Pull complete":
		layer := l[m.ID]
		l[m.ID] = [2]int64{layer[1], layer[1]}
	default:
		return 0, false
	}
	var current, total int64
	for _, layer := range l {
		current, total = current+layer[0], total+layer[1]
	}
	if total == 0 {
		return 0, false
	}
	return int(100 * current / total), true
}

// hubKey is what Docker's configuration calls the Docker Hub.
const hubKey = "https://index.docker.io/v1/"

// authFor picks the credentials for an image's registry out of a dockerconfigjson.
func authFor(ref string, credentials []byte) (string, error) {
	if len(credentials) == 0 {
		return "", nil
	}
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return "", fmt.Errorf("%q: %w", ref, err)
	}
	var config struct {
		Auths map[string]registry.AuthConfig `json:"auths"`
	}
	if err := json.Unmarshal(credentials, &config); err != nil {
		return "", errors.New("the registry secret is not a dockerconfigjson") // without quoting it
	}
	host := reference.Domain(named)
	for key, auth := range config.Auths {
		if registryHost(key) != host && !(host == "docker.io" && key == hubKey) {
			continue
		}
		if auth.Auth != "" && auth.Username == "" {
			plain, err := base64.StdEncoding.DecodeString(auth.Auth)
			user, password, found := strings.Cut(string(plain), ":")
			if err != nil || !found {
				return "", fmt.Errorf("the registry secret's entry for %s cannot be read", host)
			}
			auth.Username, auth.Password, auth.Auth = user, strings.TrimRight(password, "\x00"), ""
		}
		auth.ServerAddress = host
		return authconfig.Encode(auth)
	}
	return "", nil
}

// registryHost strips what people put around a registry's host in a configuration.
func registryHost(key string) string {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	host, _, _ := strings.Cut(key, "/")
	return host
}
