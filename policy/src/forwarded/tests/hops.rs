//! Which element counts, and what has to be true of it.

use super::*;

const CLIENT: &str = "spiffe://acme.example/ns/shop/sa/checkout";
const OTHER: &str = "spiffe://acme.example/ns/shop/sa/cart";

#[test]
fn an_element_is_believed_if_all_of_it_is_true() {
    let own = Certificate::new("x", &[(URI, CLIENT), (DNS, "b.example"), (URI, "urn:two"), (DNS, "a.example")]);
    let other = Certificate::new("x", &[(URI, OTHER)]);
    let (hash, cert) = (own.hash(), own.url_encoded());
    let identity = own.leaf().identity().to_owned();
    let cert_only = format!("Cert=\"{cert}\"");
    let with = |rest: &str| format!("{cert_only};{rest}");
    let cases = [
        ("the certificate alone", cert_only.clone(), None),
        ("with its hash", with(&format!("Hash={hash}")), None),
        ("all names, in another order", with(&format!("URI=urn:two;DNS=a.example;URI={CLIENT};DNS=b.example")), None),
        ("its subject", with("Subject=\"CN=x\""), None),
        ("by the forwarder", with(&format!("By={EDGE}")), None),
        ("its chain", with(&format!("Chain=\"{cert}{}\"", other.url_encoded())), None),
        ("no certificate", format!("Hash={hash};URI={CLIENT}"), Some(Reason::ForwardedCertificateMissing)),
        ("a chain and no certificate", format!("Chain=\"{cert}\""), Some(Reason::ForwardedCertificateMissing)),
        ("a certificate that is none", "Cert=\"x\"".to_owned(), Some(Reason::CertificateUnreadable)),
        ("an empty certificate", "Cert=\"\"".to_owned(), Some(Reason::CertificateUnreadable)),
        ("two certificates", format!("Cert=\"{cert}{cert}\""), Some(Reason::CertificateUnreadable)),
        ("hash of another", with(&format!("Hash={}", other.hash())), Some(Reason::ForwardedHashMismatch)),
        (
            "a chain that begins with another",
            with(&format!("Chain=\"{}{cert}\"", other.url_encoded())),
            Some(Reason::ForwardedHashMismatch),
        ),
        ("a chain that is none", with("Chain=\"x\""), Some(Reason::ForwardedHashMismatch)),
        ("a URI missing", with(&format!("URI={CLIENT}")), Some(Reason::ForwardedNamesMismatch)),
        ("no URI", with("URI="), Some(Reason::ForwardedNamesMismatch)),
        (
            "a URI too many",
            with(&format!("URI={CLIENT};URI=urn:two;URI={OTHER}")),
            Some(Reason::ForwardedNamesMismatch),
        ),
        ("a URI twice", with(&format!("URI={CLIENT};URI={CLIENT}")), Some(Reason::ForwardedNamesMismatch)),
        ("a DNS name missing", with("DNS=a.example"), Some(Reason::ForwardedNamesMismatch)),
        ("another subject", with("Subject=\"CN=y\""), Some(Reason::ForwardedNamesMismatch)),
        ("no subject", with("Subject=\"\""), Some(Reason::ForwardedNamesMismatch)),
        ("another issuer", with("Issuer=\"CN=y\""), Some(Reason::ForwardedNamesMismatch)),
        ("by another proxy", with("By=spiffe://acme.example/other"), Some(Reason::ForwardedByMismatch)),
        (
            "by the forwarder and another",
            with(&format!("By={EDGE};By=spiffe://acme.example/other")),
            Some(Reason::ForwardedByMismatch),
        ),
    ];
    for (name, header, want) in cases {
        let got = client(&header, &one());
        assert_eq!(got, want.map_or_else(|| Ok(identity.clone()), Err), "{name}");
    }
}

