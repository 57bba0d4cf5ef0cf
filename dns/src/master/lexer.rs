//! Cuts a master file into entries: the tokens of one logical line, parentheses joined, comments dropped. Escapes stay
//! as they are written, because a name and a string read them differently.

use super::{Place, SyntaxError};

/// Tokens of one entry. A bound, so that a lost parenthesis does not swallow a gigabyte before it is reported; the
/// longest sensible entry is a TXT record of a few hundred strings.
const TOKENS_MAX: usize = 20_000;

/// One word or one quoted string (without its quotes).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'t> {
    pub text: &'t [u8],
    pub quoted: bool,
    pub place: Place,
}

/// One logical line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'t> {
    /// The line starts with white space: the owner is the one of the entry before.
    pub blank_owner: bool,
    /// Never empty.
    pub tokens: Vec<Token<'t>>,
    /// Behind the last token: where something missing is missing.
    pub end: Place,
}

/// Reads entries one after another.
#[derive(Debug)]
pub struct Lexer<'t> {
    text: &'t [u8],
    at: usize,
    line: u32,
    line_start: usize,
}

impl<'t> Lexer<'t> {
    pub fn new(text: &'t [u8]) -> Lexer<'t> {
        Lexer { text, at: 0, line: 1, line_start: 0 }
    }

    /// The next entry with at least one token, or `None` at the end of the text.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'t>>, SyntaxError> {
        let mut tokens: Vec<Token<'t>> = Vec::new();
        let mut blank_owner = self.at_blank();
        let mut open: Option<Place> = None;
        loop {
            let place = self.place();
            match self.text.get(self.at).copied() {
                None => {
                    return match open {
                        Some(open) => Err(SyntaxError::new(open, "this '(' is never closed")),
                        None if tokens.is_empty() => Ok(None),
                        None => Ok(Some(Entry { blank_owner, tokens, end: place })),
                    };
                }
                Some(b'\n') => {
                    if open.is_none() && !tokens.is_empty() {
                        self.newline();
                        return Ok(Some(Entry { blank_owner, tokens, end: place }));
                    }
                    self.newline();
                    if tokens.is_empty() && open.is_none() {
                        blank_owner = self.at_blank();
                    }
                }
                Some(b' ' | b'\t' | b'\r') => self.at += 1,
                Some(b';') => self.skip_comment(),
                Some(b'(') if open.is_some() => {
                    return Err(SyntaxError::new(place, "a '(' inside of parentheses"));
                }
                Some(b'(') => {
                    open = Some(place);
                    self.at += 1;
                }
                Some(b')') => {
                    self.at += 1;
                    open.take().ok_or_else(|| SyntaxError::new(place, "a ')' without a '('"))?;
                }
                Some(_) if tokens.len() == TOKENS_MAX => {
                    return Err(SyntaxError::new(
                        place,
                        format_args!("more than {TOKENS_MAX} fields in one entry"),
                    ));
                }
                Some(b'"') => tokens.push(self.quoted()?),
                Some(_) => tokens.push(self.word()?),
            }
        }
    }

    fn at_blank(&self) -> bool {
        matches!(self.text.get(self.at), Some(b' ' | b'\t'))
    }

    fn place(&self) -> Place {
        let column = self.at - self.line_start + 1;
        Place { line: self.line, column: u32::try_from(column).unwrap_or(u32::MAX) }
    }

    fn newline(&mut self) {
        self.at += 1;
        self.line = self.line.saturating_add(1);
        self.line_start = self.at;
    }

    fn skip_comment(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.iter().position(|&octet| octet == b'\n').unwrap_or(rest.len());
    }

    fn word(&mut self) -> Result<Token<'t>, SyntaxError> {
        let place = self.place();
        let start = self.at;
        while let Some(&octet) = self.text.get(self.at) {
            match octet {
                b' ' | b'\t' | b'\r' | b'\n' | b';' | b'(' | b')' | b'"' => break,
                b'\\' => self.escape()?,
                _ => self.at += 1,
            }
        }
        Ok(Token { text: &self.text[start..self.at], quoted: false, place })
    }

    fn quoted(&mut self) -> Result<Token<'t>, SyntaxError> {
        let place = self.place();
        self.at += 1;
        let start = self.at;
        loop {
            match self.text.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                Some(b'\n') | None => {
                    return Err(SyntaxError::new(place, "this '\"' is not closed on its line"));
                }
                Some(_) => self.at += 1,
            }
        }
        let text = &self.text[start..self.at];
        self.at += 1;
        Ok(Token { text, quoted: true, place })
    }

    /// Steps over a backslash and what it protects. Whether `\DDD` is a number is for the reader of the token.
    fn escape(&mut self) -> Result<(), SyntaxError> {
        match self.text.get(self.at + 1) {
            None | Some(b'\n') => Err(SyntaxError::new(self.place(), "a '\\' at the end of a line")),
            Some(_) => {
                self.at += 2;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries as lines: `_` for a blank owner, quoted tokens in quotes, tokens with their columns.
    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let mut lexer = Lexer::new(text.as_bytes());
        let mut got = Vec::new();
        loop {
            match lexer.next_entry() {
                Ok(None) => break,
                Ok(Some(entry)) => {
                    let mut words = Vec::new();
                    if entry.blank_owner {
                        words.push("_".to_string());
                    }
                    for token in entry.tokens {
                        let text = String::from_utf8_lossy(token.text).into_owned();
                        words.push(if token.quoted { format!("\"{text}\"") } else { text });
                    }
                    got.push(words.join(" "));
                }
                Err(error) => {
                    got.push(error.to_string());
                    break;
                }
            }
        }
        assert_eq!(got, expected);
    }

    #[test]
    fn lines_and_blank_owners() {
        check("a b\n c\n\td\n", &["a b", "_ c", "_ d"]);
    }
    #[test]
    fn the_last_line_needs_no_newline() {
        check("a b", &["a b"]);
    }
    #[test]
    fn carriage_returns_are_blank() {
        check("a b\r\nc\r\n", &["a b", "c"]);
    }
    #[test]
    fn comments() {
        check("; one\na ; two\n ; three\nb;four", &["a", "b"]);
    }
    #[test]
    fn parentheses_join_lines() {
        check("a ( b ; why\n  c\n) d\ne", &["a b c d", "e"]);
        check("a(b)c\n", &["a b c"]);
    }
    #[test]
    fn quotes() {
        check(r#"a "b ; ( c" "" "#, &[r#"a "b ; ( c" """#]);
        check(r#"a "b\"c""#, &[r#"a "b\"c""#]);
    }
    #[test]
    fn escaped_separators_stay_in_the_word() {
        check(r"a\ b\;c\(d", &[r"a\ b\;c\(d"]);
    }
    #[test]
    fn places_of_errors() {
        check("a\nb ( c\n", &["a", "2:3: this '(' is never closed"]);
        check("a ( (", &["1:5: a '(' inside of parentheses"]);
        check("a )", &["1:3: a ')' without a '('"]);
        check("a \"b\nc\"", &["1:3: this '\"' is not closed on its line"]);
        check("a\\", &["1:2: a '\\' at the end of a line"]);
    }
    #[test]
    fn a_blank_owner_is_judged_by_the_line_that_has_tokens() {
        check("  \n\na\n ; only a comment\nb", &["a", "b"]);
    }
}
