// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"fmt"
	"strings"
)

// readme explains an export to whoever is handed it, in the two languages of our users.
func readme(last Entry, keyID string) string {
	return fmt.Sprintf(strings.TrimLeft(readmeText, "\n"), cell(last.Project), last.Seq, keyID, cell(last.Project), last.Seq, keyID)
}

const readmeText = `
# Journal SIRRAT

## Français

Ce dossier contient tout ce que SIRRAT a consigné pour le projet « %s » : %d écritures, chacune liée à la précédente,
avec les documents (rapports, procès-verbaux signés, autorisations) sur lesquels elles reposent.

| fichier | contenu |
|---|---|
| journal.jsonl | les écritures, une par ligne, en JSON canonique (RFC 8785) |
| objects/sha256/ | les documents, nommés par leur empreinte SHA-256 |
| checkpoint.json | la dernière écriture et l'empreinte de chaque autre fichier, signées (DSSE) |
| keys/, client-keys/ | les clés publiques de l'installation et du client |
| index.csv | les écritures pour un tableur ; seul le journal fait foi |

Vérifier, sans réseau ni serveur :

    kubectl-sirrat audit verify CE-DOSSIER

Les clés de ce dossier ne prouvent rien à elles seules : comparez l'identifiant de la clé qui a signé ce dossier avec celui
que vous avez reçu par une autre voie :

    %s

Sans SIRRAT : l'empreinte SHA-256 de chaque ligne de journal.jsonl (sans le saut de ligne final) est le champ "prev" de la
ligne suivante ; celle de la dernière ligne est dans checkpoint.json ("payload", en base64) ; chaque document porte sa propre
empreinte comme nom (sha256sum).

## English

This folder holds all that SIRRAT recorded for the project "%s": %d entries, each bound to the one before, with the
documents (reports, signed acceptance certificates, authorizations) they rest upon.

| file | content |
|---|---|
| journal.jsonl | the entries, one a line, as canonical JSON (RFC 8785) |
| objects/sha256/ | the documents, named by their SHA-256 |
| checkpoint.json | the last entry and the hash of every other file, signed (DSSE) |
| keys/, client-keys/ | the public keys of the installation and of the client |
| index.csv | the entries for a spreadsheet; only the journal counts |

Verify, without network or server:

    kubectl-sirrat audit verify THIS-FOLDER

The keys in this folder prove nothing by themselves: compare the id of the key that signed it with the one you were given
some other way:

    %s

Without SIRRAT: the SHA-256 of each line of journal.jsonl (without its newline) is the field "prev" of the next line; that of
the last line is in checkpoint.json ("payload", base64); each document is named by its own hash (sha256sum).
`
