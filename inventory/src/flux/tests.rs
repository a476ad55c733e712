//! Tests that decode Flux's objects from JSON into records.

use serde_json::{Value, json};

use crate::{
    FluxDetail, ForeignName, HistoryResult, Interner, Record, Reference, Seconds, State,
    catalogue::{Catalogue, Undecodable},
};

fn observe(kind: &str, object: &Value) -> Result<Record, Undecodable> {
    let catalogue = Catalogue::builtin();
    let (id, _) = catalogue.kinds().find(|(_, row)| row.kind == kind && row.is_flux()).unwrap();
    catalogue.observe(id, &object.to_string(), &Interner::default(), 0)
}

fn detail(kind: &str, object: &Value) -> FluxDetail {
    observe(kind, object).unwrap().flux().unwrap().clone()
}

/// Formats a reference to a kind of the catalogue as `group/kind namespace/name`.
fn shown(reference: &Reference) -> String {
    match reference {
        Reference::Known(key) => {
            let catalogue = Catalogue::builtin();
            format!("{} {}/{}", catalogue.kind(key.kind).resource_name(), key.namespace, key.name)
        }
        Reference::Foreign(foreign) => {
            let ForeignName { api_version, kind, namespace, name } = &**foreign;
            format!("? {api_version} {kind} {namespace}/{name}")
        }
    }
}

fn own(spec: &Value) -> Value {
    json!({"metadata": {"name": "a", "namespace": "ns"}, "spec": spec})
}

#[test]
fn references_get_the_group_and_namespace_that_they_leave_out() {
    for (kind, spec, expected) in [
        (
            "Kustomization",
            json!({"sourceRef": {"kind": "GitRepository", "name": "x"}}),
            "gitrepositories.source.toolkit.fluxcd.io ns/x",
        ),
        (
            "Kustomization",
            json!({"sourceRef": {"kind": "Bucket", "name": "x", "namespace": "y"}}),
            "buckets.source.toolkit.fluxcd.io y/x",
        ),
        (
            "HelmRelease",
            json!({"chart": {"spec": {"chart": "c", "sourceRef": {"kind": "HelmRepository", "name": "x"}}}}),
            "helmrepositories.source.toolkit.fluxcd.io ns/x",
        ),
        (
            "HelmRelease",
            json!({"chartRef": {"kind": "OCIRepository", "name": "x", "namespace": "y"}}),
            "ocirepositories.source.toolkit.fluxcd.io y/x",
        ),
        (
            "HelmChart",
            json!({"chart": "c", "sourceRef": {"kind": "GitRepository", "name": "x"}}),
            "gitrepositories.source.toolkit.fluxcd.io ns/x",
        ),
        (
            "ExternalArtifact",
            json!({"sourceRef": {"apiVersion": "source.extensions.fluxcd.io/v1beta1", "kind": "ArtifactGenerator", "name": "x"}}),
            "artifactgenerators.source.extensions.fluxcd.io ns/x",
        ),
        (
            "ArtifactGenerator",
            json!({"sources": [{"alias": "m", "kind": "OCIRepository", "name": "x"}, {"alias": "n", "kind": "Bucket", "name": "z"}]}),
            "ocirepositories.source.toolkit.fluxcd.io ns/x",
        ),
        (
            "ImagePolicy",
            json!({"imageRepositoryRef": {"name": "x"}}),
            "imagerepositories.image.toolkit.fluxcd.io ns/x",
        ),
        (
            "Kustomization",
            json!({"sourceRef": {"apiVersion": "example.com/v1", "kind": "Folder", "name": "x"}}),
            "? example.com/v1 Folder /x",
        ),
    ] {
        let source = detail(kind, &own(&spec)).source.unwrap();
        assert_eq!(shown(&source), expected, "{kind} {spec}");
    }
}

#[test]
fn dependencies_are_of_the_same_kind_unless_they_say_otherwise() {
    let spec = json!({"dependsOn": [{"name": "b"}, {"name": "c", "namespace": "other"}]});
    let found: Vec<_> = detail("HelmRelease", &own(&spec)).depends_on.iter().map(shown).collect();
    assert_eq!(
        found,
        ["helmreleases.helm.toolkit.fluxcd.io ns/b", "helmreleases.helm.toolkit.fluxcd.io other/c"]
    );

    let spec = json!({"dependsOn": [
        {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d", "namespace": "other"},
        {"apiVersion": "v1", "kind": "Namespace", "name": "n"},
        {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "name": "crd"},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "name": "r"},
    ]});
    let found: Vec<_> = detail("ResourceSet", &own(&spec)).depends_on.iter().map(shown).collect();
    assert_eq!(
        found,
        [
            "deployments.apps other/d",
            "namespaces /n",
            "customresourcedefinitions.apiextensions.k8s.io /crd",
            "? rbac.authorization.k8s.io/v1 ClusterRole /r"
        ]
    );
}

