//! The tokens of label selectors.

/// A token of a label selector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A key or a value. `in` and `notin` are words too; the parser decides whether they are operators.
    Word(&'a str),
    /// `,`
    Comma,
    /// `!`
    Not,
    /// `=` or `==`
    Equals,
    /// `!=`
    NotEquals,
    /// `>`
    Greater,
    /// `<`
    Less,
    /// `(`
    Open,
    /// `)`
    Close,
    /// The end of the selector.
    End,
}

impl std::fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Word(word) => word,
            Self::Comma => ",",
            Self::Not => "!",
            Self::Equals => "=",
            Self::NotEquals => "!=",
            Self::Greater => ">",
            Self::Less => "<",
            Self::Open => "(",
            Self::Close => ")",
            Self::End => "",
        })
    }
}

/// Splits a selector into tokens, with one token of lookahead.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    rest: &'a str,
    next: Token<'a>,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let mut lexer = Self { rest: text, next: Token::End };
        lexer.take();
        lexer
    }

    /// The next token, which is not consumed.
    pub(super) fn peek(&self) -> Token<'a> {
        self.next
    }

    /// Consumes and returns the next token; [`Token::End`] at the end, any number of times.
    pub(super) fn take(&mut self) -> Token<'a> {
        let (token, rest) = scan(self.rest.trim_start_matches(is_space));
        self.rest = rest;
        std::mem::replace(&mut self.next, token)
    }
}

/// The longest token at the start of `text`, and the rest of it.
fn scan(text: &str) -> (Token<'_>, &str) {
    const SYMBOLS: [(&str, Token<'static>); 9] = [
        ("==", Token::Equals),
        ("!=", Token::NotEquals),
        ("=", Token::Equals),
        ("!", Token::Not),
        (",", Token::Comma),
        (">", Token::Greater),
        ("<", Token::Less),
        ("(", Token::Open),
        (")", Token::Close),
    ];
    if text.is_empty() {
        return (Token::End, text);
    }
    for (symbol, token) in SYMBOLS {
        if let Some(rest) = text.strip_prefix(symbol) {
            return (token, rest);
        }
    }
    let end = text.find(|c| is_space(c) || "=!(),><".contains(c)).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    (Token::Word(word), rest)
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_are_read_as_long_as_possible() {
        let mut lexer = Lexer::new("a==b !=c=! d in (,x)");
        let mut tokens = Vec::new();
        while lexer.peek() != Token::End {
            tokens.push(lexer.take().to_string());
        }
        assert_eq!(tokens, ["a", "=", "b", "!=", "c", "=", "!", "d", "in", "(", ",", "x", ")"]);
        assert_eq!(lexer.take(), Token::End);
    }
}
