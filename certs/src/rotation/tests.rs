//! Single steps and their order, at times that the tests choose.

use std::collections::BTreeMap;
use std::time::Instant;

use super::*;

const NAMES: [&str; 2] = ["gatehouse.gatehouse-system.svc", "gatehouse.gatehouse-system"];
const OVERLAP: Duration = Duration::from_mins(10);
const NOT_YET: Duration = Duration::from_secs(10 * 60 - 3);
const DAY: Duration = Duration::from_hours(24);

pub(super) fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_hours(500_000)
}

fn policy() -> Policy {
    Policy::usual(NAMES.map(str::to_owned).into()).expect("usual")
}

fn create(now: SystemTime) -> Store {
    apply(Step::Create, None, &policy(), now).expect("made")
}

fn after(step: Step, store: &Store, now: SystemTime) -> Store {
    apply(step, Some(store), &policy(), now).expect("made")
}

fn nothing(store: &Store, now: SystemTime, observed: ObservationTimes) -> Duration {
    match plan(Some(store), &policy(), now, observed) {
        Plan::Nothing { requeue_after } => requeue_after,
        Plan::Do(step) => panic!("{step:?}"),
    }
}

fn planned(store: &Store, now: SystemTime, observed: ObservationTimes) -> Option<Step> {
    match plan(Some(store), &policy(), now, observed) {
        Plan::Nothing { .. } => None,
        Plan::Do(step) => Some(step),
    }
}

fn published(published_for: Duration) -> ObservationTimes {
    ObservationTimes { published_for: Some(published_for), ..ObservationTimes::default() }
}

fn unchanged(unchanged_for: Duration) -> ObservationTimes {
    ObservationTimes { unchanged_for, ..ObservationTimes::default() }
}

fn serves(store: &Store, by: &Store, now: SystemTime) -> bool {
    store.leaf.as_ref().expect("served").verifies(&by.current.certificate, now)
}

#[test]
fn without_a_store_one_is_made_that_verifies() {
    assert_eq!(plan(None, &policy(), start(), ObservationTimes::default()), Plan::Do(Step::Create));
    let store = create(start());
    assert!(serves(&store, &store, start()));
    assert_eq!(nothing(&store, start(), ObservationTimes::default()), MAX_WAIT);
    assert_eq!(store.bundle().matches("BEGIN CERTIFICATE").count(), 1);
}

#[test]
fn an_authority_is_replaced_in_three_steps_that_wait_for_each_other() {
    let first = create(start());
    // A real leader renews the serving certificate many times. The test renews it once, when the authority is due.
    let now = start() + Policy::CA_LIFETIME - Policy::CA_LIFETIME / 3;
    let first = after(Step::RenewLeaf, &first, now);
    assert_eq!(planned(&first, now - Duration::from_secs(1), ObservationTimes::default()), None);
    assert_eq!(planned(&first, now, ObservationTimes::default()), Some(Step::PublishNext));

    let both = after(Step::PublishNext, &first, now);
    assert!(both.bundle().starts_with(&first.bundle()) && both.bundle().len() > first.bundle().len());
    assert!(serves(&both, &first, now));
    // The age of the store does not count, only how long the bundle was published everywhere.
    assert_eq!(nothing(&both, now + DAY, unchanged(DAY)), OVERLAP);
    assert_eq!(nothing(&both, now, published(NOT_YET)), Duration::from_secs(3));
    assert_eq!(planned(&both, now, published(OVERLAP)), Some(Step::Switch));

    let switched = after(Step::Switch, &both, now);
    assert_eq!(switched.bundle(), both.bundle(), "nobody need publish anything");
    assert!(serves(&switched, &switched, now) && !serves(&switched, &first, now));
    assert_eq!(nothing(&switched, now, unchanged(NOT_YET)), Duration::from_secs(3));
    assert_eq!(planned(&switched, now, unchanged(OVERLAP)), Some(Step::DropPrevious));

    let second = after(Step::DropPrevious, &switched, now);
    assert!(both.bundle().ends_with(&second.bundle()) && !second.bundle().contains(&first.bundle()));
    assert!(serves(&second, &second, now));
    assert_eq!(
        planned(&second, now, ObservationTimes { unchanged_for: DAY, published_for: Some(DAY) }),
        None
    );
}

