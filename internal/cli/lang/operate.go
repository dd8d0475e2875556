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
