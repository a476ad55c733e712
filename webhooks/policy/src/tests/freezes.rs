//! Tests freezes: what they deny, and who may pass.

use super::*;
use crate::{Policy, annotation, freeze, gains_owner};

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
    // On an object of the toolkit's kinds, this annotation suspends nothing.
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
    let group =
        |user: &str| UserInfo { name: user.into(), groups: vec!["ops".into()], ..UserInfo::default() };
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
    let server = subject(Kind::GameServer, "spec: {}");
    assert_eq!(Request::create(server.clone()).by(agones).at(SATURDAY).judged(&policy), NONE);
    assert_eq!(Request::create(server).at(SATURDAY).judged(&policy).len(), 1);
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

const FLUX: &str = "system:serviceaccount:flux-system:kustomize-controller";
const TENANT: &str = "system:serviceaccount:team-a:flux-tenant";
const GATEHOUSE: &str = "system:serviceaccount:gatehouse-system:gatehouse";

fn marked(name: &str, value: &str, spec: &str) -> Subject {
    kustomization(&format!("{{metadata: {{annotations: {{{name}: '{value}'}}}}, spec: {spec}}}"))
}

fn held(policy: &Policy, request: &Request) -> Option<(bool, String)> {
    freeze::hold(&[policy], &request.case()).map(|hold| (hold.stays, hold.mark()))
}

fn patched(subject: &Subject, patch: &json_patch::Patch) -> Value {
    let mut object = subject.object.clone();
    json_patch::patch(&mut object, patch).unwrap();
    object
}

#[test]
fn what_flux_writes_is_held_and_not_refused() {
    let policy = policy(WEEKEND);
    let (plain, other) = (|| kustomization("spec: {path: a}"), || kustomization("spec: {path: b}"));
    let update = || Request::update(plain(), other()).at(SATURDAY);
    let by_manager =
        |request: Request, user: &str, manager| Request { field_manager: Some(manager), ..request.by(user) };
    let stays = Some((true, "p/weekend".to_owned()));
    for request in [
        update().by(FLUX),
        update().by("system:serviceaccount:flux-system:helm-controller"),
        update().by("system:serviceaccount:flux-system:flux-operator"),
        // Flux with a tenant's account.
        by_manager(update(), TENANT, "kustomize-controller"),
        Request::update(subject(Kind::Fleet, "spec: {replicas: 1}"), subject(Kind::Fleet, "spec: {replicas: 2}"))
            .at(SATURDAY)
            .by(FLUX),
        Request::update(
            plain(),
            kustomization("{metadata: {ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: c, uid: u}]}, spec: {path: a}}"),
        )
        .at(SATURDAY)
        .by(FLUX),
    ] {
        assert_eq!(held(&policy, &request), stays, "{:?}", request.user);
        // A write that was not held for some reason is denied.
        assert_eq!(request.judged(&policy).len(), 1);
    }
    for request in [
        update(),
        update().by(TENANT),
        update().by("root"),
        by_manager(update(), "jane", "kustomize-controller"),
        by_manager(update(), TENANT, "kubectl"),
        update().by(GATEHOUSE),
        by_manager(update(), GATEHOUSE, "kustomize-controller"),
        Request::delete(plain()).at(SATURDAY).by(FLUX),
        Request::update(plain(), plain()).at(SATURDAY).by(FLUX),
        Request::update(plain(), other()).by(FLUX),
    ] {
        assert_eq!(held(&policy, &request), None, "{:?}", request.user);
    }
    let status = Request { subresource: Some("status"), ..update().by(FLUX) };
    assert_eq!(
        (held(&policy, &status), status.judged(&policy)),
        (None, vec![]),
        "status is reported as ever"
    );
    for enforcement in ["Warn", "Audit"] {
        let weak = super::policy(&WEEKEND.replacen('{', &format!("{{enforcement: {enforcement}, "), 1));
        assert_eq!(held(&weak, &update().by(FLUX)), None, "{enforcement}");
    }
}

