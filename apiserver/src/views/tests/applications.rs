//! Tests of the rows of `argoapplications`.

use gatehouse_inventory::{Application, Culprit, Detail, State};
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
    let links = object(kind("Application"), "argocd", "shop").uses([]).applied(&applied).build();
    let Detail::Linked(links) = links.detail else { panic!("no links") };
    let shop = shop(|application| application.links = Some(links)).build();
    let mut world = World::with([shop, kustomization("apps", "web").applied(&applied).build()]);
    assert_eq!(world.condition(APPLICATIONS, SHOP, "ManagedTwice").0, "True");
    assert_eq!(world.condition(RESOURCES, "apps/local.kustomization.web", "ManagedTwice").0, "True");
    world.delete(&key(kind("Kustomization"), "apps", "web"));
    let conditions = world.status_of(APPLICATIONS, SHOP)["conditions"].take();
    assert!(conditions.as_array().unwrap().iter().all(|one| one["type"] != "ManagedTwice"), "{conditions}");
}
