//! Times as rows have them: RFC 3339 in UTC without fractions, read and written quickly, since a list writes several for
//! each row.

/// The length of `2026-03-01T00:00:00Z`.
pub(super) const LENGTH: usize = 20;

const DAY: u32 = 86_400;

/// The seconds since 1970 of a time of this century that `text` begins with.
pub(super) fn read(text: &[u8]) -> Option<u32> {
    let text = text.get(..LENGTH).filter(|text| text.starts_with(b"20") && text.ends_with(b"Z"))?;
    let time: jiff::Timestamp = str::from_utf8(text).ok()?.parse().ok()?;
    let seconds = u32::try_from(time.as_second()).ok()?;
    let mut same = Vec::with_capacity(LENGTH);
    write(seconds, &mut same);
    (same == text).then_some(seconds)
}

/// Writes the time so many seconds after 1970.
pub(super) fn write(seconds: u32, out: &mut Vec<u8>) {
    let (year, month, day) = civil(seconds / DAY);
    let second = seconds % DAY;
    digits(year / 100, out);
    for (number, end) in [
        (year % 100, b'-'),
        (month, b'-'),
        (day, b'T'),
        (second / 3600, b':'),
        (second / 60 % 60, b':'),
        (second % 60, b'Z'),
    ] {
        digits(number, out);
        out.push(end);
    }
}

fn digits(number: u32, out: &mut Vec<u8>) {
    let digit = |number: u32| b'0' + u8::try_from(number % 10).unwrap_or_default();
    out.extend_from_slice(&[digit(number / 10), digit(number)]);
}

/// Year, month and day of the day so many days after 1970-01-01. Years begin in March here, so that a leap day is the
/// last of its year: `civil_from_days` of Howard Hinnant's "chrono-Compatible Low-Level Date Algorithms".
fn civil(days: u32) -> (u32, u32, u32) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let is_next_year = month >= 10;
    let month = if is_next_year { month - 9 } else { month + 3 };
    (year + era * 400 + u32::from(is_next_year), month, day)
}

#[cfg(test)]
mod tests {
    use gatehouse_apiservice::Time;
    use proptest::prelude::*;

    use super::*;

    fn written(seconds: u32) -> String {
        let mut out = Vec::new();
        write(seconds, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn only_times_that_are_written_alike_are_read() {
        assert_eq!(read(b"2026-03-01T00:00:00Z\","), Some(1_772_323_200));
        for other in [
            "2026-03-01T00:00:00",
            "2026-03-01t00:00:00Z",
            "2026-02-30T00:00:00Z",
            "1999-12-31T23:59:59Z",
            "2026-03-01T00:00:60Z",
            "20",
            "",
        ] {
            assert_eq!(read(other.as_bytes()), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn times_are_written_as_everywhere_else(seconds: u32) {
            prop_assert_eq!(written(seconds), Time(seconds.into()).to_string());
            if let Some(read) = read(written(seconds).as_bytes()) {
                prop_assert_eq!(read, seconds);
            }
        }
    }
}
