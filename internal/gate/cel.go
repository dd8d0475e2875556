// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"errors"
	"fmt"
	"regexp/syntax"
	"strings"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/google/cel-go/ext"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/evidence"
)

// What bounds the work of one expression. cel-go charges for a call after it was made, so that what one call can do must
// be bounded too: nothing multiplies texts, and lists cannot double again and again.
const (
	// celCost is in cel-go's units; an ordinary expression costs a few dozen.
	celCost = 100_000
	// celLoops is how many comprehensions may work on each other's results or stand within each other.
	celLoops = 2
	// celRegex bounds a regular expression, in instructions; [0-9a-f]{40} has about 40.
	celRegex = 300
	// maxText bounds what is quoted of an expression or an error, in characters.
	maxText = 500
)

var celEnvironment = newCELEnvironment()

func newCELEnvironment() *cel.Env {
	facts := cel.MapType(cel.StringType, cel.DynType)
	env, err := cel.NewEnv(cel.Variable("release", facts), cel.Variable("results", facts), cel.Variable("environments", facts),
		ext.Strings(), cel.ASTValidators(cel.ValidateComprehensionNestingLimit(celLoops)))
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
		return waiting("ExpressionFailed", needsOf(c), "%s cannot be evaluated: %s", what(c), brief(err.Error()))
	}
	if value.Value() != true {
		return waiting("ExpressionFalse", needsOf(c), "%s does not hold", what(c))
	}
	return passed("ExpressionTrue", "%s holds", what(c))
}

// what is what an expression asks for, in one line.
func what(c v1alpha1.CELCriterion) string {
	if c.Message != "" {
		return brief(c.Message)
	}
	return brief(c.Expression)
}

func needsOf(c v1alpha1.CELCriterion) string { return "that: " + what(c) }

// brief is a text in one line of bounded length: what is wrong with an expression can be told at a length that no status
// could hold.
func brief(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > maxText {
		return string(runes[:maxText]) + "…"
	}
	return text
}

func compiledExpression(text string) (cel.Program, error) {
	type key string
	if p, ok := compiled.Get(key(text)); ok {
		return p.(cel.Program), nil
	}
	checked, issues := celEnvironment.Compile(text)
	if err := issues.Err(); err != nil {
		return nil, errors.New(brief(err.Error()))
	}
	if t := checked.OutputType(); t != cel.BoolType && t != cel.DynType {
		return nil, fmt.Errorf("it gives %s, not true or false", t)
	}
	if err := boundedCalls(checked.NativeRep()); err != nil {
		return nil, err
	}
	p, err := celEnvironment.Program(checked, cel.CostTracking(celCharges{}), cel.CostLimit(celCost))
	if err == nil {
		compiled.Add(key(text), p)
	}
	return p, err
}

// boundedCalls refuses calls whose work grows with the product of what they are given.
func boundedCalls(expression *ast.AST) error {
	calls := ast.MatchDescendants(ast.NavigateAST(expression), ast.KindMatcher(ast.CallKind))
	for _, c := range calls {
		switch call := c.AsCall(); call.FunctionName() {
		case "replace", "join":
			return fmt.Errorf("%s is not available here", call.FunctionName())
		case "matches":
			pattern, ok := call.Args()[len(call.Args())-1].AsLiteral().(types.String)
			if !ok {
				return errors.New("matches needs a regular expression that is written out")
			}
			if err := boundedRegex(string(pattern)); err != nil {
				return err
			}
		}
	}
	return nil
}

func boundedRegex(pattern string) error {
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return errors.New(brief(err.Error()))
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return errors.New(brief(err.Error()))
	}
	if n := len(program.Inst); n > celRegex {
		return fmt.Errorf("the regular expression %s is too large (%d instructions, at most %d): repeat less", brief(pattern), n, celRegex)
	}
	return nil
}

// celCharges charges for what a call makes or walks, where cel-go does not: it does not charge for lists that are put
// together, nor for texts of which it does not know before that they are texts, as all facts are.
type celCharges struct{}

// charsPerUnit is how many characters, or elements of a list, cost one unit, as in cel-go.
const charsPerUnit = 10

func (celCharges) CallCost(function, _ string, args []ref.Val, result ref.Val) *uint64 {
	walked := result
	switch function {
	case operators.Add:
	case "size":
		if _, ok := args[0].(types.String); !ok {
			return nil
		}
		walked = args[0]
	default:
		return nil
	}
	var units uint64
	switch v := walked.(type) {
	case types.String:
		units = uint64(len(v))
	case types.Bytes:
		units = uint64(len(v))
	case traits.Sizer:
		if n, ok := v.Size().(types.Int); ok {
			units = uint64(n)
		}
	}
	units = 1 + units/charsPerUnit
	return &units
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
