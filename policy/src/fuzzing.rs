//! For the fuzz targets: what they need and nobody else may have.

/// Makes a policy and requests of `bytes`, and panics where the engine and the reference disagree about them.
pub fn engine_decides_as_the_reference(bytes: &[u8]) {
    crate::tests::drawn::engine_decides_as_the_reference(bytes);
}
