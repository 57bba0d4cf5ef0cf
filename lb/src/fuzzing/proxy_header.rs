//! The PROXY header: however the bytes are cut, the verdict is the same one, and what is understood is written so that it
//! is understood again.

use std::net::SocketAddr;

use crate::proxy_protocol::{HEADER_MAX, Pair, Source, Version, encode, parse};

/// `data` is what a connection begins with.
pub fn proxy_header(data: &[u8]) {
    let verdict = parse(data);
    let length = match verdict {
        Ok(Some((length, _))) => length,
        Ok(None) => {
            assert!(data.len() < HEADER_MAX, "more is wanted than any header has");
            data.len()
        }
        Err(_) => data.len(),
    };
    assert!(length <= data.len(), "more was read than there is");
    // A verdict falls once: what a beginning came to stays, whatever follows it.
    let fell = (0..=length).find(|end| parse(&data[..*end]) != Ok(None));
    match fell {
        Some(end) => assert_eq!(parse(&data[..end]), verdict, "another verdict after {end} bytes"),
        None => assert_eq!(verdict, Ok(None)),
    }
    let Ok(Some((length, source))) = verdict else { return };
    assert_eq!(fell, Some(length), "the header does not end where its verdict falls");
    if let Source::Client(pair) = source {
        written(pair);
    }
}

fn written(pair: Pair) {
    for version in [Version::V1, Version::V2] {
        let bytes = encode(version, Some(pair));
        let Ok(Some((length, Source::Client(read)))) = parse(&bytes) else {
            panic!("{pair:?} is written as {bytes:?}, which names nobody");
        };
        assert_eq!(length, bytes.len());
        let plain = |address: SocketAddr| (address.ip().to_canonical(), address.port());
        assert_eq!((plain(read.client), plain(read.server)), (plain(pair.client), plain(pair.server)));
    }
}
