//! `quota`: what is left of the limits of a tenant.

use std::io::Write;
use std::path::PathBuf;

use gatehouse_apiservice::quantity::Quantity;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    connection::{Connection, Location},
    error::{PluginError, exit},
    fit,
    output::OutputArgs,
    table::align,
};

/// Show what is used and what is left of TenantQuotas
///
/// Shows every limit of the TenantQuotas that apply to the namespace, the tightest first; with -A, of all that there are.
/// What is used and left is that of all namespaces of the tenant.
///
/// With --fit, says whether the objects of a file would fit into the quotas over the namespace, and creates nothing.
#[derive(Debug, Clone, clap::Args)]
pub struct QuotaArgs {
    /// TenantQuotas to show. Default: all.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Show TenantQuotas of all namespaces, which needs the right to read tenantusages.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Exit with 3 if nothing is left of a limit, or if the objects do not fit.
    #[arg(long)]
    exit_code: bool,
    /// Say whether the objects of --filename would fit. Needs rights in the namespace only.
    #[arg(long, requires = "filename", conflicts_with = "all_namespaces")]
    fit: bool,
    /// A file with the objects, YAML or JSON; - is standard input.
    #[arg(short, long, requires = "fit", value_name = "FILE")]
    filename: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

/// The part of a tenantusage or appliedtenantquota that is printed.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Usage {
    limits: Vec<Limit>,
    enforcement: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Limit {
    name: String,
    hard: String,
    used: Option<String>,
    used_here: Option<String>,
    reserved: Option<String>,
    percent: Option<i64>,
}

impl QuotaArgs {
    /// Prints the limits.
    pub(crate) async fn run(&self, connection: &Connection, out: &mut dyn Write) -> Result<u8, PluginError> {
        if let Some(file) = &self.filename {
            let answers = fit::ask(connection, &self.names, file).await?;
            let objects: Vec<&Value> = answers.objects.iter().collect();
            let text = self.output.objects(&objects)?.unwrap_or_else(|| answers.text());
            out.write_all(text.as_bytes())?;
            return Ok(if self.exit_code && !answers.fit() { exit::NOT_READY } else { exit::OK });
        }
        let (resource, namespace) = if self.all_namespaces {
            ("tenantusages", None)
        } else {
            ("appliedtenantquotas", Some(&*connection.namespace))
        };
        let all = Location { namespace, resource, ..Location::default() };
        let usages: Vec<Value> = if self.names.is_empty() {
            let mut list = connection.get(all, &[]).await?;
            list["items"].as_array_mut().map(std::mem::take).unwrap_or_default()
        } else {
            let mut usages = Vec::new();
            for name in &self.names {
                usages.push(connection.get(Location { name: Some(name), ..all }, &[]).await?);
            }
            usages
        };
        let limits: Vec<(&str, Usage)> = usages
            .iter()
            .map(|usage| {
                let name = usage.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
                (name, Usage::deserialize(&usage["status"]).unwrap_or_default())
            })
            .collect();
        let mut all = limits.iter().flat_map(|(_, usage)| &usage.limits);
        let is_used_up = all.any(|limit| limit.left().is_some_and(|left| left <= Quantity::ZERO));
        let code = if self.exit_code && is_used_up { exit::NOT_READY } else { exit::OK };
        let objects: Vec<&Value> = usages.iter().collect();
        let text = self.output.objects(&objects)?;
        let text = text.unwrap_or_else(|| match namespace {
            Some(namespace) if limits.is_empty() => {
                format!("No TenantQuota applies to namespace {namespace}: -A shows those of others\n")
            }
            _ => text_of(&limits, self.output.is_wide()),
        });
        out.write_all(text.as_bytes())?;
        Ok(code)
    }
}

impl Limit {
    /// What may still be created; below zero if the limit is exceeded. None while the usage is unknown.
    fn left(&self) -> Option<Quantity> {
        let quantity = |text: &str| text.parse::<Quantity>().ok();
        let reserved = self.reserved.as_deref().and_then(quantity).unwrap_or(Quantity::ZERO);
        let free = quantity(&self.hard)?.checked_sub(quantity(self.used.as_deref()?)?)?;
        free.checked_sub(reserved)
    }
}

fn text_of(usages: &[(&str, Usage)], wide: bool) -> String {
    if usages.is_empty() {
        return "No TenantQuotas found\n".to_owned();
    }
    let mut headings = vec!["QUOTA", "LIMIT", "USED", "HARD", "LEFT", "PERCENT"];
    let is_of_namespace =
        usages.iter().flat_map(|(_, usage)| &usage.limits).any(|limit| limit.used_here.is_some());
    if is_of_namespace {
        headings.push("USED-HERE");
    }
    if wide {
        headings.extend(["RESERVED", "ENFORCEMENT"]);
    }
    let mut lines: Vec<Vec<String>> = vec![headings.into_iter().map(ToOwned::to_owned).collect()];
    for (name, usage) in usages {
        lines.extend(usage.limits.iter().map(|limit| {
            let unknown = || "?".to_owned();
            let mut cells = vec![
                (*name).to_owned(),
                limit.name.clone(),
                limit.used.clone().unwrap_or_else(unknown),
                limit.hard.clone(),
                limit.left().map_or_else(unknown, |left| left.to_string()),
                limit.percent.map(|percent| format!("{percent}%")).unwrap_or_default(),
            ];
            if is_of_namespace {
                cells.push(limit.used_here.clone().unwrap_or_else(unknown));
            }
            if wide {
                cells.extend([limit.reserved.clone().unwrap_or_default(), usage.enforcement.clone()]);
            }
            cells
        }));
    }
    align(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(hard: &str, used: Option<&str>, reserved: Option<&str>) -> Limit {
        let owned = |text: Option<&str>| text.map(ToOwned::to_owned);
        Limit { hard: hard.to_owned(), used: owned(used), reserved: owned(reserved), ..Limit::default() }
    }

    #[test]
    fn what_is_left_is_neither_used_nor_reserved() {
        let left = |limit: Limit| limit.left().map(|left| left.to_string());
        assert_eq!(left(limit("80", Some("78"), Some("1"))).as_deref(), Some("1"));
        assert_eq!(left(limit("4Gi", Some("1Gi"), None)).as_deref(), Some("3Gi"));
        assert_eq!(left(limit("3", Some("4"), None)).as_deref(), Some("-1"));
        assert_eq!(left(limit("3", None, None)), None);
    }
}
