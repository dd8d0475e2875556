// SPDX-License-Identifier: Apache-2.0

package sbom_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"gitlab.com/dynors/sirrat/internal/sbom"
)

var (
	digest = "sha256:" + strings.Repeat("a", 64)
	child  = "sha256:" + strings.Repeat("b", 64)
	other  = "sha256:" + strings.Repeat("c", 64)
)

const (
	cyclone = "application/vnd.cyclonedx+json"
	spdx    = "application/spdx+json"
	bundle  = "application/vnd.dev.sigstore.bundle.v0.3+json"
	attest  = "application/vnd.dsse.envelope.v1+json"
)

func bom(about string, components string) string {
	subject := ""
	if about != "" {
		subject = fmt.Sprintf(`"metadata":{"component":{"type":"container","name":"backend","version":%q}},`, about)
	}
	return fmt.Sprintf(`{"bomFormat":"CycloneDX","specVersion":"1.6",%s"components":[%s]}`, subject, components)
}

const one = `{"type":"library","name":"x","version":"1"}`

func stated(about, predicateType, predicate string) string {
	payload := fmt.Sprintf(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":%q}}],"predicateType":%q,"predicate":%s}`,
		strings.TrimPrefix(about, "sha256:"), predicateType, predicate)
	return fmt.Sprintf(`{"mediaType":%q,"dsseEnvelope":%s}`, bundle, enveloped(payload))
}

// attested is a statement as cosign 2 keeps it.
func attested(about, predicateType, predicate string) string {
	var frame struct{ DSSEEnvelope json.RawMessage }
	if err := json.Unmarshal([]byte(stated(about, predicateType, predicate)), &frame); err != nil {
		panic(err)
	}
	return string(frame.DSSEEnvelope)
}

func enveloped(payload string) string {
	return fmt.Sprintf(`{"payloadType":"application/vnd.in-toto+json","payload":%q,"signatures":[]}`, base64.StdEncoding.EncodeToString([]byte(payload)))
}

// described is an SPDX document about an image of which a package says something.
func described(says string) string {
	return `{"spdxVersion":"SPDX-2.3","packages":[{"SPDXID":"image","name":"backend",` + says + `},{"SPDXID":"x","versionInfo":"` + other + `"}],` +
		`"relationships":[{"spdxElementId":"SPDXRef-DOCUMENT","relationshipType":"DESCRIBES","relatedSpdxElement":"image"}]}`
}

