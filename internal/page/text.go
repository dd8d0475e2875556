// SPDX-License-Identifier: Apache-2.0

package page

import (
	"reflect"
	"strings"
)

// EachText changes every text in what into points to, so that no field can be forgotten in a template. Maps and interfaces are
// not looked into: what a page shows has none.
func EachText(into any, change func(string) string) { eachText(reflect.ValueOf(into), change) }

func eachText(v reflect.Value, change func(string) string) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			eachText(v.Elem(), change)
		}
	case reflect.Slice:
		for i := range v.Len() {
			eachText(v.Index(i), change)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				eachText(v.Field(i), change)
			}
		}
	case reflect.String:
		v.SetString(change(v.String()))
	}
}

// Mask shows enough of an e-mail address to recognise one's own.
func Mask(email string) string {
	local, domain, _ := strings.Cut(email, "@")
	for _, first := range local {
		return string(first) + "•••@" + domain
	}
	return "•••@" + domain
}
