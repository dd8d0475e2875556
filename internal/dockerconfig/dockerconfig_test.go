// SPDX-License-Identifier: Apache-2.0

package dockerconfig

import (
	"strings"
	"testing"
)

func TestFor(t *testing.T) {
	named := func(user string) string { return `{"username":"` + user + `","password":"canary"}` }
	paths := `{"auths":{"r.example/team/a":` + named("a") + `,"r.example/team":` + named("team") + `,"r.example":` + named("all") + `,"r.example/other":` + named("other") + `}}`
	for name, c := range map[string]struct{ config, repository, user, problem string }{
		"plain":                    {`{"auths":{"r.example":` + named("u") + `}}`, "r.example/app", "u", ""},
		"encoded":                  {`{"auths":{"r.example":{"auth":"dTpjYW5hcnk="}}}`, "r.example/app", "u", ""},
		"an address":               {`{"auths":{"https://r.example/v2/":` + named("u") + `}}`, "r.example/app", "u", ""},
		"a port is another":        {`{"auths":{"r.example:5000":` + named("u") + `}}`, "r.example/app", "", ""},
		"the port that is meant":   {`{"auths":{"r.example":` + named("u") + `}}`, "r.example:443/app", "u", ""},
		"a host that begins so":    {`{"auths":{"r.example":` + named("u") + `}}`, "r.example.evil/app", "", ""},
		"the hub":                  {`{"auths":{"https://index.docker.io/v1/":` + named("u") + `}}`, "docker.io/library/postgres", "u", ""},
		"the hub as the library":   {`{"auths":{"docker.io":` + named("u") + `}}`, "index.docker.io/library/postgres", "u", ""},
		"path itself":              {paths, "r.example/team/a", "a", ""},
		"below a path":             {paths, "r.example/team/a/b", "a", ""},
		"a path that begins so":    {paths, "r.example/team/ab", "team", ""},
		"the whole host":           {paths, "r.example/app", "all", ""},
		"the host alone":           {paths, "r.example", "all", ""},
		"only of other paths":      {`{"auths":{"r.example/z":` + named("z") + `,"r.example/y":` + named("y") + `}}`, "r.example/app", "y", ""},
		"the hub's registry":       {`{"auths":{"registry-1.docker.io":` + named("u") + `}}`, "docker.io/library/postgres", "u", ""},
		"the hub's old name":       {`{"auths":{"docker.io":` + named("u") + `}}`, "registry.hub.docker.com/library/postgres", "u", ""},
		"capitals":                 {`{"auths":{"R.Example":` + named("u") + `}}`, "r.example/app", "u", ""},
		"a path with a slash":      {`{"auths":{"r.example":` + named("all") + `,"r.example/team/":` + named("team") + `}}`, "r.example/team/a", "team", ""},
		"the host before another":  {`{"auths":{"http://r.example/other":` + named("other") + `,"r.example":` + named("all") + `}}`, "r.example/app", "all", ""},
		"the API before another":   {`{"auths":{"http://r.example/other":` + named("other") + `,"https://r.example/v2/":` + named("all") + `}}`, "r.example/app", "all", ""},
		"the old API, likewise":    {`{"auths":{"http://r.example/other":` + named("other") + `,"https://r.example/v1":` + named("all") + `}}`, "r.example/app", "all", ""},
		"a host whose end is that": {`{"auths":{"evil.r.example":` + named("u") + `}}`, "r.example/app", "", ""},
		"a user in the address":    {`{"auths":{"u@r.example":` + named("u") + `}}`, "r.example/app", "", ""},
		"an entry of nothing":      {`{"auths":{"r.example":{}}}`, "r.example/app", "", ""},
		"a store, of other paths":  {`{"auths":{"r.example/other":{}},"credsStore":"desktop"}`, "r.example/app", "", "kubectl create secret docker-registry"},
		"a store of another host":  {`{"auths":{"s.example":{}},"credsStore":"desktop"}`, "r.example/app", "", ""},
		"helpers":                  {`{"credHelpers":{"q.example":"x","r.example":"y","s.example":"z"}}`, "r.example/app", "", "kubectl create secret docker-registry"},
		"encoded, and more":        {`{"auths":{"r.example":{"auth":"dTpjYW5hcnk=!"}}}`, "r.example/app", "", "entry for r.example"},
		"encoded, no password":     {`{"auths":{"r.example":{"auth":"Y2FuYXJ5"}}}`, "r.example/app", "", "entry for r.example"},
		"encoded, no user":         {`{"auths":{"r.example":{"auth":"OmNhbmFyeQ=="}}}`, "r.example/app", "", "entry for r.example"},
		"encoded beside another":   {`{"auths":{"r.example":{"auth":"dTpjYW5hcnk=","username":"other"}}}`, "r.example/app", "u", ""},
		"nobody":                   {`{}`, "r.example/app", "", ""},
		"a store without an entry": {`{"credsStore":"desktop"}`, "r.example/app", "", ""},
		"a store":                  {`{"auths":{"r.example":{}},"credsStore":"desktop"}`, "r.example/app", "", "kubectl create secret docker-registry"},
		"a helper":                 {`{"credHelpers":{"r.example":"ecr-login"}}`, "r.example/app", "", "kubectl create secret docker-registry"},
		"another's helper":         {`{"credHelpers":{"s.example":"ecr-login"}}`, "r.example/app", "", ""},
		"a helper and a password":  {`{"auths":{"r.example":` + named("u") + `},"credHelpers":{"r.example":"ecr-login"}}`, "r.example/app", "u", ""},
		"encoded badly":            {`{"auths":{"r.example":{"auth":"canary"}}}`, "r.example/app", "", "entry for r.example"},
		"another's, encoded badly": {`{"auths":{"s.example":{"auth":"canary"}}}`, "r.example/app", "", ""},
		"no JSON":                  {`canary`, "r.example/app", "", "not a Docker config.json"},
	} {
		for range 20 { // maps have no order
			auth, err := For([]byte(c.config), c.repository)
			if auth.Username != c.user || (err == nil) != (c.problem == "") || err != nil && !strings.Contains(err.Error(), c.problem) {
				t.Fatalf("%s: %q, %v", name, auth.Username, err)
			}
			if err != nil && strings.Contains(err.Error(), "canary") {
				t.Errorf("%s: the content is in %q", name, err)
			}
		}
	}
}

// An account is taken whole, in each of the ways in which it may be written.
func TestAccounts(t *testing.T) {
	for config, want := range map[string]Auth{
		`{"username":"u","password":"p"}`:            {Username: "u", Password: "p"},
		`{"auth":"dTpwOnE="}`:                        {Username: "u", Password: "p:q"},
		`{"auth":"dTpwAAA="}`:                        {Username: "u", Password: "p"}, // some tools fill it up with zeros
		`{"auth":"dTpw","password":"other"}`:         {Username: "u", Password: "p"},
		`{"identitytoken":"i","username":"<token>"}`: {Username: "<token>", IdentityToken: "i"},
		`{"registrytoken":"r"}`:                      {RegistryToken: "r"},
		`{"auth":"dTo=","identitytoken":"i"}`:        {Username: "u", IdentityToken: "i"},
		`{"email":"u@example","auth":""}`:            {},
	} {
		got, err := For([]byte(`{"auths":{"r.example":`+config+`}}`), "r.example/app")
		if err != nil || got != want || got.IsZero() != (want == Auth{}) {
			t.Errorf("%s: %+v, %v", config, got, err)
		}
	}
}
