//! Tests CEL conditions: what they see, durations, and limits.

use super::*;

fn holds(expression: &str, object: &str) -> Vec<String> {
    let policy =
        policy(&json!({"rules": {"cel": [{"expression": expression, "message": "no"}]}}).to_string());
    Request::create(subject(Kind::Kustomization, object)).judged(&policy)
}

fn refused(expression: &str) -> String {
    let spec = json!({"rules": {"cel": [{"expression": "true"}, {"expression": expression}]}});
    let errors = try_policy(&spec.to_string()).expect_err(expression);
    assert_eq!(errors.len(), 1);
    assert!(errors[0].starts_with("spec.rules.cel[1].expression: Invalid value: "), "{errors:?}");
    errors[0].clone()
}

const NONE: [&str; 0] = [];
/// The example in the design.
const DESIGN: &str = "object.spec.timeout <= '5m'";

#[test]
fn the_designs_example_compares_durations() {
    for (timeout, fine) in [
        ("5m", true),
        ("300s", true),
        ("10m", false),
        ("1h", false),
        ("59s", true),
        ("4m60s", true),
        ("5m1ms", false),
    ] {
        let judged = holds(DESIGN, &format!("spec: {{timeout: {timeout}}}"));
        assert_eq!(judged.is_empty(), fine, "{timeout}: {judged:?}");
    }
    assert_eq!(holds(DESIGN, "spec: {timeout: 10m}"), ["cel[0] : no"]);
    assert!(holds(DESIGN, "spec: {}")[0].contains("cannot be evaluated: No such key: timeout"));
    assert!(holds(DESIGN, "spec: {timeout: soon}")[0].contains("\"soon\" must be a duration"));
    assert!(holds(DESIGN, "spec: {timeout: 5}")[0].contains("expected a duration, got a number"));
    assert_eq!(holds("!has(object.spec.timeout) || object.spec.timeout <= '5m'", "spec: {}"), NONE);
    assert_eq!(holds("'5m' >= object.spec.timeout", "spec: {timeout: 10s}"), NONE);
    assert_eq!(holds("duration(object.spec.timeout) <= duration('5m')", "spec: {timeout: 10s}"), NONE);
    assert_eq!(holds("duration(object.spec.timeout) <= '5m'", "spec: {timeout: 10s}"), NONE);
    assert_eq!(
        holds(
            "duration(object.spec.interval) - duration(object.spec.timeout) > '1m'",
            "spec: {timeout: 10s, interval: 2m}"
        ),
        NONE
    );
    assert_eq!(holds("[object.spec].all(s, s.timeout < '5m')", "spec: {timeout: 10m}"), ["cel[0] : no"]);
    // Equality compares strings, as does the order of strings that are not durations.
    assert_eq!(
        holds("object.spec.timeout == '5m' && object.spec.path < 'b'", "spec: {timeout: 5m, path: a}"),
        NONE
    );
}

#[test]
fn a_condition_about_a_field_of_other_kinds_is_not_judged() {
    let of = |expression: &str, kind: Kind, object: &str| {
        let policy =
            policy(&json!({"rules": {"cel": [{"expression": expression, "message": "no"}]}}).to_string());
        Request::create(subject(kind, object)).judged(&policy)
    };
    for kind in [Kind::Alert, Kind::Fleet, Kind::HelmChart, Kind::ResourceSet] {
        assert_eq!(of(DESIGN, kind, "spec: {}"), NONE, "{kind:?}");
    }
    // A newer version of the kind may have the field; the rest of the condition is still judged; a field that no kind
    // has counts as absent.
    assert_eq!(of(DESIGN, Kind::Alert, "spec: {timeout: 10m}"), ["cel[0] : no"]);
    assert_eq!(
        of(&format!("has(object.metadata.labels) && {DESIGN}"), Kind::Alert, "spec: {}"),
        ["cel[0] : no"]
    );
    assert_eq!(of("object.spec.brandNew <= '5m'", Kind::Alert, "spec: {}").len(), 1);
    assert_eq!(of("object.metadata.timeout <= '5m'", Kind::Alert, "spec: {}").len(), 1);
    assert_eq!(of(DESIGN, Kind::Kustomization, "spec: {}").len(), 1);
}

