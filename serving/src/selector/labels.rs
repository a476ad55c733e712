//! Label selectors: equality, sets, existence, and comparison (`>`, `<`).

use std::{collections::BTreeSet, fmt, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;

use super::{
    lexer::{Lexer, Token},
    names::{key_problem, value_problem},
};
use crate::ApiError;

/// Conditions on an object's labels. The default has none and selects all objects.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct LabelSelector {
    /// All must hold. Sorted by key.
    requirements: Vec<Requirement>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Test {
    /// `in`, `=` or `==`.
    In(BTreeSet<String>),
    /// `notin` or `!=`. True if the label is missing.
    NotIn(BTreeSet<String>),
    Exists,
    Missing,
    Greater(i64),
    Less(i64),
}

impl LabelSelector {
    /// Parses the parameter `labelSelector`. The error is 400.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let mut requirements = parse(text).map_err(|problem| {
            ApiError::bad_request(format!("labelSelector: unable to parse requirement: {problem}"))
        })?;
        requirements.sort();
        requirements.dedup();
        Ok(Self { requirements })
    }

    /// Whether it selects all objects.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether an object with these labels is selected. They must be sorted by key.
    pub fn matches(&self, labels: &[(Arc<str>, Arc<str>)]) -> bool {
        self.requirements.iter().all(|requirement| {
            let key = requirement.key.as_str();
            let at = labels.binary_search_by(|(label, _)| label.as_ref().cmp(key)).ok();
            requirement.test.holds(at.map(|at| labels[at].1.as_ref()))
        })
    }

    /// The requirements for a SubjectAccessReview. It has neither `>` nor `<`, so these are left out: the review then
    /// asks for more than the request, which can only deny more.
    pub fn requirements(&self) -> Vec<LabelSelectorRequirement> {
        let requirements = self.requirements.iter().filter_map(|requirement| {
            let (operator, values) = match &requirement.test {
                Test::In(values) => ("In", Some(values)),
                Test::NotIn(values) => ("NotIn", Some(values)),
                Test::Exists => ("Exists", None),
                Test::Missing => ("DoesNotExist", None),
                Test::Greater(_) | Test::Less(_) => return None,
            };
            Some(LabelSelectorRequirement {
                key: requirement.key.clone(),
                operator: operator.to_owned(),
                values: values.map(|values| values.iter().cloned().collect()),
            })
        });
        requirements.collect()
    }
}

impl Test {
    fn holds(&self, label: Option<&str>) -> bool {
        let number = || label.and_then(|label| label.parse::<i64>().ok());
        match self {
            Self::In(values) => label.is_some_and(|label| values.contains(label)),
            Self::NotIn(values) => label.is_none_or(|label| !values.contains(label)),
            Self::Exists => label.is_some(),
            Self::Missing => label.is_none(),
            Self::Greater(bound) => number().is_some_and(|number| number > *bound),
            Self::Less(bound) => number().is_some_and(|number| number < *bound),
        }
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Requirement { key, test }) in self.requirements.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            match test {
                Test::In(values) => write_set(f, key, ("=", "in"), values)?,
                Test::NotIn(values) => write_set(f, key, ("!=", "notin"), values)?,
                Test::Exists => f.write_str(key)?,
                Test::Missing => write!(f, "!{key}")?,
                Test::Greater(bound) => write!(f, "{key}>{bound}")?,
                Test::Less(bound) => write!(f, "{key}<{bound}")?,
            }
        }
        Ok(())
    }
}

fn write_set(
    f: &mut fmt::Formatter<'_>,
    key: &str,
    (one, many): (&str, &str),
    values: &BTreeSet<String>,
) -> fmt::Result {
    let joined = values.iter().map(String::as_str).collect::<Vec<_>>().join(",");
    if values.len() == 1 { write!(f, "{key}{one}{joined}") } else { write!(f, "{key} {many} ({joined})") }
}

