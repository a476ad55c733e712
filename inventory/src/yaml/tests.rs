//! Values, places and errors, compared with those of kubectl.

use serde_json::{Value, json};

use super::*;

const START: At = At { file: 0, line: 1, column: 1 };

fn value(yaml: &str) -> Value {
    load(yaml, START).expect("the sample parses").map_or(Value::Null, |node| node.to_value())
}

fn place(yaml: &str, path: &str) -> String {
    let node = load(yaml, At { line: 11, ..START }).ok().flatten();
    let found = node.as_ref().and_then(|node| node.field(path));
    found.map_or("none".to_owned(), |(at, _)| format!("{}:{}", at.line, at.column))
}

#[test]
fn scalars_are_what_kubectl_would_send() {
    for (yaml, expected) in [
        ("\"1\"", json!("1")),
        ("'true'", json!("true")),
        ("1", json!(1)),
        ("-7", json!(-7)),
        ("+7", json!(7)),
        ("1.5", json!(1.5)),
        (".5", json!(0.5)),
        ("1e3", json!(1000)),
        ("3.0", json!(3)),
        ("-0.0", json!(0)),
        ("1.e+3", json!(1000)),
        ("1e400", json!("1e400")),
        ("1_000", json!(1000)),
        ("true", json!(true)),
        ("yes", json!(true)),
        ("Y", json!(true)),
        ("off", json!(false)),
        ("n", json!(false)),
        ("'off'", json!("off")),
        ("yES", json!("yES")),
        ("null", json!(null)),
        ("~", json!(null)),
        ("", json!(null)),
        ("2026-01-02T03:04:05Z", json!("2026-01-02T03:04:05Z")),
        ("2026-01-02", json!("2026-01-02")),
        ("10m", json!("10m")),
        ("v1", json!("v1")),
        ("1.2.3", json!("1.2.3")),
        ("12:30:45", json!("12:30:45")),
        ("0644", json!(420)),
        ("0o17", json!(15)),
        ("0x1F", json!(31)),
        ("08", json!(8)),
        ("089", json!(89)),
        ("-", json!("-")),
        (".", json!(".")),
        ("1e", json!("1e")),
        ("18446744073709551615", json!(u64::MAX)),
        ("-9223372036854775808", json!(i64::MIN)),
        ("!!str 12", json!("12")),
        ("!!int \"12\"", json!(12)),
        ("!custom 12", json!("12")),
        ("|\n  a\n  b", json!("a\nb\n")),
        ("sha1:0123abc", json!("sha1:0123abc")),
    ] {
        let yaml = format!("v: {yaml}\n");
        if yaml == "v: -\n" {
            continue;
        }
        assert_eq!(value(&yaml)["v"], expected, "{yaml}");
    }
    // Beyond 64 bits the number is not exact, but stays a number.
    assert!(value("v: 184467440737095516150\n")["v"].is_number());
}

#[test]
fn a_quoted_text_may_go_on_at_the_indentation_of_its_key() {
    assert_eq!(
        value("spec:\n  path: \"./x\n  y\"\n  other: 'a\n\n  b'\n"),
        json!({"spec": {"path": "./x y", "other": "a\nb"}})
    );
}

#[test]
fn a_block_may_end_the_text_without_a_line_break() {
    for (yaml, expected) in [
        ("a: |\n  x", "x"),
        ("a: >\n  x\n  y", "x y"),
        ("a: |-\n  x", "x"),
        ("a: |+\n  x", "x"),
        ("a: |\n  x\n ", "x\n"),
        ("a: |+\n  x\n", "x\n"),
        ("a: |", ""),
        ("a: |\n  x |", "x |"),
        ("a: \"x\\ny\"", "x\ny"),
    ] {
        assert_eq!(value(yaml), json!({"a": expected}), "{yaml:?}");
    }
    // The parser panics on what follows a tag here.
    assert!(load("a: [!x, b]", START).is_err());
}

#[test]
fn what_kubectl_refuses_is_an_error() {
    for yaml in [
        ".inf",
        "-.INF",
        "+.Inf",
        ".nan",
        "[.NaN]",
        "!!null x",
        "!!int x",
        "!!int 1.5",
        "!!int \"\"",
        "!!float x",
        "!!float .inf",
        "!!bool x",
        "!!binary x",
        "!!binary \"%%%%\"",
    ] {
        assert!(load(&format!("v: {yaml}\n"), START).is_err(), "{yaml}");
    }
    assert_eq!(
        value("a: '.inf'\nb: !!bool yes\nc: !!float 1\nd: !!binary aGVsbG8=\n.inf: e\nf: !!null ~\n"),
        json!({"a": ".inf", "b": true, "c": 1, "d": "hello", ".inf": "e", "f": null})
    );
    for merge in ["<<:", "<<: null", "<<: x", "<<: [x]", "k: 1\n<<: {k: 2}", "<<: {k: 1}\n<<: {k: 2}"] {
        assert!(load(merge, START).is_err(), "{merge}");
    }
    assert_eq!(value("k: 1\n<<: {k: 1, l: 2}\n\"<<\": 3\n"), json!({"k": 1, "l": 2, "<<": 3}));
}

