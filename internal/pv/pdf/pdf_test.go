// SPDX-License-Identifier: Apache-2.0

package pdf

import (
	"bytes"
	"compress/zlib"
	"crypto/sha256"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"codeberg.org/go-pdf/fpdf"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/pv"
)

// active are names of PDF objects that do something or carry something; none of them may occur outside of text.
var active = regexp.MustCompile(`/(JavaScript|JS|OpenAction|AA|URI|Launch|GoToR|SubmitForm|ImportData|EmbeddedFiles?|Filespec|` +
	`Annots?|RichMedia|AcroForm|XFA|Encrypt|Transparency|SMask|Movie|Sound)\b`)

// parts splits a PDF into the objects without their streams, and the streams as they read uncompressed.
func parts(t testing.TB, b []byte) (objects string, streams []string) {
	t.Helper()
	var out strings.Builder
	for {
		i := bytes.Index(b, []byte("stream\n"))
		if i < 0 {
			out.Write(b)
			return out.String(), streams
		}
		out.Write(b[:i])
		head := b[max(0, i-300):i]
		head = head[max(0, bytes.LastIndex(head, []byte(" obj\n"))):]
		m := regexp.MustCompile(`/Length (\d+)`).FindSubmatch(head)
		if m == nil {
			t.Fatalf("a stream without length after %q", head)
		}
		var n int
		if _, err := fmt.Sscan(string(m[1]), &n); err != nil {
			t.Fatal(err)
		}
		b = b[i+len("stream\n"):]
		data := b[:n]
		if bytes.Contains(head, []byte("/FlateDecode")) {
			r, err := zlib.NewReader(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			if data, err = io.ReadAll(r); err != nil {
				t.Fatal(err)
			}
		}
		streams = append(streams, string(data))
		b = b[n:]
		if !bytes.HasPrefix(b, []byte("\nendstream")) {
			t.Fatalf("a stream does not end where it says: %q", b[:20])
		}
		b = b[len("\nendstream"):]
	}
}

// shown is the text that a PDF draws, one drawn line per line. The strings are UTF-16, as codes of the fonts.
func shown(t testing.TB, b []byte) string {
	t.Helper()
	_, streams := parts(t, b)
	var out strings.Builder
	for _, s := range streams {
		if !strings.Contains(s, " Tj ET") {
			continue
		}
		for _, m := range regexp.MustCompile(`(?s)Td \((.*?)\) Tj ET`).FindAllStringSubmatch(s, -1) {
			raw := regexp.MustCompile(`(?s)\\(.)`).ReplaceAllStringFunc(m[1], func(e string) string {
				return strings.NewReplacer("r", "\r").Replace(e[1:])
			})
			for i := 0; i+1 < len(raw); i += 2 {
				out.WriteRune(rune(raw[i])<<8 | rune(raw[i+1]))
			}
			out.WriteByte('\n')
		}
	}
	return out.String()
}

func joined(text string) string { return strings.Join(strings.Fields(text), "") }

func check(t testing.TB, b []byte) {
	t.Helper()
	objects, _ := parts(t, b)
	if m := active.FindString(objects); m != "" {
		t.Errorf("the PDF has %s", m)
	}
	checkReferences(t, b)
	for _, r := range shown(t, b) {
		if r != '\n' && r != ' ' && r != '\u00a0' && (!unicode.IsPrint(r) || unicode.Is(unicode.M, r)) {
			t.Errorf("the PDF draws %U", r)
		}
	}
}

// checkReferences follows the cross-reference table: the finishing must not have moved anything.
func checkReferences(t testing.TB, b []byte) {
	t.Helper()
	var at int
	i := bytes.LastIndex(b, []byte("startxref\n"))
	if _, err := fmt.Sscan(string(b[i+len("startxref\n"):]), &at); err != nil || !bytes.HasPrefix(b[at:], []byte("xref\n0 ")) {
		t.Fatalf("startxref is wrong: %v", err)
	}
	for n, m := range regexp.MustCompile(`(\d{10}) 00000 n `).FindAllSubmatch(b[at:i], -1) {
		var offset int
		if _, err := fmt.Sscanf(string(m[1]), "%d", &offset); err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("%d 0 obj\n", n+1); !bytes.HasPrefix(b[offset:], []byte(want)) {
			t.Fatalf("object %d is not where the table says", n+1)
		}
	}
}

func mustRender(t testing.TB, d pv.Document) []byte {
	t.Helper()
	b, err := Render(d, hashOfDocument)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustSign(t testing.TB, d pv.Document, s Signed) []byte {
	t.Helper()
	b, err := RenderSigned(d, hashOfDocument, s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRenderShowsEverything(t *testing.T) {
	d := sample("fr")
	b := mustRender(t, d)
	check(t, b)
	got := joined(shown(t, b))
	for _, want := range []string{
		"Procès-verbal de recette", d.Supplier, d.Client, "Jürgen Müller", d.ProjectName, d.Release, d.Version, d.Commit, d.Branch, d.BundleHash,
		d.ReleaseUID, "registry.dynors.com/boutique/api@" + digest("1"), d.Artifacts[0], d.Environment, d.URL, "1.2.4", "pv-boutique-1-2-4",
		"23 août 2026 à 09:30:00 UTC", "œuvres « épuisées »", "(→ n° 412)", "claire.qa, 2026-10-17T09:30:00Z", "scan: aucune vulnérabilité critique",
		"1284", "83,4 %", "47/100", "47/50", "Repenti", "BOUT-530", "La page de suivi", "Équipe front", "15 décembre 2026", hashOfDocument,
		"Recette acceptée avec réserves", "Signature et cachet", "Page1/4", "Page4/4", "Paraphe",
		"boutique-production", "registry.dynors.com/boutique/worker@" + digest("6"), digest("7"), digest("8"), digest("9"), "DATABASE_URL",
	} {
		if !strings.Contains(got, joined(want)) {
			t.Errorf("the PDF does not show %q", want)
		}
	}
}

func TestRenderSignedShowsTheDecision(t *testing.T) {
	for _, c := range []struct {
		decision v1alpha1.PVDecision
		method   string
		want     []string
	}{
		{v1alpha1.PVAccepted, "", []string{"electronic signature by the client’s key", "22 November 2026 at 14:03:07 UTC", digest("c"), digest("d"), digest("e")}},
		{v1alpha1.PVAcceptedWithReservations, v1alpha1.MethodPage, []string{"numéro de pièce", "31 December 2026", "équipe courriels", "h@example.com", "signing page"}},
		{v1alpha1.PVRefused, v1alpha1.MethodPaper, []string{"cartes étrangères", "handwritten", "Hash of the scan", "Hélène Lefèvre, 22 November 2026"}},
	} {
		t.Run(string(c.decision), func(t *testing.T) {
			s := sampleDecision(c.decision)
			s.Method, s.Email = c.method, "h@example.com"
			b := mustSign(t, sample("en"), s)
			check(t, b)
			got := joined(shown(t, b))
			for _, want := range append(c.want, "Hélène Lefèvre", "Acceptance certificate", hashOfDocument) {
				if !strings.Contains(got, joined(want)) {
					t.Errorf("the PDF does not show %q", want)
				}
			}
			if strings.Contains(got, "Initials") || strings.Contains(got, "Tickonebox") {
				t.Error("the PDF asks for a decision that was made")
			}
		})
	}
	if _, err := RenderSigned(sample("en"), hashOfDocument, Signed{Decision: "Perhaps"}); err == nil {
		t.Error("a decision that is none was rendered")
	}
}

func TestWhatIsLiftedLaterDoesNotChangeThePDF(t *testing.T) {
	s := sampleDecision(v1alpha1.PVAcceptedWithReservations)
	before := mustSign(t, sample("fr"), s)
	s.Reservations[0].Lifted = "done"
	if !bytes.Equal(before, mustSign(t, sample("fr"), s)) {
		t.Error("the bytes depend on whether a reservation was lifted")
	}
}

func TestHostileTextsAreInert(t *testing.T) {
	for i, attack := range append(slices.Clone(attacks), strings.Join(attacks, "\n")) {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			d, s := hostile(attack)
			check(t, mustRender(t, d))
			check(t, mustSign(t, d, s))
		})
	}
	d, _ := hostile("a\u202eb \x1b[31m \x00 \xff 😀 \u0634 e\u0301")
	got := shown(t, mustRender(t, d))
	if want := `a\u202eb \x1b[31m \x00 \xff \U0001f600 \u0634 é`; !strings.Contains(got, want) {
		t.Errorf("the PDF does not show %s", want)
	}
}

func TestOversizedTextsAreCutVisibly(t *testing.T) {
	d := sample("fr")
	d.Changes[0].Changelog = strings.Repeat("Un mot, ", 1<<17) + "fin"
	d.KnownDefects = slices.Repeat([]string{"Un défaut."}, maxRows+7)
	b := mustRender(t, d)
	check(t, b)
	got := shown(t, b)
	for _, want := range []string{"texte coupé ici : 1048579 caractères", "et 7 autres, non imprimés", "coupés à l’impression"} {
		if !strings.Contains(joined(got), joined(want)) {
			t.Errorf("the PDF does not say %q", want)
		}
	}
	if len(b) > 400<<10 {
		t.Errorf("%d bytes", len(b))
	}

	attack := strings.Repeat("y\n", 1<<19)
	d, s := hostile(attack)
	d.KnownDefects, d.Signatories, d.Images = slices.Repeat([]string{attack}, 5000), slices.Repeat([]string{attack}, 5000), slices.Repeat([]string{attack}, 5000)
	b = mustSign(t, d, s)
	if n := strings.Count(shown(t, b), "Page "); n > 400 {
		t.Errorf("%d pages", n)
	}
}

func TestLongTextsDoNotCrowdOutTheDecision(t *testing.T) {
	d := sample("fr")
	d.Changes = slices.Repeat([]pv.Change{{Release: "r", Changelog: strings.Repeat("bruit ", 2000)}}, 200)
	d.KnownDefects = append([]string{"Le premier défaut."}, slices.Repeat([]string{strings.Repeat("d ", 3000)}, 190)...)
	s := sampleDecision(v1alpha1.PVAcceptedWithReservations)
	s.Reservations = append(s.Reservations, slices.Repeat([]v1alpha1.Reservation{{Text: strings.Repeat("é", 2000)}}, 61)...)
	s.Reservations = append(s.Reservations, v1alpha1.Reservation{Text: "La dernière réserve."})
	got := shown(t, mustSign(t, d, s))
	for _, want := range []string{"Le premier défaut.", "Équipe front", "La dernière réserve.", s.SignatureHash, s.PDFHash, "Boutique en ligne"} {
		if !strings.Contains(joined(got), joined(want)) {
			t.Errorf("the PDF does not show %q", want)
		}
	}
}

func TestSameBytesAgain(t *testing.T) {
	first := sums(t)
	for range 5 {
		if got := sums(t); got != first {
			t.Fatalf("other bytes:\n%s\n%s", first, got)
		}
	}
	if os.Getenv("PDF_SUMS") != "" {
		fmt.Println(first)
		return
	}
	// Another process has other seeds for its maps, and another time zone must not show.
	command := exec.Command(os.Args[0], "-test.run=^TestSameBytesAgain$")
	command.Env = append(os.Environ(), "PDF_SUMS=1", "TZ=Pacific/Auckland")
	out, err := command.CombinedOutput()
	if err != nil || !strings.Contains(string(out), first) {
		t.Errorf("another process makes other bytes: %v\n%s\nwant %s", err, out, first)
	}
}

func TestConcurrentRenderings(t *testing.T) {
	want := mustRender(t, sample("fr"))
	for range 4 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			for range 5 {
				if !bytes.Equal(want, mustRender(t, sample("fr"))) {
					t.Fatal("other bytes")
				}
			}
		})
	}
}

