// SPDX-License-Identifier: Apache-2.0

package signing_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

const (
	// stepTimeout bounds each step in the browser, on a machine under load.
	stepTimeout = 60 * time.Second
	// narrowest is the narrowest phone, in CSS pixels.
	narrowest = 360
)

// chromium finds the browser, or installs it as the project's scripts do.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	cmd := exec.CommandContext(t.Context(), "../../hack/engine.sh", "need", "chromium")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("this test needs Chromium (Debian and Ubuntu: apt-get install chromium): %v\n%s", err, out)
	}
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// tab is a tab of a real browser in which no script may run.
type tab struct {
	t             *testing.T
	ctx           context.Context
	prefix        string // of screenshots
	dir           string
	width, height int64
	mobile        bool

	shots int

	mu      sync.Mutex
	blocked []string // what the browser said about the content security policy
}

func newTab(t *testing.T, prefix, language string, width, height int64, mobile bool) *tab {
	t.Helper()
	w := &tab{t: t, prefix: prefix, width: width, height: height, mobile: mobile, dir: os.Getenv("SIRRAT_SCREENSHOTS")}
	if w.dir == "" {
		w.dir = t.TempDir()
	} else if err := os.MkdirAll(w.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium(t)), chromedp.NoSandbox, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("lang", language), chromedp.Flag("accept-lang", language), chromedp.Flag("disable-dev-shm-usage", true), chromedp.WSURLReadTimeout(stepTimeout))
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	w.ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(func() {
		_ = chromedp.Cancel(w.ctx) // waits for the browser to end, so that its directory can be removed
		cancel()
	})
	// The first Run starts the browser, which lives as long as that Run's context: not the one of a step.
	if err := chromedp.Do(w.ctx, call(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}), w.size(width, height)); err != nil {
		t.Fatalf("start Chromium: %v", err)
	}
	entries := chromedp.Events(w.ctx, cdplog.EntryAdded)
	go func() {
		for e, err := range entries {
			if err != nil {
				return
			}
			if strings.Contains(e.Entry.Text, "Content Security Policy") {
				w.mu.Lock()
				w.blocked = append(w.blocked, e.Entry.Text)
				w.mu.Unlock()
			}
		}
	}()
	w.run(call(cdplog.Enable, cdp.Empty{}))
	return w
}

// call is an action that sends one command.
func call[P, R any](c cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, c, params)
		return err
	})
}

func (w *tab) size(width, height int64) chromedp.Action[chromedp.Void] {
	return call(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1, Mobile: w.mobile})
}

// media emulates a medium ("" for the screen) and a colour scheme ("" for the machine's).
func (w *tab) media(medium, scheme string) {
	w.t.Helper()
	params := emulation.SetEmulatedMediaParams{Media: medium}
	if scheme != "" {
		params.Features = []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}
	}
	w.run(call(emulation.SetEmulatedMedia, params))
}

func (w *tab) run(steps ...chromedp.Action[chromedp.Void]) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, stepTimeout)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		w.shot("failed")
		w.t.Fatal(err)
	}
}

// see waits for a text on the page.
func (w *tab) see(text string) {
	w.t.Helper()
	w.run(chromedp.WaitVisible(chromedp.Search(fmt.Sprintf(`//body//*[contains(normalize-space(text()), %q)]`, text))))
}

// click loads the page that an element leads to.
func (w *tab) click(selector string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, stepTimeout)
	defer cancel()
	if _, err := chromedp.RunResponse(ctx, chromedp.Click(chromedp.CSS(selector))); err != nil {
		w.shot("failed")
		w.t.Fatalf("click %s: %v", selector, err)
	}
}

// shot keeps a picture of the whole page, and holds it against what a picture can be measured by: nothing scrolls
// sideways, on the narrowest phone either, and nothing was blocked by the content security policy.
func (w *tab) shot(name string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, stepTimeout)
	defer cancel()
	const measure = `document.documentElement.scrollWidth - document.documentElement.clientWidth`
	width := w.width
	if w.mobile {
		width = narrowest
	}
	if err := chromedp.Do(ctx, w.size(width, w.height)); err != nil {
		w.t.Error(err)
		return
	}
	overflow, err := chromedp.Run(ctx, chromedp.Evaluate[int64](measure))
	if err != nil {
		w.t.Error(err)
		return
	}
	if err := chromedp.Do(ctx, w.size(w.width, w.height)); err != nil {
		w.t.Error(err)
		return
	}
	picture, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		w.t.Errorf("picture of %s: %v", name, err)
		return
	}
	w.shots++
	if err := os.WriteFile(filepath.Join(w.dir, fmt.Sprintf("%s-%02d-%s.png", w.prefix, w.shots, name)), picture, 0o600); err != nil {
		w.t.Error(err)
	}
	if overflow > 0 {
		w.t.Errorf("%s scrolls sideways by %d pixels", name, overflow)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.blocked) > 0 {
		w.t.Errorf("%s: the browser blocked %q", name, w.blocked)
	}
}

