//! Finds and removes one cookie among the client's, leaving the others as they are, byte for byte.

use http::header::{COOKIE, HeaderMap, HeaderValue};

/// What the client sent under our name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    One(Vec<u8>),
    /// Sent twice: somebody planted one, and which is ours cannot be told.
    Several,
}

/// Removes every cookie called `name` from all `Cookie` lines and returns what was found.
pub(crate) fn take(headers: &mut HeaderMap, name: &str) -> Found {
    let mut values: Vec<Vec<u8>> = Vec::new();
    if !headers.get_all(COOKIE).iter().any(|line| mentions(line.as_bytes(), name)) {
        return Found::Nothing;
    }
    let lines: Vec<HeaderValue> = headers.get_all(COOKIE).iter().cloned().collect();
    headers.remove(COOKIE);
    for line in lines {
        if let Some(kept) = strip_line(line, name, &mut values) {
            headers.append(COOKIE, kept);
        }
    }
    match values.len() {
        0 => Found::Nothing,
        1 => Found::One(values.remove(0)),
        _ => Found::Several,
    }
}

/// The value of the first cookie called `name`; nothing is removed.
pub(crate) fn find<'headers>(headers: &'headers HeaderMap, name: &str) -> Option<&'headers [u8]> {
    let lines = headers.get_all(COOKIE).iter();
    lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';')).find_map(|part| value_of(part, name))
}

/// Only our cookies are looked at, so this never sees the value of anybody else's.
fn strip_line(line: HeaderValue, name: &str, values: &mut Vec<Vec<u8>>) -> Option<HeaderValue> {
    let before = values.len();
    let mut kept: Vec<&[u8]> = Vec::new();
    for part in line.as_bytes().split(|byte| *byte == b';') {
        match value_of(part, name) {
            Some(value) => values.push(value.to_vec()),
            None if part.trim_ascii().is_empty() => {}
            None => kept.push(part.trim_ascii()),
        }
    }
    if values.len() == before {
        return Some(line);
    }
    if kept.is_empty() {
        return None;
    }
    // Parts of a valid value joined by "; " are a valid value.
    HeaderValue::from_bytes(&kept.join(&b"; "[..])).ok()
}

fn value_of<'part>(part: &'part [u8], name: &str) -> Option<&'part [u8]> {
    let part = part.trim_ascii();
    let equals = part.iter().position(|byte| *byte == b'=')?;
    (part[..equals].trim_ascii_end() == name.as_bytes()).then(|| part[equals + 1..].trim_ascii())
}

fn mentions(line: &[u8], name: &str) -> bool {
    line.windows(name.len()).any(|window| window == name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lines: &[&str], found: &str, kept: &[&str]) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(COOKIE, HeaderValue::from_str(line).unwrap());
        }
        let got = match take(&mut headers, "route") {
            Found::Nothing => "nothing".to_owned(),
            Found::One(value) => String::from_utf8(value).unwrap(),
            Found::Several => "several".to_owned(),
        };
        let rest: Vec<_> = headers.get_all(COOKIE).iter().map(|line| line.to_str().unwrap()).collect();
        assert_eq!((got.as_str(), rest.as_slice()), (found, kept));
    }

    #[test]
    fn without_ours_nothing_is_touched() {
        check(&[], "nothing", &[]);
        check(&["sid=a;b=c ; d"], "nothing", &["sid=a;b=c ; d"]);
        check(&["sid=route; routes=1;  my_route=2"], "nothing", &["sid=route; routes=1;  my_route=2"]);
    }

    #[test]
    fn ours_is_taken_out_wherever_it_stands() {
        check(&["route=x"], "x", &[]);
        check(&["route=x; sid=a"], "x", &["sid=a"]);
        check(&["sid=a; route=x; b=\"q;=\""], "x", &["sid=a; b=\"q; =\""]);
        check(&["sid=a;route=x"], "x", &["sid=a"]);
        check(&["sid=a", "route=x", "b=c"], "x", &["sid=a", "b=c"]);
    }

    #[test]
    fn two_of_them_are_reported_and_both_taken_out() {
        check(&["route=x; sid=a; route=y"], "several", &["sid=a"]);
        check(&["route=x", "route=x"], "several", &[]);
    }

    #[test]
    fn odd_forms() {
        check(&["route="], "", &[]);
        check(&["route"], "nothing", &["route"]);
        check(&["route =x; ; a=b"], "x", &["a=b"]);
        check(&["Route=x"], "nothing", &["Route=x"]);
    }
}
