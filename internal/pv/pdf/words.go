// SPDX-License-Identifier: Apache-2.0

package pdf

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// words are all texts of ours in one language. Every field is set (tested), and every character is in the fonts.
type words struct {
	language string
	colon    safe
	months   [12]string

	title, awaiting, openedOn, signedBy, page, initials, documentHash safe
	none, notReported, cutText, moreItems, cutNotice                  safe

	parties, supplier, client, signatories                                                                   safe
	object, subject, project, release, version, commit, branch, environment, address                         safe
	uid, opened, bundle, image, reference, artifacts, noVersion                                              safe
	changes, firstRelease, since, noChangelog                                                                safe
	gates, gate, criteria, approvals, noGates                                                                safe
	figures, tests, total, passed, failed, skipped, coverage                                                 safe
	findings, critical, high, medium, low, karma, works, level                                               safe
	defects, noDefects, reservations, earlier, noReservations, pvName                                        safe
	text, owner, deadline                                                                                    safe
	authorises, authorisesIntro, composeProject, composeHash, valuesHash, checksHash, secretNames            safe
	hashes, hashesIntro                                                                                      safe
	decision, statement, accepted, withReservations, refused                                                 safe
	chooseOne, reason, reasonHint, reservationsHint                                                          safe
	fullName, function, placeDate, date, signature, signatureBox, method, key, email, signatureHash, pdfHash safe
	methodKey, methodPage, methodPaper, scanHash, signatureNote, paperNote, signedOn                         safe
}

// wordsOf returns English for "en" and French for everything else.
func wordsOf(language string) *words {
	if language == "en" {
		return &english
	}
	return &french
}

