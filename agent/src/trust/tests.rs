//! Bundles, from who is revoked to what a proxy gets.

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::IsCa;
use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

use super::plan::LeftOut;
use super::plan::lists;
use super::*;
use crate::revocation::Serial;
use crate::xds::Proxy;

const DAY: i64 = 86_400;
const NOW: UnixTime = UnixTime(1_800_000_000);

fn authority() -> Arc<Authority> {
    let directory = tempfile::tempdir().expect("a directory");
    let ca = config::Ca { trust_domain: "acme.example".to_owned(), root_lifetime: DAY };
    Arc::new(Authority::open(directory.path(), &ca, leaf::now()).expect("a CA").0)
}

fn trust(publisher: &Publisher, authority: &Arc<Authority>) -> Trust {
    let trust = Trust::new(publisher.clone(), Arc::clone(authority), &config::Revocation::default());
    trust.bundles(&[bundle(&[])]);
    trust
}

fn bundle(also: &[&CertificateDer<'static>]) -> config::Bundle {
    let also = also.iter().map(|der| (*der).clone()).collect();
    config::Bundle { name: "clients".to_owned(), also, spiffe: Vec::new() }
}

fn own(serials: &[&str]) -> Vec<OwnEntry> {
    let entry = |serial: &&str| OwnEntry { serial: Serial::parse(serial).expect("a number"), since: NOW };
    serials.iter().map(entry).collect()
}

/// The lists that a proxy was sent last, if it was sent a bundle; none in a bundle without.
fn sent(proxy: &mut Proxy) -> Option<Vec<Vec<u8>>> {
    let Body::ValidationContext { crl_pem, .. } = proxy.take().pop()?.body else { return None };
    let text = crl_pem.unwrap_or_default();
    Some(Pem::iter_from_buffer(text.as_bytes()).map(|pem| pem.expect("PEM").contents).collect())
}

#[test]
fn a_bundle_gets_a_list_when_somebody_is_revoked_and_loses_it_with_the_last() {
    let (publisher, authority) = (Publisher::new(), authority());
    let trust = trust(&publisher, &authority);
    let mut proxy = Proxy::of_secrets(&publisher, "clients");
    let version = || trust.statuses()[0].version.clone();
    let before = version();
    assert_eq!(sent(&mut proxy), Some(Vec::new()), "nobody is revoked");

    trust.revoked(own(&["2a", "1234"]), Vec::new());
    let lists = sent(&mut proxy).expect("pushed");
    let (rest, list) = CertificateRevocationList::from_der(&lists[0]).expect("a list");
    let (_, root) = x509_parser::prelude::X509Certificate::from_der(authority.der()).expect("a root");
    assert!(lists.len() == 1 && rest.is_empty() && list.issuer() == root.subject() && list.crl_number().is_some());
    let serials: Vec<_> = list.iter_revoked_certificates().map(|entry| leaf::serial_hex(entry.raw_serial())).collect();
    assert_eq!(serials, ["2a", "1234"]);
    let now = leaf::now().0;
    let end = list.next_update().expect("an end").timestamp();
    assert!(list.last_update().timestamp() <= now && end > now + 14 * DAY, "long before it ends there is another");
    let status = trust.statuses()[0].in_handshake.clone();
    assert!(matches!(status, InHandshake::Refused { entries: 2, .. }), "{status:?}");

    let with_list = version();
    trust.revoked(own(&["2a", "1234"]), Vec::new());
    trust.tick();
    assert_eq!(sent(&mut proxy), None, "nothing else was said");
    let restarted = self::trust(&Publisher::new(), &authority);
    restarted.revoked(own(&["2a", "1234"]), Vec::new());
    assert_eq!(restarted.statuses()[0].version, with_list, "a restart is no reason to push");
    trust.revoked(Vec::new(), Vec::new());
    assert_eq!((sent(&mut proxy), version()), (Some(Vec::new()), before));
}

#[test]
fn the_own_list_is_renewed_long_before_it_ends() {
    let state = State { own: own(&["2a"]), ..State::default() };
    let part = |now| lists(&bundle(&[]), &state, UnixTime(now)).expect("a list").remove(0);
    let digest = |now| part(now).digest(&state.own);
    let mut changes = 0;
    for now in (NOW.0..NOW.0 + 70 * DAY).step_by(3_600) {
        let part = part(now);
        let Part::Own(begin, end) = &part else { panic!("{part:?}") };
        assert!(begin.0 <= now && end.0 - now >= 21 * DAY, "{part:?} at {now}");
        changes += usize::from(digest(now) != digest(now - 3_600));
    }
    assert_eq!(changes, 10, "once a week");
}

/// Another authority, and a list of it.
fn other(constraints: BasicConstraints) -> (CertificateDer<'static>, AuthorityList) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(constraints);
    let der = params.self_signed(&KeyPair::generate().expect("a key")).expect("signed").der().clone();
    let authority = ListAuthority::from_der(&der).expect("an authority");
    let next_update = UnixTime(NOW.0 + 3_600);
    let list = AuthorityList { authority, der: Some((*b"a list").into()), is_whole: true, entries: 1, next_update };
    (der, list)
}

/// Its name, the other authorities of the bundle, who is revoked by the built-in one, the lists that are given, the
/// configuration, and how many lists the bundle has.
type Case<'a> = (
    &'a str,
    &'a [&'a CertificateDer<'static>],
    &'a [OwnEntry],
    &'a [&'a AuthorityList],
    (WhenStale, Handshake),
    Result<usize, LeftOut>,
);