#[test]
fn a_revision_is_what_was_applied_fetched_or_released() {
    for (kind, status, expected) in [
        (
            "Kustomization",
            json!({"lastAppliedRevision": "main@sha1:1", "lastAttemptedRevision": "main@sha1:2"}),
            Some("main@sha1:1"),
        ),
        ("GitRepository", json!({"artifact": {"revision": "main@sha1:1"}}), Some("main@sha1:1")),
        (
            "HelmRelease",
            json!({"history": [{"chartName": "c", "chartVersion": "1.2.3"}, {"chartName": "c", "chartVersion": "1.2.2"}]}),
            Some("c@1.2.3"),
        ),
        (
            "ImagePolicy",
            json!({"latestRef": {"name": "ghcr.io/a/b", "tag": "1.0.0"}}),
            Some("ghcr.io/a/b:1.0.0"),
        ),
        ("Kustomization", json!({"lastAppliedRevision": ""}), None),
        ("Receiver", json!({"webhookPath": "/hook/secret"}), None),
    ] {
        let object = json!({"metadata": {"name": "a", "namespace": "ns"}, "status": status});
        assert_eq!(detail(kind, &object).revision.as_deref(), expected, "{kind} {status}");
    }
}

#[test]
fn suspended_is_what_the_controller_takes_for_suspended() {
    const OPERATOR: &str = "fluxcd.controlplane.io/reconcile";
    const GENERATOR: &str = "source.extensions.fluxcd.io/reconcile";
    for (kind, annotation, suspend, expected) in [
        ("ResourceSet", OPERATOR, false, true),
        ("FluxInstance", OPERATOR, false, true),
        ("ResourceSetInputProvider", OPERATOR, false, true),
        ("ResourceSet", GENERATOR, true, false),
        ("ArtifactGenerator", GENERATOR, false, true),
        ("ArtifactGenerator", OPERATOR, true, false),
        ("ExternalArtifact", OPERATOR, true, false),
        // On an object that the operator created, it only means that the live object is to be left as it is.
        ("Kustomization", OPERATOR, false, false),
        ("Kustomization", OPERATOR, true, true),
        ("GitRepository", GENERATOR, false, false),
        ("HelmRepository", OPERATOR, true, true),
    ] {
        let mut object = own(&json!({"suspend": suspend}));
        object["metadata"]["annotations"] =
            json!({annotation: "Disabled", "fluxcd.controlplane.io/suspendedBy": "jane"});
        object["status"] = json!({"conditions": [
            {"type": "Ready", "status": "False", "reason": "BuildFailed", "message": "no such file"},
        ]});
        let record = observe(kind, &object).unwrap();
        let state = if expected { State::Suspended } else { State::Failed };
        assert_eq!(record.verdict.state, state, "{kind} {annotation}");
        let flux = record.flux().unwrap();
        assert_eq!((flux.suspended, flux.suspended_by.as_deref()), (expected, Some("jane")), "{kind}");
    }
}

#[test]
fn an_object_without_a_status_is_pending_or_ready_where_there_never_is_one() {
    for (kind, spec, expected) in [
        ("Kustomization", json!({}), State::Pending),
        ("ResourceSet", Value::Null, State::Pending),
        ("FluxInstance", json!({}), State::Pending),
        ("HelmRepository", json!({"url": "https://example.com"}), State::Pending),
        ("HelmRepository", json!({"type": "oci"}), State::Ready),
        ("Alert", json!({}), State::Ready),
        ("Provider", json!({"suspend": true}), State::Suspended),
    ] {
        assert_eq!(observe(kind, &own(&spec)).unwrap().verdict.state, expected, "{kind} {spec}");
    }
}

