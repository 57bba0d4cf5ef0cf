//! Cookies: sealed, made up, and among others.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lb::fuzzing::cookie(data));