// TestFrenchOnAPhone accepts with reservations, with every detour.
func TestFrenchOnAPhone(t *testing.T) {
	b := newBench(t)
	p := b.ready()
	w := newTab(t, "phone-fr", "fr-FR", 390, 844, true)
	link := b.server.URL + b.link(alice)
	w.run(chromedp.Navigate(link))
	w.see("Recevoir mon code")
	w.shot("start")
	w.click(`.card button`)
	w.see("Saisissez votre code")
	w.run(chromedp.SendKeys(chromedp.CSS(`#code`), "00000000"))
	w.click(`.card button`)
	w.see("pas le bon code")
	w.shot("wrong-code")
	w.run(chromedp.SendKeys(chromedp.CSS(`#code`), b.code()))
	w.click(`.card button`)
	w.see("Votre décision")
	w.shot("document")

	// Review with nothing filled in, then with half of it.
	w.click(`.decide .primary`)
	w.see("Choisissez une décision")
	w.shot("nothing-chosen")
	w.run(chromedp.Click(chromedp.CSS(`label[for=reserved]`)), chromedp.SendKeys(chromedp.CSS(`#text-1`), "L’export des factures d’avoir est vide.\nVu le 20 novembre."))
	w.click(`.decide .primary`)
	w.see("dites qui corrige")
	w.shot("errors")
	deadline := time.Now().AddDate(0, 1, 0).Format(time.DateOnly)
	w.run(chromedp.SendKeys(chromedp.CSS(`#owner-1`), "DYNORS"), chromedp.SetValue(chromedp.CSS(`#deadline-1`), deadline))
	w.click(`button[value=add]`)
	w.run(chromedp.WaitVisible(chromedp.CSS(`#text-4`)), chromedp.SendKeys(chromedp.CSS(`#text-4`), "Aide en ligne à compléter."),
		chromedp.SendKeys(chromedp.CSS(`#owner-4`), "Client SARL"), chromedp.SetValue(chromedp.CSS(`#deadline-4`), deadline))
	// Return in a field reviews; it does not add a row.
	ctx, cancel := context.WithTimeout(w.ctx, stepTimeout)
	defer cancel()
	if _, err := chromedp.RunResponse(ctx, chromedp.SendKeys(chromedp.CSS(`#owner-4`), kb.Enter)); err != nil {
		t.Fatal(err)
	}
	w.see("Confirmez votre décision")
	w.shot("confirm")
	w.click(`button[value=edit]`)
	w.see("Réserve 4")
	w.shot("edit")
	w.click(`.decide .primary`)
	w.see("Confirmez votre décision")
	w.click(`.primary`)
	w.see("Votre décision est signée")
	w.shot("done")
	w.media("", "dark")
	w.shot("done-dark")
	if got := b.read(p).Status; got.Decision != v1alpha1.PVAcceptedWithReservations || len(got.Reservations) != 2 || got.SignedBy != alice {
		t.Errorf("status %+v", got)
	}

	other := newTab(t, "phone-fr-other", "fr-FR", 390, 844, true)
	other.run(chromedp.Navigate(link))
	other.see("Ce lien ne fonctionne pas")
	other.shot("used")
	other.run(chromedp.Navigate(b.server.URL + b.link(bob)))
	other.see("déjà reçu une décision")
	other.shot("second-signatory")
}

// TestEnglishOnADesktop refuses, then finds the link expired.
func TestEnglishOnADesktop(t *testing.T) {
	b := newBench(t)
	p := b.ready()
	w := newTab(t, "desktop-en", "en-GB", 1280, 900, false)
	link := b.server.URL + b.link(bob)
	w.run(chromedp.Navigate(link))
	w.see("Recevoir mon code")
	w.click(`nav a`)
	w.see("Send me my code")
	w.shot("start")
	w.click(`.card button`)
	w.see("Enter your code")
	w.shot("enter")
	w.run(chromedp.SendKeys(chromedp.CSS(`#code`), b.code()))
	w.click(`.card button`)
	w.see("Your decision")
	w.shot("document")
	w.run(chromedp.Click(chromedp.CSS(`label[for=refused]`)))
	w.click(`.decide .primary`)
	w.see("A refusal needs a reason")
	w.shot("errors")
	w.media("", "dark")
	w.shot("errors-dark")
	w.media("", "")
	w.run(chromedp.SendKeys(chromedp.CSS(`#reason`), "Invoices cannot be exported: the file is empty."))
	w.click(`.decide .primary`)
	w.see("Confirm your decision")
	w.shot("confirm")
	w.click(`.primary`)
	w.see("Your decision is signed")
	w.shot("done")
	w.media("print", "")
	w.shot("done-print")
	w.media("", "")
	if got := b.read(p).Status; got.Decision != v1alpha1.PVRefused || got.SignedBy != bob || got.Reason == "" {
		t.Errorf("status %+v", got)
	}
	b.clock.advance(400 * time.Hour)
	w.run(chromedp.Reload())
	w.see("This link does not work")
	w.shot("expired")
}
