//! Tests of the rows of `argoapplications`.

use gatehouse_apiservice::Time;
use gatehouse_inventory::{Application, Culprit, Detail, Record, State, SyncedRevisions};
use serde_json::json;

use super::{
    records::{Builder, key, kustomization, namespace, object},
    *,
};

const SHOP: &str = "argocd/local.application.shop";

fn shop(change: impl FnOnce(&mut Application)) -> Builder {
    application("shop", change)
}

/// A synced and healthy Application.
pub(super) fn application(name: &str, change: impl FnOnce(&mut Application)) -> Builder {
    let mut application = Application {
        project: "default".into(),
        project_object: Some(key(kind("AppProject"), "argocd", "default")),
        sync: "Synced".into(),
        health: "Healthy".into(),
        revision: Some("3f6c1d0a9be24d5f8c7e1b2a6d4f90817263a5bc".into()),
        destination: [Some("https://kubernetes.default.svc".into()), Some("shop".into())],
        operation: Some(("Succeeded".into(), Some(NOW - 3600))),
        ..Application::default()
    };
    change(&mut application);
    let detail = Detail::Application(Box::new(application));
    object(kind("Application.argoproj"), "argocd", name).words("Healthy", "").detail(detail)
}

fn drift(application: &mut Application) {
    (application.sync, application.drifted) = ("OutOfSync".into(), 2);
}

fn degraded(application: &mut Application) {
    application.health = "Degraded".into();
    application.culprit = Some(Box::new(Culprit {
        kind: "Deployment".into(),
        namespace: "shop".into(),
        name: "web".into(),
        reason: "Degraded".into(),
        message: "exceeded its progress deadline".into(),
        object: None,
    }));
}

fn cells<const N: usize>(world: &World, columns: [&str; N]) -> [Value; N] {
    columns.map(|column| world.cell(APPLICATIONS, SHOP, column))
}

fn conditions(world: &World) -> [String; 2] {
    ["Ready", "Synced"].map(|condition| world.condition(APPLICATIONS, SHOP, condition).0)
}

const COLUMNS: [&str; 8] =
    ["Project", "Sync", "Health", "State", "Revision", "Destination", "Cause", "Message"];

#[test]
fn an_application_that_is_well_tells_its_revision_and_destination_and_no_cause() {
    let world = World::with([namespace("argocd", None), shop(|_| {}).build()]);
    let expected = ["default", "Synced", "Healthy", "Ready", "3f6c1d0a", "in-cluster/shop", "", ""];
    assert_eq!(cells(&world, COLUMNS), expected);
    assert_eq!(conditions(&world), ["True", "True"]);
}

#[test]
fn drift_alone_is_no_failure_and_failure_alone_no_drift() {
    let suspended = shop(drift).state(State::Suspended, 60).last_outcome(State::Ready);
    let mut world = World::with([suspended.words("OutOfSync", "it differs from its source").build()]);
    assert_eq!(
        cells(&world, ["State", "Sync", "Health", "Cause", "Drifted"]),
        [json!("Suspended"), json!("OutOfSync"), json!("Healthy"), json!("OutOfSync"), json!(2)]
    );
    assert_eq!(conditions(&world), ["True", "False"]);
    assert_eq!(world.status_of(APPLICATIONS, SHOP)["drifted"], true);
    world.apply(shop(degraded).state(State::Failed, 60).build());
    assert_eq!(conditions(&world), ["False", "True"]);
    assert_eq!(world.status_of(APPLICATIONS, SHOP)["drifted"], false);
    let cause = ["Deployment/shop/web Degraded", "exceeded its progress deadline"];
    assert_eq!(cells(&world, ["Cause", "Message"]), cause);
    let mut object = world.object(APPLICATIONS, SHOP);
    object["metadata"]["resourceVersion"] = json!("VERSION");
    insta::assert_json_snapshot!("application", object);
}

#[test]
fn an_error_that_argo_reports_is_the_cause_and_a_warning_is_none() {
    let with = |kind: &str| {
        let condition = Some(Box::new((kind.into(), "helm template failed".into())));
        shop(|application| (application.sync, application.condition) = ("Unknown".into(), condition))
    };
    let mut world = World::with([with("ComparisonError").state(State::Failed, 5).build()]);
    assert_eq!(cells(&world, ["Cause", "Condition"]), ["ComparisonError", "ComparisonError"]);
    world.apply(with("OrphanedResourceWarning").build());
    assert_eq!(cells(&world, ["Cause", "Message", "Condition"]), ["", "", "OrphanedResourceWarning"]);
    assert_eq!(conditions(&world), ["True", "Unknown"]);
}

