//! What a backend sends back.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lb::fuzzing::answer(data));
