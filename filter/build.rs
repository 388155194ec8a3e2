//! A setting of the linker, for the module alone.

fn main() {
    // Indices in as few bytes as each needs: without it in five, whatever they are.
    println!("cargo::rustc-link-arg-cdylib=--compress-relocations");
}
