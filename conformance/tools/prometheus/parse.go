package main

import (
	"fmt"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// A selector of an expression.
type selector struct {
	// As it can be queried.
	Text   string `json:"text"`
	Metric string `json:"metric"`
	// The labels that series are chosen by, and those of each `by (…)` around it.
	Labels []string `json:"labels"`
}

// The selectors of each expression.
func parse(expressions []string) ([][]selector, error) {
	all := make([][]selector, 0, len(expressions))
	for _, expression := range expressions {
		parsed, err := promQL.ParseExpr(expression)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", expression, err)
		}
		selectors := []selector{}
		parser.Inspect(parsed, func(node parser.Node, path []parser.Node) error {
			if vector, ok := node.(*parser.VectorSelector); ok {
				selectors = append(selectors, selectorOf(vector, path))
			}
			return nil
		})
		all = append(all, selectors)
	}
	return all, nil
}

func selectorOf(vector *parser.VectorSelector, path []parser.Node) selector {
	of := selector{Text: vector.String(), Metric: vector.Name, Labels: []string{}}
	for _, matcher := range vector.LabelMatchers {
		if matcher.Name != labels.MetricName {
			of.Labels = append(of.Labels, matcher.Name)
		}
	}
	for _, node := range path {
		if aggregate, ok := node.(*parser.AggregateExpr); ok && !aggregate.Without {
			of.Labels = append(of.Labels, aggregate.Grouping...)
		}
	}
	return of
}
