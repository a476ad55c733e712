//! libFuzzer's entry to [`gatehouse_fuzz::expression`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gatehouse_fuzz::expression(bytes));
