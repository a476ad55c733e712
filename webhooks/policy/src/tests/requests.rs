//! Tests which requests are judged, for which users, and which verbs they require.

use super::*;

const NONE: [&str; 0] = [];
const WHY: &str = "gatehouse.dev/suspend-reason: repair";
const WHO: &str = "fluxcd.controlplane.io/suspendedBy: jane";
const FLUX: &str = "system:serviceaccount:flux-system:kustomize-controller";
const TENANT: &str = "system:serviceaccount:team-a:flux-tenant";
const GATEHOUSE: &str = "system:serviceaccount:gatehouse-system:gatehouse";

fn kustomization(object: &str) -> Subject {
    subject(Kind::Kustomization, object)
}

#[test]
fn an_update_is_judged_where_the_spec_changes() {
    let policy = policy("rules: {prune: Required}");
    let old = || kustomization("spec: {path: a}");
    let broken = ["prune spec.prune: must be true"];
    assert_eq!(Request::update(old(), kustomization("spec: {path: b}")).judged(&policy), broken);
    let labelled =
        kustomization("{metadata: {labels: {a: b}, finalizers: [f]}, spec: {path: a}, status: {x: y}}");
    assert_eq!(Request::update(old(), labelled).judged(&policy), NONE);
}

#[test]
fn what_is_going_is_never_denied() {
    let policy =
        policy("rules: {prune: Required, freezes: [{name: always, schedule: '0 0 * * *', duration: 24h}]}");
    let going = |spec: &str| {
        kustomization(&format!("{{metadata: {{deletionTimestamp: '2027-01-01T00:00:00Z'}}, spec: {spec}}}"))
    };
    assert_eq!(Request::update(going("{path: a}"), going("{path: b}")).judged(&policy), NONE);
    assert_eq!(Request::delete(going("{}")).judged(&policy), NONE);
    // A creation cannot claim to be a deletion in progress.
    assert_eq!(Request::create(going("{}")).judged(&policy).len(), 2);
}

#[test]
fn a_set_that_its_controller_goes_on_with_is_judged_while_it_is_going() {
    let policy = policy("rules: {replicas: {max: 5}}");
    let going = |kind: Kind, replicas: u64| {
        let object = format!(
            "{{metadata: {{deletionTimestamp: '2027-01-01T00:00:00Z'}}, spec: {{replicas: {replicas}}}}}"
        );
        subject(kind, &object)
    };
    let kruise = |replicas| going(Kind::KruiseGameServerSet, replicas);
    assert_eq!(Request::update(kruise(5), kruise(9)).judged(&policy).len(), 1);
    assert_eq!(Request::scale(kruise(5), 5, 9).judged(&policy).len(), 1);
    assert_eq!(Request::update(kruise(9), kruise(9)).judged(&policy), NONE, "a finalizer is removed");
    assert_eq!(Request::delete(kruise(9)).judged(&policy), NONE);
    let agones = |replicas| going(Kind::Fleet, replicas);
    assert_eq!(Request::update(agones(5), agones(9)).judged(&policy), NONE, "Agones does nothing for it");
}

#[test]
fn status_and_other_subresources_are_not_judged() {
    let policy = policy("rules: {prune: Required}");
    let request = Request { subresource: Some("status"), ..Request::create(kustomization("spec: {}")) };
    assert_eq!(request.judged(&policy), NONE);
}

#[test]
fn a_scale_is_judged_by_its_replicas() {
    let policy = policy("rules: {replicas: {max: 50}}");
    let fleet = || subject(Kind::Fleet, "spec: {}");
    assert_eq!(Request::scale(fleet(), 1, 50).judged(&policy), NONE);
    assert_eq!(
        Request::scale(fleet(), 1, 51).judged(&policy),
        ["replicas spec.replicas: 51 is more than 50"]
    );
    assert_eq!(Request::scale(fleet(), 99, 98).judged(&policy), NONE, "it becomes smaller");
    let of = |replicas: i64| subject(Kind::Fleet, &format!("spec: {{replicas: {replicas}}}"));
    assert_eq!(Request::update(of(99), of(98)).judged(&policy), NONE, "it becomes smaller");
    assert_eq!(Request::update(of(98), of(99)).judged(&policy).len(), 1);
}

#[test]
fn who_is_exempt_is_not_judged() {
    let policy = policy(
        "{exempt: {users: [root], groups: [ops], serviceAccounts: [{namespace: team-a, name: flux-tenant}]}, rules: {prune: Required, verbs: Authorize}}",
    );
    let create = || Request::create(kustomization("spec: {}"));
    assert_eq!(create().judged(&policy).len(), 1);
    assert_eq!(create().by("root").judged(&policy), NONE);
    assert_eq!(create().by(TENANT).judged(&policy), NONE);
    assert_eq!(create().by(GATEHOUSE).judged(&policy), NONE);
    assert_eq!(create().by(FLUX).judged(&policy).len(), 1);
    assert_eq!(create().by("system:serviceaccount:team-b:flux-tenant").judged(&policy).len(), 1);
    let in_group = Request {
        user: Some(UserInfo { name: "joe".into(), groups: vec!["ops".into()], ..UserInfo::default() }),
        ..create()
    };
    assert_eq!(in_group.judged(&policy), NONE);
    let suspend = || Request::update(kustomization("spec: {}"), kustomization("spec: {suspend: true}"));
    assert_eq!(suspend().verbs(&policy), [Verb::Suspend]);
    assert_eq!(suspend().by("root").verbs(&policy), []);
    // Files are checked without a user.
    assert_eq!(Request { user: None, ..create() }.judged(&policy).len(), 1);
}

