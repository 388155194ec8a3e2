use std::os::unix::fs::PermissionsExt as _;

use portcullis_policy::schedule::Share;
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

#[test]
fn an_intermediate_signs_leaves_and_lists_and_outlives_both() {
    let directory = tempfile::tempdir().expect("a directory");
    let now = leaf::now();
    let below = config::Below { lifetime: 600, rotate_after: Share::HALF };
    let config = config::Ca { intermediate: Some(below), ..config(86_400) };
    let (authority, _) = Authority::open(directory.path(), &config, now).expect("a CA");
    let first = authority.signing().expect("an intermediate");
    let end = first.leaf().validity.not_after;
    assert_eq!(end, UnixTime(now.0 + 600));
    let order = |lifetime| authority.order(names(&[Usage::Server]), lifetime, directory.path(), now).expect("an order");
    let long = order(3_600);
    assert_eq!(long.validity.not_after, end, "no leaf outlives it");
    let chain = leaf::chain(&authority.sign(&long).expect("signed")).expect("a chain");
    assert_eq!((chain.len(), &chain[1]), (2, first.der()));
    let lists = |authority: &Authority| {
        let lists = authority.revocation_list(std::iter::empty(), 1, now, UnixTime(now.0 + 60)).expect("signed");
        lists.matches("BEGIN X509 CRL").count()
    };
    assert_eq!(lists(&authority), 2, "one of the root, one of the intermediate");

    // Another one signs nothing before that is said; what was ordered under the first is still signed by it after that.
    let second = authority.make_intermediate(&config, UnixTime(now.0 + 10)).expect("another");
    assert_eq!(authority.signing().expect("the first").leaf(), first.leaf());
    assert_eq!(lists(&authority), 3);
    authority.sign_with(&second.leaf().sha256);
    assert_eq!(order(3_600).validity.not_after, second.leaf().validity.not_after);
    assert_eq!(authority.names_sha256().len(), 2, "the root's, and that of all below it");

    assert!(authority.remove_ended(now).expect("looked").is_empty());
    let gone = authority.remove_ended(UnixTime(end.0 + 1)).expect("removed");
    assert_eq!(gone.iter().map(|one| one.leaf().clone()).collect::<Vec<_>>(), [first.leaf().clone()]);
    let kept = |name: &str| directory.path().join("intermediates").join(name).exists();
    assert!(!kept("1.key") && !kept("1.pem") && kept("2.key") && kept("2.pem"));
    // Past its own end nothing is signed.
    let late = UnixTime(second.leaf().validity.not_after.0 + 1);
    let error = authority.order(names(&[Usage::Server]), 60, directory.path(), late).expect_err("ended");
    assert!(matches!(error, CaError::IntermediateNotValid { .. }), "{error}");
}

#[test]
fn a_late_writer_of_the_record_is_refused_and_reads_what_is_there() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = crate::store::LocalStore::open(&directory.path().join("store.redb")).expect("a store").store;
    let store: Arc<dyn crate::store::Store> = Arc::new(store);
    let open = || Journal::open(Arc::clone(&store)).expect("a journal").0;
    let (one, other) = (open(), open());
    one.issued("ab", UnixTime(7)).expect("the first");
    let event = crate::audit::Event::new(crate::audit::Kind::RootRemoved, "ca");
    let late = other.change(&[event], |record| record.ends.clear());
    assert!(matches!(late, Err(crate::store::StoreError::Conflict { .. })), "{late:?}");
    assert_eq!(store.notes().expect("notes"), [], "nothing is told of what was not done");
    assert_eq!(other.record(), one.record());
    other.issued("ab", UnixTime(9)).expect("by what is there now");
}
