//! Who may sign clients' certificates.

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::DnType;
use rcgen::DnValue;
use rcgen::Issuer;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rcgen::SanType;

use super::*;
use crate::hex::Hex;
use crate::signature::PureRust;
use crate::signature::Verifier;
use crate::signature::VerifyingKey;

pub(super) struct Authority {
    pub(super) pem: String,
    pub(super) sha256: String,
    pub(super) issuer: Issuer<'static, KeyPair>,
}

pub(super) fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = rcgen::IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

impl Authority {
    pub(super) fn new(params: CertificateParams) -> Self {
        Self::with_key(params, KeyPair::generate().unwrap())
    }

    fn with_key(params: CertificateParams, key: KeyPair) -> Self {
        let certificate = params.self_signed(&key).unwrap();
        let leaf = Leaf::from_der(certificate.der()).unwrap();
        let sha256 = Hex(leaf.sha256()).to_string();
        Self { pem: certificate.pem(), sha256, issuer: Issuer::new(params, key) }
    }

    /// The certificate of `spiffe://t/a`, in DER.
    fn issue(&self) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI("spiffe://t/a".try_into().unwrap())];
        params.signed_by(&KeyPair::generate().unwrap(), &self.issuer).unwrap().der().to_vec()
    }
}

/// Allows `/` to who has a role by these conditions.
fn anchored(anchors: &[&Authority], member: &str, more: &str) -> String {
    let anchors: Vec<_> = anchors.iter().map(|anchor| serde_json::json!({ "pem": anchor.pem })).collect();
    let anchors = serde_json::Value::from(anchors);
    format!(
        r#"{{"version": 1, "anchors": {anchors}, "roles": {{"r": [{{{member}}}]}}, "rules": [{{"id": "a", "allow": ["r"]}}]{more}}}"#
    )
}

fn decide(policy: &Policy, der: &[u8], now: UnixTime) -> Reason {
    let subject = policy.verified_subject(Leaf::from_der(der).unwrap(), &mut PureRust);
    let request = Request { now, ..request(presented(Some(&subject)), "GET", None, "/") };
    policy.decide(&request).reason()
}

