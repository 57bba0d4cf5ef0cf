//! What a client sends over UDP or TCP, answered by both paths.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dns::fuzzing::packet(data));
