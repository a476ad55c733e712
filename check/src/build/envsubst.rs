//! Evaluates `${…}` in a text as Flux does, with its fork of drone/envsubst.
//!
//! **Invariant:** What Flux refuses is an error; an expression that depends on an unknown variable stays as it is
//! written.

use super::substitute::Variables;

/// The text with the values of its expressions; the error says why Flux refuses the text.
pub(super) fn evaluate(text: &str, variables: &Variables) -> Result<String, &'static str> {
    let mut scanner = Scanner { text, at: 0, variables };
    let mut filled = String::with_capacity(text.len());
    while let Some(letter) = scanner.next() {
        match letter {
            '$' if scanner.takes('$') => filled.push('$'),
            '$' if scanner.takes('{') => {
                let start = scanner.at - "${".len();
                match scanner.expression()? {
                    Some(value) => filled.push_str(&value),
                    None => filled.push_str(&text[start..scanner.at]),
                }
            }
            letter => filled.push(letter),
        }
    }
    Ok(filled)
}

const UNENDED: &str = "missing closing brace";
const NO_PARAMETER: &str = "unable to parse substitution within function";
const BAD: &str = "bad substitution";

/// Patterns are tried at each letter.
const MOST_TRIMMED: usize = 1024;

/// A value; `None` if it depends on an unknown variable.
type Known = Option<String>;

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    variables: &'a Variables,
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let letter = self.peek()?;
        self.at += letter.len_utf8();
        Some(letter)
    }

    fn takes(&mut self, letter: char) -> bool {
        let is_next = self.peek() == Some(letter);
        if is_next {
            self.at += letter.len_utf8();
        }
        is_next
    }

    /// Takes letters while they fit, `most` at most.
    fn take(&mut self, fits: impl Fn(char) -> bool, most: usize) -> &'a str {
        let rest = self.rest();
        let end: usize = rest.chars().take(most).take_while(|letter| fits(*letter)).map(char::len_utf8).sum();
        self.at += end;
        &rest[..end]
    }

    fn close(&mut self) -> Result<(), &'static str> {
        if self.takes('}') { Ok(()) } else { Err(UNENDED) }
    }

    fn name(&mut self) -> &'a str {
        self.take(|letter| letter.is_alphanumeric() || letter == '_', usize::MAX)
    }

    /// An expression, after its `${`.
    fn expression(&mut self) -> Result<Known, &'static str> {
        if self.takes('#') {
            let name = self.name();
            if name.is_empty() {
                return Err(BAD);
            }
            self.close()?;
            return Ok(self.variables.value(name).map(|value| value.len().to_string()));
        }
        let name = self.name();
        if name.is_empty() {
            return Err("unable to parse variable name");
        }
        let (operator, arguments) = self.operation()?;
        let value = self.variables.value(name);
        Ok(match operator {
            Operator::Default => match value {
                Some("") => arguments.into_iter().collect::<Option<Vec<_>>>().map(|all| all.concat()),
                value => value.map(str::to_owned),
            },
            operator => value
                .zip(arguments.into_iter().collect::<Option<Vec<_>>>())
                .and_then(|(value, arguments)| operator.apply(value, &arguments)),
        })
    }

    /// What follows the name, with the closing brace.
    fn operation(&mut self) -> Result<(Operator, Vec<Known>), &'static str> {
        let rest = self.rest();
        let mut arguments = Vec::new();
        let operator = match self.peek() {
            Some(':') if rest[1..].starts_with(['=', '-', '?', '+']) => {
                self.at += 2;
                return self.default();
            }
            Some('=') => {
                self.at += 1;
                return self.default();
            }
            Some(':') => {
                self.at += 1;
                arguments.push(self.argument(|letter| letter != ':' && letter != '}', false)?);
                if self.takes('}') {
                    return Ok((Operator::Part, arguments));
                }
                if self.take(|letter| letter == ':', usize::MAX).is_empty() {
                    return Err(BAD);
                }
                arguments.push(self.argument(|letter| letter != '}', false)?);
                Operator::Part
            }
            Some(',' | '^') => match self.take(|letter| matches!(letter, ',' | '^'), 2) {
                "," => Operator::LowerFirst,
                ",," => Operator::Lower,
                "^" => Operator::UpperFirst,
                "^^" => Operator::Upper,
                _ => Operator::Same,
            },
            Some('/') => {
                self.at += 1;
                let operator = match self.peek() {
                    Some('/') => Operator::ReplaceAll,
                    Some('#') => Operator::ReplacePrefix,
                    Some('%') => Operator::ReplaceSuffix,
                    _ => Operator::ReplaceFirst,
                };
                if operator != Operator::ReplaceFirst {
                    self.at += 1;
                }
                arguments.push(self.argument(|letter| letter != '/', true)?);
                if self.take(|letter| letter == '/', usize::MAX).is_empty() {
                    return Err(BAD);
                }
                if self.peek() != Some('}') {
                    arguments.push(self.argument(|letter| letter != '}', true)?);
                }
                operator
            }
            Some(trimmed @ ('#' | '%')) => {
                let is_long = self.take(|letter| letter == trimmed, 2).len() == 2;
                arguments.push(self.argument(|letter| letter != '}', false)?);
                Operator::Trim { is_long, at_end: trimmed == '%' }
            }
            _ => Operator::Same,
        };
        self.close()?;
        Ok((operator, arguments))
    }

    /// The default value: texts and expressions up to the brace.
    fn default(&mut self) -> Result<(Operator, Vec<Known>), &'static str> {
        let mut arguments = Vec::new();
        while !self.takes('}') {
            arguments.push(self.argument(|letter| letter != '}', false)?);
        }
        Ok((Operator::Default, arguments))
    }

    /// One expression, or a text that is not empty. `escapes`: whether `$$`, `\/` and `\\` stand for their second letter.
    fn argument(&mut self, fits: impl Fn(char) -> bool, escapes: bool) -> Result<Known, &'static str> {
        if self.rest().starts_with("${") {
            self.at += 2;
            return self.expression();
        }
        let mut text = String::new();
        while let Some(letter) = self.peek() {
            let rest = self.rest();
            if rest.starts_with("${") {
                break;
            }
            if escapes && ["$$", "\\/", "\\\\"].iter().any(|escaped| rest.starts_with(escaped)) {
                self.at += 1;
                text.extend(self.next());
            } else if fits(letter) {
                self.at += letter.len_utf8();
                text.push(letter);
            } else {
                break;
            }
        }
        if text.is_empty() { Err(NO_PARAMETER) } else { Ok(Some(text)) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    /// All operators that look like defaults are one: `:+` and `:?` too.
    Default,
    Same,
    Lower,
    LowerFirst,
    Upper,
    UpperFirst,
    Part,
    ReplaceFirst,
    ReplaceAll,
    ReplacePrefix,
    ReplaceSuffix,
    Trim {
        is_long: bool,
        at_end: bool,
    },
}