#[test]
fn what_flux_makes_in_a_freeze_is_admitted_suspended() {
    let policy = policy(WEEKEND);
    for (kind, spec, suspended) in [
        (Kind::Kustomization, "{path: a}", "/spec/suspend"),
        (Kind::Kustomization, "{suspend: false}", "/spec/suspend"),
        (Kind::HelmRelease, "{}", "/spec/suspend"),
        (Kind::GitRepository, "{}", "/spec/suspend"),
        (Kind::ResourceSet, "{}", "/metadata/annotations/fluxcd.controlplane.io~1reconcile"),
        (Kind::ArtifactGenerator, "{}", "/metadata/annotations/source.extensions.fluxcd.io~1reconcile"),
    ] {
        let object = subject(kind, &format!("spec: {spec}"));
        let request = Request::create(object.clone()).at(SATURDAY).by(FLUX);
        assert_eq!(request.judged(&policy).len(), 1, "not held, so refused");
        let hold = freeze::hold(&[&policy], &request.case()).unwrap();
        assert!(!hold.stays && hold.notice().contains("p/weekend"));
        let made = patched(&object, &freeze::suspended(&hold, &object));
        let word = made.pointer(suspended).unwrap();
        assert!(*word == json!(true) || *word == json!("disabled"), "{made}");
        let annotations = &made["metadata"]["annotations"];
        assert_eq!(annotations[annotation::FROZEN_BY], "p/weekend");
        assert_eq!(annotations[annotation::SUSPENDED_BY], freeze::AUTHOR);
        let request = Request::create(Subject::of(kind, made)).at(SATURDAY).by(FLUX);
        assert_eq!(request.judged(&policy), NONE, "{kind:?}");
        assert_eq!(freeze::forged(&[&policy], &request.case()), None);
        assert_eq!(held(&policy, &request), None, "once is enough");
    }
    // No controller reconciles it.
    let artifact = Request::create(subject(Kind::ExternalArtifact, "spec: {}")).at(SATURDAY).by(FLUX);
    assert_eq!((held(&policy, &artifact), artifact.judged(&policy)), (None, vec![]));
    // An object that is suspended in Git is admitted, and Gatehouse does not resume it.
    let by_git = Request::create(kustomization("spec: {suspend: true}")).at(SATURDAY).by(FLUX);
    assert_eq!((held(&policy, &by_git), by_git.judged(&policy)), (None, vec![]));
    // A fleet has no servers until it is applied again, which Helm does not do.
    for kind in [Kind::Fleet, Kind::GameServerSet, Kind::KruiseGameServerSet] {
        let fleet = subject(kind, "spec: {replicas: 3}");
        let request = Request::create(fleet.clone()).at(SATURDAY).by(FLUX);
        let hold = freeze::hold(&[&policy], &request.case()).unwrap();
        let made = patched(&fleet, &freeze::suspended(&hold, &fleet));
        assert_eq!((&made["spec"]["replicas"], &made["metadata"]["annotations"]), (&json!(0), &Value::Null));
        let made = Request::create(Subject::of(kind, made)).at(SATURDAY).by(FLUX);
        assert_eq!(made.judged(&policy), NONE);
        let by_helm = request.by("system:serviceaccount:flux-system:helm-controller");
        assert_eq!((held(&policy, &by_helm), by_helm.judged(&policy).len()), (None, 1));
    }
    // An object that can neither be suspended nor be without servers is denied.
    for kind in [Kind::GameServer, Kind::FleetAutoscaler] {
        let game = Request::create(subject(kind, "spec: {}")).at(SATURDAY).by(FLUX);
        assert_eq!((held(&policy, &game), game.judged(&policy).len()), (None, 1), "{kind:?}");
    }
    // Requests of people are denied, suspended or not.
    assert_eq!(Request::create(kustomization("spec: {suspend: true}")).at(SATURDAY).judged(&policy).len(), 1);
}

#[test]
fn a_tenants_new_object_that_is_admitted_suspended_takes_no_reason() {
    let policy = policy(&WEEKEND.replace("freezes:", "suspension: {requireReason: true}, freezes:"));
    let made = marked(annotation::FROZEN_BY, "p/weekend", "{suspend: true}");
    let request =
        Request { field_manager: Some("kustomize-controller"), ..Request::create(made).at(SATURDAY) };
    assert_eq!(request.by("system:serviceaccount:team-b:flux").judged(&policy), NONE);
}

