package main

import (
	"errors"
	"io"
	"strconv"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

// Of all targets.
const contentType = "text/plain; version=0.0.4"

// What a target answered.
type answered struct {
	Text string `json:"text"`
	// Those that Prometheus adds: job, pod, instance.
	Labels map[string]string `json:"labels"`
}

// A series and its value at some time.
type sample struct {
	Labels labels.Labels `json:"labels"`
	Value  float64       `json:"-"`
	// NaN and infinities are no numbers of JSON.
	Text string `json:"value"`
}

func newSample(series labels.Labels, value float64) sample {
	return sample{series, value, strconv.FormatFloat(value, 'g', -1, 64)}
}

// Reads an answer as Prometheus does.
func scrape(answer answered) ([]sample, error) {
	lines, err := textparse.New([]byte(answer.Text), contentType, labels.NewSymbolTable(), textparse.ParserOptions{})
	if err != nil {
		return nil, err
	}
	var told []sample
	for {
		entry, err := lines.Next()
		if errors.Is(err, io.EOF) {
			return told, nil
		}
		if err != nil {
			return nil, err
		}
		if entry == textparse.EntrySeries {
			_, _, value := lines.Series()
			var own labels.Labels
			lines.Labels(&own)
			told = append(told, newSample(attach(own, answer.Labels), value))
		}
	}
}

// A label of the target wins; the series' own one is kept as `exported_…`.
func attach(own labels.Labels, target map[string]string) labels.Labels {
	all := labels.NewBuilder(own)
	for name, value := range target {
		if exported := own.Get(name); exported != "" {
			all.Set("exported_"+name, exported)
		}
		all.Set(name, value)
	}
	return all.Labels()
}