impl Operator {
    /// `None` if the result is not text, or takes a pattern that is not known here.
    fn apply(self, value: &str, arguments: &[String]) -> Option<String> {
        let first = |change: fn(char) -> String| {
            let mut letters = value.chars();
            letters.next().map(change).unwrap_or_default() + letters.as_str()
        };
        let (one, two) = (arguments.first().map(String::as_str), arguments.get(1).map(String::as_str));
        let or_empty = two.unwrap_or_default();
        Some(match self {
            Self::Same | Self::Default => value.to_owned(),
            Self::Lower => value.to_lowercase(),
            Self::Upper => value.to_uppercase(),
            Self::LowerFirst => first(|letter| letter.to_lowercase().collect()),
            Self::UpperFirst => first(|letter| letter.to_uppercase().collect()),
            Self::ReplaceFirst => value.replacen(one?, or_empty, 1),
            Self::ReplaceAll => value.replace(one?, or_empty),
            Self::ReplacePrefix => match value.strip_prefix(one?).zip(two) {
                Some((rest, new)) => format!("{new}{rest}"),
                None => value.to_owned(),
            },
            Self::ReplaceSuffix => match value.strip_suffix(one?).zip(two) {
                Some((rest, new)) => format!("{rest}{new}"),
                None => value.to_owned(),
            },
            Self::Part => return part(value, one?, two).map(str::to_owned),
            Self::Trim { is_long, at_end } => {
                let pattern = one?;
                let is_costly = pattern.matches('*').count() > 3 || value.len() > MOST_TRIMMED;
                if pattern.contains(['[', '\\']) || is_costly {
                    return None;
                }
                let mut ends: Vec<usize> =
                    value.char_indices().map(|(at, _)| at).chain([value.len()]).collect();
                // The longest match first: from the other end of the text.
                if is_long != at_end {
                    ends.reverse();
                }
                let pattern: Vec<char> = pattern.chars().collect();
                let cut = |at: usize| {
                    if at_end { (&value[at..], &value[..at]) } else { (&value[..at], &value[at..]) }
                };
                let parts = ends.into_iter().map(cut).filter(|(taken, _)| !taken.is_empty());
                let found = parts
                    .into_iter()
                    .find(|(taken, _)| matches(&pattern, &taken.chars().collect::<Vec<_>>()));
                found.map_or(value, |(_, rest)| rest).to_owned()
            }
        })
    }
}

/// `${name:position:length}`, in bytes. What is no number changes nothing.
fn part<'a>(value: &'a str, position: &str, length: Option<&str>) -> Option<&'a str> {
    let Ok(position) = position.parse::<i64>() else { return Some(value) };
    let size = i64::try_from(value.len()).ok()?;
    let start = if position < 0 { (size + position).max(0) } else { position.min(size) };
    let end = match length.map(str::parse::<i64>) {
        None => size,
        Some(Err(_)) => return Some(value),
        Some(Ok(length)) => start.saturating_add(length).min(size),
    };
    value.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
}

/// Whether a pattern of `*` and `?` takes the whole text.
fn matches(pattern: &[char], text: &[char]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some(('*', rest)), _) => (0..=text.len()).any(|skipped| matches(rest, &text[skipped..])),
        (Some(('?', pattern)), Some((_, text))) => matches(pattern, text),
        (Some((wanted, pattern)), Some((letter, text))) if wanted == letter => matches(pattern, text),
        _ => false,
    }
}
