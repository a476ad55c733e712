//! Tests what Blocked objects wait for: charts, dependencies, repositories and generators.

use super::*;

/// A HelmRelease whose HelmChart is created in another namespace, and does not become ready because of `why`.
fn waiting_release(why: &str, seconds: Seconds) -> Value {
    let message = format!("Ready=False SourceNotReady: HelmChart 'infra/shop-search' is not ready: {why}");
    let conditions = ["Reconciling=True Progressing: Fulfilling prerequisites", &message];
    let mut release = object_since("HelmRelease/shop/search", &templated(), &conditions, seconds);
    release["status"]["helmChart"] = "infra/shop-search".into();
    release["status"]["observedGeneration"] = (-1).into();
    release
}

#[test]
fn what_waits_for_a_chart_that_is_made_has_not_failed() {
    let unreconciled = "latest generation of object has not been reconciled";
    let chart = json!({"kind": "HelmChart", "metadata": {"namespace": "infra", "name": "shop-search", "generation": 1,
        "creationTimestamp": ago(1)}, "spec": templated()["chart"]["spec"], "status": {"observedGeneration": -1}});
    let mut world = World::of(&[
        object("HelmRepository/infra/catalog", &json!({}), &[READY]),
        chart,
        waiting_release(unreconciled, 1),
    ]);
    assert_eq!(world.shown("HelmRelease/shop/search"), "Progressing < HelmChart/shop-search Pending, source");
    // A new version of a healthy release.
    let mut bumped = waiting_release("does not have an artifact", 1);
    let released = json!({"type": "Released", "status": "True", "reason": "UpgradeSucceeded",
        "lastTransitionTime": ago(864_000)});
    bumped["status"]["conditions"].as_array_mut().unwrap().push(released);
    world.apply(&bumped);
    assert!(world.shown("HelmRelease/shop/search").starts_with("Progressing(Ready)"));
    // The wait has a limit.
    for (seconds, state) in [(299, State::Progressing), (300, State::Blocked), (90_000, State::Blocked)] {
        world.apply(&waiting_release(unreconciled, seconds));
        assert_eq!(world.record("HelmRelease/shop/search").verdict.state, state, "{seconds}");
    }
}

#[test]
fn the_chart_that_a_release_had_made_is_the_root_cause_wherever_it_stands() {
    let why = "invalid chart reference: no 'search' chart with version matching '9.9.9' found";
    let failed = format!("Ready=False InvalidChartReference: {why}");
    let mut world = World::of(&[
        object("HelmRepository/infra/catalog", &json!({}), &[READY]),
        object("HelmChart/infra/shop-search", &templated()["chart"]["spec"], &[RETRY, &failed]),
        waiting_release(why, 7_200),
    ]);
    assert_eq!(world.shown("HelmRelease/shop/search"), "Blocked < HelmChart/shop-search Failing, source");
    // The repository of that chart.
    world.apply(&object(
        "HelmRepository/infra/catalog",
        &json!({}),
        &["Ready=False IndexationFailed: no such host"],
    ));
    assert_eq!(world.shown("HelmRelease/shop/search"), "Blocked < HelmRepository/catalog Failed, source");
    world.delete("HelmChart/infra/shop-search");
    assert_eq!(world.shown("HelmRelease/shop/search"), "Blocked < HelmChart/shop-search missing source");
}