fn parse(text: &str) -> Result<Vec<Requirement>, String> {
    let mut lexer = Lexer::new(text);
    let mut requirements = Vec::new();
    if lexer.peek() == Token::End {
        return Ok(requirements);
    }
    loop {
        requirements.push(requirement(&mut lexer)?);
        match lexer.take() {
            Token::End => return Ok(requirements),
            Token::Comma => {}
            other => return Err(format!("found '{other}', expected: ',' or 'end of string'")),
        }
    }
}

fn requirement(lexer: &mut Lexer<'_>) -> Result<Requirement, String> {
    let negated = lexer.peek() == Token::Not;
    if negated {
        lexer.take();
    }
    let key = match lexer.take() {
        Token::Word(word) => word,
        other => return Err(format!("found '{other}', expected: identifier")),
    };
    if let Some(problem) = key_problem(key) {
        return Err(format!("Invalid value: \"{}\": {problem}", key.escape_debug()));
    }
    let test = match lexer.peek() {
        // Only a comma or the end may follow `!key`; the caller checks that.
        _ if negated => Test::Missing,
        Token::End | Token::Comma => Test::Exists,
        _ => restriction(lexer)?,
    };
    Ok(Requirement { key: key.to_owned(), test })
}

/// Parses what follows a key: an operator and its values.
fn restriction(lexer: &mut Lexer<'_>) -> Result<Test, String> {
    Ok(match lexer.take() {
        Token::Equals => Test::In(BTreeSet::from([exact(lexer)?])),
        Token::NotEquals => Test::NotIn(BTreeSet::from([exact(lexer)?])),
        Token::Greater => Test::Greater(number(lexer)?),
        Token::Less => Test::Less(number(lexer)?),
        Token::Word("in") => Test::In(set(lexer)?),
        Token::Word("notin") => Test::NotIn(set(lexer)?),
        other => return Err(format!("found '{other}', expected: in, notin, =, ==, !=, >, <")),
    })
}

fn number(lexer: &mut Lexer<'_>) -> Result<i64, String> {
    let text = exact(lexer)?;
    let problem =
        |_| format!("Invalid value: \"{text}\": for 'Gt', 'Lt' operators, the value must be an integer");
    text.parse().map_err(problem)
}

fn exact(lexer: &mut Lexer<'_>) -> Result<String, String> {
    match lexer.peek() {
        Token::End | Token::Comma => Ok(String::new()),
        Token::Word(word) => {
            lexer.take();
            value(word)
        }
        other => Err(format!("found '{other}', expected: identifier")),
    }
}

/// Parses `(a,b)`. Nothing before, after or between commas is the empty value.
fn set(lexer: &mut Lexer<'_>) -> Result<BTreeSet<String>, String> {
    match lexer.take() {
        Token::Open => {}
        other => return Err(format!("found '{other}', expected: '('")),
    }
    let mut values = BTreeSet::new();
    loop {
        values.insert(match lexer.peek() {
            Token::Word(word) => {
                lexer.take();
                value(word)?
            }
            _ => String::new(),
        });
        match lexer.take() {
            Token::Comma => {}
            Token::Close => return Ok(values),
            other => return Err(format!("found '{other}', expected: ',' or ')'")),
        }
    }
}

