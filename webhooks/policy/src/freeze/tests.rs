//! Tests windows across daylight saving, overlaps, and rejected freezes.

use jiff::ToSpan;
use proptest::prelude::*;

use super::*;

fn freeze(schedule: &str, duration: &str, zone: &str) -> Freeze {
    Freeze {
        name: "f".into(),
        schedule: schedule.into(),
        duration: duration.into(),
        time_zone: Some(zone.into()),
        reason: None,
    }
}

fn compile(freezes: &[Freeze]) -> Result<Freezes, Vec<String>> {
    let mut errors = Errors::default();
    let compiled = Freezes::compile(freezes, &mut errors);
    let errors: Vec<_> = errors.0.iter().map(ToString::to_string).collect();
    if errors.is_empty() { Ok(compiled) } else { Err(errors) }
}

fn window(schedule: &str, duration: &str, zone: &str) -> Window {
    let mut errors = Errors::default();
    let window = Window::compile(&freeze(schedule, duration, zone), "freeze", &mut errors);
    assert!(errors.0.is_empty(), "{errors:?}");
    window.unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The starts after `from`, as instants.
fn beginnings(window: &Window, from: &str, count: usize) -> Vec<String> {
    let mut now = at(from);
    let mut starts = Vec::new();
    for _ in 0..count {
        now = window.next_start(now).unwrap();
        starts.push(now.to_string());
    }
    starts
}

#[test]
fn a_beginning_in_the_gap_moves_to_its_end() {
    // Berlin skips 02:00–03:00 on 28 March 2027.
    let berlin = window("30 2 * * *", "1h", "Europe/Berlin");
    assert_eq!(
        beginnings(&berlin, "2027-03-26T12:00:00Z", 3),
        ["2027-03-27T01:30:00Z", "2027-03-28T01:00:00Z", "2027-03-29T00:30:00Z"]
    );
    assert!(berlin.active(at("2027-03-28T00:59:59Z")).is_none());
    assert!(berlin.active(at("2027-03-28T01:00:00Z")).is_some());
    assert!(berlin.active(at("2027-03-28T02:00:00Z")).is_none());
    // Exactly at the start and the end of the gap.
    assert_eq!(
        beginnings(&window("0 2 * * *", "1h", "Europe/Berlin"), "2027-03-27T12:00:00Z", 1),
        ["2027-03-28T01:00:00Z"]
    );
    assert_eq!(
        beginnings(&window("0 3 * * *", "1h", "Europe/Berlin"), "2027-03-27T12:00:00Z", 1),
        ["2027-03-28T01:00:00Z"]
    );
    // New York skips 02:00–03:00 on 14 March 2027.
    assert_eq!(
        beginnings(&window("15 2 * * *", "1h", "America/New_York"), "2027-03-13T12:00:00Z", 2),
        ["2027-03-14T07:00:00Z", "2027-03-15T06:15:00Z"]
    );
    // Lord Howe skips 02:00–02:30 on 3 October 2027.
    assert_eq!(
        beginnings(&window("15 2 * * *", "1h", "Australia/Lord_Howe"), "2027-10-01T20:00:00Z", 2),
        ["2027-10-02T15:30:00Z", "2027-10-03T15:15:00Z"]
    );
}

#[test]
fn a_beginning_in_the_fold_happens_once() {
    // Berlin shows 02:00–03:00 twice on 31 October 2027.
    let berlin = window("30 2 * * *", "30m", "Europe/Berlin");
    assert_eq!(
        beginnings(&berlin, "2027-10-29T12:00:00Z", 3),
        ["2027-10-30T00:30:00Z", "2027-10-31T00:30:00Z", "2027-11-01T01:30:00Z"]
    );
    assert!(berlin.active(at("2027-10-31T00:45:00Z")).is_some());
    assert!(berlin.active(at("2027-10-31T01:45:00Z")).is_none(), "the second time round");
    // In the second half of the fold, before the time is shown again, the freeze is still active.
    let longer = window("30 2 * * *", "45m", "Europe/Berlin");
    assert!(longer.active(at("2027-10-31T01:10:00Z")).is_some());
    // New York, 7 November 2027.
    assert_eq!(
        beginnings(&window("30 1 * * *", "1h", "America/New_York"), "2027-11-06T12:00:00Z", 2),
        ["2027-11-07T05:30:00Z", "2027-11-08T06:30:00Z"]
    );
    // Lord Howe shows 01:30–02:00 twice on 4 April 2027.
    assert_eq!(
        beginnings(&window("45 1 * * *", "15m", "Australia/Lord_Howe"), "2027-04-02T20:00:00Z", 2),
        ["2027-04-03T14:45:00Z", "2027-04-04T15:15:00Z"]
    );
}

#[test]
fn a_freeze_lasts_as_long_over_daylight_saving() {
    // From Friday 18:00 for 62 hours: usually until Monday 08:00.
    let weekend = window("0 18 * * FRI", "62h", "Europe/Berlin");
    let plain = weekend.active(at("2027-04-04T00:00:00Z")).unwrap();
    assert_eq!(plain.until_local, "2027-04-05 08:00 +02:00 (Europe/Berlin)");
    let spring = weekend.active(at("2027-03-28T12:00:00Z")).unwrap();
    assert_eq!((spring.since, spring.until), (at("2027-03-26T17:00:00Z"), at("2027-03-29T07:00:00Z")));
    assert_eq!(spring.until_local, "2027-03-29 09:00 +02:00 (Europe/Berlin)");
    let autumn = weekend.active(at("2027-10-31T12:00:00Z")).unwrap();
    assert_eq!(autumn.until_local, "2027-11-01 07:00 +01:00 (Europe/Berlin)");
}

#[test]
fn what_changes_next_is_the_end_or_the_beginning() {
    let freezes = compile(&[
        Freeze { name: "a".into(), ..freeze("0 18 * * FRI", "62h", "Europe/Berlin") },
        Freeze { name: "b".into(), ..freeze("0 12 * * WED", "1h", "UTC") },
    ])
    .unwrap();
    let now = at("2027-01-05T00:00:00Z");
    assert!(freezes.active(now).is_none());
    assert_eq!(freezes.next_change(now), Some(at("2027-01-06T12:00:00Z")));
    let now = at("2027-01-06T12:00:00Z");
    assert_eq!(freezes.active(now).unwrap().name, "b");
    assert_eq!(freezes.next_change(now), Some(at("2027-01-06T13:00:00Z")));
    let now = at("2027-01-06T13:00:00Z");
    assert!(freezes.active(now).is_none());
    assert_eq!(freezes.next_change(now), Some(at("2027-01-08T17:00:00Z")));
}

#[test]
fn the_longest_freeze_is_found_from_its_last_day() {
    let month = window("0 0 1 1 *", "744h", "UTC");
    assert!(month.active(at("2028-01-31T23:59:59Z")).is_some());
    assert!(month.active(at("2028-02-01T00:00:00Z")).is_none());
    let leap = window("0 0 29 2 *", "24h", "UTC");
    assert!(leap.active(at("2028-02-29T12:00:00Z")).is_some());
    assert_eq!(leap.next_start(at("2028-03-01T00:00:00Z")), Some(at("2032-02-29T00:00:00Z")));
}

#[test]
fn what_is_wrong_with_a_freeze_is_named_by_field() {
    let refused = |freeze: Freeze, expected: &str| {
        let errors = compile(&[freeze]).unwrap_err();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].starts_with(expected), "{errors:?}");
    };
    let good = || freeze("0 18 * * FRI", "1h", "UTC");
    refused(
        freeze("0 18 * * FRI", "1h", "Mars/Phobos"),
        "spec.rules.freezes[0].timeZone: Invalid value: \"Mars/Phobos\": unknown time zone",
    );
    refused(freeze("0 18 * * FRI", "1h", ""), "spec.rules.freezes[0].timeZone: Invalid value: \"\"");
    refused(freeze("0 18 * *", "1h", "UTC"), "spec.rules.freezes[0].schedule: Invalid value: \"0 18 * *\"");
    refused(freeze("0 0 18 * * FRI", "1h", "UTC"), "spec.rules.freezes[0].schedule:");
    refused(freeze("0 25 * * *", "1h", "UTC"), "spec.rules.freezes[0].schedule:");
    refused(
        freeze("0 0 30 2 *", "1h", "UTC"),
        "spec.rules.freezes[0].schedule: Invalid value: \"0 0 30 2 *\": never comes",
    );
    refused(
        freeze("0 0 1 1 *", "745h", "UTC"),
        "spec.rules.freezes[0].duration: Invalid value: \"745h\": must not",
    );
    refused(freeze("0 0 1 1 *", "0s", "UTC"), "spec.rules.freezes[0].duration: Invalid value: \"0s\"");
    refused(freeze("0 0 1 1 *", "-1h", "UTC"), "spec.rules.freezes[0].duration:");
    refused(freeze("0 0 1 1 *", "1d", "UTC"), "spec.rules.freezes[0].duration:");
    refused(Freeze { name: String::new(), ..good() }, "spec.rules.freezes[0].name:");
    refused(Freeze { name: "a/b".into(), ..good() }, "spec.rules.freezes[0].name:");
    let errors = compile(&[good(), freeze("0 1 * * MON", "1h", "UTC")]).unwrap_err();
    assert_eq!(
        errors,
        ["spec.rules.freezes[1].name: Invalid value: \"f\": names another freeze of this policy too"]
    );
}

