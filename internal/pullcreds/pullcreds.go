// SPDX-License-Identifier: Apache-2.0

// Package pullcreds decides about the credentials that agents pull with: one for each host and environment, which is replaced
// before it ends and revoked after a time in which pulls that have begun come to their end.
//
// It is pure: what is recorded, wanted, delivered and listed comes in as values, and what to do goes out. It imports the
// standard library only. Nothing in it ever holds a password: a Record can be stored and shown.
package pullcreds

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// Grace is how long a credential stays good after its successor was delivered: engines that have begun to pull ask for
	// further layers with what they began with.
	Grace = time.Hour
	// renewShare: what is left of a lifetime when the next credential is issued, unless it is declared.
	renewShare = 3
	// maxNumber is beyond what is ever issued: whoever may name credentials at a source must not use the numbers up.
	maxNumber = 1 << 40
	// maxKept credentials of a target are enough while its source revokes none: further ones would heap up there, and in the record.
	maxKept = 4
	// nameParts bounds each of host and environment in a name, in bytes: the number alone makes a name unique.
	nameParts = 60
)

// Target is for whom a credential is.
type Target struct {
	Host string `json:"host"`
	// HostUID: another Host of the same name is another host.
	HostUID     string `json:"hostUID"`
	Environment string `json:"environment"`
}

// Source is who issues credentials, and for what.
type Source struct {
	Provider string `json:"provider"`
	URL      string `json:"url"`
	// Scope is what may be pulled from: Harbor projects in order, or the one GitLab project.
	Scope []string `json:"scope"`
	// Registry is the host that images are pulled from with it.
	Registry string `json:"registry"`
	// SecretRef is the Secret of the account that issues and revokes. It does not make another source.
	SecretRef string `json:"secretRef"`
	// SecretVersion is that of the Secret when it was last used here: a later one may hold the account of somewhere else.
	SecretVersion string `json:"secretVersion,omitempty"`
}

// Key tells sources apart.
func (s Source) Key() string {
	return strings.Join(append([]string{s.Provider, s.URL, s.Registry}, s.Scope...), "\n")
}

// Credential is what is known of one, but for the password, which is in the Secret that it was delivered in alone.
type Credential struct {
	Number int64 `json:"number"`
	// Name by which it is found at its source.
	Name   string `json:"name"`
	Target Target `json:"target"`
	Source Source `json:"source"`
	// ID at its source. 0 while it is only intended.
	ID int64 `json:"id,omitempty"`
	// Issued is zero while it is only intended: it may exist at its source or not.
	Issued time.Time `json:"issued,omitzero"`
	// Expires is when its source ends it; while it is only intended, the latest that this can be.
	Expires time.Time `json:"expires,omitzero"`
	// Superseded is when its successor was delivered; zero for the newest.
	Superseded time.Time `json:"superseded,omitzero"`
}

// Intended says that nobody knows whether it exists.
func (c Credential) Intended() bool { return c.Issued.IsZero() }

// Record is what is known of the credentials of a project. It is written before anything is issued.
type Record struct {
	ProjectUID string `json:"projectUID"`
	// Last is the highest number that was given to a credential.
	Last        int64        `json:"last"`
	Credentials []Credential `json:"credentials,omitempty"`
	// Farewells is how often it was tried to revoke everything since the project is being deleted.
	Farewells int `json:"farewells,omitempty"`
}

// Current is the newest credential of a target that was issued and not superseded; nil if there is none.
func (r *Record) Current(t Target) *Credential {
	for i := range r.Credentials {
		if c := &r.Credentials[i]; c.Target == t && !c.Intended() && c.Superseded.IsZero() {
			return c
		}
	}
	return nil
}

// Intend adds a credential that is about to be issued and ends at the given time at the latest.
func (r *Record) Intend(t Target, s Source, ends time.Time) Credential {
	r.Last++
	c := Credential{Number: r.Last, Name: name(r.ProjectUID, t, r.Last), Target: t, Source: s, Expires: ends}
	r.Credentials = append(r.Credentials, c)
	return c
}

