//! libFuzzer's entry: the target is named by `TANDEM_TARGET`.
#![no_main]

use std::sync::OnceLock;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    static TARGET: OnceLock<targets::Target> = OnceLock::new();
    let target = TARGET.get_or_init(|| {
        #[allow(clippy::disallowed_methods, reason = "libFuzzer owns the command line")]
        let name = std::env::var("TANDEM_TARGET").unwrap_or_default();
        targets::target(&name).unwrap_or_else(|| panic!("TANDEM_TARGET={name} is no target"))
    });
    target(data);
});
