//! Texts that are filled in as part of a YAML text, as Flux and the Flux operator do it: they write the whole object, put
//! values into the text, and read it again. A value may thus become a number, a list or a map.

use gatehouse_inventory::yaml::{self, At, Data, Style};

/// How sigs.k8s.io/yaml writes a text.
#[derive(Debug, PartialEq)]
enum Written {
    Plain,
    SingleQuoted,
    /// Double-quoted or a literal block: what is put in stays text.
    Other,
}

/// The value of a text after `fill` has changed it as it is written; the error says why the result is no YAML.
pub(crate) fn refilled<E: From<String>>(
    text: &str,
    style: Style,
    at: At,
    fill: impl FnOnce(&str) -> Result<String, E>,
) -> Result<Data, E> {
    let (before, after) = match written(text) {
        Written::Other => return Ok(Data::Text(fill(text)?.into(), style)),
        Written::Plain => (text.to_owned(), fill(text)?),
        Written::SingleQuoted => {
            let quoted = format!("'{}'", text.replace('\'', "''"));
            let filled = fill(&quoted)?;
            (quoted, filled)
        }
    };
    if before == after {
        return Ok(Data::Text(text.into(), style));
    }
    // A line of its own, as a value in the object.
    let mut node = yaml::load(&format!("v: {after}"), at)
        .map_err(|error| E::from(format!("{after} is no YAML: {}", error.message)))?
        .and_then(|mut map| map.remove("v"))
        .map(|entry| entry.value)
        .ok_or_else(|| E::from(format!("{after} is no YAML")))?;
    node.place(at);
    Ok(node.data)
}

fn written(text: &str) -> Written {
    let is_special = |letter: char| letter.is_control() || letter > '\u{ffff}' || letter == '\u{feff}';
    if text.contains(is_special) {
        return Written::Other;
    }
    // A text with a placeholder is never read as a number or a word.
    let is_indicated = text.starts_with(|first: char| "#,[]{}&*!|>'\"%@`".contains(first))
        || ["-", "?", ":"].iter().any(|first| {
            text.strip_prefix(first).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        })
        || text.starts_with("---")
        || text.starts_with("...");
    let is_plain = !is_indicated
        && !text.contains(": ")
        && !text.ends_with(':')
        && !text.contains(" #")
        && text.trim_matches(' ') == text;
    if is_plain { Written::Plain } else { Written::SingleQuoted }
}
