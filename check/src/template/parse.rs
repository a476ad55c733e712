//! Parses a template into pieces, and the expressions in its actions.

use serde_json::Value;

/// A part of a template.
#[derive(Debug)]
pub(super) enum Piece {
    /// Text, and the line that it begins on.
    Text(String, u32),
    Print(Pipeline, u32),
    /// `$name := …`, or `$name = …` if it is declared already.
    Set {
        name: String,
        declares: bool,
        value: Pipeline,
    },
    If {
        condition: Pipeline,
        then: Vec<Piece>,
        otherwise: Vec<Piece>,
    },
    With {
        value: Pipeline,
        name: Option<String>,
        then: Vec<Piece>,
        otherwise: Vec<Piece>,
    },
    Range {
        names: Vec<String>,
        over: Pipeline,
        body: Vec<Piece>,
        otherwise: Vec<Piece>,
    },
}

/// Commands, each with the result of the one before as its last argument.
pub(super) type Pipeline = Vec<Vec<Operand>>;

/// A value or function, and the fields that are taken of it.
#[derive(Debug)]
pub(super) struct Operand {
    pub(super) base: Base,
    pub(super) fields: Vec<String>,
}

#[derive(Debug)]
pub(super) enum Base {
    Dot,
    Variable(String),
    Function(String),
    Literal(Value),
    Pipeline(Pipeline),
}

/// What a block ends with.
#[derive(Debug, PartialEq)]
enum Terminator {
    Template,
    End,
    /// With what follows the word.
    Else(String),
}

/// Blocks within blocks.
const MAX_DEPTH: usize = 50;

pub(super) struct Parser<'a> {
    rest: &'a str,
    line: u32,
    depth: usize,
}

impl<'a> Parser<'a> {
    pub(super) fn parse(template: &'a str) -> Result<Vec<Piece>, String> {
        let mut parser = Parser { rest: template, line: 0, depth: 0 };
        let (pieces, end) = parser.block()?;
        if end == Terminator::Template { Ok(pieces) } else { Err("an end without a beginning".to_owned()) }
    }

    /// The next text and action.
    fn next(&mut self) -> Result<(String, u32, Option<String>), String> {
        let start = self.line;
        let Some((text, after)) = self.rest.split_once("<<") else {
            let text = std::mem::take(&mut self.rest);
            return Ok((text.to_owned(), start, None));
        };
        self.count(text);
        let is_space = |letter: char| matches!(letter, ' ' | '\t' | '\r' | '\n');
        let trims_before = after.starts_with('-') && after[1..].starts_with(is_space);
        let text = if trims_before { text.trim_end_matches(is_space) } else { text };
        let end = action_end(after).ok_or("an action without an end")?;
        let action = &after[usize::from(trims_before)..end];
        let trims_after = action.ends_with('-') && action[..action.len() - 1].ends_with(is_space);
        let bare = if trims_after { &action[..action.len() - 1] } else { action };
        self.count(&after[..end]);
        self.rest = &after[end + 2..];
        if trims_after {
            let rest = self.rest.trim_start_matches(is_space);
            let skipped = &self.rest[..self.rest.len() - rest.len()];
            self.count(skipped);
            self.rest = rest;
        }
        Ok((text.to_owned(), start, Some(bare.trim_matches(is_space).to_owned())))
    }

    fn count(&mut self, text: &str) {
        self.line += u32::try_from(text.matches('\n').count()).unwrap_or(u32::MAX);
    }

    /// The pieces up to the end of the block.
    fn block(&mut self) -> Result<(Vec<Piece>, Terminator), String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("blocks are nested too deeply".to_owned());
        }
        let mut pieces = Vec::new();
        let end = loop {
            let (text, line, action) = self.next()?;
            if !text.is_empty() {
                pieces.push(Piece::Text(text, line));
            }
            let Some(action) = action else { break Terminator::Template };
            if action.starts_with("/*") {
                continue;
            }
            let (word, rest) = action.split_once([' ', '\t', '\n']).unwrap_or((&action, ""));
            match word {
                "end" => break Terminator::End,
                "else" => break Terminator::Else(rest.trim().to_owned()),
                "if" => pieces.push(self.condition(rest)?),
                "with" => {
                    let (mut names, value) = declared(rest)?;
                    let (then, otherwise) = self.branches()?;
                    pieces.push(Piece::With { value, name: names.pop(), then, otherwise });
                }
                "range" => {
                    let (names, over) = declared(rest)?;
                    let (body, otherwise) = self.branches()?;
                    pieces.push(Piece::Range { names, over, body, otherwise });
                }
                "define" | "template" | "block" | "break" | "continue" => {
                    return Err(format!("{word} is not supported"));
                }
                _ => pieces.push(statement(&action, self.line)?),
            }
        };
        self.depth -= 1;
        Ok((pieces, end))
    }

    fn condition(&mut self, rest: &str) -> Result<Piece, String> {
        let (names, condition) = declared(rest)?;
        if !names.is_empty() {
            return Err("a variable of a condition is not supported".to_owned());
        }
        let (then, otherwise) = self.branches()?;
        Ok(Piece::If { condition, then, otherwise })
    }

    /// The pieces of both branches, with the end.
    fn branches(&mut self) -> Result<(Vec<Piece>, Vec<Piece>), String> {
        let (then, end) = self.block()?;
        let otherwise = match end {
            Terminator::End => Vec::new(),
            Terminator::Else(rest) if rest.is_empty() => match self.block()? {
                (pieces, Terminator::End) => pieces,
                _ => return Err("a block without an end".to_owned()),
            },
            Terminator::Else(rest) => {
                let rest = rest.strip_prefix("if ").ok_or("else takes if alone here")?;
                vec![self.condition(rest)?]
            }
            Terminator::Template => return Err("a block without an end".to_owned()),
        };
        Ok((then, otherwise))
    }
}