#[test]
fn an_application_that_cannot_be_read_is_unknown_and_one_that_is_gone_has_no_row() {
    let odd = object(kind("Application.argoproj"), "argocd", "shop").state(State::Unknown, 5);
    let mut world = World::with([odd.build(), application("other", |_| {}).build()]);
    assert_eq!(cells(&world, ["State", "Sync", "Project"]), ["Unknown", "", ""]);
    assert_eq!(conditions(&world), ["Unknown", "Unknown"]);
    world.delete(&key(kind("Application.argoproj"), "argocd", "shop"));
    assert_eq!(world.names(APPLICATIONS), ["argocd/local.application.other"]);
}

#[test]
fn what_flux_applies_as_well_is_told_by_both() {
    let applied = ["apps_shop_apps_Deployment"];
    let shop = shop(|_| {}).applied(&applied).build();
    let mut world = World::with([shop, kustomization("apps", "web").applied(&applied).build()]);
    assert_eq!(world.condition(APPLICATIONS, SHOP, "ManagedTwice").0, "True");
    assert_eq!(world.condition(RESOURCES, "apps/local.kustomization.web", "ManagedTwice").0, "True");
    world.delete(&key(kind("Kustomization"), "apps", "web"));
    let conditions = world.status_of(APPLICATIONS, SHOP)["conditions"].take();
    assert!(conditions.as_array().unwrap().iter().all(|one| one["type"] != "ManagedTwice"), "{conditions}");
}

/// The Deployment `apps/web`, which has failed, and its pod.
fn web() -> [Record; 2] {
    let web = key(kind("Deployment"), "apps", "web");
    let pod = object(kind("Pod"), "apps", "web-1").state(State::Failing, 60).owned_by(web);
    let pod = pod.words("ImagePullBackOff", "container web: ImagePullBackOff: not found");
    [object(kind("Deployment"), "apps", "web").state(State::Failed, 50).build(), pod.build()]
}

/// The project of the Applications, which exists where Argo CD runs.
fn project() -> Record {
    object(kind("AppProject"), "argocd", "default").build()
}

/// An Application that is degraded, of which Argo CD does not say why, as since its version 3.
fn unexplained(applied: &[&str]) -> Record {
    let degraded = shop(|application| application.health = "Degraded".into()).state(State::Failed, 30);
    degraded.words("Degraded", "").applied(applied).build()
}

#[test]
fn a_degraded_application_is_explained_by_what_it_applied() {
    let mut world = World::with([project(), unexplained(&["apps_web_apps_Deployment", "apps_web__Service"])]);
    let cause = |world: &World| world.cell(PROBLEMS, SHOP, "Cause");
    assert_eq!((cause(&world), cells(&world, ["Cause"])), (json!(""), [json!("Degraded")]));
    let [web, pod] = web();
    world.apply(pod);
    world.apply(web.clone());
    let pulls = "Pod/apps/web-1 ImagePullBackOff";
    assert_eq!(cause(&world), pulls);
    assert_eq!(world.cell(PROBLEMS, SHOP, "Path"), "Deployment/apps/web");
    assert_eq!(cells(&world, ["Cause", "Message"]), ["Deployment/apps/web FailedReason", "web is Failed"]);
    let row = "apps/local.deployment.web";
    assert_eq!(world.cell(PROBLEMS, row, "Managed-By"), "Application/argocd/shop");
    assert_eq!(world.cell(PROBLEMS, row, "Affects"), 1);
    // What it no longer applies explains nothing, and is not managed by it.
    world.apply(unexplained(&["apps_web__Service"]));
    assert_eq!((cause(&world), world.cell(PROBLEMS, row, "Managed-By")), (json!(""), json!("")));
    world.apply(unexplained(&["apps_web_apps_Deployment"]));
    assert_eq!(cause(&world), pulls);
    world.apply(object(kind("Deployment"), "apps", "web").build());
    assert_eq!(cause(&world), "");
    world.apply(web);
    world.delete(&key(kind("Application.argoproj"), "argocd", "shop"));
    assert_eq!(world.cell(PROBLEMS, row, "Managed-By"), "");
}

