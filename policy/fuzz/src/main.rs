//! The targets under libFuzzer. `FUZZ_TARGET` names one; arguments are libFuzzer's own. `just fuzz` sets both.
#![no_main]

use std::env;
use std::sync::OnceLock;

use portcullis_fuzz::TARGETS;
use portcullis_fuzz::Target;

static TARGET: OnceLock<Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(init: {
    let name = env::var("FUZZ_TARGET").unwrap_or_default();
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    let names: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
    let (_, target) = found.unwrap_or_else(|| panic!("FUZZ_TARGET is `{name}`, not one of {}", names.join(", ")));
    TARGET.get_or_init(|| *target);
}, |bytes: &[u8]| {
    if let Some(target) = TARGET.get() {
        target(bytes);
    }
});