#[test]
fn marks_are_gatehouses_alone() {
    let policy = policy(WEEKEND);
    let plain = || kustomization("spec: {suspend: true}");
    let with = |name: &str, value: &str| marked(name, value, "{suspend: true}");
    let forged = |request: &Request| freeze::forged(&[&policy], &request.case());
    for name in [annotation::FROZEN_BY, annotation::EXEMPT_FROM] {
        for user in ["jane", "root", FLUX, TENANT] {
            for time in [SATURDAY, "2027-01-06T08:00:00Z"] {
                let update = Request::update(plain(), with(name, "p/other")).by(user).at(time);
                assert_eq!(forged(&update), Some(name), "{user}");
                assert_eq!(
                    forged(&Request::create(with(name, "p/other")).by(user).at(time)),
                    Some(name),
                    "{user}"
                );
                let kept = Request::update(with(name, "p/x"), with(name, "p/x")).by(user).at(time);
                assert_eq!(forged(&kept), None);
                assert_eq!(forged(&Request::update(with(name, "p/x"), plain()).by(user).at(time)), None);
            }
        }
    }
    assert_eq!(
        freeze::forged(&[], &Request::update(plain(), with(annotation::FROZEN_BY, "p/x")).case()),
        Some(annotation::FROZEN_BY)
    );
    // A person's new object may not carry the mark of a freeze.
    let created =
        |user: &str| Request::create(with(annotation::FROZEN_BY, "p/weekend")).by(user).at(SATURDAY);
    assert_eq!((forged(&created("jane")), forged(&created(FLUX))), (Some(annotation::FROZEN_BY), None));
    let weak = super::policy(&WEEKEND.replacen('{', "{enforcement: Warn, ", 1));
    assert_eq!(
        freeze::forged(&[&weak], &created(FLUX).case()),
        Some(annotation::FROZEN_BY),
        "it holds nothing"
    );
    // Neither may an existing object, or one that is not suspended.
    let made = with(annotation::FROZEN_BY, "p/weekend");
    let running = marked(annotation::FROZEN_BY, "p/weekend", "{}");
    for request in [Request::update(plain(), made), Request::create(running)] {
        assert_eq!(forged(&request.by(FLUX).at(SATURDAY)), Some(annotation::FROZEN_BY));
    }
    // Marks in Git are ignored, whatever their value, so that they deny nothing.
    for (old, expected) in
        [(None, Value::Null), (Some(with(annotation::FROZEN_BY, "p/true")), json!("p/true"))]
    {
        let object = with(annotation::FROZEN_BY, "p/git");
        let request = match old {
            Some(old) => Request::update(old, object.clone()),
            None => Request::create(object.clone()),
        };
        let request = request.by(FLUX);
        let made = patched(&object, &freeze::marks(&[&policy], &request.case()));
        assert_eq!(made["metadata"]["annotations"][annotation::FROZEN_BY], expected);
    }
}

#[test]
fn what_an_exempt_person_resumes_or_makes_is_marked_as_exempt_from_this_freeze() {
    let policy = policy(WEEKEND);
    let (plain, suspended) = (|| kustomization("spec: {}"), || kustomization("spec: {suspend: true}"));
    let marks = |request: &Request| {
        let object = request.object.as_ref().unwrap();
        patched(object, &freeze::marks(&[&policy], &request.case()))["metadata"]["annotations"]
            [annotation::EXEMPT_FROM]
            .clone()
    };
    let exempt = "p/weekend@2027-01-08T17:00:00Z";
    for request in [Request::update(suspended(), plain()), Request::create(plain())] {
        let request = request.by("root").at(SATURDAY);
        assert_eq!(marks(&request), exempt);
        let object = marked(annotation::EXEMPT_FROM, exempt, "{}");
        let request = Request { object: Some(object), ..request };
        assert_eq!((request.judged(&policy), freeze::forged(&[&policy], &request.case())), (vec![], None));
    }
    for request in [
        Request::update(suspended(), plain()).by("jane").at(SATURDAY),
        Request::update(suspended(), plain()).by(TENANT).at(SATURDAY),
        Request::update(suspended(), plain()).by("root"),
        Request::update(plain(), kustomization("spec: {path: b}")).by("root").at(SATURDAY),
        Request::update(plain(), suspended()).by("root").at(SATURDAY),
        Request::create(suspended()).by("root").at(SATURDAY),
    ] {
        assert_eq!(marks(&request), Value::Null, "{:?}", request.user);
    }
    let weak = super::policy(&WEEKEND.replacen('{', "{enforcement: Warn, ", 1));
    let request = Request::create(plain()).by("root").at(SATURDAY);
    assert!(freeze::marks(&[&weak], &request.case()).0.is_empty(), "it holds nothing");
}

#[test]
fn an_owner_that_is_named_anew_is_a_change() {
    let policy = policy(WEEKEND);
    let owned =
        |owners: &str| kustomization(&format!("{{metadata: {{ownerReferences: [{owners}]}}, spec: {{}}}}"));
    let (one, two) = (
        "{apiVersion: v1, kind: ConfigMap, name: c, uid: u}",
        "{apiVersion: v1, kind: ConfigMap, name: c, uid: v}",
    );
    for (old, new, gains) in [
        ("", one, true),
        (one, two, true),
        (one, &format!("{one}, {two}"), true),
        (one, "", false),
        (one, one, false),
        (&format!("{one}, {two}"), &format!("{two}, {one}"), false),
        (one, "{apiVersion: v1, kind: ConfigMap, name: c, uid: u, blockOwnerDeletion: true}", true),
    ] {
        assert_eq!(gains_owner(&owned(new), &owned(old)), gains, "{old} {new}");
        let judged = Request::update(owned(old), owned(new)).at(SATURDAY).judged(&policy);
        assert_eq!(
            judged.iter().filter(|line| line.starts_with("freezes metadata.ownerReferences")).count(),
            usize::from(gains)
        );
    }
}
