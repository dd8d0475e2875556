// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/yaml"
)

// format is the value of -o.
type format string

const (
	human      format = ""
	wide       format = "wide"
	jsonFormat format = "json"
	yamlFormat format = "yaml"
)

// outputFlag adds -o with the formats that a command has beside the one for people.
func (s *session) outputFlag(cmd *cobra.Command, formats ...format) *format {
	chosen := new(format)
	allowed := append([]format{jsonFormat, yamlFormat}, formats...)
	names := make([]string, len(allowed))
	for i, f := range allowed {
		names[i] = string(f)
	}
	cmd.Flags().StringVarP((*string)(chosen), "output", "o", "", s.T("flag.output", strings.Join(names, ", ")))
	must(cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp)))
	run := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if *chosen != human {
			known := false
			for _, f := range allowed {
				known = known || f == *chosen
			}
			if !known {
				return s.usage(cmd, s.T("error.output", string(*chosen), strings.Join(names, ", ")))
			}
		}
		if run != nil {
			return run(cmd, args)
		}
		return nil
	}
	return chosen
}

// structured says whether the format is for programs.
func (f format) structured() bool { return f == jsonFormat || f == yamlFormat }

// emit writes a value for programs: an API object, or any value that encodes as JSON.
func (s *session) emit(f format, value any) error {
	if o, ok := value.(client.Object); ok {
		if err := s.complete(o); err != nil {
			return err
		}
	}
	raw, err := json.MarshalIndent(value, "", "    ")
	if err != nil {
		return wrap("encode the output", err)
	}
	if f == yamlFormat {
		if raw, err = yaml.JSONToYAML(raw); err != nil {
			return wrap("encode the output", err)
		}
		_, err = s.Out.Write(raw)
		return err
	}
	_, err = fmt.Fprintf(s.Out, "%s\n", raw)
	return err
}

// objectList is a List as kubectl prints it, of objects of any kinds.
type objectList struct {
	APIVersion string          `json:"apiVersion"`
	Kind       string          `json:"kind"`
	Items      []client.Object `json:"items"`
}

// emitList writes the items of the lists as one List.
func (s *session) emitList(f format, lists ...runtime.Object) error {
	all := objectList{APIVersion: "v1", Kind: "List", Items: []client.Object{}}
	for _, list := range lists {
		err := meta.EachListItem(list, func(o runtime.Object) error {
			object := o.(client.Object)
			all.Items = append(all.Items, object)
			return s.complete(object)
		})
		if err != nil {
			return wrap("encode the output", err)
		}
	}
	return s.emit(f, all)
}

// complete fills in what typed clients drop and takes out what nobody reads.
func (s *session) complete(o client.Object) error {
	gvk, err := apiutil.GVKForObject(o, newScheme())
	if err != nil {
		return wrap("encode the output", err)
	}
	o.GetObjectKind().SetGroupVersionKind(gvk)
	o.SetManagedFields(nil)
	return nil
}

// print writes text for people.
func (s *session) print(text string) error {
	_, err := fmt.Fprint(s.Out, text)
	return err
}
