//! Field paths: `status.phase`, `metadata.labels["app.kubernetes.io/part-of"]`, `status.parents[*].conditions`.

use std::fmt;

use kube_cel::cel::Value;

use super::tree;

/// A path from an object to some of its values. An absent field yields no value and no error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FieldPath {
    text: String,
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Field(String),
    Each,
    At(usize),
}

impl FieldPath {
    /// Parses a path; the error says where it is invalid.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut steps = Vec::new();
        let mut rest = text;
        loop {
            let wrong =
                |what: &str| format!("{what} at character {} of path {text:?}", text.len() - rest.len() + 1);
            if let Some(index) = rest.strip_prefix('[') {
                let (step, tail) = bracketed(index).ok_or_else(|| wrong("expected [*], [0] or [\"key\"]"))?;
                steps.push(step);
                rest = tail;
            } else {
                let name = rest.strip_prefix('.').filter(|_| !steps.is_empty()).unwrap_or(rest);
                if !steps.is_empty() && name.len() == rest.len() {
                    return Err(wrong("expected . or ["));
                }
                let end = name.find(['.', '[']).unwrap_or(name.len());
                let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
                if end == 0 || !name[..end].chars().all(valid) {
                    return Err(wrong("expected a field's name"));
                }
                steps.push(Step::Field(name[..end].to_owned()));
                rest = &name[end..];
            }
            if rest.is_empty() {
                return Ok(Self { text: text.to_owned(), steps });
            }
        }
    }

    /// All values at the path.
    pub(super) fn values<'a>(&self, root: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![root];
        for step in &self.steps {
            found = match step {
                Step::Field(name) => found.into_iter().filter_map(|value| tree::field(value, name)).collect(),
                Step::Each => found.into_iter().flat_map(elements).collect(),
                Step::At(index) => {
                    found.into_iter().filter_map(|value| elements(value).get(*index)).collect()
                }
            };
        }
        found
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn elements(value: &Value) -> &[Value] {
    match value {
        Value::List(list) => list,
        _ => &[],
    }
}

/// The step after a `[`, and the rest after its `]`.
fn bracketed(text: &str) -> Option<(Step, &str)> {
    if let Some(key) = text.strip_prefix('"') {
        let (key, rest) = key.split_once("\"]")?;
        return (!key.is_empty()).then(|| (Step::Field(key.to_owned()), rest));
    }
    let (index, rest) = text.split_once(']')?;
    match index {
        "*" => Some((Step::Each, rest)),
        index => Some((Step::At(index.parse().ok()?), rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_every_value_it_matches() {
        let object =
            r#"{"metadata": {"labels": {"a.b/c": "d"}}, "status": {"parents": [{"n": 1}, {}, {"n": 3}]}}"#;
        let object = tree::parse(object).unwrap();
        let values =
            |path: &str| FieldPath::parse(path).unwrap().values(&object).into_iter().cloned().collect();
        let found: Vec<Value> = values(r#"metadata.labels["a.b/c"]"#);
        assert_eq!(found, [Value::from("d")]);
        let found: Vec<Value> = values("status.parents[*].n");
        assert_eq!(found, [Value::Int(1), Value::Int(3)]);
        let found: Vec<Value> = values("status.parents[2].n");
        assert_eq!(found, [Value::Int(3)]);
        let found: Vec<Value> = values("spec.nothing.here");
        assert_eq!(found, []);
    }

    #[test]
    fn a_wrong_path_is_refused_with_the_place() {
        for (path, place) in
            [("", 1), (".a", 1), ("a..b", 2), ("a[", 2), ("a[x]", 2), ("a b", 1), ("a[0]b", 5)]
        {
            let error = FieldPath::parse(path).unwrap_err();
            assert!(error.contains(&format!("at character {place} ")), "{path}: {error}");
        }
    }
}
