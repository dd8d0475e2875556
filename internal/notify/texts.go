// SPDX-License-Identifier: Apache-2.0

package notify

// key selects the words for an event.
type key struct {
	kind  Kind
	state State
}

// text is what is said of an event. Names in braces are filled in; none begins a line, where it might look like a command.
type text struct {
	subject string
	what    string
	steps   []step
}

// step is something to do now, with the command that does it, after "kubectl sirrat"; "" if none does.
type step struct {
	say, command string
}

type words struct {
	reason string
	entry  string
	events map[key]text
}

// Commands, the same in each language but for what stands for a reason.
const (
	commandApprove = "approve {release} {gate}"
	commandWhyGate = "why {release} --gate {gate}"
	commandWhy     = "why {release}"
	commandStatus  = "status {release}"
	commandLift    = "reject {release} {gate} --lift"
	commandShowPV  = "pv show {pv}"
)

var english = words{
	reason: "Why: ",
	entry:  ", journal entry ",
	events: map[key]text{
		{ApprovalWanted, StatePublication}: {
			subject: "{project}: {code} waits for your approval at gate {gate}",
			what:    "Release {code} of {project} has all that gate {gate} asks for, but people's approval. The gate guards its publication: applications may be built with it then.",
			steps: []step{
				{"To see its artifacts, and approve it:", commandApprove},
				{"To send it back:", `reject {release} {gate} --reason "..."`},
			},
		},
		{ApprovalWanted, ""}: {
			subject: "{project}: {code} waits for your approval at gate {gate}",
			what:    "Release {code} of {project} has all that gate {gate} asks for, but people's approval. The gate guards environment {environment}.",
			steps: []step{
				{"To see what would be deployed, and approve it:", commandApprove},
				{"To send it back:", `reject {release} {gate} --reason "..."`},
			},
		},
		{PVToSign, ""}: {
			subject: "{project}: PV {pv} is to be signed for {code}",
			what:    "Release {code} of {project} is ready for acceptance in environment {environment}. PV {pv} waits for the signature of {client}.",
			steps: []step{
				{"To read it:", commandShowPV},
				{"For the client, to sign it with the client's key:", "pv sign {pv} --key client.key --decision accept"},
			},
		},
		{Refused, RefusedByGate}: {
			subject: "{project}: gate {gate} refuses {code}",
			what:    "Gate {gate} refuses release {code} of {project}. Waiting does not help.",
			steps:   []step{{"To see what it lacks, and who can provide it:", commandWhyGate}},
		},
		{Refused, RefusedByPerson}: {
			subject: "{project}: {code} is rejected at gate {gate}",
			what:    "Release {code} of {project} is rejected at gate {gate} by {actor}.",
			steps:   []step{{"A new commit is needed, or the rejection is lifted by whoever may:", commandLift}},
		},
		{Refused, RefusedByClient}: {
			subject: "{project}: the client refuses {code}",
			what:    "Release {code} of {project} is refused by {client}, by the hand of {actor}: PV {pv}.",
			steps:   []step{{"To read the decision:", commandShowPV}, {"To see what is needed now:", commandWhy}},
		},
		{Deployed, ""}: {
			subject: "{project}: {code} is deployed in {environment}",
			what:    "Release {code} of {project} is healthy in environment {environment}. There is nothing to do.",
			steps:   []step{{"To look at it:", commandStatus}},
		},
		{RolledBack, StateRolledBack}: {
			subject: "{project}: {code} is rolled back in {environment}",
			what:    "Release {code} of {project} did not become healthy in environment {environment}. The previous version serves again.",
			steps:   []step{{"To see what failed, and what is needed now:", commandWhy}},
		},
		{RolledBack, StateFailed}: {
			subject: "{project}: {code} failed in {environment}",
			what:    "Release {code} of {project} did not become healthy in environment {environment}, and there was no previous version to go back to. The environment may be down.",
			steps:   []step{{"To see what failed, and what is needed now:", commandWhy}},
		},
		{RolledBack, StateReturned}: {
			subject: "{project}: {code} is taken back from {environment}",
			what:    "Release {code} of {project} is taken back from environment {environment}.",
			steps:   []step{{"To see why, and what is needed now:", commandWhy}},
		},
		{Debt, StateBrokeGlass}: {
			subject: "{project}: gate {gate} is opened in an emergency for {code}",
			what:    "Gate {gate} of {project} was opened in an emergency for release {code}, by {actor}. Until somebody else regularises it, other releases are held up there.",
			steps: []step{
				{"To look at it:", commandStatus},
				{"For somebody else than {actor}, to regularise it:", `regularise {release} {gate} --reason "..."`},
			},
		},
		{Debt, StateRegularised}: {
			subject: "{project}: the emergency at gate {gate} is regularised for {code}",
			what:    "The emergency opening of gate {gate} of {project} for release {code} is regularised by {actor}. There is nothing to do.",
			steps:   []step{{"To look at it:", commandStatus}},
		},
	},
}

