//! The fields of an object that are read.

/// The fields of an object that are read, as a tree.
///
/// It is built from paths: names separated by dots, `[]` after the name of a list for each of its elements, `*` for all
/// names of a map, `@` for all names of annotations that [are kept](crate::is_kept_annotation). The value at the end of
/// a path is read if it is a text, number, boolean or null; a map or list there is read as an empty one. A path that
/// ends with `**` includes everything below, and a leading `-` excludes a field from a `*`.
#[derive(Debug, Clone)]
pub struct Shape(pub(crate) Node);

#[derive(Debug, Clone)]
pub(crate) enum Node {
    /// Skipped.
    Skip,
    /// Read if it is neither a map nor a list.
    Scalar,
    /// Read completely.
    All,
    /// Some parts are read.
    Within(Box<Within>),
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Within {
    named: Vec<(&'static str, Node)>,
    /// The node for names that are not in `named`.
    others: Option<Node>,
    /// The node for names that are not in `named` and are kept annotations.
    kept: Option<Node>,
    pub(crate) each: Option<Node>,
}

#[derive(Clone, Copy)]
enum Step {
    Name(&'static str),
    Others,
    Kept,
    Each,
}

impl Shape {
    /// The shape with these paths.
    pub fn new(paths: &[&'static str]) -> Self {
        Self(Node::Skip).and(paths)
    }

    /// Adds paths to the shape.
    #[must_use]
    pub fn and(mut self, paths: &[&'static str]) -> Self {
        for path in paths {
            let (path, end) = match (path.strip_prefix('-'), path.strip_suffix(".**")) {
                (Some(path), _) => (path, Node::Skip),
                (None, Some(path)) => (path, Node::All),
                (None, None) => (*path, Node::Scalar),
            };
            self.0.add(&steps(path), end);
        }
        self
    }

    /// Whether the shape includes a place, given as the names of fields, and `[]` for an element of a list.
    pub fn covers<'p>(&self, place: impl IntoIterator<Item = &'p str>) -> bool {
        let mut node = &self.0;
        for step in place {
            node = match node {
                Node::All => return true,
                Node::Skip | Node::Scalar => return false,
                Node::Within(within) if step == "[]" => within.each.as_ref().unwrap_or(&Node::Skip),
                Node::Within(within) => within.of(step),
            };
        }
        !matches!(node, Node::Skip)
    }
}

fn steps(path: &'static str) -> Vec<Step> {
    let mut steps = Vec::new();
    for part in path.split('.') {
        let name = part.trim_end_matches("[]");
        steps.push(match name {
            "*" => Step::Others,
            "@" => Step::Kept,
            name => Step::Name(name),
        });
        steps.extend((0..(part.len() - name.len()) / 2).map(|_| Step::Each));
    }
    steps
}

impl Node {
    fn add(&mut self, steps: &[Step], end: Node) {
        let Some((first, rest)) = steps.split_first() else {
            match (&*self, &end) {
                (Node::All, _) | (Node::Within(_), Node::Scalar) => {}
                _ => *self = end,
            }
            return;
        };
        if matches!(self, Node::All) {
            return;
        }
        if !matches!(self, Node::Within(_)) {
            *self = Node::Within(Box::default());
        }
        let Node::Within(within) = self else { return };
        let next = match first {
            Step::Others => within.others.get_or_insert(Node::Skip),
            Step::Kept => within.kept.get_or_insert(Node::Skip),
            Step::Each => within.each.get_or_insert(Node::Skip),
            Step::Name(name) => {
                let known = within.named.iter().position(|(known, _)| known == name);
                let index = known.unwrap_or_else(|| {
                    within.named.push((name, Node::Skip));
                    within.named.len() - 1
                });
                &mut within.named[index].1
            }
        };
        next.add(rest, end);
    }
}

impl Within {
    /// The node for the field `name`.
    pub(crate) fn of(&self, name: &str) -> &Node {
        let named = self.named.iter().find(|(known, _)| *known == name).map(|(_, node)| node);
        named
            .or(self.kept.as_ref().filter(|_| crate::is_kept_annotation(name)))
            .or(self.others.as_ref())
            .unwrap_or(&Node::Skip)
    }

    /// Whether any field of a map here is read.
    pub(crate) fn has_names(&self) -> bool {
        !self.named.is_empty() || self.others.is_some() || self.kept.is_some()
    }
}