#[test]
fn an_application_outside_of_argo_s_namespace_shows_nothing_of_other_namespaces() {
    let [web, pod] = web();
    let mut world = World::with([unexplained(&["apps_web_apps_Deployment"]), web, pod]);
    let causes =
        |world: &World| [world.cell(PROBLEMS, SHOP, "Cause"), world.cell(APPLICATIONS, SHOP, "Cause")];
    assert_eq!(causes(&world), ["", "Degraded"]);
    world.apply(project());
    assert_eq!(causes(&world), ["Pod/apps/web-1 ImagePullBackOff", "Deployment/apps/web FailedReason"]);
    world.delete(&key(kind("AppProject"), "argocd", "default"));
    assert_eq!(causes(&world), ["", "Degraded"]);
}

#[test]
fn a_sync_that_failed_is_not_explained_by_what_is_unwell_besides_but_by_its_hook() {
    let failed = |change: fn(&mut Application)| {
        let shop = shop(change).state(State::Failed, 30).words("SyncFailed", "one or more tasks failed");
        shop.applied(&["apps_web_apps_Deployment"]).build()
    };
    let [web, pod] = web();
    let mut world = World::with([project(), failed(|_| {}), web, pod]);
    assert_eq!(world.cell(PROBLEMS, SHOP, "Cause"), "");
    let job = key(kind("Job"), "apps", "migrate");
    world.apply(object(kind("Job"), "apps", "migrate").state(State::Failed, 40).build());
    world.apply(failed(|application| {
        degraded(application);
        let culprit = application.culprit.as_mut().expect("a culprit");
        culprit.object = Some(key(kind("Job"), "apps", "migrate"));
    }));
    assert_eq!(world.cell(PROBLEMS, SHOP, "Cause"), "Job/apps/migrate FailedReason");
    world.delete(&job);
    assert_eq!(world.cell(PROBLEMS, SHOP, "Cause"), "");
}

#[test]
fn applications_of_each_other_and_thousands_of_objects_end() {
    let of = |name: &str, applied: &str| {
        let degraded = application(name, |application| application.health = "Degraded".into());
        let degraded = degraded.state(State::Failed, 30).words("Degraded", "");
        degraded.applied(&[&format!("argocd_{applied}_argoproj.io_Application")]).build()
    };
    let mut world = World::with([project(), of("a", "b"), of("b", "a"), of("c", "c")]);
    assert_eq!(world.names(PROBLEMS).len(), 3);
    assert_eq!(world.cell(PROBLEMS, "argocd/local.application.c", "Cause"), "");
    let ids: Vec<_> = (0..10_000).map(|n| format!("apps_web-{n:05}_apps_Deployment")).collect();
    world.apply(unexplained(&ids.iter().map(String::as_str).collect::<Vec<_>>()));
    world.now += 1;
    for n in 0..2_000 {
        let web = object(kind("Deployment"), "apps", &format!("web-{n:05}")).state(State::Failed, 5);
        world.event(Event::Apply(Box::new(web.build())));
    }
    world.update();
    assert_eq!(world.cell(PROBLEMS, SHOP, "Cause"), "Deployment/apps/web-00000 FailedReason");
    let before = world.versions(PROBLEMS);
    world.delete(&key(kind("Deployment"), "apps", "web-01000"));
    let changed = world.changed_since(PROBLEMS, &before);
    assert_eq!(changed, [""; 0], "the cause is another one");
}

#[test]
fn a_row_tells_which_revision_was_good_last_and_which_could_not_be_synced() {
    let revisions = SyncedRevisions {
        good: Some(("1.2.3".into(), Some(NOW - 7200))),
        failed: Some(("1.3.0".into(), Some(NOW - 60))),
    };
    let mut world = World::with([shop(|_| {}).build()]);
    assert_eq!(cells(&world, ["Last-Good", "Good-Since", "Failed-Revision"]), ["", "", ""]);
    world.apply(shop(|application| application.synced = Some(Box::new(revisions))).build());
    assert_eq!(cells(&world, ["Last-Good", "Good-Since", "Failed-Revision"]), ["1.2.3", "120m", "1.3.0"]);
    let status = world.status_of(APPLICATIONS, SHOP);
    assert_eq!(status["failedSince"], Time(NOW - 60).to_string());
}
