// SPDX-License-Identifier: Apache-2.0

// Package pagetest looks at the server's pages in a real browser, in tests.
package pagetest

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
)

const (
	// StepTimeout bounds each step in the browser, on a machine under load.
	StepTimeout = 60 * time.Second
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
	cmd := exec.CommandContext(t.Context(), filepath.Join(root(t), "hack", "engine.sh"), "need", "chromium")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("this test needs Chromium (Debian and Ubuntu: apt-get install chromium): %v\n%s", err, out)
	}
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// root is the folder of the project's go.mod.
func root(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for parent := filepath.Dir(dir); parent != dir; dir, parent = parent, filepath.Dir(parent) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
	}
	t.Fatal("no go.mod above the test")
	return ""
}

// Tab is a tab of a real browser in which no script may run.
type Tab struct {
	// Context of the tab, for actions of chromedp.
	Context       context.Context
	t             *testing.T
	prefix        string // of screenshots
	dir           string
	width, height int64
	mobile        bool

	shots int

	mu      sync.Mutex
	blocked []string // what the browser said about the content security policy
}

// NewTab opens one in a browser of its own. Pictures of pages begin with prefix and go to $SIRRAT_SCREENSHOTS, else to a folder
// that is removed.
func NewTab(t *testing.T, prefix, language string, width, height int64, mobile bool) *Tab {
	t.Helper()
	w := &Tab{t: t, prefix: prefix, width: width, height: height, mobile: mobile, dir: os.Getenv("SIRRAT_SCREENSHOTS")}
	if w.dir == "" {
		w.dir = t.TempDir()
	} else if err := os.MkdirAll(w.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium(t)), chromedp.NoSandbox, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("lang", language), chromedp.Flag("accept-lang", language), chromedp.Flag("disable-dev-shm-usage", true), chromedp.WSURLReadTimeout(StepTimeout))
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	w.Context, cancel = chromedp.NewContext(ctx)
	t.Cleanup(func() {
		_ = chromedp.Cancel(w.Context) // waits for the browser to end, so that its directory can be removed
		cancel()
	})
	// The first Run starts the browser, which lives as long as that Run's context: not the one of a step.
	if err := chromedp.Do(w.Context, call(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}), w.size(width, height)); err != nil {
		t.Fatalf("start Chromium: %v", err)
	}
	entries := chromedp.Events(w.Context, cdplog.EntryAdded)
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
	w.Run(call(cdplog.Enable, cdp.Empty{}))
	return w
}

// call is an action that sends one command.
func call[P, R any](c cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, c, params)
		return err
	})
}

func (w *Tab) size(width, height int64) chromedp.Action[chromedp.Void] {
	return call(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1, Mobile: w.mobile})
}

// Media emulates a medium ("" for the screen) and a colour scheme ("" for the machine's).
func (w *Tab) Media(medium, scheme string) {
	w.t.Helper()
	params := emulation.SetEmulatedMediaParams{Media: medium}
	if scheme != "" {
		params.Features = []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}
	}
	w.Run(call(emulation.SetEmulatedMedia, params))
}

// Run takes steps, and fails the test when one cannot be taken in time.
func (w *Tab) Run(steps ...chromedp.Action[chromedp.Void]) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.Context, StepTimeout)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		w.Shot("failed")
		w.t.Fatal(err)
	}
}

// See waits for a text on the page.
func (w *Tab) See(text string) {
	w.t.Helper()
	w.Run(chromedp.WaitVisible(chromedp.Search(fmt.Sprintf(`//body//*[contains(normalize-space(text()), %q)]`, text))))
}

// Click loads the page that an element leads to.
func (w *Tab) Click(selector string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.Context, StepTimeout)
	defer cancel()
	if _, err := chromedp.RunResponse(ctx, chromedp.Click(chromedp.CSS(selector))); err != nil {
		w.Shot("failed")
		w.t.Fatalf("click %s: %v", selector, err)
	}
}

// Shot keeps a picture of the whole page, and holds it against what a picture can be measured by: nothing scrolls
// sideways, on the narrowest phone either, and nothing was blocked by the content security policy.
func (w *Tab) Shot(name string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.Context, StepTimeout)
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