var french = words{
	language: "fr",
	colon:    "\u00a0: ",
	months: [12]string{"janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre", "octobre",
		"novembre", "décembre"},

	title:        "Procès-verbal de recette",
	awaiting:     "En attente de la décision du client",
	openedOn:     "Recette ouverte le",
	signedBy:     "Signé par",
	page:         "Page",
	initials:     "Paraphe",
	documentHash: "Empreinte du document",
	none:         "—",
	notReported:  "non communiqué",
	cutText:      "[… texte coupé ici : %d caractères au total]",
	moreItems:    "[… et %d autres, non imprimés]",
	cutNotice: "Certains textes trop longs ont été coupés à l’impression ; chaque coupure est signalée. Le texte intégral est " +
		"celui du document d’empreinte indiquée ci-dessus, que le fournisseur tient à la disposition du client.",

	parties:     "Parties",
	supplier:    "Fournisseur",
	client:      "Client",
	signatories: "Signataires habilités",

	object:      "Objet de la recette",
	subject:     "Intitulé",
	project:     "Projet",
	release:     "Livraison",
	version:     "Version",
	commit:      "Commit",
	branch:      "Branche",
	environment: "Environnement",
	address:     "Adresse",
	uid:         "Identifiant de la livraison",
	opened:      "Ouverte le",
	bundle:      "Empreinte de la livraison",
	image:       "Image",
	reference:   "Référence et empreinte",
	artifacts:   "Artefacts",
	noVersion:   "sans numéro",

	changes:      "Changements depuis la dernière recette acceptée",
	firstRelease: "Aucune livraison de ce projet n’a encore été acceptée par le client.",
	since:        "Dernière livraison acceptée",
	noChangelog:  "Aucune description des changements n’a été fournie.",

	gates:     "Contrôles franchis",
	gate:      "Contrôle",
	criteria:  "Critères",
	approvals: "Approbations",
	noGates:   "Aucun contrôle n’est enregistré.",

	figures:  "Tests et qualité",
	tests:    "Tests",
	total:    "Total",
	passed:   "Réussis",
	failed:   "Échoués",
	skipped:  "Ignorés",
	coverage: "Couverture du code par les tests",
	findings: "Vulnérabilités",
	critical: "Critiques",
	high:     "Élevées",
	medium:   "Moyennes",
	low:      "Faibles",
	karma:    "Karma (indice de qualité)",
	works:    "dont œuvres",
	level:    "niveau",

	defects:        "Défauts connus, livrés en l’état",
	noDefects:      "Aucun défaut connu n’est déclaré.",
	reservations:   "Réserves",
	earlier:        "Réserves ouvertes de procès-verbaux antérieurs",
	noReservations: "Aucune réserve d’un procès-verbal antérieur n’est ouverte.",
	pvName:         "Procès-verbal",
	text:           "Réserve",
	owner:          "Responsable",
	deadline:       "Échéance",

	authorises: "Ce que l’acceptation autorise à exécuter",
	authorisesIntro: "Un serveur qui exige la signature du client n’exécute, dans chaque environnement, rien d’autre que ce qui " +
		"est désigné ici. Le contenu des secrets n’y figure pas, seulement le nom des variables.",
	composeProject: "Projet Compose",
	composeHash:    "Empreinte du fichier compose",
	valuesHash:     "Empreinte des valeurs",
	checksHash:     "Empreinte des contrôles de santé",
	secretNames:    "Variables secrètes",

	hashes: "Identification",
	hashesIntro: "Le présent PDF est une mise en page du document électronique d’empreinte ci-dessous, qui seul fait référence : " +
		"une autre empreinte désigne un autre document.",

	decision: "Décision du client",
	statement: "Après avoir testé la livraison désignée ci-dessus dans l’environnement indiqué, le client prononce la décision " +
		"suivante :",
	accepted:         "Recette acceptée",
	withReservations: "Recette acceptée avec réserves",
	refused:          "Recette refusée",
	chooseOne:        "Cocher une seule case.",
	reason:           "Motif",
	reasonHint:       "Motif (obligatoire en cas de refus)",
	reservationsHint: "Réserves (uniquement en cas d’acceptation avec réserves)",
	fullName:         "Nom et prénom",
	function:         "Qualité",
	date:             "Date",
	placeDate:        "Lieu et date",
	signature:        "Signature",
	signatureBox:     "Signature et cachet",
	method:           "Mode de signature",
	key:              "Clé de signature",
	email:            "Adresse électronique",
	signatureHash:    "Empreinte de la signature",
	pdfHash:          "Empreinte du PDF soumis",
	methodKey:        "signature électronique par la clé du client",
	methodPage:       "page de signature, après un code envoyé à l’adresse électronique ; attestée par la clé de l’installation",
	methodPaper:      "signature manuscrite sur papier ; l’original numérisé est archivé",
	scanHash:         "Empreinte du document numérisé",
	signatureNote: "La signature électronique porte sur l’empreinte du document, la décision et les réserves ; elle est vérifiable " +
		"sans ce PDF.",
	paperNote: "L’original signé à la main et numérisé porte l’empreinte ci-dessus ; le présent PDF en reprend le contenu.",
	signedOn:  "Signé le",
}

