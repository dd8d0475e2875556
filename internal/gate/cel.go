// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/ext"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/evidence"
)

// celCost bounds the work of one expression, in cel-go's units; an ordinary one costs a few dozen.
const celCost = 100_000

var celEnvironment = newCELEnvironment()

func newCELEnvironment() *cel.Env {
	facts := cel.MapType(cel.StringType, cel.DynType)
	env, err := cel.NewEnv(cel.Variable("release", facts), cel.Variable("results", facts), cel.Variable("environments", facts), ext.Strings())
	if err != nil { // of constants
		panic(err)
	}
	return env
}

func judgeCEL(in Input, c v1alpha1.CELCriterion) outcome {
	program, err := compiledExpression(c.Expression)
	if err != nil {
		return refused("ExpressionInvalid", "somebody mends the expression in gate "+in.Name, "the expression cannot be used: %s", err)
	}
	value, _, err := program.Eval(celFacts(in))
	if err != nil {
		return waiting("ExpressionFailed", needsOf(c), "%s cannot be evaluated: %s", what(c), oneLine(err))
	}
	if value.Value() != true {
		return waiting("ExpressionFalse", needsOf(c), "%s does not hold", what(c))
	}
	return passed("ExpressionTrue", "%s holds", what(c))
}

func what(c v1alpha1.CELCriterion) string {
	if c.Message != "" {
		return c.Message
	}
	return c.Expression
}

func needsOf(c v1alpha1.CELCriterion) string { return "that: " + what(c) }

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

func compiledExpression(text string) (cel.Program, error) {
	type key string
	if p, ok := compiled.Get(key(text)); ok {
		return p.(cel.Program), nil
	}
	ast, issues := celEnvironment.Compile(text)
	if err := issues.Err(); err != nil {
		return nil, errors.New(oneLine(err))
	}
	if t := ast.OutputType(); t != cel.BoolType && t != cel.DynType {
		return nil, fmt.Errorf("it gives %s, not true or false", t)
	}
	p, err := celEnvironment.Program(ast, cel.CostLimit(celCost))
	if err == nil {
		compiled.Add(key(text), p)
	}
	return p, err
}

// celFacts is what an expression sees. What was not reported is absent.
func celFacts(in Input) map[string]any {
	results := map[string]any{}
	for typ, r := range in.Evidence.Results {
		results[typ] = celResult(r)
	}
	environments := map[string]any{}
	for name, e := range in.Environments {
		facts := map[string]any{"phase": e.Phase, "authorizedAt": e.AuthorizedAt.Time}
		if e.HealthySince != nil {
			facts["healthySince"] = e.HealthySince.Time
		}
		environments[name] = facts
	}
	artifacts := in.Artifacts
	if artifacts == nil {
		artifacts = []string{}
	}
	return map[string]any{
		"release": map[string]any{
			"name": in.Release, "commit": in.Facts.Commit, "branch": in.Facts.Branch, "version": in.Facts.Version,
			"changelog": in.Facts.Changelog, "artifacts": artifacts, "reversible": in.Facts.Reversible, "createdBy": in.CreatedBy,
			"karma": int64(in.Karma), "works": int64(in.Works),
		},
		"results": results, "environments": environments,
	}
}

func celResult(r evidence.Result) map[string]any {
	facts := map[string]any{"status": r.Status, "pipeline": r.Pipeline, "received": r.Received.Truncate(time.Second)}
	if r.Coverage != nil {
		facts["coverage"] = *r.Coverage
	}
	if r.Score != nil {
		facts["score"] = *r.Score
	}
	if t := r.Tests; t != nil {
		facts["tests"] = map[string]int64{"total": int64(t.Total), "passed": int64(t.Passed), "failed": int64(t.Failed), "skipped": int64(t.Skipped)}
	}
	if v := r.Vulnerabilities; v != nil {
		facts["vulnerabilities"] = map[string]int64{"critical": int64(v.Critical), "high": int64(v.High), "medium": int64(v.Medium), "low": int64(v.Low)}
	}
	return facts
}
