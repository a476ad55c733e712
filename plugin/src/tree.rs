//! `tree`: what an object depends on, level by level, and what it applied.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
    io::Write,
};

use serde::Deserialize;
use serde_json::Value;

use crate::{
    connection::{Connection, Location},
    error::PluginError,
    many,
    object::Target,
    output::{OutputArgs, Terminal, age, visible},
    rows::{Found, Reference, Row, Rows, ensure_observed, in_cluster},
};

/// More objects than a person reads, and as many requests twice.
const MAX_NODES: usize = 500;
const DEPENDENCIES: &str = "fluxdependencies";

/// Show what an object depends on, where its content comes from, and what it applied
///
/// Without KIND/NAME, shows the dependencies of all objects in a namespace, or with -A in all, from those on that nothing
/// depends on.
#[derive(Debug, Clone, clap::Args)]
pub struct TreeArgs {
    /// Object, for example ks/shop, hr/shop or Kustomization/flux-system/apps.
    #[arg(value_name = "KIND/NAME")]
    target: Option<Target>,
    /// Show the objects of every namespace that you may see.
    #[arg(short = 'A', long, conflicts_with = "target")]
    all_namespaces: bool,
    /// Observed cluster that the object is in. Default: the one that serves the API.
    #[arg(long, value_name = "NAME")]
    cluster_name: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

/// An object, and those below it.
struct Node {
    object: Reference,
    found: Found,
    relation: Relation,
    /// Shown in full elsewhere, or one that waits for itself.
    repeated: Option<&'static str>,
    children: Vec<Node>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Relation {
    Itself,
    Dependency,
    Source,
}

/// The part of a row of fluxdependencies that leads on.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Dependencies {
    depends_on: Vec<Reference>,
    depends_on_omitted: u32,
}

/// Reads the rows of a tree, each object once.
struct Walk<'a> {
    connection: &'a Connection,
    rows: Rows<'a>,
    cluster: String,
    shown: HashSet<Reference>,
    above: Vec<Reference>,
    /// By the names of rows in their namespaces, if all were listed.
    dependencies: Option<HashMap<(String, String), Vec<Reference>>>,
}

impl TreeArgs {
    /// Prints the tree.
    pub(crate) async fn run(
        &self,
        connection: &Connection,
        terminal: Terminal,
        out: &mut dyn Write,
    ) -> Result<(), PluginError> {
        let Some(target) = &self.target else { return self.forest(connection, terminal, out).await };
        let rows = Rows::new(connection);
        let root = rows.named(target, self.cluster_name.as_deref()).await?;
        let mut walk = Walk::new(connection, rows, root.status.cluster.clone());
        let (object, namespace, name) = (root.reference(), root.namespace.clone(), root.name.clone());
        let tree = walk.node(object, Found::Row(Box::new(root)), Relation::Itself).await?;
        let mut objects = Vec::new();
        tree.collect(&mut objects);
        if let Some(text) = self.output.objects(&objects)? {
            return Ok(out.write_all(text.as_bytes())?);
        }
        let mut line = tree.line(terminal, self.output.is_wide());
        let below = Below::of(connection, &namespace, &name).await?;
        line.children.extend(below.object.applied.iter().map(|applied| applied.line(terminal)));
        if below.omitted > 0 {
            line.children.push(Line::of(format!("… {} objects more", below.omitted)));
        }
        let mut text = String::new();
        line.print(&mut text, "", "");
        Ok(out.write_all(text.as_bytes())?)
    }

