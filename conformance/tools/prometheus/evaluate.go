package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/template"
)

// As often as series have samples and rules are evaluated.
const interval = time.Minute

// What Prometheus has collected and goes by.
type situation struct {
	// What stands under `spec` of a PrometheusRule.
	Rules string `json:"rules"`
	// A value a minute for each, in the notation of promtool's tests.
	Series map[string]string `json:"series"`
	// Of targets that answer the same all the time.
	Scrapes []answered `json:"scrapes"`
	Queries []string   `json:"queries"`
	// How long all of that goes on.
	Minutes int `json:"minutes"`
}

// What there is in the end.
type outcome struct {
	Alerts []alert `json:"alerts"`
	// Of each query.
	Results [][]sample `json:"results"`
}

// One that fires.
type alert struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

func evaluate(asked situation) (outcome, error) {
	groups, errs := rulefmt.Parse([]byte(asked.Rules), false, model.UTF8Validation, promQL, slog.Default())
	if len(errs) > 0 {
		return outcome{}, errors.Join(errs...)
	}
	stored, err := store(asked)
	if err != nil {
		return outcome{}, err
	}
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: math.MaxInt, Timeout: time.Minute, Parser: promQL})
	query := func(expression string, at time.Time) (promql.Vector, error) {
		return ask(engine, stored, expression, at)
	}
	told := outcome{Alerts: []alert{}, Results: [][]sample{}}
	end := time.Unix(0, 0).Add(time.Duration(asked.Minutes) * interval)
	for _, group := range groups.Groups {
		for _, rule := range group.Rules {
			firing, err := fire(rule, query, end)
			if err != nil {
				return outcome{}, fmt.Errorf("%s: %w", rule.Alert, err)
			}
			told.Alerts = append(told.Alerts, firing...)
		}
	}
	for _, expression := range asked.Queries {
		vector, err := query(expression, end)
		if err != nil {
			return outcome{}, fmt.Errorf("%s: %w", expression, err)
		}
		result := []sample{}
		for _, one := range vector {
			result = append(result, newSample(one.Metric, one.F))
		}
		told.Results = append(told.Results, result)
	}
	return told, nil
}

// Evaluates a rule from the beginning to the end.
func fire(rule rulefmt.Rule, query func(string, time.Time) (promql.Vector, error), end time.Time) ([]alert, error) {
	if rule.Alert == "" || rule.KeepFiringFor != 0 {
		return nil, errors.New("recording rules and keep_firing_for are not evaluated here")
	}
	// Since when each series is there, by its labels.
	since := map[string]time.Time{}
	var last promql.Vector
	for now := time.Unix(0, 0); !now.After(end); now = now.Add(interval) {
		vector, err := query(rule.Expr, now)
		if err != nil {
			return nil, err
		}
		active := map[string]time.Time{}
		for _, one := range vector {
			key := one.Metric.String()
			active[key] = now
			if began, ok := since[key]; ok {
				active[key] = began
			}
		}
		since, last = active, vector
	}
	firing := []alert{}
	for _, one := range last {
		if end.Sub(since[one.Metric.String()]) < time.Duration(rule.For) {
			continue
		}
		annotations, err := expand(rule.Annotations, one)
		if err != nil {
			return nil, err
		}
		all := labels.NewBuilder(one.Metric).Del(labels.MetricName).Set(labels.AlertName, rule.Alert)
		for name, value := range rule.Labels {
			all.Set(name, value)
		}
		firing = append(firing, alert{all.Labels().Map(), annotations})
	}
	return firing, nil
}

// Fills in templates. Unlike Prometheus, it refuses those that name a label which the alert has not.
func expand(texts map[string]string, one promql.Sample) (map[string]string, error) {
	data := template.AlertTemplateData(one.Metric.Map(), nil, "", one)
	expanded := map[string]string{}
	for name, text := range texts {
		text = "{{$labels := .Labels}}{{$value := .Value}}" + text
		made, err := template.NewTemplateExpander(
			context.Background(), text, name, data, 0, nil, nil, []string{"missingkey=error"},
		).Expand()
		if err != nil {
			return nil, err
		}
		expanded[name] = made
	}
	return expanded, nil
}

func ask(engine *promql.Engine, stored stored, expression string, at time.Time) (promql.Vector, error) {
	query, err := engine.NewInstantQuery(context.Background(), stored, nil, expression, at)
	if err != nil {
		return nil, err
	}
	defer query.Close()
	result := query.Exec(context.Background())
	if result.Err != nil {
		return nil, result.Err
	}
	if scalar, err := result.Scalar(); err == nil {
		return promql.Vector{{F: scalar.V, T: scalar.T}}, nil
	}
	vector, err := result.Vector()
	// What it holds goes back to the engine.
	return slices.Clone(vector), err
}