#[test]
fn a_field_of_the_wrong_type_makes_an_unknown_row_that_names_it() {
    for (object, message) in [
        (
            json!({"metadata": {"name": "a"}, "spec": {"suspend": "yes"}}),
            r#"spec.suspend: invalid type: string "yes", expected a boolean"#,
        ),
        (
            json!({"metadata": {"name": "a"}, "status": {"conditions": "none"}}),
            r#"status.conditions: invalid type: string "none", expected a sequence"#,
        ),
        (
            json!({"metadata": {"name": "a"}, "status": {"conditions": [{"type": "Ready", "status": true}]}}),
            "status.conditions[0].status: invalid type: boolean `true`, expected a string",
        ),
        (
            json!({"metadata": {"name": "a", "creationTimestamp": "soon"}}),
            r#"metadata.creationTimestamp: invalid value: string "soon", expected an RFC 3339 timestamp"#,
        ),
    ] {
        let record = observe("Kustomization", &object).unwrap();
        let verdict = &record.verdict;
        assert_eq!(
            (verdict.state, &*verdict.reason, &*verdict.message),
            (State::Unknown, "Undecodable", message)
        );
        assert_eq!((&*record.key.namespace, &*record.key.name), ("default", "a"));
        assert!(record.flux().is_some());
    }
}

#[test]
fn an_object_without_a_name_is_no_record() {
    for object in [json!({}), json!([]), json!({"metadata": {"name": 5}}), json!({"metadata": {}})] {
        let error = observe("Kustomization", &object).unwrap_err();
        assert!(!error.message.is_empty(), "{object}");
    }
    let catalogue = Catalogue::builtin();
    let id = catalogue.find("kustomize.toolkit.fluxcd.io", "Kustomization").unwrap();
    for text in ["", "{", "null", r#"{"metadata": {"name": "a"}} trailing"#] {
        assert!(catalogue.observe(id, text, &Interner::default(), 0).is_err(), "{text}");
    }
}

#[test]
fn null_is_absence() {
    let object = json!({
        "metadata": {"name": "a", "namespace": "ns", "creationTimestamp": null, "annotations": null},
        "spec": {"dependsOn": null, "sourceRef": null, "chart": null},
        "status": {"conditions": null, "history": null, "artifact": null},
    });
    assert_eq!(observe("Kustomization", &object).unwrap().verdict.state, State::Pending);
}

#[test]
fn what_a_tenant_writes_by_the_megabyte_is_kept_in_part() {
    let long = "x".repeat(1 << 20);
    let mut object = own(&json!({
        "sourceRef": {"kind": long, "name": long, "namespace": long},
        "dependsOn": (0..30_000).map(|n| json!({"name": format!("n{n}"), "namespace": "ns"})).collect::<Vec<_>>(),
    }));
    object["metadata"]["annotations"] = json!({"fluxcd.controlplane.io/suspendedBy": long});
    object["status"] = json!({
        "lastAppliedRevision": long,
        "conditions": (0..5_000).map(|_| json!({"type": "Ready", "status": "False", "reason": long[..1_000],
            "message": long[..100]})).collect::<Vec<_>>(),
        "history": (0..1_000).map(|_| json!({"lastReconciledStatus": "x", "metadata": {"revision": "y"}})).collect::<Vec<_>>(),
        "inventory": {"entries": (0..10_000).map(|n| json!({"id": n.to_string(), "v": "v1"})).collect::<Vec<_>>()},
    });
    let catalogue = Catalogue::builtin();
    let id = catalogue.find("kustomize.toolkit.fluxcd.io", "Kustomization").unwrap();
    let interner = Interner::default();
    let record = catalogue.observe(id, &object.to_string(), &interner, 0).unwrap();
    let flux = record.flux().unwrap();
    assert_eq!((flux.depends_on.len(), flux.depends_on_omitted), (256, 30_000 - 256));
    let (_, bytes) = interner.size();
    assert!(record.size() < 24 << 10 && bytes < 16 << 10, "{} and {bytes} bytes", record.size());
}

#[test]
fn the_dependency_that_the_controller_names_is_found_among_those_that_are_kept() {
    let spec = json!({"dependsOn": (0..300).map(|n| json!({"name": format!("n{n}")})).collect::<Vec<_>>()});
    for (name, expected) in [("n7", Some(7)), ("n255", Some(255)), ("n299", None)] {
        let mut object = own(&spec);
        object["status"] = json!({"conditions": [{"type": "Ready", "status": "False", "reason": "DependencyNotReady",
            "message": format!("dependency 'ns/{name}' is not ready")}]});
        assert_eq!(detail("Kustomization", &object).waits_for, expected, "{name}");
    }
}

/// The last good revision, and since when.
fn good(flux: &FluxDetail) -> Option<(&str, Seconds)> {
    let good = flux.history.last_good()?;
    Some((good.revision.as_deref()?, good.first))
}

