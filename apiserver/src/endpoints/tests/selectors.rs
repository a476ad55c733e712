//! Tests of label and field selectors in lists.

use super::*;

/// Four rows: two namespaces, two names, three states.
fn server() -> Server {
    let server = Server::with(&["a/local", "b/local"]);
    server.put("a/edge", "Failed");
    server.put("b/edge", "Stalled");
    server
}

async fn labelled(selector: &str) -> Vec<String> {
    places(&server().get(&all(&[("labelSelector", selector)])).await)
}

async fn fielded(selector: &str) -> Vec<String> {
    places(&server().get(&all(&[("fieldSelector", selector)])).await)
}

#[tokio::test(start_paused = true)]
async fn labels_are_selected_by_equality_and_by_sets() {
    for (selector, expected) in [
        ("state=Ready", &["a/local", "b/local"][..]),
        ("state!=Ready", &["a/edge", "b/edge"]),
        ("state in (Ready, Failed)", &["a/edge", "a/local", "b/local"]),
        ("state notin (Ready, Failed)", &["b/edge"]),
        ("gatehouse.dev/cluster", &["a/edge", "a/local", "b/edge", "b/local"]),
        ("!gatehouse.dev/cluster", &[]),
        ("!gatehouse.dev/tenant,state=Stalled", &["b/edge"]),
        ("gatehouse.dev/tenant=a", &[]),
    ] {
        assert_eq!(labelled(selector).await, expected, "{selector}");
    }
}

#[tokio::test(start_paused = true)]
async fn fields_are_those_of_every_object_and_those_declared() {
    for (selector, expected) in [
        ("metadata.name=edge", &["a/edge", "b/edge"][..]),
        ("metadata.namespace=b", &["b/edge", "b/local"]),
        ("metadata.namespace=b,metadata.name=local", &["b/local"]),
        ("metadata.name!=edge", &["a/local", "b/local"]),
        ("status.state=Stalled", &["b/edge"]),
        ("status.state!=Ready,status.cluster=edge", &["a/edge", "b/edge"]),
        ("metadata.name=nobody", &[]),
    ] {
        assert_eq!(fielded(selector).await, expected, "{selector}");
    }
}

#[tokio::test(start_paused = true)]
async fn both_selectors_and_the_namespace_must_hold() {
    let parameters = [("labelSelector", "state"), ("fieldSelector", "metadata.name=edge")];
    let list = server().get(&with(&within("a"), &parameters)).await;
    assert_eq!(places(&list), ["a/edge"]);
    let elsewhere = server().get(&with(&within("a"), &[("fieldSelector", "metadata.namespace=b")])).await;
    assert_eq!(places(&elsewhere), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_field_that_is_not_declared_returns_400_and_is_named() {
    let (code, reason, message) = server().refuses(&all(&[("fieldSelector", "spec.color=red")])).await;
    assert_eq!((code, reason.as_str()), (400, "BadRequest"));
    assert!(message.ends_with("field label not supported: spec.color"), "{message}");
    let watch = all(&[("fieldSelector", "spec.color=red"), ("watch", "true")]);
    assert_eq!(server().refuses(&watch).await.0, 400);
}

#[tokio::test(start_paused = true)]
async fn a_selector_that_cannot_be_read_returns_400() {
    for selector in [("labelSelector", "state in Ready"), ("fieldSelector", "metadata.name")] {
        assert_eq!(server().refuses(&all(&[selector])).await.0, 400, "{selector:?}");
    }
}
