// What Prometheus makes of rules, expressions and what targets tell, by its own packages, for conformance trials.
//
//	prometheus parse    a list of expressions; the selectors of each
//	prometheus evaluate a situation; the alerts that fire and the results of queries
//
// Each reads one JSON document and prints one. What Prometheus refuses is an error. It is not promtool, since that has
// every cloud's service discovery built into it.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/prometheus/prometheus/promql/parser"
)

var promQL = parser.NewParser(parser.Options{})

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: prometheus parse|evaluate <IN.json >OUT.json")
	}
	switch args[0] {
	case "parse":
		return answer(parse)
	case "evaluate":
		return answer(evaluate)
	default:
		return fmt.Errorf("unknown command %q", args[0])
	}
}

func answer[Q, A any](command func(Q) (A, error)) error {
	var asked Q
	in := json.NewDecoder(os.Stdin)
	in.DisallowUnknownFields()
	if err := in.Decode(&asked); err != nil {
		return err
	}
	told, err := command(asked)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(told)
}
