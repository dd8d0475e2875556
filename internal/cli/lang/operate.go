// SPDX-License-Identifier: Apache-2.0

package lang

// operate is what the commands about running servers say.
var operate = map[ID]text{
	"logs.short": {"Show log lines of a server's containers, if its owner allows it", "Montrer les journaux des conteneurs d’un serveur, si son propriétaire le permet"},
	"logs.long": {
		"Ask the agent of a server for log lines. The server needs no open port: the request is an annotation on the environment's newest Rollout, and the agent answers in its status, without secrets, for two minutes. The server's owner allows it in the host policy or not. Operators may ask; others where they are bound to the role sirrat-logs. Every request is an event of the Host.",
		"Demander des lignes de journal à l’agent d’un serveur. Le serveur n’a besoin d’aucun port ouvert : la demande est une annotation sur le dernier Rollout de l’environnement, et l’agent répond dans son statut, sans secrets, pour deux minutes. Le propriétaire du serveur le permet ou non dans la politique de l’hôte. Les opérateurs peuvent demander ; les autres là où ils ont le rôle sirrat-logs. Chaque demande est un événement du Host.",
	},
	"logs.example": {
		"  kubectl sirrat logs vps-1 web -n supergest-001\n  kubectl sirrat logs vps-1 web -n supergest-001 --environment production --tail 20 -f",
		"  kubectl sirrat logs vps-1 web -n supergest-001\n  kubectl sirrat logs vps-1 web -n supergest-001 --environment production --tail 20 -f",
	},
	"flag.logs-environment": {"the `ENVIRONMENT`, where the project has several on that server", "l’`ENVIRONNEMENT`, si le projet en a plusieurs sur ce serveur"},
	"flag.logs-tail":        {"how many of the last lines of each container, at most 1000", "combien des dernières lignes de chaque conteneur, au plus 1000"},
	"flag.logs-follow":      {"go on until interrupted, asking every two seconds", "continuer jusqu’à interruption, en demandant toutes les deux secondes"},

	"host.update.short": {"Have agents become another version, which they try before they keep it", "Faire passer les agents à une autre version, qu’ils essaient avant de la garder"},
	"host.update.long": {
		"Name the version that the agent of a server, or of every server, is to become. It must be published (`sirrat agent publish`; the server publishes the agent it was released with by itself). The agent checks the signature, tries the new version beside what runs, and goes back by itself if it does not report healthy; containers are not touched. The same command again asks again for an update that failed.",
		"Nommer la version que doit prendre l’agent d’un serveur, ou de tous. Elle doit être publiée (`sirrat agent publish` ; le serveur publie de lui-même l’agent livré avec lui). L’agent vérifie la signature, essaie la nouvelle version sans toucher à ce qui tourne, et revient de lui-même si elle ne se dit pas saine ; aucun conteneur n’est touché. La même commande redemande une mise à jour qui a échoué.",
	},
	"host.update.example": {
		"  kubectl sirrat host update vps-1 --version v1.4.0\n  kubectl sirrat host update --all --version v1.4.0",
		"  kubectl sirrat host update vps-1 --version v1.4.0\n  kubectl sirrat host update --all --version v1.4.0",
	},
	"flag.agent-version":  {"the `VERSION` that the agents are to become", "la `VERSION` que doivent prendre les agents"},
	"flag.all-hosts":      {"every server", "tous les serveurs"},
	"error.host-update":   {"give --version, and either a server's name or --all", "donnez --version, et soit le nom d’un serveur, soit --all"},
	"host.update-ordered": {"The agent of %s is to become %s. kubectl get host %s -o yaml says what comes of it (status.agent.update).", "L’agent de %s doit passer à %s. kubectl get host %s -o yaml dit ce qu’il en est (status.agent.update)."},

	"logs.no-rollout":        {"Nothing of %s is on server %s.", "Rien de %s n’est sur le serveur %s."},
	"logs.no-environment":    {"Environment %s of %s is not on server %s. There: %s.", "L’environnement %s de %s n’est pas sur le serveur %s. Il y a : %s."},
	"logs.which-environment": {"Several environments of %s are on server %s.", "Plusieurs environnements de %s sont sur le serveur %s."},
	"logs.hint-environment":  {"Give --environment: %s.", "Donnez --environment : %s."},
	"logs.no-answer":         {"The agent of %s has not answered within %s.", "L’agent de %s n’a pas répondu en %s."},
	"logs.hint-no-answer":    {"kubectl get host %s says whether it is heard of.", "kubectl get host %s dit s’il donne signe de vie."},
	"logs.refused":           {"Server %s does not show its logs: %s.", "Le serveur %s ne montre pas ses journaux : %s."},
	"logs.hint-refused":      {"Its owner decides, in /etc/sirrat/host-policy.yaml on the server.", "Son propriétaire en décide, dans /etc/sirrat/host-policy.yaml sur le serveur."},
	"logs.truncated":         {"(older lines left out)", "(lignes plus anciennes omises)"},
	"logs.none":              {"(no lines)", "(aucune ligne)"},
}
