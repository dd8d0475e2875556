// SPDX-License-Identifier: Apache-2.0

package lang

// fleet is what is said of environments as a whole and of their hosts.
var fleet = map[ID]text{
	"suspend.short": {"Leave an environment alone: neither deploy nor heal", "Laisser un environnement tranquille : ni déployer ni réparer"},
	"suspend.long": {
		"Set spec.suspend of the environment: its hosts touch nothing of it until it is unsuspended. What runs keeps running, what is stopped stays stopped; a release that is under way waits where it may. On one server only: sirrat-agent suspend.",
		"Poser spec.suspend sur l’environnement : ses serveurs n’y touchent plus jusqu’à unsuspend. Ce qui tourne continue, ce qui est arrêté le reste ; une release en cours attend là où elle peut. Sur un seul serveur : sirrat-agent suspend.",
	},
	"suspend.example": {
		"  kubectl sirrat suspend production -n supergest-001 --reason \"new disks\"",
		"  kubectl sirrat suspend production -n supergest-001 --reason \"nouveaux disques\"",
	},
	"suspend.done":    {"%s is suspended. Take it back: kubectl sirrat unsuspend %s", "%s est suspendu. Pour revenir dessus : kubectl sirrat unsuspend %s"},
	"unsuspend.short": {"Let a suspended environment be deployed to and healed again", "Rendre un environnement suspendu aux déploiements et aux réparations"},
	"unsuspend.long": {
		"Take spec.suspend back: what has drifted is healed, and the newest release that was let in is carried out.",
		"Retirer spec.suspend : ce qui a dérivé est réparé, et la dernière release entrée est déployée.",
	},
	"unsuspend.example": {"  kubectl sirrat unsuspend production -n supergest-001", "  kubectl sirrat unsuspend production -n supergest-001"},
	"unsuspend.done":    {"%s is no longer suspended.", "%s n’est plus suspendu."},
	"flag.why":          {"say why in one line of `TEXT`, shown to everybody", "dire pourquoi en une ligne de `TEXTE`, montrée à tous"},

	"decommission.short": {"Take an environment down on all its hosts", "Démonter un environnement sur tous ses serveurs"},
	"decommission.long": {
		"Set spec.decommission: every host that ever got a release of the environment is sent a signed order to remove its containers and networks, those included that match it no longer. Named volumes stay unless --volumes is given. No release is let in until --revoke, which brings nothing back and calls no order back that was sent.",
		"Poser spec.decommission : chaque serveur qui a reçu une release de l’environnement reçoit l’ordre signé d’en retirer conteneurs et réseaux, même s’il n’y correspond plus. Les volumes nommés restent, sauf --volumes. Aucune release n’entre avant --revoke, qui ne ramène rien et ne rappelle aucun ordre déjà envoyé.",
	},
	"decommission.example": {
		"  kubectl sirrat decommission staging -n supergest-001\n\n  # With its data\n  kubectl sirrat decommission staging -n supergest-001 --volumes",
		"  kubectl sirrat decommission staging -n supergest-001\n\n  # Avec ses données\n  kubectl sirrat decommission staging -n supergest-001 --volumes",
	},
	"decommission.what":         {"%s is taken down on: %s", "%s est démonté sur : %s"},
	"decommission.volumes-go":   {"Its named volumes are DELETED, with all data in them.", "Ses volumes nommés sont SUPPRIMÉS, avec toutes leurs données."},
	"decommission.volumes-stay": {"Its named volumes stay.", "Ses volumes nommés restent."},
	"decommission.question":     {"Type the name of the environment (%s) to take it down:", "Tapez le nom de l’environnement (%s) pour le démonter :"},
	"decommission.done":         {"%s is being taken down; see `kubectl sirrat status`.", "%s est en cours de démontage ; voyez `kubectl sirrat status`."},
	"decommission.revoked":      {"%s may be deployed to again.", "%s peut à nouveau recevoir une release."},
	"flag.volumes":              {"delete named volumes too, with all data in them", "supprimer aussi les volumes nommés, avec leurs données"},
	"flag.decommission-revoke":  {"let releases in again", "laisser à nouveau entrer les releases"},
	"error.revoke-or-volumes":   {"give --volumes or --revoke, not both", "donnez --volumes ou --revoke, pas les deux"},
	"error.typed-name":          {"%q is not %q: nothing was changed", "%q n’est pas %q : rien n’a changé"},

	"remove.short": {"Take an environment down on one host that it does not match any more", "Démonter un environnement sur un serveur qui n’y correspond plus"},
	"remove.long": {
		"A host that is relabelled keeps running what it ran. This sends it the signed order to remove it. While the environment matches the host it has no effect: relabel the host first.",
		"Un serveur dont les labels changent continue ce qu’il faisait. Ceci lui envoie l’ordre signé de le démonter. Sans effet tant que l’environnement lui correspond : changez d’abord ses labels.",
	},
	"remove.example":    {"  kubectl sirrat remove production web-3 -n supergest-001", "  kubectl sirrat remove production web-3 -n supergest-001"},
	"remove.what":       {"%s is taken down on %s.", "%s est démonté sur %s."},
	"remove.question":   {"Type the name of the host (%s):", "Tapez le nom du serveur (%s) :"},
	"remove.done":       {"%s is being taken down on %s, if it does not match it any more.", "%s est en cours de démontage sur %s, s’il n’y correspond plus."},
	"error.not-on-host": {"nothing of %s is known on host %s", "rien de %s n’est connu sur le serveur %s"},

	"rollback.short": {"Go back to an earlier release that was healthy there", "Revenir à une release antérieure qui y était saine"},
	"rollback.long": {
		"Let an earlier release into the environment again, by a new signed order: the last one that was healthy there, or the one of --to. Its gates passed before and are not asked again; the release that is left counts as rolled back, in karma too. Refused when anything that was approved has changed since: compose file, values, secrets.",
		"Faire entrer à nouveau une release antérieure, par un nouvel ordre signé : la dernière qui y était saine, ou celle de --to. Ses gates sont déjà passés et ne sont pas rejugés ; la release quittée compte comme retirée, karma compris. Refusé si ce qui fut approuvé a changé depuis : fichier compose, valeurs, secrets.",
	},
	"rollback.example": {
		"  kubectl sirrat rollback production -n supergest-001 --reason \"invoices are wrong\"\n  kubectl sirrat rollback production --to a1b2c3d --reason \"invoices are wrong\"",
		"  kubectl sirrat rollback production -n supergest-001 --reason \"les factures sont fausses\"\n  kubectl sirrat rollback production --to a1b2c3d --reason \"les factures sont fausses\"",
	},
	"rollback.what":          {"%s goes back from %s to %s.", "%s revient de %s à %s."},
	"rollback.question":      {"Type the name of the environment (%s) to go back:", "Tapez le nom de l’environnement (%s) pour revenir en arrière :"},
	"rollback.done":          {"%s goes back to %s; see `kubectl sirrat status`.", "%s revient à %s ; voyez `kubectl sirrat status`."},
	"flag.rollback-to":       {"go back to `RELEASE` (default: the last that was healthy there)", "revenir à `RELEASE` (défaut : la dernière qui y était saine)"},
	"error.rollback-reason":  {"say why: --reason \"…\"", "dites pourquoi : --reason \"…\""},
	"error.rollback-refused": {"it is not gone back: %s", "pas de retour en arrière : %s"},
	"error.no-way-back":      {"no earlier release was healthy in %s", "aucune release antérieure n’a été saine dans %s"},
	"error.nothing-there":    {"nothing was ever let into %s", "rien n’est jamais entré dans %s"},

	"retry.short": {"Try a release once more where it failed", "Réessayer une release là où elle a échoué"},
	"retry.long": {
		"Set the annotation sirrat.dynors.com/retry: the gate is judged anew for the very same bundle, and opens if its criteria still hold.",
		"Poser l’annotation sirrat.dynors.com/retry : le gate est rejugé pour le même contenu, et s’ouvre si ses critères tiennent encore.",
	},
	"retry.example":          {"  kubectl sirrat retry a1b2c3d rmoa-client -n supergest-001", "  kubectl sirrat retry a1b2c3d rmoa-client -n supergest-001"},
	"retry.done":             {"%s is tried once more in %s.", "%s est réessayée dans %s."},
	"error.nothing-to-retry": {"%s did not fail in %s: nothing to retry", "%s n’a pas échoué dans %s : rien à réessayer"},

	"hosts.title":   {"Hosts", "Serveurs"},
	"hosts.waiting": {"waiting: %s", "en attente : %s"},
}
