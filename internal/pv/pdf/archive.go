// SPDX-License-Identifier: Apache-2.0

package pdf

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // the colour profile
	"encoding/xml"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"codeberg.org/go-pdf/fpdf"

	"gitlab.com/dynors/sirrat/internal/pv"
)

// producer is fixed: a version in it would change the bytes of every PDF with every release of SIRRAT.
const producer = "SIRRAT"

//go:embed srgb.icc
var srgb []byte

var errConform = errors.New("the PDF library wrote something unexpected")

// describe sets the metadata and the output intent that PDF/A wants.
func (s *sheet) describe(d pv.Document, at time.Time) {
	at = printable(at)
	title := name(string(s.w.title) + " " + d.ProjectName + " " + versionOf(d))
	s.f.SetTitle(title, true)
	s.f.SetProducer(producer, true)
	s.f.SetCreationDate(at)
	s.f.SetModificationDate(at)
	s.f.SetLang(s.w.language)
	s.f.SetXmpMetadata(xmp(title, s.w.language, at))
	s.f.AddOutputIntent(fpdf.OutputIntentType{
		SubtypeIdent: fpdf.OutputIntent_GTS_PDFA1, OutputConditionIdentifier: "sRGB", Info: "sRGB IEC61966-2.1", ICCProfile: srgb,
	})
}

// printable replaces a time that PDF dates cannot hold; the library would put the clock's time in place of none.
func printable(t time.Time) time.Time {
	t = t.UTC()
	if t.IsZero() || t.Year() < 1 || t.Year() > 9999 {
		return time.Unix(0, 0).UTC()
	}
	return t
}

// name reduces a text to letters, digits and plain punctuation: metadata are not compressed, and nothing in them shall
// look like PDF or XML to a careless reader.
func name(s string) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n++; n > 120 {
			break
		}
		switch {
		case r == unicode.ReplacementChar, r > 0xffff:
			b.WriteByte(' ')
		case unicode.IsLetter(r), unicode.IsDigit(r), strings.ContainsRune("-_.", r):
			b.WriteRune(r)
		default:
			b.WriteByte(' ')
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

func xmp(title, language string, at time.Time) []byte {
	var escaped strings.Builder
	// A strings.Builder takes everything.
	_ = xml.EscapeText(&escaped, []byte(title))
	const format = `<?xpacket begin="` + "\ufeff" + `" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:pdf="http://ns.adobe.com/pdf/1.3/" xmlns:pdfaid="http://www.aiim.org/pdfa/ns/id/">
<pdfaid:part>2</pdfaid:part>
<pdfaid:conformance>B</pdfaid:conformance>
<dc:format>application/pdf</dc:format>
<dc:title><rdf:Alt><rdf:li xml:lang="x-default">%s</rdf:li></rdf:Alt></dc:title>
<dc:language><rdf:Bag><rdf:li>%s</rdf:li></rdf:Bag></dc:language>
<pdf:Producer>%s</pdf:Producer>
<xmp:CreateDate>%[4]s</xmp:CreateDate>
<xmp:ModifyDate>%[4]s</xmp:ModifyDate>
</rdf:Description>
</rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>`
	return fmt.Appendf(nil, format, escaped.String(), language, producer, at.Format("2006-01-02T15:04:05Z"))
}

// conform mends what the library writes: spaces in place of a tree of attachments and of a transparency group per page,
// both without use and unwanted in PDF/A; the tag of a subset in the names of the fonts. All keep their length, so that
// the cross-reference table stays true.
func conform(b []byte) ([]byte, error) {
	attachments := []byte("/Names <<\n/EmbeddedFiles << /Names [\n  \n] >>\n>>")
	if bytes.Count(b, attachments) != 1 {
		return nil, fmt.Errorf("%w: tree of attachments", errConform)
	}
	b = bytes.Replace(b, attachments, bytes.Repeat([]byte(" "), len(attachments)), 1)
	group := []byte("/Group <</Type /Group /S /Transparency /CS /DeviceRGB>>")
	b = bytes.ReplaceAll(b, group, bytes.Repeat([]byte(" "), len(group)))
	b = bytes.ReplaceAll(b, []byte("/utf8xx+"), []byte("/SIRRAT+"))
	return mendTrailer(b)
}

// trailerOf matches the trailer that the library writes behind the cross-reference table.
var trailerOf = regexp.MustCompile(`\ntrailer\n<<\n/Size \d+\n/Root (\d+) 0 R\n/Info \d+ 0 R\n>>\nstartxref\n\d+\n%%EOF\n$`)

// mendTrailer adds the document ID, which the library leaves out, and lets Info point at the information dictionary: with
// an output intent, the library points at the colour profile, which it writes between Info and Root.
func mendTrailer(b []byte) ([]byte, error) {
	m := trailerOf.FindSubmatchIndex(b)
	if m == nil {
		return nil, fmt.Errorf("%w: trailer", errConform)
	}
	root, err := strconv.Atoi(string(b[m[2]:m[3]]))
	if err != nil {
		return nil, fmt.Errorf("%w: trailer: %w", errConform, err)
	}
	info := root - 2
	if !bytes.Contains(b, fmt.Appendf(nil, "\n%d 0 obj\n<<\n/Producer ", info)) {
		return nil, fmt.Errorf("%w: information dictionary", errConform)
	}
	sum := sha256.Sum256(b)
	id := sum[:16]
	end := bytes.LastIndex(b, []byte("/Info "))
	tail := bytes.Index(b[end:], []byte("\n"))
	out := bytes.Clone(b[:end])
	out = fmt.Appendf(out, "/Info %d 0 R\n/ID [<%x> <%x>]", info, id, id)
	return append(out, b[end+tail:]...), nil
}
