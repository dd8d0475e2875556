// SPDX-License-Identifier: Apache-2.0

package agentfiles

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPublishAndServe(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f := Open(t.TempDir())
	if _, err := f.Describe("v1.0.0"); !errors.Is(err, ErrUnknown) {
		t.Errorf("before anything is published: %v", err)
	}
	platform, err := f.Publish("v1.0.0", self)
	if err != nil || !strings.HasPrefix(platform, "linux/") {
		t.Fatal(platform, err)
	}
	if _, err := f.Publish("v1.0.0", self); err != nil {
		t.Errorf("the same again: %v", err)
	}
	other := filepath.Join(t.TempDir(), "other")
	content, err := os.ReadFile(self)
	if err == nil {
		err = os.WriteFile(other, append(bytes.Clone(content), 0), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Publish("v1.0.0", other); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("another program of the same version: %v", err)
	}
	for _, version := range []string{"..", "", "a/b", "-x", "v1 0"} {
		if _, err := f.Publish(version, self); err == nil {
			t.Errorf("version %q is accepted", version)
		}
	}
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Publish("v1.0.1", script); err == nil || !strings.Contains(err.Error(), "not a program") {
		t.Errorf("a script: %v", err)
	}
	all, err := f.Describe("v1.0.0")
	if err != nil || len(all) != 1 || all[platform].Size != int64(len(content)) || len(all[platform].SHA256) != 64 {
		t.Errorf("%+v, %v", all, err)
	}
	server := httptest.NewServer(f.Handler())
	defer server.Close()
	get := func(path, span string) (int, []byte, http.Header) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if span != "" {
			request.Header.Set("Range", span)
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, body, answer.Header
	}
	path := Prefix + "v1.0.0/" + fileName(platform)
	if code, body, header := get(path, ""); code != http.StatusOK || !bytes.Equal(body, content) || header.Get("ETag") != `"sha256:`+all[platform].SHA256+`"` {
		t.Errorf("%d, %d bytes, %v", code, len(body), header)
	}
	if code, body, _ := get(path, "bytes=100-"); code != http.StatusPartialContent || !bytes.Equal(body, content[100:]) {
		t.Errorf("range: %d, %d bytes", code, len(body))
	}
	for _, path := range []string{
		Prefix + "v9/" + fileName(platform), Prefix + "v1.0.0/linux-none", Prefix + "v1.0.0/..", Prefix + "..%2f..%2fetc/passwd", Prefix + "v1.0.0/%2e%2e-x",
	} {
		if code, _, _ := get(path, ""); code != http.StatusNotFound {
			t.Errorf("%s: %d", path, code)
		}
	}
}