#[test]
fn the_element_is_counted_from_the_right() {
    let inner = "spiffe://acme.example/inner";
    let (own, other) = (Certificate::spiffe(CLIENT), Certificate::spiffe(OTHER));
    let (proxy, edge) = (Certificate::spiffe(inner), Certificate::spiffe(EDGE));
    let hops = |count, by: Option<&str>| Hops { count, by: by.map(Into::into) };
    let both = format!("{},{}", own.element(inner), proxy.element(EDGE));
    let cases: &[(&str, Hops, String, Result<&str, Reason>)] = &[
        ("one of one", one(), own.element(EDGE), Ok(CLIENT)),
        ("the last of two", one(), format!("{},{}", other.element("a:b"), own.element(EDGE)), Ok(CLIENT)),
        ("after something without a certificate", one(), format!("URI={OTHER},{}", own.element(EDGE)), Ok(CLIENT)),
        ("too few", hops(2, Some(inner)), own.element(inner), Err(Reason::ForwardedHopMissing)),
        ("the second of two", hops(2, Some(inner)), both.clone(), Ok(CLIENT)),
        ("the second of three", hops(2, Some(inner)), format!("URI={OTHER},{both}"), Ok(CLIENT)),
        (
            "a client of the forwarder that plays the other proxy",
            hops(2, Some(inner)),
            format!("{},{}", own.element(inner), other.element(EDGE)),
            Err(Reason::ForwardedByMismatch),
        ),
        (
            "a first proxy without a name",
            hops(2, Some(inner)),
            format!("Cert=\"{}\",{}", own.url_encoded(), proxy.element(EDGE)),
            Err(Reason::ForwardedByMismatch),
        ),
        (
            "a last element without a certificate",
            hops(2, Some(inner)),
            format!("{},By={EDGE};URI={inner}", own.element(inner)),
            Err(Reason::ForwardedCertificateMissing),
        ),
        (
            "a last element of another proxy",
            hops(2, Some(inner)),
            format!("{},{}", own.element(inner), proxy.element("a:b")),
            Err(Reason::ForwardedByMismatch),
        ),
        ("a name by the policy", hops(1, Some("urn:edge")), own.element("urn:edge"), Ok(CLIENT)),
        ("not that name", hops(1, Some("urn:edge")), own.element(EDGE), Err(Reason::ForwardedByMismatch)),
        (
            "no name at all",
            hops(1, Some("urn:edge")),
            format!("Cert=\"{}\"", own.url_encoded()),
            Err(Reason::ForwardedByMismatch),
        ),
        (
            "a lie left of it",
            one(),
            format!("{};DNS=x.example,{}", other.element("a:b"), own.element(EDGE)),
            Err(Reason::ForwardedNamesMismatch),
        ),
        (
            "another hash left of it",
            one(),
            format!("Hash={};Cert=\"{}\",{}", own.hash(), other.url_encoded(), own.element(EDGE)),
            Err(Reason::ForwardedHashMismatch),
        ),
        (
            "an unreadable certificate left of it",
            one(),
            format!("Cert=\"x\",{}", own.element(EDGE)),
            Err(Reason::CertificateUnreadable),
        ),
        (
            "the forwarder twice",
            one(),
            format!("By={EDGE};URI=a:b,{}", own.element(EDGE)),
            Err(Reason::ForwardedByMismatch),
        ),
    ];
    for (name, hops, header, want) in cases {
        let got = read(header.as_bytes(), hops, &edge.leaf()).map(|leaf| leaf.identity().to_owned());
        assert_eq!(got.as_deref(), want.as_ref().copied(), "{name}");
    }
}

#[test]
fn json_and_text_mean_the_same() {
    let own = Certificate::new("x", &[(URI, CLIENT), (DNS, "a.example")]);
    let json = serde_json::json!([{
        "by": [EDGE], "hash": own.hash(), "cert": own.pem(), "chain": [own.pem(), own.pem()], "subject": "CN=x",
        "uri": [CLIENT], "dns": ["a.example"],
    }]);
    assert_eq!(client(&json.to_string(), &one()), client(&own.element(EDGE), &one()));
    let mut changed = json.clone();
    changed[0]["uri"] = serde_json::json!([]);
    assert_eq!(client(&changed.to_string(), &one()), Err(Reason::ForwardedNamesMismatch));
    let mut changed = json.clone();
    changed[0]["cert"] = serde_json::json!(own.url_encoded());
    assert_eq!(client(&changed.to_string(), &one()), Err(Reason::CertificateUnreadable), "no escapes in JSON");
    let mut changed = json;
    changed[0].as_object_mut().unwrap().remove("cert");
    assert_eq!(client(&changed.to_string(), &one()), Err(Reason::ForwardedCertificateMissing));
}
