// SPDX-License-Identifier: Apache-2.0

package hostpolicy

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/calendar"
	"gitlab.com/dynors/sirrat/internal/envelope"
)

// Bounds of a policy.
const (
	// MaxFile is the size of the file, comments included, in bytes.
	MaxFile = 64 << 10
	// MaxReport is the size of what an agent reports of it, as JSON, in bytes.
	MaxReport = 16 << 10
	// maxEntries of each list, and maxEntry bytes of each entry.
	maxEntries = 256
	maxEntry   = 512
	// maxKeys of the second signature.
	maxKeys = 16
)

// Policy is what a server's owner allows.
type Policy struct {
	v1alpha1.HostPolicy `json:",inline"`
	// SecondSignature asks for the client's own signature beside the control plane's. Nil: none is needed.
	SecondSignature *SecondSignature `json:"secondSignature,omitempty"`
}

// SecondSignature says what must be signed by the client too, so that not even the control plane deploys it alone.
type SecondSignature struct {
	// Environments that need it. At least one; "*" means all.
	Environments []string `json:"environments"`
	// Keys that may sign, as PEM of a PKIX public key. At least one.
	Keys []string `json:"keys"`
}

// Needed says whether an environment needs the second signature.
func (s *SecondSignature) Needed(environment string) bool {
	return s != nil && allows(s.Environments, environment)
}

