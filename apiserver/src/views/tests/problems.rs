//! Tests of the rows of `problems`.

use gatehouse_inventory::{Record, State};
use serde_json::json;

use super::{
    records::{Builder, key, kustomization, node, object},
    *,
};

fn deployment(name: &str) -> Builder {
    object(kind("Deployment"), "apps", name)
}

fn deployment_key(name: &str) -> ObjectKey {
    key(kind("Deployment"), "apps", name)
}

/// A pod of the Deployment `shop` whose image cannot be pulled.
fn pod(name: &str) -> Builder {
    object(kind("Pod"), "apps", name)
        .state(State::Failing, 60)
        .words("ImagePullBackOff", "container web: ImagePullBackOff: not found")
        .owned_by(deployment_key("shop"))
}

/// The Kustomization `all` that applies the Deployment `shop`, which has failed, with a pod.
fn chain() -> [Record; 3] {
    let all = kustomization("apps", "all").state(State::Failed, 30);
    let all = all.waited_for("Deployment", deployment_key("shop"));
    [all.build(), shop_of("apps", "all"), pod("shop-1").build()]
}

/// The Deployment `shop`, which has failed and is applied by this Kustomization.
fn shop_of(namespace: &str, name: &str) -> Record {
    let shop = deployment("shop").state(State::Failed, 50);
    shop.managed_by(key(kind("Kustomization"), namespace, name)).build()
}

const ALL: &str = "apps/local.kustomization.all";
const SHOP: &str = "apps/local.deployment.shop";

fn cells<const N: usize>(world: &World, row: &str, columns: [&str; N]) -> [Value; N] {
    columns.map(|column| world.cell(PROBLEMS, row, column))
}

#[test]
fn a_failed_health_check_is_explained_by_the_container() {
    let world = World::with(chain());
    assert_eq!(world.names(PROBLEMS), [SHOP, ALL], "the pod is told by its owner");
    let columns = ["Object", "State", "Since", "Cause", "Affects", "Managed-By", "Message", "Path"];
    let pod = "Pod/apps/shop-1 ImagePullBackOff";
    let message = "container web: ImagePullBackOff: not found";
    assert_eq!(
        cells(&world, ALL, columns).to_vec(),
        json!(["Kustomization/all", "Failed", "30s", pod, 0, "", message, "Deployment/apps/shop"])
            .as_array()
            .unwrap()
            .clone()
    );
    assert_eq!(
        cells(&world, SHOP, columns).to_vec(),
        json!(["Deployment/shop", "Failed", "50s", pod, 1, "Kustomization/apps/all", message, ""])
            .as_array()
            .unwrap()
            .clone()
    );
    let is_cause = |row| world.status_of(PROBLEMS, row)["isCause"].clone();
    assert_eq!((is_cause(ALL), is_cause(SHOP)), (json!(false), json!(true)));
    let mut object = world.object(PROBLEMS, SHOP);
    object["metadata"]["resourceVersion"] = "…".into();
    insta::assert_json_snapshot!("problem", object);
}

#[test]
fn rows_follow_what_explains_them() {
    let mut world = World::with(chain());
    let cause = |world: &World, row| world.cell(PROBLEMS, row, "Cause");
    world.apply(
        pod("shop-1").words("CrashLoopBackOff", "container web: CrashLoopBackOff: exit code 1").build(),
    );
    for row in [ALL, SHOP] {
        assert_eq!(cause(&world, row), "Pod/apps/shop-1 CrashLoopBackOff", "{row}");
    }
    // A pod that is well leaves nothing.
    world.apply(object(kind("Pod"), "apps", "shop-1").build());
    assert!(world.inventory.cluster(LOCAL).record(&key(kind("Pod"), "apps", "shop-1")).is_none());
    assert_eq!(
        (cause(&world, ALL), cause(&world, SHOP)),
        ("Deployment/apps/shop FailedReason".into(), "".into())
    );
    world.apply(deployment("shop").build());
    assert_eq!(world.names(PROBLEMS), [ALL]);
    assert_eq!(cause(&world, ALL), "");
    assert_eq!(world.status_of(PROBLEMS, ALL)["isCause"], true);
    world.apply(kustomization("apps", "all").build());
    assert_eq!(world.names(PROBLEMS), [""; 0]);
}

#[test]
fn summaries_count_problems_and_name_the_worst_cause() {
    let elsewhere = kustomization("flux-system", "apps").state(State::Failed, 90);
    let elsewhere = elsewhere.waited_for("Deployment", deployment_key("shop"));
    let [all, _, pod_1] = chain();
    let shop = shop_of("flux-system", "apps");
    let mut world = World::with([elsewhere.build(), all, shop, pod_1]);
    let of = |world: &World, plural, row| ["Problems", "Cause"].map(|column| world.cell(plural, row, column));
    let far = "flux-system/local";
    let pulls = json!("Pod/apps/shop-1 ImagePullBackOff");
    assert_eq!(of(&world, SUMMARIES, far), [json!(1), pulls.clone()]);
    assert_eq!(of(&world, SUMMARIES, "apps/local"), [json!(2), pulls.clone()], "Deployments count as well");
    assert_eq!(of(&world, HEALTHS, "/local"), [json!(3), pulls]);
    world.apply(pod("shop-1").words("CrashLoopBackOff", "exit code 1").build());
    let crashes = json!("Pod/apps/shop-1 CrashLoopBackOff");
    assert_eq!(of(&world, SUMMARIES, far), [json!(1), crashes.clone()]);
    assert_eq!(of(&world, HEALTHS, "/local"), [json!(3), crashes]);
    world.delete(&deployment_key("shop"));
    assert_eq!(
        of(&world, SUMMARIES, "apps/local"),
        [json!(1), json!("Kustomization/apps/all HealthCheckFailed")]
    );
    world.apply(kustomization("apps", "all").build());
    assert_eq!(of(&world, SUMMARIES, "apps/local"), [json!(0), json!("")]);
}

