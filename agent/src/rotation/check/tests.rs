use std::path::Path;

use portcullis_policy::schedule::Validity;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;

use super::*;
use crate::ca;
use crate::ca::Authority;
use crate::ca::Order;
use crate::config;

const NOW: UnixTime = UnixTime(1_800_000_000);

fn authority(directory: &Path) -> Authority {
    let config =
        config::Ca { trust_domain: "acme.example".to_owned(), root_lifetime: 864_000, ..config::Ca::default() };
    Authority::open(directory, &config, NOW).expect("a CA").0
}

fn roots(authority: &Authority) -> Roots {
    Roots::these(vec![authority.der().clone()])
}

fn names(dns: &[&str], usage: &[Usage]) -> Names {
    let dns = dns.iter().map(|name| (*name).to_owned()).collect();
    let ip = vec!["127.0.0.1".parse().expect("v4"), "::1".parse().expect("v6")];
    Names::new(Some("spiffe://acme.example/x".to_owned()), dns, ip, usage.to_vec(), "acme.example").expect("names")
}

#[test]
fn only_what_every_peer_would_accept_passes() {
    let (ours, theirs) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let (ours, theirs) = (authority(ours.path()), authority(theirs.path()));
    let wanted = names(&["a", "b"], &[Usage::Server, Usage::Client]);
    let order = |names: Names| ours.order(names, 3600, Path::new("ca"), NOW).expect("an order");
    let good = order(wanted.clone());
    let other_key = PrivateKey::generate().expect("a key");
    let sign = |order: &Order| ours.sign(order).expect("signed");
    let ahead = Order { validity: Validity { not_before: UnixTime(NOW.0 + 1), ..good.validity }, ..good.clone() };
    let ended = Order { validity: Validity { not_after: UnixTime(NOW.0 - 1), ..good.validity }, ..good.clone() };
    let client_only = Order { names: names(&["a", "b"], &[Usage::Client]), ..good.clone() };
    let other_names = Order { names: names(&["a"], &[Usage::Server, Usage::Client]), ..good.clone() };

    let check = |chain: &str, key: &PrivateKey| as_peer(chain, key, &wanted, &roots(&ours), NOW);
    assert!(check(&sign(&good), &good.key).is_ok());
    let cases = [
        ("another key", sign(&good), &other_key, "another key"),
        ("another CA", theirs.sign(&good).expect("signed"), &good.key, "refuse"),
        ("not begun", sign(&ahead), &good.key, "refuse"),
        ("ended", sign(&ended), &good.key, "refuse"),
        ("not for servers", sign(&client_only), &good.key, "a client would refuse"),
        ("other names", sign(&other_names), &good.key, "asked for"),
        ("the CA itself", ours.pem().to_owned(), &good.key, "another key"),
        ("nothing", String::new(), &good.key, "not a certificate"),
        ("not PEM", "-----BEGIN CERTIFICATE-----\nAAAA".to_owned(), &good.key, "not a certificate"),
        (
            "not DER",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(),
            &good.key,
            "not a certificate",
        ),
    ];
    for (name, chain, key, words) in cases {
        let error = check(&chain, key).expect_err(name);
        assert!(error.to_string().contains(words), "{name}: {error}");
    }
}

#[test]
fn a_ca_does_not_pass_for_a_leaf() {
    let wanted = names(&["a"], &[Usage::Server, Usage::Client]);
    let root_key = KeyPair::generate().expect("a key");
    let years = (rcgen::date_time_ymd(2026, 1, 1), rcgen::date_time_ymd(2030, 1, 1));
    let dated = || {
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = years;
        params
    };
    let mut root = dated();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root_der = root.self_signed(&root_key).expect("a root").der().clone();
    let issuer = Issuer::new(root, root_key);
    for (name, is_ca, passes) in [
        ("a leaf", IsCa::NoCa, true),
        ("a CA with the right names and key", IsCa::Ca(BasicConstraints::Unconstrained), false),
    ] {
        let key = PrivateKey::generate().expect("a key");
        let mut leaf = dated();
        leaf.is_ca = is_ca;
        leaf.subject_alt_names = ca::alternative_names(&wanted).expect("names");
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = leaf.signed_by(&key.pair().expect("a pair"), &issuer).expect("signed");
        let outcome = as_peer(&leaf.pem(), &key, &wanted, &Roots::these(vec![root_der.clone()]), NOW);
        assert_eq!(outcome.is_ok(), passes, "{name}: {outcome:?}");
    }
}

#[test]
fn what_is_stored_fits_until_names_issuer_or_key_differ() {
    let (ours, theirs) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let (ours, theirs) = (authority(ours.path()), authority(theirs.path()));
    let wanted = names(&["a"], &[Usage::Server]);
    let order = ours.order(wanted.clone(), 3600, Path::new("ca"), NOW).expect("an order");
    let chain = ours.sign(&order).expect("signed");
    let leaf = Leaf::from_der(&leaf::chain(&chain).expect("a chain")[0]).expect("a leaf");
    let other_key = PrivateKey::generate().expect("a key");
    let cases = [
        ("as it is", &order.key, &wanted, &ours, Fit::Fits),
        ("more names", &order.key, &names(&["a", "b"], &[Usage::Server]), &ours, Fit::OtherNames),
        ("more usage", &order.key, &names(&["a"], &[Usage::Server, Usage::Client]), &ours, Fit::OtherNames),
        ("another CA", &order.key, &wanted, &theirs, Fit::OtherIssuer),
        ("another key", &other_key, &wanted, &ours, Fit::Unusable),
    ];
    for (name, key, names, root, want) in cases {
        assert_eq!(fit(&chain, key, names, &roots(root), &leaf), want, "{name}");
    }
}
