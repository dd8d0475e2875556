// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	clientscheme "k8s.io/client-go/kubernetes/scheme"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// TestBridge: the demo's objects have no unknown field, the four environments in order, and the four gates.
func TestBridge(t *testing.T) {
	bridge := newBridge()
	for i := range bridge {
		bridge[i].Port, bridge[i].Stack = 18080+i, "sirrat-demo-test-"+bridge[i].Name
	}
	text, err := renderBridge("127.0.0.1:5000/supergest/backend", "-----BEGIN PUBLIC KEY-----\nAA==\n-----END PUBLIC KEY-----\n", bridge)
	if err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	documents := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	var environments, gates []string
	after := ""
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		object, _, err := decoder.Decode(document, nil, nil)
		if err != nil {
			t.Fatalf("%v\n%s", err, document)
		}
		switch o := object.(type) {
		case *v1alpha1.Environment:
			if o.Spec.After != after {
				t.Errorf("environment %s comes after %q, want %q", o.Name, o.Spec.After, after)
			}
			after = o.Name
			environments = append(environments, o.Name)
		case *v1alpha1.QualityGate:
			gates = append(gates, o.Name+" guards "+o.Spec.Environment)
		}
	}
	if got, want := strings.Join(environments, " "), "dev rmoa-dynors rmoa-client production"; got != want {
		t.Errorf("environments %s, want %s", got, want)
	}
	want := "ci guards dev, qa guards rmoa-dynors, client guards rmoa-client, production guards production"
	if got := strings.Join(gates, ", "); got != want {
		t.Errorf("gates: %s, want %s", got, want)
	}
}

func TestJoinLine(t *testing.T) {
	for out, want := range map[string]string{
		"sirrat-agent join https://h:6443 --token a.b --ca-hash sha256:c\n":     "sirrat-agent join https://h:6443 --token a.b --ca-hash sha256:c",
		"On that server:\n  sudo sirrat-agent join https://h --token a --x y\n": "sirrat-agent join https://h --token a --x y",
		"nothing to paste": "",
	} {
		if got, err := joinLine(out); got != want || (err != nil) != (want == "") {
			t.Errorf("joinLine(%q) = %q, %v; want %q", out, got, err, want)
		}
	}
}

// TestImages: the same commit gives the same digest, another commit or a broken build another.
func TestImages(t *testing.T) {
	digest := func(commit string, broken bool) string {
		image, err := buildImage([]byte("program"), "amd64", commit, broken)
		if err != nil {
			t.Fatal(err)
		}
		d, err := image.Digest()
		if err != nil {
			t.Fatal(err)
		}
		config, err := image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if len(config.RootFS.DiffIDs) != 2 || config.Config.User != nobody {
			t.Errorf("configuration %+v", config)
		}
		return d.String()
	}
	first := digest("a", false)
	if again := digest("a", false); again != first {
		t.Errorf("the same image has digests %s and %s", first, again)
	}
	if digest("b", false) == first || digest("a", true) == first {
		t.Error("different images have the same digest")
	}
}

func TestAwait(t *testing.T) {
	never := func(context.Context) (string, bool, error) { return "a dog", false, nil }
	err := await(t.Context(), time.Millisecond, "a cat", never)
	var u *unmet
	if !errors.As(err, &u) || u.seen != "a dog" || u.expected != "a cat" {
		t.Errorf("await gave %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := await(ctx, time.Hour, "a cat", never); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted, await gave %v", err)
	}
	// What holds at the first look holds even when the time is over.
	if err := await(t.Context(), 0, "a cat", func(context.Context) (string, bool, error) { return "", true, nil }); err != nil {
		t.Errorf("await gave %v", err)
	}
}

func TestTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte("1\n2\n3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := tail(path, 2); got != "2\n3" {
		t.Errorf("tail gave %q", got)
	}
	if got := tail(path+".none", 2); !strings.Contains(got, "no such file") {
		t.Errorf("tail of no file gave %q", got)
	}
}