#[test]
fn a_summary_that_was_there_first_learns_the_cause() {
    let mut world = World::of(&["local"]);
    let pods = kind("Pod");
    world.hear(LOCAL);
    for (kind, _) in CATALOGUE.kinds() {
        world.event(Event::Kind(kind, KindStatus::Served { version: "v1".into() }));
        world.event(Event::Restart(kind));
    }
    let elsewhere = kustomization("flux-system", "apps").state(State::Failed, 90);
    let elsewhere = elsewhere.words("HealthCheckFailed", "timeout waiting for: [Deployment/apps/shop]");
    world.events(
        [elsewhere.build(), shop_of("flux-system", "apps")].map(|record| Event::Apply(Box::new(record))),
    );
    for (kind, _) in CATALOGUE.kinds().filter(|(kind, _)| *kind != pods) {
        world.event(Event::Synced(kind));
    }
    world.update();
    let cause = |world: &World| world.cell(SUMMARIES, "flux-system/local", "Cause");
    assert_eq!(cause(&world), "Deployment/apps/shop FailedReason");
    world.event(Event::Apply(Box::new(pod("shop-1").build())));
    world.event(Event::Synced(pods));
    world.update();
    assert_eq!(cause(&world), "Pod/apps/shop-1 ImagePullBackOff");
}

#[test]
fn a_cause_counts_what_it_explains() {
    let store = || object(kind("SecretStore"), "apps", "vault");
    let store_key = key(kind("SecretStore"), "apps", "vault");
    let secrets = (0..40).map(|n| {
        let secret = object(kind("ExternalSecret"), "apps", &format!("s{n}")).state(State::Failed, 10);
        secret.uses([store_key.clone()]).build()
    });
    let mut world = World::with(secrets.chain([store().state(State::Failed, 20).build()]));
    let row = "apps/local.secretstore.vault";
    assert_eq!(cells(&world, row, ["Affects", "Cause"]), [json!(40), json!("")]);
    let secret = "apps/local.externalsecret.s7";
    assert_eq!(world.cell(PROBLEMS, secret, "Cause"), "SecretStore/apps/vault FailedReason");
    let causes = |world: &World| {
        let rows = world.names(PROBLEMS);
        rows.into_iter().filter(|row| world.status_of(PROBLEMS, row)["isCause"] == true).collect::<Vec<_>>()
    };
    assert_eq!(causes(&world), [row]);
    world.delete(&key(kind("ExternalSecret"), "apps", "s7"));
    assert_eq!(world.cell(PROBLEMS, row, "Affects"), 39);
    world.apply(store().build());
    assert_eq!(causes(&world).len(), 39, "each explains itself");
    world.delete(&store_key);
    let row = cells(&world, "apps/local.externalsecret.s8", ["Cause", "Message"]);
    assert_eq!(row, [json!("SecretStore/apps/vault Missing"), json!("s8 is Failed")]);
}

#[test]
fn problems_of_cluster_scoped_objects_are_in_default() {
    let longhorn = object(kind("Node.longhorn"), "default", "n1").state(State::Failed, 1);
    let world = World::with([node("n1", "v1.36.0").state(State::Failed, 10).build(), longhorn.build()]);
    // Two groups call a kind so.
    assert_eq!(world.names(PROBLEMS), ["default/local.node.longhorn.io.n1", "default/local.node.n1"]);
    assert_eq!(world.status_of(PROBLEMS, "default/local.node.n1")["namespace"], Value::Null);
}

#[test]
fn a_pod_without_an_observed_owner_has_a_row() {
    let bare = object(kind("Pod"), "apps", "bare").state(State::Failing, 5);
    let mut world = World::with([bare.build(), pod("shop-1").build()]);
    assert_eq!(world.names(PROBLEMS), ["apps/local.pod.bare"]);
    assert_eq!(world.cell(PROBLEMS, "apps/local.pod.bare", "Layer"), "");
    world.delete(&key(kind("Pod"), "apps", "bare"));
    assert_eq!(world.names(PROBLEMS), [""; 0]);
}

#[test]
fn circles_end_and_thousands_below_one_object_are_bounded() {
    let circle = |name: &str, owner: &str| {
        deployment(name).state(State::Failed, 5).owned_by(deployment_key(owner)).build()
    };
    let mut world = World::with([circle("a", "b"), circle("b", "a"), circle("c", "c")]);
    assert_eq!(world.names(PROBLEMS).len(), 3);
    assert_eq!(world.cell(PROBLEMS, "apps/local.deployment.a", "Cause"), "Deployment/apps/b FailedReason");
    assert_eq!(world.cell(PROBLEMS, "apps/local.deployment.c", "Cause"), "");
    world.now += 1;
    for n in 0..10_000 {
        world.event(Event::Apply(Box::new(pod(&format!("shop-{n:05}")).build())));
    }
    world.event(Event::Apply(Box::new(deployment("shop").state(State::Failed, 5).build())));
    world.update();
    assert_eq!(world.cell(PROBLEMS, SHOP, "Cause"), "Pod/apps/shop-00000 ImagePullBackOff");
    let before = world.versions(PROBLEMS);
    world.delete(&key(kind("Pod"), "apps", "shop-05000"));
    assert_eq!(world.changed_since(PROBLEMS, &before), [""; 0]);
}
