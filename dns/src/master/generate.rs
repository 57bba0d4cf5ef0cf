//! `$GENERATE`, BIND's loop: `$GENERATE start-stop[/step] owner [ttl] [class] type data`. In the owner and behind it, `$` is the
//! number of the turn, `${offset,width,base}` that number changed and padded, and `\$` or `$$` a dollar sign.

use super::fields::{Fields, decimal};
use super::lexer::Token;
use super::{Place, SyntaxError};

/// Records of one directive: as many as a server of a few gigabytes can hold, so that a slip of the pen ends with an error.
const TURNS_MAX: u64 = 1 << 22;
/// Digits that a number may be padded to: more do not fit a label, let alone a nibble form.
const WIDTH_MAX: usize = 255;

/// A directive that is read: text for each turn.
#[derive(Debug)]
pub struct Generate {
    pub place: Place,
    first: u64,
    last: u64,
    step: u64,
    pieces: Vec<Piece>,
}

/// A part of the entry.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Number { offset: i64, width: usize, base: Base },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Base {
    Decimal,
    Octal,
    Hex,
    UpperHex,
    /// Hexadecimal digits as labels, the lowest first, as `ip6.arpa` wants them.
    Nibbles,
    UpperNibbles,
}

impl Generate {
    /// Reads what follows the directive.
    pub fn read(place: Place, fields: &mut Fields<'_, '_>) -> Result<Generate, SyntaxError> {
        let (first, last, step) = fields.read("a range as START-STOP or START-STOP/STEP", range)?;
        let turns = (last - first) / step + 1;
        if turns > TURNS_MAX {
            return Err(SyntaxError::new(
                place,
                format_args!("{turns} records; at most {TURNS_MAX} are generated"),
            ));
        }
        let mut pieces = vec![Piece::Text(Vec::new())];
        for (at, token) in fields.rest("the owner's name")?.iter().enumerate() {
            if at > 0 {
                push(&mut pieces, b" ");
            }
            cut(*token, &mut pieces)?;
        }
        push(&mut pieces, b"\n");
        Ok(Generate { place, first, last, step, pieces })
    }

    /// The turns with their text, an entry of a master file each.
    pub fn entries(&self) -> impl Iterator<Item = (u64, Vec<u8>)> {
        let step = usize::try_from(self.step).unwrap_or(usize::MAX);
        (self.first..=self.last).step_by(step).map(|turn| (turn, self.entry(turn)))
    }

    fn entry(&self, turn: u64) -> Vec<u8> {
        let mut out = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend(text),
                Piece::Number { offset, width, base } => {
                    let number = i64::try_from(turn).unwrap_or(i64::MAX).saturating_add(*offset);
                    out.extend(number_text(number, *width, *base).into_bytes());
                }
            }
        }
        out
    }
}

fn range(text: &[u8]) -> Option<(u64, u64, u64)> {
    let text = std::str::from_utf8(text).ok()?;
    let (range, step) = text.split_once('/').unwrap_or((text, "1"));
    let (first, last) = range.split_once('-')?;
    // 31 bits, as in BIND: sums with an offset cannot overflow.
    let number = |text: &str| decimal::<u64>(text.as_bytes()).filter(|number| *number < 1 << 31);
    let (first, last, step) = (number(first)?, number(last)?, number(step)?);
    (first <= last && step > 0).then_some((first, last, step))
}

fn push(pieces: &mut Vec<Piece>, text: &[u8]) {
    match pieces.last_mut() {
        Some(Piece::Text(before)) => before.extend(text),
        _ => pieces.push(Piece::Text(text.to_vec())),
    }
}

/// Cuts a token into text and numbers. A quoted string stays one, unlike in BIND, where its spaces part it.
fn cut(token: Token<'_>, pieces: &mut Vec<Piece>) -> Result<(), SyntaxError> {
    let mut rest = token.text;
    let quote = |pieces: &mut Vec<Piece>| {
        if token.quoted {
            push(pieces, b"\"");
        }
    };
    quote(pieces);
    while let Some((&octet, tail)) = rest.split_first() {
        rest = match (octet, tail) {
            (b'$', [b'$', tail @ ..]) => {
                push(pieces, b"\\$");
                tail
            }
            (b'$', [b'{', inner @ ..]) => {
                let end = inner.iter().position(|octet| *octet == b'}');
                let modifier = end.and_then(|end| modifier(&inner[..end]));
                let expected =
                    "${OFFSET}, ${OFFSET,WIDTH} or ${OFFSET,WIDTH,BASE} with BASE d, o, x, X, n or N";
                pieces.push(modifier.ok_or_else(|| SyntaxError::expected(token.place, expected, rest))?);
                &inner[end.unwrap_or(0) + 1..]
            }
            (b'$', tail) => {
                pieces.push(Piece::Number { offset: 0, width: 0, base: Base::Decimal });
                tail
            }
            // The lexer lets no backslash end a token.
            (b'\\', [next, tail @ ..]) => {
                push(pieces, &[b'\\', *next]);
                tail
            }
            (octet, tail) => {
                push(pieces, &[octet]);
                tail
            }
        };
    }
    quote(pieces);
    Ok(())
}

fn modifier(text: &[u8]) -> Option<Piece> {
    let mut parts = text.split(|octet| *octet == b',');
    let offset = parts.next()?;
    let (negative, digits) = offset.strip_prefix(b"-").map_or((false, offset), |rest| (true, rest));
    let digits = if negative { digits } else { digits.strip_prefix(b"+").unwrap_or(digits) };
    let offset = decimal::<i64>(digits).filter(|offset| *offset < 1 << 31)?;
    let offset = if negative { -offset } else { offset };
    let width = parts.next().map_or(Some(0), decimal::<usize>).filter(|width| *width <= WIDTH_MAX)?;
    let base = match parts.next() {
        None | Some(b"d") => Base::Decimal,
        Some(b"o") => Base::Octal,
        Some(b"x") => Base::Hex,
        Some(b"X") => Base::UpperHex,
        Some(b"n") => Base::Nibbles,
        Some(b"N") => Base::UpperNibbles,
        Some(_) => return None,
    };
    parts.next().is_none().then_some(Piece::Number { offset, width, base })
}

/// The number as C prints it, which is what BIND does: only decimal knows a sign, the others print 32 bits.
fn number_text(number: i64, width: usize, base: Base) -> String {
    let bits = (number & 0xFFFF_FFFF) as u32;
    match base {
        Base::Decimal => format!("{number:0width$}"),
        Base::Octal => format!("{bits:0width$o}"),
        Base::Hex => format!("{bits:0width$x}"),
        Base::UpperHex => format!("{bits:0width$X}"),
        Base::Nibbles => nibbles(bits, width),
        Base::UpperNibbles => nibbles(bits, width).to_ascii_uppercase(),
    }
}

/// Digits with dots between, the lowest first. The width counts dots too, as in BIND.
fn nibbles(mut bits: u32, mut width: usize) -> String {
    let mut text = String::new();
    loop {
        text.push(char::from_digit(bits & 0xF, 16).unwrap_or('0'));
        bits >>= 4;
        width = width.saturating_sub(1);
        if bits == 0 && width == 0 {
            return text;
        }
        text.push('.');
        width = width.saturating_sub(1);
        if bits == 0 && width == 0 {
            return text;
        }
    }
}
