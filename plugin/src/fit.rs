//! `quota --fit`: whether the objects of a file would fit into the quotas of a namespace.

use std::{fmt::Write, io::Read, path::Path};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    connection::{Connection, Location},
    error::PluginError,
    output::visible,
    table::align,
};

const RESOURCE: &str = "appliedtenantquotas";

/// The part of a QuotaFit that is printed.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Fit {
    fits: bool,
    limits: Vec<Limit>,
    must_specify: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Limit {
    name: String,
    hard: String,
    used: Option<String>,
    requested: String,
    fits: Option<bool>,
}

/// What the quotas of a namespace answer.
pub(crate) struct Answers {
    /// As the server sent them.
    pub(crate) objects: Vec<Value>,
    fits: Vec<(String, Fit)>,
}

/// Asks the quotas over the namespace of the connection, or those that are named, about the objects of a file.
pub(crate) async fn ask(
    connection: &Connection,
    names: &[String],
    file: &Path,
) -> Result<Answers, PluginError> {
    let objects = objects(&text(file)?, &connection.namespace)?;
    let namespace = Some(&*connection.namespace);
    let all = Location { namespace, resource: RESOURCE, ..Location::default() };
    let mut names = names.to_vec();
    if names.is_empty() {
        let list = connection.get(all, &[]).await?;
        let items = list["items"].as_array().into_iter().flatten();
        names.extend(items.filter_map(|item| Some(item.pointer("/metadata/name")?.as_str()?.to_owned())));
    }
    let mut answers = Answers { objects: Vec::new(), fits: Vec::new() };
    for name in names {
        let location = Location { name: Some(&name), subresource: Some("fit"), ..all };
        let answer = connection.create(location, &[], &objects).await?;
        let fit = Fit::deserialize(&answer["status"]).unwrap_or_default();
        answers.objects.push(answer);
        answers.fits.push((name, fit));
    }
    Ok(answers)
}

fn text(file: &Path) -> Result<String, PluginError> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).map(drop)
    } else {
        std::fs::read_to_string(file).map(|read| text = read)
    };
    read.map_err(|error| PluginError::invalid(format!("cannot read {}: {error}", file.display())))?;
    Ok(text)
}

/// A List of the objects of YAML or JSON, of several documents too. Nothing is limited where no quota is, so that what
/// is of another namespace, or is nothing, must not be asked about.
fn objects(text: &str, namespace: &str) -> Result<Value, PluginError> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)
        .map_err(|error| PluginError::invalid(format!("the file cannot be read as YAML: {error}")))?;
    let mut items = Vec::new();
    for mut document in documents {
        if let Some(listed) = document.get_mut("items").and_then(Value::as_array_mut) {
            items.append(listed);
        } else if !document.is_null() {
            items.push(document);
        }
    }
    if items.is_empty() {
        return Err(PluginError::invalid("the file has no objects"));
    }
    for (index, item) in items.iter().enumerate() {
        let text = |at: &str| item.pointer(at).and_then(Value::as_str).map(visible).unwrap_or_default();
        let (kind, name, own) = (text("/kind"), text("/metadata/name"), text("/metadata/namespace"));
        if !item.is_object() {
            return Err(PluginError::invalid(format!("items[{index}] of the file is not an object")));
        }
        if !own.is_empty() && own != namespace {
            let why = format!(
                "items[{index}]: {kind}/{name} is of namespace {own}, and the quotas over {namespace} are asked: \
                 name its namespace with -n"
            );
            return Err(PluginError::invalid(why));
        }
    }
    Ok(json!({"apiVersion": "v1", "kind": "List", "items": items}))
}

impl Answers {
    pub(crate) fn fit(&self) -> bool {
        self.fits.iter().all(|(_, fit)| fit.fits)
    }

    pub(crate) fn text(&self) -> String {
        if self.fits.is_empty() {
            return "No TenantQuotas found: nothing is limited\n".to_owned();
        }
        let headings = ["QUOTA", "LIMIT", "REQUESTED", "USED", "HARD", "FITS"];
        let mut lines = vec![headings.map(ToOwned::to_owned).to_vec()];
        let mut must_specify = String::new();
        for (name, fit) in &self.fits {
            lines.extend(fit.limits.iter().map(|limit| {
                let fits = match limit.fits {
                    Some(true) => "yes",
                    Some(false) => "no",
                    None => "?",
                };
                let used = limit.used.clone().unwrap_or_else(|| "?".to_owned());
                let cells = [name, &limit.name, &limit.requested, &used, &limit.hard, fits];
                cells.map(ToOwned::to_owned).to_vec()
            }));
            for what in &fit.must_specify {
                // Writing to a string cannot fail.
                let _ = writeln!(must_specify, "{name} requires: {}", visible(what));
            }
        }
        align(&lines) + &must_specify
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_and_lists_become_one_list() {
        let text = "kind: A\n---\n---\nkind: List\nitems: [{kind: B}, {kind: C}]\n";
        let objects = |text: &str| super::objects(text, "games-eu");
        let kinds: Vec<_> = objects(text).unwrap()["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["kind"].clone())
            .collect();
        assert_eq!(kinds, ["A", "B", "C"]);
        assert_eq!(objects(r#"{"kind": "A"}"#).unwrap()["items"][0]["kind"], "A");
        for (text, why) in [
            ("a: [", "cannot be read as YAML"),
            ("", "has no objects"),
            ("---\n---\n", "has no objects"),
            ("kind: List\nitems: []\n", "has no objects"),
            ("hello", "items[0] of the file is not an object"),
            ("kind: A\nmetadata: {name: a, namespace: games-us}", "A/a is of namespace games-us"),
        ] {
            let error = objects(text).expect_err(text).to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn what_does_not_fit_is_shown_with_its_limit() {
        let status = json!({"fits": false, "mustSpecify": ["fleets \"a\": limits.cpu for: game"], "limits": [
            {"name": "gameservers", "hard": "8", "used": "7", "requested": "5", "fits": false},
            {"name": "players", "hard": "8", "requested": "0"},
        ]});
        let fits = vec![("arena".to_owned(), Fit::deserialize(&status).unwrap())];
        let answers = Answers { objects: Vec::new(), fits };
        assert!(!answers.fit());
        let text = answers.text();
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[1], ["arena", "gameservers", "5", "7", "8", "no"]);
        assert_eq!(rows[2], ["arena", "players", "0", "?", "8", "?"]);
        assert_eq!(text.lines().last(), Some("arena requires: fleets \"a\": limits.cpu for: game"));
    }
}
