//! The text of a zone file, and questions for what it says.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dns::fuzzing::zone_text(data));