func sums(t testing.TB) string {
	var list []string
	for _, language := range []string{"fr", "en"} {
		d := sample(language)
		d.Opened = d.Opened.Local()
		list = append(list, fmt.Sprintf("%x", sha256.Sum256(mustRender(t, d))))
		list = append(list, fmt.Sprintf("%x", sha256.Sum256(mustSign(t, d, sampleDecision(v1alpha1.PVRefused)))))
	}
	list = append(list, fmt.Sprintf("%x", sha256.Sum256(mustRender(t, pv.Document{}))))
	return strings.Join(list, " ")
}

// TestStructureOfPDFA checks what can be checked without a validator.
func TestStructureOfPDFA(t *testing.T) {
	b := mustRender(t, sample("fr"))
	objects, streams := parts(t, b)
	if !bytes.HasPrefix(b, []byte("%PDF-1.4\n%")) || !bytes.HasSuffix(b, []byte("%%EOF\n")) {
		t.Error("header or end of file")
	}
	for _, want := range []string{"/S /GTS_PDFA1", "/DestOutputProfile ", "/Metadata ", "/Lang (fr)", "/Title (", "/CreationDate ("} {
		if !strings.Contains(objects, want) {
			t.Errorf("no %s", want)
		}
	}
	if !regexp.MustCompile(`/ID \[<[0-9a-f]{32}> <[0-9a-f]{32}>\]`).MatchString(objects) {
		t.Error("no document ID")
	}
	if fonts, files := strings.Count(objects, "/Type /FontDescriptor"), strings.Count(objects, "/FontFile2 "); fonts != 3 || files != 3 {
		t.Errorf("%d fonts, %d embedded", fonts, files)
	}
	if strings.Contains(objects, "/Subtype /Type1") || strings.Count(objects, "/BaseFont /SIRRAT+") != 6 {
		t.Error("a font is not a tagged subset")
	}
	i := slices.IndexFunc(streams, func(s string) bool { return strings.Contains(s, "xpacket") })
	if i < 0 {
		t.Fatal("no XMP")
	}
	var meta struct {
		Part        string `xml:"RDF>Description>part"`
		Conformance string `xml:"RDF>Description>conformance"`
		Title       string `xml:"RDF>Description>title>Alt>li"`
		Created     string `xml:"RDF>Description>CreateDate"`
	}
	if err := xml.Unmarshal([]byte(streams[i]), &meta); err != nil {
		t.Fatal(err)
	}
	if meta.Part != "2" || meta.Conformance != "B" || meta.Created != "2026-11-01T09:30:00Z" || !strings.Contains(meta.Title, "Œuvres Cie 1.3.0") {
		t.Errorf("XMP says %+v", meta)
	}
	if !slices.Contains(streams, string(srgb)) || string(srgb[36:40]) != "acsp" || string(srgb[16:20]) != "RGB " || srgb[8] > 4 {
		t.Error("the output intent is not our sRGB profile")
	}
}