    /// Prints the trees of a namespace, or of all.
    async fn forest(
        &self,
        connection: &Connection,
        terminal: Terminal,
        out: &mut dyn Write,
    ) -> Result<(), PluginError> {
        let namespace = (!self.all_namespaces).then_some(connection.namespace.as_str());
        let mut rows = Rows::new(connection);
        let mut listed = rows.list(namespace).await?;
        let cluster = match &self.cluster_name {
            Some(cluster) => {
                if listed.iter().all(|row| row.status.cluster != *cluster) {
                    ensure_observed(connection, cluster).await?;
                }
                cluster.clone()
            }
            None => many::own_cluster(listed.iter().map(|row| &*row.status.cluster))?,
        };
        listed.retain(|row| row.status.cluster == cluster);
        rows.remember(&listed);
        let mut walk = Walk::new(connection, rows, cluster);
        walk.dependencies = Some(dependencies(connection, namespace).await?);
        let mut needed = HashSet::new();
        for row in &listed {
            needed.extend(walk.below(row).await?.into_iter().map(|(object, _)| object));
        }
        // Of what waits for itself, nothing comes first.
        let (first, rest): (Vec<_>, Vec<_>) =
            listed.into_iter().partition(|row| !needed.contains(&row.reference()));
        let (mut trees, mut omitted) = (Vec::new(), 0);
        for row in first.into_iter().chain(rest) {
            let object = row.reference();
            if walk.shown.contains(&object) {
                continue;
            }
            if walk.shown.len() >= MAX_NODES {
                omitted += 1;
                continue;
            }
            trees.push(walk.node(object, Found::Row(Box::new(row)), Relation::Itself).await?);
        }
        let mut objects = Vec::new();
        for tree in &trees {
            tree.collect(&mut objects);
        }
        if let Some(text) = self.output.objects(&objects)? {
            return Ok(out.write_all(text.as_bytes())?);
        }
        let mut text = String::new();
        for tree in &trees {
            tree.line(terminal, self.output.is_wide()).print(&mut text, "", "");
        }
        if omitted > 0 {
            let _ = writeln!(text, "… {omitted} objects more");
        }
        Ok(out.write_all(text.as_bytes())?)
    }
}

/// What the objects of a namespace depend on, or of all. Empty where the user may not read it.
async fn dependencies(
    connection: &Connection,
    namespace: Option<&str>,
) -> Result<HashMap<(String, String), Vec<Reference>>, PluginError> {
    let items = match many::items(connection, DEPENDENCIES, namespace).await {
        Err(error) if error.is_forbidden() => Vec::new(),
        items => items?,
    };
    let text =
        |item: &Value, at: &str| item.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
    let named = |item: &Value| {
        let status = Dependencies::deserialize(&item["status"]).unwrap_or_default();
        ((text(item, "/metadata/namespace"), text(item, "/metadata/name")), status.depends_on)
    };
    Ok(items.iter().map(named).collect())
}

/// What an object applied, as `fluxresources/NAME/tree` has it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Below {
    object: Entry,
    omitted: u32,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Entry {
    #[serde(flatten)]
    object: Reference,
    state: String,
    message: String,
    applied: Vec<Entry>,
}

impl Below {
    /// Empty where that is not served, or not for this user.
    async fn of(connection: &Connection, namespace: &str, name: &str) -> Result<Self, PluginError> {
        let (namespace, name, subresource) = (Some(namespace), Some(name), Some("tree"));
        let location = Location { namespace, resource: "fluxresources", name, subresource };
        match connection.get(location, &[]).await {
            Ok(tree) => Ok(Self::deserialize(&tree["status"]).unwrap_or_default()),
            Err(error)
                if error.is_forbidden() || error.is_object_missing() || error.is_resource_missing() =>
            {
                Ok(Self::default())
            }
            Err(error) => Err(error),
        }
    }
}

impl Entry {
    fn line(&self, terminal: Terminal) -> Line {
        let mut text = format!("applies {}", terminal.bold(&self.object.to_string()));
        if !self.state.is_empty() {
            let _ = write!(text, "  {}", terminal.state(&self.state));
        }
        if let Some(message) = self.message.lines().next() {
            let _ = write!(text, "  {}", visible(message));
        }
        Line { text, children: self.applied.iter().map(|applied| applied.line(terminal)).collect() }
    }
}

/// A line of the tree, with those below it.
struct Line {
    text: String,
    children: Vec<Line>,
}

impl Line {
    fn of(text: String) -> Self {
        Self { text, children: Vec::new() }
    }

    fn print(&self, out: &mut String, first: &str, rest: &str) {
        let _ = writeln!(out, "{first}{}", self.text);
        for (at, child) in self.children.iter().enumerate() {
            let (own, below) =
                if at + 1 == self.children.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            child.print(out, &format!("{rest}{own}"), &format!("{rest}{below}"));
        }
    }
}