#[test]
fn only_what_an_anchor_signed_is_believed() {
    let ours = Authority::new(named("ours"));
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let large = Authority::with_key(named("large"), key);
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let edwards = Authority::with_key(named("edwards"), key);
    // The name of ours, and the key of somebody else.
    let forger = Authority::new(named("ours"));
    // The key of ours, and another name, or the same name in another type of string.
    let again = || KeyPair::from_pem(&ours.issuer.key().serialize_pem()).unwrap();
    let renamed = Authority::with_key(named("others"), again());
    let mut params = named("");
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, DnValue::PrintableString("ours".try_into().unwrap()));
    let respelt = Authority::with_key(params, again());
    let stranger = Authority::new(named("stranger"));

    let policy = policy(&anchored(&[&ours, &large, &edwards], r#""spiffe": "spiffe://t/a""#, ""));
    let cases = [
        ("P-256", &ours, Reason::RuleMatched),
        ("P-384", &large, Reason::RuleMatched),
        ("Ed25519", &edwards, Reason::RuleMatched),
        ("another key", &forger, Reason::CertificateIssuerUnknown),
        ("another name", &renamed, Reason::CertificateIssuerUnknown),
        ("another spelling of the name", &respelt, Reason::CertificateIssuerUnknown),
        ("a stranger", &stranger, Reason::CertificateIssuerUnknown),
    ];
    for (name, authority, reason) in cases {
        assert_eq!(decide(&policy, &authority.issue(), NOW), reason, "{name}");
    }
    // A signature that is changed, and a message that is.
    let der = ours.issue();
    let serial = Leaf::from_der(&der).unwrap().serial().to_vec();
    let place = der.windows(serial.len()).position(|window| window == serial).unwrap();
    for (name, place) in [("signature", der.len() - 1), ("message", place + serial.len() - 1)] {
        let mut changed = der.clone();
        changed[place] ^= 1;
        assert_eq!(decide(&policy, &changed, NOW), Reason::CertificateIssuerUnknown, "{name}");
    }
    // Without a check nobody is believed, and the anchor's own certificate is none of a client.
    let subject = policy.subject(Leaf::from_der(&der).unwrap());
    let unchecked = policy.decide(&request(presented(Some(&subject)), "GET", None, "/"));
    assert_eq!((unchecked.reason(), unchecked.status()), (Reason::CertificateIssuerUnknown, 401));
    // Nobody means a policy without anchors to ask.
    let open = super::policy(&anchored(&[], r#""spiffe": "spiffe://t/a""#, ""));
    assert_eq!(decide(&open, &stranger.issue(), NOW), Reason::RuleMatched);
}

#[test]
fn the_issuer_is_asked_for_after_the_dates_and_before_the_lists() {
    let (ours, stranger) = (Authority::new(named("ours")), Authority::new(named("stranger")));
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = (rcgen::date_time_ymd(2027, 1, 1), rcgen::date_time_ymd(2027, 2, 1));
    params.serial_number = Some(rcgen::SerialNumber::from(8_u64));
    let der =
        |issuer: &Authority| params.signed_by(&KeyPair::generate().unwrap(), &issuer.issuer).unwrap().der().to_vec();
    let (believed, other) = (der(&ours), der(&stranger));
    let policy = policy(&anchored(&[&ours], r#""serial": "08""#, r#", "revoked": {"serials": ["08"]}"#));
    assert_eq!(decide(&policy, &other, UnixTime(0)), Reason::CertificateNotYetValid);
    assert_eq!(decide(&policy, &other, UnixTime(2_000_000_000)), Reason::CertificateExpired);
    assert_eq!(decide(&policy, &other, NOW), Reason::CertificateIssuerUnknown);
    assert_eq!(decide(&policy, &believed, NOW), Reason::CertificateRevoked);
}

struct Counting(usize);

impl Verifier for Counting {
    fn verify(&mut self, key: &VerifyingKey, message: &[u8], signature: &[u8]) -> bool {
        self.0 += 1;
        PureRust.verify(key, message, signature)
    }
}

#[test]
fn a_signature_is_checked_once_and_only_against_anchors_of_its_issuers_name() {
    let ours = Authority::new(named("ours"));
    let others = Authority::new(named("others"));
    let policy = policy(&anchored(&[&ours, &others], r#""spiffe": "spiffe://t/a""#, ""));
    let mut verifier = Counting(0);
    let subject = policy.verified_subject(Leaf::from_der(&ours.issue()).unwrap(), &mut verifier);
    for _ in 0..3 {
        assert!(policy.decide(&request(presented(Some(&subject)), "GET", None, "/")).is_allowed());
    }
    assert_eq!(verifier.0, 1);
    policy.verified_subject(Leaf::from_der(&Authority::new(named("x")).issue()).unwrap(), &mut verifier);
    assert_eq!(verifier.0, 1);
}

#[test]
fn an_anchor_is_good_for_its_time_and_may_be_renewed() {
    let day = |day| rcgen::date_time_ymd(2027, 1, day);
    let mut old = named("ours");
    (old.not_before, old.not_after) = (day(1), day(10));
    let key = KeyPair::generate().unwrap();
    let again = KeyPair::from_pem(&key.serialize_pem()).unwrap();
    let old = Authority::with_key(old, key);
    let mut new = named("ours");
    (new.not_before, new.not_after) = (day(9), day(20));
    let new = Authority::with_key(new, again);
    let der = old.issue();
    let at = |text: &str| UnixTime(text.parse::<jiff::Timestamp>().unwrap().as_second());
    let member = r#""spiffe": "spiffe://t/a""#;
    let (alone, both) = (policy(&anchored(&[&old], member, "")), policy(&anchored(&[&old, &new], member, "")));
    let cases = [
        ("before", "2026-12-31T23:59:59Z", Reason::CertificateIssuerUnknown, Reason::CertificateIssuerUnknown),
        ("at first", "2027-01-01T00:00:00Z", Reason::RuleMatched, Reason::RuleMatched),
        ("at last", "2027-01-10T00:00:00Z", Reason::RuleMatched, Reason::RuleMatched),
        ("after", "2027-01-10T00:00:01Z", Reason::CertificateIssuerUnknown, Reason::RuleMatched),
        ("after both", "2027-01-20T00:00:01Z", Reason::CertificateIssuerUnknown, Reason::CertificateIssuerUnknown),
    ];
    for (name, now, of_one, of_both) in cases {
        assert_eq!(decide(&alone, &der, at(now)), of_one, "{name}");
        assert_eq!(decide(&both, &der, at(now)), of_both, "{name}");
    }
}

#[test]
fn roles_and_brakes_are_about_one_anchor() {
    let (one, other) = (Authority::new(named("one")), Authority::new(named("other")));
    let all = [&one, &other];
    let pin = format!(r#""spiffe": "spiffe://t/a", "issuer": {{"sha256": "{}"}}"#, one.sha256);
    let not = format!(r#""not": {{"issuer": {{"sha256": "{}"}}}}"#, one.sha256);
    let brake = format!(
        r#", "distrust": [{{"issued_before": "2040-01-01T00:00:00Z", "issuer": {{"sha256": "{}"}}}}]"#,
        one.sha256
    );
    let candidate = format!(
        r#", "candidate": {{"version": 1, "roles": {{"r": [{{"issuer": {{"sha256": "{}"}}}}]}}, "rules": [{{"id": "a", "allow": ["r"]}}]}}"#,
        other.sha256
    );
    let spiffe = r#""spiffe": "spiffe://t/a""#;
    let cases = [
        ("pinned", anchored(&all, &pin, ""), [Reason::RuleMatched, Reason::NoRuleMatched]),
        ("not that one", anchored(&all, &not, ""), [Reason::NoRuleMatched, Reason::RuleMatched]),
        ("distrusted", anchored(&all, spiffe, &brake), [Reason::CertificateDistrusted, Reason::RuleMatched]),
        ("a candidate", anchored(&all, &pin, &candidate), [Reason::RuleMatched, Reason::NoRuleMatched]),
    ];
    for (name, text, want) in cases {
        let policy = policy(&text);
        assert_eq!(all.map(|authority| decide(&policy, &authority.issue(), NOW)), want, "{name}");
        let again = super::policy(&policy.to_json());
        assert_eq!((again.to_json(), again.version()), (policy.to_json(), policy.version()), "{name}");
        assert_eq!(all.map(|authority| decide(&again, &authority.issue(), NOW)), want, "{name}");
    }
    // The candidate has the anchors of the policy beside it.
    let policy = policy(&anchored(&all, &pin, &candidate));
    let subject = policy.verified_subject(Leaf::from_der(&other.issue()).unwrap(), &mut PureRust);
    let decision = policy.decide(&request(presented(Some(&subject)), "GET", None, "/"));
    assert_eq!(decision.candidate().map(|other| other.is_allowed()), Some(true));
}

#[test]
fn the_policys_own_tests_are_signed_by_whom_they_say() {
    let ours = Authority::new(named("ours"));
    let member = format!(r#""issuer": {{"sha256": "{}"}}"#, ours.sha256);
    let tests = format!(
        r#", "tests": [
            {{"name": "signed", "peer": {{"issuer": {{"cn": "ours", "sha256": "{}"}}}}, "request": "GET /", "expect": {{"allow": "a"}}}},
            {{"name": "by another", "peer": {{"dns": "a.t"}}, "request": "GET /", "expect": {{"deny": "no_rule_matched"}}}}
        ]"#,
        ours.sha256
    );
    assert_eq!(policy(&anchored(&[&ours], &member, &tests)).run_tests(), []);
}

#[test]
fn an_anchor_that_nothing_can_be_trusted_for_is_refused() {
    let with = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = named("x");
        change(&mut params);
        Authority::new(params).pem
    };
    let good = with(&|_| {});
    let subtree = rcgen::GeneralSubtree::DnsName("acme.example".to_owned());
    let constrained = rcgen::NameConstraints { permitted_subtrees: vec![subtree], excluded_subtrees: vec![] };
    let cases = [
        ("no PEM", "x".to_owned(), "not PEM of exactly one certificate"),
        ("two", format!("{good}{good}"), "not PEM of exactly one certificate"),
        ("a leaf", with(&|params| params.is_ca = rcgen::IsCa::ExplicitNoCa), "do not say that it is an authority"),
        ("no usage", with(&|params| params.key_usages.clear()), "its key signs certificates"),
        (
            "another usage",
            with(&|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]),
            "its key signs certificates",
        ),
        ("no name", with(&|params| params.distinguished_name = rcgen::DistinguishedName::new()), "it has no subject"),
        (
            "constraints",
            with(&|params| params.name_constraints = Some(constrained.clone())),
            "name constraints, which are not carried out",
        ),
    ];
    for (name, pem, part) in cases {
        let text = serde_json::json!({ "version": 1, "anchors": [{ "pem": pem }], "rules": [] }).to_string();
        let error = Policy::from_json(text.as_bytes()).unwrap_err();
        assert!(
            error.path() == "anchors[0].pem" && error.to_string().contains(part),
            "{name}: {}: {error}",
            error.path()
        );
    }
    let pem = serde_json::json!(good);
    for (name, anchors, path, part) in [
        ("a file", r#"[{"file": "ca.pem"}]"#.to_owned(), "anchors[0].file", "`portcullis policy render` puts it there"),
        ("neither", "[{}]".to_owned(), "anchors[0]", "exactly one of `pem` and `file`"),
        ("both", format!(r#"[{{"pem": {pem}, "file": "x"}}]"#), "anchors[0]", "exactly one of `pem` and `file`"),
        ("twice", format!(r#"[{{"pem": {pem}}}, {{"pem": {pem}}}]"#), "anchors[1].pem", "already defined"),
        ("no map", r#"["x"]"#.to_owned(), "anchors[0]", "expected a map"),
    ] {
        let text = format!(r#"{{"version": 1, "anchors": {anchors}, "rules": []}}"#);
        let error = Policy::from_json(text.as_bytes()).unwrap_err();
        assert!(error.path() == path && error.to_string().contains(part), "{name}: {}: {error}", error.path());
    }
    let pin = format!(r#""issuer": {{"sha256": "{}"}}"#, "00".repeat(32));
    let error = Policy::from_json(anchored(&[], &pin, "").as_bytes()).unwrap_err();
    assert_eq!(error.path(), "roles.r[0].issuer.sha256");
    assert!(error.to_string().contains("put the issuer's certificate there"), "{error}");
}
