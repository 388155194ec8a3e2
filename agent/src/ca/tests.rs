use std::os::unix::fs::PermissionsExt as _;

use x509_parser::prelude::FromDer as _;
use x509_parser::prelude::X509Certificate;

use super::*;

const NOW: UnixTime = UnixTime(1_800_000_000);

fn config(root_lifetime: i64) -> config::Ca {
    config::Ca { trust_domain: "acme.example".to_owned(), root_lifetime, ..config::Ca::default() }
}

fn names(usage: &[Usage]) -> Names {
    let spiffe = Some("spiffe://acme.example/gateway".to_owned());
    let ip = vec!["127.0.0.1".parse().expect("an address")];
    Names::new(spiffe, vec!["localhost".to_owned()], ip, usage.to_vec(), "acme.example").expect("names")
}

fn open(directory: &Path, lifetime: i64) -> (Authority, Origin) {
    Authority::open(directory, &config(lifetime), NOW).expect("a CA")
}

#[test]
fn a_root_is_made_once_and_kept() {
    let directory = tempfile::tempdir().expect("a directory");
    let (first, origin) = open(directory.path(), 86_400);
    assert_eq!(origin, Origin::Created);
    let (second, origin) = open(directory.path(), 86_400);
    assert_eq!((origin, second.der()), (Origin::Found, first.der()));
    let mode = |name| fs::metadata(directory.path().join(name)).expect("a file").permissions().mode() & 0o777;
    assert_eq!((mode(ROOT_KEY_FILE), mode(ROOT_FILE)), (0o600, 0o644));
}

#[test]
fn a_crash_between_key_and_root_is_finished_with_that_key() {
    let directory = tempfile::tempdir().expect("a directory");
    open(directory.path(), 86_400);
    let key = fs::read(directory.path().join(ROOT_KEY_FILE)).expect("a key");
    fs::remove_file(directory.path().join(ROOT_FILE)).expect("removed");
    fs::write(directory.path().join(".root.pem.new"), "half").expect("written");
    assert_eq!(open(directory.path(), 86_400).1, Origin::Created);
    assert_eq!(fs::read(directory.path().join(ROOT_KEY_FILE)).expect("a key"), key);
}

#[test]
fn a_root_that_cannot_be_used_is_never_replaced() {
    let directory = tempfile::tempdir().expect("a directory");
    open(directory.path(), 86_400);
    let error = || Authority::open(directory.path(), &config(1), NOW).err().expect("refused");
    PrivateKey::generate().expect("a key").write_new(&directory.path().join("other"), 0o600).expect("written");
    fs::rename(directory.path().join("other"), directory.path().join(ROOT_KEY_FILE)).expect("replaced");
    assert!(matches!(error(), CaError::KeyMismatch { .. }));
    fs::write(directory.path().join(ROOT_KEY_FILE), "not a key").expect("written");
    let unreadable = error();
    assert!(matches!(unreadable, CaError::KeyUnreadable { .. }));
    assert!(unreadable.to_string().contains(ROOT_KEY_FILE), "{unreadable}");
    fs::remove_file(directory.path().join(ROOT_KEY_FILE)).expect("removed");
    assert!(matches!(error(), CaError::KeyMissing { .. }));
    fs::write(directory.path().join(ROOT_FILE), "").expect("emptied");
    fs::write(directory.path().join(ROOT_KEY_FILE), PrivateKey::generate().expect("a key").pem().as_str())
        .expect("key");
    assert!(matches!(error(), CaError::Unreadable { .. }));
}