#[test]
fn a_history_keeps_how_each_attempt_ended() {
    let mut object = own(&json!({}));
    let digest = "sha256:5c8d1f0e7a4b39c2d6e8f1a0b3c5d7e9f2a4b6c8d0e1f3a5b7c9d1e3f5a7b9c1";
    let entry = |status: &str| {
        json!({"digest": digest, "lastReconciledStatus": status, "firstReconciled": "1970-01-01T00:00:10Z",
            "lastReconciled": "1970-01-01T00:00:50Z", "lastReconciledDuration": "2.418s", "totalReconciliations": 37,
            "metadata": {"revision": "main@sha1:1"}})
    };
    let timeless = json!({"digest": "sha256:0", "lastReconciledStatus": "ReconciliationSucceeded"});
    let all = ["HealthCheckFailed", "ReconciliationSucceeded", "PruneFailed", "HealthCheckFailed"].map(entry);
    object["status"] = json!({"history": [all[0], timeless, all[1], all[2], all[3]]});
    let flux = detail("Kustomization", &object);
    let [failed, good, unpruned] = flux.history.entries() else { panic!("{:?}", flux.history) };
    assert_eq!(good.id.to_string(), "5c8d1f0e7a4b", "the same content has an entry for each status");
    assert!(failed.id != good.id && unpruned.id != failed.id);
    assert_eq!((failed.result, good.result), (HistoryResult::Failed, HistoryResult::Succeeded));
    assert_eq!((good.first, good.last, good.took, good.times), (10, 50, Some(2_418), Some(37)));

    let release = |version: i64, status: &str, action: &str| {
        json!({"chartName": "shop", "chartVersion": "1.2.3", "version": version, "status": status, "action": action,
            "firstDeployed": "1970-01-01T00:00:01Z", "lastDeployed": format!("1970-01-01T00:00:{version:02}Z")})
    };
    let history = json!([
        release(12, "deployed", "rollback"),
        release(11, "failed", "upgrade"),
        release(10, "superseded", "")
    ]);
    let object = json!({"metadata": {"name": "a", "namespace": "ns"}, "status": {"history": history}});
    let flux = detail("HelmRelease", &object);
    let names: Vec<_> = flux.history.entries().iter().map(|entry| entry.id.to_string()).collect();
    assert_eq!(names, ["v12", "v11", "v10"]);
    assert_eq!((flux.history.first_failure(), flux.history.entries()[2].first), (Some(1), 10));
    let wrong =
        json!({"metadata": {"name": "a", "namespace": "ns"}, "status": {"history": [{"version": "one"}]}});
    assert_eq!(observe("HelmRelease", &wrong).unwrap().verdict.state, State::Unknown);
}

#[test]
fn what_was_applied_and_where_and_the_last_good_revision_are_kept() {
    let mut object = own(&json!({"kubeConfig": {"secretRef": {"name": "edge", "key": "value"}}}));
    let entry = |revision: &str, status: &str, first: &str| {
        json!({"digest": revision, "lastReconciledStatus": status, "firstReconciled": first, "lastReconciled": first,
            "metadata": {"revision": revision}})
    };
    object["status"] = json!({
        "inventory": {"entries": [{"id": "apps_shop_apps_Deployment", "v": "v1"}, {"id": "broken", "v": "v1"}]},
        "history": [
            entry("main@sha1:3", "HealthCheckFailed", "1970-01-01T00:00:30Z"),
            entry("main@sha1:2", "ReconciliationSucceeded", "1970-01-01T00:00:20Z"),
            entry("main@sha1:1", "ReconciliationSucceeded", "1970-01-01T00:00:10Z"),
        ],
    });
    let flux = detail("Kustomization", &object);
    assert_eq!(good(&flux), Some(("main@sha1:2", 20)));
    let ids: std::collections::HashSet<_> = flux.history.entries().iter().map(|entry| entry.id).collect();
    assert_eq!((ids.len(), flux.history.first_failure()), (3, Some(0)));
    assert_eq!(flux.links.as_ref().unwrap().target, Some(("Secret", "edge".into())));
    let applied = flux.applied.as_deref().unwrap();
    assert_eq!((applied.len(), applied.omitted), (1, 1));
    let record = observe("Kustomization", &object).unwrap();
    assert!(record.applied_here().is_none(), "it applies elsewhere");

    let snapshot = |version: &str, status: &str| json!({"chartName": "shop", "chartVersion": version, "status": status, "lastDeployed": "1970-01-01T00:01:00Z"});
    let history = json!([snapshot("2.0.0", "failed"), snapshot("1.9.0", "superseded")]);
    let release = json!({"metadata": {"name": "a", "namespace": "ns"}, "status": {"history": history},
        "spec": {"kubeConfig": {"configMapRef": {"name": "edge"}}}});
    let flux = detail("HelmRelease", &release);
    assert_eq!(good(&flux), Some(("shop@1.9.0", 60)));
    assert_eq!(flux.links.as_ref().unwrap().target, Some(("ConfigMap", "edge".into())));

    let generator = json!({"metadata": {"name": "a", "namespace": "ns"},
        "status": {"inventory": [{"name": "made", "namespace": "ns", "digest": "x", "filename": "y"}]}});
    let made: Vec<_> = detail("ArtifactGenerator", &generator).applied.unwrap().entries().collect();
    let made: Vec<_> = made.iter().map(|entry| [&*entry.kind, &entry.namespace, &entry.name]).collect();
    assert_eq!(made, [["ExternalArtifact", "ns", "made"]]);
    for wrong in [json!("x"), json!({"entries": 1}), json!({"entries": [{"id": 1}]})] {
        let object = json!({"metadata": {"name": "a", "namespace": "ns"}, "status": {"inventory": wrong}});
        let record = observe("Kustomization", &object).unwrap();
        assert_eq!(record.verdict.state, State::Unknown, "{wrong}");
    }
}

