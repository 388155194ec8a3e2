//! RFC 9440.

use super::*;

const CLIENT: &str = "spiffe://acme.example/ns/shop/sa/checkout";

fn read(header: &str, chains: &[&str], hops: &Hops) -> Result<String, Reason> {
    let chains = chains.iter().map(|chain| chain.as_bytes());
    from_client_cert(header.as_bytes(), chains, hops).map(|leaf| leaf.identity().to_owned())
}

#[test]
fn client_cert_is_one_byte_sequence() {
    let own = Certificate::spiffe(CLIENT);
    let base64 = STANDARD.encode(&own.der);
    let unpadded = base64.trim_end_matches('=');
    // A certificate whose length leaves a remainder, so that its base64 has padding.
    let mut lengths = (0..64).map(|n| Certificate::spiffe(&format!("{CLIENT}{}", "x".repeat(n))));
    let padded = lengths.find(|certificate| certificate.der.len() % 3 == 1);
    let padded = STANDARD.encode(padded.unwrap().der);
    let malformed = Some(Reason::ForwardedUnparsable);
    let cases = [
        ("as RFC 9440 says", format!(":{base64}:"), None),
        ("in spaces", format!("  :{base64}: "), None),
        ("nothing", String::new(), malformed),
        ("no colons", base64.clone(), malformed),
        ("one colon", format!(":{base64}"), malformed),
        ("only a colon", ":".to_owned(), malformed),
        ("no bytes", "::".to_owned(), malformed),
        ("a tab before it", format!("\t:{base64}:"), malformed),
        ("space inside", format!(": {base64}:"), malformed),
        ("a line end inside", format!(":{}\n{}:", &base64[..64], &base64[64..]), malformed),
        ("a parameter", format!(":{base64}:;a=1"), malformed),
        ("a list of two", format!(":{base64}:,:{base64}:"), malformed),
        ("a list of two with space", format!(":{base64}:, :{base64}:"), malformed),
        ("a string", format!("\"{base64}\""), malformed),
        ("the URL alphabet", format!(":{}_:", &base64[..base64.len() - 1]), malformed),
        ("padding left out", format!(":{}:", padded.trim_end_matches('=')), malformed),
        ("padding too much", format!(":{unpadded}====:"), malformed),
        ("bits in the padding", format!(":{}:", with_padding_bits(&padded)), malformed),
        ("PEM", format!(":{}:", STANDARD.encode(own.pem())), Some(Reason::CertificateUnreadable)),
        (
            "two certificates",
            format!(":{}:", STANDARD.encode([&own.der[..], &own.der].concat())),
            Some(Reason::CertificateUnreadable),
        ),
        (
            "a certificate cut off",
            format!(":{}:", STANDARD.encode(&own.der[..own.der.len() - 1])),
            Some(Reason::CertificateUnreadable),
        ),
    ];
    for (name, header, want) in cases {
        assert_eq!(read(&header, &[], &one()), want.map_or_else(|| Ok(CLIENT.to_owned()), Err), "{name}");
    }
    assert_eq!(read(&format!(":{}:", "A".repeat(MAX_TEXT)), &[], &one()), Err(Reason::ForwardedUnparsable), "too long");
}

/// The last digit before the padding, with bits set that no byte holds.
fn with_padding_bits(padded: &str) -> String {
    let digits = padded.strip_suffix("==").unwrap();
    let (rest, last) = digits.split_at(digits.len() - 1);
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let value = alphabet.find(last).unwrap();
    format!("{rest}{}==", &alphabet[value + 1..=value + 1])
}

#[test]
fn the_chain_is_a_list_of_byte_sequences() {
    let header = format!(":{}:", STANDARD.encode(Certificate::spiffe(CLIENT).der));
    let many = |count| vec![":AAAA:"; count].join(", ");
    let cases: &[(&str, &[&str], bool)] = &[
        ("one", &[":AAAA:"], true),
        ("two", &[":AAAA:, :AQID:"], true),
        ("two without space", &[":AAAA:,:AQID:"], true),
        ("over two fields", &[":AAAA:", ":AQID:"], true),
        ("as many as are read", &[&many(MAX_ELEMENTS)], true),
        ("more", &[&many(MAX_ELEMENTS + 1)], false),
        ("empty", &[""], false),
        ("a comma at the end", &[":AAAA:,"], false),
        ("an empty member", &[":AAAA:,,:AAAA:"], false),
        ("no byte sequence", &["AAAA"], false),
        ("a parameter", &[":AAAA:;a"], false),
        ("a bad second field", &[":AAAA:", "x"], false),
    ];
    for (name, chains, want) in cases {
        let got = read(&header, chains, &one());
        assert_eq!(got, if *want { Ok(CLIENT.to_owned()) } else { Err(Reason::ForwardedUnparsable) }, "{name}");
    }
}

#[test]
fn it_does_not_tell_what_a_policy_may_ask() {
    let header = format!(":{}:", STANDARD.encode(Certificate::spiffe(CLIENT).der));
    let two = Hops { count: 2, by: Some(EDGE.into()) };
    assert_eq!(read(&header, &[], &two), Err(Reason::ForwardedHopMissing));
    let named = Hops { count: 1, by: Some(EDGE.into()) };
    assert_eq!(read(&header, &[], &named), Err(Reason::ForwardedByMismatch));
}