func TestRead(t *testing.T) {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := z.Write([]byte(bom("", one))); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	packages := `{"spdxVersion":"SPDX-2.3","packages":[{"name":"x"},{"name":"y"}]}`
	for what, c := range map[string]struct {
		typ, content string
		want         sbom.Bill
		says         string
	}{
		"CycloneDX":                        {cyclone, bom("", one), sbom.Bill{Format: "cyclonedx-json", Components: 1}, ""},
		"CycloneDX of the image":           {cyclone, bom(digest, one), sbom.Bill{Format: "cyclonedx-json", Components: 1}, ""},
		"CycloneDX of one platform":        {cyclone, bom(child, one), sbom.Bill{Format: "cyclonedx-json", Components: 1}, ""},
		"CycloneDX of another image":       {cyclone, bom(other, one), sbom.Bill{}, "about another image"},
		"CycloneDX without components":     {cyclone, bom("", ""), sbom.Bill{}, "no component"},
		"CycloneDX in XML":                 {"application/vnd.cyclonedx+xml", `<bom xmlns="http://cyclonedx.org/schema/bom/1.6"><components><component type="library"><name>x</name></component></components></bom>`, sbom.Bill{Format: "cyclonedx-xml", Components: 1}, ""},
		"SPDX":                             {spdx, packages, sbom.Bill{Format: sbom.SPDX, Components: 2}, ""},
		"SPDX of nothing but the image":    {spdx, strings.Replace(described(`"versionInfo":"`+digest+`"`), `,{"SPDXID":"x","versionInfo":"`+other+`"}`, "", 1), sbom.Bill{}, "no package"},
		"SPDX that describes each package": {spdx, `{"spdxVersion":"SPDX-2.2","documentDescribes":["x","y"],"packages":[{"SPDXID":"x"},{"SPDXID":"y"}]}`, sbom.Bill{Format: sbom.SPDX, Components: 2}, ""},
		"SPDX of the image (Syft)":         {spdx, described(`"versionInfo":"` + digest + `"`), sbom.Bill{Format: sbom.SPDX, Components: 1}, ""},
		"SPDX of a platform (Trivy)":       {spdx, described(`"externalRefs":[{"referenceLocator":"pkg:oci/backend@sha256%3A` + child[7:] + `?arch=amd64"}]`), sbom.Bill{Format: sbom.SPDX, Components: 1}, ""},
		"SPDX of an image by two names":    {spdx, described(`"versionInfo":"` + other + `","attributionTexts":["ImageID: ` + other + `","RepoDigest: r/backend@` + digest + `"]`), sbom.Bill{Format: sbom.SPDX, Components: 1}, ""},
		"SPDX of another image":            {spdx, described(`"versionInfo":"` + other + `"`), sbom.Bill{}, "about another image: " + other},
		"SPDX of another image (purl)":     {spdx, described(`"externalRefs":[{"referenceLocator":"pkg:oci/backend@sha256%3a` + other[7:] + `"}]`), sbom.Bill{}, "about another image"},
		"SPDX of another image (inverse)": {spdx, strings.Replace(described(`"versionInfo":"`+other+`"`), `"spdxElementId":"SPDXRef-DOCUMENT","relationshipType":"DESCRIBES","relatedSpdxElement":"image"`,
			`"spdxElementId":"image","relationshipType":"DESCRIBED_BY","relatedSpdxElement":"SPDXRef-DOCUMENT"`, 1), sbom.Bill{}, "about another image"},
		"SPDX of another image (docker)": {spdx, described(`"externalRefs":[{"referenceLocator":"pkg:docker/backend@sha256:` + other[7:] + `"}]`), sbom.Bill{}, "about another image"},
		"SPDX of another image (list)": {spdx, strings.Replace(described(`"versionInfo":"`+other+`"`), `"relationships":[{"spdxElementId":"SPDXRef-DOCUMENT","relationshipType":"DESCRIBES","relatedSpdxElement":"image"}]`,
			`"documentDescribes":["image"]`, 1), sbom.Bill{}, "about another image"},
		// What others describe, and what the document does but describe, are components like any.
		"SPDX with other relations": {spdx, strings.Replace(described(`"versionInfo":"`+digest+`"`), `"relationships":[`, `"relationships":[`+
			`{"spdxElementId":"image","relationshipType":"DESCRIBES","relatedSpdxElement":"x"},{"spdxElementId":"SPDXRef-DOCUMENT","relationshipType":"CONTAINS","relatedSpdxElement":"x"},`+
			`{"spdxElementId":"x","relationshipType":"DESCRIBED_BY","relatedSpdxElement":"image"},{"spdxElementId":"x","relationshipType":"CONTAINED_BY","relatedSpdxElement":"SPDXRef-DOCUMENT"},`, 1),
			sbom.Bill{Format: sbom.SPDX, Components: 1}, ""},
		// Digests of something else than a manifest name no image.
		"SPDX of an image by its configuration": {spdx, described(`"versionInfo":"1.0","attributionTexts":["ImageID: ` + other + `"],"externalRefs":[{"referenceLocator":"pkg:generic/x?checksum=` + other + `"}]`),
			sbom.Bill{Format: sbom.SPDX, Components: 1}, ""},
		"stated SPDX of another image":  {bundle, stated(digest, "https://spdx.dev/Document", described(`"versionInfo":"`+other+`"`)), sbom.Bill{}, "about another image"},
		"SPDX without packages":         {spdx, `{"spdxVersion":"SPDX-2.3","packages":[]}`, sbom.Bill{}, "no package"},
		"SPDX of a later version":       {spdx, `{"spdxVersion":"SPDX-3.0","packages":[{}]}`, sbom.Bill{}, "attach 2.2 or 2.3"},
		"SPDX with other packages":      {spdx, `{"spdxVersion":"SPDX-2.3","packages":[1]}`, sbom.Bill{}, "cannot be read"},
		"stated CycloneDX":              {bundle, stated(digest, "https://cyclonedx.org/bom", bom("", one)), sbom.Bill{Format: "cyclonedx-json", Components: 1}, ""},
		"stated CycloneDX with version": {bundle, stated(digest, "https://cyclonedx.org/bom/v1.6", bom("", one)), sbom.Bill{Format: "cyclonedx-json", Components: 1}, ""},
		"stated SPDX":                   {bundle, stated(digest, "https://spdx.dev/Document", packages), sbom.Bill{Format: sbom.SPDX, Components: 2}, ""},
		"stated of another image":       {bundle, stated(other, "https://cyclonedx.org/bom", bom("", one)), sbom.Bill{}, "another image"},
		"stated nothing":                {bundle, stated(digest, "https://cyclonedx.org/bom", "null"), sbom.Bill{}, "neither"},
		"a signature":                   {bundle, stated(digest, "https://sigstore.dev/cosign/sign/v1", "{}"), sbom.Bill{}, sbom.ErrOther.Error()},
		"of a similar name":             {bundle, stated(digest, "https://cyclonedx.org/bomb", bom("", one)), sbom.Bill{}, sbom.ErrOther.Error()},
		"attested CycloneDX":            {attest, attested(digest, "https://cyclonedx.org/bom", bom("", one)), sbom.Bill{Format: "cyclonedx-json", Components: 1}, ""},
		"attested SPDX":                 {attest, attested(child, "https://spdx.dev/Document", packages), sbom.Bill{Format: sbom.SPDX, Components: 2}, ""},
		"attested by cosign 1":          {attest, attested(digest, "https://cyclonedx.org/bom", `{"Data":`+bom("", one)+`,"Timestamp":""}`), sbom.Bill{Format: "cyclonedx-json", Components: 1}, ""},
		"attested of another image":     {attest, attested(other, "https://cyclonedx.org/bom", bom("", one)), sbom.Bill{}, "another image"},
		"attested, and names another":   {attest, attested(digest, "https://cyclonedx.org/bom", bom(other, one)), sbom.Bill{}, "about another image"},
		"wrapped, and names another":    {attest, attested(digest, "https://cyclonedx.org/bom", `{"Data":`+bom(other, one)+`}`), sbom.Bill{}, "about another image"},
		"attested with a member Data":   {attest, attested(digest, "https://cyclonedx.org/bom", strings.Replace(bom("", one), "{", `{"Data":{},`, 1)), sbom.Bill{Format: "cyclonedx-json", Components: 1}, ""},
		"attested SPDX with Data":       {attest, attested(digest, "https://spdx.dev/Document", strings.Replace(packages, "{", `{"Data":{},`, 1)), sbom.Bill{Format: sbom.SPDX, Components: 2}, ""},
		"attested as something else":    {attest, strings.Replace(attested(digest, "https://cyclonedx.org/bom", bom("", one)), "in-toto", "in-tot", 1), sbom.Bill{}, sbom.ErrOther.Error()},
		"after white space":             {cyclone, "\n\t " + bom("", one), sbom.Bill{Format: "cyclonedx-json", Components: 1}, ""},
		"nothing but white space":       {cyclone, "\n\t ", sbom.Bill{}, "empty"},
		"attested text":                 {attest, attested(digest, "https://spdx.dev/Document", `"SPDXVersion: SPDX-2.3"`), sbom.Bill{}, "neither"},
		"attested faults":               {attest, attested(digest, "https://cosign.sigstore.dev/attestation/vuln/v1", "{}"), sbom.Bill{}, sbom.ErrOther.Error()},
		"attested something unknown":    {attest, `{"payloadType":"text/plain","payload":"e30="}`, sbom.Bill{}, sbom.ErrOther.Error()},
		"attested without a statement":  {attest, enveloped("[]"), sbom.Bill{}, "the statement cannot be read"},
		"attested in no base64":         {attest, `{"payloadType":"application/vnd.in-toto+json","payload":"%"}`, sbom.Bill{}, "the attestation cannot be read"},
		"two attestations":              {attest, enveloped("{}") + enveloped("{}"), sbom.Bill{}, "the attestation cannot be read"},
		"a signature of bytes":          {bundle, `{"messageSignature":{}}`, sbom.Bill{}, sbom.ErrOther.Error()},
		"a broken bundle":               {bundle, `{`, sbom.Bill{}, "cannot be read"},
		"a scan":                        {cyclone, `{"version":"2.1.0","$schema":"x","runs":[{"tool":{"driver":{"name":"x"}},"results":[]}]}`, sbom.Bill{}, "lists no component"},
		"nothing":                       {cyclone, "", sbom.Bill{}, "empty"},
		"compressed":                    {cyclone, zipped.String(), sbom.Bill{}, "neither"},
		"deep":                          {spdx, strings.Repeat(`{"a":`, 50_000), sbom.Bill{}, "nested deeper"},
		"cut off":                       {cyclone, bom("", one)[:60], sbom.Bill{}, "ends before"},
	} {
		got, err := sbom.Read(c.typ, []byte(c.content), []string{digest, child})
		if got != c.want || (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %+v, %v; want %+v, %q", what, got, err, c.want, c.says)
		}
	}
	if _, err := sbom.Read(bundle, []byte(stated(digest, "x", "{}")), []string{digest}); !errors.Is(err, sbom.ErrOther) {
		t.Error(err)
	}
}

