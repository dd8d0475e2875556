// SPDX-License-Identifier: Apache-2.0

package portal

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"gitlab.com/dynors/sirrat/internal/cli/inert"
	"gitlab.com/dynors/sirrat/internal/page"
)

// maxText bounds one text of a page, in characters. The whole of it is in the objects.
const maxText = 2000

// hidden stands for what readers of a page are not to know.
const hidden = "•••"

var (
	urls   = regexp.MustCompile(`(?i)\b([a-z][a-z0-9+.\-]*://)[^\s"'<>]*[^\s"'<>().,;:]`)
	emails = regexp.MustCompile(`[\pL\pN._%+\-]+@[\pL\pN\-]+(\.[\pL\pN\-]+)+`)
	words  = regexp.MustCompile(`[0-9A-Za-z_.:%\[\]\-]+`)
	ipv4   = regexp.MustCompile(`[0-9]{1,3}(\.[0-9]{1,3}){3}(:[0-9]+)?`)
)

// hider makes a text fit to be shown: nothing in it has an effect, e-mail addresses are masked, and addresses of servers, as
// URLs, as IP addresses or as the given names, are gone. Names that are no addresses stay: "vps-2" leads nowhere.
func hider(servers []string) func(string) string {
	servers = slices.DeleteFunc(slices.Clone(servers), func(s string) bool { return !strings.Contains(s, ".") })
	slices.SortFunc(servers, func(a, b string) int { return len(b) - len(a) }) // a name that another begins with comes later
	var pairs []string
	for _, s := range servers {
		pairs = append(pairs, s, hidden)
	}
	names := strings.NewReplacer(pairs...)
	return func(s string) string {
		s = urls.ReplaceAllString(s, "${1}"+hidden)
		s = emails.ReplaceAllStringFunc(s, page.Mask)
		s = words.ReplaceAllStringFunc(names.Replace(s), hideAddress)
		if utf8.RuneCountInString(s) > maxText {
			s = string([]rune(s)[:maxText]) + "…"
		}
		return inert.Text(s)
	}
}

// hideAddress hides an IP address, with its port if there is one; what is none stays.
func hideAddress(word string) string {
	text := strings.TrimRight(word, ".:")
	rest := word[len(text):]
	if _, err := netip.ParseAddrPort(text); err == nil {
		return hidden + rest
	}
	if _, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return hidden + rest
	}
	return ipv4.ReplaceAllString(word, hidden)
}
