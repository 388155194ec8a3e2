//! What an agent says is revoked.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::CertificateParams;
use rcgen::KeyPair;
use rcgen::SanType;
use rcgen::SerialNumber;

use super::anchors::Authority;
use super::anchors::named;
use super::*;
use crate::revocation;
use crate::revocation::Brake;
use crate::revocation::Freshness;
use crate::revocation::IssuerName;
use crate::revocation::Key;
use crate::revocation::Revocations;
use crate::revocation::WhenStale;

const EVERYBODY: &str = r#"{"version": 1, "rules": [{"id": "all", "allow": "any"}]}"#;

/// A certificate of `spiffe://t/a`, also known as `a.t`, valid from 2027-01-15T07:30:00Z on.
fn signed(authority: &Authority, serial: u8) -> Leaf {
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(&[serial]));
    let dns = SanType::DnsName("a.t".try_into().unwrap());
    params.subject_alt_names = vec![SanType::URI("spiffe://t/a".try_into().unwrap()), dns];
    let from = rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(NOW.0.unsigned_abs() - 1800);
    params.not_before = from;
    params.not_after = from + std::time::Duration::from_secs(3600);
    let certificate = params.signed_by(&KeyPair::generate().unwrap(), &authority.issuer).unwrap();
    Leaf::from_der(certificate.der()).unwrap()
}

fn keys(keys: Vec<Key>) -> Revocations {
    Revocations::new(keys, Vec::new(), Freshness::default())
}

fn fresh_until(until: i64, when_stale: WhenStale) -> Revocations {
    Revocations::new(Vec::new(), Vec::new(), Freshness { until: Some(UnixTime(until)), when_stale })
}

fn reason(text: &str, leaf: &Leaf, set: &Revocations) -> Reason {
    let base = policy(text);
    let (text, version) = revocation::join(&base.to_json(), base.version(), set);
    let policy = policy(&text);
    assert_eq!(policy.version(), version);
    let subject = policy.subject(leaf.clone());
    policy.decide(&request(presented(Some(&subject)), "GET", None, "/")).reason()
}

#[test]
fn a_certificate_is_revoked_under_each_of_its_keys_and_no_other() {
    let (authority, other) = (Authority::new(named("one")), Authority::new(named("other")));
    let leaf = signed(&authority, 7);
    let issuer = IssuerName::of(&leaf).unwrap();
    let other = IssuerName::of(&signed(&other, 7)).unwrap();
    let brake = |issuer, instant| {
        Revocations::new(
            Vec::new(),
            vec![Brake { issuer, issued_before: UnixTime(instant) }],
            Freshness { until: Some(NOW), when_stale: WhenStale::Deny },
        )
    };
    let began = NOW.0 - 1800;
    let cases = [
        ("nothing", keys(Vec::new()), Reason::RuleMatched),
        ("serial", keys(vec![Key::of_serial(&issuer, &[0, 7])]), Reason::CertificateRevoked),
        ("another serial", keys(vec![Key::of_serial(&issuer, &[7, 0])]), Reason::RuleMatched),
        ("another authority's serial", keys(vec![Key::of_serial(&other, &[7])]), Reason::RuleMatched),
        ("certificate", keys(vec![Key::of_certificate(leaf.sha256())]), Reason::CertificateRevoked),
        ("public key", keys(vec![Key::of_public_key(leaf.spki_sha256())]), Reason::CertificateRevoked),
        (
            "the key's hash as the certificate's",
            keys(vec![Key::of_certificate(leaf.spki_sha256())]),
            Reason::RuleMatched,
        ),
        ("identity", keys(vec![Key::of_identity("spiffe://t/a")]), Reason::CertificateRevoked),
        ("one of its names", keys(vec![Key::of_identity("dns:a.t")]), Reason::CertificateRevoked),
        ("part of a name", keys(vec![Key::of_identity("spiffe://t/")]), Reason::RuleMatched),
        (
            "the last of many",
            keys((0..999).map(|n| Key::of_identity(&n.to_string())).chain([Key::of_identity("dns:a.t")]).collect()),
            Reason::CertificateRevoked,
        ),
        ("issued before", brake(issuer, began + 1), Reason::CertificateDistrusted),
        ("issued in that second", brake(issuer, began), Reason::RuleMatched),
        ("issued before by another", brake(other, began + 1), Reason::RuleMatched),
        ("fresh to the last second", fresh_until(NOW.0, WhenStale::Deny), Reason::RuleMatched),
        ("stale", fresh_until(NOW.0 - 1, WhenStale::Deny), Reason::RevocationStale),
        ("stale and allowed", fresh_until(NOW.0 - 1, WhenStale::Allow), Reason::RuleMatched),
    ];
    for (name, set, expected) in cases {
        assert_eq!(reason(EVERYBODY, &leaf, &set), expected, "{name}");
    }
    assert!(fresh_until(NOW.0 - 1, WhenStale::Allow).is_stale(NOW));
}