var french = words{
	reason: "Motif : ",
	entry:  ", entrée du journal ",
	events: map[key]text{
		{ApprovalWanted, StatePublication}: {
			subject: "{project} : {code} attend votre approbation au gate {gate}",
			what:    "La release {code} de {project} a tout ce que demande le gate {gate}, sauf l’approbation de personnes. Ce gate garde sa publication : les applications pourront alors être construites avec elle.",
			steps: []step{
				{"Pour voir ses artefacts, et l’approuver :", commandApprove},
				{"Pour la renvoyer :", `reject {release} {gate} --reason "..."`},
			},
		},
		{ApprovalWanted, ""}: {
			subject: "{project} : {code} attend votre approbation au gate {gate}",
			what:    "La release {code} de {project} a tout ce que demande le gate {gate}, sauf l’approbation de personnes. Ce gate garde l’environnement {environment}.",
			steps: []step{
				{"Pour voir ce qui serait déployé, et l’approuver :", commandApprove},
				{"Pour la renvoyer :", `reject {release} {gate} --reason "..."`},
			},
		},
		{PVToSign, ""}: {
			subject: "{project} : le PV {pv} est à signer pour {code}",
			what:    "La release {code} de {project} est prête pour la recette dans l’environnement {environment}. Le PV {pv} attend la signature de {client}.",
			steps: []step{
				{"Pour le lire :", commandShowPV},
				{"Pour le client, pour le signer avec sa clé :", "pv sign {pv} --key client.key --decision accept"},
			},
		},
		{Refused, RefusedByGate}: {
			subject: "{project} : le gate {gate} refuse {code}",
			what:    "Le gate {gate} refuse la release {code} de {project}. Attendre n’y changera rien.",
			steps:   []step{{"Pour voir ce qui lui manque, et qui peut l’apporter :", commandWhyGate}},
		},
		{Refused, RefusedByPerson}: {
			subject: "{project} : {code} est rejetée au gate {gate}",
			what:    "La release {code} de {project} est rejetée au gate {gate} par {actor}.",
			steps:   []step{{"Il faut un nouveau commit, ou que le rejet soit levé par qui en a le droit :", commandLift}},
		},
		{Refused, RefusedByClient}: {
			subject: "{project} : le client refuse {code}",
			what:    "La release {code} de {project} est refusée par {client}, de la main de {actor} : PV {pv}.",
			steps:   []step{{"Pour lire la décision :", commandShowPV}, {"Pour voir ce qu’il faut maintenant :", commandWhy}},
		},
		{Deployed, ""}: {
			subject: "{project} : {code} est déployée dans {environment}",
			what:    "La release {code} de {project} est en bonne santé dans l’environnement {environment}. Il n’y a rien à faire.",
			steps:   []step{{"Pour la regarder :", commandStatus}},
		},
		{RolledBack, StateRolledBack}: {
			subject: "{project} : retour arrière de {code} dans {environment}",
			what:    "La release {code} de {project} n’a pas atteint la bonne santé dans l’environnement {environment}. La version précédente sert de nouveau.",
			steps:   []step{{"Pour voir ce qui a échoué, et ce qu’il faut maintenant :", commandWhy}},
		},
		{RolledBack, StateFailed}: {
			subject: "{project} : {code} a échoué dans {environment}",
			what:    "La release {code} de {project} n’a pas atteint la bonne santé dans l’environnement {environment}, et il n’y avait pas de version précédente où revenir. L’environnement est peut-être à l’arrêt.",
			steps:   []step{{"Pour voir ce qui a échoué, et ce qu’il faut maintenant :", commandWhy}},
		},
		{RolledBack, StateReturned}: {
			subject: "{project} : {code} est reprise de {environment}",
			what:    "La release {code} de {project} est reprise de l’environnement {environment}.",
			steps:   []step{{"Pour voir pourquoi, et ce qu’il faut maintenant :", commandWhy}},
		},
		{Debt, StateBrokeGlass}: {
			subject: "{project} : le gate {gate} est ouvert en urgence pour {code}",
			what:    "Le gate {gate} de {project} a été ouvert en urgence pour la release {code}, par {actor}. Tant que quelqu’un d’autre ne l’a pas régularisé, les autres releases y sont retenues.",
			steps: []step{
				{"Pour la regarder :", commandStatus},
				{"Pour quelqu’un d’autre que {actor}, pour régulariser :", `regularise {release} {gate} --reason "..."`},
			},
		},
		{Debt, StateRegularised}: {
			subject: "{project} : l’urgence au gate {gate} est régularisée pour {code}",
			what:    "L’ouverture en urgence du gate {gate} de {project} pour la release {code} est régularisée par {actor}. Il n’y a rien à faire.",
			steps:   []step{{"Pour la regarder :", commandStatus}},
		},
	},
}
