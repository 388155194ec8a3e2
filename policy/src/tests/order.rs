//! The order of all checks.

use std::sync::Arc;

use super::*;
use crate::CertificateError;
use crate::token::Claims;
use crate::token::Token;
use crate::token::TokenError;
use crate::token::provider::ProviderId;

/// `NOW` is 2027-01-15T08:00:00Z.
const POLICY: &str = r#"{
    "version": 1,
    "forwarders": [{"spiffe": "spiffe://acme.example/edge"}],
    "tokens": {"corp": {"issuer": "corp", "audience": ["a"], "jwks": {"keys": []}}},
    "roles": {"peer": [{"spiffe": "spiffe://acme.example/peer"}]},
    "rules": [
        {"id": "allow-both", "allow": "any", "paths": ["/both"]},
        {"id": "deny-both", "deny": "any", "paths": ["/both"]},
        {"id": "allow-peer", "allow": ["peer"], "paths": ["/peer"]}
    ],
    "distrust": [{"issued_before": "2027-01-15T07:51:40Z"}],
    "revoked": {
        "sha256": ["0101010101010101010101010101010101010101010101010101010101010101"],
        "fresh_until": "2027-01-15T08:00:00Z"
    }
}"#;

/// Everything that a decision depends on, to be repaired step by step.
struct World {
    now: UnixTime,
    certificate: Synthetic,
    presented: bool,
    readable: bool,
    validated: bool,
    /// What the reading of the header came to.
    refused: Option<Reason>,
    /// The certificate in it.
    client: Option<Synthetic>,
    head: Head<'static>,
    token: Bearer,
}

impl World {
    fn decide(&self, policy: &Policy) -> (Reason, Option<String>) {
        let subject = policy.subject(self.certificate.clone().leaf());
        let error = CertificateError::Pem;
        let peer = match (self.presented, self.readable) {
            (false, _) => Peer::Absent,
            (true, false) => Peer::Unreadable(&error),
            (true, true) => Peer::Presented { subject: &subject, validated: self.validated },
        };
        let client = self.client.clone().map(|client| Arc::new(policy.subject(client.leaf())));
        let forwarded = match (self.refused, client) {
            (Some(reason), _) => Forwarded::Refused(reason),
            (None, Some(client)) => Forwarded::Certificate(client),
            (None, None) => Forwarded::Nothing,
        };
        let head = self.head.clone();
        let token = &self.token;
        let request = Request {
            now: self.now,
            peer,
            forwarded: &forwarded,
            token,
            tls: Tls::default(),
            source: None,
            listener: None,
            protocol: Protocol::Http,
            head,
        };
        let decision = policy.decide(&request);
        (decision.reason(), decision.rule().map(str::to_owned))
    }
}