#[test]
fn the_policys_own_tests_and_its_candidate() {
    // The tests are about what the policy says, and go on to pass whoever is revoked.
    let text = r#"{"version": 1, "roles": {"r": [{"spiffe": "spiffe://t/a"}]}, "rules": [{"id": "x", "allow": ["r"]}],
        "tests": [{"name": "n", "peer": {"spiffe": "spiffe://t/a"}, "request": "GET /", "expect": {"allow": "x"}}],
        "candidate": {"version": 1, "rules": [{"id": "y", "allow": "any"}]}}"#;
    let until = Freshness { until: Some(UnixTime(-1)), when_stale: WhenStale::Deny };
    let set = Revocations::new(vec![Key::of_identity("spiffe://t/a")], Vec::new(), until);
    let base = policy(text);
    let (joined, _) = revocation::join(&base.to_json(), base.version(), &set);
    let with = policy(&joined);
    assert_eq!(with.run_tests(), []);
    let subject = with.subject(signed(&Authority::new(named("one")), 1));
    let decision = with.decide(&request(presented(Some(&subject)), "GET", None, "/"));
    assert_eq!(decision.reason(), Reason::CertificateRevoked);
    assert!(decision.candidate().is_none(), "the candidate lets in whom the agent says is revoked");
    // Under another set a certificate is looked at anew.
    let decision = base.decide(&request(presented(Some(&subject)), "GET", None, "/"));
    assert_eq!(decision.reason(), Reason::RuleMatched);
}

#[test]
fn joined_text_is_the_canonical_text_with_a_version_of_its_own() {
    let base = policy(EVERYBODY);
    let set = keys(vec![Key::of_identity("b"), Key::of_identity("a"), Key::of_identity("b")]);
    assert_eq!(set.keys().len(), 2);
    let (text, version) = revocation::join(&base.to_json(), base.version(), &set);
    let with = policy(&text);
    assert_eq!((with.to_json(), with.version()), (text, version.as_str()));
    assert_eq!(with.revocations(), &set);
    let (document, of_set) = version.split_once('+').unwrap();
    assert_eq!((document, of_set), (base.version(), set.version().as_str()));
    let others = [
        keys(vec![Key::of_identity("a")]),
        fresh_until(1, WhenStale::Deny),
        fresh_until(1, WhenStale::Allow),
        fresh_until(0, WhenStale::Deny),
    ];
    for other in &others {
        assert_ne!(other.version(), set.version());
        assert_eq!(others.iter().filter(|same| same.version() == other.version()).count(), 1);
    }
    let nothing = Revocations::default();
    assert_eq!(
        revocation::join(&base.to_json(), base.version(), &nothing),
        (base.to_json(), base.version().to_owned())
    );
}

#[test]
fn a_set_that_no_program_wrote_is_refused() {
    let key = |byte: u8| [byte; 16];
    let encoded = |keys: &[[u8; 16]]| format!(r#"{{"keys": "{}"}}"#, STANDARD.encode(keys.concat()));
    let brake = |byte: u8, instant: &str| {
        format!(r#"{{"issuer_sha256": "{}", "issued_before": "{instant}"}}"#, format!("{byte:02x}").repeat(32))
    };
    let brakes = |list: &[String]| format!(r#"{{"brakes": [{}]}}"#, list.join(","));
    let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
    let cases = [
        ("unsorted", encoded(&[key(2), key(1)]), "keys", "not sorted"),
        ("twice", encoded(&[key(1), key(1)]), "keys", "occurs twice"),
        ("cut", format!(r#"{{"keys": "{}"}}"#, STANDARD.encode([1; 17])), "keys", "17 bytes"),
        ("not base64", r#"{"keys": "*"}"#.to_owned(), "keys", "not base64"),
        ("too many", format!(r#"{{"keys": "{}"}}"#, "A".repeat(21_333_340)), "keys", "more than 1000000"),
        ("brakes unsorted", brakes(&[brake(1, late), brake(1, early)]), "brakes", "not sorted"),
        ("brake twice", brakes(&[brake(1, late), brake(1, late)]), "brakes", "not sorted"),
        ("no hash", brakes(&[brake(1, late).replacen("01", "", 1)]), "brakes[0].issuer_sha256", "64 hexadecimal"),
        ("no instant", brakes(&[brake(1, "soon")]), "brakes[0].issued_before", "soon"),
        ("brakes too many", brakes(&vec![brake(1, late); 1_001]), "brakes", "more than 1000"),
        ("fresh until when", r#"{"fresh_until": "soon"}"#.to_owned(), "fresh_until", "soon"),
        ("another word", r#"{"when_stale": "maybe"}"#.to_owned(), "when_stale", "maybe"),
        ("unknown field", r#"{"serials": []}"#.to_owned(), "serials", "unknown field"),
    ];
    for (name, set, field, message) in cases {
        let text = format!(r#"{{"version": 1, "rules": [], "revocations": {set}}}"#);
        let error = Policy::from_json(text.as_bytes()).expect_err(name);
        assert_eq!(error.path(), format!("revocations.{field}"), "{name}: {error}");
        assert!(error.to_string().contains(message), "{name}: {error}");
    }
}
