//! libFuzzer's entry to [`gatehouse_fuzz::quantity`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gatehouse_fuzz::quantity(bytes));
