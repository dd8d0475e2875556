// SPDX-License-Identifier: Apache-2.0

package keyset

import (
	"context"
	"crypto"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"gitlab.com/dynors/sirrat/internal/envelope"
)

// pair is a key of the tests.
type pair struct {
	signer crypto.Signer
	id     string
	pem    string
}

func newPair(t interface{ Fatal(...any) }) pair {
	key, _, public, err := envelope.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := envelope.ParsePublicKey(string(public))
	if err != nil {
		t.Fatal(err)
	}
	return pair{key, parsed.ID, string(public)}
}

func list(pairs ...pair) map[string]string {
	m := map[string]string{}
	for _, p := range pairs {
		m[p.id] = p.pem
	}
	return m
}

func sign(t interface{ Fatal(...any) }, s Set, by ...pair) string {
	var keys []crypto.Signer
	for _, p := range by {
		keys = append(keys, p.signer)
	}
	text, err := Sign(context.Background(), s, keys...)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestAdvance(t *testing.T) {
	a, b, c, evil := newPair(t), newPair(t), newPair(t), newPair(t)
	pinned := Set{Keys: list(a)}
	two := sign(t, Set{Serial: 2, Keys: list(a, b)}, a, b)
	three := sign(t, Set{Serial: 3, Keys: list(b), Revoked: list(a)}, b)
	four := sign(t, Set{Serial: 4, Keys: list(c), Retired: list(b), Revoked: list(a)}, b, c)
	at3 := Set{Serial: 3, Keys: list(b), Revoked: list(a)}
	for _, c := range []struct {
		name    string
		current Set
		offered map[int64]string
		serial  int64
		keys    map[string]string
		want    error
	}{
		{"nothing on offer", pinned, nil, 0, list(a), nil},
		{"one step", pinned, map[int64]string{2: two}, 2, list(a, b), nil},
		{"many steps at once", pinned, map[int64]string{4: four, 3: three, 2: two}, 4, list(c), nil},
		{"a step is missing that nothing else leads over", pinned, map[int64]string{3: three}, 0, list(a), ErrUnsigned},
		{"a step is missing that the newest leads over", at3, map[int64]string{2: two, 4: four}, 4, list(c), nil},
		{"the same again", at3, map[int64]string{3: three, 2: two}, 3, list(b), nil},
		{"older only", at3, map[int64]string{2: two}, 3, list(b), ErrRollback},
		{"another of the same serial", at3, map[int64]string{3: sign(t, Set{Serial: 3, Keys: list(b, evil)}, b)}, 3, list(b), nil},
		{"an unknown key's", pinned, map[int64]string{2: sign(t, Set{Serial: 2, Keys: list(a, evil)}, evil)}, 0, list(a), ErrUnsigned},
		{"a revoked key's", at3, map[int64]string{4: sign(t, Set{Serial: 4, Keys: list(a, evil)}, a)}, 3, list(b), ErrUnsigned},
		{"a revoked key comes back", at3, map[int64]string{4: sign(t, Set{Serial: 4, Keys: list(a, b)}, b)}, 3, list(b), ErrInvalid},
		{"offered under another number", pinned, map[int64]string{9: two}, 0, list(a), ErrInvalid},
		{"not a statement", pinned, map[int64]string{2: "{}"}, 0, list(a), ErrInvalid},
		{"unsigned", pinned, map[int64]string{2: strings.Replace(two, `"sig":"`, `"sig":"AA`, 2)}, 0, list(a), ErrUnsigned},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Advance(t.Context(), c.current, c.offered)
			if !errors.Is(err, c.want) || (c.want == nil) != (err == nil) {
				t.Fatalf("error %v, want %v", err, c.want)
			}
			if got.Serial != c.serial || !maps.Equal(got.Keys, c.keys) {
				t.Errorf("serial %d with %d keys", got.Serial, len(got.Keys))
			}
		})
	}
	got, err := Advance(t.Context(), at3, map[int64]string{4: sign(t, Set{Serial: 4, Keys: list(b)}, b)})
	if err != nil || got.Revoked[a.id] == "" {
		t.Errorf("a set that does not name a revoked key forgets it: %v, %v", got.Revoked, err)
	}
}

func TestSignRefuses(t *testing.T) {
	a, b := newPair(t), newPair(t)
	for name, s := range map[string]Set{
		"no key":              {Serial: 1, Keys: map[string]string{}},
		"no serial":           {Keys: list(a)},
		"a key in two lists":  {Serial: 1, Keys: list(a), Revoked: list(a)},
		"a key of wrong name": {Serial: 1, Keys: map[string]string{a.id: b.pem}},
		"not a key":           {Serial: 1, Keys: map[string]string{a.id: "x"}},
	} {
		if _, err := Sign(t.Context(), s, a.signer); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever is offered, in whatever order, an agent never goes back, never trusts a key that no trusted key introduced, and
// never trusts again what was revoked.
func TestAdvanceProperties(t *testing.T) {
	honest := []pair{newPair(t), newPair(t), newPair(t), newPair(t)}
	evil := newPair(t)
	// A chain: at each step the next key signs and the one before is retired or revoked.
	statements := map[int64]string{}
	set := Set{Serial: 1, Keys: list(honest[0])}
	for i := 1; i < len(honest); i++ {
		set = Set{Serial: set.Serial + 1, Keys: list(honest[i-1], honest[i]), Retired: maps.Clone(set.Retired), Revoked: maps.Clone(set.Revoked)}
		statements[set.Serial] = sign(t, set, honest[i-1], honest[i])
		next := Set{Serial: set.Serial + 1, Keys: list(honest[i]), Revoked: maps.Clone(set.Revoked)}
		if next.Revoked == nil {
			next.Revoked = map[string]string{}
		}
		next.Revoked[honest[i-1].id] = honest[i-1].pem
		set = next
		statements[set.Serial] = sign(t, set, honest[i])
	}
	rapid.Check(t, func(t *rapid.T) {
		agent := Set{Keys: list(honest[0])}
		for range rapid.IntRange(1, 6).Draw(t, "looks") {
			offered := map[int64]string{}
			for _, serial := range slices.Sorted(maps.Keys(statements)) {
				switch rapid.SampledFrom([]string{"honest", "missing", "forged", "moved"}).Draw(t, "what") {
				case "honest":
					offered[serial] = statements[serial]
				case "forged":
					offered[serial] = sign(t, Set{Serial: serial, Keys: list(evil)}, evil)
				case "moved":
					offered[serial+rapid.Int64Range(1, 3).Draw(t, "by")] = statements[serial]
				}
			}
			before := agent
			agent, _ = Advance(context.Background(), agent, offered)
			if agent.Serial < before.Serial {
				t.Fatalf("from %d back to %d", before.Serial, agent.Serial)
			}
			if _, trusted := agent.Keys[evil.id]; trusted {
				t.Fatal("trusts a key that nobody introduced")
			}
			for id := range before.Revoked {
				if _, trusted := agent.Keys[id]; trusted || agent.Revoked[id] == "" {
					t.Fatal("a revoked key is trusted again or forgotten")
				}
			}
		}
	})
}