#[test]
fn what_could_not_be_deleted_is_kept_as_long_as_its_message() {
    let ready = |status: &str, reason: &str, message: &str| {
        let mut object = own(&json!({}));
        object["status"]["conditions"] = json!([{
            "type": "Ready", "status": status, "reason": reason, "message": message, "observedGeneration": 1,
            "lastTransitionTime": "1970-01-01T00:00:30Z",
        }]);
        observe("Kustomization", &object).unwrap()
    };
    let message = "delete failed, errors: Deployment/apps/shop delete failed: denied; really;ClusterRole/ops delete failed: no;";
    let failed = ready("False", "PruneFailed", message);
    let unpruned = |record: &Record| -> Vec<String> {
        record
            .flux()
            .unwrap()
            .unpruned()
            .iter()
            .map(|one| format!("{}/{}/{}", one.kind, one.namespace, one.name))
            .collect()
    };
    assert_eq!(unpruned(&failed), ["Deployment/apps/shop", "ClusterRole//ops"]);
    let mut retried = ready("Unknown", "Progressing", "Reconciliation in progress");
    assert_eq!(unpruned(&retried), [""; 0]);
    retried.verdict.remember(&failed.verdict);
    retried.remember_unpruned(&failed);
    assert_eq!(unpruned(&retried), unpruned(&failed));
    let mut done = ready("True", "ReconciliationSucceeded", "Applied revision: main@sha1:1");
    done.verdict.remember(&retried.verdict);
    done.remember_unpruned(&retried);
    assert_eq!(unpruned(&done), [""; 0]);
    let many: Vec<_> = (0..40).map(|n| format!("ConfigMap/apps/c{n} delete failed: no;")).collect();
    let many = many.concat();
    assert_eq!(unpruned(&ready("False", "PruneFailed", &format!("delete failed, errors: {many}"))).len(), 16);
}

#[test]
fn an_inventory_of_a_hundred_thousand_entries_is_kept_in_part() {
    let entries: Vec<_> =
        (0..100_000).map(|n| json!({"id": format!("apps_n{n}_apps_Deployment"), "v": "v1"})).collect();
    let object =
        json!({"metadata": {"name": "a", "namespace": "ns"}, "status": {"inventory": {"entries": entries}}});
    let record = observe("Kustomization", &object).unwrap();
    let applied = record.flux().unwrap().applied.as_deref().unwrap();
    assert_eq!((applied.len(), applied.omitted), (10_000, 90_000));
    assert!(record.size() < 128 << 10, "{}", record.size());
}

#[test]
fn the_history_of_a_source_is_the_artifact_that_it_has_stored() {
    let artifact = json!({"revision": "main@sha1:1", "digest": "sha256:5c8d1f0e7a4b39c2",
        "lastUpdateTime": "1970-01-01T00:01:00Z"});
    let source = json!({"metadata": {"name": "x", "namespace": "ns"}, "status": {"artifact": artifact}});
    let history = detail("GitRepository", &source).history;
    let [entry] = history.entries() else { panic!("{history:?}") };
    let told = (entry.id.to_string(), entry.result, entry.revision.as_deref(), entry.first, entry.last);
    let revision = Some("main@sha1:1");
    assert_eq!(told, ("5c8d1f0e7a4b".to_owned(), HistoryResult::Succeeded, revision, 60, 60));
    let undated =
        json!({"metadata": {"name": "x", "namespace": "ns"}, "status": {"artifact": {"revision": "a"}}});
    assert!(detail("Bucket", &undated).history.entries().is_empty());
}
