//! What a client sends that may be signed, or ask for a whole zone.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dns::fuzzing::exchange(data));
