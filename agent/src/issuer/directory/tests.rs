//! Pairs as people leave them.

use std::fs;

use rcgen::KeyPair;
use tempfile::TempDir;

use super::*;
use crate::leaf::pem;

struct Made {
    chain: String,
    key: String,
    sec1: String,
}

fn made() -> Made {
    let pair = KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec!["web.example".to_owned()]).expect("a name");
    let chain = params.self_signed(&pair).expect("signed").pem();
    // RFC 5915 inside of RFC 5958: an octet string that holds a sequence.
    let der = pair.serialize_der();
    let at = der.windows(4).position(|bytes| bytes == [0x04, 0x6d, 0x30, 0x6b]).expect("a key in a key") + 2;
    Made { chain, key: pair.serialize_pem(), sec1: pem("EC PRIVATE KEY", &der[at..at + 0x6d]) }
}

fn settings(files: &[(&str, &str)]) -> (TempDir, Settings) {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, text) in files {
        fs::write(directory.path().join(name), text).expect("written");
    }
    let path = directory.path().to_owned();
    (directory, Settings { path, files: None })
}

#[test]
fn both_layouts_and_named_files_are_read() {
    let Made { chain, key, sec1 } = made();
    for (name, files) in [
        ("certbot", [("fullchain.pem", chain.as_str()), ("privkey.pem", key.as_str())]),
        ("Kubernetes", [("tls.crt", &chain), ("tls.key", &key)]),
        ("a key as OpenSSL wrote it", [("tls.crt", &chain), ("tls.key", &sec1)]),
    ] {
        let (_directory, settings) = settings(&files);
        let pair = Pair::read(&settings).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(leaf::chain(&pair.chain_pem), leaf::chain(&chain), "{name}");
        assert!(!format!("{pair:?}").contains(key.lines().nth(1).expect("a line")), "{name}");
    }
    let (_directory, mut settings) = settings(&[("own.crt", &chain), ("own.key", &key)]);
    assert!(matches!(Pair::read(&settings), Err(PairError::Missing { .. })));
    settings.files = Some(["own.crt".into(), "own.key".into()]);
    Pair::read(&settings).expect("a pair");
    // Both in one file: what is sent is the chain alone.
    fs::write(settings.path.join("both.pem"), format!("{key}{chain}")).expect("written");
    settings.files = Some(["both.pem".into(), "both.pem".into()]);
    assert!(!Pair::read(&settings).expect("a pair").chain_pem.contains("PRIVATE"));
}

#[test]
fn what_is_no_pair_is_refused_by_the_name_of_its_file() {
    let (mine, other) = (made(), made());
    // A comment is as good as a thousand certificates.
    let endless = format!("{}{}", mine.chain, "#".repeat(10 << 20));
    for (name, chain, key, word) in [
        ("a chain without end", endless.as_str(), mine.key.as_str(), "fullchain.pem`: more than 1048576 bytes"),
        ("of another", mine.chain.as_str(), other.key.as_str(), "is not the key of"),
        ("no chain", "", &mine.key, "fullchain.pem` is not a chain"),
        ("half a chain", &mine.chain[..60], &mine.key, "fullchain.pem` is not a chain"),
        ("no key", &mine.chain, "", "privkey.pem` is not a private key"),
        ("half a key", &mine.chain, &mine.key[..80], "privkey.pem` is not a private key"),
    ] {
        let (_directory, settings) = settings(&[("fullchain.pem", chain), ("privkey.pem", key)]);
        let error = Pair::read(&settings).expect_err(name).to_string();
        assert!(error.contains(word), "{name}: {error}");
    }
    let (_directory, settings) = settings(&[("fullchain.pem", &mine.chain)]);
    assert!(matches!(Pair::read(&settings), Err(PairError::Missing { .. })), "a chain alone");
}