/// A request that is refused for every reason at once is refused for the first. With that repaired it is refused for the
/// next, and so on to the end.
#[test]
fn each_check_comes_after_the_one_before_it() {
    type Repair = fn(&mut World);
    const CONNECTION: (&[u8], &[u8]) = (b"Connection", b"close, X_Portcullis.Identity");
    const XFCC: (&[u8], &[u8]) = (b"X-Forwarded-Client-Cert", b"URI=spiffe://acme.example/peer");
    const CLIENT_CERT: (&[u8], &[u8]) = (b"Client-Cert", b":AAAA:");
    const LATIN: (&[u8], &[u8]) = (b"x-name", b"J\xf6rg");
    const TOKEN: (&[u8], &[u8]) = (b"Authorization", b"Bearer x");
    const HOST: (&[u8], &[u8]) = (b"Host", b"other.example");
    const BELL: (&[u8], &[u8]) = (b"x-name", b"J\x07");

    let policy = policy(POLICY);
    let mut fields = vec![CONNECTION, XFCC, LATIN, CLIENT_CERT, TOKEN, HOST, BELL];
    fields.resize(300, (b"x", b""));
    let certificate = |id: &str| Synthetic {
        alternative_names: vec![AlternativeName::Uri(id.to_owned())],
        not_before: UnixTime(NOW.0 + 2000),
        not_after: UnixTime(NOW.0 - 2000),
        ..unnamed()
    };
    let mut world = World {
        now: UnixTime(NOW.0 + 1000),
        certificate: certificate("spiffe://acme.example/edge"),
        presented: true,
        readable: false,
        validated: false,
        refused: Some(Reason::ForwardedUnparsable),
        client: Some(certificate("spiffe://acme.example/peer")),
        head: Head {
            method: Some(b"G T"),
            authority: Some(b"a@b"),
            path: Some(b"/both//?access_token=x"),
            fields,
            duplicated: true,
        },
        token: Bearer::Refused(TokenError::Malformed),
    };
    let steps: &[(Reason, Option<&str>, Repair)] = &[
        (Reason::TooManyHeaders, None, |world| world.head.fields.truncate(7)),
        (Reason::HeaderMalformed, None, |world| world.head.fields.truncate(6)),
        (Reason::HeaderDuplicated, None, |world| world.head.duplicated = false),
        (Reason::MethodInvalid, None, |world| world.head.method = Some(b"GET")),
        (Reason::PathEmptySegment, None, |world| world.head.path = Some(b"/both?access_token=x")),
        (Reason::HostAmbiguous, None, |world| world.head.fields.truncate(5)),
        (Reason::HostInvalid, None, |world| world.head.authority = Some(b"acme.example")),
        (Reason::HeaderForbidden, None, |world| world.head.fields = vec![XFCC, CLIENT_CERT, LATIN, TOKEN]),
        (Reason::ForwardedAmbiguous, None, |world| world.head.fields = vec![XFCC, LATIN, TOKEN]),
        (Reason::HeaderNotUtf8, None, |world| world.head.fields = vec![XFCC, TOKEN]),
        (Reason::CredentialsAmbiguous, None, |world| world.head.path = Some(b"/both")),
        (Reason::CertificateUnreadable, None, |world| world.readable = true),
        (Reason::CertificateNotValidated, None, |world| world.validated = true),
        (Reason::CertificateNotYetValid, None, |world| world.certificate.not_before = UnixTime(NOW.0 - 1000)),
        (Reason::CertificateExpired, None, |world| world.certificate.not_after = UnixTime(NOW.0 + 1000)),
        (Reason::CertificateRevoked, None, |world| world.certificate.sha256 = [9; 32]),
        (Reason::CertificateDistrusted, None, |world| world.certificate.not_before = UnixTime(NOW.0 - 500)),
        (Reason::RevocationStale, None, |world| world.now = NOW),
        (Reason::ForwardedUnparsable, None, |world| world.refused = None),
        (Reason::CertificateNotYetValid, None, |world| client(world).not_before = UnixTime(NOW.0 - 1000)),
        (Reason::CertificateExpired, None, |world| client(world).not_after = UnixTime(NOW.0 + 1000)),
        (Reason::CertificateRevoked, None, |world| client(world).sha256 = [9; 32]),
        (Reason::CertificateDistrusted, None, |world| client(world).not_before = UnixTime(NOW.0 - 500)),
        (Reason::TokenMalformed, None, |world| world.token = of_another_certificate()),
        (Reason::TokenCertificateMismatch, None, |world| world.token = Bearer::Absent),
        (Reason::DenyRuleMatched, Some("deny-both"), |world| world.head.path = Some(b"/elsewhere")),
        (Reason::NoRuleMatched, None, |world| world.head.path = Some(b"/peer")),
        (Reason::RuleMatched, Some("allow-peer"), |world| {
            world.client = None;
            world.head.fields.clear();
        }),
        (Reason::NoCertificate, None, |_| {}),
    ];
    fn client(world: &mut World) -> &mut Synthetic {
        world.client.as_mut().unwrap()
    }
    for (reason, rule, repair) in steps {
        assert_eq!(world.decide(&policy), (*reason, rule.map(str::to_owned)), "{}", reason.code());
        repair(&mut world);
    }
}

fn of_another_certificate() -> Bearer {
    let policy = policy(POLICY);
    let claims = Claims::parse(b"{}").expect("claims");
    let token = Token::new(policy.providers.version(), ProviderId(0), claims, None, Some([3; 32].into()));
    Bearer::Verified(Arc::new(token))
}

#[test]
fn who_asks_is_told_whatever_the_verdict() {
    let policy = policy(POLICY);
    let subject = policy.subject(fresh("spiffe://acme.example/peer"));
    for (name, path, validated) in
        [("refused path", "//", true), ("not validated", "/peer", false), ("allowed", "/peer", true)]
    {
        let decision = policy.decide(&request(Peer::Presented { subject: &subject, validated }, "GET", None, path));
        assert_eq!(decision.identity(), Some("spiffe://acme.example/peer"), "{name}");
        assert_eq!(decision.roles(), ["peer"], "{name}");
        assert_eq!(decision.policy_version(), policy.version(), "{name}");
    }
    let decision = policy.decide(&request(Peer::Absent, "GET", None, "/peer"));
    assert_eq!((decision.identity(), decision.roles().len()), (None, 0));
}

#[test]
fn a_subject_of_another_policy_is_looked_at_anew() {
    let policy = policy(POLICY);
    let other = super::policy(&POLICY.replace("acme.example/peer", "acme.example/other"));
    let subject = other.subject(fresh("spiffe://acme.example/peer"));
    let decision = policy.decide(&request(presented(Some(&subject)), "GET", None, "/peer"));
    assert_eq!(decision.roles(), ["peer"]);
    let decision = other.decide(&request(presented(Some(&subject)), "GET", None, "/peer"));
    assert_eq!(verdict(&decision), (Reason::NoRuleMatched, None));
}

/// Issued after the brake, and not on the list.
fn fresh(id: &str) -> Leaf {
    let alternative_names = vec![AlternativeName::Uri(id.to_owned())];
    Synthetic { alternative_names, sha256: [9; 32], not_before: NOW, ..unnamed() }.leaf()
}
