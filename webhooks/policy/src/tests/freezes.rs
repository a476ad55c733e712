//! Freezes: what they refuse, and whom they let through.

use super::*;

const WEEKEND: &str = "{exempt: {users: [root], groups: [ops], serviceAccounts: [{namespace: team-a, name: flux-tenant}]}, \
    rules: {freezes: [{name: weekend, schedule: '0 18 * * FRI', duration: 62h, timeZone: Europe/Berlin, reason: no weekend deploys}]}}";
const SATURDAY: &str = "2027-01-09T12:00:00Z";
const NONE: [&str; 0] = [];
const FROZEN: &str = "nothing may change during the freeze \"weekend\" (no weekend deploys), which ends 2027-01-11 08:00 +01:00 (Europe/Berlin)";

fn kustomization(object: &str) -> Subject {
    subject(Kind::Kustomization, object)
}

#[test]
fn changes_are_refused_with_name_reason_and_end() {
    let policy = policy(WEEKEND);
    let plain = || kustomization("spec: {path: a}");
    for (request, field) in [
        (Request::create(plain()), "spec"),
        (Request::update(plain(), kustomization("spec: {path: b}")), "spec"),
        (Request::delete(plain()), "metadata"),
        (Request::scale(subject(Kind::Fleet, "spec: {}"), 1, 2), "spec.replicas"),
        (
            Request::update(
                subject(
                    Kind::ResourceSet,
                    "{metadata: {annotations: {fluxcd.controlplane.io/reconcile: disabled}}, spec: {path: a}}",
                ),
                subject(Kind::ResourceSet, "spec: {path: a}"),
            ),
            "metadata.annotations[fluxcd.controlplane.io/reconcile]",
        ),
        (
            Request::update(
                kustomization(
                    "{metadata: {annotations: {gatehouse.dev/frozen-by: p/weekend}}, spec: {path: a}}",
                ),
                plain(),
            ),
            "metadata.annotations[gatehouse.dev/frozen-by]",
        ),
    ] {
        let judged = request.at(SATURDAY).judged(&policy);
        assert_eq!(judged, [format!("freezes {field}: {FROZEN}")]);
    }
    assert_eq!(Request::create(plain()).judged(&policy), NONE, "on a Wednesday");
    let labelled = kustomization(
        "{metadata: {labels: {a: b}, annotations: {reconcile.fluxcd.io/requestedAt: x}}, spec: {path: a}}",
    );
    assert_eq!(Request::update(plain(), labelled).at(SATURDAY).judged(&policy), NONE);
    // On a live object of the toolkit's kinds it holds nothing back.
    let left_as_it_is = kustomization(
        "{metadata: {annotations: {fluxcd.controlplane.io/reconcile: disabled}}, spec: {path: a}}",
    );
    assert_eq!(Request::update(plain(), left_as_it_is).at(SATURDAY).judged(&policy), NONE);
    assert_eq!(Request::scale(subject(Kind::Fleet, "spec: {}"), 2, 2).at(SATURDAY).judged(&policy), NONE);
}

#[test]
fn people_may_be_exempt_and_service_accounts_not() {
    let policy = policy(WEEKEND);
    let create = || Request::create(kustomization("spec: {}")).at(SATURDAY);
    for (user, passes) in [
        ("root", true),
        ("jane", false),
        ("system:serviceaccount:team-a:flux-tenant", false),
        ("system:serviceaccount:flux-system:kustomize-controller", false),
        ("system:serviceaccount:gatehouse-system:gatehouse", true),
    ] {
        assert_eq!(create().by(user).judged(&policy).is_empty(), passes, "{user}");
    }
    let group = |user: &str| User { name: user.into(), groups: vec!["ops".into()] };
    assert_eq!(Request { user: Some(group("joe")), ..create() }.judged(&policy), NONE);
    let account = group("system:serviceaccount:team-a:ci");
    assert_eq!(Request { user: Some(account), ..create() }.judged(&policy).len(), 1);
}

#[test]
fn what_goes_with_its_namespace_goes_in_a_freeze_too() {
    let policy = policy(WEEKEND);
    for user in ["namespace-controller", "generic-garbage-collector"] {
        let user = format!("system:serviceaccount:kube-system:{user}");
        assert_eq!(Request::delete(kustomization("spec: {}")).by(&user).at(SATURDAY).judged(&policy), NONE);
    }
    let other = "system:serviceaccount:kube-system:replicaset-controller";
    assert_eq!(Request::delete(kustomization("spec: {}")).by(other).at(SATURDAY).judged(&policy).len(), 1);
}

#[test]
fn game_servers_are_kept_running_in_a_freeze() {
    let policy = policy(WEEKEND);
    let agones = "system:serviceaccount:agones-system:agones-controller";
    assert_eq!(
        Request::scale(subject(Kind::Fleet, "spec: {}"), 1, 2).by(agones).at(SATURDAY).judged(&policy),
        NONE
    );
    assert_eq!(Request::create(kustomization("spec: {}")).by(agones).at(SATURDAY).judged(&policy).len(), 1);
    let owned = subject(
        Kind::GameServer,
        "{metadata: {ownerReferences: [{apiVersion: agones.dev/v1, kind: GameServerSet, name: s, uid: u, controller: true}]}, spec: {}}",
    );
    assert_eq!(Request::create(owned).at(SATURDAY).judged(&policy), NONE);
}

#[test]
fn what_was_found_about_a_freeze_holds_until_it_changes() {
    let policy = policy(WEEKEND);
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    for _ in 0..2 {
        for (now, frozen, next) in [
            ("2027-01-08T16:59:59Z", false, "2027-01-08T17:00:00Z"),
            ("2027-01-08T17:00:00Z", true, "2027-01-11T07:00:00Z"),
            (SATURDAY, true, "2027-01-11T07:00:00Z"),
            ("2027-01-11T06:59:59.999Z", true, "2027-01-11T07:00:00Z"),
            ("2027-01-11T07:00:00Z", false, "2027-01-15T17:00:00Z"),
        ] {
            assert_eq!(policy.active_freeze(at(now)).is_some(), frozen, "{now}");
            assert_eq!(policy.next_change(at(now)), Some(at(next)), "{now}");
        }
    }
    let never = super::policy("rules: {}");
    assert_eq!((never.active_freeze(at(SATURDAY)), never.next_change(at(SATURDAY))), (None, None));
}
