// SPDX-License-Identifier: Apache-2.0

package portal_test

import (
	"testing"

	"github.com/chromedp/chromedp"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/page/pagetest"
)

func TestFrenchOnAPhone(t *testing.T) {
	b := newBench(t)
	w := pagetest.NewTab(t, "phone-fr", "fr-FR", 390, 844, true)
	w.Run(chromedp.Navigate(b.links.Of(b.release)))
	w.See("En attente à la porte client")
	w.Shot("waiting")
	w.Media("", "dark")
	w.Shot("waiting-dark")
	w.Media("", "")
	w.Click(`nav a[hreflang=en]`)
	w.See("Waiting at gate client")
	w.Shot("waiting-en")
	w.Run(chromedp.Navigate(b.links.Of(b.release) + "x"))
	w.See("Ce lien ne fonctionne pas")
	w.Shot("dead")
}

func TestEnglishOnADesktop(t *testing.T) {
	b := newBench(t)
	w := pagetest.NewTab(t, "desktop-en", "en-GB", 1280, 900, false)
	w.Run(chromedp.Navigate(b.links.Of(b.release)))
	w.See("Waiting at gate client")
	w.Shot("waiting")
	w.Media("", "dark")
	w.Shot("waiting-dark")
	w.Media("print", "light")
	w.Shot("waiting-print")
	w.Media("", "")
	w.Click(`nav a[hreflang=fr]`)
	w.See("En attente à la porte client")
	w.Shot("waiting-fr")

	// The client refuses; then all is well.
	b.change(func(st *v1alpha1.ReleaseStatus) {
		st.Gates[2].Verdict, st.Gates[2].WaitingFor, st.Gates[2].Message = v1alpha1.VerdictRefused, nil, "rejected by marie.qa@dynors.com: the export is empty"
		st.Gates[2].Criteria[1] = v1alpha1.CriterionVerdict{Name: "(rejection)", Verdict: v1alpha1.VerdictRefused, Reason: "Rejected", Message: st.Gates[2].Message, Needs: "a new commit, or the rejection is lifted"}
		st.Conditions[0].Reason, st.Next = v1alpha1.ReasonRejected, "back to development: "+st.Gates[2].Message
	})
	w.Click(`footer a`)
	w.See("Rejetée à la porte client")
	w.Shot("refused-fr")
	b.change(func(st *v1alpha1.ReleaseStatus) {
		for i := range st.Gates {
			st.Gates[i].Verdict, st.Gates[i].Message, st.Gates[i].WaitingFor = v1alpha1.VerdictPassed, "every criterion holds", nil
			for j := range st.Gates[i].Criteria {
				st.Gates[i].Criteria[j].Verdict, st.Gates[i].Criteria[j].Needs = v1alpha1.VerdictPassed, ""
			}
		}
		for _, name := range []string{"rmoa-client", "production"} {
			e := st.Environments[1]
			e.Name = name
			st.Environments = append(st.Environments, e)
		}
		st.Karma, st.Level, st.Reached, st.Next = 100, "Code Divin", "production", "healthy in production"
		st.Conditions[0].Reason, st.Conditions = v1alpha1.ReasonCrossed, st.Conditions[:3]
	})
	w.Click(`footer a`)
	w.See("saine dans production")
	w.Shot("crossed-fr")
}
