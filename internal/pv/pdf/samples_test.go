// SPDX-License-Identifier: Apache-2.0

package pdf

import (
	"strings"
	"time"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/pv"
)

const hashOfDocument = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

func digest(c string) string { return "sha256:" + strings.Repeat(c, 64) }

// sample is a document as the controllers make it.
func sample(language string) pv.Document {
	at := time.Date(2026, 11, 1, 9, 30, 0, 0, time.UTC)
	coverage := 83.4
	return pv.Document{
		Title: "Procès-verbal de recette", Language: language, Project: "boutique", ProjectName: "Boutique en ligne — Œuvres & Cie",
		Supplier: "DYNORS SAS", Client: "Société Générale de Meunerie", Signatories: []string{"Hélène Lefèvre", "Jürgen Müller"},
		Release: "boutique-4f2c1a9", ReleaseUID: "0b3f6a52-6c3e-4f0e-9d9b-2b8f0c9a7a11", Version: "1.3.0",
		Commit: "4f2c1a9d0e8b7c6a5f4e3d2c1b0a99887766554f", Branch: "release/1.3", BundleHash: digest("b"),
		Images: []string{
			"api: registry.dynors.com/boutique/api@" + digest("1"),
			"front: registry.dynors.com/boutique/front-office-with-a-long-name@" + digest("2"),
		},
		Artifacts: []string{"com.dynors.boutique:catalogue:1.3.0"}, Environment: "rmoa-client", URL: "https://recette.meunerie.example.com/boutique",
		Previous: &pv.Accepted{
			Release: "boutique-77aa00c", Version: "1.2.4", Commit: "77aa00c1d0e8b7c6a5f4e3d2c1b0a99887766550", PV: "pv-boutique-1-2-4",
			SignedAt: at.AddDate(0, -2, -9),
		},
		Changes: []pv.Change{
			{Release: "boutique-0c11d2e", Version: "1.3.0-rc.1", Commit: "0c11d2e", Changelog: "- Paiement en trois fois (→ n° 412)\n- Export comptable : écritures en €, TVA à 5,5 %\n- Corrige l’arrondi du panier"},
			{Release: "boutique-4f2c1a9", Version: "1.3.0", Commit: "4f2c1a9d0e8b", Changelog: "- Corrige l’affichage des œuvres « épuisées »\n- Le délai de livraison tient compte des jours fériés ; les commandes passées après midi partent le lendemain ouvré, sauf indication contraire de l’entrepôt."},
		},
		Karma: 47, Works: 47, Level: "Repenti",
		Gates: []pv.Gate{
			{Name: "ci", Number: 0, Environment: "dev", Opened: at.AddDate(0, 0, -20), Criteria: []string{"tests: 1284 réussis sur 1284", "coverage: 83.4 % (au moins 80)", "scan: aucune vulnérabilité critique"}},
			{Name: "qa", Number: 1, Environment: "rmoa-dynors", Opened: at.AddDate(0, 0, -15), Criteria: []string{"healthy in dev", "soak: 3 d 4 h"}, Approvals: []string{"claire.qa, 2026-10-17T09:30:00Z"}},
			{Name: "client", Number: 2, Environment: "rmoa-client", Opened: at, Criteria: []string{"healthy in rmoa-dynors"}, Approvals: []string{"claire.qa, 2026-11-01T09:12:44Z"}},
		},
		Figures: pv.Figures{
			Tests: &v1alpha1.TestCounts{Total: 1286, Passed: 1284, Skipped: 2}, Coverage: &coverage,
			Vulnerabilities: &v1alpha1.VulnerabilityCounts{Medium: 1, Low: 4},
		},
		KnownDefects:     []string{"BOUT-512 : l’impression du bon de commande coupe la dernière ligne sous Firefox.", "BOUT-530 : tri des catégories sans tenir compte des accents."},
		OpenReservations: []pv.OpenReservation{{PV: "pv-boutique-1-2-4", Number: 2, Text: "La page de suivi met plus de trois secondes à s’afficher.", Owner: "Équipe front", Deadline: "2026-12-15"}},
		Authorises: []pv.Authorised{{
			Environment: "production", ComposeProject: "boutique-production", ComposeHash: digest("7"),
			Images:     []v1alpha1.ServiceImage{{Service: "worker", Image: "registry.dynors.com/boutique/worker@" + digest("6")}},
			ValuesHash: digest("8"), ChecksHash: digest("9"), SecretNames: []string{"SMTP_PASSWORD", "DATABASE_URL"},
		}},
		Opened: at,
	}
}