#[test]
fn the_dependency_that_the_controller_names_is_blamed_and_no_tolerated_one() {
    let failing = "Ready=False HealthCheckFailed: Deployment/apps/metrics not ready";
    let blocked = |name: &str, on_: &[&str], message: &str| {
        object_since(
            &format!("Kustomization/apps/{name}"),
            &on(on_),
            &[&format!("Ready=False DependencyNotReady: {message}")],
            600,
        )
    };
    let world = World::of(&[
        object("GitRepository/apps/fleet", &json!({}), &[READY]),
        object("Kustomization/apps/database", &git(), &[failing, RETRY]),
        object(
            "Kustomization/apps/queue",
            &git(),
            &["Ready=Unknown Progressing: Reconciliation in progress"],
        ),
        object("Kustomization/apps/api", &git(), &[READY]),
        blocked("web", &["database", "queue"], "dependency 'apps/queue' is not ready"),
        blocked("ui", &["api"], "dependency 'apps/api' is not ready according to readyExpr eval"),
        blocked("new", &["api"], "dependency 'apps/api' revision is not up to date"),
        blocked("gone", &["database", "none"], "dependency 'apps/none' not found: no"),
        // The controller checks again in half a minute.
        blocked("soon", &["database", "api"], "dependency 'apps/api' is not ready"),
    ]);
    for (name, expected) in [
        ("web", "Blocked < Kustomization/queue Progressing"),
        ("ui", "Blocked < Kustomization/api not enough"),
        ("new", "Blocked < Kustomization/api not enough"),
        ("gone", "Blocked < Kustomization/none missing"),
        ("soon", "Blocked"),
    ] {
        assert_eq!(world.shown(&format!("Kustomization/apps/{name}")), expected, "{name}");
    }
}

/// The status that kustomize-controller writes whenever it finds that a dependency is being reconciled.
#[test]
fn who_waits_for_a_dependency_that_has_not_failed_is_blocked_after_five_minutes() {
    let queue = |condition: &str| object("Kustomization/apps/queue", &git(), &[condition]);
    let web = |condition: &str| object_since("Kustomization/apps/web", &on(&["queue"]), &[condition], 0);
    let waits = "Ready=False DependencyNotReady: dependency 'apps/queue' is not ready";
    let upgraded = "Ready=False DependencyNotReady: dependency 'apps/queue' revision is not up to date";
    let working = "Ready=Unknown Progressing: Reconciliation in progress";
    for (before, dependency, condition, expected) in [
        (READY, READY, waits, "Progressing(Ready)"),
        (READY, working, waits, "Progressing(Ready)"),
        (READY, working, upgraded, "Progressing(Ready)"),
        ("Ready=False BuildFailed: no", working, waits, "Progressing(Failed)"),
    ] {
        let mut world = World::of(&[queue(READY), web(before)]);
        world.apply(&queue(dependency));
        world.apply(&web(condition));
        assert_eq!(world.shown("Kustomization/apps/web"), expected, "{before}, {dependency}, {condition}");
        world.now += 300;
        world.inventory.tick(world.now);
        assert!(world.shown("Kustomization/apps/web").starts_with("Blocked"), "{condition}");
    }
    for dependency in ["Ready=False BuildFailed: no such file", "Stalled=True Gone: for good"] {
        let world = World::of(&[queue(dependency), web(waits)]);
        assert!(world.shown("Kustomization/apps/web").starts_with("Blocked"), "{dependency}");
    }
    let expression =
        "Ready=False DependencyNotReady: dependency 'apps/queue' is not ready according to readyExpr eval";
    assert!(
        World::of(&[queue(READY), web(expression)]).shown("Kustomization/apps/web").starts_with("Blocked")
    );
    assert!(
        World::of(&[web(waits)]).shown("Kustomization/apps/web").starts_with("Blocked"),
        "it does not exist"
    );
}

#[test]
fn what_a_blocked_object_waits_for_is_asked_of_its_source() {
    let world = World::of(&[
        object("GitRepository/apps/fleet", &json!({}), &["Ready=False GitOperationFailed: denied"]),
        object("Kustomization/apps/base", &git(), &["Ready=Unknown Progressing: Reconciliation in progress"]),
        object_since(
            "Kustomization/apps/web",
            &on(&["base"]),
            &["Ready=False DependencyNotReady: dependency 'apps/base' is not ready"],
            600,
        ),
        // The object failed by itself, regardless of its source.
        object("Kustomization/apps/own", &git(), &["Ready=False BuildFailed: no such file"]),
        object("Kustomization/apps/fetch", &git(), &["Ready=False ArtifactFailed: 404"]),
        // A healthy object that is being reconciled has no problem.
        object("Kustomization/apps/busy", &git(), &["Ready=Unknown Progressing: Reconciliation in progress"]),
    ]);
    for (name, expected) in [
        ("web", "Blocked < GitRepository/fleet Failed, source"),
        ("own", "Failed"),
        ("fetch", "Failed < GitRepository/fleet Failed, source"),
        ("busy", "Progressing"),
    ] {
        assert_eq!(world.shown(&format!("Kustomization/apps/{name}")), expected, "{name}");
    }
}

