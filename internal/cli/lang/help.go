// SPDX-License-Identifier: Apache-2.0

package lang

// help is what --help prints.
var help = map[ID]text{
	"usage.usage":        {"Usage:", "Utilisation :"},
	"usage.command":      {"COMMAND", "COMMANDE"},
	"usage.examples":     {"Examples:", "Exemples :"},
	"usage.commands":     {"Commands:", "Commandes :"},
	"usage.flags":        {"Flags:", "Options :"},
	"usage.global-flags": {"Global flags:", "Options générales :"},
	"usage.more":         {"`%s COMMAND --help` says more.", "`%s COMMANDE --help` en dit plus."},

	"root.short": {"Look at the bridge, approve, sign, let pipelines and servers in", "Regarder le pont, approuver, signer, faire entrer pipelines et serveurs"},
	"root.long": {
		"SIRRAT, keeper of the bridge: code crosses it by its works.\n\nEvery command speaks to the API server with your own rights, as kubectl does.",
		"SIRRAT, gardien du pont : le code le traverse selon ses œuvres.\n\nChaque commande parle au serveur avec vos propres droits, comme kubectl.",
	},
	"root.example": {
		"  kubectl sirrat status -n supergest-001\n  kubectl sirrat why\n  kubectl sirrat approve a1b2c3d qa",
		"  kubectl sirrat status -n supergest-001\n  kubectl sirrat why\n  kubectl sirrat approve a1b2c3d qa",
	},

	"status.short": {"Show the bridge: what stands where, and what waits for whom", "Montrer le pont : qui se tient où, et qui attend quoi"},
	"status.long": {
		"Draw the bridge of a project: its environments in order, the gate before each, what runs there and how healthy it is; below, each release on its way and what it waits for. With a release's name, everything about that release.",
		"Dessiner le pont d’un projet : ses environnements dans l’ordre, le gate devant chacun, ce qui y tourne et sa santé ; dessous, chaque release en chemin et ce qu’elle attend. Avec le nom d’une release, tout sur cette release.",
	},
	"status.example": {
		"  # The bridge of a project, kept up to date\n  kubectl sirrat status -n supergest-001 --watch\n\n  # All projects\n  kubectl sirrat status -A\n\n  # Everything about one release\n  kubectl sirrat status a1b2c3d -n supergest-001",
		"  # Le pont d’un projet, tenu à jour\n  kubectl sirrat status -n supergest-001 --watch\n\n  # Tous les projets\n  kubectl sirrat status -A\n\n  # Tout sur une release\n  kubectl sirrat status a1b2c3d -n supergest-001",
	},
	"why.short": {"Say what a release lacks at each gate, and who can provide it", "Dire ce qui manque à une release à chaque gate, et qui peut l’apporter"},
	"why.long": {
		"Say for each gate which criteria hold, what is missing, who can provide it and when a wait ends by itself. Without a name: the newest release.",
		"Dire pour chaque gate quels critères tiennent, ce qui manque, qui peut l’apporter et quand une attente finit d’elle-même. Sans nom : la release la plus récente.",
	},
	"why.example": {
		"  kubectl sirrat why a1b2c3d -n supergest-001\n\n  # In a script: exit code 3 unless the gate has passed\n  kubectl sirrat why a1b2c3d --gate qa --exit-code",
		"  kubectl sirrat why a1b2c3d -n supergest-001\n\n  # Dans un script : code 3 tant que le gate n’est pas passé\n  kubectl sirrat why a1b2c3d --gate qa --exit-code",
	},
	"approve.short": {"Approve a release at a gate, in your own name", "Approuver une release à un gate, en votre nom"},
	"approve.long": {
		"Show what would be deployed (the bundle and its digests beside what runs now, what the gate still lacks, the client's reservations), ask, and set the annotation approval.sirrat.dynors.com/GATE in your own name. The approval covers exactly the bundle that is shown. Whether you may is decided by the API server.",
		"Montrer ce qui serait déployé (le contenu et ses digests face à ce qui tourne, ce qui manque encore au gate, les réserves du client), demander, et poser l’annotation approval.sirrat.dynors.com/GATE en votre nom. L’approbation couvre exactement le contenu montré. C’est le serveur qui décide si vous en avez le droit.",
	},
	"approve.example": {
		"  kubectl sirrat approve a1b2c3d qa -n supergest-001\n\n  # Take it back\n  kubectl sirrat approve a1b2c3d qa -n supergest-001 --revoke",
		"  kubectl sirrat approve a1b2c3d qa -n supergest-001\n\n  # La retirer\n  kubectl sirrat approve a1b2c3d qa -n supergest-001 --revoke",
	},
	"reject.short": {"Reject a release at a gate, with a reason", "Rejeter une release à un gate, avec un motif"},
	"reject.long": {
		"Send a release back from a gate with the annotation rejection.sirrat.dynors.com/GATE. The reason is shown to everybody.",
		"Renvoyer une release d’un gate par l’annotation rejection.sirrat.dynors.com/GATE. Le motif est montré à tous.",
	},
	"reject.example": {
		"  kubectl sirrat reject a1b2c3d qa --reason \"invoices are rounded wrongly\"\n  kubectl sirrat reject a1b2c3d qa --lift",
		"  kubectl sirrat reject a1b2c3d qa --reason \"les factures sont mal arrondies\"\n  kubectl sirrat reject a1b2c3d qa --lift",
	},

	"pv.short":      {"Read, sign and verify PVs (acceptance certificates)", "Lire, signer et vérifier les PV de recette"},
	"pv.list.short": {"List the PVs of a project", "Lister les PV d’un projet"},
	"pv.list.example": {
		"  kubectl sirrat pv list -n supergest-001",
		"  kubectl sirrat pv list -n supergest-001",
	},
	"pv.show.short": {"Show what a PV says", "Montrer ce que dit un PV"},
	"pv.show.example": {
		"  kubectl sirrat pv show a1b2c3d -n supergest-001\n  kubectl sirrat pv show a1b2c3d -n supergest-001 -o yaml > pv.yaml",
		"  kubectl sirrat pv show a1b2c3d -n supergest-001\n  kubectl sirrat pv show a1b2c3d -n supergest-001 -o yaml > pv.yaml",
	},
	"pv.sign.short": {"Decide on a PV and sign the decision with the client's key", "Décider d’un PV et signer la décision avec la clé du client"},
	"pv.sign.long": {
		"Check the hash of the document, show it, ask, sign the decision with the client's private key and wait for the controllers to verify it. The key never leaves this machine. A signed decision cannot be changed.",
		"Vérifier l’empreinte du document, le montrer, demander, signer la décision avec la clé privée du client et attendre que les contrôleurs la vérifient. La clé ne quitte pas cette machine. Une décision signée ne change plus.",
	},
	"pv.sign.example": {
		"  kubectl sirrat pv sign a1b2c3d --key client.key --decision accept\n  kubectl sirrat pv sign a1b2c3d --key client.key --decision accept-with-reservations \\\n    --reservation \"logo is blurred;DYNORS;2026-12-31\"\n  kubectl sirrat pv sign a1b2c3d --key client.key --decision refuse --reason \"cannot print invoices\"",
		"  kubectl sirrat pv sign a1b2c3d --key client.key --decision accept\n  kubectl sirrat pv sign a1b2c3d --key client.key --decision accept-with-reservations \\\n    --reservation \"le logo est flou;DYNORS;2026-12-31\"\n  kubectl sirrat pv sign a1b2c3d --key client.key --decision refuse --reason \"impossible d’imprimer les factures\"",
	},
	"pv.verify.short": {"Check a PV's signature with public keys that you hold", "Vérifier la signature d’un PV avec des clés publiques que vous détenez"},
	"pv.verify.long": {
		"Check on this machine that the document has the stated hash and that the decision was signed by one of the given keys, without trusting the server. With --file it needs no server at all. Exit code 3 when it does not hold.",
		"Vérifier sur cette machine que le document a l’empreinte dite et que la décision a été signée par une des clés données, sans se fier au serveur. Avec --file, sans serveur du tout. Code 3 si ce n’est pas le cas.",
	},
	"pv.verify.example": {
		"  kubectl sirrat pv verify a1b2c3d -n supergest-001 --public-key client.pub\n  kubectl sirrat pv verify --file pv.yaml --public-key client.pub",
		"  kubectl sirrat pv verify a1b2c3d -n supergest-001 --public-key client.pub\n  kubectl sirrat pv verify --file pv.yaml --public-key client.pub",
	},
	"pv.keygen.short": {"Make a key pair (ed25519) with which the client signs", "Faire une paire de clés (ed25519) avec laquelle le client signe"},
	"pv.keygen.long": {
		"Write NAME.key (private, readable by you alone) and NAME.pub, and print the public key for spec.client.publicKeys of the Project. No file is ever overwritten.",
		"Écrire NOM.key (privée, lisible par vous seul) et NOM.pub, et afficher la clé publique pour spec.client.publicKeys du Project. Aucun fichier n’est jamais écrasé.",
	},
	"pv.keygen.example": {"  kubectl sirrat pv keygen --out keys/client", "  kubectl sirrat pv keygen --out cles/client"},

	"token.short":        {"Manage the API tokens of pipelines", "Gérer les jetons d’API des pipelines"},
	"token.create.short": {"Make a token and print it, this once", "Faire un jeton et l’afficher, cette seule fois"},
	"token.create.example": {
		"  kubectl sirrat token create supergest-001 --name gitlab\n  SIRRAT_API_TOKEN=$(kubectl sirrat token create supergest-001)",
		"  kubectl sirrat token create supergest-001 --name gitlab\n  SIRRAT_API_TOKEN=$(kubectl sirrat token create supergest-001)",
	},
	"token.list.short":     {"List the tokens of a project", "Lister les jetons d’un projet"},
	"token.list.example":   {"  kubectl sirrat token list supergest-001", "  kubectl sirrat token list supergest-001"},
	"token.revoke.short":   {"Make a token worthless, at once", "Rendre un jeton sans valeur, sur-le-champ"},
	"token.revoke.example": {"  kubectl sirrat token revoke supergest-001 x7k2m9qa", "  kubectl sirrat token revoke supergest-001 x7k2m9qa"},

	"host.short":     {"Let servers in, list and remove them", "Faire entrer des serveurs, les lister, les retirer"},
	"host.add.short": {"Declare a server and print the command that its agent joins with", "Déclarer un serveur et afficher la commande d’adhésion de son agent"},
	"host.add.long": {
		"Create the Host unless it exists, wait for its namespace, and print the one command to paste on the server. The token in it enrols that one host and expires; the hash in it lets the agent recognise this control plane.",
		"Créer le Host s’il n’existe pas, attendre son espace de noms, et afficher l’unique commande à coller sur le serveur. Le jeton n’enrôle que cet hôte et expire ; l’empreinte permet à l’agent de reconnaître ce plan de contrôle.",
	},
	"host.add.example": {
		"  kubectl sirrat host add vps-client-1 --project supergest-001 \\\n    --label sirrat.dynors.com/environment=production --server https://sirrat.dynors.com:6443",
		"  kubectl sirrat host add vps-client-1 --project supergest-001 \\\n    --label sirrat.dynors.com/environment=production --server https://sirrat.dynors.com:6443",
	},
	"host.list.short":     {"List servers: their agents, engines and heartbeats", "Lister les serveurs : agents, moteurs, derniers signes de vie"},
	"host.list.example":   {"  kubectl sirrat host list -o wide", "  kubectl sirrat host list -o wide"},
	"host.revoke.short":   {"Make every certificate of a server's agent void, at once", "Annuler aussitôt tout certificat de l’agent d’un serveur"},
	"host.revoke.example": {"  kubectl sirrat host revoke vps-client-1", "  kubectl sirrat host revoke vps-client-1"},
	"host.remove.short":   {"Remove a server and end its agent's access", "Retirer un serveur et couper l’accès de son agent"},
	"host.remove.example": {"  kubectl sirrat host remove vps-client-1", "  kubectl sirrat host remove vps-client-1"},

	"version.short":    {"Print the version", "Afficher la version"},
	"version.example":  {"  kubectl sirrat version -o json", "  kubectl sirrat version -o json"},
	"completion.short": {"Print the completion script of a shell", "Afficher le script de complétion d’un shell"},
	"completion.long": {
		"Print the script that makes a shell complete commands, flags, and the names of projects, releases, gates, PVs and hosts. For `kubectl sirrat`, put an executable kubectl_complete-sirrat on the PATH that runs: kubectl-sirrat __complete \"$@\"",
		"Afficher le script qui fait compléter au shell commandes, options, et noms de projets, releases, gates, PV et hôtes. Pour `kubectl sirrat`, mettez dans le PATH un exécutable kubectl_complete-sirrat qui lance : kubectl-sirrat __complete \"$@\"",
	},

	"flag.help":          {"show this help", "montrer cette aide"},
	"flag.lang":          {"show texts in `LANGUAGE`: en or fr (default: of the locale)", "montrer les textes en `LANGUE` : en ou fr (défaut : celle de la locale)"},
	"flag.kubeconfig":    {"read the kubeconfig `FILE` (default: $KUBECONFIG, then ~/.kube/config)", "lire le `FICHIER` kubeconfig (défaut : $KUBECONFIG, puis ~/.kube/config)"},
	"flag.context":       {"use the context `NAME` of the kubeconfig", "prendre le contexte `NOM` du kubeconfig"},
	"flag.namespace":     {"look at `PROJECT` (default: the context's namespace, or the only project there is)", "regarder `PROJET` (défaut : l’espace de noms du contexte, ou le seul projet qui soit)"},
	"flag.as":            {"act as `USER`, for those who may", "agir au nom d’`UTILISATEUR`, pour qui en a le droit"},
	"flag.output":        {"print as `FORMAT`: %s", "afficher au `FORMAT` %s"},
	"flag.all-projects":  {"show every project", "montrer tous les projets"},
	"flag.watch":         {"keep the picture up to date until interrupted", "tenir le dessin à jour jusqu’à interruption"},
	"flag.gate":          {"show only `GATE`", "ne montrer que `GATE`"},
	"flag.exit-code":     {"exit with 3 unless every shown gate has passed", "sortir avec 3 sauf si chaque gate montré est passé"},
	"flag.yes":           {"do not ask", "ne pas demander"},
	"flag.revoke":        {"withdraw your own approval", "retirer votre propre approbation"},
	"flag.reason":        {"say why in one line of `TEXT`", "dire pourquoi en une ligne de `TEXTE`"},
	"flag.lift":          {"take a rejection back", "lever un rejet"},
	"flag.key":           {"read the client's private key from `FILE`", "lire la clé privée du client dans `FICHIER`"},
	"flag.decision":      {"make the `DECISION` accept, accept-with-reservations or refuse (default: ask)", "prendre la `DÉCISION` accept, accept-with-reservations ou refuse (défaut : demander)"},
	"flag.pv-reason":     {"give `TEXT` as the reason of a refusal", "donner `TEXTE` comme motif d’un refus"},
	"flag.reservation":   {"accept with the reservation `\"WHAT;WHO;DATE\"`: what is wrong; who mends it; until when (YYYY-MM-DD), all three; may be repeated", "accepter avec la réserve `\"QUOI;QUI;DATE\"` : ce qui ne va pas ; qui le corrige ; avant quand (AAAA-MM-JJ), les trois ; répétable"},
	"flag.signer":        {"sign as `NAME` (default: the PV's only signatory)", "signer en tant que `NOM` (défaut : l’unique signataire du PV)"},
	"flag.public-key":    {"trust the public key in `FILE`; may be repeated", "se fier à la clé publique de `FICHIER` ; répétable"},
	"flag.pv-file":       {"read the PV from `FILE`, as 'pv show -o yaml' prints it", "lire le PV dans `FICHIER`, tel que l’affiche 'pv show -o yaml'"},
	"flag.key-out":       {"write to `DIR/NAME`.key and .pub", "écrire dans `DOSSIER/NOM`.key et .pub"},
	"flag.token-name":    {"call the token `NAME`, to recognise it by", "appeler le jeton `NOM`, pour le reconnaître"},
	"flag.token-expires": {"let the token work for `DURATION`; 0 for ever", "laisser marcher le jeton pendant `DURÉE` ; 0 pour toujours"},
	"flag.host-project":  {"let `PROJECT` run there; may be repeated", "y laisser tourner `PROJET` ; répétable"},
	"flag.host-label":    {"label it `KEY=VALUE`: environments choose hosts by label; may be repeated", "l’étiqueter `CLÉ=VALEUR` : les environnements choisissent par étiquette ; répétable"},
	"flag.host-ttl":      {"let the join command work for `DURATION`", "laisser marcher la commande d’adhésion pendant `DURÉE`"},
	"flag.host-server":   {"print `ADDRESS` of the control plane, as the server sees it (default: the kubeconfig's)", "afficher l’`ADRESSE` du plan de contrôle, vue du serveur (défaut : celle du kubeconfig)"},
}