#[test]
fn conditions_see_object_old_object_and_request() {
    let policy = policy(&json!({"rules": {"cel": [
        {"expression": "request.operation == 'CREATE' && request.userInfo.username == 'jane' && 'devs' in request.userInfo.groups"},
        {"expression": "request.namespace == 'team-a' && request.name == 'x' && object.metadata.name == 'x'"},
        {"expression": "oldObject == null"},
        {"expression": "!has(object.status) && !has(object.metadata.managedFields)"},
        {"expression": "object.spec.size + 1 == 6 && object.spec.size < 6"},
    ]}}).to_string());
    let object =
        subject(Kind::Kustomization, "{metadata: {managedFields: [{}]}, spec: {size: 5}, status: {a: b}}");
    assert_eq!(Request::create(object.clone()).judged(&policy), NONE);
    // The user of an existing object is unknown.
    assert_eq!(policy.audit(&object, &NoDependencies), []);
    let updated = Request::update(object, subject(Kind::Kustomization, "spec: {size: 6}")).judged(&policy);
    assert_eq!(updated.iter().map(|line| &line[..6]).collect::<Vec<_>>(), ["cel[0]", "cel[2]", "cel[4]"]);
}

#[test]
fn a_change_of_metadata_alone_must_not_break_what_held() {
    let policy = policy(
        "rules: {cel: [{expression: 'has(object.metadata.labels) && has(object.metadata.labels.team)', message: must hold}]}",
    );
    let with =
        |metadata: &str| subject(Kind::Kustomization, &format!("{{metadata: {{{metadata}}}, spec: {{}}}}"));
    let labelled = || with("labels: {team: a}");
    assert_eq!(Request::update(labelled(), with("labels: {}")).judged(&policy), ["cel[0] : must hold"]);
    assert_eq!(
        Request::update(with(""), with("labels: {a: b}")).judged(&policy),
        NONE,
        "it did not hold before"
    );
    assert_eq!(Request::update(with(""), labelled()).judged(&policy), NONE);
    assert_eq!(Request::update(with(""), with("finalizers: [a]")).judged(&policy), NONE);
}

#[test]
fn a_condition_that_cannot_be_evaluated_is_broken() {
    for expression in [
        "object.spec.nope == 1",
        "object.spec",
        "1 / 0 == 1",
        "object.spec.a.startsWith('x')",
        "dyn(object.spec.a) > 5",
    ] {
        let Ok(_) = try_policy(&json!({"rules": {"cel": [{"expression": expression}]}}).to_string()) else {
            continue;
        };
        let judged = holds(expression, "spec: {a: [1]}");
        assert!(judged[0].contains("no: cannot be evaluated: "), "{expression}: {judged:?}");
    }
}

#[test]
fn the_message_is_the_expression_if_there_is_none() {
    check(
        "{cel: [{expression: 'object.spec.prune'}]}",
        Kind::Kustomization,
        "{prune: false}",
        &["cel[0] : does not hold: object.spec.prune"],
    );
}

/// An existing condition stays enforced: it cannot hold unless its value is true.
#[test]
fn a_condition_that_gives_no_boolean_is_refused_when_it_is_written() {
    for (expression, gives) in
        [("1 + 1", "int"), ("object.spec.prune", "dyn"), ("object.spec.prune == true", "")]
    {
        let policy =
            json!({"metadata": {"name": "p"}, "spec": {"rules": {"cel": [{"expression": expression}]}}});
        let policy: ReconcilePolicy = serde_json::from_value(policy).unwrap();
        let errors = Policy::compile_new(&policy).err().unwrap_or_default();
        let messages: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(messages.is_empty(), gives.is_empty(), "{expression}: {messages:?}");
        assert!(
            messages.iter().all(|text| text.contains(&format!("gives {gives}:"))),
            "{expression}: {messages:?}"
        );
        assert!(Policy::compile(&policy).is_ok());
    }
}

