// SPDX-License-Identifier: Apache-2.0

package lang

// reporting are the texts of `report`, which pipelines run.
var reporting = map[ID]text{
	"report.short":   {"Send what a pipeline's tools wrote about a commit, and wait for the gate", "Envoyer ce que les outils d’un pipeline ont écrit d’un commit, et attendre la porte"},
	"report.long":    {"Read the files here, show what they say and send them to the HTTP API, which archives them and judges the commit. The format is found in the content: JUnit, JaCoCo, Cobertura, Go coverprofile, LCOV, SARIF 2.1.0, Trivy JSON, GitLab security and code quality reports, CycloneDX; compressed with gzip or not. A file that proves nothing is refused, and then none is sent. It uses $SIRRAT_API_URL, $SIRRAT_API_TOKEN and $SIRRAT_PROJECT_ID, needs no kubeconfig, and tries again while the server is busy or not reached. Exit code 3 when a gate refuses.", "Lire les fichiers ici, montrer ce qu’ils disent et les envoyer à l’API HTTP, qui les archive et juge le commit. Le format se reconnaît au contenu : JUnit, JaCoCo, Cobertura, coverprofile Go, LCOV, SARIF 2.1.0, Trivy JSON, rapports de sécurité et de qualité de GitLab, CycloneDX ; compressés par gzip ou non. Un fichier qui ne prouve rien est refusé, et alors aucun n’est envoyé. Elle prend $SIRRAT_API_URL, $SIRRAT_API_TOKEN et $SIRRAT_PROJECT_ID, se passe de kubeconfig, et recommence tant que le serveur est occupé ou injoignable. Code 3 quand une porte refuse."},
	"report.example": {"  # In GitLab CI, where the commit and the pipeline are known\n  kubectl sirrat report target/surefire-reports/TEST-*.xml target/site/jacoco/jacoco.xml --wait 2m\n\n  # Elsewhere\n  kubectl sirrat report trivy.json --commit $(git rev-parse HEAD) --pipeline 42 --fail-on never\n\n  # Look only\n  kubectl sirrat report coverage.out --dry-run", "  # Dans GitLab CI, où le commit et le pipeline sont connus\n  kubectl sirrat report target/surefire-reports/TEST-*.xml target/site/jacoco/jacoco.xml --wait 2m\n\n  # Ailleurs\n  kubectl sirrat report trivy.json --commit $(git rev-parse HEAD) --pipeline 42 --fail-on never\n\n  # Regarder seulement\n  kubectl sirrat report coverage.out --dry-run"},

	"flag.report-commit":   {"say that the files are about the commit `SHA` (default: $CI_COMMIT_SHA)", "dire que les fichiers sont au sujet du commit `SHA` (défaut : $CI_COMMIT_SHA)"},
	"flag.report-type":     {"count them under `TYPE`, instead of what they are", "les compter sous `TYPE`, au lieu de ce qu’ils sont"},
	"flag.report-pipeline": {"give the `ID` of the pipeline; a newer one replaces older ones (default: $CI_PIPELINE_ID)", "donner l’`ID` du pipeline ; un plus récent remplace les anciens (défaut : $CI_PIPELINE_ID)"},
	"flag.report-job":      {"give the `NAME` of the job (default: $CI_JOB_NAME)", "donner le `NOM` du job (défaut : $CI_JOB_NAME)"},
	"flag.report-run":      {"give the `ID` of the job's run; a newer one replaces older ones (default: $CI_JOB_ID)", "donner l’`ID` de l’exécution du job ; une plus récente remplace les anciennes (défaut : $CI_JOB_ID)"},
	"flag.report-branch":   {"give the branch `NAME` (default: $CI_COMMIT_REF_NAME)", "donner le `NOM` de la branche (défaut : $CI_COMMIT_REF_NAME)"},
	"flag.report-gate":     {"go by the gate `NAME` (default: all that open by themselves)", "s’en tenir à la porte `NOM` (défaut : toutes celles qui s’ouvrent seules)"},
	"flag.report-wait":     {"wait up to `DURATION` until the gate has passed or refused the commit", "attendre au plus `DURÉE` que la porte ait laissé passer ou refusé le commit"},
	"flag.report-fail-on":  {"exit with 3 on the `OUTCOME` refused, on waiting (until it has passed), or never", "finir par le code 3 selon l’`ISSUE` refused, waiting (tant que ce n’est pas passé) ou never"},
	"flag.report-dry-run":  {"show what the files say, and send nothing", "montrer ce que disent les fichiers, sans rien envoyer"},

	"report.tests":          {"%d tests, %d failed, %d skipped", "%d tests, %d échoués, %d sautés"},
	"report.coverage":       {"%s of %d lines", "%s de %d lignes"},
	"report.findings":       {"%d critical, %d high, %d medium, %d low", "%d critiques, %d hautes, %d moyennes, %d basses"},
	"report.components":     {"%d components", "%d composants"},
	"report.status.failed":  {"failed", "échoué"},
	"report.status.skipped": {"nothing was run", "rien n’a été exécuté"},
	"report.too-large":      {"larger than %d MiB, compressed", "plus de %d Mio, une fois compressé"},
	"report.verdict":        {"%s: %s, karma %d %s", "%s : %s, karma %d %s"},
	"report.next":           {"Next: %s", "Ensuite : %s"},
	"report.not-judged":     {"Stored, but not judged yet: --wait 2m waits for it.", "Enregistré, mais pas encore jugé : --wait 2m l’attend."},
	"report.again":          {"%v. Trying again in %s.", "%v. Nouvel essai dans %s."},

	"table.file":     {"file", "fichier"},
	"table.format":   {"format", "format"},
	"table.producer": {"by", "par"},
	"table.type":     {"type", "type"},
	"table.read":     {"read", "lu"},

	"error.report-commit":  {"--commit is needed: the files must be about something", "--commit est nécessaire : les fichiers doivent parler de quelque chose"},
	"error.report-fail-on": {"--fail-on %q: it can be refused, waiting or never", "--fail-on %q : ce peut être refused, waiting ou never"},
	"error.report-refused": {"%d of %d files prove nothing; none was sent", "%d fichiers sur %d ne prouvent rien ; aucun n’a été envoyé"},
	"hint.report-refused":  {"The table says why. A report that is empty or cut off is most often one whose tool failed before it was written.", "Le tableau dit pourquoi. Un rapport vide ou coupé est le plus souvent celui d’un outil qui a échoué avant de l’écrire."},
	"error.gate-refused":   {"the gate refuses this commit", "la porte refuse ce commit"},
	"error.gate-waiting":   {"the gate has not passed this commit", "la porte n’a pas laissé passer ce commit"},
	"error.no-api-token":   {"SIRRAT_API_TOKEN is not set", "SIRRAT_API_TOKEN n’est pas défini"},
	"hint.no-api-token":    {"`kubectl sirrat token create PROJECT` makes a token: put it into the CI's masked variables.", "`kubectl sirrat token create PROJET` fait un jeton : placez-le dans les variables masquées de la CI."},
}
