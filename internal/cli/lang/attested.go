// SPDX-License-Identifier: Apache-2.0

package lang

// attested are the texts of what is attached to images.
var attested = map[ID]text{
	"verify.short": {"Prove through which gates an image went, with public keys alone", "Prouver par quels quality gates une image est passée, avec des clés publiques seules"},
	"verify.long": {
		"Read what SIRRAT attached to IMAGE in its registry (OCI referrers, or the tag sha256-… where the registry lists none) and check every signature on this machine: no cluster is asked. A tag is resolved first; what is proven is proven of the digest that is printed. Each demanded gate must have let the image pass, in the project named by --project where the installation has several; without --gate, at least one did and nothing that is attached is wrong. With --client-key, a gate that relied on a PV counts only if the client itself signed it with such a key, and one of the gates must have. Registry credentials are those of `docker login`. Exit codes: 0, proven; 1, not looked at: the registry, the image or a key cannot be read; 2, wrongly invoked; 3, not proven, with every finding named. In -o json and -o yaml the answer is `ok`, for the gates in `demanded`; what `passed` a gate is not yet proven to rest on its PV.",
		"Lire ce que SIRRAT a attaché à IMAGE dans son registre (referrers OCI, ou le tag sha256-… si le registre n’en liste pas) et vérifier chaque signature sur cette machine : aucun cluster n’est interrogé. Un tag est d’abord résolu ; ce qui est prouvé l’est de l’empreinte affichée. Chaque gate exigé doit avoir laissé passer l’image, dans le projet de --project si l’installation en a plusieurs ; sans --gate, il en faut un au moins et rien de faux parmi ce qui est attaché. Avec --client-key, un gate fondé sur un PV ne compte que si le client l’a signé lui-même d’une telle clé, et il en faut un parmi les gates. Les accès au registre sont ceux de `docker login`. Codes : 0, prouvé ; 1, non examiné : le registre, l’image ou une clé ne se lit pas ; 2, mal invoquée ; 3, non prouvé, chaque constat nommé. En -o json et -o yaml la réponse est `ok`, pour les gates de `demanded` ; ce qui a `passed` un gate n’est pas encore prouvé quant à son PV.",
	},
	"verify.example": {
		"  kubectl sirrat verify registry.example/shop/backend:v1.3.0 --key sirrat.pem\n  kubectl sirrat verify registry.example/shop/backend@sha256:… --key sirrat.pem \\\n    --project shop --gate client --gate production --client-key client.pub\n\n  # With revocations: what `sirrat keys list -o json` wrote\n  kubectl sirrat verify registry.example/shop/backend:v1.3.0 --keys keys.json",
		"  kubectl sirrat verify registry.example/shop/backend:v1.3.0 --key sirrat.pem\n  kubectl sirrat verify registry.example/shop/backend@sha256:… --key sirrat.pem \\\n    --project shop --gate client --gate production --client-key client.pub\n\n  # Avec les révocations : ce que `sirrat keys list -o json` a écrit\n  kubectl sirrat verify registry.example/shop/backend:v1.3.0 --keys cles.json",
	},
	"flag.verify-key":        {"trust the installation's public key in `FILE`; may be repeated", "se fier à la clé publique de l’installation de `FICHIER` ; répétable"},
	"flag.verify-keys":       {"trust the installation's keys in `FILE|URL`, as sirrat keys list -o json writes them; what a revoked one signed is refused", "se fier aux clés de l’installation de `FICHIER|URL`, telles que sirrat keys list -o json les écrit ; ce qu’une clé révoquée a signé est refusé"},
	"flag.verify-client-key": {"demand that PVs are signed with the client's public key in `FILE`; may be repeated", "exiger que les PV soient signés de la clé publique du client de `FICHIER` ; répétable"},
	"flag.verify-gate":       {"demand that the image passed the gate `NAME`; may be repeated", "exiger que l’image ait passé le gate `NOM` ; répétable"},
	"flag.verify-project":    {"count what the project `NAME` says only; one installation signs for all of its projects", "ne compter que ce que dit le projet `NOM` ; une installation signe pour tous ses projets"},

	"table.gate":        {"gate", "gate"},
	"table.verdict":     {"verdict", "verdict"},
	"table.environment": {"environment", "environnement"},
	"table.approvals":   {"approvals", "approbations"},
	"table.pv":          {"PV", "PV"},

	"verify.proven":         {"Proven: the image passed %s.", "Prouvé : l’image a passé %s."},
	"verify.opened":         {"Opened in an emergency, which is not passed: %s.", "Ouvert en urgence, ce qui n’est pas passé : %s."},
	"verify.beside":         {"Other findings, on which nothing of this rests", "Autres constats, sur lesquels rien de cela ne repose"},
	"verify.failed":         {"not passed", "non passé"},
	"verify.not-proven":     {"Not proven.", "Non prouvé."},
	"verify.missing":        {"Missing", "Manque"},
	"verify.problems":       {"Findings", "Constats"},
	"verify.gate":           {"gate %s:", "gate %s :"},
	"verify.client-key":     {"the client's key verified", "clé du client vérifiée"},
	"verify.nothing":        {"no gate's verdict that holds is attached", "aucun verdict valable d’un gate n’est attaché"},
	"verify.no-verdict":     {"no verdict of it that holds is attached", "aucun verdict valable de lui n’est attaché"},
	"verify.emergency":      {"opened in an emergency, not passed", "ouvert en urgence, non passé"},
	"verify.altered":        {"a statement was altered after it was signed", "une déclaration a été altérée après sa signature"},
	"verify.unknown-key":    {"a statement is signed by another key than those given", "une déclaration est signée d’une autre clé que celles données"},
	"verify.revoked-key":    {"a statement is signed by a key that was revoked", "une déclaration est signée d’une clé révoquée"},
	"verify.other-image":    {"a statement is about other images", "une déclaration porte sur d’autres images"},
	"verify.malformed":      {"something attached cannot be read as a statement", "quelque chose d’attaché ne se lit pas comme une déclaration"},
	"verify.incomplete":     {"not all that is attached could be read", "tout ce qui est attaché n’a pas pu être lu"},
	"verify.pv-altered":     {"a PV is not the one that was attested", "un PV n’est pas celui qui fut attesté"},
	"verify.pv-other-image": {"a PV is about other images", "un PV porte sur d’autres images"},
	"verify.pv-unsigned":    {"a PV is not signed by the client's key that was given", "un PV n’est pas signé de la clé du client donnée"},
	"verify.pv-missing":     {"the PV on which it relied is not attached", "le PV sur lequel il se fondait n’est pas attaché"},
	"verify.pv-refused":     {"the client did not accept the PV on which it relied", "le client n’a pas accepté le PV sur lequel il se fondait"},
	"verify.no-client":      {"the client's key was given, and no gate that is proven relied on a PV signed with it", "la clé du client est donnée, et aucun gate prouvé ne se fondait sur un PV signé d’elle"},
	"verify.pvs":            {"PVs on which no gate relied", "PV sur lesquels aucun gate ne se fondait"},
	"verify.projects":       {"verdicts of several projects are attached; say which one counts with --project", "des verdicts de plusieurs projets sont attachés ; dites lequel compte avec --project"},

	"error.not-proven":      {"%s is not proven", "%s n’est pas prouvé"},
	"hint.nothing-attached": {"It went through no gate, or its project attaches nothing (Project.spec.attestations), or the registry's clean-up removed it.", "Elle n’est passée par aucun gate, ou son projet n’attache rien (Project.spec.attestations), ou le nettoyage du registre l’a retiré."},
	"error.verify-registry": {"%s", "%s"},
	"hint.verify-registry":  {"Check the image's name, and `docker login` for its registry.", "Vérifiez le nom de l’image, et `docker login` pour son registre."},
	"error.verify-key":      {"--key or --keys is needed: the public keys of the installation", "--key ou --keys est nécessaire : les clés publiques de l’installation"},
	"hint.public-key":       {"A key is one PEM block, PUBLIC KEY, in a file of its own: \"public\" in what `sirrat keys list -o json` writes. The whole list goes to --keys of `kubectl sirrat verify`.", "Une clé est un bloc PEM, PUBLIC KEY, dans un fichier à elle : « public » dans ce que `sirrat keys list -o json` écrit. La liste entière va à --keys de `kubectl sirrat verify`."},
	"error.key-list":        {"The keys in %s cannot be used: %v", "Les clés de %s sont inutilisables : %v"},
	"hint.key-list":         {"sirrat keys list -o json writes such a list.", "sirrat keys list -o json écrit une telle liste."},
	"error.key-list-http":   {"Keys are not fetched over plain HTTP (%s): whoever is on the way could put their own in. Use https.", "Les clés ne sont pas prises en HTTP simple (%s) : qui est en chemin pourrait y mettre la sienne. Prenez https."},
}