func TestWanted(t *testing.T) {
	for typ, want := range map[string]bool{
		cyclone: true, spdx: true, "application/vnd.cyclonedx+xml": true, bundle: true, "application/vnd.dev.cosign.artifact.sbom.v1+json": true, attest: false, cyclone + "; version=1.6": true, "application/vnd.dev.sigstore.bundle+json;version=0.2": true,
		"application/vnd.sirrat.verdict.v1": false, "": false, "text/plain": false,
	} {
		if sbom.Wanted(typ) != want {
			t.Errorf("%q: want %t", typ, want)
		}
	}
}

func TestWantedLayer(t *testing.T) {
	for _, c := range []struct {
		typ, predicate string
		want           bool
	}{
		{attest, "https://cyclonedx.org/bom", true}, {attest, "https://spdx.dev/Document/v2.3", true}, {attest, "", true},
		{attest, "https://cosign.sigstore.dev/attestation/vuln/v1", false}, {attest, "https://cyclonedx.org/bomb", false}, {cyclone, "", false},
	} {
		if sbom.WantedLayer(c.typ, map[string]string{"predicateType": c.predicate}) != c.want {
			t.Errorf("%+v", c)
		}
	}
}

// FuzzRead: whatever is attached, what counts lists something, and is a document in JSON or XML; a statement that counts names the
// image.
func FuzzRead(f *testing.F) {
	packages := `{"spdxVersion":"SPDX-2.3","packages":[{"name":"x"}]}`
	for _, seed := range []struct{ typ, content string }{
		{cyclone, bom(digest, one)}, {cyclone, bom("", one)}, {spdx, packages}, {spdx, described(`"versionInfo":"` + digest + `"`)},
		{"application/vnd.cyclonedx+xml", `<bom xmlns="http://cyclonedx.org/schema/bom/1.6"><components><component type="library"><name>x</name></component></components></bom>`},
		{bundle, stated(digest, "https://cyclonedx.org/bom", bom("", one))}, {bundle, stated(digest, "https://spdx.dev/Document", packages)},
		{attest, attested(digest, "https://cyclonedx.org/bom", bom("", one))}, {attest, attested(digest, "https://cyclonedx.org/bom", `{"Data":`+bom("", one)+`}`)},
	} {
		f.Add(seed.typ, seed.content)
	}
	f.Add("statement", fmt.Sprintf(`{"subject":[{"digest":{"sha256":%q}}],"predicateType":"https://spdx.dev/Document","predicate":%s}`, digest[7:], packages))
	f.Fuzz(func(t *testing.T, typ, content string) {
		statement := content
		if typ == "statement" { // in its frame
			typ, content = bundle, fmt.Sprintf(`{"dsseEnvelope":%s}`, enveloped(content))
		}
		got, err := sbom.Read(typ, []byte(content), []string{digest, child})
		switch {
		case err != nil:
			if got != (sbom.Bill{}) {
				t.Errorf("%v, and %+v", err, got)
			}
		case got.Components < 1 || !slices.Contains([]string{"cyclonedx-json", "cyclonedx-xml", sbom.SPDX}, got.Format):
			t.Errorf("%+v", got)
		case statement != content && !strings.Contains(statement, "\\u") && !strings.Contains(statement, digest[7:]) && !strings.Contains(statement, child[7:]):
			t.Errorf("%+v of another image: %s", got, statement)
		}
	})
}