#[test]
fn what_does_not_compile_is_refused_with_its_place() {
    for (expression, why) in [
        ("object.spec ==", "line 1 column 15"),
        (
            "true &&\n  nope",
            "line 2 column 3: unknown variable \"nope\" (known are object, oldObject, request, namespaceObject)",
        ),
        ("object.spec.nope()", "line 1 column 13: unknown function \"nope\""),
        (
            "namespaceObject.spec.finalizers == []",
            "line 1 column 17: namespaceObject has no field \"spec\" here",
        ),
        ("namespaceObject.metadata.uid == 'a'", "namespaceObject.metadata has no field \"uid\" here"),
        ("namespaceObject.metadata.labels.team == 1", "\"==\" does not take (string, int)"),
        ("params.data.team == 'a'", "params needs the ConfigMap that spec.paramRef of a policy names"),
        ("variables.team == 'a'", "unknown variable \"team\": spec.variables has none before this"),
        ("has(variables.team)", "variables are used as variables.NAME only"),
        ("Thing{a: 1}", "messages cannot be constructed"),
        ("", "must not be empty"),
        ("  ", "must not be empty"),
        ("lists.range(1000000000).size() > 0", "lists.range is not available"),
        ("'%.999999999f'.format([1.0]).size() > 0", "a precision must be 100 or less"),
        ("authorizer.group('').resource('pods').check('get').allowed()", "authorizer is not supported"),
        ("cel.bind(x, 1, x == 1)", "cel.bind is not a macro of Kubernetes: use variables"),
        ("request.dryRun", "line 1 column 9: request has no field \"dryRun\" here"),
        ("request.userInfo.extra.size() == 0", "request.userInfo has no field \"extra\" here"),
        ("'a' == 1", "\"==\" does not take (string, int)"),
        ("[1, 'a'].size() == 2", "a list or map holds values of one type: int and string"),
        (
            "'a'.contains('a', 'b')",
            "line 1 column 5: \"contains\" is not a function of string that takes (string, string)",
        ),
        ("!!object.spec.prune", "line 1 column 2: !! is not supported"),
    ] {
        let error = refused(expression);
        assert!(error.contains(why), "{expression}: {error}");
    }
}

#[test]
fn what_is_enormous_or_loops_is_refused() {
    for (expression, why) in [
        ("a".repeat(5000), "longer than 4096 bytes"),
        (format!("{}true{}", "(".repeat(2000), ")".repeat(2000)), ""),
        (format!("{}true", "!-".repeat(2000)), ""),
        (format!("{}1{} == 1", "[".repeat(1500), "]".repeat(1500)), ""),
        (format!("object{}", ".a".repeat(2000)), ""),
        (format!("{}1 == 1", "1+".repeat(2000)), ""),
        (format!("[{}1].size() > 0", "1,".repeat(2000)), ""),
        (format!("{}true", "true ? ".repeat(500)), ""),
        ("[1].all(a, [1].all(b, [1].all(c, true)))".to_owned(), "deeper than 2 levels"),
        ("[1].map(a, [1].filter(b, [1].exists(c, true))).size() > 0".to_owned(), "deeper than 2 levels"),
    ] {
        let error = refused(&expression);
        assert!(error.contains(why), "{}…: {error}", &expression[..20]);
    }
    // A loop in the range of another runs before it, not within it.
    assert!(
        try_policy("rules: {cel: [{expression: '[1].map(a, a).filter(b, true).all(c, [c].all(d, true))'}]}")
            .is_ok()
    );
}

#[test]
fn what_is_admitted_evaluates_on_a_small_stack() {
    let nested = |open: &str, close: &str, times| format!("{}1{}", open.repeat(times), close.repeat(times));
    for expression in [
        format!("{}.size() == 1", nested("[", "]", 40)),
        format!("{} == 41", nested("(1 + ", ")", 40)),
        format!("{} == 1", nested("(true ? ", " : 0)", 40)),
        format!("[1].all(a, [1].all(b, {} == 31))", nested("(a + ", ")", 30)),
        // The deepest nesting that is evaluated on the caller's stack.
        format!("{} == 15", nested("(1 + ", ")", 14)),
        format!("{} == 1", nested("(true ? ", " : 0)", 14)),
        format!("[1].all(a, [1].all(b, {} == 8))", nested("(a + ", ")", 7)),
    ] {
        let policy = policy(&json!({"rules": {"cel": [{"expression": expression}]}}).to_string());
        let object = subject(Kind::Kustomization, "spec: {}");
        let judge = move || Request::create(object).judged(&policy);
        let judged = std::thread::Builder::new().stack_size(1 << 20).spawn(judge).unwrap().join().unwrap();
        assert_eq!(judged, NONE);
    }
}