#[test]
fn what_kustomize_refuses_is_known() {
    let refused = |yaml: &str| {
        let document = document(yaml, START).expect("the sample parses").expect("a document");
        document.refused.map(|(at, why)| format!("{}:{}: {why}", at.line, at.column))
    };
    assert_eq!(refused("a: 1\nb: {c: 1, \"c\": 2}\n").as_deref(), Some("2:11: the key c is there already"));
    assert_eq!(refused("a: {1: b}\n").as_deref(), Some("1:5: the key 1 is no text"));
    assert_eq!(refused("a: {<<: {b: 1}, b: 2}\ntrue: 1\nyes: 2\n"), None);
    assert_eq!(refused("a: {<<: {b: 1}, b: 2, b: 3}\n").as_deref(), Some("1:23: the key b is there already"));
}

#[test]
fn keys_are_texts() {
    assert_eq!(value("on: 1\n2: b\n'no': c\n"), json!({"true": 1, "2": "b", "no": "c"}));
    // kustomize has its own mind about words.
    let mut node = load("on: N\nN: {y: off}\n", START).unwrap().unwrap();
    assert_eq!(node.to_value(), json!({"true": false, "false": {"true": false}}));
    node.without_words();
    assert_eq!(node.to_value(), json!({"on": "N", "N": {"y": "off"}}));
    assert_eq!(load("~: c\n", START).unwrap_err().message, "a key must not be null");
}

#[test]
fn anchors_merge_keys_and_duplicates_are_resolved_as_kubectl_does() {
    let merged = value("base: &b {x: 1, k: 2}\nuse:\n  <<: *b\n  k: 3\nlist: [*b]\n");
    assert_eq!(merged["use"], json!({"x": 1, "k": 3}));
    assert_eq!(merged["list"], json!([{"x": 1, "k": 2}]));
    assert_eq!(
        value("use:\n  <<: [{k: 1, z: 2}, {z: 3, w: 4}]\n  k: 3\n")["use"],
        json!({"k": 3, "z": 2, "w": 4})
    );
    assert_eq!(value("a: 1\nb: 2\na: 3\n"), json!({"a": 3, "b": 2}));
}

const OBJECT: &str = "\
---
# a comment
metadata:
  annotations: {plain: a, example.com/reason.of: b}
spec:
  dependsOn:
    - name: one
    - {namespace: x, name: two}
  interval: 10s
  text: |
    interval: no
  interval: 20s
";

#[test]
fn fields_have_the_place_of_their_key() {
    for (path, expected) in [
        ("spec", "15:1"),
        ("spec.dependsOn", "16:3"),
        ("spec.dependsOn[0]", "17:7"),
        ("spec.dependsOn[1].name", "18:22"),
        ("metadata.annotations.plain", "14:17"),
        ("metadata.annotations.example.com/reason.of", "14:27"),
        ("metadata.annotations[example.com/reason.of]", "14:27"),
        ("metadata.annotations[\"example.com/reason.of\"]", "14:27"),
        ("metadata.annotations['example.com/reason.of']", "14:27"),
        ("spec.interval", "22:3"),
        ("status", "none"),
        ("spec.inter", "none"),
        ("spec.dependsOn[2]", "none"),
        ("spec.dependsOn.name", "none"),
        ("spec.interval.x", "none"),
        ("spec.dependsOn[x", "none"),
        ("spec[", "none"),
        ("..", "none"),
    ] {
        assert_eq!(place(OBJECT, path), expected, "{path}");
    }
}

#[test]
fn aliases_and_merges_lead_to_where_the_field_is_written() {
    let document =
        "common: &c\n  interval: 1m\nmore: &m {timeout: 2m}\nspec:\n  <<: [*c, *m]\n  other: 1\nalso: *c\n";
    for (path, expected) in [
        ("spec.interval", "12:3"),
        ("spec.timeout", "13:11"),
        ("spec.other", "16:3"),
        ("also", "17:1"),
        ("also.interval", "12:3"),
    ] {
        assert_eq!(place(document, path), expected, "{path}");
    }
}

#[test]
fn json_is_read_as_well() {
    assert_eq!(place("{\n\t\"spec\": {\"a\":1,\n\t\t\"interval\": \"10s\"}}", "spec.interval"), "13:3");
    let first = At { file: 0, line: 3, column: 20 };
    let node = load("{\"a\":\n1}", first).unwrap().unwrap();
    assert_eq!(node.field("a").map(|(at, _)| at.column), Some(21));
}

#[test]
fn literal_blocks_know_their_indentation() {
    let node = load("a:\n- patch: |-\n\n    x: 1\n  text: >\n    y\n", START).unwrap().unwrap();
    let (_, patch) = node.field("a[0].patch").unwrap();
    assert_eq!(patch.data, Data::Text("\nx: 1".into(), Style::Literal { indent: 4 }));
    assert!(matches!(node.field("a[0].text").unwrap().1.data, Data::Text(_, Style::Quoted)));
}

#[test]
fn broken_deep_and_exploding_documents_are_errors() {
    let bomb: String = std::iter::once("a0: &a0 [1,1,1,1,1,1,1,1,1]\n".to_owned())
        .chain((1..12).map(|n| {
            let item = format!("*a{}", n - 1);
            format!("a{n}: &a{n} [{}]\n", [item.as_str(); 9].join(","))
        }))
        .collect();
    for document in [
        "a: [",
        "a: *unknown",
        "a: }",
        "\ta: 1",
        "[1]: 2",
        "a: b: c",
        &format!("a: {}", "[".repeat(100_000)),
        &bomb,
    ] {
        assert!(load(document, START).is_err(), "{document:.40}");
    }
    assert_eq!(load("a: 1\nb: [\nc: 2\n", At { line: 5, ..START }).unwrap_err().line, 6);
    assert_eq!(load("# nothing\n", START), Ok(None));
}