#[test]
fn a_bundle_has_a_list_of_each_authority_or_none() {
    let (der, list) = other(BasicConstraints::Constrained(0));
    let (top, of_top) = other(BasicConstraints::Unconstrained);
    let (stranger, _) = other(BasicConstraints::Constrained(0));
    let name = || "CN=rcgen self signed cert".to_owned();
    let empty = AuthorityList { entries: 0, ..list.clone() };
    let shard = AuthorityList { is_whole: false, ..list.clone() };
    let long = AuthorityList { der: None, ..list.clone() };
    let ended = AuthorityList { next_update: UnixTime(NOW.0 - 1), ..list.clone() };
    let ending = AuthorityList { next_update: UnixTime(NOW.0 + 60), ..list.clone() };
    let [deny, allow] = [WhenStale::Deny, WhenStale::Allow].map(|when_stale| (when_stale, Handshake::Refuses));
    let revoked = own(&["2a"]);
    let cases: [Case<'_>; 15] = [
        ("nobody revoked anybody", &[&der], &[], &[&empty], deny, Ok(0)),
        ("nor is there a list", &[&der], &[], &[], deny, Ok(0)),
        ("the built-in CA did", &[], &revoked, &[], deny, Ok(1)),
        ("the other did", &[&der], &[], &[&list], deny, Ok(2)),
        ("the built-in CA did, the other nobody", &[&der], &revoked, &[&empty], deny, Ok(2)),
        ("a list of nobody in the bundle", &[], &[], &[&list], deny, Ok(0)),
        ("the other has no list", &[&der], &revoked, &[], deny, Err(LeftOut::NoList(name()))),
        ("one has, one has not", &[&der, &stranger], &[], &[&list], deny, Err(LeftOut::NoList(name()))),
        ("only a part", &[&der], &[], &[&shard], deny, Err(LeftOut::NoList(name()))),
        ("a part and the whole", &[&der], &[], &[&shard, &list], deny, Ok(2)),
        ("too long", &[&der], &[], &[&long], deny, Err(LeftOut::TooLong(name()))),
        ("others below it", &[&top], &[], &[&of_top], deny, Err(LeftOut::HasAuthoritiesBelow(name()))),
        ("ended, and nobody may pass", &[&der], &[], &[&ended], deny, Ok(2)),
        ("about to end, and all may pass", &[&der], &[], &[&ending], allow, Err(LeftOut::Ended(name()))),
        ("not wanted", &[&der], &[], &[&list], (WhenStale::Deny, Handshake::LeftToFilter), Err(LeftOut::Configured)),
    ];
    for (case, also, own, given, (when_stale, handshake), want) in cases {
        let (own, given) = (own.to_vec(), given.iter().copied().cloned().collect());
        let state = State { handshake, when_stale, own, lists: given, ..State::default() };
        let got = lists(&bundle(also), &state, NOW).map(|parts| parts.len());
        assert_eq!(got, want, "{case}");
    }
}
