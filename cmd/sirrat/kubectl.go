// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"

	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/component-base/cli"
	kubectlcmd "k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/plugin"
	"k8s.io/kubectl/pkg/cmd/util"
)

// defaultDataDir is where `sirrat server` keeps its data unless told otherwise.
const defaultDataDir = "./sirrat-data"

func dataDirFromEnvironment() string {
	if dir := os.Getenv("SIRRAT_DATA_DIR"); dir != "" {
		return dir
	}
	return defaultDataDir
}

// runKubectl does not return: it exits with kubectl's code.
func runKubectl(args []string) {
	if os.Getenv("KUBECONFIG") == "" {
		path := filepath.Join(dataDirFromEnvironment(), "admin.kubeconfig")
		if _, err := os.Stat(path); err == nil {
			os.Setenv("KUBECONFIG", path) //nolint:errcheck // fails only for a malformed name
		}
	}
	os.Args = append([]string{"kubectl"}, args...)
	cmd := kubectlcmd.NewDefaultKubectlCommandWithArgs(kubectlcmd.KubectlOptions{
		PluginHandler: kubectlcmd.NewDefaultPluginHandler(plugin.ValidPluginFilenamePrefixes),
		Arguments:     os.Args,
		ConfigFlags:   genericclioptions.NewConfigFlags(true).WithDeprecatedPasswordFlag().WithDiscoveryBurst(300).WithDiscoveryQPS(50),
		IOStreams:     genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr},
	})
	if err := cli.RunNoErrOutput(cmd); err != nil {
		util.CheckErr(err)
	}
	os.Exit(0)
}