fn value(word: &str) -> Result<String, String> {
    match value_problem(word) {
        None => Ok(word.to_owned()),
        Some(problem) => Err(format!("Invalid value: \"{}\": {problem}", word.escape_debug())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::btree_set, prelude::*};

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Vec<(Arc<str>, Arc<str>)> {
        let mut labels: Vec<_> = pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        labels.sort();
        labels
    }

    fn check(selector: &str, on: &[(&str, &str)], expected: bool) {
        let parsed = LabelSelector::parse(selector).unwrap();
        assert_eq!(parsed.matches(&labels(on)), expected, "{selector} on {on:?}");
    }

    #[test]
    fn equality_sets_and_existence_match_as_in_kubernetes() {
        let on = &[("app", "web"), ("tier", "front"), ("n", "7"), ("empty", "")];
        for holds in [
            "",
            "app",
            "!other",
            "app=web",
            "app==web",
            "app!=db",
            "other!=x",
            "app in (db,web)",
            "app notin (db)",
            "other notin (x)",
            "n>6",
            "n<8",
            "empty=",
            "empty in (,x)",
            " app = web , tier in ( front ) ",
            "empty in ()",
            "app=web,tier",
            "in notin (x)",
        ] {
            check(holds, on, true);
        }
        for fails in
            ["other", "!app", "app=db", "app!=web", "other=", "app notin (web,db)", "n>7", "app>1", "app="]
        {
            check(fails, on, false);
        }
    }

    #[test]
    fn words_that_are_operators_elsewhere_may_be_values() {
        check("x in (in,notin)", &[("x", "in")], true);
        check("x=in", &[("x", "in")], true);
    }

    #[test]
    fn what_the_grammar_does_not_know_returns_400() {
        for bad in [
            ",",
            "a,",
            "a,,b",
            "a b",
            "a in",
            "a in b",
            "a in (b",
            "a in (b c)",
            "a in (=)",
            "!a=b",
            "=b",
            "a=b=c",
            "a=(b)",
            "a>b",
            "a<",
            "-a",
            "a=-b",
            "a in (b)c",
            "!",
            "!!a",
            "a!b",
            "a\0b",
            "ä=1",
            ")",
            "a=b)",
        ] {
            let error = LabelSelector::parse(bad).unwrap_err();
            assert_eq!(error.code(), http::StatusCode::BAD_REQUEST, "{bad}");
            assert!(error.to_string().contains("unable to parse requirement: "), "{error}");
        }
    }

    #[test]
    fn the_canonical_form_is_sorted_and_short() {
        let canonical = |text| LabelSelector::parse(text).unwrap().to_string();
        assert_eq!(canonical("z, !b ,a==1,c in (y,x), d notin (q)"), "a=1,!b,c in (x,y),d!=q,z");
        assert_eq!(canonical("a in (),b>3,a="), "a=,b>3");
    }

    #[test]
    fn a_review_sees_sets_only() {
        let requirements = LabelSelector::parse("a=1,!b,n>3").unwrap().requirements();
        let seen: Vec<_> = requirements.iter().map(|r| (r.key.as_str(), r.operator.as_str())).collect();
        assert_eq!(seen, [("a", "In"), ("b", "DoesNotExist")]);
        assert_eq!(requirements[0].values, Some(vec!["1".to_owned()]));
    }

    fn any_test() -> impl Strategy<Value = Test> {
        let values = || btree_set("([a-z0-9]([a-z.]{0,3}[a-z0-9])?)?", 1..4);
        prop_oneof![
            values().prop_map(Test::In),
            values().prop_map(Test::NotIn),
            Just(Test::Exists),
            Just(Test::Missing),
            (0..i64::MAX).prop_map(Test::Greater),
            (0..i64::MAX).prop_map(Test::Less),
        ]
    }

    proptest! {
        #[test]
        fn a_selector_is_read_back_as_it_was_written(
            mut requirements in proptest::collection::vec(("(ex\\.com/)?[a-z]{1,3}", any_test()), 0..5)
        ) {
            requirements.sort();
            requirements.dedup();
            let requirements = requirements.into_iter().map(|(key, test)| Requirement { key, test }).collect();
            let selector = LabelSelector { requirements };
            prop_assert_eq!(LabelSelector::parse(&selector.to_string()).unwrap(), selector);
        }

        #[test]
        fn any_text_is_answered(text in "\\PC{0,40}|[a-z=!<>(), ]{0,40}") {
            if let Ok(selector) = LabelSelector::parse(&text) {
                prop_assert_eq!(LabelSelector::parse(&selector.to_string()).unwrap(), selector);
            }
        }
    }
}