#[test]
fn too_much_work_on_an_object_is_given_up() {
    const PAIRS: &str = "object.spec.list.all(a, object.spec.list.all(b, a == b))";
    let list = |length: usize| format!("spec: {{list: [{}]}}", vec!["1"; length].join(","));
    assert_eq!(holds(PAIRS, &list(100)), NONE);
    let judged = holds(PAIRS, &list(500));
    assert!(judged[0].contains("takes too much work on this object"), "{judged:?}");
    assert_eq!(holds(PAIRS, &list(100)), NONE, "each begins anew");
}

/// The select and the index of an optional field that an object omits, at each depth.
#[test]
fn optional_fields() {
    const OBJECT: &str =
        "spec: {interval: 10m, path: ./x, prune: true, sourceRef: {kind: GitRepository, name: g}}";
    for expression in [
        "object.spec.?retryInterval.orValue('2m') <= '5m'",
        "object.?spec.?suspend.orValue(false) == false",
        "object.spec[?'retryInterval'].orValue('2m') == '2m'",
        "object.spec.?sourceRef.?kind.orValue('') == 'GitRepository'",
        "object.spec.?sourceRef.kind.hasValue()",
    ] {
        assert_eq!(holds(expression, OBJECT), NONE, "{expression}");
    }
    for expression in [
        "object.?spec.?decryption.hasValue()",
        "object.spec.?sourceRef.?namespace.hasValue()",
        "object.?spec.?a.?b.?c.hasValue()",
        "object.spec.?sourceRef[?'namespace'].hasValue()",
    ] {
        assert_eq!(holds(expression, OBJECT), ["cel[0] : no"], "{expression}");
    }
}

/// `exists` and `all`, like `||` and `&&`, ignore an error if another element decides.
#[test]
fn errors_in_macros() {
    const OBJECT: &str = "spec: {images: [{name: x, newName: y}, {name: z, newTag: v1}]}";
    for expression in [
        "object.spec.images.exists(i, i.newTag == 'v1')",
        "!object.spec.images.all(i, i.newTag == 'v2')",
        "object.spec.images.exists(i, i.newTag == 'v1') || object.spec.nope",
    ] {
        assert_eq!(holds(expression, OBJECT), NONE, "{expression}");
    }
    for expression in [
        "object.spec.images.exists(i, i.newTag == 'v2')",
        "object.spec.images.all(i, i.newTag == 'v1')",
        "object.spec.images.exists_one(i, i.newTag == 'v1')",
    ] {
        let judged = holds(expression, OBJECT);
        assert!(judged[0].contains("cannot be evaluated: No such key: newTag"), "{expression}: {judged:?}");
    }
}

/// Policies that took gigabytes or minutes at the first object.
fn hostile() -> Vec<String> {
    vec![
        format!("['aaaaaaaaaaaaaaaa']{}.size() > 0", ".map(x, x + x)".repeat(30)),
        format!("[object.spec.path]{}.size() > 0", ".map(x, x + x)".repeat(30)),
        format!("{0} == {0}", "[1]".to_owned() + &".map(x, [x, x])".repeat(30)),
        format!("[object.spec.path]{}.size() > 0", ".map(x, x.replace('', x))".repeat(20)),
        "object.spec.text.split('').join(object.spec.text).size() > 0".to_owned(),
        "object.spec.text.split('').all(a, object.spec.text.split('').all(b, size(a + b) < 3))".to_owned(),
        "object.spec.text.split('').map(a, object.spec.text + a).size() > 0".to_owned(),
        "object.spec.text.split('').all(a, !object.spec.text.matches('b' + object.spec.text + a))".to_owned(),
    ]
}

#[test]
fn what_would_take_everything_is_refused_or_given_up() {
    let text = "x".repeat(5_000);
    let object = || subject(Kind::Kustomization, &format!("spec: {{path: ./a, text: {text}}}"));
    for expression in hostile() {
        assert!(expression.len() < 1_000, "it takes no long policy");
        let spec = json!({"rules": {"cel": [{"expression": expression, "message": "no"}]}}).to_string();
        let policy = policy(&spec);
        let judged = Request::create(object()).judged(&policy);
        assert_eq!(judged.len(), 1, "{expression}");
        assert!(judged[0].starts_with("cel[0] : no: cannot be evaluated: "), "{expression}: {judged:?}");
        assert!(judged[0].len() < 1_000, "{expression}: {judged:?}");
        let audited: Vec<_> = policy.audit(&object(), &NoDependencies).iter().map(line).collect();
        assert_eq!(audited, judged);
    }
}

