//! Durations as Go and Kubernetes write them (`1h30m`), read exactly.

use jiff::SignedDuration;

/// Units, and what they are in nanoseconds. Longer names first: `ms` is no `m`.
const UNITS: [(&str, i128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

const NOT_A_DURATION: &str = "must be a duration such as 30s, 10m or 1h30m";
const TOO_LONG: &str = "is longer than a duration can be";

/// Reads a duration. As in Go, what is finer than a nanosecond is cut off, and more than 2⁶³ of them are refused.
pub fn parse(text: &str) -> Result<SignedDuration, &'static str> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return Err(NOT_A_DURATION);
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let (nanoseconds, after) = component(rest)?;
        total += nanoseconds;
        if total > i128::from(i64::MAX) {
            return Err(TOO_LONG);
        }
        rest = after;
    }
    let nanoseconds = i64::try_from(total).map_err(|_| TOO_LONG)?;
    Ok(SignedDuration::from_nanos(if negative { -nanoseconds } else { nanoseconds }))
}

/// A number and its unit, in nanoseconds; and what follows them.
fn component(text: &str) -> Result<(i128, &str), &'static str> {
    let (whole, rest) = digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => digits(rest),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(NOT_A_DURATION);
    }
    let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
    let (name, rest) = rest.split_at(letters);
    let (_, unit) = UNITS.into_iter().find(|(known, _)| *known == name).ok_or(NOT_A_DURATION)?;
    let whole = whole.trim_start_matches('0');
    // 2⁶³ has 19 digits; so has any number of nanoseconds that is not too long.
    if whole.len() > 19 {
        return Err(TOO_LONG);
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| TOO_LONG)? };
    // Eighteen digits of an hour are finer than a nanosecond.
    let fraction = &fraction[..fraction.len().min(18)];
    let places = u32::try_from(fraction.len()).unwrap_or_default();
    let fraction: i128 = if fraction.is_empty() { 0 } else { fraction.parse().map_err(|_| TOO_LONG)? };
    let nanoseconds = whole * unit + fraction * unit / 10_i128.pow(places);
    Ok((nanoseconds, rest))
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// Writes a duration as Flux writes it: without units that are zero.
pub fn show(duration: SignedDuration) -> String {
    let mut rest = duration.as_nanos();
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut out = String::from(if rest < 0 { "-" } else { "" });
    rest = rest.abs();
    for (name, unit) in UNITS.iter().rev().filter(|(name, _)| *name != "us" && *name != "μs") {
        if rest >= *unit {
            out.push_str(&(rest / unit).to_string());
            out.push_str(name);
            rest %= unit;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("0s", 0),
            ("10m", 600_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("-1m", -60_000_000_000),
            ("+1m", 60_000_000_000),
            ("1ms1us1ns", 1_001_001),
            ("3µs", 3_000),
            ("0.1s", 100_000_000),
            ("0.3333333333333333333333h", 1_199_999_999_999),
            ("9223372036854775807ns", i64::MAX),
            ("000000000000000000000000001s", 1_000_000_000),
        ] {
            assert_eq!(parse(text), Ok(SignedDuration::from_nanos(nanoseconds)), "{text}");
        }
        for text in ["", "-", "1", "m", "1x", "1 m", "1h-5m", "1..5s", ".s", "1d", " 1m", "1m ", "٣m", "1hh"]
        {
            assert_eq!(parse(text), Err(NOT_A_DURATION), "{text:?}");
        }
        for text in
            ["9223372036854775808ns", "2562048h", "99999999999999999999999h", "9223372036s9223372036s"]
        {
            assert_eq!(parse(text), Err(TOO_LONG), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(nanoseconds in any::<i64>()) {
            let duration = SignedDuration::from_nanos(nanoseconds.max(-i64::MAX));
            prop_assert_eq!(parse(&show(duration)), Ok(duration));
        }

        #[test]
        fn nothing_panics(text in "[-+0-9.hmsnuµ]{0,24}|\\PC{0,12}") {
            let _ = parse(&text);
        }
    }
}
