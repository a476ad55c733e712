//! Translates patterns from the RE2 syntax of CEL into that of the regex engine.
//!
//! The two differ in Unicode (`\d`, `\w`, `\s` and `\b` are ASCII in RE2), in classes (RE2 has no set operators and no
//! nested classes), and in literals (`{`, `\Q…\E`).
//!
//! **Invariant:** A pattern that RE2 rejects is rejected.

use std::fmt::Write;

/// The most repetitions that RE2 accepts.
const MOST_REPETITIONS: u32 = 1_000;

/// Translates an RE2 pattern for the regex engine.
pub(super) fn translated(pattern: &str) -> Result<String, String> {
    let mut translation = Translation { made: String::with_capacity(pattern.len() + 16), rest: pattern };
    translation.all().map_err(|why| {
        let shown: String = pattern.chars().take(128).collect();
        format!("{shown:?} is not a regular expression: {why}")
    })?;
    Ok(translation.made)
}

struct Translation<'p> {
    made: String,
    rest: &'p str,
}

impl Translation<'_> {
    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn all(&mut self) -> Result<(), String> {
        let mut may_repeat = false;
        while let Some(c) = self.next() {
            match c {
                '\\' => {
                    if let Some(rest) = self.rest.strip_prefix('Q') {
                        let end = rest.find("\\E").unwrap_or(rest.len());
                        self.made.push_str(&regex::escape(&rest[..end]));
                        self.rest = rest[end..].strip_prefix("\\E").unwrap_or_default();
                        may_repeat = end > 0;
                        continue;
                    }
                    self.escape(false)?;
                    may_repeat = true;
                }
                '[' => {
                    self.class()?;
                    may_repeat = true;
                }
                '(' => {
                    self.group()?;
                    may_repeat = false;
                }
                '*' | '+' | '?' => {
                    if !may_repeat {
                        return Err(format!("nothing or a repetition is repeated by {c}"));
                    }
                    self.made.push(c);
                    self.lazy();
                    may_repeat = false;
                }
                '{' => match self.repetition()? {
                    Some(_) if !may_repeat => return Err("nothing or a repetition is repeated".to_owned()),
                    Some(repetition) => {
                        self.made.push_str(&repetition);
                        self.lazy();
                        may_repeat = false;
                    }
                    None => {
                        self.made.push_str("\\{");
                        may_repeat = true;
                    }
                },
                '}' => {
                    self.made.push_str("\\}");
                    may_repeat = true;
                }
                '|' => {
                    self.made.push('|');
                    may_repeat = false;
                }
                c => {
                    self.made.push(c);
                    may_repeat = true;
                }
            }
        }
        Ok(())
    }

    fn lazy(&mut self) {
        if let Some(rest) = self.rest.strip_prefix('?') {
            self.made.push('?');
            self.rest = rest;
        }
    }

    /// `{2}`, `{2,}` or `{2,3}`; `None` if the brace is a literal.
    fn repetition(&mut self) -> Result<Option<String>, String> {
        let Some((within, after)) = self.rest.split_once('}') else { return Ok(None) };
        let (least, most) = within.split_once(',').unwrap_or((within, within));
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(least) || !(most.is_empty() || is_number(most)) {
            return Ok(None);
        }
        let number = |text: &str| text.parse::<u32>().ok().filter(|number| *number <= MOST_REPETITIONS);
        let (Some(from), Some(to)) =
            (number(least), if most.is_empty() { Some(u32::MAX) } else { number(most) })
        else {
            return Err(format!("more than {MOST_REPETITIONS} repetitions"));
        };
        if from > to {
            return Err("a repetition whose most is below its least".to_owned());
        }
        self.rest = after;
        Ok(Some(format!("{{{within}}}")))
    }

    fn group(&mut self) -> Result<(), String> {
        self.made.push('(');
        let Some(rest) = self.rest.strip_prefix('?') else { return Ok(()) };
        let named = rest.strip_prefix("P<").or_else(|| rest.strip_prefix('<'));
        if let Some((name, after)) = named.and_then(|named| named.split_once('>')) {
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() || !name.chars().all(is_name) {
                return Err("a group has no name".to_owned());
            }
            // Group names of RE2 may begin with a digit.
            self.made.push_str("?P<g_");
            self.made.push_str(name);
            self.made.push('>');
            self.rest = after;
            return Ok(());
        }
        let end = rest.find([':', ')']).ok_or_else(|| "a group is not closed".to_owned())?;
        let flags = &rest[..end];
        if !flags.chars().all(|c| "imsU-".contains(c))
            || flags.matches('-').count() > 1
            || flags.ends_with('-')
        {
            return Err(format!("(?{flags} is not a group of RE2"));
        }
        if flags.is_empty() && rest.starts_with(')') {
            return Err("missing argument to repetition operator".to_owned());
        }
        self.made.push('?');
        self.made.push_str(&rest[..=end]);
        self.rest = &rest[end + 1..];
        Ok(())
    }

    fn escape(&mut self, in_class: bool) -> Result<(), String> {
        let Some(c) = self.next() else { return Err("ends with a backslash".to_owned()) };
        match c {
            'd' | 'D' | 's' | 'S' | 'w' | 'W' => self.perl_class(c, in_class),
            'b' if !in_class => self.made.push_str("(?-u:\\b)"),
            'B' if !in_class => return Err("\\B is not supported".to_owned()),
            'A' | 'z' if !in_class => {
                self.made.push('\\');
                self.made.push(c);
            }
            'p' | 'P' => {
                self.made.push('\\');
                self.made.push(c);
                if let Some(rest) = self.rest.strip_prefix('{') {
                    let end = rest.find('}').ok_or_else(|| "a class of Unicode is not closed".to_owned())?;
                    let name = &rest[..end];
                    if !name.trim_start_matches('^').chars().all(|c| c.is_ascii_alphabetic() || c == '_') {
                        return Err(format!("{name} is not a class of Unicode"));
                    }
                    self.made.push_str(&self.rest[..end + 2]);
                    self.rest = &rest[end + 1..];
                }
            }
            'x' => {
                let (digits, after) = match self.rest.strip_prefix('{') {
                    Some(rest) => rest.split_once('}').ok_or_else(|| "\\x{ is not closed".to_owned())?,
                    None if self.rest.is_char_boundary(2.min(self.rest.len())) => {
                        self.rest.split_at(2.min(self.rest.len()))
                    }
                    None => return Err("\\x takes two digits".to_owned()),
                };
                if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    return Err("\\x takes hexadecimal digits".to_owned());
                }
                let _ = write!(self.made, "\\x{{{digits}}}");
                self.rest = after;
            }
            'a' | 'f' | 'n' | 'r' | 't' | 'v' => {
                self.made.push('\\');
                self.made.push(c);
            }
            c if c.is_ascii_punctuation() => self.literal(c),
            c if !c.is_ascii() => self.made.push(c),
            c => return Err(format!("\\{c} is not an escape of RE2")),
        }
        Ok(())
    }

    fn literal(&mut self, c: char) {
        if c.is_ascii_punctuation() && c != '_' {
            self.made.push('\\');
        }
        self.made.push(c);
    }

    fn perl_class(&mut self, class: char, in_class: bool) {
        let ranges = match class.to_ascii_lowercase() {
            'd' => "0-9",
            's' => "\\t\\n\\f\\r ",
            _ => "0-9A-Za-z_",
        };
        // RE2 has no nested classes, so this is the only class.
        match (class.is_ascii_uppercase(), in_class) {
            (false, true) => self.made.push_str(ranges),
            (is_negated, _) => {
                self.made.push('[');
                self.made.push_str(if is_negated { "^" } else { "" });
                self.made.push_str(ranges);
                self.made.push(']');
            }
        }
    }

    fn class(&mut self) -> Result<(), String> {
        self.made.push('[');
        if let Some(rest) = self.rest.strip_prefix('^') {
            self.made.push('^');
            self.rest = rest;
        }
        let mut is_first = true;
        loop {
            let Some(c) = self.next() else { return Err("a class is not closed".to_owned()) };
            match c {
                ']' if !is_first => {
                    self.made.push(']');
                    return Ok(());
                }
                '[' if self.rest.starts_with(':') => {
                    let end = self.rest.find(":]").filter(|end| *end > 0);
                    let end = end.ok_or_else(|| "a named class is not closed".to_owned())?;
                    self.made.push('[');
                    self.made.push_str(&self.rest[..end + 2]);
                    self.rest = &self.rest[end + 2..];
                }
                '\\' => self.escape(true)?,
                // The `-` of a range, or a literal one at the start or the end of the class.
                '-' if is_first || self.rest.starts_with(']') => self.made.push_str("\\-"),
                '-' => {
                    // A `-` at the end of a range is an ordinary character.
                    self.made.push('-');
                    if let Some(rest) = self.rest.strip_prefix('-') {
                        self.made.push_str("\\-");
                        self.rest = rest;
                    }
                }
                c => self.literal(c),
            }
            is_first = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::translated;

    #[test]
    fn what_re2_means() {
        for (pattern, text, matches) in [
            (r"^\d\w\s$", "1a ", true),
            (r"^\d$", "٣", false),
            (r"^\W$", "é", true),
            (r"^[\w-]+$", "a-b", true),
            (r"^[^\d]$", "5", false),
            (r"[a&&b]", "a", true),
            (r"^[[a]]$", "a]", true),
            (r"^a{,2}$", "a{,2}", true),
            (r"^\Qa.b\E$", "a.b", true),
            (r"^\Qa.b\E$", "axb", false),
            (r"(?i)^ABC$", "abc", true),
            (r"^[[:alpha:]]+$", "ab", true),
            (r"^[\]a-c-]+$", "]-b", true),
            (r"^(?P<1a>x)$", "x", true),
            (r"^x{2,3}?$", "xxx", true),
        ] {
            let regex = regex::Regex::new(&translated(pattern).expect(pattern)).expect(pattern);
            assert_eq!(regex.is_match(text), matches, "{pattern} on {text}");
        }
        for pattern in [
            "a**", "a++", "*a", "(?x)a", "(?-u)a", "a{1001}", "a{3,2}", r"\u0061", r"\1", "(?=a)", "[a--b]",
            r"\Z", "[a", r"\",
        ] {
            assert!(
                translated(pattern)
                    .and_then(|made| regex::Regex::new(&made).map_err(|e| e.to_string()))
                    .is_err(),
                "{pattern}"
            );
        }
    }
}