func TestWordsAreCompleteAndPrintable(t *testing.T) {
	fonts, err := loadFonts(fpdf.New("P", "mm", "A4", ""))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []*words{&french, &english} {
		v := reflect.ValueOf(*w)
		for i := range v.NumField() {
			texts := []string{}
			if v.Field(i).Kind() == reflect.Array {
				texts = append(texts, w.months[:]...)
			} else {
				texts = append(texts, v.Field(i).String())
			}
			for _, text := range texts {
				if text == "" {
					t.Errorf("%s: %s is empty", w.language, v.Type().Field(i).Name)
				}
				for _, r := range text {
					if !fonts.have(r) {
						t.Errorf("%s: no font has %q of %q", w.language, r, text)
					}
				}
			}
		}
	}
	for _, r := range "œŒéèàçùÉÈÀÇ€«»—–→’“”…•°ñßøłžščřőűğşąęαβγЖя½²±≤≥×" {
		if !fonts.have(r) {
			t.Errorf("no font has %q", r)
		}
	}
}

func TestWrap(t *testing.T) {
	fonts, err := loadFonts(fpdf.New("P", "mm", "A4", ""))
	if err != nil {
		t.Fatal(err)
	}
	const w = 30.0
	for _, text := range []string{"", "one", "a b c", strings.Repeat("W", 500), bullet + strings.Repeat("long ", 50), "x " + strings.Repeat("y", 90) + " z\n\nend", "   "} {
		var back strings.Builder
		for _, l := range fonts.wrap(safe(text), cellFace, w) {
			if got := fonts.width(l, cellFace); got > w+0.01 {
				t.Errorf("%q is %.2f mm wide", l, got)
			}
			back.WriteString(l)
		}
		if joined(back.String()) != joined(text) {
			t.Errorf("%q became %q", text, back.String())
		}
	}
}

