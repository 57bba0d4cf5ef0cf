//! What a connection begins with when a PROXY header may stand there.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lb::fuzzing::proxy_header(data));
