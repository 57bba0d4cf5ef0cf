//! What a client sends on one connection.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lb::fuzzing::request(data));
