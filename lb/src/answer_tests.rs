use super::*;

/// What becomes of an answer: `status fields [body]`, the body as its parts, trailers in braces; then what is left over in
/// parentheses, `close` if no other answer may follow, `...` if it is not whole, `malformed` if it is none.
fn read(pieces: &[&[u8]], to_head: bool, ends: bool) -> String {
    let (mut bytes, mut places, mut headers) = (BytesMut::new(), Places::new(), HeaderMap::new());
    headers.insert("of-the-request", HeaderValue::from_static("x"));
    let (mut head_of, mut framing, mut said, mut body) = (None, Framing::OVER, String::new(), Vec::new());
    let mut trailers_seen = String::new();
    let mut step = |bytes: &mut BytesMut| -> Result<(), Malformed> {
        if head_of.is_none() {
            head_of = head(bytes, to_head, &mut places, &mut headers)?;
            let Some(head) = &head_of else { return Ok(()) };
            framing = head.framing;
            said = head.status.as_u16().to_string();
            for (name, value) in &headers {
                said += &format!(" {name}={}", String::from_utf8_lossy(value.as_bytes()));
            }
            if let Some(reason) = &head.reason {
                said += &format!(" ({})", String::from_utf8_lossy(reason.as_bytes()));
            }
            if !head.persistent {
                said += " close";
            }
        }
        while let Some(part) = framing.next(bytes)? {
            match part {
                Part::Data(data) => body.extend_from_slice(&data),
                Part::Trailers(trailers) => {
                    let lines =
                        trailers.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap()));
                    trailers_seen = format!(" {{{}}}", lines.collect::<Vec<_>>().join(" "));
                }
            }
        }
        Ok(())
    };
    for piece in pieces {
        bytes.extend_from_slice(piece);
        if step(&mut bytes).is_err() {
            return "malformed".to_owned();
        }
    }
    if head_of.is_some() && ends && framing.closed().is_err() {
        return "malformed".to_owned();
    }
    if head_of.is_none() || !framing.is_over() {
        said += " ...";
    }
    let left = if bytes.is_empty() || !framing.is_over() || head_of.is_none() {
        String::new()
    } else {
        format!(" ({})", String::from_utf8_lossy(&bytes))
    };
    format!("{said} [{}]{trailers_seen}{left}", String::from_utf8_lossy(&body))
}

