//! What clients may write: text in, a value that cannot be wrong out, or a sentence that says what is wrong.

use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime};

/// Characters of a search text; longer ones are no questions.
pub(crate) const QUERY_CHARS_MAX: usize = 256;
/// Bytes of a password. OWASP asks for 8 at least; the upper limit only bounds the work.
pub(crate) const PASSWORD_BYTES_MIN: usize = 8;
pub(crate) const PASSWORD_BYTES_MAX: usize = 1024;
const EMAIL_BYTES_MAX: usize = 254; // RFC 5321, section 4.5.3.1.3, without the angle brackets
const SLUG_BYTES_MAX: usize = 100;
const KEY_BYTES_MAX: usize = 255;
const WEIGHT_KG_MAX: f64 = 1000.0;

pub(crate) type Checked<T> = Result<T, String>;

/// An e-mail address as we know people by it: trimmed, lower case. Not checked any further than its shape, because
/// only mail that arrives proves an address.
pub(crate) fn email(text: &str) -> Checked<String> {
    let email = text.trim().to_lowercase();
    if email.is_empty() {
        return Err("email: is missing".into());
    }
    if email.len() > EMAIL_BYTES_MAX {
        return Err(format!("email: longer than {EMAIL_BYTES_MAX} bytes"));
    }
    let shaped = email.split_once('@').is_some_and(|(local, domain)| {
        !local.is_empty()
            && !domain.is_empty()
            && !domain.contains('@')
            && !domain.starts_with('.')
            && !domain.ends_with('.')
    });
    match shaped && !email.chars().any(|c| c.is_whitespace() || c.is_control()) {
        true => Ok(email),
        false => Err("email: does not look like name@domain".into()),
    }
}

/// A password that someone chooses.
pub(crate) fn new_password(text: &str) -> Checked<()> {
    match text.len() {
        0..PASSWORD_BYTES_MIN => Err(format!("password: shorter than {PASSWORD_BYTES_MIN} bytes")),
        PASSWORD_BYTES_MIN..=PASSWORD_BYTES_MAX => Ok(()),
        _ => Err(format!("password: longer than {PASSWORD_BYTES_MAX} bytes")),
    }
}

/// The name of an exercise in addresses.
pub(crate) fn slug(text: &str) -> Checked<String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    match !text.is_empty() && text.len() <= SLUG_BYTES_MAX && text.bytes().all(plain) {
        true => Ok(text.to_owned()),
        false => Err(format!("slug: must be 1 to {SLUG_BYTES_MAX} of a-z, 0-9 and -")),
    }
}

/// A search text as it is searched and cached: lower case, single spaces, no control characters.
pub(crate) fn query(text: &str) -> Checked<String> {
    if text.chars().count() > QUERY_CHARS_MAX {
        return Err(format!("q: longer than {QUERY_CHARS_MAX} characters"));
    }
    let cleaned: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    Ok(cleaned.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase())
}

pub(crate) fn limit(limit: Option<i64>) -> Checked<usize> {
    within("limit", limit.unwrap_or(20), 1, 100).map(|limit| limit as usize)
}

pub(crate) fn sets(sets: i64) -> Checked<i32> {
    within("sets", sets, 1, 100)
}

pub(crate) fn reps(reps: i64) -> Checked<i32> {
    within("reps", reps, 1, 1000)
}

fn within(name: &str, value: i64, min: i32, max: i32) -> Checked<i32> {
    i32::try_from(value)
        .ok()
        .filter(|value| (min..=max).contains(value))
        .ok_or_else(|| format!("{name}: {value} is not from {min} to {max}"))
}

/// Kilograms as whole grams, so that what comes back is what was written.
pub(crate) fn weight_grams(kg: f64) -> Checked<i32> {
    match kg.is_finite() && (0.0..=WEIGHT_KG_MAX).contains(&kg) {
        true => Ok((kg * 1000.0).round() as i32),
        false => Err(format!("weight_kg: {kg} is not from 0 to {WEIGHT_KG_MAX}")),
    }
}