// Skip keeps numbers from being given again that names at a source have: a record may be older than what was issued.
func (r *Record) Skip(listed []Listed) {
	for _, l := range listed {
		number, err := strconv.ParseInt(l.Name[strings.LastIndex(l.Name, "-")+1:], 10, 64)
		if err == nil && strings.HasPrefix(l.Name, Prefix(r.ProjectUID)) && number < maxNumber {
			r.Last = max(r.Last, number)
		}
	}
}

// Issued notes that a credential exists and was delivered: the others of its target give way to it.
func (r *Record) Issued(number, id int64, issued, expires time.Time) {
	i := slices.IndexFunc(r.Credentials, func(c Credential) bool { return c.Number == number })
	if i < 0 {
		return
	}
	c := &r.Credentials[i]
	c.ID, c.Issued, c.Expires = id, issued, expires
	for j := range r.Credentials {
		if o := &r.Credentials[j]; o.Number < number && o.Target == c.Target && !o.Intended() && o.Superseded.IsZero() {
			o.Superseded = issued
		}
	}
}

// Forget drops a credential that is no more.
func (r *Record) Forget(number int64) {
	r.Credentials = slices.DeleteFunc(r.Credentials, func(c Credential) bool { return c.Number == number })
}

// Prefix begins the names of all credentials of a project, and of no other's: two installations can share a registry.
func Prefix(projectUID string) string {
	return "sirrat-" + strings.ToLower(projectUID[:min(len(projectUID), 8)]) + "-"
}

// name is one that both Harbor (^[a-z0-9]+(?:[._-][a-z0-9]+)*$) and GitLab take.
func name(projectUID string, t Target, number int64) string {
	return Prefix(projectUID) + part(t.Host) + "-" + part(t.Environment) + "-" + strconv.FormatInt(number, 10)
}

