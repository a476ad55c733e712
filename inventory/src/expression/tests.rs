//! Tests that values follow the CEL specification, and that no expression exceeds the budget.

use std::time::{Duration, Instant};

use kube_cel::cel::Value;
use serde_json::json;

use super::*;

const VARIABLES: [&str; 1] = ["object"];

fn functions() -> Functions {
    Functions::new(&[], &[], |_| {})
}

fn compiled(source: &str) -> Expression {
    Expression::compile(source, &functions(), &VARIABLES).unwrap_or_else(|why| panic!("{source}: {why}"))
}

fn object() -> Value {
    value_of(&json!({
        "spec": {
            "text": "abc", "number": 5, "double": 2.5, "yes": true, "nothing": null, "list": [1, 2, 3],
            "images": [{"name": "x"}, {"name": "y", "tag": "v1"}], "big": u64::MAX, "empty": {},
        },
    }))
}

fn evaluate(source: &str) -> Result<Value, Failure> {
    let compiled = Expression::compile(source, &functions(), &VARIABLES).map_err(failed)?;
    compiled.evaluate(&functions(), &[("object", object())], &Budget::new(None))
}

/// The object that the expressions of the table are evaluated on.
const SUBJECT: &str = include_str!("conformance.json");

/// Each expression of the table has the recorded verdict.
#[test]
fn the_table_of_kubernetes_expressions() {
    let subject = value_of(&serde_json::from_str(SUBJECT).unwrap());
    let mut wrong = Vec::new();
    let lines =
        include_str!("conformance.txt").lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    for line in lines {
        let (verdict, source) = line.split_once(" | ").expect(line);
        let wanted = verdict.split_once('/').map_or(verdict, |(_, here)| here);
        let variables = [("object", subject.clone())];
        let found = match Expression::compile(source, &functions(), &VARIABLES) {
            Err(_) => "refused",
            Ok(compiled) => match compiled.holds(&functions(), &variables, &Budget::new(None)) {
                Ok(true) => "true",
                Ok(false) => "false",
                Err(_) => "error",
            },
        };
        if found != wanted {
            wrong.push(format!("{line} (found {found})"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The message with which an expression exhausts the budget.
fn exhausted(source: &str, budget: &Budget, object: &serde_json::Value) -> &'static str {
    match compiled(source).evaluate(&functions(), &[("object", value_of(object))], budget) {
        Err(Failure::Exhausted(why)) => why,
        other => panic!("{source}: {other:?}"),
    }
}

#[test]
fn what_holds() {
    for source in [
        // Literals, arithmetic, order and equality.
        "1 + 2 * 3 - 4 / 2 == 5 && 7 % 3 == 1 && -object.spec.number == -5",
        "dyn(1) == 1.0 && dyn(1u) == 1 && 1 < 1.5 && 2.5 > 2u && object.spec.big > 5 && type(object.spec.big) == double",
        "'a' + 'b' == 'ab' && b'a' + b'b' == b'ab' && [1] + [2] == [1, 2] && 'a' < 'b' && false < true",
        "dyn({'a': dyn(1), 'b': dyn({'c': 2})}) == {'b': dyn({'c': 2u}), 'a': dyn(1.0)} && {'a': 1} != {'a': 2} && [1] != [1, 1]",
        "dyn('1') != 1 && null == null && object.spec.nothing == null && !(dyn(null) == false)",
        "duration('1h') + duration('30m') == duration('90m') && timestamp('2026-01-01T00:00:00Z') < timestamp('2026-01-02T00:00:00Z')",
        // Fields.
        "has(object.spec.text) && !has(object.spec.nope) && !has(object.spec.text.nope) && has(object.spec.nothing)",
        "object.spec['text'] == 'abc' && object['spec'].list[1] == 2 && object.spec.list[dyn(1.0)] == 2 && object.spec.list[dyn(2u)] == 3",
        "'text' in object.spec && 2 in object.spec.list && !(4 in object.spec.list) && !('x' in object.spec)",
        "{1: 'a'}[dyn(1u)] == 'a' && {true: 'b'}[true] == 'b' && {1: 'a'}[dyn(1.0)] == 'a'",
        // Optional fields: a field that is absent at any depth is none, and none stays none.
        "object.spec.?nope.orValue('x') == 'x' && object.?nope.?deeper.orValue(false) == false",
        "!object.?nope.?deeper.hasValue() && !object.spec.?nope.hasValue() && object.spec.?text.hasValue()",
        "object.?spec.text.orValue('') == 'abc' && !object.?nope.text.hasValue() && object.?spec.?text == optional.of('abc')",
        "object.spec[?'nope'].orValue(1) == 1 && object.spec.list[?7].orValue(0) == 0 && object.spec.list[?0].value() == 1",
        "object.spec.?text.?deeper.orValue('none') == 'none' && object.spec.?nothing.?x.orValue('none') == 'none'",
        "optional.none().or(optional.of(1)).value() == 1 && !optional.ofNonZeroValue('').hasValue()",
        "[?object.spec.?nope] == [] && {?'a': object.spec.?nope} == {} && [?object.spec.?number] == [5]",
        "optional.of(optional.none()).hasValue() && optional.none() == optional.none() && optional.of(1) != optional.none() && optional.of(1).orValue(1 / 0) == 1",
        // Macros.
        "object.spec.list.all(x, x > 0) && object.spec.list.exists(x, x == 2) && object.spec.list.exists_one(x, x == 3)",
        "object.spec.list.map(x, x * 2) == [2, 4, 6] && object.spec.list.filter(x, x > 1) == [2, 3]",
        "object.spec.list.map(x, x > 1, x * 10) == [20, 30] && [].all(x, false) && ![].exists(x, true)",
        "[1, 2].all(i, v, v == i + 1) && {'a': 1}.exists(k, v, k == 'a' && v == 1) && [3].existsOne(i, v, i == 0 && v == 3)",
        "[1, 2].transformList(i, v, i + v) == [1, 3] && {'a': 1}.transformMap(k, v, v + 1) == {'a': 2}",
        "{'a': 1}.transformMapEntry(k, v, {v: k}) == {1: 'a'} && object.spec.images.sortBy(i, i.name)[1].tag == 'v1'",
        "object.spec.?text.optMap(t, t + '!').orValue('') == 'abc!' && !object.spec.?nope.optFlatMap(t, t.?x).hasValue()",
        "type(1) == int && type(object.spec) == map && type('a') != bytes && string(duration('90s')) == '90s'",
        "[1, 2].map(x, [3, 4].map(y, x * y)) == [[3, 4], [6, 8]] && [[1], [2]].map(x, x.map(x, x + 1)) == [[2], [3]]",
        "{'a': 1, 'b': 2}.all(k, k in ['a', 'b']) && {'a': 1}.map(k, k) == ['a'] && object.spec.empty.all(k, false)",
        // An error counts only if no other operand decides.
        "object.spec.images.exists(i, i.tag == 'v1') && !object.spec.images.all(i, i.tag == 'v2')",
        "object.spec.images.exists(i, i.name == 'x' || i.tag == 'v1')",
        "true || object.spec.nope == 1",
        "object.spec.nope == 1 || true",
        "!(object.spec.nope == 1 && false)",
        "[3, 2].exists(x, 6 / (x - 3) == -6) && ![3, 2].all(x, 6 / (x - 3) == 6)",
        "true ? true : object.spec.nope",
        // Functions of this crate and of the libraries.
        "size('äö') == 2 && object.spec.list.size() == 3 && size({}) == 0 && b'ab'.size() == 2",
        "'abc'.contains('b') && 'abc'.startsWith('a') && 'abc'.endsWith('c') && 'abc'.contains('')",
        "'abc'.matches('^[a-c]+$') && 'x1y22'.find('[0-9]+') == '1' && 'x1y22'.findAll('[0-9]+') == ['1', '22']",
        "'x1y22'.findAll('[0-9]+', 1) == ['1'] && matches('abc', 'b')",
        "'a,b'.split(',') == ['a', 'b'] && ['a', 'b'].join('-') == 'a-b' && 'aa'.replace('a', 'b') == 'bb'",
        "[1, 2].max() == 2 && [3, 1, 2].sort() == [1, 2, 3] && [1, 1].distinct() == [1] && [1, 2].sum() == 3",
        "sets.contains([1, 2], [2]) && sets.equivalent([1, 2], [2, 1]) && [[1], [2]].flatten() == [1, 2]",
        "quantity('1Gi').isGreaterThan(quantity('1M')) && url('https://a.b/c').getHost() == 'a.b' && semver('1.2.3').major() == 1",
        "'%s %d %.2f'.format(['a', 1, 0.5]) == 'a 1 0.50' && string(5) == '5' && int('5') == 5 && lists.range(3) == [0, 1, 2]",
        // Functions for which the libraries return other values.
        "quantity('1e20').isGreaterThan(quantity('1')) && isQuantity('1e200') && !isQuantity('1x')",
        "quantity('9223372036854775807').add(quantity('1Ei')).isGreaterThan(quantity('9223372036854775807'))",
        "quantity('100n').isLessThan(quantity('1m')) && sign(quantity('1n').sub(quantity('1n'))) == 0",
        "quantity('1Ki') == quantity('1024') && quantity('0.5').compareTo(quantity('500m')) == 0 && quantity('1') != quantity('2')",
        "quantity('2k').asInteger() == 2000 && !quantity('1.5').isInteger() && !quantity('1e20').isInteger()",
        "quantity('1500m').asApproximateFloat() == 1.5 && sign(quantity('1').add(2).sub(quantity('3'))) == 0",
        "duration('720h').getMilliseconds() == 2592000000 && duration('2562047h').getSeconds() == 9223369200",
        "duration('-1h1ns') < duration('-1h') && duration('0.1s') == duration('100ms') && duration('1h').getMinutes() == 60",
        "isIP('10.0.0.1') && cidr('10.0.0.0/8').containsIP('10.1.2.3')",
    ] {
        assert_eq!(evaluate(source), Ok(Value::Bool(true)), "{source}");
    }
}

#[test]
fn what_has_no_value() {
    for (source, why) in [
        ("object.spec.nope", "No such key: nope"),
        ("object.spec.text.nope == 'x'", "No such key: nope"),
        ("object.spec.text.nope != 'x'", "No such key: nope"),
        ("object.spec.nothing.x", "No such key: x"),
        ("object.spec['nope']", "No such key: nope"),
        ("object.spec.list[3]", "Index out of bounds: 3"),
        ("object.spec.list[-1]", "Index out of bounds: -1"),
        ("object.spec.list['x']", "a list cannot be indexed by a string"),
        ("object.spec.list[0.5]", "a list cannot be indexed by a number"),
        ("object.spec.text[0]", "cannot index a string"),
        ("object.spec.list.x", "No such key: x"),
        ("'a' in object.spec.text", "nothing is in a string"),
        ("dyn(1) + 'a'", "cannot add a number and a string"),
        ("dyn([1]) + 1", "cannot add a list and a number"),
        ("9223372036854775807 + 1 > 0", "Overflow"),
        ("-9223372036854775808 / -1 > 0", "Overflow"),
        ("1 / 0", "Division by zero"),
        ("1 % 0", "Remainder by zero"),
        ("dyn('a') < 1", "cannot compare a string with a number"),
        ("dyn([1]) < dyn([2])", "cannot compare a list with a list"),
        ("!dyn(1)", "expected a boolean, got a number"),
        ("dyn(1) ? 2 : 3", "expected a boolean, got a number"),
        ("dyn(1) && true", "expected a boolean, got a number"),
        ("object.spec.nope == 1 && true", "No such key: nope"),
        ("false || object.spec.nope == 1", "No such key: nope"),
        ("-dyn('a')", "cannot negate a string"),
        ("dyn(5).all(x, true)", "a number has no elements"),
        ("[dyn(1), dyn(2)].map(x, x.nope)", "No such key: nope"),
        ("[dyn(1)].filter(x, x)", "expected a boolean, got a number"),
        ("object.spec.images.all(i, has(i.name) && i.tag == 'v1')", "No such key: tag"),
        ("object.spec.images.exists(i, i.tag == 'v2')", "No such key: tag"),
        ("object.spec.images.exists_one(i, i.tag == 'v1')", "No such key: tag"),
        ("optional.none().value()", "the optional value is none"),
        ("object.spec.text.hasValue()", "\"hasValue\" is not a function of a string"),
        ("[?1]", "expected an optional value, got int"),
        ("{[1]: 2}", "a list cannot be a key"),
        ("{1: 2, 1: 3}", "a key comes twice"),
        ("size(dyn(5))", "\"size\" does not take (a number)"),
        ("'a'.matches('[')", "is not a regular expression"),
        ("dyn(5).startsWith('a')", "\"startsWith\" is not a function of a number"),
        ("'%d'.format([dyn('x')])", "%d does not take a string"),
        ("'%.2000f'.format([1.0])", "a precision must be 100 or less"),
        ("int('x')", "string parse error"),
        ("quantity('1e200')", "quantity: out of range"),
        ("quantity('1e-2147483648').add(quantity('1e2147483647'))", "quantity: out of range"),
        ("quantity('170141183460469231731687303716')", "quantity: out of range"),
        ("quantity('1e29').add(quantity('1e29'))", "add: out of range"),
        ("quantity('-1e29').sub(quantity('1e29'))", "sub: out of range"),
        ("quantity('1x')", "quantity: unable to parse"),
        ("quantity(' 1')", "quantity: quantities must be a number"),
        ("quantity('1').isLessThan(1)", "is not a function of kubernetes.Quantity"),
        ("quantity('1e20').asInteger()", "the quantity is no integer"),
        ("int(0.0 / 0.0)", "integer overflow"),
        ("int(9223372036854775808.0)", "integer overflow"),
        ("uint(-0.5)", "unsigned integer overflow"),
        ("uint(18446744073709551616.0)", "unsigned integer overflow"),
        ("-9223372036854775807 - 2", "Overflow"),
        ("18446744073709551615u + 1u", "Overflow"),
        ("1u - 2u", "Overflow"),
        ("4294967296 * 4294967296", "Overflow"),
        ("-(-9223372036854775807 - 1)", "integer overflow"),
        ("duration('1h and more')", "is not a duration"),
        ("duration('1d')", "is not a duration"),
        ("duration('2562048h')", "is not a duration"),
        ("duration('2562047h') + duration('1h')", "duration overflow"),
        ("timestamp('9999-01-01T00:00:00Z') - timestamp('1000-01-01T00:00:00Z')", "duration overflow"),
        ("timestamp('9999-12-31T23:59:59Z') + duration('1s')", "Overflow"),
        ("duration('1s') + timestamp('9999-12-31T23:59:59Z')", "Overflow"),
        ("timestamp('0001-01-01T00:00:00Z') - duration('1s')", "Overflow"),
        ("double('NaN') < 1.0", "NaN has no order"),
    ] {
        let failure = evaluate(source).expect_err(source).to_string();
        assert!(failure.contains(why), "{source}: {failure}");
    }
}

/// Expressions that grow with each step, in every way that the language has. Without a budget, each takes gigabytes or
/// hours.
fn hostile() -> Vec<(&'static str, String)> {
    let chain = |start: &str, link: &str, links: usize| format!("{start}{}", link.repeat(links));
    let doubled = |links: usize| chain("['aaaaaaaaaaaaaaaa']", ".map(x, x + x)", links);
    vec![
        ("text doubles", doubled(40)),
        ("a list doubles", chain("[[1, 1, 1, 1]]", ".map(x, x + x)", 40)),
        ("bytes double", chain("[b'aaaaaaaaaaaaaaaa']", ".map(x, x + x)", 40)),
        ("shared parts, compared", format!("{0} == {0}", chain("[1]", ".map(x, [x, x])", 40))),
        ("shared parts, copied", format!("dyn({}).flatten(50)", chain("[1]", ".map(x, [x, x])", 40))),
        ("shared parts, printed", format!("'%s'.format([{}])", chain("[1]", ".map(x, [x, x])", 40))),
        ("shared entries, compared", format!("{0} == {0}", chain("[1]", ".map(x, {'a': x, 'b': x})", 40))),
        ("shared parts, joined", format!("dyn({}).join(',')", chain("['a']", ".map(x, [x, x])", 40))),
        ("pairs of pairs", "object.l.map(a, object.l.map(b, object.l.map(c, [a, b, c])))".to_owned()),
        ("text from pairs", "object.l.map(a, object.l.map(b, object.text + object.text))".to_owned()),
        ("a maker of lists", "lists.range(1000000000).size() > 0".to_owned()),
        ("a maker of lists, again and again", "lists.range(1000).map(x, lists.range(100000))".to_owned()),
        ("replaced by much", "object.text.replace('', object.text)".to_owned()),
        ("replaced by more each time", chain("['aaaaaaaaaaaaaaaa']", ".map(x, x.replace('a', x))", 8)),
        ("split in letters", "object.l.map(a, object.text.split(''))".to_owned()),
        ("joined by much", "object.text.split('').join(object.text)".to_owned()),
        (
            "formatted with much",
            "object.l.map(x, '%s%s%s'.format([object.text, object.text, object.text]))".to_owned(),
        ),
        ("formatted with digits", "lists.range(50000).map(x, '%.99f'.format([1.0]))".to_owned()),
        ("quoted and quoted", chain("[object.text + '\"\"\"\"\\\\\\\\']", ".map(x, strings.quote(x))", 40)),
        ("all pairs", "(object.text.split('') + object.text.split('')).distinct()".to_owned()),
        ("sets of all pairs", "sets.equivalent(lists.range(20000), lists.range(20000))".to_owned()),
        (
            "looked for everywhere",
            "lists.range(100).all(x, object.text.lastIndexOf(object.text.substring(1)) == 1)".to_owned(),
        ),
        (
            "a pattern that is large",
            "object.l.all(x, object.text.matches('(a{1,90}){1,90}') || true)".to_owned(),
        ),
        (
            "a new pattern each time",
            "lists.range(100000).all(x, 'a'.matches('a' + string(x)) || true)".to_owned(),
        ),
        (
            "a pattern that is slow",
            "lists.range(1000).all(x, object.text.matches('(a|aa)*(a|aa)*(a|aa)*b') || true)".to_owned(),
        ),
        (
            "all matches, again and again",
            "lists.range(1000).all(x, size(object.text.findAll('.')) > 0)".to_owned(),
        ),
        ("addresses", "lists.range(10000).map(x, url('https://a/' + object.text))".to_owned()),
        ("a tower of lists", format!("[{0} == {0}]", chain("[1]", ".map(x, [[[[x]]]])", 80))),
        ("sorted, again and again", "lists.range(100000).all(x, lists.range(1000).sort() != [])".to_owned()),
        ("rounds of nothing", "lists.range(100000).all(a, lists.range(100000).all(b, true))".to_owned()),
        (
            "errors that are passed over",
            "lists.range(100000).exists(a, lists.range(100000).exists(b, dyn(b).nope))".to_owned(),
        ),
    ]
}

fn hostile_object() -> serde_json::Value {
    json!({"l": vec![1; 2000], "text": "a".repeat(50_000)})
}

/// Set for the process that runs one test alone.
const ALONE: &str = "GATEHOUSE_TEST_ALONE";

/// Compares the bytes that an evaluation counts with the memory of the process. In a process of its own, since other
/// tests allocate, too.
#[test]
fn whatever_grows_ends_within_the_budget() {
    if std::env::var_os(ALONE).is_none() {
        let mut alone = std::process::Command::new(std::env::current_exe().expect("this test"));
        alone.args(["--exact", "expression::tests::whatever_grows_ends_within_the_budget"]).env(ALONE, "1");
        let output = alone.output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    for (what, source) in hostile() {
        let budget = Budget::new(None);
        let before = peak_kib();
        let why = exhausted(&source, &budget, &hostile_object());
        let grown = peak_kib() - before;
        assert!(why.contains("too "), "{what}: {why}");
        // The counted bytes, and the overhead of the allocator.
        assert!(grown < 96 << 10, "{what}: {grown} KiB");
        assert!(budget.steps_left() >= TOTAL_STEPS - EXPRESSION_STEPS, "{what}");
    }
}

/// The peak resident memory of this process.
fn peak_kib() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

/// Costs only steps, no bytes.
const ENDLESS: &str = "object.l.all(a, object.l.all(b, true))";

#[test]
fn nothing_passes_over_the_end_of_the_budget() {
    for source in [
        format!("{ENDLESS} || true"),
        format!("true || {ENDLESS} || true").replace("true ||", "false ||"),
        format!("!({ENDLESS} && false)"),
        format!("[1, 2].exists(x, {ENDLESS} || x == 2)"),
        format!("![1, 2].all(x, {ENDLESS} && false)"),
        format!("optional.of({ENDLESS}).orValue(true)"),
    ] {
        exhausted(&source, &Budget::new(None), &hostile_object());
    }
}

#[test]
fn expressions_share_a_budget() {
    let budget = Budget::new(None);
    let whys: Vec<_> = (0..5).map(|_| exhausted(ENDLESS, &budget, &hostile_object())).collect();
    assert_eq!(budget.steps_left(), 0);
    assert!(whys[3].contains("takes too much work"), "{whys:?}");
    assert!(whys[4].contains("with the conditions before it"), "{whys:?}");
    assert!(exhausted("true", &budget, &json!({})).contains("with the conditions before it"));
}

#[test]
fn evaluation_ends_when_time_is_over() {
    let past = Instant::now();
    assert_eq!(exhausted("true", &Budget::new(Some(past)), &json!({})), "was not evaluated in time");
    let soon = Instant::now() + Duration::from_millis(5);
    // Using all granted steps takes longer than that.
    let object = hostile_object();
    assert_eq!(exhausted(ENDLESS, &Budget::new(Some(soon)), &object), "was not evaluated in time");
    let later = Budget::new(Some(Instant::now() + Duration::from_mins(1)));
    assert_eq!(
        compiled("1 == 1").holds(&functions(), &[], &later),
        Ok(true),
        "there is time for what takes none"
    );
}

#[test]
fn what_goes_through_large_objects_as_it_should_has_the_budget_for_it() {
    let many: Vec<_> =
        (0..200).map(|at| json!({"name": format!("item-{at}"), "values": vec![at; 20]})).collect();
    let object = json!({"items": many, "text": "line\n".repeat(200_000)});
    for source in [
        "object.items.all(a, a.values.all(b, b >= 0))",
        "object.items.all(a, object.items.exists_one(b, b.name == a.name))",
        "object.items.map(a, a.name).distinct().size() == 200",
        "object.items.filter(a, a.name.matches('^item-[0-9]+$')).size() == 200",
        "object.text.contains('line') && !object.text.contains('nope') && size(object.text) == 1000000",
        "object.text.matches('line') && object.text.startsWith('line')",
    ] {
        let variables = [("object", value_of(&object))];
        let holds = compiled(source).holds(&functions(), &variables, &Budget::new(None));
        assert_eq!(holds, Ok(true), "{source}");
    }
}

#[test]
fn the_worst_is_refused_when_it_is_written() {
    let functions = functions();
    let estimate = |source: &str| {
        Expression::compile(source, &functions, &VARIABLES)
            .expect(source)
            .estimate(&functions, &Composed::default())
    };
    for (what, source) in [
        ("text doubles", format!("[object.a]{}.size() > 0", ".map(x, x + x)".repeat(27))),
        ("a list doubles", format!("[object.a]{}.size() > 0", ".map(x, x + x)".repeat(27))),
        ("replaced", format!("object.a{}.size() > 0", ".replace('a', object.b)".repeat(10))),
        (
            "three levels",
            "object.a.all(a, object.a.all(b, object.a.all(c, object.a.all(d, true))))".to_owned(),
        ),
        ("a maker of lists", "lists.range(100000000).size() > 0".to_owned()),
    ] {
        let why = estimate(&source).expect_err(what);
        assert!(why.contains("on an ordinary object"), "{what}: {why}");
    }
    assert!(estimate("object.a.matches('[')").unwrap_err().contains("is not a regular expression"));
    assert!(
        estimate("object.a.matches('((a{1,99}){1,99}){1,99}')").unwrap_err().contains("too much memory when")
    );
    for source in [
        "object.spec.images.all(i, object.spec.patches.exists(p, p.target.name == i.name))",
        "object.spec.path.startsWith('./tenants/') && object.spec.path.matches('^[a-z0-9./_-]+$')",
        "object.spec.dependsOn.map(d, d.name + '/' + d.?namespace.orValue('')).distinct().size() <= 20",
        "object.metadata.labels.all(k, k.size() < 64 && object.metadata.labels[k].lowerAscii().trim() != '')",
        "object.spec.values.split(',').all(v, v.replace('a', 'bb').size() < 99)",
        "'%s/%s'.format([object.a, object.b]).size() < 100",
        "!object.spec.text.matches('\\\\w{1,63}')",
    ] {
        assert_eq!(estimate(source), Ok(()), "{source}");
    }
}

/// What is built from a map is the same each time, so that an object that did not change keeps its message.
#[test]
fn a_map_is_gone_through_in_the_order_of_its_keys() {
    for _ in 0..20 {
        for source in [
            "{'c': 1, 'a': 2, 'b': 3}.map(k, k).join()",
            "{'c': 1, 'a': 2, 'b': 3}.transformList(k, v, k).join()",
        ] {
            assert_eq!(evaluate(source).unwrap(), Value::from("abc"), "{source}");
        }
    }
}
