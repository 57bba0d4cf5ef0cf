//! Reads the entries of a master file: directives, and records with their inherited owner, TTL and class.

use super::fields::{self, Fields};
use super::generate::Generate;
use super::lexer::{Entry, Lexer, Token};
use super::rdata_text::rdata;
use super::{Quoted, SyntaxError};
use crate::wire::{Class, Name, RecordType};
use crate::zone::{Line, Rdata, Record};
use std::path::{Path, PathBuf};

/// Files within files. More is a file that includes itself.
const DEPTH_MAX: usize = 16;
/// Files of one zone.
const FILES_MAX: usize = 10_000;

/// What a file holds.
#[derive(Debug)]
pub struct Contents {
    pub records: Vec<Record>,
    /// The files that were included, in the order of [`Line::file`], which counts them from 1.
    pub included: Vec<PathBuf>,
}

/// Gets the text of a file that `$INCLUDE` names; the error says why it cannot.
pub type Include<'i> = dyn FnMut(&Path) -> Result<(PathBuf, Vec<u8>), String> + 'i;

/// Reads a whole file whose names are relative to `origin` until it says otherwise; `include` gets further files.
pub fn read(text: &[u8], origin: &Name, include: &mut Include<'_>) -> Result<Contents, SyntaxError> {
    let contents = Contents { records: Vec::new(), included: Vec::new() };
    let state = State { origin: origin.clone(), owner: None, ttl_default: None, ttl_before: None };
    let mut reader = Reader { contents, state, include };
    reader.file(text, 0, 0)?;
    Ok(reader.contents)
}

/// Reads a file that stands alone.
pub fn read_alone(text: &[u8], origin: &Name) -> Result<Contents, SyntaxError> {
    read(text, origin, &mut |_| Err("there is no folder to include it from".into()))
}

struct Reader<'r, 'i> {
    contents: Contents,
    state: State,
    include: &'r mut Include<'i>,
}

impl Reader<'_, '_> {
    fn file(&mut self, text: &[u8], file: u16, depth: usize) -> Result<(), SyntaxError> {
        let mut lexer = Lexer::new(text);
        while let Some(entry) = lexer.next_entry()? {
            let first = entry.tokens[0];
            if entry.blank_owner || first.quoted || !first.text.starts_with(b"$") {
                let record = self.state.record(&entry, file)?;
                self.contents.records.push(record);
                continue;
            }
            let mut fields = Fields::new(&entry);
            fields.skip();
            match first.text.to_ascii_uppercase().as_slice() {
                b"$ORIGIN" => self.state.origin = fields.name("a domain name", &self.state.origin)?,
                b"$TTL" => self.state.ttl_default = Some(fields.seconds(TTL)?),
                b"$INCLUDE" => self.include(&mut fields, depth)?,
                b"$GENERATE" => self.generate(&Generate::read(first.place, &mut fields)?, file)?,
                _ => {
                    let expected = "$ORIGIN, $TTL, $INCLUDE or $GENERATE";
                    return Err(SyntaxError::expected(first.place, expected, first.text));
                }
            }
            fields.finish()?;
        }
        Ok(())
    }

    /// `$INCLUDE file [origin]`. Behind it, origin and owner are again what they were (RFC 1035 section 5.1).
    fn include(&mut self, fields: &mut Fields<'_, '_>, depth: usize) -> Result<(), SyntaxError> {
        let token = fields.take("the name of a file")?;
        let name = fields::string(token)?;
        let inner = match fields.peek() {
            Some(_) => fields.name("the origin of the included file", &self.state.origin)?,
            None => self.state.origin.clone(),
        };
        fields.finish()?;
        let refuse = |why: String| {
            SyntaxError::new(token.place, format_args!("{} cannot be included: {why}", Quoted(token.text)))
        };
        if depth == DEPTH_MAX {
            return Err(refuse(format!("it would be the file within {DEPTH_MAX} others; a loop?")));
        }
        let name = String::from_utf8(name).map_err(|_| refuse("its name is not UTF-8".into()))?;
        let (path, text) = (self.include)(Path::new(&name)).map_err(refuse)?;
        self.contents.included.push(path.clone());
        let file = u16::try_from(self.contents.included.len()).ok().filter(|n| usize::from(*n) <= FILES_MAX);
        let file = file.ok_or_else(|| refuse(format!("more than {FILES_MAX} files")))?;
        let outer = (std::mem::replace(&mut self.state.origin, inner), self.state.owner.clone());
        let outcome = self.file(&text, file, depth + 1);
        (self.state.origin, self.state.owner) = outer;
        outcome.map_err(|error| error.in_file(path))
    }