#[test]
fn verbs_are_what_an_update_does() {
    let on = policy("rules: {verbs: Authorize}");
    let annotated =
        |text: &str| kustomization(&format!("{{metadata: {{annotations: {{{text}}}}}, spec: {{}}}}"));
    let (plain, suspended) = (|| kustomization("spec: {}"), || kustomization("spec: {suspend: true}"));
    let ending = |spec: &str, until: &str| {
        let annotations = format!("gatehouse.dev/suspended-until: {until}");
        kustomization(&format!("{{metadata: {{annotations: {{{annotations}}}}}, spec: {spec}}}"))
    };
    for (old, new, verbs) in [
        (plain(), suspended(), &[Verb::Suspend][..]),
        (suspended(), plain(), &[Verb::Resume]),
        // The operator's "leave this live object as it is": it suspends nothing, and hides no suspension.
        (plain(), annotated("fluxcd.controlplane.io/reconcile: disabled"), &[]),
        (annotated("fluxcd.controlplane.io/reconcile: disabled"), suspended(), &[Verb::Suspend]),
        (suspended(), suspended(), &[]),
        (plain(), annotated("reconcile.fluxcd.io/requestedAt: a"), &[Verb::Reconcile]),
        (plain(), annotated("reconcile.fluxcd.io/forceAt: a"), &[Verb::Reconcile]),
        (plain(), annotated("reconcile.fluxcd.io/resetAt: a"), &[Verb::Reconcile]),
        (
            annotated("reconcile.fluxcd.io/requestedAt: a"),
            annotated("reconcile.fluxcd.io/requestedAt: b"),
            &[Verb::Reconcile],
        ),
        (
            annotated("reconcile.fluxcd.io/requestedAt: a"),
            annotated("reconcile.fluxcd.io/requestedAt: a"),
            &[],
        ),
        (annotated("reconcile.fluxcd.io/requestedAt: a"), plain(), &[]),
        (suspended(), annotated("reconcile.fluxcd.io/requestedAt: a"), &[Verb::Resume, Verb::Reconcile]),
        // Gatehouse resumes the object at the end of its suspension.
        (plain(), ending("{suspend: true}", "a"), &[Verb::Suspend]),
        (suspended(), ending("{suspend: true}", "a"), &[Verb::Suspend, Verb::Resume]),
        (ending("{suspend: true}", "a"), ending("{suspend: true}", "b"), &[Verb::Suspend, Verb::Resume]),
        (ending("{suspend: true}", "a"), suspended(), &[Verb::Suspend]),
        (ending("{suspend: true}", "a"), ending("{suspend: true}", "a"), &[]),
        (ending("{suspend: true}", "a"), plain(), &[Verb::Resume]),
        (plain(), ending("{}", "a"), &[Verb::Resume]),
        (ending("{}", "a"), plain(), &[]),
    ] {
        let request = Request::update(old, new);
        assert_eq!(request.verbs(&on), verbs);
        assert_eq!(request.by(FLUX).verbs(&on), []);
    }
    assert_eq!(Request::update(plain(), suspended()).by(TENANT).verbs(&on), [Verb::Suspend]);
    assert_eq!(Request::update(plain(), suspended()).by(GATEHOUSE).verbs(&on), []);
    assert_eq!(Request::create(suspended()).verbs(&on), []);
    assert_eq!(Request::delete(suspended()).verbs(&on), []);
    assert_eq!(Request::update(plain(), suspended()).verbs(&policy("rules: {verbs: Ignore}")), []);
    let fleet = |spec: &str| subject(Kind::Fleet, &format!("spec: {spec}"));
    assert_eq!(Request::update(fleet("{}"), fleet("{suspend: true}")).verbs(&on), []);
}