impl<'a> Walk<'a> {
    fn new(connection: &'a Connection, rows: Rows<'a>, cluster: String) -> Self {
        Self { connection, rows, cluster, shown: HashSet::new(), above: Vec::new(), dependencies: None }
    }

    async fn node(
        &mut self,
        object: Reference,
        found: Found,
        relation: Relation,
    ) -> Result<Node, PluginError> {
        let mut node = Node { object, found, relation, repeated: None, children: Vec::new() };
        if self.above.contains(&node.object) {
            node.repeated = Some("cycle");
            return Ok(node);
        }
        let Found::Row(row) = &node.found else { return Ok(node) };
        let is_first = self.shown.insert(node.object.clone());
        let below = self.below(row).await?;
        if below.is_empty() {
            return Ok(node);
        }
        if !is_first || self.shown.len() > MAX_NODES {
            node.repeated = Some(if is_first { "…" } else { "see above" });
            return Ok(node);
        }
        self.above.push(node.object.clone());
        for (object, relation) in below {
            let found = self.rows.find(&self.cluster, &object).await?;
            node.children.push(Box::pin(self.node(object, found, relation)).await?);
        }
        self.above.pop();
        Ok(node)
    }

    /// What an object names: its dependencies, then its source.
    async fn below(&self, row: &Row) -> Result<Vec<(Reference, Relation)>, PluginError> {
        let dependencies = self.dependencies_of(row).await?.into_iter();
        let dependencies = dependencies.map(|object| (object, Relation::Dependency));
        let source = row.status.source.clone().map(|object| (object, Relation::Source));
        Ok(dependencies.chain(source).collect())
    }

    async fn dependencies_of(&self, row: &Row) -> Result<Vec<Reference>, PluginError> {
        if let Some(known) = &self.dependencies {
            return Ok(known.get(&(row.namespace.clone(), row.name.clone())).cloned().unwrap_or_default());
        }
        let (namespace, name) = (Some(row.namespace.as_str()), Some(row.name.as_str()));
        let location = Location { namespace, resource: DEPENDENCIES, name, subresource: None };
        // An object without dependencies and dependents has no row.
        match self.connection.get(location, &[]).await {
            Ok(object) => Ok(Dependencies::deserialize(&object["status"]).unwrap_or_default().depends_on),
            Err(error) if error.is_object_missing() || error.is_forbidden() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

impl Node {
    fn collect<'a>(&'a self, objects: &mut Vec<&'a Value>) {
        if let Found::Row(row) = &self.found
            && self.repeated.is_none()
        {
            objects.push(&row.object);
        }
        self.children.iter().for_each(|child| child.collect(objects));
    }

    fn line(&self, terminal: Terminal, wide: bool) -> Line {
        let source = if self.relation == Relation::Source { "source " } else { "" };
        let cluster = match &self.found {
            Found::Row(row) if self.relation == Relation::Itself => in_cluster(&row.status.cluster),
            _ => String::new(),
        };
        let mut text = format!("{source}{}{cluster}  ", terminal.bold(&self.object.to_string()));
        match &self.found {
            Found::Row(row) => {
                text.push_str(&terminal.state(&row.status.state));
                if let (Some(since), false) = (row.status.since, row.is_ready() && !wide) {
                    let _ = write!(text, " {}", age(since));
                }
                let message = row.status.message.lines().next().unwrap_or_default();
                // What waits says only that it waits.
                if !message.is_empty() && self.repeated.is_none() && (wide || says_why(row)) {
                    let _ = write!(text, "  {}", visible(message));
                }
            }
            Found::Missing => text.push_str(&terminal.state("Missing")),
            Found::Forbidden => text.push_str("(forbidden)"),
        }
        if let Some(repeated) = self.repeated {
            let _ = write!(text, "  ({repeated})");
        }
        Line { text, children: self.children.iter().map(|child| child.line(terminal, wide)).collect() }
    }
}

/// Whether an object failed for a reason of its own.
fn says_why(row: &Row) -> bool {
    row.status.blocked_by.is_none()
        && matches!(&*row.status.state, "Failing" | "Failed" | "Stalled" | "Unknown")
}
