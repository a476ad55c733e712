//! Reads the parameters of a policy: the ConfigMap of `spec.paramRef`, and lists that continue there.
//!
//! **Invariant:** a rule whose parameters are missing or invalid cannot be judged, and every object that it judges
//! violates it, as with `parameterNotFoundAction: Deny` of a ValidatingAdmissionPolicy.

use gatehouse_apiservice::{dns, policy::ParamRef};
use gatehouse_inventory::expression::value_of;
use kube_cel::cel::Value as CelValue;
use serde_json::Value;

use crate::{glob::Names, rules::Errors};

/// The most entries of a list, with those of its ConfigMap.
const MOST: usize = 4096;

/// A rule, or the reason why it cannot be judged.
pub(crate) type Usable<T> = Result<T, String>;

/// The parameters that a policy is compiled with.
#[derive(Debug)]
pub(crate) struct Parameters<'a> {
    /// `NAMESPACE/NAME`; `None` if the policy has none.
    named: Option<String>,
    found: Option<&'a Value>,
}

impl<'a> Parameters<'a> {
    /// Compiles a reference. `found` is the ConfigMap, if it exists.
    pub(crate) fn compile(of: Option<&ParamRef>, found: Option<&'a Value>, errors: &mut Errors) -> Self {
        let Some(ParamRef { name, namespace }) = of else { return Self { named: None, found: None } };
        if !dns::is_subdomain(name) {
            errors.refuse("spec.paramRef.name", name, "must be the name of a ConfigMap");
        }
        if !dns::is_label(namespace) {
            errors.refuse("spec.paramRef.namespace", namespace, "must be the name of a namespace");
        }
        Self { named: Some(format!("{namespace}/{name}")), found }
    }

    /// Whether the policy has a reference.
    pub(crate) fn is_named(&self) -> bool {
        self.named.is_some()
    }

    /// The ConfigMap as `params`.
    pub(crate) fn value(&self) -> Usable<CelValue> {
        self.found().map(value_of)
    }

    fn found(&self) -> Usable<&'a Value> {
        let named = self.named.as_deref().unwrap_or_default();
        self.found.ok_or_else(|| format!("the ConfigMap {named} of spec.paramRef does not exist"))
    }

    /// The entries of a list: those of the policy, and those under `keys` of the ConfigMap. `read` parses an entry; an
    /// invalid entry of the policy is an error of the policy, and one of the ConfigMap makes the list unusable.
    pub(crate) fn list<T>(
        &self,
        field: &str,
        own: &[String],
        keys: &[String],
        errors: &mut Errors,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Usable<Vec<T>> {
        let mut entries = Vec::new();
        for (index, text) in own.iter().enumerate() {
            match read(text) {
                Ok(entry) => entries.push(entry),
                Err(why) => errors.refuse(format!("{field}[{index}]"), text, why),
            }
        }
        for (index, key) in keys.iter().enumerate() {
            let field = format!("{field}From[{index}]");
            if !is_key(key) {
                errors.refuse(field, key, "must be a key of a ConfigMap");
            } else if !self.is_named() {
                errors.refuse(field, key, "needs spec.paramRef, which names the ConfigMap");
            }
        }
        for key in keys {
            self.add(key, &mut entries, &read)?;
        }
        Ok(entries)
    }

    /// As [`list`](Self::list), for names and globs.
    pub(crate) fn names(
        &self,
        field: &str,
        own: &[String],
        keys: &[String],
        errors: &mut Errors,
    ) -> Usable<Names> {
        self.list(field, own, keys, errors, Names::read).map(Names::of)
    }

    fn add<T>(
        &self,
        key: &str,
        entries: &mut Vec<T>,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Usable<()> {
        let found = self.found()?;
        let named = self.named.as_deref().unwrap_or_default();
        let text = found.get("data").and_then(|data| data.get(key)).and_then(Value::as_str);
        let text =
            text.ok_or_else(|| format!("the ConfigMap {named} of spec.paramRef has no key {key:?}"))?;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |why: String| {
                let number = number + 1;
                let shown: String = line.chars().take(128).collect();
                format!("the ConfigMap {named} of spec.paramRef: {key} line {number}: {shown:?} {why}")
            };
            if entries.len() == MOST {
                return Err(wrong(format!("is one of more than {MOST} entries")));
            }
            entries.push(read(line).map_err(wrong)?);
        }
        Ok(())
    }
}

/// Whether it is a valid key of a ConfigMap.
fn is_key(key: &str) -> bool {
    let is_of_key = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    !key.is_empty() && key.len() <= 253 && key != "." && !key.starts_with("..") && key.bytes().all(is_of_key)
}
