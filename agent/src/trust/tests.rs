//! Bundles, from who is revoked to what a proxy gets.

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::IsCa;
use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

use super::leave::may_leave;
use super::leave::may_leave_issuers;
use super::plan::LeftOut;
use super::plan::lists;
use super::*;
use crate::command::Usage;
use crate::issuer::Roots;
use crate::issuer::openbao;
use crate::names::Names;
use crate::revocation::Serial;
use crate::rotation::Standing;
use crate::xds::Proxy;

const DAY: i64 = 86_400;
const NOW: UnixTime = UnixTime(1_800_000_000);

fn authority() -> Arc<Authority> {
    let directory = tempfile::tempdir().expect("a directory");
    let ca = config::Ca { trust_domain: "acme.example".to_owned(), root_lifetime: DAY, ..config::Ca::default() };
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

fn in_use(authority: &Authority, lifetime: i64) -> Standing {
    let names = Names::new(None, vec!["localhost".to_owned()], Vec::new(), vec![Usage::Client], "acme.example");
    let order = authority.order(names.expect("names"), lifetime, authority.directory(), leaf::now()).expect("an order");
    let chain_pem = authority.sign(&order).expect("signed");
    let leaf = Leaf::from_der(&leaf::chain(&chain_pem).expect("a chain")[0]).expect("a leaf");
    let issuer = "bao".to_owned();
    Standing { chain_pem, leaf, issuer }
}

#[test]
fn an_authority_leaves_a_bundle_when_nothing_in_use_leads_to_it() {
    let (own, corp, spare) = (authority(), authority(), authority());
    let roots = [own.der().clone()];
    let standing = in_use(&corp, 3_600);
    let (now, end) = (leaf::now(), standing.leaf.validity.not_after);
    let after = UnixTime(end.0 + 1);
    let other = config::Bundle { name: "others".to_owned(), ..bundle(&[]) };
    for (name, old, new, standing, now, refused) in [
        ("nothing changes", bundle(&[corp.der()]), bundle(&[corp.der()]), &standing, now, false),
        ("it is needed", bundle(&[corp.der()]), bundle(&[]), &standing, now, true),
        ("until its last second", bundle(&[corp.der()]), bundle(&[]), &standing, end, true),
        ("and no longer", bundle(&[corp.der()]), bundle(&[]), &standing, after, false),
        ("another takes its place", bundle(&[corp.der()]), bundle(&[spare.der()]), &standing, now, true),
        ("one that nobody needs", bundle(&[spare.der(), corp.der()]), bundle(&[corp.der()]), &standing, now, false),
        ("ours is under the built-in CA", bundle(&[corp.der()]), bundle(&[]), &in_use(&own, 60), now, false),
        ("the bundle is gone as a whole", bundle(&[corp.der()]), other, &standing, now, false),
    ] {
        let outcome = may_leave(&[old], &[new], &roots, &[("gateway", standing.clone())], now);
        assert_eq!(outcome.is_err(), refused, "{name}: {outcome:?}");
        if let Err(why) = outcome {
            let (text, until) = (why.to_string(), leaf::timestamp(end).to_string());
            for word in ["`clients`", "`gateway`", &corp.leaf().sha256, &until] {
                assert!(text.contains(word), "{name}: {text}");
            }
        }
    }
}

#[test]
fn a_root_leaves_an_issuer_when_nothing_of_it_in_use_leads_there() {
    let (old, new) = (authority(), authority());
    let standing = in_use(&old, 3_600);
    let issuer = |name: &str, roots: &[&Authority]| {
        let kind = config::IssuerKind::OpenBao(Box::new(openbao::Settings {
            address: "https://bao.acme.example".parse().expect("a URL"),
            server_roots: None,
            namespace: None,
            mount: "pki".to_owned(),
            role: "gateway".to_owned(),
            login: openbao::Login::Token { file: "token".into() },
        }));
        let roots = Roots::these(roots.iter().map(|root| root.der().clone()).collect());
        config::Issuer { name: name.to_owned(), roots, kind }
    };
    for (name, before, after, refused) in [
        ("as it is", issuer("bao", &[&old]), issuer("bao", &[&old]), false),
        ("added first", issuer("bao", &[&old]), issuer("bao", &[&old, &new]), false),
        ("replaced in one step", issuer("bao", &[&old]), issuer("bao", &[&new]), true),
        ("removed while it is needed", issuer("bao", &[&old, &new]), issuer("bao", &[&new]), true),
        ("one that nobody needs", issuer("bao", &[&old, &new]), issuer("bao", &[&old]), false),
        ("of somebody else", issuer("other", &[&old]), issuer("other", &[&new]), false),
    ] {
        let outcome = may_leave_issuers(&[before], &[after], &[("gateway", standing.clone())], leaf::now());
        assert_eq!(outcome.is_err(), refused, "{name}: {outcome:?}");
    }
}

#[test]
fn every_root_that_is_trusted_is_in_every_bundle_with_a_list_of_its_own() {
    let (publisher, old, new) = (Publisher::new(), authority(), authority());
    let authorities = Authorities::from(Arc::clone(&old));
    let trust = Trust::new(publisher.clone(), authorities.clone(), &config::Revocation::default());
    trust.bundles(&[bundle(&[])]);
    trust.revoked(own(&["2a"]), Vec::new());
    let mut proxy = Proxy::of_secrets(&publisher, "clients");
    assert_eq!(sent(&mut proxy).expect("pushed").len(), 1);

    authorities.set(vec![Arc::clone(&old), Arc::clone(&new)], Arc::clone(&old));
    trust.tick();
    let lists = sent(&mut proxy).expect("pushed");
    let of = |list: &Vec<u8>, root: &Authority| {
        let (_, root) = x509_parser::prelude::X509Certificate::from_der(root.der()).expect("a root");
        let (_, list) = CertificateRevocationList::from_der(list).expect("a list");
        let key = root.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier(key) => Some(key.0.to_vec()),
            _ => None,
        });
        let signer = list.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            x509_parser::extensions::ParsedExtension::AuthorityKeyIdentifier(key) => {
                key.key_identifier.as_ref().map(|key| key.0.to_vec())
            }
            _ => None,
        });
        key.is_some() && key == signer
    };
    assert!(lists.len() == 2 && of(&lists[0], &old) && of(&lists[1], &new), "a proxy tells them apart by the key");
    let status = &trust.statuses()[0];
    assert_eq!((status.entries.len(), status.not_before.len()), (2, 2));
    assert_eq!(status.not_before.get(&old.leaf().sha256), Some(&leaf::timestamp(old.leaf().validity.not_before)));

    // Who signs is nothing that a bundle says.
    let version = trust.statuses()[0].version.clone();
    authorities.set(vec![Arc::clone(&old), Arc::clone(&new)], Arc::clone(&new));
    trust.tick();
    assert_eq!((trust.statuses()[0].version.clone(), sent(&mut proxy)), (version, None));
    authorities.set(vec![Arc::clone(&new)], new);
    trust.tick();
    assert_eq!(sent(&mut proxy).expect("pushed").len(), 1);
}
