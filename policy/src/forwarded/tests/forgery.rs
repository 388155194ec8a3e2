//! Envoy writes names raw, so who can choose a name in a certificate chooses text in the header.

use proptest::prelude::*;

use super::*;

const ADMIN: &str = "spiffe://acme.example/admin";

/// Certificates are public: a forger has the administrator's.
fn admin() -> Certificate {
    Certificate::spiffe(ADMIN)
}

#[test]
fn a_name_that_forges_a_hop_is_refused() {
    let admin = admin();
    let whole = admin.element(EDGE);
    let (hash, pem) = (admin.hash(), admin.url_encoded());
    let names: &[(&str, String, Reason)] = &[
        ("a name only", format!("spiffe://acme.example/a,URI={ADMIN}"), Reason::ForwardedCertificateMissing),
        ("a whole element", format!("spiffe://acme.example/a,{whole}"), Reason::ForwardedNamesMismatch),
        ("two whole elements", format!("spiffe://acme.example/a,{whole},{whole}"), Reason::ForwardedNamesMismatch),
        ("another key", format!("spiffe://acme.example/a;URI={ADMIN}"), Reason::ForwardedNamesMismatch),
        ("another certificate", format!("spiffe://acme.example/a;Cert=\"{pem}\""), Reason::ForwardedUnparsable),
        ("another hash", format!("spiffe://acme.example/a;Hash={hash}"), Reason::ForwardedUnparsable),
        ("a quote", format!("\"spiffe://acme.example/a,{whole}"), Reason::ForwardedUnparsable),
        ("a quote and a key", "spiffe://acme.example/a\";URI=\"b".to_owned(), Reason::ForwardedUnparsable),
    ];
    for (name, uri, want) in names {
        let forger = Certificate::new("mallory", &[(URI, uri)]);
        assert_eq!(client(&forger.element(EDGE), &one()), Err(*want), "{name}");
        let forger = Certificate::new("mallory", &[(URI, "spiffe://acme.example/a"), (DNS, uri)]);
        assert_eq!(client(&forger.element(EDGE), &one()), Err(*want), "{name}, as a DNS name");
    }
}

/// The forwarder writes no certificate, so that nobody is believed behind it: not even somebody who writes one.
#[test]
fn a_forged_element_behind_a_forwarder_that_writes_no_certificate_is_refused() {
    let uri = format!("spiffe://acme.example/a,{}", admin().element(EDGE));
    let header = format!("By={EDGE};Hash={};URI={uri}", Certificate::spiffe(&uri).hash());
    assert_eq!(client(&header, &one()), Err(Reason::ForwardedByMismatch));
}

/// What the client sends stands left of what the forwarder appends: an open quote there must not swallow it.
#[test]
fn what_the_client_sends_does_not_reach_into_what_is_appended() {
    let admin = admin();
    let (hash, pem) = (admin.hash(), admin.url_encoded());
    let end = format!("\";By={EDGE};Hash={hash};Cert=\"{pem}\";URI={ADMIN}");
    let forger = Certificate::new("mallory", &[(URI, &format!("a:b{end}"))]);
    for key in ["By", "Hash", "Cert", "Chain", "Subject", "Issuer", "URI", "DNS", "x"] {
        for beginning in [format!("{key}=\""), format!("{key}=\"\\"), format!("URI=a;{key}=\"")] {
            let full = format!("{beginning},{}", forger.element(EDGE));
            assert!(client(&full, &one()).is_err(), "`{beginning}`");
            // The same behind a forwarder that writes no quoted value.
            let uri = forger.uris.concat();
            let raw = format!("{beginning},By={EDGE};Hash={};URI={uri}", forger.hash());
            assert!(client(&raw, &one()).is_err(), "`{beginning}`, raw");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_client_is_itself_or_nobody(
        before in proptest::option::of("[A-Za-z=;,\"\\\\%0-9:]{0,40}"),
        parts in proptest::collection::vec(prop_oneof![
            Just(",".to_owned()), Just(";".to_owned()), Just("\"".to_owned()), Just("\\".to_owned()), Just("=".to_owned()),
            Just("a:b".to_owned()), Just(format!("By={EDGE}")), Just(format!("URI={ADMIN}")), Just("Subject=\"\"".to_owned()),
            Just("CERT".to_owned()), Just("HASH".to_owned()), Just("CHAIN".to_owned()), Just(" ".to_owned()),
        ], 1..10),
    ) {
        let admin = admin();
        let name = parts.concat();
        let name = name.replace("CERT", &format!("Cert=\"{}\"", admin.url_encoded()))
            .replace("CHAIN", &format!("Chain=\"{}\"", admin.url_encoded()))
            .replace("HASH", &format!("Hash={}", admin.hash()));
        let own = Certificate::new("mallory", &[(URI, &name), (DNS, "a.example")]);
        let header = match before {
            Some(before) => format!("{before},{}", own.element(EDGE)),
            None => own.element(EDGE),
        };
        let edge = Certificate::spiffe(EDGE).leaf();
        if let Ok(leaf) = read(header.as_bytes(), &one(), &edge) {
            let own = own.leaf();
            prop_assert_eq!(leaf.sha256(), own.sha256(), "`{}`", header);
        }
    }

    #[test]
    fn an_honest_client_is_always_known(
        uris in proptest::collection::vec("[a-z]{1,5}:[a-zA-Z0-9/=?&.\\\\ ]{0,20}", 0..4),
        dns in proptest::collection::vec("[a-z*]{1,5}\\.example", 0..4),
        // What a client sent itself, as far as a forwarder lets it through.
        before in proptest::collection::vec("(URI|DNS|By)=[a-z:]{1,9}", 0..3),
    ) {
        let mut names: Vec<(u8, &str)> = uris.iter().map(|uri| (URI, uri.as_str())).collect();
        names.extend(dns.iter().map(|name| (DNS, name.as_str())));
        let own = Certificate::new("honest", &names);
        let header = [before, vec![own.element(EDGE)]].concat().join(",");
        prop_assert_eq!(client(&header, &one()), Ok(own.leaf().identity().to_owned()), "`{}`", header);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "\\[?[\\[\\]{}a-zA-Z\":;,=%\\\\]{0,80}") {
        let edge = Certificate::spiffe(EDGE).leaf();
        prop_assert!(read(&bytes, &one(), &edge).is_err());
        prop_assert!(read(text.as_bytes(), &one(), &edge).is_err());
        prop_assert!(from_client_cert(&bytes, std::iter::empty(), &one()).is_err());
        prop_assert!(from_client_cert(text.as_bytes(), [text.as_bytes()].into_iter(), &one()).is_err());
    }
}
