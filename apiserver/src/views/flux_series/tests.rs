//! Tests of each kind's series against what Flux's configuration of kube-state-metrics makes of the same
//! objects.

use std::sync::{Arc, LazyLock};

use gatehouse_inventory::{Event, Interner};
use serde_json::{Value, json};

use super::*;

static CATALOGUE: LazyLock<Arc<Catalogue>> =
    LazyLock::new(|| Arc::new(Catalogue::builtin().with_flux_texts()));

fn inventory(catalogue: &Arc<Catalogue>, objects: &[(&str, Value)]) -> Inventory {
    let mut inventory = Inventory::new(Arc::clone(catalogue), [Str::from("local")], 0);
    for (kind, object) in objects {
        let (id, _) = catalogue.kinds().find(|(_, row)| row.kind == *kind).expect("a kind");
        let record = catalogue.observe(id, &object.to_string(), &Interner::default(), 0).expect("decodes");
        inventory.apply(ClusterId(0), Event::Apply(Box::new(record)), 0);
    }
    inventory
}

/// The exposition text of the series.
async fn scraped(series: &FluxSeries) -> String {
    let chunks = series.text().expect("synced").collect::<Vec<_>>().await;
    String::from_utf8(chunks.concat()).expect("text")
}

async fn text(inventory: &Inventory) -> String {
    let series = FluxSeries::new(inventory.catalogue());
    series.update(inventory, &inventory.everything());
    scraped(&series).await
}