#[test]
fn kinds_that_an_annotation_suspends_take_the_same_rights_in_every_spelling() {
    const OPERATOR: &str = "fluxcd.controlplane.io/reconcile";
    const GENERATOR: &str = "source.extensions.fluxcd.io/reconcile";
    let on = policy("rules: {verbs: Authorize, suspension: {requireReason: true}}");
    for (kind, own, others) in [
        (Kind::ResourceSet, OPERATOR, GENERATOR),
        (Kind::FluxInstance, OPERATOR, GENERATOR),
        (Kind::ResourceSetInputProvider, OPERATOR, GENERATOR),
        (Kind::ArtifactGenerator, GENERATOR, OPERATOR),
    ] {
        let plain = || subject(kind, "spec: {}");
        let annotated = |name: &str, value: &str| {
            subject(kind, &format!("{{metadata: {{annotations: {{{name}: {value}}}}}, spec: {{}}}}"))
        };
        for value in ["disabled", "Disabled", "DISABLED", "dİsabled"] {
            let suspends = || Request::update(plain(), annotated(own, value));
            assert_eq!(suspends().verbs(&on), [Verb::Suspend], "{kind:?} {value}");
            assert_eq!(suspends().judged(&on).len(), 2, "{kind:?} {value}");
            assert_eq!(Request::update(annotated(own, value), plain()).verbs(&on), [Verb::Resume]);
            assert_eq!(Request::update(annotated(own, "disabled"), annotated(own, value)).verbs(&on), []);
        }
        assert_eq!(Request::update(plain(), annotated(own, "enabled")).verbs(&on), []);
        assert_eq!(Request::update(plain(), annotated(others, "disabled")).verbs(&on), []);
        assert_eq!(Request::update(plain(), subject(kind, "spec: {suspend: true}")).verbs(&on), []);
    }
}

#[test]
fn a_suspension_takes_reason_and_author() {
    let policy = policy("rules: {suspension: {requireReason: true}}");
    let with = |annotations: &str, suspend: bool| {
        kustomization(&format!(
            "{{metadata: {{annotations: {{{annotations}}}}}, spec: {{suspend: {suspend}}}}}"
        ))
    };
    let both = format!("{WHY}, {WHO}");
    let no_reason =
        "suspension metadata.annotations[gatehouse.dev/suspend-reason]: a suspension must say why";
    let no_author = "suspension metadata.annotations[fluxcd.controlplane.io/suspendedBy]: a suspension must say who suspended";
    let plain = || with("", false);
    assert_eq!(Request::update(plain(), with(&both, true)).judged(&policy), NONE);
    assert_eq!(Request::update(plain(), with("", true)).judged(&policy), [no_reason, no_author]);
    assert_eq!(Request::update(plain(), with(WHO, true)).judged(&policy), [no_reason]);
    assert_eq!(Request::update(plain(), with(WHY, true)).judged(&policy), [no_author]);
    assert_eq!(
        Request::update(plain(), with("gatehouse.dev/suspend-reason: ' '", true)).judged(&policy).len(),
        2
    );
    for blank in ["\u{200b}", "\u{3164}", "\u{2800}", "\u{ad}\u{2060} "] {
        let blank = with(&format!("gatehouse.dev/suspend-reason: '{blank}', {WHO}"), true);
        assert_eq!(Request::update(plain(), blank).judged(&policy), [no_reason]);
    }
    assert_eq!(Request::create(with("", true)).judged(&policy).len(), 2);
    assert_eq!(Request::create(with(&both, true)).judged(&policy), NONE);
    let left_as_it_is = with("fluxcd.controlplane.io/reconcile: disabled", false);
    assert_eq!(Request::update(plain(), left_as_it_is).judged(&policy), NONE);
    // An object that was suspended before may be changed, but the reason may not be removed; resuming requires none.
    assert_eq!(Request::update(with("", true), with("a: b", true)).judged(&policy), NONE);
    assert_eq!(Request::update(with(&both, true), with(WHO, true)).judged(&policy), [no_reason]);
    assert_eq!(Request::update(with(&both, true), plain()).judged(&policy), NONE);
    // The rule judges only people.
    assert_eq!(Request::update(plain(), with("", true)).by(FLUX).judged(&policy), NONE);
    assert_eq!(Request::update(plain(), with("", true)).by(TENANT).judged(&policy).len(), 2);
}

#[test]
fn the_beginning_of_a_suspension_is_not_for_people_to_say() {
    let policy = policy("rules: {suspension: {maxDuration: 24h}}");
    let at = |time: &str, suspend: bool| {
        let note =
            if time.is_empty() { String::new() } else { format!("gatehouse.dev/suspended-at: '{time}'") };
        kustomization(&format!("{{metadata: {{annotations: {{{note}}}}}, spec: {{suspend: {suspend}}}}}"))
    };
    let (now, later) = ("2027-01-06T08:00:00Z", "2099-01-01T00:00:00Z");
    for (old, new, fine) in [
        (at("", false), at("", true), true),
        (at("", false), at(now, true), true),
        (at("", false), at(later, true), false),
        (at("", false), at("soon", true), false),
        (at(now, true), at(now, true), true),
        (at(now, true), at(later, true), false),
        (at(now, true), at("", true), false),
        (at("", true), at(now, true), true),
        (at("", true), at("", true), true),
        (at(later, false), at(later, true), false),
        (at("2020-01-01T00:00:00Z", false), at("2020-01-01T00:00:00Z", true), false),
        (at(now, false), at(now, true), true),
        (at(later, true), at(later, true), true),
        (at(now, true), at("", false), true),
    ] {
        let judged = Request::update(old.clone(), new.clone()).judged(&policy);
        assert_eq!(judged.is_empty(), fine, "{:?} → {:?}: {judged:?}", old.object, new.object);
    }
    assert_eq!(policy.max_suspension(), Some(jiff::SignedDuration::from_hours(24)));
}
