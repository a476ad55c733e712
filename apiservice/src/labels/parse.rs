//! The text form of a label selector, as in `labelSelector=`.

use std::collections::BTreeSet;

use super::{
    Requirement, Test,
    lexer::{Lexer, Token},
    syntax::{key_problem, value_problem},
};

/// The requirements of a selector, in the order of the text.
pub(super) fn requirements(text: &str) -> Result<Vec<Requirement>, String> {
    let mut lexer = Lexer::new(text);
    let mut requirements = Vec::new();
    if lexer.peek() == Token::End {
        return Ok(requirements);
    }
    loop {
        requirements.push(requirement(&mut lexer)?);
        match lexer.take() {
            Token::End => return Ok(requirements),
            Token::Comma => {}
            other => return Err(format!("found '{other}', expected: ',' or 'end of string'")),
        }
    }
}

fn requirement(lexer: &mut Lexer<'_>) -> Result<Requirement, String> {
    let negated = lexer.peek() == Token::Not;
    if negated {
        lexer.take();
    }
    let key = match lexer.take() {
        Token::Word(word) => word,
        other => return Err(format!("found '{other}', expected: identifier")),
    };
    if let Some(problem) = key_problem(key) {
        return Err(format!("Invalid value: \"{}\": {problem}", key.escape_debug()));
    }
    let test = match lexer.peek() {
        // Only a comma or the end may follow `!key`; the caller checks that.
        _ if negated => Test::Missing,
        Token::End | Token::Comma => Test::Exists,
        _ => restriction(lexer)?,
    };
    Ok(Requirement { key: key.to_owned(), test })
}

/// Parses what follows a key: an operator and its values.
fn restriction(lexer: &mut Lexer<'_>) -> Result<Test, String> {
    Ok(match lexer.take() {
        Token::Equals => Test::In(BTreeSet::from([exact(lexer)?])),
        Token::NotEquals => Test::NotIn(BTreeSet::from([exact(lexer)?])),
        Token::Greater => Test::Greater(number(lexer)?),
        Token::Less => Test::Less(number(lexer)?),
        Token::Word("in") => Test::In(set(lexer)?),
        Token::Word("notin") => Test::NotIn(set(lexer)?),
        other => return Err(format!("found '{other}', expected: in, notin, =, ==, !=, >, <")),
    })
}

fn number(lexer: &mut Lexer<'_>) -> Result<i64, String> {
    let text = exact(lexer)?;
    let problem =
        |_| format!("Invalid value: \"{text}\": for 'Gt', 'Lt' operators, the value must be an integer");
    text.parse().map_err(problem)
}

fn exact(lexer: &mut Lexer<'_>) -> Result<String, String> {
    match lexer.peek() {
        Token::End | Token::Comma => Ok(String::new()),
        Token::Word(word) => {
            lexer.take();
            value(word)
        }
        other => Err(format!("found '{other}', expected: identifier")),
    }
}

/// Parses `(a,b)`. Nothing before, after or between commas is the empty value.
fn set(lexer: &mut Lexer<'_>) -> Result<BTreeSet<String>, String> {
    match lexer.take() {
        Token::Open => {}
        other => return Err(format!("found '{other}', expected: '('")),
    }
    let mut values = BTreeSet::new();
    loop {
        values.insert(match lexer.peek() {
            Token::Word(word) => {
                lexer.take();
                value(word)?
            }
            _ => String::new(),
        });
        match lexer.take() {
            Token::Comma => {}
            Token::Close => return Ok(values),
            other => return Err(format!("found '{other}', expected: ',' or ')'")),
        }
    }
}

fn value(word: &str) -> Result<String, String> {
    match value_problem(word) {
        None => Ok(word.to_owned()),
        Some(problem) => Err(format!("Invalid value: \"{}\": {problem}", word.escape_debug())),
    }
}
