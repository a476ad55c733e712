package main

import (
	"context"
	"fmt"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
)

// Series in memory, as a storage.
type stored []storage.Series

func store(asked situation) (stored, error) {
	var all stored
	// Several targets may tell the same series.
	known := map[string]bool{}
	for name, notation := range asked.Series {
		series, values, err := promQL.ParseSeriesDesc(name + " " + notation)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		var samples []chunks.Sample
		for minute, value := range values {
			if !value.Omitted {
				samples = append(samples, point{at(minute), value.Value})
			}
		}
		all = append(all, storage.NewListSeries(series, samples))
	}
	for _, answer := range asked.Scrapes {
		told, err := scrape(answer)
		if err != nil {
			return nil, err
		}
		own := map[string]bool{}
		for _, one := range told {
			key := one.Labels.String()
			if own[key] {
				return nil, fmt.Errorf("told twice: %s", key)
			}
			own[key] = true
			if known[key] {
				continue
			}
			known[key] = true
			var samples []chunks.Sample
			for minute := range asked.Minutes + 1 {
				samples = append(samples, point{at(minute), one.Value})
			}
			all = append(all, storage.NewListSeries(one.Labels, samples))
		}
	}
	return all, nil
}

func at(minute int) int64 {
	return int64(minute) * interval.Milliseconds()
}

func (s stored) Querier(int64, int64) (storage.Querier, error) {
	return s, nil
}

// Samples out of the time asked for are passed over by the engine.
func (s stored) Select(_ context.Context, _ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	set := &set{next: -1}
	for _, series := range s {
		if matches(series.Labels(), matchers) {
			set.series = append(set.series, series)
		}
	}
	return set
}

func matches(series labels.Labels, matchers []*labels.Matcher) bool {
	for _, matcher := range matchers {
		if !matcher.Matches(series.Get(matcher.Name)) {
			return false
		}
	}
	return true
}

func (stored) LabelValues(context.Context, string, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}

func (stored) LabelNames(context.Context, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}

func (stored) Close() error { return nil }

type set struct {
	series []storage.Series
	next   int
}

func (s *set) Next() bool                      { s.next++; return s.next < len(s.series) }
func (s *set) At() storage.Series              { return s.series[s.next] }
func (*set) Err() error                        { return nil }
func (*set) Warnings() annotations.Annotations { return nil }

// A sample of a plain number.
type point struct {
	t int64
	f float64
}

func (p point) T() int64                    { return p.t }
func (point) ST() int64                     { return 0 }
func (p point) F() float64                  { return p.f }
func (point) H() *histogram.Histogram       { return nil }
func (point) FH() *histogram.FloatHistogram { return nil }
func (point) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (p point) Copy() chunks.Sample         { return p }
