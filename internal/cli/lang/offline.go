// SPDX-License-Identifier: Apache-2.0

package lang

// bundles is what the commands for servers with no way out say.
var bundles = map[ID]text{
	"bundle.short": {"Carry a release to a server with no way out", "Porter une release à un serveur sans accès au dehors"},
	"bundle.long": {
		"Servers that reach neither the control plane nor a registry get their releases in files. There, `sirrat-agent apply` judges and deploys them as if they had been sent.",
		"Les serveurs qui n’atteignent ni le plan de contrôle ni un registre reçoivent leurs releases dans des fichiers. Là-bas, `sirrat-agent apply` les juge et les déploie comme si elles avaient été envoyées.",
	},
	"bundle.example":      {"  kubectl sirrat bundle export shop production vps-1 -o shop.tar", "  kubectl sirrat bundle export shop production vps-1 -o shop.tar"},
	"bundle.export.short": {"Write the newest authorised release for a server to a file, with its images", "Écrire dans un fichier la dernière release autorisée pour un serveur, avec ses images"},
	"bundle.export.long": {
		"Write the newest Rollout of an environment on a server, with its signed authorization, the statements about authorization keys, and its images by digest for the server's platform. Images are read with the credentials of `docker login`, or of --registry-config. The values of Secrets are left out: the server gets them with `sirrat-agent apply --secrets FILE`, unless --with-secrets puts them in.",
		"Écrire le dernier Rollout d’un environnement sur un serveur, avec son autorisation signée, les déclarations sur les clés d’autorisation et ses images par empreinte pour la plateforme du serveur. Les images sont lues avec les accès de `docker login`, ou de --registry-config. Les valeurs des Secrets n’y sont pas : le serveur les reçoit par `sirrat-agent apply --secrets FICHIER`, sauf si --with-secrets les y met.",
	},
	"bundle.export.example": {
		"  kubectl sirrat bundle export shop production vps-1 -o shop.tar\n  kubectl sirrat bundle export shop production vps-1 -o shop.tar --platform linux/arm64 --registry-config ./config.json",
		"  kubectl sirrat bundle export shop production vps-1 -o shop.tar\n  kubectl sirrat bundle export shop production vps-1 -o shop.tar --platform linux/arm64 --registry-config ./config.json",
	},
	"flag.bundle-file":     {"write to `FILE`", "écrire dans `FICHIER`"},
	"flag.bundle-platform": {"take the images for `OS/ARCH` (default: what the server's agent said of itself)", "prendre les images pour `OS/ARCH` (défaut : ce que l’agent du serveur a dit de lui)"},
	"flag.bundle-registry": {"read registry credentials from `FILE`, a Docker config.json (default: those of `docker login`)", "lire les accès aux registres dans `FICHIER`, un config.json de Docker (défaut : ceux de `docker login`)"},
	"flag.bundle-secrets":  {"put the values of the release's Secrets into the file, in plain text", "mettre les valeurs des Secrets de la release dans le fichier, en clair"},
	"bundle.progress":      {"images: %s of %s", "images : %s sur %s"},
	"bundle.written":       {"%s holds release %s, sequence %d, for server %s (%s, %s).", "%s contient la release %s, numéro %d, pour le serveur %s (%s, %s)."},
	"bundle.until":         {"The server must begin it by %s.", "Le serveur doit la commencer au plus tard le %s."},
	"bundle.with-secrets": {
		"Warning: %s holds the values of %d secrets in plain text. Whoever can read it has them: carry it with care, and delete it afterwards.",
		"Attention : %s contient en clair les valeurs de %d secrets. Qui peut le lire les possède : portez-le avec soin, et effacez-le ensuite.",
	},
	"bundle.without-secrets": {
		"The values of secrets are not in it. On the server, write them to a file that only root can read, one KEY=VALUE a line, and give it with --secrets: %s.",
		"Les valeurs des secrets n’y sont pas. Sur le serveur, écrivez-les dans un fichier que seul root peut lire, une CLÉ=VALEUR par ligne, et donnez-le avec --secrets : %s.",
	},
	"bundle.report.short": {"Write the outcome that was brought back from a server into the Rollout", "Inscrire dans le Rollout l’issue rapportée d’un serveur"},
	"bundle.report.long": {
		"Write what `sirrat-agent apply --report` wrote into the status of the Rollout. What it says counts as evidence, and nobody but the host's agent may write it unless an administrator gave the right: patch on rollouts/status in the host's namespace.",
		"Inscrire dans le statut du Rollout ce que `sirrat-agent apply --report` a écrit. Cela compte comme preuve, et personne d’autre que l’agent de l’hôte ne peut l’écrire sauf droit donné par un administrateur : patch sur rollouts/status dans l’espace de noms de l’hôte.",
	},
	"bundle.report.example":   {"  kubectl sirrat bundle report report.json", "  kubectl sirrat bundle report report.json"},
	"bundle.reported":         {"Rollout %s in %s is %s.", "Le Rollout %s dans %s est %s."},
	"error.report":            {"%s is not the outcome of a bundle that was applied.", "%s n’est pas l’issue d’un lot appliqué."},
	"hint.report":             {"sirrat-agent apply BUNDLE --report FILE writes it.", "sirrat-agent apply LOT --report FICHIER l’écrit."},
	"error.report-other":      {"Rollout %s in %s is another one than the report is about.", "Le Rollout %s dans %s n’est pas celui du rapport."},
	"error.report-forbidden":  {"You may not write the status of Rollout %s in %s.", "Vous ne pouvez pas écrire le statut du Rollout %s dans %s."},
	"hint.report-forbidden":   {"Ask an administrator: what it says counts as evidence.", "Demandez à un administrateur : cela compte comme preuve."},
	"error.bundle-file":       {"give the file to write with -o", "donnez le fichier à écrire avec -o"},
	"error.bundle-platform":   {"The platform of server %s is not known: its agent was never heard of.", "La plateforme du serveur %s est inconnue : son agent n’a jamais donné signe de vie."},
	"hint.bundle-platform":    {"Give --platform, for example --platform linux/amd64.", "Donnez --platform, par exemple --platform linux/amd64."},
	"error.bundle-no-rollout": {"Nothing of environment %s of %s is authorised for server %s.", "Rien de l’environnement %s de %s n’est autorisé pour le serveur %s."},
	"hint.bundle-no-rollout": {
		"A server that never joined needs spec.offline: true (kubectl edit host %s); then kubectl sirrat why says what a release waits for.",
		"Un serveur qui n’a jamais adhéré a besoin de spec.offline: true (kubectl edit host %s) ; ensuite kubectl sirrat why dit ce qu’une release attend.",
	},
	"error.bundle-refused": {"Server %s would refuse the order for release %s: %s.", "Le serveur %s refuserait l’ordre pour la release %s : %s."},
	"hint.bundle-refused": {
		"An administrator has it signed anew with kubectl delete rollout %s -n %s: the control plane makes it again, with the same number.",
		"Un administrateur le fait signer à nouveau avec kubectl delete rollout %s -n %s : le plan de contrôle le refait, avec le même numéro.",
	},
	"error.bundle-secret": {"You may not read Secret %s in %s.", "Vous ne pouvez pas lire le Secret %s dans %s."},
	"hint.bundle-secret":  {"To name what the server needs, the export must read which keys it has.", "Pour nommer ce qu’il faut au serveur, l’export doit lire quelles clés il contient."},

	"host.export.short": {"Write what a server with no way out needs to become a host", "Écrire ce qu’il faut à un serveur sans accès au dehors pour devenir un hôte"},
	"host.export.long": {
		"Write the host's name and uid, the control plane's address and CA, and the keys that may sign deployments. None of it is secret, but it must arrive unaltered: the command that is printed names the file's SHA-256. Read it out to whoever runs it on the server.",
		"Écrire le nom et l’uid de l’hôte, l’adresse et la CA du plan de contrôle, et les clés qui peuvent signer des déploiements. Rien n’est secret, mais tout doit arriver intact : la commande affichée porte le SHA-256 du fichier. Lisez-le à voix haute à qui la lance sur le serveur.",
	},
	"host.export.example": {"  kubectl sirrat host export vps-1 -o host-trust.json", "  kubectl sirrat host export vps-1 -o host-trust.json"},
	"flag.trust-file":     {"write to `FILE`", "écrire dans `FICHIER`"},
	"host.exported":       {"%s makes a server host %s. Carry it there and run:", "%s fait d’un serveur l’hôte %s. Portez-le là-bas et lancez :"},
	"error.host-no-keys":  {"Host %s has no authorization keys yet.", "L’hôte %s n’a pas encore de clés d’autorisation."},
}