#[test]
fn an_image_policy_waits_for_its_repository() {
    let policy = |condition: &str| {
        object("ImagePolicy/apps/web", &json!({"imageRepositoryRef": {"name": "web"}}), &[condition])
    };
    let mut world = World::of(&[
        object("ImageRepository/apps/web", &json!({}), &["Ready=False ReadOperationFailed: unauthorized"]),
        policy("Ready=False DependencyNotReady: referenced ImageRepository has not been scanned yet"),
    ]);
    assert_eq!(world.shown("ImagePolicy/apps/web"), "Blocked < ImageRepository/web Failed, source");
    // At first there are no tags to choose from, for a while.
    let unscanned = "Ready=False DependencyNotReady: retrying in 30s error: no tags in database";
    world.apply(&policy(unscanned));
    assert_eq!(world.record("ImagePolicy/apps/web").verdict.state, State::Progressing);
    world.now += 300;
    world.apply(&policy(unscanned));
    assert_eq!(world.shown("ImagePolicy/apps/web"), "Blocked < ImageRepository/web Failed, source");
    world.delete("ImageRepository/apps/web");
    assert_eq!(world.shown("ImagePolicy/apps/web"), "Blocked < ImageRepository/web missing source");
}

#[test]
fn behind_an_artifact_that_was_never_made_stands_its_generator() {
    let spec = json!({"sources": [{"alias": "mono", "kind": "GitRepository", "name": "fleet"}],
        "artifacts": [{"name": "other"}, {"name": "portal"}]});
    let why = "Ready=False BuildFailed: portal build failed: no files match";
    let source = json!({"sourceRef": {"kind": "ExternalArtifact", "name": "portal"}});
    let missing =
        r#"Ready=False ArtifactFailed: externalartifacts.source.toolkit.fluxcd.io "portal" not found"#;
    let mut world = World::of(&[
        object("GitRepository/apps/fleet", &json!({}), &[READY]),
        object("Kustomization/apps/portal", &source, &[missing]),
    ]);
    // The generator may not have come to it yet.
    assert_eq!(
        world.shown("Kustomization/apps/portal"),
        "Progressing < ExternalArtifact/portal missing source"
    );
    world.apply(&object_since("Kustomization/apps/portal", &source, &[missing], 300));
    assert_eq!(world.shown("Kustomization/apps/portal"), "Failed < ExternalArtifact/portal missing source");
    world.apply(&object("ArtifactGenerator/apps/mono", &spec, &[why, RETRY]));
    assert_eq!(world.shown("Kustomization/apps/portal"), "Failed < ArtifactGenerator/mono Failing, source");
    // The cause is further up the chain; the artifacts themselves are checked too.
    world.apply(&object("ArtifactGenerator/apps/mono", &spec, &["Ready=False SourceFetchFailed: 404"]));
    world.apply(&object("GitRepository/apps/fleet", &json!({}), &["Ready=False GitOperationFailed: denied"]));
    assert_eq!(world.shown("Kustomization/apps/portal"), "Failed < GitRepository/fleet Failed, source");
    let mut made = object("ExternalArtifact/apps/portal", &json!({}), &[]);
    made["status"] = json!({"artifact": {"revision": "latest@sha256:1"}});
    world.apply(&made);
    assert_eq!(world.shown("ExternalArtifact/apps/portal"), "Ready");
    assert_eq!(world.shown("Kustomization/apps/portal"), "Failed");
}