    fn generate(&mut self, generate: &Generate, file: u16) -> Result<(), SyntaxError> {
        for (turn, text) in generate.entries() {
            let in_turn = |error: SyntaxError| {
                let what = format_args!("in the record for {turn}: {}", error.what);
                SyntaxError::new(generate.place, what)
            };
            let mut lexer = Lexer::new(&text);
            while let Some(entry) = lexer.next_entry().map_err(in_turn)? {
                let mut record = self.state.record(&entry, file).map_err(in_turn)?;
                record.line.number = generate.place.line;
                self.contents.records.push(record);
            }
        }
        Ok(())
    }
}

/// What later entries inherit from earlier ones.
struct State {
    origin: Name,
    owner: Option<Name>,
    /// From `$TTL` (RFC 2308 section 4).
    ttl_default: Option<u32>,
    /// The TTL of the record before (RFC 1035 section 5.1), or the SOA's last field before any other.
    ttl_before: Option<u32>,
}

impl State {
    fn record(&mut self, entry: &Entry<'_>, file: u16) -> Result<Record, SyntaxError> {
        let mut fields = Fields::new(entry);
        let start = entry.tokens[0].place;
        if !entry.blank_owner {
            self.owner = Some(fields.name("the owner's name", &self.origin)?);
        }
        let owner = self.owner.clone().ok_or_else(|| {
            SyntaxError::new(start, "expected the owner's name: no entry before this one has one to inherit")
        })?;
        let (ttl, record_type) = head(&mut fields)?;
        let rdata = rdata(record_type, &mut fields, &self.origin)?;
        let ttl = ttl.or(self.ttl_default).or(self.ttl_before);
        let ttl = ttl.or(match &rdata {
            Rdata::Soa(soa) => Some(soa.minimum),
            _ => None,
        });
        let ttl = ttl.ok_or_else(|| {
            SyntaxError::new(start, "expected a TTL: there is no $TTL and no record before to inherit from")
        })?;
        self.ttl_before = Some(ttl);
        Ok(Record { owner, ttl, record_type, rdata, line: Line { file, number: start.line } })
    }
}

const TTL: &str = "a TTL from 0 to 2147483647 seconds, or with units as in 1h30m";

/// TTL and class, each at most once and in either order, then the type.
fn head(fields: &mut Fields<'_, '_>) -> Result<(Option<u32>, RecordType), SyntaxError> {
    let mut ttl = None;
    let mut class = None;
    loop {
        let token = fields.take("a TTL, a class or a type")?;
        if ttl.is_none() && token.text.first().is_some_and(u8::is_ascii_digit) && !token.quoted {
            let seconds = fields::seconds(token.text);
            ttl = Some(seconds.ok_or_else(|| SyntaxError::expected(token.place, TTL, token.text))?);
        } else if class.is_none() && is_class(token)? {
            class = Some(Class::IN);
        } else {
            let known = RecordType::from_text(token.text).filter(|_| !token.quoted);
            let record_type = known.ok_or_else(|| {
                let expected = match (ttl, class) {
                    (None, None) => "a TTL, the class IN or a record type",
                    (Some(_), None) => "the class IN or a record type",
                    (None, Some(_)) => "a TTL or a record type",
                    (Some(_), Some(_)) => "a record type",
                };
                SyntaxError::expected(token.place, expected, token.text)
            })?;
            return Ok((ttl, record_type));
        }
    }
}