/// A moment as RFC 3339 (`2031-05-04T07:30:00Z`), or a day (`2031-05-04`), which means its midnight in UTC.
pub(crate) fn moment(text: &str) -> Checked<OffsetDateTime> {
    let text = text.trim();
    let day = || {
        Date::parse(text, format_description!("[year]-[month]-[day]")).map(|day| day.midnight().assume_utc())
    };
    OffsetDateTime::parse(text, &Rfc3339)
        .ok()
        .or_else(|| day().ok())
        .filter(|moment| (1900..=2200).contains(&moment.year()))
        .map(|moment| moment.to_offset(time::UtcOffset::UTC))
        .ok_or_else(|| {
            "performed_at: not a date (2031-05-04) or time (2031-05-04T07:30:00Z) from 1900 to 2200".into()
        })
}

/// The Idempotency-Key header: what names one intention of one user.
pub(crate) fn idempotency_key(text: &str) -> Checked<String> {
    match (1..=KEY_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err(format!("Idempotency-Key: must be 1 to {KEY_BYTES_MAX} visible ASCII characters")),
    }
}

/// One short line of text that an editor writes.
pub(crate) fn line(name: &str, text: &str, chars_max: usize) -> Checked<String> {
    let text = text.trim();
    match text.is_empty() || text.chars().count() > chars_max || text.chars().any(char::is_control) {
        true => Err(format!("{name}: must be 1 to {chars_max} characters on one line")),
        false => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    #[allow(clippy::needless_pass_by_value, reason = "what is checked is written in place")]
    fn check<T: std::fmt::Debug + PartialEq>(got: Checked<T>, expected: Option<T>) {
        assert_eq!(got.as_ref().ok(), expected.as_ref(), "{got:?}");
    }

    #[test]
    fn emails_have_one_spelling() {
        check(email("  Ada@Example.COM "), Some("ada@example.com".into()));
        for bad in
            ["", "ada", "@example.com", "ada@", "a@b@c", "a b@c", "a\n@b", "a@.b", "a@b.", &"a@b".repeat(100)]
        {
            check(email(bad), None);
        }
    }

    #[test]
    fn passwords_are_counted_in_bytes() {
        check(new_password("7 bytes"), None);
        check(new_password("8 bytes!"), Some(()));
        check(new_password(&"x".repeat(1024)), Some(()));
        check(new_password(&"x".repeat(1025)), None);
    }

    #[test]
    fn slugs_are_safe_everywhere() {
        check(slug("front-squat-2"), Some("front-squat-2".into()));
        for bad in ["", "Squat", "a/b", "..", "a b", "a'; drop table exercises; --", "ü", &"a".repeat(101)] {
            check(slug(bad), None);
        }
    }

    #[test]
    fn queries_are_normalised_so_that_the_cache_is_shared() {
        check(query("  Chest\tWITHOUT\0 equipment "), Some("chest without equipment".into()));
        check(query("' OR 1=1 --"), Some("' or 1=1 --".into()));
        check(query(&"ü".repeat(256)), Some("ü".repeat(256)));
        check(query(&"a".repeat(257)), None);
    }

    #[test]
    fn numbers_have_bounds() {
        check(limit(None), Some(20));
        check(limit(Some(100)), Some(100));
        check(limit(Some(0)), None);
        check(limit(Some(101)), None);
        check(sets(i64::MAX), None);
        check(reps(-1), None);
        check(weight_grams(62.55), Some(62_550));
        check(weight_grams(f64::NAN), None);
        check(weight_grams(-0.5), None);
        check(weight_grams(1001.0), None);
    }

    #[test]
    fn moments_are_dates_or_times() {
        let seconds = |text| moment(text).map(OffsetDateTime::unix_timestamp);
        check(seconds("2031-05-04"), Some(1_935_619_200));
        check(seconds("2031-05-04T02:00:00+02:00"), Some(1_935_619_200));
        for bad in ["", "yesterday", "2031-13-01", "2031-05-04T07:30", "9999-01-01", "0001-01-01"] {
            check(seconds(bad), None);
        }
    }

    #[test]
    fn keys_are_visible_ascii() {
        check(idempotency_key("6b1e-77"), Some("6b1e-77".into()));
        check(idempotency_key(""), None);
        check(idempotency_key("with space"), None);
        check(idempotency_key(&"k".repeat(256)), None);
    }

    #[test]
    fn lines_are_lines() {
        check(line("name", " Squat ", 10), Some("Squat".into()));
        check(line("name", "  ", 10), None);
        check(line("name", "two\nlines", 10), None);
        check(line("name", "01234567890", 10), None);
    }
}
