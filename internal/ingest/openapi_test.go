// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/reenrol"
)

// The document says what the program does: the same paths, methods and fields.
func TestOpenAPI(t *testing.T) {
	rec := httptest.NewRecorder()
	if err := getOpenAPI(rec, nil); err != nil {
		t.Fatal(err)
	}
	var doc struct {
		OpenAPI    string
		Paths      map[string]map[string]json.RawMessage
		Components struct {
			Schemas map[string]struct {
				Properties map[string]json.RawMessage
				Required   []string
			}
		}
	}
	if err := json.Unmarshal(rec.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.OpenAPI != "3.1.0" {
		t.Errorf("openapi %q", doc.OpenAPI)
	}
	want, got := map[string][]string{}, map[string][]string{}
	for _, rt := range (&api{}).table() {
		for method := range rt.methods {
			want[rt.pattern] = append(want[rt.pattern], strings.ToLower(method))
		}
	}
	for path, methods := range doc.Paths {
		for method := range methods {
			got[path] = append(got[path], method)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("paths (-program +document):\n%s", diff)
	}

	for name, v := range map[string]any{
		"ResultRequest": ResultRequest{}, "TestsRequest": TestsRequest{}, "VulnerabilitiesRequest": VulnerabilitiesRequest{},
		"DeploymentRequest": DeploymentRequest{}, "Answer": Answer{}, "GateAnswer": GateAnswer{},
		"Returned": v1alpha1.Returned{}, "Problem": Problem{}, "FieldError": FieldError{},
		"ReportsAnswer": ReportsAnswer{}, "ReportAnswer": ReportAnswer{}, "ScanAnswer": ScanAnswer{}, "Proof": reenrol.Proof{}, "CertificateAnswer": reenrol.Answer{}, "HookAnswer": HookAnswer{},
	} {
		var fields, required []string
		typ := reflect.TypeOf(v)
		for i := range typ.NumField() {
			tag, options, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			if tag == "" {
				continue
			}
			fields = append(fields, tag)
			if options == "" {
				required = append(required, tag)
			}
		}
		var documented []string
		for property := range doc.Components.Schemas[name].Properties {
			documented = append(documented, property)
		}
		slices.Sort(fields)
		slices.Sort(documented)
		if diff := cmp.Diff(fields, documented); diff != "" {
			t.Errorf("%s: fields (-program +document):\n%s", name, diff)
		}
		documentedRequired := slices.Clone(doc.Components.Schemas[name].Required)
		slices.Sort(required)
		slices.Sort(documentedRequired)
		if diff := cmp.Diff(required, documentedRequired); diff != "" {
			t.Errorf("%s: required fields (-program +document):\n%s", name, diff)
		}
	}
	checkReferences(t, rec.Body.Bytes())
}

// checkReferences follows every $ref of the document.
func checkReferences(t *testing.T, doc []byte) {
	t.Helper()
	var root any
	if err := json.Unmarshal(doc, &root); err != nil {
		t.Fatal(err)
	}
	var walk func(any)
	walk = func(node any) {
		switch n := node.(type) {
		case map[string]any:
			if ref, ok := n["$ref"].(string); ok {
				at := root
				for _, key := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
					m, _ := at.(map[string]any)
					at = m[key]
				}
				if at == nil {
					t.Errorf("%s leads nowhere", ref)
				}
			}
			for _, child := range n {
				walk(child)
			}
		case []any:
			for _, child := range n {
				walk(child)
			}
		}
	}
	walk(root)
}

func TestNewNeedsItsParts(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("New without a client succeeded")
	}
}

func TestServerIsBounded(t *testing.T) {
	s := NewServer(http.NotFoundHandler(), "127.0.0.1:0")
	if s.ReadHeaderTimeout == 0 || s.WriteTimeout <= MaxWait || s.IdleTimeout == 0 || s.MaxHeaderBytes == 0 {
		t.Errorf("unbounded: %+v", s)
	}
}
