//! Who asks: each peer with the certificate that it presents.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::net::Ipv4Addr;

use portcullis_policy::UnixTime;
use rcgen::DnType;
use rcgen::ExtendedKeyUsagePurpose;

use crate::certificates::Authority;
use crate::certificates::Leaf;
use crate::certificates::LeafBuilder;

pub(super) const CHECKOUT: &str = "spiffe://acme.example/ns/pay/sa/checkout";
const DAY: u64 = 86_400;

/// Somebody with a certificate.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The certificate and its key.
    pub leaf: Leaf,
    /// Whether it chains to the authority that the proxy trusts.
    pub is_validated: bool,
    /// Whether the proxy's handshake accepts it.
    pub shakes_hands: bool,
}

/// The serial number that the policy `emergency` has revoked.
pub(super) const REVOKED_SERIAL: [u8; 4] = [0x5e, 0x0c, 0xed, 0x01];

/// Makes everybody, and the PEM of the authority that the proxy trusts.
pub(super) fn make(now: UnixTime) -> (BTreeMap<&'static str, Peer>, String) {
    let now = u64::try_from(now.0).expect("the clock is past 1970");
    let ours = Authority::new("Portcullis clients");
    let theirs = Authority::new("Portcullis strangers");
    let valid = || ours.leaf().valid(now - DAY, now + DAY);
    let ou = DnType::OrganizationalUnitName;

    let mut peers = BTreeMap::new();
    let mut add = |name, builder: LeafBuilder<'_>, is_validated: bool, shakes_hands: bool| {
        let peer = Peer { leaf: builder.issue(), is_validated, shakes_hands };
        assert!(peers.insert(name, peer).is_none(), "two peers are called `{name}`");
    };
    let good: Vec<(&str, LeafBuilder<'_>)> = vec![
        // Those whom the policy means.
        ("checkout", valid().uri(CHECKOUT)),
        ("checkout with a DNS name", valid().dns("checkout.pay.svc").uri(CHECKOUT)),
        ("cart", valid().uri("spiffe://acme.example/ns/shop/sa/cart")),
        ("dns reader", valid().dns("a.reader.acme.example")),
        ("dns reader, second name", valid().dns("other.example").dns("A.Reader.ACME.example")),
        ("mailer", valid().email("ops@acme.example")),
        ("mailer, domain in upper case", valid().email("ops@ACME.example")),
        ("legacy", valid().uri("urn:acme:legacy")),
        ("machine", valid().ip(IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3)))),
        ("payments", valid().subject(DnType::CommonName, "p1").subject(ou.clone(), "payments")),
        (
            "server usage too",
            valid()
                .dns("both.acme.example")
                .usages(&[ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth]),
        ),
        // SPIFFE: exactly one URI SAN, every rule of the standard, whole segments.
        ("two URIs", valid().uri(CHECKOUT).uri("spiffe://acme.example/ns/shop/sa/cart")),
        ("two URIs, the other one first", valid().uri("https://a.example/").uri(CHECKOUT)),
        ("longer last segment", valid().uri(format!("{CHECKOUT}-evil"))),
        ("one segment more", valid().uri(format!("{CHECKOUT}/admin"))),
        ("trust domain as a prefix", valid().uri("spiffe://acme.example.evil.example/ns/pay/sa/checkout")),
        ("other trust domain", valid().uri("spiffe://evil.example/ns/pay/sa/checkout")),
        ("trust domain in upper case", valid().uri("spiffe://ACME.example/ns/pay/sa/checkout")),
        ("scheme in upper case", valid().uri("SPIFFE://acme.example/ns/pay/sa/checkout")),
        ("query", valid().uri(format!("{CHECKOUT}?x=1"))),
        ("fragment", valid().uri(format!("{CHECKOUT}#x"))),
        ("port", valid().uri("spiffe://acme.example:443/ns/pay/sa/checkout")),
        ("user", valid().uri("spiffe://admin@acme.example/ns/pay/sa/checkout")),
        ("dots", valid().uri("spiffe://acme.example/ns/shop/../pay/sa/checkout")),
        ("escape", valid().uri("spiffe://acme.example/ns/pay/sa/check%6fut")),
        ("trailing slash", valid().uri(format!("{CHECKOUT}/"))),
        ("empty segment", valid().uri("spiffe://acme.example/ns//pay/sa/checkout")),
        ("no path", valid().uri("spiffe://acme.example")),
        ("too long", valid().uri(format!("spiffe://acme.example/ns/{}/sa/x", "n".repeat(2048)))),
        // The right text in the wrong kind of name.
        ("spiffe as dns", valid().dns(CHECKOUT)),
        ("spiffe as email", valid().email(CHECKOUT)),
        ("spiffe as subject", valid().subject(DnType::CommonName, CHECKOUT)),
        ("spiffe as other name", valid().other_name(&[0x2a, 0x03, 0x04], CHECKOUT)),
        ("dns as uri", valid().uri("a.reader.acme.example")),
        ("dns as subject", valid().subject(DnType::CommonName, "a.reader.acme.example")),
        ("dns as email", valid().email("x@a.reader.acme.example")),
        ("email as dns", valid().dns("ops@acme.example")),
        ("email in another case", valid().email("OPS@acme.example")),
        ("ip as dns", valid().dns("10.1.2.3")),
        ("ip as uri", valid().uri("10.1.2.3")),
        ("ip as email", valid().email("10.1.2.3")),
        ("ip as subject", valid().subject(DnType::CommonName, "10.1.2.3")),
        ("uri as dns", valid().dns("urn:acme:legacy")),
        ("uri as email", valid().email("urn:acme:legacy")),
        ("email as uri", valid().uri("ops@acme.example")),
        ("email as subject", valid().subject(DnType::CommonName, "ops@acme.example")),
        ("dns, punycode", valid().dns("xn--bcher-kva.reader.acme.example")),
        ("wildcard is one segment", valid().uri("spiffe://acme.example/ns/shop/sa/a/b")),
        ("ip outside", valid().ip(IpAddr::V4(Ipv4Addr::new(10, 2, 2, 3)))),
        ("legacy in another case", valid().uri("urn:acme:Legacy")),
        // DNS names beside the pattern.
        ("dns, two labels", valid().dns("a.b.reader.acme.example")),
        ("dns, no label", valid().dns("reader.acme.example")),
        ("dns, wildcard", valid().dns("*.reader.acme.example")),
        ("dns, wildcard below", valid().dns("*.b.reader.acme.example")),
        ("dns, as a prefix", valid().dns("a.reader.acme.example.evil.example")),
        ("dns, dots are dots", valid().dns("a.reader-acme.example")),
        // Distinguished names.
        ("two units", valid().subject(ou.clone(), "payments").subject(DnType::CustomDnType(vec![2, 5, 4, 11]), "x")),
        ("unit in the common name", valid().subject(DnType::CommonName, "OU=payments")),
        ("unit with a comma", valid().subject(ou.clone(), "payments,CN=p1")),
        ("unit in another case", valid().subject(ou.clone(), "Payments")),
        ("unit as a part", valid().subject(ou.clone(), "payments-dev")),
        ("no name at all", valid()),
        // States of a certificate that are the policy's to judge.
        ("revoked", valid().uri(CHECKOUT).serial(&REVOKED_SERIAL)),
        ("issued long ago", ours.leaf().valid(now - 30 * DAY, now + DAY).uri(CHECKOUT)),
    ];
    for (name, builder) in good {
        add(name, builder, true, true);
    }
    // What the handshake refuses, and the filter would too.
    add("expired", ours.leaf().valid(now - 2 * DAY, now - DAY).uri(CHECKOUT), true, false);
    add("expired just now", ours.leaf().valid(now - DAY, now - 1).uri(CHECKOUT), true, false);
    add("not yet valid", ours.leaf().valid(now + DAY, now + 2 * DAY).uri(CHECKOUT), true, false);
    add("NUL in a name", valid().dns("a.reader.acme.example\0.evil.example"), true, true);
    add("dot behind a name", valid().dns("a.reader.acme.example."), true, true);
    add("stranger", theirs.leaf().valid(now - DAY, now + DAY).uri(CHECKOUT), false, false);
    add("stranger, expired", theirs.leaf().valid(now - 2 * DAY, now - DAY).uri(CHECKOUT), false, false);
    (peers, ours.pem())
}
