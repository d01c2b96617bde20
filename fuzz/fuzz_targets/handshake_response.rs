#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| forebay::fuzzing::handshake_response(data));