/// Where an action ends: quoted texts may hold `>>`.
fn action_end(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut is_escaped = false;
    for (at, letter) in text.char_indices() {
        match quote {
            Some(mark) if letter == mark && !is_escaped => quote = None,
            Some('"') => is_escaped = letter == '\\' && !is_escaped,
            None if letter == '"' || letter == '`' => quote = Some(letter),
            None if text[at..].starts_with(">>") => return Some(at),
            Some(_) | None => {}
        }
    }
    None
}

/// `$a, $b := pipeline`, or a pipeline alone.
fn declared(text: &str) -> Result<(Vec<String>, Pipeline), String> {
    let (names, text) = match text.split_once(":=") {
        Some((names, rest)) if names.trim_start().starts_with('$') => (names, rest),
        _ => ("", text),
    };
    let names = names.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned);
    let mut lexer = Lexer { rest: text, depth: 0 };
    let pipeline = lexer.pipeline()?;
    if lexer.rest.trim().is_empty() {
        Ok((names.collect(), pipeline))
    } else {
        Err(format!("{text:?} is not supported"))
    }
}

fn statement(action: &str, line: u32) -> Result<Piece, String> {
    let name = action.split([' ', '\t', '=', ':']).next().filter(|name| name.starts_with('$'));
    if let Some(name) = name {
        let rest = action[name.len()..].trim_start();
        let assigned = rest.strip_prefix(":=").map(|rest| (true, rest));
        if let Some((declares, rest)) = assigned.or_else(|| rest.strip_prefix('=').map(|rest| (false, rest)))
        {
            let (_, value) = declared(rest)?;
            return Ok(Piece::Set { name: name.to_owned(), declares, value });
        }
    }
    let (_, value) = declared(action)?;
    Ok(Piece::Print(value, line))
}

struct Lexer<'a> {
    rest: &'a str,
    depth: usize,
}

impl<'a> Lexer<'a> {
    fn pipeline(&mut self) -> Result<Pipeline, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("parentheses are nested too deeply".to_owned());
        }
        let mut commands = vec![Vec::new()];
        loop {
            self.rest = self.rest.trim_start();
            if let Some(rest) = self.rest.strip_prefix('|') {
                self.rest = rest;
                commands.push(Vec::new());
            } else if self.rest.is_empty() || self.rest.starts_with(')') {
                break;
            } else if let Some(command) = commands.last_mut() {
                command.push(self.operand()?);
            }
        }
        self.depth -= 1;
        if commands.iter().any(Vec::is_empty) { Err("an empty command".to_owned()) } else { Ok(commands) }
    }

    fn operand(&mut self) -> Result<Operand, String> {
        let first = self.rest.chars().next().unwrap_or_default();
        let base = match first {
            '.' => Base::Dot,
            '$' => {
                self.rest = &self.rest[1..];
                Base::Variable(format!("${}", self.word()))
            }
            '(' => {
                self.rest = &self.rest[1..];
                let inner = self.pipeline()?;
                self.rest = self.rest.strip_prefix(')').ok_or("a parenthesis without an end")?;
                Base::Pipeline(inner)
            }
            '"' => {
                let mut values = serde_json::Deserializer::from_str(self.rest).into_iter::<String>();
                let text = values.next().and_then(Result::ok).ok_or("a text without an end")?;
                self.rest = &self.rest[values.byte_offset()..];
                Base::Literal(Value::String(text))
            }
            '`' => {
                let (text, rest) = self.rest[1..].split_once('`').ok_or("a text without an end")?;
                self.rest = rest;
                Base::Literal(text.into())
            }
            '0'..='9' | '-' | '+' => {
                let end = self.rest.find([' ', '\t', ')', '|', '\n']).unwrap_or(self.rest.len());
                let (number, rest) = self.rest.split_at(end);
                self.rest = rest;
                let whole = number.parse::<i64>().map(Value::from);
                let value = whole.or_else(|_| number.parse::<f64>().map(Value::from));
                Base::Literal(value.map_err(|_| format!("{number} is no number"))?)
            }
            _ => match self.word() {
                "" => return Err(format!("{:?} is not supported", self.rest)),
                "true" => Base::Literal(true.into()),
                "false" => Base::Literal(false.into()),
                "nil" => Base::Literal(Value::Null),
                name => Base::Function(name.to_owned()),
            },
        };
        let mut fields = Vec::new();
        while let Some(rest) = self.rest.strip_prefix('.') {
            self.rest = rest;
            match self.word() {
                "" if matches!(base, Base::Dot) && fields.is_empty() => break,
                "" => return Err("a field without a name".to_owned()),
                field => fields.push(field.to_owned()),
            }
        }
        if self.rest.starts_with(|next: char| !matches!(next, ' ' | '\t' | '\r' | '\n' | ')' | '|')) {
            return Err(format!("{:?} is not supported", self.rest));
        }
        Ok(Operand { base, fields })
    }

    fn word(&mut self) -> &'a str {
        let end = self.rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        word
    }
}
