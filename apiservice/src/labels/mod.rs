//! Label selectors: equality, sets, existence, and comparison (`>`, `<`). They come as the text of a query parameter
//! ([`Selector::parse`]) or as a `LabelSelector` of `meta/v1` ([`Selector::compile`]).
//!
//! **Invariants:** the grammar is that of `k8s.io/apimachinery` (`labels.Parse`), because a more lenient parser would
//! select more than was requested and authorized. [`std::fmt::Display`] writes a canonical form, which parses to the
//! same selector.

mod compile;
mod lexer;
mod parse;
mod syntax;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;

/// Conditions on an object's labels. The default has none and selects all objects.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Selector {
    /// All must hold. Sorted by key if they were parsed.
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

/// The labels of an object.
pub trait Labels {
    /// The value of a label.
    fn label(&self, key: &str) -> Option<&str>;
}

impl Labels for BTreeMap<String, String> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

/// They must be sorted by key.
impl Labels for [(Arc<str>, Arc<str>)] {
    fn label(&self, key: &str) -> Option<&str> {
        let at = self.binary_search_by(|(label, _)| label.as_ref().cmp(key)).ok()?;
        Some(&self[at].1)
    }
}

impl Selector {
    /// Parses the text of a label selector; the error says why it cannot be parsed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parsed = parse::requirements(text);
        let mut requirements = parsed.map_err(|problem| format!("unable to parse requirement: {problem}"))?;
        requirements.sort();
        requirements.dedup();
        Ok(Self { requirements })
    }

    /// Whether it selects all objects.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether an object with these labels is selected.
    pub fn matches<L: Labels + ?Sized>(&self, labels: &L) -> bool {
        self.requirements.iter().all(|Requirement { key, test }| test.holds(labels.label(key)))
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

impl fmt::Display for Selector {
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
        let parsed = Selector::parse(selector).unwrap();
        assert_eq!(parsed.matches(&*labels(on)), expected, "{selector} on {on:?}");
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
    fn what_the_grammar_does_not_know_is_an_error() {
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
            let error = Selector::parse(bad).unwrap_err();
            assert!(error.starts_with("unable to parse requirement: "), "{error}");
        }
    }

    #[test]
    fn the_canonical_form_is_sorted_and_short() {
        let canonical = |text| Selector::parse(text).unwrap().to_string();
        assert_eq!(canonical("z, !b ,a==1,c in (y,x), d notin (q)"), "a=1,!b,c in (x,y),d!=q,z");
        assert_eq!(canonical("a in (),b>3,a="), "a=,b>3");
    }

    #[test]
    fn a_review_sees_sets_only() {
        let requirements = Selector::parse("a=1,!b,n>3").unwrap().requirements();
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
            let selector = Selector { requirements };
            prop_assert_eq!(Selector::parse(&selector.to_string()).unwrap(), selector);
        }

        #[test]
        fn any_text_is_answered(text in "\\PC{0,40}|[a-z=!<>(), ]{0,40}") {
            if let Ok(selector) = Selector::parse(&text) {
                prop_assert_eq!(Selector::parse(&selector.to_string()).unwrap(), selector);
            }
        }
    }
}