/// The same must come out wherever the bytes are cut.
#[track_caller]
fn check_as(text: &str, to_head: bool, ends: bool, expected: &str) {
    let bytes = text.as_bytes();
    for cut in 0..bytes.len() {
        assert_eq!(read(&[&bytes[..cut], &bytes[cut..]], to_head, ends), expected, "{text:?} cut at {cut}");
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(read(&single, to_head, ends), expected, "{text:?} byte by byte");
}

#[track_caller]
fn check(text: &str, expected: &str) {
    check_as(text, false, false, expected);
}

#[test]
fn a_length_says_where_an_answer_ends() {
    check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", "200 content-length=2 [ab]");
    check("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nabHTTP/1.1", "200 content-length=2 [ab] (HTTP/1.1)");
    check("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nempty:\r\n\r\n", "404 content-length=0 empty= []");
    check("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab", "200 content-length=3 ... [ab]");
    check(
        "HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\ncontent-length: 2\r\n\r\nab",
        "200 content-length=2, 2 content-length=2 [ab]",
    );
    check("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc", "malformed");
    check("HTTP/1.1 200 OK\r\ncontent-length: 2, 3\r\n\r\nabc", "malformed");
    for wrong in ["+2", "-2", "2a", "0x2", "", "2,", "99999999999999999999"] {
        check(&format!("HTTP/1.1 200 OK\r\ncontent-length: {wrong}\r\n\r\nabc"), "malformed");
    }
    check_as("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab", false, true, "malformed");
}

#[test]
fn some_answers_have_no_body() {
    check("HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n", "204 content-length=5 []");
    check(
        "HTTP/1.1 304 Not Modified\r\ntransfer-encoding: chunked\r\n\r\n",
        "304 transfer-encoding=chunked []",
    );
    check_as("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", true, false, "200 content-length=5 []");
    check("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\nab", "101 upgrade=x [] (ab)");
}

#[test]
fn what_is_only_informational_is_skipped() {
    let early = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n";
    check(&format!("{early}HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na"), "200 content-length=1 [a]");
    check(early, " ... []");
}

#[test]
fn chunks() {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n";
    let said = "200 transfer-encoding=Chunked";
    check(
        &format!("{head}3\r\nabc\r\nA;x=\"y\"\r\n0123456789\r\n0\r\n\r\n"),
        &format!("{said} [abc0123456789]"),
    );
    check(&format!("{head}0\r\n\r\nHTTP"), &format!("{said} [] (HTTP)"));
    check(&format!("{head}1 \t\r\na\r\n0\r\na: b\r\nc: d\r\n\r\n"), &format!("{said} [a] {{a=b c=d}}"));
    check(&format!("{head}3\r\nab"), &format!("{said} ... [ab]"));
    check(&format!("{head}3\r\nabc\r\n0\r\n"), &format!("{said} ... [abc]"));
    check_as(&format!("{head}3\r\nabc\r\n0\r\n"), false, true, "malformed");
}

#[test]
fn chunks_with_two_readings_are_none() {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    for chunks in [
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "3 3\r\nabc\r\n0\r\n\r\n",
        "\r\n\r\n",
        ";x\r\n\r\n",
        "3;x\ry\r\nabc\r\n0\r\n\r\n",
        "10000000000000000\r\nabc\r\n",
        "0\r\na: b\n\r\n\r\n",
        "0\r\n a: b\r\n\r\n",
        "0\r\na b: c\r\n\r\n",
    ] {
        check(&format!("{head}{chunks}"), "malformed");
    }
    let extension = "x".repeat(EXTRA_BYTES_MAX / 2);
    let chunk = format!("1;{extension}\r\na\r\n");
    assert_eq!(read(&[format!("{head}{chunk}{chunk}").as_bytes()], false, false), "malformed");
    assert_eq!(read(&[format!("{head}1;{extension}{extension}").as_bytes()], false, false), "malformed");
    assert_eq!(
        read(&[format!("{head}0\r\na: {extension}{extension}").as_bytes()], false, false),
        "malformed"
    );
}

#[test]
fn without_a_length_the_end_of_the_connection_is_the_end() {
    let (head, said) = ("HTTP/1.1 200 OK\r\na: b\r\n\r\n", "200 a=b");
    check(&format!("{head}abc"), &format!("{said} ... [abc]"));
    check_as(&format!("{head}abc"), false, true, &format!("{said} [abc]"));
    let gzip = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, gzip\r\ncontent-length: 1\r\n\r\nabc";
    check_as(gzip, false, true, "200 transfer-encoding=chunked, gzip content-length=1 [abc]");
    check("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "malformed");
}

#[test]
fn whether_another_answer_may_follow() {
    let answer =
        |version: &str, lines: &str| format!("HTTP/{version} 200 OK\r\n{lines}content-length: 0\r\n\r\n");
    check(&answer("1.1", "connection: x, CLOSE\r\n"), "200 connection=x, CLOSE content-length=0 close []");
    check(&answer("1.0", ""), "200 content-length=0 close []");
    check(&answer("1.0", "connection: Keep-Alive\r\n"), "200 connection=Keep-Alive content-length=0 []");
    check(
        &answer("1.1", "connection: close\r\nconnection: keep-alive\r\n"),
        "200 connection=close connection=keep-alive content-length=0 close []",
    );
}

#[test]
fn heads_that_are_none() {
    for text in [
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 099 x\r\n\r\n",
        "HTTP/1.1 200 OK\r\na b: c\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: b\0\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n\r\n",
    ] {
        assert_eq!(read(&[text.as_bytes()], false, false), "malformed", "{text:?}");
    }
    let many = "a: b\r\n".repeat(LINES_MAX + 1);
    assert_eq!(read(&[format!("HTTP/1.1 200 OK\r\n{many}\r\n").as_bytes()], false, false), "malformed");
    let long = "x".repeat(HEAD_BYTES_MAX);
    assert_eq!(read(&[format!("HTTP/1.1 200 OK\r\na: {long}").as_bytes()], false, false), "malformed");
    assert_eq!(
        read(&[format!("HTTP/1.1 200 OK\r\na: {long}\r\n\r\n").as_bytes()], false, false),
        "malformed"
    );
}

#[test]
fn an_unusual_reason_is_kept() {
    check("HTTP/1.1 200 Fine\r\ncontent-length: 0\r\n\r\n", "200 content-length=0 (Fine) []");
    check("HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", "200 content-length=0 () []");
}

#[test]
fn the_fields_of_the_request_stay_until_there_is_an_answer() {
    let (mut bytes, mut places, mut headers) = (BytesMut::new(), Places::new(), HeaderMap::new());
    headers.insert("of-the-request", HeaderValue::from_static("x"));
    bytes.extend_from_slice(b"HTTP/1.1 200 OK\r\na: b\r\ncontent-length: z\r\n\r\n");
    assert!(head(&mut bytes, false, &mut places, &mut headers).is_err());
    assert_eq!(headers["of-the-request"], "x");
}
