//! Compares objects that were read by a shape with whole objects.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

const ENOUGH: usize = 1 << 30;

fn lean(object: &Value, paths: &[&'static str]) -> Read {
    read(&object.to_string(), &Shape::new(paths), ENOUGH).unwrap()
}

fn fault(json: &str, paths: &[&'static str], budget: usize) -> String {
    read(json, &Shape::new(paths), budget).unwrap_err().to_string()
}

#[test]
fn what_is_covered_is_read_and_what_leads_there_is_kept() {
    let object = json!({
        "kind": "Thing",
        "metadata": {"name": "a", "annotations": {"gatehouse.dev/x": "1", "kubectl.kubernetes.io/y": "2"}, "managedFields": [1]},
        "spec": {
            "interval": "1m", "values": {"deep": [1]}, "text": {"is": "a map"}, "none": null,
            "list": [{"name": "x", "more": 1}, 7, {"more": 2}], "resources": {"requests": {"cpu": 1, "memory": {"odd": 1}}},
        },
        "status": {"big": true},
    });
    let paths = [
        METADATA,
        &["spec.interval", "spec.text", "spec.none", "spec.list[].name", "spec.resources.requests.*"],
    ]
    .concat();
    let seen = json!({
        "kind": "Thing",
        "metadata": {"name": "a", "annotations": {"gatehouse.dev/x": "1"}},
        "spec": {
            "interval": "1m", "text": {}, "none": null, "list": [{"name": "x"}, 7, {}],
            "resources": {"requests": {"cpu": 1, "memory": {}}},
        },
    });
    assert_eq!(lean(&object, &paths).value, seen);
    let whole = lean(&object, WHOLE);
    assert_eq!((&whole.value["spec"], whole.rest), (&object["spec"], None));
    assert_eq!(
        whole.value["metadata"],
        json!({"name": "a", "annotations": object["metadata"]["annotations"]})
    );
    assert_eq!(whole.value.get("status"), None);
}

#[test]
fn a_field_can_be_taken_out_of_all_others() {
    let object = json!({"spec": {"a": 1, "b": 2, "c": {"d": 3, "e": 4}}});
    assert_eq!(lean(&object, &["-spec.b", "spec.*"]).value, json!({"spec": {"a": 1, "c": {}}}));
    assert_eq!(lean(&object, &["spec.c.d", "spec.c"]).value, json!({"spec": {"c": {"d": 3}}}));
    assert_eq!(lean(&object, &["spec.c.**", "spec.c.d"]).value, json!({"spec": {"c": {"d": 3, "e": 4}}}));
}

#[test]
fn annotations_are_kept_by_their_domain() {
    for (name, kept) in [
        ("gatehouse.dev/frozen-by", true),
        ("policy.gatehouse.dev/x", true),
        ("reconcile.fluxcd.io/requestedAt", true),
        ("kustomize.toolkit.fluxcd.io/reconcile", true),
        ("fluxcd.controlplane.io/reconcile", true),
        ("agones.dev/ready-container-id", true),
        ("kubectl.kubernetes.io/last-applied-configuration", false),
        ("notgatehouse.dev/x", false),
        ("gatehouse.dev", false),
    ] {
        assert_eq!(is_kept_annotation(name), kept, "{name}");
    }
}

#[test]
fn what_nobody_looks_at_may_be_as_deep_as_it_likes() {
    let deep = |depth: usize| format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
    let object = |depth| {
        format!(r#"{{"metadata":{{"managedFields":{0}}},"spec":{{"values":{0},"x":[{0}]}}}}"#, deep(depth))
    };
    let found =
        read(&object(100_000), &Shape::new(&["metadata.name", "spec.interval", "spec.x"]), ENOUGH).unwrap();
    assert_eq!(found.value, json!({"metadata": {}, "spec": {"x": []}}));
    assert!(read(&object(122), &Shape::new(&["spec.**"]), ENOUGH).is_ok());
    let refused = fault(&object(123), &["spec.**"], ENOUGH);
    assert!(
        refused.starts_with("spec.x[0].a.a.") && refused.ends_with(".a: is nested deeper than 125 levels"),
        "{refused}"
    );
}

#[test]
fn what_is_wrong_is_named() {
    for (json, problem) in [
        (r#"{"spec":{"a":1,"a":1}}"#, "spec.a: is given twice"),
        (r#"{"spec":{"a":1},"spec":{}}"#, "spec: is given twice"),
        (r#"{"spec":{"a":[1,1e999]}}"#, "spec.a[1]: number out of range"),
        (r#"{"spec":{"a":{"b":"\ud800"}}}"#, "spec.a.b: "),
        ("{", "object: "),
    ] {
        let refused = fault(json, &["spec.a.**"], ENOUGH);
        assert!(refused.starts_with(problem), "{refused}");
    }
    // In skipped parts, only their ends are parsed.
    assert!(read(r#"{"spec":{"b":1,"b":2},"x":1e999}"#, &Shape::new(&["spec.a.**"]), ENOUGH).is_ok());
}

#[test]
fn no_more_is_built_than_the_budget_allows() {
    for many in ["[]", "{}", "\"\"", "0", r#"[[],{"a":[]}]"#] {
        let json = format!(r#"{{"spec":{{"a":[{}]}}}}"#, vec![many; 100_000].join(","));
        assert_eq!(fault(&json, &["spec.**"], 1 << 20).split('[').next(), Some("spec.a"), "{many}");
        let all = read(&json, &Shape::new(&["spec.**"]), ENOUGH).unwrap();
        assert!(all.cost > 100_000 * size_of::<Value>(), "{}", all.cost);
        let passed = read(&json, &Shape::new(&["spec.a"]), 1 << 12).unwrap();
        assert!(passed.cost < 1 << 10 && passed.rest.is_some(), "{passed:?}");
    }
    let names: Map<_, _> = (0..100_000).map(|name| (name.to_string(), json!(0))).collect();
    let json = json!({"metadata": {"labels": names}}).to_string();
    assert!(fault(&json, METADATA, 1 << 20).starts_with("metadata.labels."));
    let long = json!({"spec": {"url": "x".repeat(1 << 20)}}).to_string();
    assert_eq!(fault(&long, &["spec.url"], 1 << 20), "spec.url: holds too many values to be judged");
}

#[test]
fn a_difference_that_nobody_looks_at_is_seen_all_the_same() {
    let paths = ["spec.interval", "spec.list[].name", "spec.text"];
    let rest = |json: &str| read(json, &Shape::new(&paths), ENOUGH).unwrap().rest;
    assert_eq!(rest(r#"{"metadata":{"x":1},"spec":{"interval":"1m","list":[{"name":"a"}]}}"#), None);
    let all = [
        r#"{"spec":{"a":1}}"#,
        r#"{"spec":{"a":2}}"#,
        r#"{"spec":{"b":1}}"#,
        r#"{"spec":{"a":1,"b":1}}"#,
        r#"{"spec":{"list":[{"a":1},{}]}}"#,
        r#"{"spec":{"list":[{},{"a":1}]}}"#,
        r#"{"spec":{"text":{"a":1}}}"#,
        r#"{"spec":{"text":[1]}}"#,
        r#"{"spec":{"text":[1,1]}}"#,
    ];
    for (index, one) in all.iter().enumerate() {
        assert_eq!(rest(one), rest(one));
        for other in &all[index + 1..] {
            assert_ne!(rest(one), rest(other), "{one} {other}");
        }
    }
}

fn names() -> impl Strategy<Value = String> {
    proptest::sample::select(vec!["spec", "metadata", "a", "b", "c", "gatehouse.dev/x", "é\"\\"])
        .prop_map(String::from)
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i32>().prop_map(|number| Value::from(f64::from(number) / 4.0)),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(names(), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn objects() -> impl Strategy<Value = Value> {
    (values(), values(), values())
        .prop_map(|(metadata, spec, a)| json!({"a": a, "metadata": metadata, "spec": spec}))
}

fn shapes() -> impl Strategy<Value = Shape> {
    let paths = vec![
        "spec.a",
        "spec.b",
        "spec.a.b",
        "spec.a.*",
        "spec.*",
        "-spec.b",
        "spec.a[]",
        "spec.a[].b",
        "spec.*.a",
        "spec.a[].*.c",
        "spec.c.**",
        "metadata.a",
        "metadata.*.**",
        "metadata.@",
        "-metadata.b",
        "spec.a[][].a",
    ];
    prop::collection::vec(proptest::sample::select(paths), 0..6).prop_map(|paths| Shape::new(&paths))
}

/// Checks that `lean` has exactly the parts of `whole` that `shape` covers.
fn agrees(whole: &Value, lean: Option<&Value>, place: &mut Vec<String>, shape: &Shape) {
    let covers = |place: &[String]| shape.covers(place.iter().map(String::as_str));
    if !covers(place) {
        assert_eq!(lean, None, "{place:?}");
        return;
    }
    let lean = lean.unwrap_or_else(|| panic!("{place:?} is missing"));
    match (whole, lean) {
        (Value::Object(whole), Value::Object(lean)) => {
            assert!(lean.keys().all(|name| whole.contains_key(name)));
            for (name, value) in whole {
                place.push(name.clone());
                agrees(value, lean.get(name), place, shape);
                place.pop();
            }
        }
        (Value::Array(whole), Value::Array(lean)) => {
            for (index, value) in whole.iter().enumerate() {
                place.push("[]".to_owned());
                agrees(value, lean.get(index), place, shape);
                place.pop();
            }
        }
        (whole, lean) => assert_eq!(whole, lean, "{place:?}"),
    }
}

/// Replaces the part of a value with the index `at`.
fn change(value: &mut Value, at: &mut usize, new: &Value) {
    if *at == 0 {
        value.clone_from(new);
    }
    *at = at.wrapping_sub(1);
    match value {
        _ if *at == usize::MAX => {}
        Value::Array(list) => list.iter_mut().for_each(|value| change(value, at, new)),
        Value::Object(map) => map.values_mut().for_each(|value| change(value, at, new)),
        _ => {}
    }
}

proptest! {
    #[test]
    fn a_lean_reading_agrees_with_a_whole_one(object in objects(), shape in shapes()) {
        let read = read(&object.to_string(), &shape, ENOUGH).unwrap();
        if shape.covers([]) {
            agrees(&object, Some(&read.value), &mut Vec::new(), &shape);
        }
        // The memory of the result is never more than its reported cost.
        prop_assert!(read.cost >= built(&read.value), "{} {}", read.cost, built(&read.value));
    }

    #[test]
    fn specs_differ_by_what_is_read_or_by_the_rest(
        one in objects(), shape in shapes(), at in 0_usize..40, new in values(),
    ) {
        let mut other = one.clone();
        change(&mut other, &mut at.clone(), &new);
        let parts = |object: &Value| {
            let read = read(&object.to_string(), &shape, ENOUGH).unwrap();
            (read.value.get("spec").cloned(), read.rest)
        };
        prop_assume!(other.is_object() && other.get("spec").is_some());
        prop_assert_eq!(parts(&one) == parts(&other), one["spec"] == other["spec"]);
    }
}

/// A lower bound of the memory that a value takes, beside itself.
fn built(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(list) => list.iter().map(|value| size_of::<Value>() + built(value)).sum(),
        Value::Object(map) => {
            map.iter().map(|(name, value)| name.len() + size_of::<(String, Value)>() + built(value)).sum()
        }
        _ => 0,
    }
}