#[test]
fn a_certificate_is_renewed_when_a_third_of_its_life_is_left() {
    let store = create(start());
    let due = start() + Policy::LEAF_LIFETIME - Policy::LEAF_LIFETIME / 3;
    assert_eq!(
        nothing(&store, due - Duration::from_secs(5), ObservationTimes::default()),
        Duration::from_secs(5)
    );
    assert_eq!(planned(&store, due, ObservationTimes::default()), Some(Step::RenewLeaf));
    let renewed = after(Step::RenewLeaf, &store, due);
    assert_eq!(renewed.bundle(), store.bundle());
    assert!(serves(&renewed, &store, due));
    assert_eq!(planned(&renewed, due, ObservationTimes::default()), None);
    // Expired, as in a cluster that was off for months.
    assert_eq!(
        planned(&store, start() + Policy::LEAF_LIFETIME + DAY, ObservationTimes::default()),
        Some(Step::RenewLeaf)
    );
}

#[test]
fn a_certificate_is_renewed_when_it_is_not_what_it_should_be() {
    let store = create(start());
    let other = create(start());
    let of_another = Store { leaf: other.leaf.clone(), ..store.clone() };
    assert_eq!(planned(&of_another, start(), ObservationTimes::default()), Some(Step::RenewLeaf));
    let without = Store { leaf: None, ..store.clone() };
    assert_eq!(planned(&without, start(), ObservationTimes::default()), Some(Step::RenewLeaf));

    for names in [&["gatehouse.elsewhere.svc"][..], &NAMES[..1], &["a", NAMES[0], NAMES[1]]] {
        let policy = Policy::usual(names.iter().map(|name| (*name).to_owned()).collect()).expect("names");
        let plan = plan(Some(&store), &policy, start(), ObservationTimes::default());
        assert_eq!(plan, Plan::Do(Step::RenewLeaf), "{names:?}");
    }
    let shouting = Policy::usual(vec![NAMES[1].to_uppercase(), NAMES[0].to_owned()]).expect("names");
    assert!(matches!(
        plan(Some(&store), &shouting, start(), ObservationTimes::default()),
        Plan::Nothing { .. }
    ));
}

#[test]
fn a_certificate_never_outlives_its_authority_and_is_not_renewed_in_vain() {
    let store = create(start());
    let end = store.current.certificate.validity.not_after;
    let last = after(Step::RenewLeaf, &store, end - DAY);
    assert_eq!(last.leaf.as_ref().expect("made").validity.not_after, end);
    let both = after(Step::PublishNext, &last, end - DAY);
    assert_eq!(planned(&both, end - DAY, ObservationTimes::default()), None);
}

#[test]
fn an_authority_that_is_over_is_replaced_at_once() {
    let store = create(start());
    let over = start() + Policy::CA_LIFETIME + Duration::from_secs(2);
    assert_eq!(planned(&store, over, ObservationTimes::default()), Some(Step::Create));
    assert_eq!(
        planned(&store, start() - DAY, ObservationTimes::default()),
        Some(Step::Create),
        "not valid yet"
    );
    // If there is a next authority, it replaces the expired one: some clients trust it already.
    let both = after(Step::PublishNext, &store, over - DAY);
    assert_eq!(planned(&both, over, ObservationTimes::default()), Some(Step::Switch));
}

#[test]
fn an_authority_that_waited_too_long_is_made_anew_before_it_is_used() {
    let store = create(start());
    let early =
        Policy::new(NAMES.map(str::to_owned).into(), Policy::CA_LIFETIME, Policy::LEAF_LIFETIME, OVERLAP)
            .expect("usual");
    let both = apply(Step::PublishNext, Some(&store), &early, start()).expect("made");
    let late = start() + Policy::CA_LIFETIME - Policy::CA_LIFETIME / 3;
    let both = after(Step::RenewLeaf, &both, late);
    assert_eq!(planned(&both, late, published(DAY)), Some(Step::PublishNext));
    let again = after(Step::PublishNext, &both, late);
    assert!(!again.bundle().contains(&both.next.expect("waiting").certificate.pem));
}

#[test]
fn a_step_that_does_not_follow_is_refused() {
    for step in [Step::PublishNext, Step::Switch, Step::DropPrevious, Step::RenewLeaf] {
        let refused = apply(step, None, &policy(), start()).expect_err("refused");
        assert!(matches!(refused, RotationError::NotApplicable(unfit) if unfit == step));
    }
    let refused = apply(Step::Switch, Some(&create(start())), &policy(), start()).expect_err("refused");
    assert_eq!(refused.to_string(), "rotation step switch does not apply to the stored certificates");
}

