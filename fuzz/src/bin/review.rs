//! libFuzzer's entry to [`gatehouse_fuzz::review`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gatehouse_fuzz::review(bytes));
