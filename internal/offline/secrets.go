// SPDX-License-Identifier: Apache-2.0

package offline

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// keyPattern of what an env file may set.
var keyPattern = regexp.MustCompile(`^[-._a-zA-Z0-9]+$`)

// maxEnv is the most that an env file may have.
const maxEnv = 1 << 20

// ParseEnv reads KEY=VALUE lines: the value is everything behind the first '=', as it stands. Empty lines and those that begin
// with '#' are left out; anything else, and a key that is set twice, is an error. Errors name lines, never values.
func ParseEnv(text string) (map[string]string, error) {
	if len(text) > maxEnv {
		return nil, fmt.Errorf("it has more than %d bytes", maxEnv)
	}
	values := map[string]string{}
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSuffix(line, "\r")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, value, found := strings.Cut(line, "=")
		if !found || !keyPattern.MatchString(key) || strings.ContainsRune(value, 0) {
			return nil, fmt.Errorf("line %d is not KEY=VALUE", i+1)
		}
		if _, twice := values[key]; twice {
			return nil, fmt.Errorf("line %d sets %s a second time", i+1, key)
		}
		values[key] = value
	}
	return values, nil
}

// SecretsFor are the values that a Rollout's Secrets provide: those in the bundle, or given ones (nil for none). Missing keys
// are named, and so are given ones that nothing asks for.
func (b *Bundle) SecretsFor(given map[string]string) (map[string]string, error) {
	bySecret := map[string]Secret{}
	for _, s := range b.Secrets {
		bySecret[s.Name] = s
	}
	values, asked := map[string]string{}, map[string]bool{}
	var missing []string
	for _, name := range b.Rollout.Spec.SecretRefs {
		s, listed := bySecret[name]
		if !listed {
			return nil, fmt.Errorf("%w: it does not say what the Secret %s has", ErrInvalid, name)
		}
		for _, key := range s.Keys {
			asked[key] = true
			value, known := given[key]
			if !known {
				value, known = s.Values[key]
			}
			if !known {
				missing = append(missing, key)
			}
			values[key] = value
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("the bundle holds no secrets, and no value was given for %s: write them to an env file that only root reads, and give it with --secrets",
			strings.Join(missing, ", "))
	}
	for _, key := range slices.Sorted(maps.Keys(given)) {
		if !asked[key] {
			return nil, fmt.Errorf("--secrets sets %s, which the release's Secrets do not have", key)
		}
	}
	return values, nil
}
