// SPDX-License-Identifier: Apache-2.0

package signing_test

import (
	"context"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/page/pagetest"
)

// TestFrenchOnAPhone accepts with reservations, with every detour.
func TestFrenchOnAPhone(t *testing.T) {
	b := newBench(t)
	p := b.ready()
	w := pagetest.NewTab(t, "phone-fr", "fr-FR", 390, 844, true)
	link := b.server.URL + b.link(alice)
	w.Run(chromedp.Navigate(link))
	w.See("Recevoir mon code")
	w.Shot("start")
	w.Click(`.card button`)
	w.See("Saisissez votre code")
	w.Run(chromedp.SendKeys(chromedp.CSS(`#code`), "00000000"))
	w.Click(`.card button`)
	w.See("pas le bon code")
	w.Shot("wrong-code")
	w.Run(chromedp.SendKeys(chromedp.CSS(`#code`), b.code()))
	w.Click(`.card button`)
	w.See("Votre décision")
	w.Shot("document")

	// Review with nothing filled in, then with half of it.
	w.Click(`.decide .primary`)
	w.See("Choisissez une décision")
	w.Shot("nothing-chosen")
	w.Run(chromedp.Click(chromedp.CSS(`label[for=reserved]`)), chromedp.SendKeys(chromedp.CSS(`#text-1`), "L’export des factures d’avoir est vide.\nVu le 20 novembre."))
	w.Click(`.decide .primary`)
	w.See("dites qui corrige")
	w.Shot("errors")
	deadline := time.Now().AddDate(0, 1, 0).Format(time.DateOnly)
	w.Run(chromedp.SendKeys(chromedp.CSS(`#owner-1`), "DYNORS"), chromedp.SetValue(chromedp.CSS(`#deadline-1`), deadline))
	w.Click(`button[value=add]`)
	w.Run(chromedp.WaitVisible(chromedp.CSS(`#text-4`)), chromedp.SendKeys(chromedp.CSS(`#text-4`), "Aide en ligne à compléter."),
		chromedp.SendKeys(chromedp.CSS(`#owner-4`), "Client SARL"), chromedp.SetValue(chromedp.CSS(`#deadline-4`), deadline))
	// Return in a field reviews; it does not add a row.
	ctx, cancel := context.WithTimeout(w.Context, pagetest.StepTimeout)
	defer cancel()
	if _, err := chromedp.RunResponse(ctx, chromedp.SendKeys(chromedp.CSS(`#owner-4`), kb.Enter)); err != nil {
		t.Fatal(err)
	}
	w.See("Confirmez votre décision")
	w.Shot("confirm")
	w.Click(`button[value=edit]`)
	w.See("Réserve 4")
	w.Shot("edit")
	w.Click(`.decide .primary`)
	w.See("Confirmez votre décision")
	w.Click(`.primary`)
	w.See("Votre décision est signée")
	w.Shot("done")
	w.Media("", "dark")
	w.Shot("done-dark")
	if got := b.read(p).Status; got.Decision != v1alpha1.PVAcceptedWithReservations || len(got.Reservations) != 2 || got.SignedBy != alice {
		t.Errorf("status %+v", got)
	}

	other := pagetest.NewTab(t, "phone-fr-other", "fr-FR", 390, 844, true)
	other.Run(chromedp.Navigate(link))
	other.See("Ce lien ne fonctionne pas")
	other.Shot("used")
	other.Run(chromedp.Navigate(b.server.URL + b.link(bob)))
	other.See("déjà reçu une décision")
	other.Shot("second-signatory")
}

// TestEnglishOnADesktop refuses, then finds the link expired.
func TestEnglishOnADesktop(t *testing.T) {
	b := newBench(t)
	p := b.ready()
	w := pagetest.NewTab(t, "desktop-en", "en-GB", 1280, 900, false)
	link := b.server.URL + b.link(bob)
	w.Run(chromedp.Navigate(link))
	w.See("Recevoir mon code")
	w.Click(`nav a`)
	w.See("Send me my code")
	w.Shot("start")
	w.Click(`.card button`)
	w.See("Enter your code")
	w.Shot("enter")
	w.Run(chromedp.SendKeys(chromedp.CSS(`#code`), b.code()))
	w.Click(`.card button`)
	w.See("Your decision")
	w.Shot("document")
	w.Run(chromedp.Click(chromedp.CSS(`label[for=refused]`)))
	w.Click(`.decide .primary`)
	w.See("A refusal needs a reason")
	w.Shot("errors")
	w.Media("", "dark")
	w.Shot("errors-dark")
	w.Media("", "")
	w.Run(chromedp.SendKeys(chromedp.CSS(`#reason`), "Invoices cannot be exported: the file is empty."))
	w.Click(`.decide .primary`)
	w.See("Confirm your decision")
	w.Shot("confirm")
	w.Click(`.primary`)
	w.See("Your decision is signed")
	w.Shot("done")
	w.Media("print", "")
	w.Shot("done-print")
	w.Media("", "")
	if got := b.read(p).Status; got.Decision != v1alpha1.PVRefused || got.SignedBy != bob || got.Reason == "" {
		t.Errorf("status %+v", got)
	}
	b.clock.advance(400 * time.Hour)
	w.Run(chromedp.Reload())
	w.See("This link does not work")
	w.Shot("expired")
}
