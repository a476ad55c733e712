//! Tests which bodies are parsed as a review, and which are errors.

use serde_json::{Value, json};

use super::user::MOST_OF_USER;
use super::*;

fn review() -> Value {
    json!({
        "apiVersion": API_VERSION,
        "kind": KIND,
        "request": {
            "uid": "u-1",
            "kind": {"group": "g", "version": "v1", "kind": "Thing"},
            "resource": {"group": "g", "version": "v1", "resource": "things"},
            "name": "a",
            "namespace": "n",
            "operation": "UPDATE",
            "userInfo": {"username": "jane", "groups": ["x"], "extra": {"k": ["v"]}},
            "object": {"metadata": {"name": "a"}, "spec": {"é": 1}},
            "oldObject": {"metadata": {"name": "a"}},
            "dryRun": true,
            "options": {"kind": "UpdateOptions"},
        },
    })
}

fn with(pointer: &str, value: Value) -> Value {
    let mut review = review();
    *review.pointer_mut(pointer).expect("there") = value;
    review
}

/// `not_a_review MESSAGE` or `UID MESSAGE`.
fn refusal(review: &Value) -> String {
    refusal_of(review.to_string().as_bytes())
}

fn refusal_of(body: &[u8]) -> String {
    match Request::parse(body).expect_err("refused") {
        Unreadable::NotAReview(error) => format!("not_a_review {error}"),
        Unreadable::Refused { uid, why } => format!("{uid} {why}"),
    }
}

#[test]
fn objects_stay_text_and_everything_else_is_read() {
    let body = review().to_string();
    let request = Request::parse(body.as_bytes()).expect("a review");
    assert_eq!((&*request.uid, &*request.kind.kind, &*request.resource.resource), ("u-1", "Thing", "things"));
    assert!(matches!(request.uid, Cow::Borrowed(_)) && request.dry_run && request.is_whole());
    assert_eq!(request.object.expect("sent").get(), r#"{"metadata":{"name":"a"},"spec":{"é":1}}"#);
    let user = request.user_info;
    assert_eq!(
        (&*user.name, user.groups, &*user.extra["k"]),
        ("jane", vec!["x".to_owned()], &["v".to_owned()][..])
    );
}

#[test]
fn null_is_nothing_as_go_writes_it() {
    let mut review = with("/request/oldObject", Value::Null);
    for field in ["subResource", "name", "namespace", "dryRun"] {
        review["request"][field] = Value::Null;
    }
    review["request"]["operation"] = json!("CREATE");
    review["request"]["userInfo"] = json!({"username": "a", "groups": null, "extra": null});
    let body = review.to_string();
    let request = Request::parse(body.as_bytes()).expect("a review");
    assert!(request.name.is_empty() && !request.dry_run && request.old_object.is_none());
}

#[test]
fn what_is_no_review_is_told_so() {
    for (body, problem) in [
        (&b""[..], "the body is empty"),
        (b"AdmissionReview", "the body is not an AdmissionReview: expected value"),
        (b"[]", "found kind \"\" of apiVersion \"\""),
        (b"{}", "found kind \"\" of apiVersion \"\""),
        (b"\xff", "the body is not an AdmissionReview: "),
        (b"{\"kind\": 1}", "the body is not an AdmissionReview: invalid type: integer `1`"),
    ] {
        let refusal = refusal_of(body);
        assert!(refusal.starts_with("not_a_review ") && refusal.contains(problem), "{refusal}");
    }
    for (pointer, value, problem) in [
        ("/apiVersion", json!("admission.k8s.io/v1beta1"), "apiVersion \"admission.k8s.io/v1beta1\""),
        ("/kind", json!("Review"), "found kind \"Review\""),
        ("/request", Value::Null, "has no request"),
        ("/request", json!(7), "request.uid: Invalid value: invalid type: integer `7`"),
        ("/request", json!({}), "request.uid: Invalid value: missing field `uid`"),
        ("/request/uid", json!(""), "request.uid: Required value"),
    ] {
        let refusal = refusal(&with(pointer, value));
        assert!(refusal.starts_with("not_a_review ") && refusal.contains(problem), "{refusal}");
    }
}

#[test]
fn what_is_wrong_with_a_review_is_named() {
    for (pointer, value, problem) in [
        ("/request/operation", json!("PATCH"), "request.operation: Invalid value: unknown variant `PATCH`"),
        (
            "/request/operation",
            json!("CONNECT"),
            "request.operation: Invalid value: CONNECT is not supported",
        ),
        ("/request/object", Value::Null, "request.object: Required value: UPDATE needs it"),
        ("/request/object", json!([1]), "request.object: Invalid value: must be an object"),
        ("/request/oldObject", Value::Null, "request.oldObject: Required value: UPDATE needs it"),
        ("/request/oldObject", json!("x"), "request.oldObject: Invalid value: must be an object"),
        ("/request/namespace", json!(1), "request.namespace: Invalid value: invalid type: integer `1`"),
        ("/request/dryRun", json!("yes"), "request.dryRun: Invalid value: invalid type: string \"yes\""),
        ("/request/userInfo", json!([]), "request.userInfo: Invalid value: "),
        ("/request/userInfo/groups", json!([1]), "request.userInfo.groups[0]: Invalid value: "),
        ("/request/kind", json!({}), "request.kind: Invalid value: missing field `version`"),
    ] {
        let refusal = refusal(&with(pointer, value));
        assert!(refusal.starts_with(&format!("u-1 {problem}")), "{refusal}");
    }
    let long = "n".repeat(LONGEST_NAME + 1);
    for field in ["name", "namespace", "kind/kind", "resource/resource"] {
        let refusal = refusal(&with(&format!("/request/{field}"), json!(long)));
        assert!(
            refusal.starts_with(&format!("u-1 request.{}: Too long", field.replace('/', "."))),
            "{refusal}"
        );
    }
    assert!(refusal(&with("/request/uid", json!(long))).starts_with("not_a_review request.uid: Too long"));
    let mut deleted = with("/request/operation", json!("DELETE"));
    deleted["request"]["oldObject"] = Value::Null;
    assert_eq!(refusal(&deleted), "u-1 request.oldObject: Required value: DELETE needs it");
}

#[test]
fn what_is_known_of_a_user_is_bounded() {
    let many = json!(vec![""; MOST_OF_USER + 1]);
    let names: Vec<_> = (0..=MOST_OF_USER).map(|name| (name.to_string(), json!([]))).collect();
    let names: Value = names.into_iter().collect::<serde_json::Map<_, _>>().into();
    for (pointer, value, problem) in [
        ("/request/userInfo/groups", many.clone(), "request.userInfo.groups: Invalid value: must have 4096"),
        ("/request/userInfo/extra", names, "request.userInfo.extra: Invalid value: must have 4096 entries"),
        (
            "/request/userInfo/extra",
            json!({"a": many}),
            "request.userInfo.extra.a: Invalid value: must have 4096",
        ),
        ("/request/userInfo/groups", json!(["x".repeat(LONGEST_USER)]), "request.userInfo: Too long"),
    ] {
        let refusal = refusal(&with(pointer, value));
        assert!(refusal.starts_with(&format!("u-1 {problem}")), "{refusal}");
    }
    let body = with("/request/userInfo/groups", json!(vec!["g"; MOST_OF_USER])).to_string();
    let request = Request::parse(body.as_bytes()).expect("a review");
    assert!(cost_of_user(&request.user_info) > MOST_OF_USER * 4);
}