#[test]
fn what_is_kept_is_read_as_it_was_written() {
    let both = after(Step::PublishNext, &create(start()), start());
    let switched = after(Step::PublishNext, &after(Step::Switch, &both, start()), start());
    for store in [create(start()), both, switched] {
        let data = store.to_data();
        let read = Store::from_data(&data).expect("readable");
        assert_eq!(read.to_data(), data);
        assert!(read.problems().is_empty());
        assert_eq!(data["ca.crt"], store.bundle().into_bytes());
        assert_eq!(data["changed-at"], b"2027-01-15T08:00:00Z");
        assert_eq!(read.serving().expect("kept").cert, store.serving().expect("made").cert);
    }
}

#[test]
fn problems_name_their_key_and_only_the_authority_s_are_fatal() {
    let both = after(Step::PublishNext, &create(start()), start());
    let data = after(Step::PublishNext, &after(Step::Switch, &both, start()), start()).to_data();
    let other = create(start()).to_data();
    let changed = |key: &str, value: Option<&[u8]>| {
        let mut data = data.clone();
        match value {
            Some(value) => data.insert(key.to_owned(), value.to_vec()),
            None => data.remove(key),
        };
        Store::from_data(&data)
    };
    let chain = [&data["current-ca.crt"][..], &data["previous-ca.crt"]].concat();
    for (key, value, expected) in [
        ("current-ca.crt", None, "current-ca.crt is missing"),
        ("ca.key", None, "ca.key is missing"),
        ("current-ca.crt", Some(&b"x"[..]), "current-ca.crt contains no certificate"),
        ("ca.key", Some(b"x"), "ca.key contains no private key"),
        ("current-ca.crt", Some(&chain), "current-ca.crt contains more than one certificate"),
        (
            "ca.key",
            Some(&other["ca.key"]),
            "the certificate in current-ca.crt does not match the private key in ca.key",
        ),
    ] {
        assert_eq!(changed(key, value).expect_err("refused").to_string(), expected);
    }
    for (key, value, expected) in [
        ("tls.crt", None, "tls.crt is missing"),
        ("tls.key", Some(&b"\xff"[..]), "tls.key contains no private key"),
        (
            "tls.crt",
            Some(&other["tls.crt"]),
            "the certificate in tls.crt does not match the private key in tls.key",
        ),
        ("next-ca.key", None, "next-ca.key is missing"),
        ("next-ca.crt", Some(b"-----BEGIN CERTIFICATE-----\n"), "next-ca.crt is not valid PEM"),
        ("previous-ca.crt", Some(b""), "previous-ca.crt contains no certificate"),
    ] {
        let store = changed(key, value).expect("usable");
        let problems: Vec<_> = store.problems().iter().map(ToString::to_string).collect();
        assert_eq!(problems, [expected]);
        assert!(
            apply(Step::RenewLeaf, Some(&store), &policy(), start()).expect("made").problems().is_empty()
        );
    }
    let nothing = Store::from_data(&BTreeMap::new()).expect_err("nothing");
    assert_eq!(nothing.to_string(), "current-ca.crt is missing");
    assert!(changed("changed-at", Some(b"yesterday")).expect("usable").problems().is_empty());
}

#[test]
fn private_keys_are_not_shown() {
    let store = after(Step::PublishNext, &create(start()), start());
    let shown = format!("{store:?}");
    assert!(shown.contains("current_until") && !shown.contains("PRIVATE"), "{shown}");
}

#[test]
fn waiting_begins_again_whenever_something_else_was_seen() {
    let mut observations = Observations::default();
    let (store, begin) = (create(start()), Instant::now());
    let bundle = store.bundle();
    let mut observe = |store: &Store, published: &[&str], seconds| {
        let published = published.iter().map(|bundle| bundle.as_bytes());
        let observed = observations.observe(store, published, begin + Duration::from_secs(seconds));
        (observed.unchanged_for.as_secs(), observed.published_for.map(|time| time.as_secs()))
    };
    assert_eq!(observe(&store, &[], 0), (0, None), "nobody publishes");
    assert_eq!(observe(&store, &[&bundle], 1), (1, Some(0)));
    assert_eq!(observe(&store, &[&bundle, &bundle], 5), (5, Some(4)));
    assert_eq!(observe(&store, &[&bundle, ""], 6), (6, None));
    assert_eq!(observe(&store, &[&bundle, &bundle], 7), (7, Some(0)));
    let both = after(Step::PublishNext, &store, start());
    assert_eq!(observe(&both, &[&bundle], 8), (0, None));
    assert_eq!(observe(&both, &[&both.bundle()], 9), (1, Some(0)));
    let renewed = after(Step::RenewLeaf, &both, start());
    assert_eq!(observe(&renewed, &[&both.bundle()], 10), (0, Some(1)), "the bundle is the same");
}
