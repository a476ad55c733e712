//! Computes the next time of a cron schedule, as controllers written in Go do: in the syntax of `robfig/cron`, which
//! CronJobs, Velero and CloudNativePG use.
//!
//! A schedule has five fields, or six with seconds first; or it is `@midnight` and the like, or `@every 6h`. Each may
//! follow `CRON_TZ=` or `TZ=`. The fields are rewritten for the cron library, which is stricter in some forms and more
//! lenient in others. Whether a schedule is valid is for its controller to decide.

use gatehouse_apiservice::duration;
use jiff::{Timestamp, tz::TimeZone};

use crate::{Seconds, schedule::is_ever_due};

/// The first second after `after` that `schedule` matches; `None` if there is none. The error says what cannot be
/// parsed.
pub(super) fn next_run(schedule: &str, after: Seconds) -> Result<Option<Seconds>, String> {
    let (zone, schedule) = zone(schedule.trim())?;
    if let Some(every) = schedule.strip_prefix("@every ") {
        let every =
            duration::parse(every.trim()).map_err(|error| format!("{every:?} is not a duration: {error}"))?;
        return Ok(Some(after.saturating_add(every.as_secs().max(1))));
    }
    let fields = match schedule {
        "@yearly" | "@annually" => "0 0 1 1 *".to_owned(),
        "@monthly" => "0 0 1 * *".to_owned(),
        "@weekly" => "0 0 * * 0".to_owned(),
        "@daily" | "@midnight" => "0 0 * * *".to_owned(),
        "@hourly" => "0 * * * *".to_owned(),
        fields => plain(fields),
    };
    let wrong = |error: &dyn std::fmt::Display| format!("{schedule:?} is not a schedule: {error}");
    let cron: croner::Cron = fields.parse().map_err(|error| wrong(&error))?;
    let after = Timestamp::from_second(after).map_err(|error| error.to_string())?;
    if !is_ever_due(&cron) {
        return Ok(None);
    }
    let next = cron.find_next_occurrence(&after.to_zoned(zone), false);
    Ok(next.ok().map(|next| next.timestamp().as_second()))
}

/// The time zone of a schedule, and the rest of it. Without one, controllers use their local zone, which is UTC in a
/// container.
fn zone(schedule: &str) -> Result<(TimeZone, &str), String> {
    let named = schedule.strip_prefix("CRON_TZ=").or_else(|| schedule.strip_prefix("TZ="));
    let Some((name, rest)) = named.map(|named| named.split_once(' ').unwrap_or((named, ""))) else {
        return Ok((TimeZone::UTC, schedule));
    };
    let zone = match name {
        // Go accepts these names for no particular time zone.
        "" | "Local" => TimeZone::UTC,
        name => TimeZone::get(name).map_err(|error| format!("{name:?} is not a time zone: {error}"))?,
    };
    Ok((zone, rest.trim()))
}

/// Rewrites fields for the library: `?` becomes `*`, and `5/15` counts from 5 to the maximum of the field.
fn plain(schedule: &str) -> String {
    let fields: Vec<_> = schedule.split_whitespace().collect();
    let ends: &[&str] = match fields.len() {
        5 => &["59", "23", "31", "12", "6"],
        _ => &["59", "59", "23", "31", "12", "6"],
    };
    let field = |(index, field): (usize, &&str)| {
        let part = |part: &str| match part.split_once('/') {
            _ if part == "?" => "*".to_owned(),
            Some(("?", step)) => format!("*/{step}"),
            Some((start, step)) if start != "*" && !start.contains('-') => {
                format!("{start}-{}/{step}", ends.get(index).unwrap_or(&""))
            }
            _ => part.to_owned(),
        };
        field.split(',').map(part).collect::<Vec<_>>().join(",")
    };
    fields.iter().enumerate().map(field).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The next time of a schedule after Thursday 2026-01-01T10:30:00Z.
    fn due(schedule: &str) -> String {
        let after = "2026-01-01T10:30:00Z".parse::<Timestamp>().unwrap().as_second();
        match next_run(schedule, after) {
            Ok(Some(at)) => Timestamp::from_second(at).unwrap().to_string(),
            Ok(None) => "never".into(),
            Err(error) => error,
        }
    }

    #[test]
    fn every_form_that_robfig_reads_is_read() {
        for (schedule, expected) in [
            ("0 2 * * *", "2026-01-02T02:00:00Z"),
            ("  30 10 * * *", "2026-01-02T10:30:00Z"),
            ("@midnight", "2026-01-02T00:00:00Z"),
            ("@daily", "2026-01-02T00:00:00Z"),
            ("@hourly", "2026-01-01T11:00:00Z"),
            ("@weekly", "2026-01-04T00:00:00Z"),
            ("@monthly", "2026-02-01T00:00:00Z"),
            ("@yearly", "2027-01-01T00:00:00Z"),
            ("@annually", "2027-01-01T00:00:00Z"),
            ("@every 6h", "2026-01-01T16:30:00Z"),
            ("@every 1h30m", "2026-01-01T12:00:00Z"),
            ("@every 1.5h", "2026-01-01T12:00:00Z"),
            ("@every 90s", "2026-01-01T10:31:30Z"),
            ("@every 100ms", "2026-01-01T10:30:01Z"),
            ("CRON_TZ=Europe/Berlin 0 2 * * *", "2026-01-02T01:00:00Z"),
            ("TZ=America/New_York 0 2 * * *", "2026-01-02T07:00:00Z"),
            ("TZ=Asia/Kolkata @daily", "2026-01-01T18:30:00Z"),
            ("CRON_TZ=UTC @every 6h", "2026-01-01T16:30:00Z"),
            ("*/20 * * * *", "2026-01-01T10:40:00Z"),
            ("5/20 * * * *", "2026-01-01T10:45:00Z"),
            ("0 8-18/4 * * MON-FRI", "2026-01-01T12:00:00Z"),
            ("0 2 ? * SUN", "2026-01-04T02:00:00Z"),
            ("0 2 * * ?", "2026-01-02T02:00:00Z"),
            ("15,45 * * JAN,feb *", "2026-01-01T10:45:00Z"),
            ("0 0 13 * FRI", "2026-01-02T00:00:00Z"),
            ("0 0 2 * * *", "2026-01-02T02:00:00Z"),
            ("0 0 29 2 *", "2028-02-29T00:00:00Z"),
            ("0 0 30 2 *", "never"),
            ("0 0 30,31 2 *", "never"),
            ("0 0 31 4,6,9,11 *", "never"),
            ("*/5 * 31 2 *", "never"),
            ("0 0 30 2 MON", "2026-02-02T00:00:00Z"),
        ] {
            assert_eq!(due(schedule), expected, "{schedule}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error_that_says_so() {
        for schedule in
            ["", "at midnight", "@fortnightly", "@every day", "CRON_TZ=Mars/Olympus 0 2 * * *", "TZ=UTC"]
        {
            let error = due(schedule);
            assert!(error.contains(" is not a "), "{schedule}: {error}");
        }
    }
}