// PublicKeys are the keys that may give the second signature.
func (s *SecondSignature) PublicKeys() ([]envelope.PublicKey, error) {
	if s == nil {
		return nil, nil
	}
	var keys []envelope.PublicKey
	for i, text := range s.Keys {
		key, err := envelope.ParsePublicKey(text)
		if err != nil {
			return nil, fmt.Errorf("secondSignature.keys[%d]: %w", i, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// defaultPorts are the web's and those that any user may listen on: what else listens below 1024 (SSH, mail, DNS) is the
// server's own.
var defaultPorts = []string{"80", "443", "1024-65535"}

// Default is the policy of a server whose owner declared nothing.
func Default() Policy { return Policy{HostPolicy: Effective(v1alpha1.HostPolicy{})} }

// Effective fills in the defaults.
//
// Commands of health checks are allowed: they run inside the release's own containers, with no more than the containers'
// rights, and the release already decides what runs there. Logs leave the server, and often hold what people entered: they
// are not. Updates are signed with a pinned key, and an agent without them keeps its faults: they are.
func Effective(p v1alpha1.HostPolicy) v1alpha1.HostPolicy {
	p = *p.DeepCopy()
	if p.Ports == nil {
		p.Ports = slices.Clone(defaultPorts)
	}
	for field, value := range map[**bool]bool{&p.Exec: true, &p.Logs: false, &p.Update: true} {
		if *field == nil {
			*field = &value
		}
	}
	if p.Window != nil && p.Window.TimeZone == "" {
		p.Window.TimeZone = calendar.DefaultTimeZone
	}
	return p
}

// Parse reads a policy strictly and fills in the defaults. Errors name the field and the way out.
func Parse(text []byte) (Policy, error) {
	if len(text) > MaxFile {
		return Policy{}, fmt.Errorf("%d bytes, at most %d are read: name folders instead of files", len(text), MaxFile)
	}
	document, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return Policy{}, fmt.Errorf("not YAML, or a field is there twice: %w", err)
	}
	if string(document) == "null" { // nothing but comments
		return Default(), nil
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(document, &members); err != nil {
		return Policy{}, errors.New("it must be a mapping of fields: see `sirrat-agent policy init`")
	}
	known := fields()
	for name, value := range members {
		if !slices.Contains(known, name) {
			return Policy{}, fmt.Errorf("%s: unknown field; there are %s", name, strings.Join(known, ", "))
		}
		if string(value) == "null" {
			return Policy{}, fmt.Errorf("%s: has no value; remove the line, or write [] for an empty list", name)
		}
	}
	if document, err = textPorts(document, members); err != nil {
		return Policy{}, err
	}
	var p Policy
	if err := yaml.UnmarshalStrict(document, &p); err != nil {
		return Policy{}, errors.New(strings.TrimPrefix(strings.TrimPrefix(err.Error(), "error unmarshaling JSON: "), "while decoding JSON: "))
	}
	p.HostPolicy = Effective(p.HostPolicy)
	if err := Validate(p.HostPolicy); err != nil {
		return Policy{}, err
	}
	return p, p.SecondSignature.validate()
}

// textPorts makes texts of ports that were written as numbers, as people do.
func textPorts(document []byte, members map[string]json.RawMessage) ([]byte, error) {
	var ports []any
	if members["ports"] == nil || json.Unmarshal(members["ports"], &ports) != nil {
		return document, nil // the decoder says what is wrong
	}
	for i, port := range ports {
		if number, ok := port.(float64); ok {
			ports[i] = strconv.FormatFloat(number, 'f', -1, 64)
		}
	}
	text, err := json.Marshal(ports)
	if err != nil {
		return nil, fmt.Errorf("ports: %w", err)
	}
	members["ports"] = text
	return json.Marshal(members)
}

// line is the line of a policy that allows one value more.
func line(field, value string) string {
	if strings.IndexFunc(value, func(r rune) bool {
		return !strings.ContainsRune("/_-.=", r) && (r > 'z' || r < 'a') && (r > 'Z' || r < 'A') && (r > '9' || r < '0')
	}) >= 0 || value == "" {
		value = strconv.Quote(value)
	}
	return field + ": [" + value + "]"
}

// fields are the names of a policy's fields.
func fields() []string {
	names := []string{"secondSignature"}
	t := reflect.TypeFor[v1alpha1.HostPolicy]()
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (s *SecondSignature) validate() error {
	switch {
	case s == nil:
		return nil
	case len(s.Environments) == 0:
		return errors.New("secondSignature.environments: none is named; remove secondSignature if none needs it")
	case len(s.Keys) == 0:
		return errors.New("secondSignature.keys: none is given, so nothing could ever be deployed; add the client's public key (PEM)")
	case len(s.Keys) > maxKeys:
		return fmt.Errorf("secondSignature.keys: %d, at most %d", len(s.Keys), maxKeys)
	}
	_, err := s.PublicKeys()
	return err
}

// namespaces that containers may share with the server.
var namespaces = []string{"network", "pid", "ipc", "uts", "user", "cgroup"}

// Validate refuses what cannot be kept, whether an owner wrote it or an agent reported it.
func Validate(p v1alpha1.HostPolicy) error {
	value := reflect.ValueOf(p)
	for i := range value.NumField() {
		list, ok := value.Field(i).Interface().([]string)
		if !ok {
			continue
		}
		name, _, _ := strings.Cut(value.Type().Field(i).Tag.Get("json"), ",")
		if len(list) > maxEntries {
			return fmt.Errorf("%s: %d entries, at most %d: name folders or use *", name, len(list), maxEntries)
		}
		for j, entry := range list {
			if entry == "" || len(entry) > maxEntry {
				return fmt.Errorf("%s[%d]: must have 1 to %d characters", name, j, maxEntry)
			}
		}
	}
	for field, list := range map[string][]string{"bindPaths": p.BindPaths, "envFiles": p.EnvFiles, "files": p.Files} {
		for i, entry := range list {
			if !path.IsAbs(entry) || path.Clean(entry) != strings.TrimSuffix(entry, "/") && entry != "/" {
				return fmt.Errorf("%s[%d]: %q must be an absolute path without . and ..", field, i, entry)
			}
		}
	}
	for i, entry := range p.HostNamespaces {
		if entry != "*" && !slices.Contains(namespaces, entry) {
			return fmt.Errorf("hostNamespaces[%d]: %q is none; there are %s", i, entry, strings.Join(namespaces, ", "))
		}
	}
	for i, entry := range p.Ports {
		if _, err := parsePorts(entry); err != nil {
			return fmt.Errorf("ports[%d]: %w", i, err)
		}
	}
	for i, entry := range p.Registries {
		if _, err := registryPrefix(entry); err != nil {
			return fmt.Errorf("registries[%d]: %w", i, err)
		}
	}
	if err := validateWindow(p.Window); err != nil {
		return err
	}
	text, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encode policy: %w", err)
	}
	if len(text) > MaxReport {
		return fmt.Errorf("%d bytes without comments and keys, at most %d: name folders or use *", len(text), MaxReport)
	}
	return nil
}

// Bounds of a window that its schema sets and calendar.Compile does not.
const (
	maxHolidays  = 366
	maxCountries = 8
	maxReason    = 200
)

func validateWindow(w *v1alpha1.Window) error {
	if w == nil {
		return nil
	}
	if len(w.Holidays) > maxHolidays || len(w.Countries) > maxCountries {
		return fmt.Errorf("window: at most %d holidays and %d countries", maxHolidays, maxCountries)
	}
	for field, list := range map[string][]string{"holidays": w.Holidays, "countries": w.Countries} {
		if unique := slices.Compact(slices.Sorted(slices.Values(list))); len(unique) != len(list) {
			return fmt.Errorf("window.%s: an entry is there twice", field)
		}
	}
	for _, period := range slices.Concat(w.Allow, w.Deny) {
		if len(period.Reason) > maxReason {
			return fmt.Errorf("window: a reason has more than %d bytes", maxReason)
		}
	}
	if _, err := calendar.Compile(*w); err != nil {
		return fmt.Errorf("window.%w", err)
	}
	return nil
}

// Open says whether the control plane may change what runs at an instant, and if not, until when and why. until is zero
// when it never opens within two years.
func (p Policy) Open(now time.Time) (open bool, until time.Time, reason string) {
	if p.Window == nil {
		return true, time.Time{}, ""
	}
	c, err := calendar.Compile(*p.Window)
	if err != nil { // Parse refuses such a window
		return false, time.Time{}, err.Error()
	}
	answer := c.At(now)
	return answer.Open, answer.Until, answer.Reason
}

// allows says whether a list has a value, or a pattern that ends in "*" for it.
func allows(list []string, value string) bool {
	return slices.ContainsFunc(list, func(entry string) bool {
		prefix, pattern := strings.CutSuffix(entry, "*")
		return entry == value || pattern && strings.HasPrefix(value, prefix)
	})
}

func isTrue(b *bool) bool { return b != nil && *b }
