//! Headers as Envoy 1.40 wrote them: `APPEND_FORWARD` with every detail asked for, in text and in JSON.
//!
//! The proxy's certificate has two URI names. `client` has a subject with everything that RFC 2253 escapes, `forger` a URI
//! name with a `,`, `nobody` no alternative name; `appended` is `client` after an element that the client sent itself.

use super::*;

const CHECKOUT: Result<&str, Reason> = Ok("spiffe://acme.example/ns/shop/sa/checkout");

#[test]
fn what_envoy_writes_is_read() {
    let proxy = Leaf::from_pem(include_bytes!("recorded/edge.pem")).unwrap();
    let cases: &[(&str, &str, Result<&str, Reason>)] = &[
        ("client, text", include_str!("recorded/client.txt"), CHECKOUT),
        ("client, JSON", include_str!("recorded/client.json"), CHECKOUT),
        ("appended, text", include_str!("recorded/appended.txt"), CHECKOUT),
        ("appended, JSON", include_str!("recorded/appended.json"), CHECKOUT),
        ("no name, text", include_str!("recorded/nobody.txt"), Ok("subject:CN=nobody")),
        ("no name, JSON", include_str!("recorded/nobody.json"), Ok("subject:CN=nobody")),
        ("forger, text", include_str!("recorded/forger.txt"), Err(Reason::ForwardedCertificateMissing)),
        (
            "forger, JSON: nothing can be forged there",
            include_str!("recorded/forger.json"),
            Ok("uri:spiffe://acme.example/a,URI=spiffe://acme.example/admin"),
        ),
    ];
    for (name, header, want) in cases {
        let got = read(header.as_bytes(), &one(), &proxy).map(|leaf| leaf.identity().to_owned());
        assert_eq!(got.as_deref(), want.as_ref().copied(), "{name}");
    }
}

#[test]
fn a_recorded_header_with_any_byte_changed_names_nobody_else() {
    let proxy = Leaf::from_pem(include_bytes!("recorded/edge.pem")).unwrap();
    let header = include_bytes!("recorded/client.txt");
    for position in 0..header.len() {
        for replacement in [b',', b';', b'"', b'=', b'%', b'\\', b'x'] {
            let mut changed = header.to_vec();
            changed[position] = replacement;
            if let Ok(leaf) = read(&changed, &one(), &proxy) {
                assert_eq!(leaf.identity(), CHECKOUT.unwrap(), "byte {position} to {replacement}");
            }
        }
    }
}