/// A policy has one budget, however many conditions it has.
#[test]
fn conditions_of_a_policy_share_what_they_may_take() {
    const PAIRS: &str = "object.spec.list.all(a, object.spec.list.all(b, a == b))";
    let rules: Vec<_> = (0..10).map(|_| json!({"expression": PAIRS, "message": "no"})).collect();
    let policy = policy(&json!({"rules": {"cel": rules}}).to_string());
    let list = |length: usize| format!("spec: {{list: [{}]}}", vec!["1"; length].join(","));
    let judged = Request::create(subject(Kind::Kustomization, &list(300))).judged(&policy);
    assert!(judged.len() > 2 && judged.len() < 10, "{judged:?}");
    assert!(judged.last().unwrap().contains("with the conditions before it"), "{judged:?}");
    assert_eq!(Request::create(subject(Kind::Kustomization, &list(100))).judged(&policy), NONE);
}

/// The steps that many objects share run out at some point, and then no object passes unjudged.
#[test]
fn an_audit_of_many_objects_has_an_end() {
    const PAIRS: &str = "object.spec.list.all(a, object.spec.list.all(b, a == b))";
    let policy = policy(&json!({"rules": {"cel": [{"expression": PAIRS, "message": "no"}]}}).to_string());
    let list = |length: usize| format!("spec: {{list: [{}]}}", vec!["1"; length].join(","));
    let object = subject(Kind::Kustomization, &list(100));
    let mut granted = 200_000;
    let mut judged =
        || policy.audit_within(&object, &NoDependencies, &mut granted).iter().map(line).collect();
    let verdicts: Vec<Vec<String>> = (0..10).map(|_| judged()).collect();
    assert_eq!(verdicts[0], NONE);
    assert!(
        verdicts[9][0].contains("cannot be evaluated: takes, with the conditions before it"),
        "{verdicts:?}"
    );
    let held = verdicts.iter().take_while(|verdict| verdict.is_empty()).count();
    assert!(held < 5 && verdicts[held..].iter().all(|verdict| verdict.len() == 1), "{verdicts:?}");
}

#[test]
fn judging_ends_at_its_deadline() {
    let policy = policy("rules: {cel: [{expression: 'object.spec.prune == true', message: 'no'}]}");
    let request = Request::create(subject(Kind::Kustomization, "spec: {prune: true}"));
    let judged = |until| -> Vec<_> {
        policy.judge_until(&request.case(), &NoDependencies, until).iter().map(line).collect()
    };
    let now = std::time::Instant::now();
    assert_eq!(judged(Some(now)), ["cel[0] : no: cannot be evaluated: was not evaluated in time"]);
    assert_eq!(judged(Some(now + std::time::Duration::from_mins(1))), NONE);
    assert_eq!(judged(None), NONE);
    // An object that is relabelled after the deadline does not count as one that violated the condition before.
    let update = Request::update(
        subject(Kind::Kustomization, "{metadata: {labels: {a: b}}, spec: {prune: true}}"),
        subject(Kind::Kustomization, "{metadata: {labels: {a: c}}, spec: {prune: true}}"),
    );
    assert_eq!(policy.judge_until(&update.case(), &NoDependencies, Some(now)).len(), 1);
}

#[test]
fn the_worst_is_refused_when_it_is_written_and_held_where_it_is_there() {
    for expression in hostile().into_iter().take(4) {
        let spec = json!({"rules": {"cel": [{"expression": "true"}, {"expression": expression}]}});
        let written = json!({
            "apiVersion": "policy.gatehouse.dev/v1alpha1", "kind": "ReconcilePolicy",
            "metadata": {"name": "p"}, "spec": spec,
        });
        let written: ReconcilePolicy = serde_json::from_value(written).unwrap();
        let errors = Policy::compile_new(&written).expect_err(&expression);
        assert_eq!(errors[0].field, "spec.rules.cel[1].expression");
        assert!(errors[0].to_string().contains("on an ordinary object"), "{}", errors[0]);
        assert!(Policy::compile(&written).is_ok(), "one that was there before is enforced as it was");
    }
}
