package main

import (
	"errors"
	"io"
	"strconv"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/prometheus/model/textparse"
)

// Of all targets.
const contentType = "text/plain; version=0.0.4"

// What a target answered.
type answered struct {
	Text string `json:"text"`
	// Those that Prometheus adds: job, pod, instance.
	Labels map[string]string `json:"labels"`
	// What a ServiceMonitor says of the target, and of its series.
	Relabelings       []relabeling `json:"relabelings"`
	MetricRelabelings []relabeling `json:"metricRelabelings"`
}

// As the Prometheus operator has it.
type relabeling struct {
	Action       string   `json:"action"`
	SourceLabels []string `json:"sourceLabels"`
	Regex        *string  `json:"regex"`
	TargetLabel  string   `json:"targetLabel"`
	Replacement  *string  `json:"replacement"`
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

// Reads an answer as Prometheus does; `up` comes first.
func scrape(answer answered) ([]sample, error) {
	lines, err := textparse.New([]byte(answer.Text), contentType, labels.NewSymbolTable(), textparse.ParserOptions{})
	if err != nil {
		return nil, err
	}
	ofTarget, err := configs(answer.Relabelings)
	if err != nil {
		return nil, err
	}
	ofSeries, err := configs(answer.MetricRelabelings)
	if err != nil {
		return nil, err
	}
	target := labels.NewBuilder(labels.FromMap(answer.Labels))
	if !relabel.ProcessBuilder(target, ofTarget...) {
		return nil, nil
	}
	told := []sample{newSample(target.Set(labels.MetricName, "up").Labels(), 1)}
	target.Del(labels.MetricName)
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
			all := attach(own, target.Labels())
			if relabel.ProcessBuilder(all, ofSeries...) {
				told = append(told, newSample(all.Labels(), value))
			}
		}
	}
}

// A label of the target wins; the series' own one is kept as `exported_…`.
func attach(own, target labels.Labels) *labels.Builder {
	all := labels.NewBuilder(own)
	target.Range(func(label labels.Label) {
		if exported := own.Get(label.Name); exported != "" {
			all.Set("exported_"+label.Name, exported)
		}
		all.Set(label.Name, label.Value)
	})
	return all
}

func configs(relabelings []relabeling) ([]*relabel.Config, error) {
	var all []*relabel.Config
	for _, one := range relabelings {
		config := relabel.DefaultRelabelConfig
		config.NameValidationScheme = model.UTF8Validation
		config.TargetLabel = one.TargetLabel
		for _, name := range one.SourceLabels {
			config.SourceLabels = append(config.SourceLabels, model.LabelName(name))
		}
		if one.Action != "" {
			config.Action = relabel.Action(one.Action)
		}
		if one.Replacement != nil {
			config.Replacement = *one.Replacement
		}
		if one.Regex != nil {
			regex, err := relabel.NewRegexp(*one.Regex)
			if err != nil {
				return nil, err
			}
			config.Regex = regex
		}
		if err := config.Validate(model.UTF8Validation); err != nil {
			return nil, err
		}
		all = append(all, &config)
	}
	return all, nil
}