func TestTimesAndNumbers(t *testing.T) {
	at := time.Date(2026, 8, 1, 23, 59, 1, 0, time.FixedZone("", -3600))
	for got, want := range map[safe]safe{
		french.moment(at): "2 août 2026 à 00:59:01 UTC", english.moment(at): "2 August 2026 at 00:59:01 UTC",
		french.day(at.AddDate(0, 0, -1)): "1er août 2026", french.moment(time.Time{}): "—",
		french.percent(83.456): "83,46\u00a0%", english.percent(100): "100%", english.percent(0): "0%",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func FuzzRender(f *testing.F) {
	for _, a := range attacks {
		f.Add(a, "fr", uint8(0))
	}
	f.Add("text", "en", uint8(3))
	methods := []string{"", v1alpha1.MethodKey, v1alpha1.MethodPage, v1alpha1.MethodPaper}
	f.Fuzz(func(t *testing.T, text, language string, n uint8) {
		text = text[:min(len(text), 2000)]
		d, s := hostile(text)
		d.Language, d.Karma, s.Method = language, int32(n), methods[int(n)%len(methods)]
		d.Opened = time.Unix(int64(len(text))<<(n%50), 0)
		check(t, mustRender(t, d))
		check(t, mustSign(t, d, s))
	})
}

func BenchmarkRender(b *testing.B) {
	d := sample("fr")
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		n = len(mustRender(b, d))
	}
	b.ReportMetric(float64(n), "bytes")
}