#[test]
fn a_leaf_says_what_was_ordered_and_nothing_more() {
    let directory = tempfile::tempdir().expect("a directory");
    let (authority, _) = open(directory.path(), 864_000);
    let order = authority.order(names(&[Usage::Client]), 3600, directory.path(), NOW).expect("an order");
    let pem = authority.sign(&order).expect("signed");
    let chain = leaf::chain(&pem).expect("a chain");
    let (_, leaf) = X509Certificate::from_der(&chain[0]).expect("a certificate");
    assert_eq!(leaf.validity().not_before.timestamp(), NOW.0 - 30);
    assert_eq!(leaf.validity().not_after.timestamp(), NOW.0 + 3600);
    assert_eq!(leaf.raw_serial(), order.serial);
    assert!((0x40..0x80).contains(&leaf.raw_serial()[0]), "128 bits and positive");
    let usage = leaf.extended_key_usage().expect("readable").expect("there").value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any);
    let usage = leaf.key_usage().expect("readable").expect("there").value;
    assert!(usage.digital_signature() && !usage.key_cert_sign());
    assert!(!leaf.basic_constraints().expect("readable").is_some_and(|basic| basic.value.ca));
    assert_eq!(leaf.subject_alternative_name().expect("readable").expect("there").value.general_names.len(), 3);
    let extensions: Vec<String> = leaf.extensions().iter().map(|extension| extension.oid.to_id_string()).collect();
    assert!(extensions.contains(&"2.5.29.35".to_owned()), "authority key identifier: {extensions:?}");
    // Signed again, as after a crash, it is the same certificate under the same serial.
    let again = leaf::chain(&authority.sign(&order).expect("signed")).expect("a chain");
    assert_eq!(Leaf::from_der(&again[0]).expect("a leaf").serial, Leaf::from_der(&chain[0]).expect("a leaf").serial);
}

#[test]
fn no_two_orders_share_a_key_or_a_serial() {
    let directory = tempfile::tempdir().expect("a directory");
    let (authority, _) = open(directory.path(), 86_400);
    let order = || authority.order(names(&[Usage::Server]), 60, directory.path(), NOW).expect("an order");
    let (one, two) = (order(), order());
    assert!(one.key != two.key && one.serial != two.serial);
    assert_eq!(one.validity.not_before, UnixTime(NOW.0 - 6), "a minute is backdated by a tenth of it");
}

#[test]
fn a_leaf_never_outlives_its_root() {
    let directory = tempfile::tempdir().expect("a directory");
    let (authority, _) = open(directory.path(), 600);
    let end = authority.leaf().validity.not_after;
    let at = |now| authority.order(names(&[Usage::Server]), 3600, directory.path(), UnixTime(now));
    let order = at(NOW.0 + 500).expect("an order");
    assert_eq!(order.validity.not_after, end);
    for (name, now) in [("ending", end.0 - 5), ("ended", end.0 + 1), ("not begun", NOW.0 - 31)] {
        assert!(matches!(at(now), Err(CaError::RootNotValid { .. })), "{name}");
    }
}

#[test]
fn a_name_outside_of_the_roots_constraints_is_not_ordered() {
    let directory = tempfile::tempdir().expect("a directory");
    let constraints = Constraints {
        dns: vec!["acme.example".to_owned()],
        ip: vec![Network::parse("10.0.0.0/8").expect("a network")],
    };
    let config = config::Ca { constraints: constraints.clone(), ..config(86_400) };
    Authority::open(directory.path(), &config, NOW).expect("a CA");
    // The root says so itself, whatever the configuration says by now.
    let (authority, _) = open(directory.path(), 86_400);
    assert_eq!(authority.constraints, constraints);
    let order = |dns: &str, ip: &str| {
        let ip = vec![ip.parse().expect("an address")];
        let names = Names::new(None, vec![dns.to_owned()], ip, vec![Usage::Server], "acme.example").expect("names");
        authority.order(names, 60, directory.path(), NOW)
    };
    order("a.acme.example", "10.1.2.3").expect("inside");
    for (dns, ip, word) in [("evil.example", "10.1.2.3", "`evil.example`"), ("acme.example", "11.0.0.1", "`11.0.0.1`")]
    {
        let error = order(dns, ip).expect_err("outside").to_string();
        assert!(error.contains(word) && error.contains("ca rotate"), "{error}");
    }
}