func sampleDecision(d v1alpha1.PVDecision) Signed {
	s := Signed{
		Decision: d, SignedBy: "Hélène Lefèvre", SignedAt: time.Date(2026, 11, 22, 14, 3, 7, 0, time.UTC), Method: v1alpha1.MethodKey,
		KeyID: digest("c"), SignatureHash: digest("d"), PDFHash: digest("e"),
	}
	switch d {
	case v1alpha1.PVRefused:
		s.Reason = "Le paiement en trois fois échoue pour les cartes étrangères."
	case v1alpha1.PVAcceptedWithReservations:
		s.Reservations = []v1alpha1.Reservation{
			{Text: "L’export comptable ne porte pas le numéro de pièce.", Owner: "DYNORS", Deadline: "2026-12-31"},
			{Text: "Le courriel de confirmation est en anglais.", Owner: "DYNORS — équipe courriels"},
		}
	}
	return s
}

// hostile fills every text with what a pipeline could try.
func hostile(attack string) (pv.Document, Signed) {
	a, many := attack, []string{attack, "", attack + attack}
	d := pv.Document{
		Title: a, Language: a, Project: a, ProjectName: a, Supplier: a, Client: a, Signatories: many, Release: a, ReleaseUID: a, Version: a,
		Commit: a, Branch: a, BundleHash: a, Images: []string{a, a + ": " + a + "@" + a}, Artifacts: many, Environment: a, URL: a,
		Previous: &pv.Accepted{Release: a, Version: a, Commit: a, PV: a},
		Changes:  []pv.Change{{Release: a, Version: a, Commit: a, Changelog: a}}, Karma: -1, Level: a,
		Gates:        []pv.Gate{{Name: a, Number: -2147483648, Environment: a, Criteria: many, Approvals: many}},
		KnownDefects: many, OpenReservations: []pv.OpenReservation{{PV: a, Text: a, Owner: a, Deadline: a}},
		Authorises: []pv.Authorised{{
			Environment: a, ComposeProject: a, ComposeHash: a, ValuesHash: a, ChecksHash: a, SecretNames: many,
			Images: []v1alpha1.ServiceImage{{Service: a, Image: a}, {Service: a, Image: a + "@" + a}},
		}},
	}
	return d, Signed{
		Decision: v1alpha1.PVAcceptedWithReservations, Reason: a, SignedBy: a, Method: a, KeyID: a, Email: a, SignatureHash: a, PDFHash: a,
		Reservations: []v1alpha1.Reservation{{Text: a, Owner: a, Deadline: a}},
	}
}

// attacks are texts that must be inert.
var attacks = []string{
	") Tj ET endstream endobj 99 0 obj << /OpenAction << /S /JavaScript /JS (app.alert(1)) >> >> endobj",
	`\) >> /URI (http://evil.example) /Launch /EmbeddedFile \\ \( ( ((( \n \000`,
	"\x1b[2J\x1b]0;owned\x07 \x00\x01\x7f\u009b31m\r\b",
	"user\u202etxt.exe \u2066a\u2069\u200f\u061c ad\u200bmin\ufeff \u2028 \U000e0041",
	"\xff\xfe\x80 caf\xe9 \xed\xa0\x80",
	"😀 الصراط 日本 e\u0301 " + strings.Repeat("Z\u0351\u0352", 40) + " \ufffd \ufffe",
	"]]> </rdf:li> <?xpacket end=\"w\"?> & <script> {nb} " + producer,
	strings.Repeat("x", 3000),
	strings.Repeat("\n", 3000) + strings.Repeat("•  ", 500),
}
