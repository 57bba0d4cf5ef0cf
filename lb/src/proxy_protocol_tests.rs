use proptest::prelude::*;

use super::*;

/// `length client server` of a header at the beginning of `bytes`, `length itself`, `more`, or why it is none.
fn read(bytes: &[u8]) -> String {
    match parse(bytes) {
        Ok(None) => "more".to_owned(),
        Ok(Some((length, Source::Itself))) => format!("{length} itself"),
        Ok(Some((length, Source::Client(Pair { client, server })))) => format!("{length} {client} {server}"),
        Err(malformed) => format!("{malformed:?}"),
    }
}

#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(read(text.as_bytes()), expected, "{text:?}");
}

/// A header of version 2: command byte, family byte, block.
#[track_caller]
fn check_binary(command: u8, family: u8, block: &[u8], expected: &str) {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend_from_slice(&[command, family]);
    bytes.extend_from_slice(&u16::try_from(block.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(block);
    assert_eq!(read(&bytes), expected, "{bytes:x?}");
}

#[test]
fn lines_name_a_client() {
    check("PROXY TCP4 192.0.2.1 198.51.100.2 1234 80\r\n", "43 192.0.2.1:1234 198.51.100.2:80");
    check("PROXY TCP4 192.0.2.1 198.51.100.2 1234 80\r\nGET /", "43 192.0.2.1:1234 198.51.100.2:80");
    check("PROXY TCP6 2001:db8::1 ::1 65535 0\r\n", "36 [2001:db8::1]:65535 [::1]:0");
    check("PROXY UNKNOWN\r\n", "15 itself");
    check("PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", "59 itself");
}

#[test]
fn a_line_may_come_in_pieces() {
    for text in ["P", "PROXY ", "PROXY TCP4 192.0.2.1", "PROXY UNKNOWN\r"] {
        check(text, "more");
    }
}

#[test]
fn lines_are_read_strictly() {
    for text in [
        "PROXY TCP4 192.0.2.1 198.51.100.2 1234 80\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1234\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1234 80 x\r\n",
        "PROXY TCP4  192.0.2.1 198.51.100.2 1234 80\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 01234 80\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 +1 80\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 65536 80\r\n",
        "PROXY TCP4 192.0.2.01 198.51.100.2 1 80\r\n",
        "PROXY TCP4 2001:db8::1 ::1 1 80\r\n",
        "PROXY TCP6 192.0.2.1 198.51.100.2 1 80\r\n",
        "PROXY UDP4 192.0.2.1 198.51.100.2 1 80\r\n",
        "PROXY \r\n",
    ] {
        check(text, "Line");
    }
    check(&format!("PROXY UNKNOWN {}", "x".repeat(200)), "TooLong");
    check("GET / HTTP/1.1\r\n", "Absent");
    check("PRI * HTTP/2.0\r\n", "Absent");
    check("proxy TCP4", "Absent");
}

#[test]
fn binary_headers_name_a_client() {
    let four = [192, 0, 2, 1, 198, 51, 100, 2, 4, 210, 0, 80];
    check_binary(0x21, 0x11, &four, "28 192.0.2.1:1234 198.51.100.2:80");
    let mut with_tlvs = four.to_vec();
    with_tlvs.extend_from_slice(&[0x03, 0, 4, 1, 2, 3, 4, 0x04, 0, 0]);
    check_binary(0x21, 0x11, &with_tlvs, "38 192.0.2.1:1234 198.51.100.2:80");
    let mut six = [0; 36];
    (six[15], six[31], six[33], six[35]) = (1, 2, 7, 80);
    check_binary(0x21, 0x21, &six, "52 [::1]:7 [::2]:80");
}

#[test]
fn health_checks_and_unknown_clients_keep_the_sockets_addresses() {
    check_binary(0x20, 0x00, &[], "16 itself");
    check_binary(0x20, 0x11, &[1, 2, 3], "19 itself");
    check_binary(0x21, 0x00, &[9; 5], "21 itself");
    check_binary(0x21, 0x31, &[0; 216], "232 itself");
}

#[test]
fn binary_headers_are_read_strictly() {
    check_binary(0x11, 0x11, &[0; 12], "Binary");
    check_binary(0x22, 0x11, &[0; 12], "Binary");
    check_binary(0x21, 0x11, &[0; 11], "Binary");
    check_binary(0x21, 0x21, &[0; 35], "Binary");
    check_binary(0x21, 0x41, &[0; 12], "Binary");
    check_binary(0x21, 0x11, &[0; HEADER_MAX], "TooLong");
    assert_eq!(read(b"\r\n\r\n\0\r\nQUIT\r"), "Absent");
}

#[test]
fn what_nobody_can_be_named_for_is_said_so() {
    assert_eq!(encode(Version::V1, None), b"PROXY UNKNOWN\r\n");
    assert_eq!(read(&encode(Version::V2, None)), "16 itself");
}

#[test]
fn two_families_become_one() {
    let pair = |client: &str, server: &str| {
        Some(Pair { client: client.parse().unwrap(), server: server.parse().unwrap() })
    };
    let mapped = encode(Version::V1, pair("[::ffff:192.0.2.1]:7", "192.0.2.9:80"));
    assert_eq!(mapped, b"PROXY TCP4 192.0.2.1 192.0.2.9 7 80\r\n");
    let mixed = encode(Version::V1, pair("[2001:db8::1]:7", "192.0.2.9:80"));
    assert_eq!(mixed, b"PROXY TCP6 2001:db8::1 ::ffff:192.0.2.9 7 80\r\n");
}

fn pairs() -> impl Strategy<Value = Pair> {
    let pair = |(one, two): (IpAddr, IpAddr), from, to| Pair {
        client: SocketAddr::new(one, from),
        server: SocketAddr::new(two, to),
    };
    let four = any::<(Ipv4Addr, Ipv4Addr)>().prop_map(|(one, two)| (one.into(), two.into()));
    let six = any::<(Ipv6Addr, Ipv6Addr)>().prop_map(|(one, two)| (one.into(), two.into()));
    (prop_oneof![four, six], any::<u16>(), any::<u16>()).prop_map(move |(ips, from, to)| pair(ips, from, to))
}

proptest! {
    #[test]
    fn what_is_written_is_read(pair in pairs(), binary: bool, after: Vec<u8>) {
        let mut bytes = encode(if binary { Version::V2 } else { Version::V1 }, Some(pair));
        let length = bytes.len();
        bytes.extend_from_slice(&after);
        prop_assert_eq!(parse(&bytes), Ok(Some((length, Source::Client(same_family(pair))))));
        for cut in 0..length {
            prop_assert_eq!(parse(&bytes[..cut]), Ok(None), "{} of {}", cut, length);
        }
    }

    #[test]
    fn no_bytes_confuse_it(bytes: Vec<u8>, prefix in 0_usize..3) {
        let prefix: &[u8] = [b"".as_slice(), b"PROXY TCP4 ", &SIGNATURE][prefix];
        let bytes = [prefix, &bytes].concat();
        if let Ok(Some((length, _))) = parse(&bytes) {
            prop_assert!(length <= bytes.len() && length <= HEADER_MAX);
        }
    }
}
