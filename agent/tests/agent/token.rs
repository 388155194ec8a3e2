//! `portcullis token verify` as people and scripts use it: the built program, its streams and its exit status.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

/// The key of RFC 7515 appendix A.3.
const KEYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;

/// The token of RFC 7515 appendix A.3: issued by `joe`, ended in 2011.
const TOKEN: &str = concat!(
    "eyJhbGciOiJFUzI1NiJ9.",
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.",
    "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
);

fn verify(directory: &Path, keys: &str, args: &[&str], input: &[u8]) -> Output {
    let file = directory.join("keys.json");
    fs::write(&file, keys).expect("the keys can be written");
    let mut child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["token", "verify", "--jwks"])
        .arg(&file)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program was built");
    // It may end without reading: then the write fails, and its status says so.
    let _ = child.stdin.take().expect("it is piped").write_all(input);
    child.wait_with_output().expect("it ends")
}

fn stdout(output: &Output) -> &str {
    str::from_utf8(&output.stdout).expect("UTF-8")
}

#[test]
fn each_line_is_answered_by_a_line() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let input = [TOKEN.as_bytes(), b"\n\n\xff.\xff.\xff\n", &TOKEN.as_bytes()[..TOKEN.len() - 2], b"\n"].concat();
    let output = verify(directory.path(), KEYS, &["--signature-only"], &input);
    assert_eq!(
        stdout(&output),
        concat!(
            "{\"valid\":true,\"reason\":\"verified\"}\n",
            "{\"valid\":false,\"reason\":\"token_malformed\"}\n",
            "{\"valid\":false,\"reason\":\"token_malformed\"}\n",
            "{\"valid\":false,\"reason\":\"token_signature_invalid\"}\n",
        )
    );
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn claims_count_unless_only_the_signature_is_asked_for() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let line = format!("{TOKEN}\n");
    let claims = ["--issuer", "joe", "--audience", "orders"];
    let output = verify(directory.path(), KEYS, &claims, line.as_bytes());
    assert_eq!(stdout(&output), "{\"valid\":false,\"reason\":\"token_expired\"}\n");
    // Of several faults the gate names the same: the issuer before the algorithm, and the signature last.
    let forged = format!("{}\n", TOKEN.replace(".DtEhU3", ".EtEhU3"));
    let output = verify(directory.path(), KEYS, &claims, forged.as_bytes());
    assert_eq!(stdout(&output), "{\"valid\":false,\"reason\":\"token_expired\"}\n");
    let output = verify(directory.path(), KEYS, &["--signature-only"], forged.as_bytes());
    assert_eq!(stdout(&output), "{\"valid\":false,\"reason\":\"token_signature_invalid\"}\n");
    let other = ["--issuer", "jane", "--audience", "orders", "--algorithms", "ES384"];
    let output = verify(directory.path(), KEYS, &other, forged.as_bytes());
    assert_eq!(stdout(&output), "{\"valid\":false,\"reason\":\"token_issuer_mismatch\"}\n");
    let others = ["--signature-only", "--algorithms", "ES384,RS256"];
    let output = verify(directory.path(), KEYS, &others, line.as_bytes());
    assert_eq!(stdout(&output), "{\"valid\":false,\"reason\":\"token_algorithm_not_allowed\"}\n");
}

#[test]
fn wrong_usage_is_2_and_wrong_keys_are_1() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let cases: [(&str, &str, &[&str], i32, &str); 4] = [
        ("no issuer", KEYS, &["--audience", "orders"], 2, "--issuer"),
        ("unknown algorithm", KEYS, &["--signature-only", "--algorithms", "HS256"], 2, "known are ES256"),
        ("both", KEYS, &["--signature-only", "--issuer", "joe"], 2, "cannot be used with"),
        ("no keys", "{}", &["--signature-only"], 1, "is not a JWK Set: no array `keys`"),
    ];
    for (name, keys, args, status, words) in cases {
        let output = verify(directory.path(), keys, args, b"");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{name}: {errors}");
        assert!(errors.contains(words), "{name}: {errors}");
    }
}

#[test]
fn the_help_says_which_of_the_options_are_needed() {
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["token", "verify", "--help"])
        .output()
        .expect("the program was built");
    let help = stdout(&output).split_whitespace().collect::<Vec<_>>().join(" ");
    for words in [
        "--jwks <FILE> --issuer <ISSUER> --audience <AUDIENCE> [OPTIONS]",
        "--jwks <FILE> --signature-only [OPTIONS]",
        "Either `--issuer` and `--audience` are needed, or `--signature-only`",
        "for RS256 where several are",
    ] {
        assert!(help.contains(words), "{words}: {help}");
    }
}