var english = words{
	language: "en",
	colon:    ": ",
	months: [12]string{"January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
		"November", "December"},

	title:        "Acceptance certificate",
	awaiting:     "Awaiting the client’s decision",
	openedOn:     "Acceptance opened on",
	signedBy:     "Signed by",
	page:         "Page",
	initials:     "Initials",
	documentHash: "Hash of the document",
	none:         "—",
	notReported:  "not reported",
	cutText:      "[… text cut here: %d characters in all]",
	moreItems:    "[… and %d more, not printed]",
	cutNotice: "Texts that were too long were cut in print; each cut is marked. The whole text is that of the document with the " +
		"hash stated above, which the supplier holds at the client’s disposal.",

	parties:     "Parties",
	supplier:    "Supplier",
	client:      "Client",
	signatories: "Authorised signatories",

	object:      "Subject of the acceptance",
	subject:     "Title",
	project:     "Project",
	release:     "Release",
	version:     "Version",
	commit:      "Commit",
	branch:      "Branch",
	environment: "Environment",
	address:     "Address",
	uid:         "Identifier of the release",
	opened:      "Opened on",
	bundle:      "Hash of the release",
	image:       "Image",
	reference:   "Reference and digest",
	artifacts:   "Artifacts",
	noVersion:   "no number",

	changes:      "Changes since the last accepted release",
	firstRelease: "The client has not accepted a release of this project yet.",
	since:        "Last accepted release",
	noChangelog:  "No description of the changes was given.",

	gates:     "Quality gates passed",
	gate:      "Gate",
	criteria:  "Criteria",
	approvals: "Approvals",
	noGates:   "No gate is recorded.",

	figures:  "Tests and quality",
	tests:    "Tests",
	total:    "Total",
	passed:   "Passed",
	failed:   "Failed",
	skipped:  "Skipped",
	coverage: "Code covered by tests",
	findings: "Vulnerabilities",
	critical: "Critical",
	high:     "High",
	medium:   "Medium",
	low:      "Low",
	karma:    "Karma (quality index)",
	works:    "of which works",
	level:    "level",

	defects:        "Known defects, delivered as they are",
	noDefects:      "No known defect is declared.",
	reservations:   "Reservations",
	earlier:        "Open reservations of earlier certificates",
	noReservations: "No reservation of an earlier certificate is open.",
	pvName:         "Certificate",
	text:           "Reservation",
	owner:          "Owner",
	deadline:       "Deadline",

	authorises: "What the acceptance lets run",
	authorisesIntro: "In each environment, a server that demands the client’s signature runs nothing but what is named here. The " +
		"contents of secrets are not part of it, only the names of the variables.",
	composeProject: "Compose project",
	composeHash:    "Hash of the compose file",
	valuesHash:     "Hash of the values",
	checksHash:     "Hash of the health checks",
	secretNames:    "Secret variables",

	hashes: "Identification",
	hashesIntro: "This PDF is a layout of the electronic document with the hash below, which alone is authoritative: another hash " +
		"means another document.",

	decision:         "Decision of the client",
	statement:        "Having tested the release named above in the environment stated, the client decides as follows:",
	accepted:         "Accepted",
	withReservations: "Accepted with reservations",
	refused:          "Refused",
	chooseOne:        "Tick one box only.",
	reason:           "Reason",
	reasonHint:       "Reason (required for a refusal)",
	reservationsHint: "Reservations (only if accepted with reservations)",
	fullName:         "Full name",
	function:         "Position",
	date:             "Date",
	placeDate:        "Place and date",
	signature:        "Signature",
	signatureBox:     "Signature and stamp",
	method:           "How it was signed",
	key:              "Signing key",
	email:            "E-mail address",
	signatureHash:    "Hash of the signature",
	pdfHash:          "Hash of the PDF submitted",
	methodKey:        "electronic signature by the client’s key",
	methodPage:       "signing page, after a code sent to the e-mail address; attested by the key of the installation",
	methodPaper:      "handwritten on paper; the scanned original is archived",
	scanHash:         "Hash of the scan",
	signatureNote: "The electronic signature covers the hash of the document, the decision and the reservations; it can be " +
		"verified without this PDF.",
	paperNote: "The original, signed by hand and scanned, has the hash above; this PDF repeats what it says.",
	signedOn:  "Signed on",
}

// day of a time in UTC, in full: figures alone read differently on the two sides of a border.
func (w *words) day(t time.Time) safe {
	t = t.UTC()
	n := strconv.Itoa(t.Day())
	if w.language == "fr" && t.Day() == 1 {
		n = "1er"
	}
	return safe(fmt.Sprintf("%s %s %04d", n, w.months[t.Month()-1], t.Year()))
}

// moment is a time in UTC, to the second.
func (w *words) moment(t time.Time) safe {
	if t.IsZero() {
		return w.none
	}
	between := " at "
	if w.language == "fr" {
		between = " à "
	}
	return w.day(t) + safe(between+t.UTC().Format("15:04:05")+" UTC")
}

// percent with at most two decimals.
func (w *words) percent(p float64) safe {
	t := strconv.FormatFloat(p, 'f', 2, 64)
	t = strings.TrimSuffix(strings.TrimRight(t, "0"), ".")
	if w.language == "fr" {
		return safe(strings.Replace(t, ".", ",", 1) + "\u00a0%")
	}
	return safe(t + "%")
}

// verdict in words; false if d is no decision.
func (w *words) verdict(d v1alpha1.PVDecision) (safe, colour, bool) {
	switch d {
	case v1alpha1.PVAccepted:
		return w.accepted, green, true
	case v1alpha1.PVAcceptedWithReservations:
		return w.withReservations, amber, true
	case v1alpha1.PVRefused:
		return w.refused, red, true
	}
	return "", ink, false
}