#[test]
fn freezes_that_overlap_are_refused_with_both_named() {
    let errors = compile(&[
        Freeze { name: "weekend".into(), ..freeze("0 18 * * FRI", "62h", "Europe/Berlin") },
        Freeze { name: "sunday".into(), ..freeze("0 3 * * SUN", "1h", "America/New_York") },
    ])
    .unwrap_err();
    assert_eq!(errors.len(), 1);
    assert!(
        errors[0].starts_with("spec.rules.freezes[1].schedule: Invalid value: \"0 3 * * SUN\""),
        "{errors:?}"
    );
    assert!(errors[0].contains("freezes \"weekend\" and \"sunday\" overlap"), "{errors:?}");
    let errors = compile(&[freeze("0 * * * *", "61m", "UTC")]).unwrap_err();
    assert_eq!(
        errors,
        [
            "spec.rules.freezes[0].duration: Invalid value: \"1h1m\": freeze \"f\" overlaps itself: it begins again after 1h"
        ]
    );
    // The freeze overlaps itself only once a year, on the short day of spring.
    let errors = compile(&[freeze("30 2 * * *", "24h", "Europe/Berlin")]).unwrap_err();
    assert!(errors[0].contains("begins again after 23h30m"), "{errors:?}");
}

#[test]
fn freezes_that_touch_do_not_overlap() {
    let touching = [
        Freeze { name: "a".into(), ..freeze("0 12 * * *", "1h", "UTC") },
        Freeze { name: "b".into(), ..freeze("0 13 * * *", "1h", "UTC") },
    ];
    assert!(compile(&touching).is_ok());
    assert!(compile(&[freeze("* * * * *", "1m", "UTC")]).is_ok());
}

proptest! {
    /// Searching back from any instant and searching forward from an earlier one find the same starts, in order.
    #[test]
    fn looking_back_and_forward_agree(
        second in 1_700_000_000i64..1_900_000_000,
        schedule in prop::sample::select(vec!["30 2 * * *", "*/20 1-3 * * *", "0 18 * * FRI", "15 2 28 3 *", "0 * * * *"]),
        zone in prop::sample::select(vec!["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC", "Africa/Casablanca"]),
    ) {
        let window = window(schedule, "1m", zone);
        let now = Timestamp::from_second(second).unwrap();
        let last = window.last_start(now).unwrap();
        let next = window.next_start(now).unwrap();
        prop_assert!(last <= now && now < next);
        prop_assert_eq!(window.next_start(last - 1.second()), Some(last));
        prop_assert_eq!(window.next_start(last), Some(next));
        prop_assert_eq!(window.last_start(next), Some(next));
        prop_assert_eq!(window.last_start(next - 1.second()), Some(last));
    }
}