/// The labels of the only series, without those that every series has.
async fn labels(kind: &str, spec: Value, status: Value) -> String {
    let object = json!({"metadata": {"name": "a", "namespace": "n"}, "spec": spec, "status": status});
    let text = text(&inventory(&CATALOGUE, &[(kind, object)])).await;
    let series = text.strip_prefix(HEAD).expect("the head").strip_suffix("} 1\n").expect("one series");
    let (start, own) = series.split_once(r#"exported_namespace="n",name="a""#).expect("its place");
    assert!(start.contains(&format!("customresource_kind=\"{kind}\"")), "{series}");
    own.trim_start_matches(',').to_owned()
}

#[tokio::test]
async fn each_kind_has_the_labels_of_flux_s_own_configuration() {
    let ready = json!({"conditions": [{"type": "Reconciling", "status": "True"}, {"type": "Ready", "status": "False"}]});
    let with = |field: &str, value: Value| {
        let mut status = ready.clone();
        status[field] = value;
        status
    };
    let artifact = || with("artifact", json!({"revision": "main@sha1:1f"}));
    let url = json!({"url": "https://example.com/x", "suspend": false});
    for (kind, spec, status, expected) in [
        (
            "Kustomization",
            json!({"suspend": true, "sourceRef": {"kind": "GitRepository", "name": "s"}}),
            with("lastAppliedRevision", json!("main@sha1:1f")),
            r#"ready="False",suspended="true",revision="main@sha1:1f",source_name="s""#,
        ),
        (
            "HelmRelease",
            json!({"chart": {"spec": {"chart": "redis", "sourceRef": {"kind": "HelmRepository", "name": "s"}}}}),
            with(
                "history",
                json!([
                    {"chartName": "redis", "chartVersion": "1.2.3", "appVersion": "7.0", "status": "deployed"},
                    {"chartName": "redis", "chartVersion": "1.2.2", "appVersion": "6.0", "status": "superseded"},
                ]),
            ),
            r#"ready="False",revision="1.2.3",chart_name="redis",chart_app_version="7.0",chart_source_name="s""#,
        ),
        (
            "HelmRelease",
            json!({"chartRef": {"kind": "OCIRepository", "name": "s"}}),
            ready.clone(),
            r#"ready="False",chart_ref_name="s""#,
        ),
        (
            "GitRepository",
            url.clone(),
            artifact(),
            r#"ready="False",suspended="false",revision="main@sha1:1f",url="https://example.com/x""#,
        ),
        (
            "HelmRepository",
            url.clone(),
            artifact(),
            r#"ready="False",suspended="false",revision="main@sha1:1f",url="https://example.com/x""#,
        ),
        (
            "OCIRepository",
            url,
            artifact(),
            r#"ready="False",suspended="false",revision="main@sha1:1f",url="https://example.com/x""#,
        ),
        (
            "Bucket",
            json!({"endpoint": "minio:9000", "bucketName": "b"}),
            artifact(),
            r#"ready="False",revision="main@sha1:1f",endpoint="minio:9000",bucket_name="b""#,
        ),
        (
            "HelmChart",
            json!({"chart": "redis", "version": ">=1", "sourceRef": {"kind": "HelmRepository", "name": "s"}}),
            artifact(),
            r#"ready="False",revision="main@sha1:1f",chart_name="redis",chart_version=">=1""#,
        ),
        ("Alert", json!({"suspend": true}), json!({}), r#"suspended="true""#),
        ("Provider", json!({}), json!({}), ""),
        (
            "Receiver",
            json!({}),
            with("webhookPath", json!("/hook/1")),
            r#"ready="False",webhook_path="/hook/1""#,
        ),
        (
            "ImageRepository",
            json!({"image": "ghcr.io/a/b"}),
            ready.clone(),
            r#"ready="False",image="ghcr.io/a/b""#,
        ),
        (
            "ImagePolicy",
            json!({"imageRepositoryRef": {"name": "s"}}),
            with("latestRef", json!({"name": "ghcr.io/a/b", "tag": "1"})),
            r#"ready="False",source_name="s""#,
        ),
        (
            "ImageUpdateAutomation",
            json!({"sourceRef": {"kind": "GitRepository", "name": "s"}}),
            ready.clone(),
            r#"ready="False",source_name="s""#,
        ),
    ] {
        assert_eq!(labels(kind, spec, status).await, expected, "{kind}");
    }
}

#[tokio::test]
async fn a_line_is_what_prometheus_reads() {
    let object = json!({
        "metadata": {"name": "a", "namespace": "n"},
        "spec": {"url": "https://u:p\"ss@h/\\x\n", "secretRef": {"name": "s"}},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    });
    let text = text(&inventory(&CATALOGUE, &[("GitRepository", object)])).await;
    let expected = r#"gotk_resource_info{customresource_group="source.toolkit.fluxcd.io",customresource_kind="GitRepository",customresource_version="v1",exported_namespace="n",name="a",ready="True",url="https://u@h/\\x\n"} 1"#;
    assert_eq!(text, format!("{HEAD}{expected}\n"));
}

#[test]
fn passwords_are_left_out_of_urls_and_nothing_else_is() {
    for (url, expected) in [
        ("https://u:p@h/a@b:c", "https://u@h/a@b:c"),
        ("https://u:p@q@h", "https://u@h"),
        ("https://:token@h/x", "https://@h/x"),
        ("ssh://git@h:22/x", "ssh://git@h:22/x"),
        ("https://h:443/x", "https://h:443/x"),
        ("oci://ghcr.io/a/b", "oci://ghcr.io/a/b"),
        ("", ""),
    ] {
        assert_eq!(without_password(url), expected, "{url}");
    }
}

#[tokio::test]
async fn texts_are_kept_only_where_they_are_asked_for_and_other_kinds_have_no_series() {
    let object = json!({"metadata": {"name": "a", "namespace": "n"}, "spec": {"url": "https://h/x"}});
    let objects = [("GitRepository", object.clone()), ("Namespace", json!({"metadata": {"name": "n"}}))];
    let plain = text(&inventory(&Arc::new(Catalogue::builtin()), &objects)).await;
    assert!(plain.ends_with("name=\"a\"} 1\n") && plain.lines().count() == 3, "{plain}");
}

#[test]
fn before_all_objects_are_known_it_is_an_error() {
    let refused = FluxSeries::new(&CATALOGUE).text().err().expect("not synced");
    assert_eq!(refused.code(), 503);
}

#[tokio::test]
async fn a_series_follows_its_object() {
    let object = json!({"metadata": {"name": "a", "namespace": "n"}, "spec": {}});
    let mut inventory = inventory(&CATALOGUE, &[("Kustomization", object)]);
    let series = FluxSeries::new(&CATALOGUE);
    series.update(&inventory, &inventory.everything());
    assert!(scraped(&series).await.ends_with("name=\"a\"} 1\n"));
    let (kind, _) = CATALOGUE.kinds().find(|(_, row)| row.kind == "Kustomization").expect("a kind");
    let suspended = json!({"metadata": {"name": "a", "namespace": "n"}, "spec": {"suspend": true}});
    let record = CATALOGUE.observe(kind, &suspended.to_string(), &Interner::default(), 0).expect("decodes");
    let key = record.key.clone();
    inventory.take_delta();
    inventory.apply(ClusterId(0), Event::Apply(Box::new(record)), 0);
    let delta = inventory.take_delta();
    series.update(&inventory, &delta);
    assert!(scraped(&series).await.ends_with("name=\"a\",suspended=\"true\"} 1\n"));
    inventory.apply(ClusterId(0), Event::Delete(key), 0);
    let delta = inventory.take_delta();
    series.update(&inventory, &delta);
    assert_eq!(scraped(&series).await, HEAD);
}