/// Whether the token is the class IN. Other classes have zones of their own, which we do not serve.
fn is_class(token: Token<'_>) -> Result<bool, SyntaxError> {
    match Class::from_text(token.text) {
        Some(Class::IN) => Ok(!token.quoted),
        Some(_) => Err(SyntaxError::expected(token.place, "the class IN", token.text)),
        None => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    fn origin() -> Name {
        Name::from_text(b"example.com.", None).unwrap()
    }

    fn show(text: &str) -> String {
        let contents = match read_alone(text.as_bytes(), &origin()) {
            Ok(contents) => contents,
            Err(error) => return error.to_string(),
        };
        let mut out = Vec::new();
        for record in contents.records {
            let data = match &record.rdata {
                Rdata::Plain(octets) => octets.escape_ascii().to_string(),
                Rdata::Name(name) => name.to_string(),
                Rdata::Mx { preference, exchange } => format!("{preference} {exchange}"),
                Rdata::Around { before, name, after } => {
                    format!("{} {name} {}", before.escape_ascii(), after.escape_ascii())
                }
                Rdata::Soa(soa) => {
                    let mut text = format!("{} {}", soa.primary, soa.mailbox);
                    for number in [soa.serial, soa.refresh, soa.retry, soa.expire, soa.minimum] {
                        write!(text, " {number}").unwrap();
                    }
                    text
                }
            };
            out.push(format!("{} {} {} {data}", record.owner, record.ttl, record.record_type));
        }
        out.join("\n")
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(show(text), expected, "{text}");
    }

    /// The same, behind `$TTL 5`, for one record.
    #[track_caller]
    fn check_record(record: &str, expected: &str) {
        check(&format!("$TTL 5\n{record}"), expected);
    }

    #[test]
    fn a_whole_soa_over_several_lines() {
        check(
            "$TTL 1h\n@ IN SOA ns1 host\\.master.example.org. ( ; why\n 2026010100 ; serial\n 1h 15m 4w 30 )\n",
            "example.com. 3600 SOA ns1.example.com. host\\.master.example.org. 2026010100 3600 900 2419200 30",
        );
    }
    #[test]
    fn the_soa_gives_its_minimum_as_the_first_ttl() {
        check(
            "@ SOA a b 1 2 3 4 77\n@ NS a",
            "example.com. 77 SOA a.example.com. b.example.com. 1 2 3 4 77\nexample.com. 77 NS a.example.com.",
        );
    }
    #[test]
    fn ttl_and_class_in_either_order() {
        for head in ["IN", "7 IN", "IN 7", "7", "", "CLASS1 7s", "in"] {
            let ttl = if head.contains('7') { 7 } else { 5 };
            check_record(&format!("a {head} TXT x"), &format!("a.example.com. {ttl} TXT \\x01x"));
        }
    }
    #[test]
    fn an_owner_may_look_like_a_type_or_a_ttl() {
        check_record("IN A 192.0.2.1", "IN.example.com. 5 A \\xc0\\x00\\x02\\x01");
        check_record("7 A 192.0.2.1", "7.example.com. 5 A \\xc0\\x00\\x02\\x01");
        check_record("A TXT A", "A.example.com. 5 TXT \\x01A");
    }
    #[test]
    fn blank_owner_repeats_the_last() {
        check_record("a TXT 1\n\tTXT 2", "a.example.com. 5 TXT \\x011\na.example.com. 5 TXT \\x012");
        check_record(" TXT 1", "2:2: expected the owner's name: no entry before this one has one to inherit");
    }
    #[test]
    fn a_blank_owner_survives_a_new_origin() {
        check_record(
            "a TXT 1\n$ORIGIN sub\n TXT 2\nb TXT 3",
            "a.example.com. 5 TXT \\x011\na.example.com. 5 TXT \\x012\nb.sub.example.com. 5 TXT \\x013",
        );
    }
    #[test]
    fn ttl_falls_back_to_the_record_before() {
        check("a 9 TXT 1\na TXT 2", "a.example.com. 9 TXT \\x011\na.example.com. 9 TXT \\x012");
        check("a TXT 1", "1:1: expected a TTL: there is no $TTL and no record before to inherit from");
    }
    #[test]
    fn ttl_units() {
        for (text, expected) in
            [("1w", 604_800), ("1d2H3m4s", 93_784), ("0", 0), ("2147483647", 2_147_483_647)]
        {
            check(&format!("$TTL {text}\na TXT x"), &format!("a.example.com. {expected} TXT \\x01x"));
        }
        for bad in ["2147483648", "1x", "1h30", "h", "-1", "99999999999999999999999w", "4000w"] {
            assert!(show(&format!("$TTL {bad}\n")).starts_with("1:6: expected a TTL"), "{bad}");
        }
    }
    #[test]
    fn addresses() {
        check_record(
            "a AAAA 2001:db8::1",
            "a.example.com. 5 AAAA  \\x01\\r\\xb8\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x01",
        );
        check_record("a A 192.0.2.300", "2:5: expected an IPv4 address, found '192.0.2.300'");
        check_record("a AAAA 192.0.2.3", "2:8: expected an IPv6 address, found '192.0.2.3'");
        check_record("a A", "2:4: expected an IPv4 address, found the end of the entry");
        check_record("a A 192.0.2.3 x", "2:15: expected the end of the entry, found 'x'");
    }
    #[test]
    fn names_in_data_are_relative_to_the_origin() {
        check_record("a CNAME b", "a.example.com. 5 CNAME b.example.com.");
        check_record("a CNAME @", "a.example.com. 5 CNAME example.com.");
        check_record("a PTR b.", "a.example.com. 5 PTR b.");
        check_record("a CNAME b..c", "2:9: expected the canonical name, found 'b..c': a label is empty");
        check_record("a CNAME \"b\"", "2:9: expected the canonical name without quotes, found 'b'");
    }
    #[test]
    fn mx_and_srv() {
        check_record("@ MX 10 mail", "example.com. 5 MX 10 mail.example.com.");
        check_record("@ MX ten mail", "2:6: expected a preference from 0 to 65535, found 'ten'");
        check_record("@ MX +1 mail", "2:6: expected a preference from 0 to 65535, found '+1'");
        check_record(
            "_x._tcp SRV 1 2 65535 h",
            "_x._tcp.example.com. 5 SRV \\x00\\x01\\x00\\x02\\xff\\xff h.example.com. ",
        );
        check_record("_x._tcp SRV 1 2 65536 h", "2:17: expected a port from 0 to 65535, found '65536'");
    }
    #[test]
    fn strings() {
        check_record(r#"a TXT one "two three" """#, "a.example.com. 5 TXT \\x03one\\ttwo three\\x00");
        check_record(r#"a TXT "q\"\\\009""#, "a.example.com. 5 TXT \\x04q\\\"\\\\\\t");
        check_record(r#"a TXT "\256""#, r"2:7: expected \DDD (000 to 255) or \X in a string, found '\\256'");
        let long = "x".repeat(256);
        check_record(&format!("a TXT {long}"), "2:7: a string of 256 octets; at most 255 fit: split it");
        check_record("a TXT", "2:6: expected a string, found the end of the entry");
    }
    #[test]
    fn caa() {
        check_record(
            "@ CAA 128 issue \"ca.example.net\"",
            "example.com. 5 CAA \\x80\\x05issueca.example.net",
        );
        check_record("@ CAA 0 is-sue x", "2:9: expected a tag of letters and digits, found 'is-sue'");
    }
    #[test]
    fn generic_data() {
        check_record(r"a TYPE65280 \# 3 ab cd EF", "a.example.com. 5 TYPE65280 \\xab\\xcd\\xef");
        check_record(r"a TYPE65280 \# 0", "a.example.com. 5 TYPE65280 ");
        check_record(r"a TYPE1 \# 4 c0000201", "a.example.com. 5 A \\xc0\\x00\\x02\\x01");
        check_record(r"a CNAME \# 3 016100", "a.example.com. 5 CNAME a.");
        check_record(r"a A \# 3 c00002", "2:5: expected A data: an IPv4 address");
        check_record(r"a TXT \# 2 0561", "2:7: expected TXT data: a string");
        check_record(r"a TYPE65280 \# 3 abcd", "2:16: expected 3 octets, found 2");
        check_record(r"a TYPE65280 \# 1 abcd", "2:16: expected 1 octets, found more");
        check_record(r"a TYPE65280 \# 2 abc d", "2:18: expected octets in hexadecimal, found 'abc'");
        check_record(
            "a TYPE65280 x",
            "2:13: expected \\# and octets in hexadecimal: TYPE65280 has no text form here",
        );
    }
    #[test]
    fn what_is_not_a_record() {
        check_record("a NOPE x", "2:3: expected a TTL, the class IN or a record type, found 'NOPE'");
        check_record("a 5 NOPE x", "2:5: expected the class IN or a record type, found 'NOPE'");
        check_record("a 5 5 A 192.0.2.1", "2:5: expected the class IN or a record type, found '5'");
        check_record("a CH TXT x", "2:3: expected the class IN, found 'CH'");
        check_record("a IN IN TXT x", "2:6: expected a TTL or a record type, found 'IN'");
        check_record("a", "2:2: expected a TTL, a class or a type, found the end of the entry");
    }
    #[test]
    fn directives() {
        check("$DATE", "1:1: expected $ORIGIN, $TTL, $INCLUDE or $GENERATE, found '$DATE'");
        check("$origin org.\n$ttl 5\na TXT x", "a.org. 5 TXT \\x01x");
        check("$ORIGIN", "1:8: expected a domain name, found the end of the entry");
    }
    /// Files of a folder: reading `main` gives the owners of all records with their line and file, or an error.
    #[track_caller]
    fn check_files(files: &[(&str, &str)], expected: &str) {
        let text = |name: &str| files.iter().find(|(known, _)| *known == name).map(|(_, text)| *text);
        let mut include = |path: &Path| {
            let text = text(path.to_str().unwrap()).ok_or("there is no such file")?;
            Ok((path.to_owned(), text.as_bytes().to_vec()))
        };
        let got = match read(text("main").unwrap().as_bytes(), &origin(), &mut include) {
            Ok(contents) => {
                let show = |record: &Record| format!("{} {}:{}", record.owner, record.line.file, record.line);
                contents.records.iter().map(show).collect::<Vec<_>>().join("\n")
            }
            Err(error) => {
                let file = error.file.as_ref().map_or(String::new(), |file| format!("{}:", file.display()));
                format!("{file}{error}")
            }
        };
        assert_eq!(got, expected);
    }

    #[test]
    fn included_files_have_an_origin_and_leave_ours_as_it_was() {
        check_files(
            &[
                ("main", "$TTL 1\na TXT x\n$INCLUDE one sub\n TXT y\nb TXT z\n$INCLUDE \"one\""),
                ("one", "@ TXT 1\n$ORIGIN deep\nc TXT 2\n"),
            ],
            "a.example.com. 0:2\nsub.example.com. 1:1\nc.deep.sub.example.com. 1:3\na.example.com. 0:4\n\
             b.example.com. 0:5\nexample.com. 2:1\nc.deep.example.com. 2:3",
        );
    }
    #[test]
    fn an_error_in_an_included_file_names_it() {
        check_files(
            &[("main", "$TTL 1\n$INCLUDE one"), ("one", "\n$INCLUDE two"), ("two", "a A x")],
            "two:1:5: expected an IPv4 address, found 'x'",
        );
        check_files(
            &[("main", "$TTL 1\n$INCLUDE one"), ("one", "\n$INCLUDE two")],
            "one:2:10: 'two' cannot be included: there is no such file",
        );
        check_files(&[("main", "$INCLUDE")], "1:9: expected the name of a file, found the end of the entry");
    }
    #[test]
    fn a_file_that_includes_itself_is_noticed() {
        check_files(
            &[("main", "$INCLUDE main")],
            "main:1:10: 'main' cannot be included: it would be the file within 16 others; a loop?",
        );
    }

    /// Owner and data of what a `$GENERATE` line gives, as text.
    #[track_caller]
    fn check_generated(line: &str, expected: &[&str]) {
        assert_eq!(show(&format!("$TTL 5\n$GENERATE {line}")), expected.join("\n"));
    }

    #[test]
    fn generated_numbers() {
        check_generated("8-9 h$ TXT a$", &["h8.example.com. 5 TXT \\x02a8", "h9.example.com. 5 TXT \\x02a9"]);
        check_generated(
            "0-9/4 $ 7 IN PTR h$.x.",
            &["0.example.com. 7 PTR h0.x.", "4.example.com. 7 PTR h4.x.", "8.example.com. 7 PTR h8.x."],
        );
    }
    #[test]
    fn generated_numbers_have_an_offset_a_width_and_a_base() {
        for (form, expected) in [
            ("${5}", "22"),
            ("${-20}", "-3"),
            ("${+1,4}", "0018"),
            ("${0,0,d}", "17"),
            ("${0,4,x}", "0011"),
            ("${9,4,X}", "001A"),
            ("${0,1,o}", "21"),
            ("${0,7,n}", "1.1.0.0"),
            ("${9,3,N}", "A.1"),
            ("${0,2,n}", "1.1"),
            ("$$", "\\$"),
            ("\\$", "\\$"),
            ("a\\.$", "a\\.17"),
            ("$-$", "17-17"),
        ] {
            let expected = format!("{expected}.example.com. 5 PTR x.");
            check_generated(&format!("17-17 {form} PTR x."), &[&expected]);
        }
        // The width of nibbles counts their dots.
        check_generated("17-17 ${0,6,n} PTR x.", &["1.1.0. 5 PTR x."]);
    }
    #[test]
    fn what_generates_nothing() {
        check_record(
            "$GENERATE 3-1 a$ A 192.0.2.$",
            "2:11: expected a range as START-STOP or START-STOP/STEP, found '3-1'",
        );
        check_record(
            "$GENERATE 1-3/0 a A 192.0.2.1",
            "2:11: expected a range as START-STOP or START-STOP/STEP, found '1-3/0'",
        );
        check_record(
            "$GENERATE 0-2147483647 a A 192.0.2.1",
            "2:1: 2147483648 records; at most 4194304 are generated",
        );
        check_record(
            "$GENERATE 1-3 a${1,2,z} A 192.0.2.1",
            "2:15: expected ${OFFSET}, ${OFFSET,WIDTH} or ${OFFSET,WIDTH,BASE} with BASE d, o, x, X, n or N, found '${1,2,z}'",
        );
        check_record(
            "$GENERATE 250-260 a$ A 192.0.2.$",
            "2:1: in the record for 256: expected an IPv4 address, found '192.0.2.256'",
        );
        check_record("$GENERATE 1-2", "2:14: expected the owner's name, found the end of the entry");
    }

    #[test]
    fn errors_inside_parentheses_name_their_own_line() {
        check_record("@ SOA a b (\n 1\n 2x\n)", "4:2: expected the refresh time, found '2x'");
    }
}
