//! The report: a table of figures, with the design's targets where there are any.

use std::fmt::{self, Display, Write};

use super::stats::Sample;

const HEADINGS: [&str; 4] = ["WHAT", "MEASURED", "TARGET", ""];

/// Titled sections of rows, printed as one table.
#[derive(Debug, Default)]
pub(super) struct Report {
    sections: Vec<(String, Vec<[String; 4]>)>,
}

impl Report {
    pub(super) fn section(&mut self, title: impl Into<String>) {
        self.sections.push((title.into(), Vec::new()));
    }

    /// Adds a figure without a target.
    pub(super) fn row(&mut self, what: impl Into<String>, measured: impl Into<String>) {
        self.push([what.into(), measured.into(), String::new(), String::new()]);
    }

    pub(super) fn row_with_target(
        &mut self,
        what: impl Into<String>,
        measured: impl Into<String>,
        target: impl Into<String>,
        met: bool,
    ) {
        let verdict = if met { "met" } else { "MISSED" };
        self.push([what.into(), measured.into(), target.into(), verdict.to_owned()]);
    }

    fn push(&mut self, row: [String; 4]) {
        if self.sections.is_empty() {
            self.section("");
        }
        if let Some((_, rows)) = self.sections.last_mut() {
            rows.push(row);
        }
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headings = HEADINGS.map(str::to_owned);
        let mut widths = headings.each_ref().map(|text| text.chars().count());
        for row in self.sections.iter().flat_map(|(_, rows)| rows) {
            for (width, text) in widths.iter_mut().zip(row) {
                *width = (*width).max(text.chars().count());
            }
        }
        line(f, &headings, widths)?;
        for (title, rows) in &self.sections {
            writeln!(f, "\n{title}")?;
            for row in rows {
                line(f, row, widths)?;
            }
        }
        Ok(())
    }
}

fn line(f: &mut fmt::Formatter<'_>, row: &[String; 4], widths: [usize; 4]) -> fmt::Result {
    let mut line = String::new();
    for (text, width) in row.iter().zip(widths) {
        write!(line, "{text:width$}   ")?;
    }
    writeln!(f, "{}", line.trim_end())
}

/// `8.21 s (7.90 s – 8.60 s, 5 runs)`: the median, the least and the greatest.
pub(super) fn spread(sample: &Sample) -> String {
    let [median, least, greatest] = [sample.median(), sample.least(), sample.greatest()].map(seconds);
    format!("{median} ({least} – {greatest}, {} runs)", sample.len())
}

/// A duration with a unit that suits its size.
pub(super) fn seconds(seconds: f64) -> String {
    if seconds >= 1.0 {
        format!("{seconds:.2} s")
    } else if seconds >= 0.001 {
        format!("{:.1} ms", seconds * 1e3)
    } else {
        format!("{:.0} µs", seconds * 1e6)
    }
}

/// A number of bytes on the wire, in powers of ten as in the design.
pub(super) fn bytes(bytes: f64) -> String {
    if bytes >= 1e6 {
        format!("{:.2} MB", bytes / 1e6)
    } else if bytes >= 1e3 {
        format!("{:.1} kB", bytes / 1e3)
    } else {
        format!("{bytes:.0} B")
    }
}

/// An amount of memory, in powers of two as in the design.
pub(super) fn mebibytes(bytes: f64) -> String {
    format!("{:.1} MiB", bytes / f64::from(1 << 20))
}

/// A factor such as `63.0×`.
pub(super) fn times(factor: f64) -> String {
    if factor >= 100.0 { format!("{factor:.0}×") } else { format!("{factor:.1}×") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_targets_judged() {
        let mut report = Report::default();
        report.section("Memory");
        report.row("empty", "9.0 MiB");
        report.row_with_target("with 10,000 objects", "41.0 MiB", "≤ 40 MiB", false);
        let expected = "\
WHAT                  MEASURED   TARGET

Memory
empty                 9.0 MiB
with 10,000 objects   41.0 MiB   ≤ 40 MiB   MISSED
";
        assert_eq!(report.to_string(), expected);
    }

    #[test]
    fn units_are_those_that_read_best() {
        assert_eq!(seconds(8.214), "8.21 s");
        assert_eq!(seconds(0.0421), "42.1 ms");
        assert_eq!(seconds(0.000_052), "52 µs");
        assert_eq!(bytes(71_234_567.0), "71.23 MB");
        assert_eq!(bytes(45_678.0), "45.7 kB");
        assert_eq!(mebibytes(41_943_040.0), "40.0 MiB");
        assert_eq!(times(613.4), "613×");
        assert_eq!(times(41.26), "41.3×");
    }
}
