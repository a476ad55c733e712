//! What commands print: formats of `-o`, and the colours of states on terminals.

use std::fmt::Write as _;

use gatehouse_apiservice::age::Age;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::error::PluginError;

/// Formats of `-o`, named as those of kubectl.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Objects as JSON; several as a List.
    Json,
    /// Objects as YAML; several as a List.
    Yaml,
    /// Text with more details.
    Wide,
    /// Names alone, one per line.
    Name,
}

/// The flag `-o`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct OutputArgs {
    /// Output format. Default: text for people.
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,
}

impl OutputArgs {
    pub(crate) fn is_wide(self) -> bool {
        self.output == Some(Format::Wide)
    }

    /// Whether the output is for people.
    pub(crate) fn is_text(self) -> bool {
        matches!(self.output, None | Some(Format::Wide))
    }

    /// The objects in a format for programs; none if the output is text for people.
    pub(crate) fn objects(self, objects: &[&Value]) -> Result<Option<String>, PluginError> {
        Ok(match self.output {
            None | Some(Format::Wide) => None,
            Some(Format::Json) => Some(format!("{:#}\n", list(objects))),
            Some(Format::Yaml) => Some(yaml(&list(objects))?),
            Some(Format::Name) => Some(objects.iter().map(|object| name(object) + "\n").collect()),
        })
    }
}

/// One object as it is, others as the items of a List, as kubectl prints what it was asked for by name.
fn list(objects: &[&Value]) -> Value {
    match objects {
        [object] => (*object).clone(),
        objects => json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": objects}),
    }
}

fn yaml(value: &Value) -> Result<String, PluginError> {
    serde_saphyr::to_string(value).map_err(PluginError::invalid)
}

/// `fluxresource.view.gatehouse.dev/local.kustomization.shop`, as `kubectl get -o name` prints it.
fn name(object: &Value) -> String {
    let text = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or_default();
    let group = text("/apiVersion").rsplit_once('/').map_or("", |(group, _)| group);
    let kind = text("/kind").to_lowercase();
    visible(&format!("{kind}.{group}/{}", text("/metadata/name")))
}

/// Where output goes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terminal {
    /// Whether standard output shows colours.
    pub colour: bool,
    /// Whether standard error is a terminal, which shows what happens meanwhile.
    pub live: bool,
}

impl Terminal {
    /// A state in its colour.
    pub(crate) fn state(self, state: &str) -> String {
        let code = match state {
            "Ready" => 32,
            "Failed" | "Failing" | "Stalled" | "Missing" => 31,
            "Blocked" | "Unknown" | "Terminating" => 33,
            "Progressing" | "Pending" => 36,
            _ => return visible(state),
        };
        self.paint(code, state)
    }

    /// The name of an object, which the eye looks for.
    pub(crate) fn bold(self, text: &str) -> String {
        self.paint(1, text)
    }

    fn paint(self, code: u8, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// How long ago it was, as kubectl shows ages.
pub(crate) fn age(since: Timestamp) -> Age {
    Age(Timestamp::now().as_second() - since.as_second())
}

/// Adds each line of a text with an indentation.
pub(crate) fn indent(out: &mut String, by: &str, text: &str) {
    for line in text.lines() {
        let _ = writeln!(out, "{by}{}", visible(line.trim_end()));
    }
}

/// A text without characters that a terminal would obey: messages quote what anybody may have written.
pub(crate) fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_alone() {
        let terminal = Terminal { colour: true, live: false };
        assert_eq!(terminal.state("Failed"), "\x1b[31mFailed\x1b[0m");
        assert_eq!(Terminal::default().state("Failed"), "Failed");
    }

    #[test]
    fn a_message_cannot_steer_the_terminal() {
        let mut out = String::new();
        indent(&mut out, "  ", "one\n\x1b[2Jtwo\r");
        assert_eq!(out, "  one\n  \u{fffd}[2Jtwo\n");
    }
}
