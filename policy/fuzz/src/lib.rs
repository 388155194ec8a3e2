//! What must hold of every parser, whatever bytes it gets.
//!
//! A target is a function of bytes that panics where something does not hold. Parsers must not panic themselves, and what
//! they accept must keep a promise: read again it is the same, a second reader agrees, the forbidden is not in it.
//! Absent: the fuzzer. `just fuzz` puts libFuzzer on top; `cargo test` runs each corpus once.

mod certificates;
mod document;
mod forwarded;
mod requests;
mod tokens;

/// `bytes` in, a panic if something does not hold.
pub type Target = fn(bytes: &[u8]);

/// Every target by name; `corpus/NAME` holds what it has been shown to react to.
pub const TARGETS: &[(&str, Target)] = &[
    ("claims", tokens::claims),
    #[cfg(feature = "libfuzzer")]
    ("engine", portcullis_policy::fuzzing::engine_decides_as_the_reference),
    ("forwarded", forwarded::forwarded),
    ("head", requests::head),
    ("host", requests::host),
    ("jwks", tokens::key_set),
    ("jws", tokens::jws),
    ("leaf", certificates::leaf),
    ("path", requests::path),
    ("pem", certificates::pem),
    ("policy", document::policy),
    ("spiffe", certificates::spiffe),
    ("yaml", document::yaml),
];
