//! A setting of the linker, for the module alone.

fn main() {
    // Indices in as few bytes as each needs: without it in five, whatever they are. Takes a profile that strips debug
    // information, as all of the workspace's for the module do.
    println!("cargo::rustc-link-arg-cdylib=--compress-relocations");
    println!("cargo::rerun-if-changed=build.rs");
}