// part has no separator at its ends and no two in a row.
func part(s string) string {
	words := strings.FieldsFunc(strings.ToLower(s), func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') })
	out := strings.Join(words, "-")
	return cmp.Or(strings.TrimRight(out[:min(len(out), nameParts)], "-"), "x")
}

// Terms are how long credentials last.
type Terms struct {
	Lifetime time.Duration
	// RenewBefore the end; 0 for a third of the lifetime.
	RenewBefore time.Duration
}

// end is when a credential is used no more, if there is another.
func (t Terms) end(c Credential) time.Time {
	if end := c.Issued.Add(t.Lifetime); end.Before(c.Expires) {
		return end
	}
	return c.Expires
}

// Renewal is when the next credential is to be issued. One that its source made shorter than asked for is renewed when a
// third of it is left.
func (t Terms) Renewal(c Credential) time.Time {
	end := t.end(c)
	life := end.Sub(c.Issued)
	before := cmp.Or(t.RenewBefore, t.Lifetime/renewShare)
	if before >= life {
		before = life / renewShare
	}
	return end.Add(-before)
}

// revocation is when a superseded credential is to be revoked.
func (t Terms) revocation(c Credential) time.Time {
	at := c.Superseded.Add(Grace)
	if end := t.end(c); end.Before(at) {
		return end
	}
	return at
}

// Listed is a credential that a source has.
type Listed struct {
	Name string
	ID   int64
}

// Input of Decide.
type Input struct {
	Now    time.Time
	Record Record
	// Wanted are the targets that are to have a credential.
	Wanted []Target
	// Source issues them; nil for none: then what there is is revoked.
	Source *Source
	// Held: what is declared cannot be used. Nothing is issued, what is wanted stays, and what is not goes all the same.
	Held  bool
	Terms Terms
	// Delivered is the name of the credential that each target's Secret holds.
	Delivered map[Target]string
	// Listed is all that begins with the project's prefix at a source, by its key; missing where it is not known.
	Listed map[string][]Listed
}

// Plan is what to do: first issue, then revoke.
type Plan struct {
	// Issue a credential for each.
	Issue []Target
	// Revoke these now. Some may have no ID: they are looked for by their name.
	Revoke []Credential
	// Forget these: their source does not have them.
	Forget []Credential
	// Strays are at the source of Input and in no record.
	Strays []Listed
	// Next is when time alone changes the plan; zero for never.
	Next time.Time
}

// Decide says what is to be done.
func Decide(in Input) Plan {
	var p Plan
	for _, c := range in.Record.Credentials {
		switch due := in.revocation(c); {
		case due.IsZero():
		case in.gone(c):
			p.Forget = append(p.Forget, c)
		case due.After(in.Now):
			p.look(due)
		default:
			p.Revoke = append(p.Revoke, in.found(c))
		}
	}
	if in.Source == nil || in.Held {
		return p
	}
	for _, t := range in.Wanted {
		at := in.renewal(t)
		if until := in.crowded(t); !at.IsZero() && until.After(at) {
			at = until
		}
		if at.After(in.Now) {
			p.look(at)
		} else {
			p.Issue = append(p.Issue, t)
		}
	}
	for _, l := range in.Listed[in.Source.Key()] {
		known := slices.ContainsFunc(in.Record.Credentials, func(c Credential) bool { return c.Name == l.Name })
		if !known && strings.HasPrefix(l.Name, Prefix(in.Record.ProjectUID)) {
			p.Strays = append(p.Strays, l)
		}
	}
	return p
}

func (p *Plan) look(at time.Time) {
	if p.Next.IsZero() || at.Before(p.Next) {
		p.Next = at
	}
}

// renewal is when a target needs a new credential: at once when it has none that its source knows and its Secret holds, and when
// it was issued by a clock that was ahead, since all that is reckoned from then is wrong.
func (in Input) renewal(t Target) time.Time {
	c := in.Record.Current(t)
	if c == nil || c.Source.Key() != in.Source.Key() || in.Delivered[t] != c.Name || in.gone(*c) || c.Issued.After(in.Now.Add(Grace)) {
		return time.Time{}
	}
	return in.Terms.Renewal(*c)
}

// crowded is until when a target with a good credential is given no other, since the earlier ones are not revoked; zero if they are.
func (in Input) crowded(t Target) time.Time {
	c, n := in.Record.Current(t), 0
	for _, o := range in.Record.Credentials {
		if o.Target == t && o.Source.Key() == in.Source.Key() {
			n++
		}
	}
	if c == nil || n < maxKept {
		return time.Time{}
	}
	return c.Expires.Add(-Grace)
}

// revocation is when a credential is to be revoked; zero for not at all. What nobody wants any more, and what was intended and
// reached nobody, goes at once; a newest one stays while its target is wanted, even beyond its end: the next may not come.
func (in Input) revocation(c Credential) time.Time {
	wanted := (in.Source != nil || in.Held) && slices.Contains(in.Wanted, c.Target)
	switch {
	case !wanted, c.Intended():
		return in.Now
	case !c.Superseded.IsZero():
		return in.Terms.revocation(c)
	}
	return time.Time{}
}

// gone says that its source is known not to have it.
func (in Input) gone(c Credential) bool {
	listed, known := in.Listed[c.Source.Key()]
	return known && !slices.ContainsFunc(listed, func(l Listed) bool { return l.Name == c.Name })
}

// found completes a credential with the ID that its source lists.
func (in Input) found(c Credential) Credential {
	for _, l := range in.Listed[c.Source.Key()] {
		if l.Name == c.Name {
			c.ID = l.ID
		}
	}
	return c
}

// Valid says that the source still takes the credential.
func (c Credential) Valid(now time.Time) bool { return !c.Intended() && now.Before(c.Expires) }
