// SPDX-License-Identifier: Apache-2.0

package signing

import "gitlab.com/dynors/sirrat/internal/page"

// texts are French and English, in the order of page.Languages.
var texts = page.Texts{
	"product":        {"Procès-verbal de recette", "Acceptance certificate"},
	"language.other": {"English", "Français"},
	"skip":           {"Aller au contenu", "Skip to content"},
	"footer":         {"Page de signature SIRRAT. Horaires en temps universel (UTC).", "SIRRAT signing page. Times are in coordinated universal time (UTC)."},

	"start.lead":     {"%s est invité à se prononcer sur cette livraison.", "%s is invited to decide on this delivery."},
	"start.how":      {"Pour vérifier que c’est bien vous, nous envoyons un code à votre adresse %s.", "To make sure that it is you, we send a code to your address %s."},
	"start.button":   {"Recevoir mon code", "Send me my code"},
	"start.have":     {"J’ai déjà un code", "I already have a code"},
	"start.steps":    {"Ensuite", "What comes next"},
	"start.step1":    {"Vous saisissez le code à 8 chiffres reçu par e-mail.", "You enter the 8-digit code that comes by e-mail."},
	"start.step2":    {"Vous lisez le procès-verbal, à l’écran ou en PDF.", "You read the certificate, on screen or as PDF."},
	"start.step3":    {"Vous acceptez, acceptez avec réserves ou refusez, puis vous confirmez.", "You accept, accept with reservations or refuse, then confirm."},
	"start.expires":  {"Ce lien vous est personnel. Il est valable jusqu’au %s.", "This link is for you alone. It works until %s."},
	"start.closed":   {"Ce procès-verbal a déjà reçu une décision : il n’y a plus rien à signer. Vous pouvez toujours le consulter avec un code.", "This certificate already has a decision: nothing is left to sign. You may still read it with a code."},
	"start.over":     {"Votre session est terminée : recevez un nouveau code pour continuer.", "Your session is over: get a new code to go on."},
	"start.carried":  {"Ce que vous avez saisi est conservé et vous sera rendu.", "What you typed is kept and will be given back to you."},
	"label.project":  {"Projet", "Project"},
	"label.client":   {"Client", "Client"},
	"label.release":  {"Livraison", "Delivery"},
	"label.language": {"Langue", "Language"},

	"enter.title":     {"Saisissez votre code", "Enter your code"},
	"enter.sent":      {"Le code a été envoyé à %s. Il est valable 15 minutes.", "The code was sent to %s. It works for 15 minutes."},
	"enter.label":     {"Code à 8 chiffres", "8-digit code"},
	"enter.hint":      {"Les espaces ne comptent pas.", "Spaces do not matter."},
	"enter.button":    {"Continuer", "Continue"},
	"enter.again":     {"Rien reçu ? Regardez dans les indésirables, ou", "Nothing arrived? Look into your spam folder, or"},
	"enter.resend":    {"recevoir un autre code", "get another code"},
	"enter.malformed": {"Le code a %d chiffres, sans lettres.", "The code has %d digits, and no letters."},
	"enter.wrong":     {"Ce n’est pas le bon code. Essais restants : %d.", "This is not the right code. Tries left: %d."},
	"enter.last":      {"Ce n’est pas le bon code, et il n’a plus d’essai : recevez un autre code.", "This is not the right code, and no try is left: get another code."},
	"enter.stale":     {"Ce code n’est plus valable : recevez un autre code.", "This code no longer works: get another code."},

	"doc.decide":       {"Aller à la décision", "Go to the decision"},
	"doc.pdf":          {"Télécharger le PDF", "Download the PDF"},
	"doc.parties":      {"Parties", "Parties"},
	"doc.supplier":     {"Fournisseur", "Supplier"},
	"doc.signatories":  {"Signataires", "Signatories"},
	"doc.release":      {"Ce qui est livré", "What is delivered"},
	"doc.version":      {"Version", "Version"},
	"doc.environment":  {"Environnement de recette", "Acceptance environment"},
	"doc.url":          {"Adresse", "Address"},
	"doc.opened":       {"Recette ouverte le", "Acceptance opened"},
	"doc.previous":     {"Dernière version acceptée", "Last accepted version"},
	"doc.previous.at":  {"%s, signée le %s", "%s, signed %s"},
	"doc.changes":      {"Changements", "Changes"},
	"doc.nochangelog":  {"Aucune description.", "No description."},
	"doc.quality":      {"Qualité", "Quality"},
	"doc.karma":        {"Karma", "Karma"},
	"doc.outof":        {"%d sur 100", "%d out of 100"},
	"doc.works":        {"Travaux", "Works"},
	"doc.level":        {"Niveau", "Level"},
	"doc.tests":        {"Tests", "Tests"},
	"doc.tests.value":  {"%d au total : %d réussis, %d échoués, %d ignorés", "%d in all: %d passed, %d failed, %d skipped"},
	"doc.coverage":     {"Couverture", "Coverage"},
	"doc.vulns":        {"Vulnérabilités", "Vulnerabilities"},
	"doc.vulns.value":  {"%d critiques, %d hautes, %d moyennes, %d basses", "%d critical, %d high, %d medium, %d low"},
	"doc.gates":        {"Portes franchies", "Gates passed"},
	"doc.gate.opened":  {"ouverte le %s", "opened %s"},
	"doc.criteria":     {"Critères", "Criteria"},
	"doc.approvals":    {"Approbations", "Approvals"},
	"doc.defects":      {"Défauts connus", "Known defects"},
	"doc.defects.none": {"Aucun défaut connu n’est déclaré.", "No known defect is declared."},
	"doc.open":         {"Réserves encore ouvertes", "Reservations still open"},
	"doc.open.value":   {"%s, réserve %d", "%s, reservation %d"},
	"doc.authorises":   {"Ce que votre acceptation autorise à installer", "What your acceptance lets be installed"},
	"doc.authorises.intro": {"Un serveur qui exige la signature du client n’installe rien d’autre que ceci, environnement par environnement.",
		"A server that demands the client’s signature installs nothing but this, environment by environment."},
	"doc.services":  {"Images des services", "Images of the services"},
	"doc.compose":   {"Empreinte du fichier compose", "Hash of the compose file"},
	"doc.values":    {"Empreinte des valeurs", "Hash of the values"},
	"doc.checks":    {"Empreinte des contrôles de santé", "Hash of the health checks"},
	"doc.secrets":   {"Variables secrètes (noms seuls)", "Secret variables (names only)"},
	"doc.technical": {"Identification technique", "Technical identification"},
	"doc.commit":    {"Commit", "Commit"},
	"doc.branch":    {"Branche", "Branch"},
	"doc.uid":       {"Identifiant", "Identifier"},
	"doc.bundle":    {"Empreinte de la livraison", "Hash of the delivery"},
	"doc.images":    {"Images", "Images"},
	"doc.artifacts": {"Composants", "Artifacts"},
	"doc.hash":      {"Empreinte du procès-verbal", "Hash of the certificate"},
	"doc.pdfhash":   {"Empreinte du PDF", "Hash of the PDF"},
	"doc.show":      {"Lire le procès-verbal", "Read the certificate"},
	"doc.none":      {"—", "—"},

	"decision.Accepted":                 {"Accepté", "Accepted"},
	"decision.AcceptedWithReservations": {"Accepté avec réserves", "Accepted with reservations"},
	"decision.Refused":                  {"Refusé", "Refused"},

	"form.title":               {"Votre décision", "Your decision"},
	"form.signer":              {"Signataire : %s, pour %s", "Signatory: %s, for %s"},
	"form.legend":              {"Que décidez-vous ?", "What do you decide?"},
	"form.accepted":            {"J’accepte", "I accept"},
	"form.accepted.hint":       {"La livraison est conforme.", "The delivery is as agreed."},
	"form.reserved":            {"J’accepte avec réserves", "I accept with reservations"},
	"form.reserved.hint":       {"La livraison est acceptée ; des points restent à corriger.", "The delivery is accepted; some points remain to be mended."},
	"form.refused":             {"Je refuse", "I refuse"},
	"form.refused.hint":        {"La livraison n’est pas acceptée.", "The delivery is not accepted."},
	"form.reservations":        {"Réserves", "Reservations"},
	"form.reservations.hint":   {"Seulement pour une acceptation avec réserves. Les lignes vides ne comptent pas.", "Only for an acceptance with reservations. Empty rows do not count."},
	"form.reservation":         {"Réserve %d", "Reservation %d"},
	"form.text":                {"Ce qui ne va pas", "What is wrong"},
	"form.owner":               {"Qui corrige", "Who mends it"},
	"form.deadline":            {"Pour quand", "Until when"},
	"form.deadline.hint":       {"Date AAAA-MM-JJ, par exemple %s", "Date YYYY-MM-DD, for example %s"},
	"form.add":                 {"Ajouter une réserve", "Add a reservation"},
	"form.reason":              {"Motif du refus", "Reason for the refusal"},
	"form.reason.hint":         {"Seulement pour un refus.", "Only for a refusal."},
	"form.review":              {"Relire et confirmer", "Review and confirm"},
	"form.nothing":             {"Rien n’est signé à cette étape : vous confirmerez à la page suivante.", "Nothing is signed yet: you confirm on the next page."},
	"form.errors":              {"Corrigez ce qui suit", "Please correct the following"},
	"error.decision":           {"Choisissez une décision.", "Choose a decision."},
	"error.reason":             {"Un refus demande un motif.", "A refusal needs a reason."},
	"error.reason.extra":       {"Un motif n’accompagne qu’un refus : effacez-le, ou écrivez-le comme réserve.", "A reason goes with a refusal only: clear it, or write it as a reservation."},
	"error.long":               {"Le texte est trop long : %d caractères au plus.", "The text is too long: %d characters at most."},
	"error.reservations":       {"Écrivez au moins une réserve.", "Write at least one reservation."},
	"error.reservations.extra": {"Vous avez écrit des réserves : choisissez « J’accepte avec réserves », ou effacez-les.", "You wrote reservations: choose “I accept with reservations”, or clear them."},
	"error.text":               {"Réserve %d : dites ce qui ne va pas.", "Reservation %d: say what is wrong."},
	"error.owner":              {"Réserve %d : dites qui corrige.", "Reservation %d: say who mends it."},
	"error.deadline":           {"Réserve %d : donnez une date.", "Reservation %d: give a date."},
	"error.date":               {"Réserve %d : ce n’est pas une date valable (AAAA-MM-JJ).", "Reservation %d: this is not a valid date (YYYY-MM-DD)."},
	"error.past":               {"Réserve %d : la date est passée.", "Reservation %d: the date has passed."},

	"confirm.title":                         {"Confirmez votre décision", "Confirm your decision"},
	"confirm.lead":                          {"Vous allez signer ce qui suit. Une décision signée ne peut plus être changée.", "You are about to sign the following. A signed decision cannot be changed."},
	"confirm.signer":                        {"Signataire", "Signatory"},
	"confirm.for":                           {"Pour", "For"},
	"confirm.sign.Accepted":                 {"Signer l’acceptation", "Sign the acceptance"},
	"confirm.sign.AcceptedWithReservations": {"Signer l’acceptation avec réserves", "Sign the acceptance with reservations"},
	"confirm.sign.Refused":                  {"Signer le refus", "Sign the refusal"},
	"confirm.edit":                          {"Modifier", "Change"},

	"decided.mine":      {"Votre décision est signée", "Your decision is signed"},
	"decided.other":     {"Ce procès-verbal est déjà signé", "This certificate is already signed"},
	"decided.mine.lead": {"Elle est enregistrée et vérifiée. Vous pouvez fermer cette page ; pensez à conserver le PDF.", "It is stored and verified. You may close this page; keep the PDF for your records."},
	"decided.other.lead": {"Une décision a été signée autrement que par ce lien : il n’y a plus rien à signer.",
		"A decision was signed by other means than this link: nothing is left to sign."},
	"decided.by":         {"Signé par", "Signed by"},
	"decided.at":         {"Le", "On"},
	"decided.how":        {"Moyen", "By"},
	"decided.how.page":   {"page de signature : lien et code par e-mail", "signing page: link and code by e-mail"},
	"decided.how.key":    {"clé du client", "the client’s key"},
	"decided.how.paper":  {"papier", "paper"},
	"decided.how.":       {"clé du client", "the client’s key"},
	"decided.hash":       {"Empreinte de la signature", "Hash of the signature"},
	"reservation.owner":  {"À corriger par", "To be mended by"},
	"reservation.until":  {"pour le", "until"},
	"pending.title":      {"Décision transmise", "Decision submitted"},
	"pending.lead":       {"Une décision a été transmise et se fait vérifier. Cela prend d’ordinaire quelques secondes.", "A decision was submitted and is being verified. This usually takes a few seconds."},
	"pending.reload":     {"Actualiser", "Look again"},
	"problem.back":       {"Revenir au procès-verbal", "Back to the certificate"},
	"dead.title":         {"Ce lien ne fonctionne pas", "This link does not work"},
	"dead.detail":        {"Il a peut-être expiré, déjà servi, été remplacé par un plus récent, ou été copié en partie. Utilisez le lien de notre dernier e-mail, ou demandez un nouveau lien à votre fournisseur.", "It may have expired, been used, been replaced by a newer one, or been copied in part. Use the link of our latest e-mail, or ask your supplier for a new one."},
	"forbidden.title":    {"Envoi refusé", "Not accepted"},
	"forbidden.cross":    {"Cet envoi vient d’un autre site. Ouvrez le lien de notre e-mail et recommencez.", "This was sent from another site. Open the link of our e-mail and start again."},
	"forbidden.form":     {"Ce formulaire n’est plus valable, par exemple après l’ouverture d’une autre session. Rien n’a été signé. Revenez au procès-verbal et recommencez.", "This form is no longer valid, for example since another session was opened. Nothing was signed. Go back to the certificate and start again."},
	"large.title":        {"Texte trop long", "Too much text"},
	"large.detail":       {"L’ensemble de vos textes est trop long. Revenez en arrière dans le navigateur et raccourcissez-les.", "Your texts are too long altogether. Go back in your browser and shorten them."},
	"bad.title":          {"Envoi illisible", "Not readable"},
	"bad.detail":         {"L’envoi est incomplet ou n’a pas pu être lu. Rien n’a été signé. Revenez en arrière et recommencez.", "What was sent is incomplete or could not be read. Nothing was signed. Go back and try again."},
	"other.title":        {"Ce n’est plus le même procès-verbal", "Not the same certificate any more"},
	"other.detail":       {"Le procès-verbal n’est plus celui qui vous a été montré. Rien n’a été signé. Relisez-le avant de décider.", "The certificate is not the one that you were shown. Nothing was signed. Read it again before you decide."},
	"codes.title":        {"Trop de codes demandés", "Too many codes"},
	"codes.detail":       {"Au plus %d codes sont envoyés par heure. Réessayez dans %d min, ou utilisez le dernier code reçu.", "At most %d codes are sent per hour. Try again in %d min, or use the last code that you got."},
	"mail.down.title":    {"L’e-mail n’est pas parti", "The e-mail was not sent"},
	"mail.down.detail":   {"Le code n’a pas pu être envoyé. Réessayez dans une minute ; si cela dure, prévenez votre fournisseur.", "The code could not be sent. Try again in a minute; if this lasts, tell your supplier."},
	"unavailable.title":  {"Service momentanément indisponible", "Not available right now"},
	"unavailable.detail": {"Revenez au procès-verbal et réessayez dans un instant : il dit ce qui est signé.", "Go back to the certificate and try again in a moment: it says what is signed."},
	"failed.title":       {"Une erreur est survenue", "Something went wrong"},
	"failed.detail":      {"C’est une erreur de notre côté. Réessayez ; si cela dure, prévenez votre fournisseur.", "This is a fault on our side. Try again; if it lasts, tell your supplier."},
	"method.title":       {"Adresse incomplète", "Incomplete address"},
	"method.detail":      {"Cette adresse ne s’ouvre pas directement. Ouvrez le lien de notre e-mail.", "This address cannot be opened directly. Open the link of our e-mail."},

	"mail.subject": {"[%s] Procès-verbal de recette à signer : %s", "[%s] Acceptance certificate to sign: %s"},
	"mail.text": {`Bonjour %s,

%s est invité à se prononcer sur la livraison suivante.

Projet : %s
Livraison : %s

Lisez le procès-verbal de recette et signez votre décision (accepter, accepter avec réserves ou refuser) ici :

%s

Ce lien vous est personnel : ne le transférez pas. Il est valable jusqu’au %s.
La page vous enverra d’abord un code à cette adresse.
`, `Hello %s,

%s is invited to decide on the following delivery.

Project: %s
Delivery: %s

Read the acceptance certificate and sign your decision (accept, accept with reservations or refuse) here:

%s

This link is for you alone: do not forward it. It works until %s.
The page will first send a code to this address.
`},
	"code.mail.subject": {"[%s] Votre code de signature", "[%s] Your signing code"},
	"code.mail.text": {`Votre code : %s

Il sert à consulter et signer le procès-verbal de recette du projet %s, livraison %s.
Il est valable %d minutes. Ne le donnez à personne : nous ne vous le demanderons jamais.

Si vous n’avez rien demandé, ignorez ce message.
`, `Your code: %s

It opens the acceptance certificate of the project %s, delivery %s, to read and sign.
It works for %d minutes. Give it to nobody: we will never ask you for it.

If you did not ask for it, ignore this message.
`},
}
