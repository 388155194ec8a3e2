//! `x-forwarded-client-cert` and `Client-Cert`, as a forwarder sends them.

use std::sync::OnceLock;

use portcullis_policy::Decision;
use portcullis_policy::Forwarded;
use portcullis_policy::Head;
use portcullis_policy::Leaf;
use portcullis_policy::Memory;
use portcullis_policy::Peer;
use portcullis_policy::Policy;
use portcullis_policy::Protocol;
use portcullis_policy::Request;
use portcullis_policy::Subject;
use portcullis_policy::Tls;
use portcullis_policy::UnixTime;
use portcullis_policy::signature::PureRust;
use portcullis_policy::token::Bearer;

/// 2026-11-22: the certificates of the corpus are valid.
const NOW: UnixTime = UnixTime(1_795_341_600);

/// Policies with another number of hops each, and their forwarder.
fn policies() -> &'static [(Policy, Subject)] {
    static POLICIES: OnceLock<Vec<(Policy, Subject)>> = OnceLock::new();
    POLICIES.get_or_init(|| {
        let policy = |hops: usize, own_xfcc: bool| {
            let document = format!(
                r#"{{"version": 1, "roles": {{}}, "own_xfcc": {own_xfcc},
                "forwarders": [{{"spiffe": "spiffe://acme.example/ns/shop/sa/checkout", "hops": {hops}, "by": "spiffe://acme.example/gw"}}],
                "rules": [{{"id": "all", "allow": "any", "paths": ["/**"]}}]}}"#
            );
            let policy = Policy::from_json(document.as_bytes()).expect("the policy compiles");
            let leaf = Leaf::from_der(include_bytes!("../corpus/leaf/spiffe")).expect("the forwarder is in the corpus");
            let subject = policy.subject(leaf);
            (policy, subject)
        };
        vec![policy(1, false), policy(2, false), policy(1, true)]
    })
}

/// The first byte chooses the policy, the rest is `name: value` lines. A client that is believed in is one whose certificate
/// is in a value, whole; and reading it again from memory gives the same.
pub(crate) fn forwarded(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else { return };
    let Some((policy, subject)) = policies().get(usize::from(*choice) % policies().len()) else { return };
    let fields = rest.split(|byte| *byte == b'\n').filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        Some((line.get(..colon)?, line.get(colon + 1..)?.trim_ascii()))
    });
    let parts: [(&[u8], &[u8]); 3] = [(b":method", b"GET"), (b":path", b"/"), (b":authority", b"a.example")];
    let head = Head::from_pairs(parts.into_iter().chain(fields));
    let values: Vec<&[u8]> = head.fields.iter().map(|(_, value)| *value).collect();
    let peer = Peer::Presented { subject, validated: true };
    let mut memory = Memory::default();
    let forwarded = memory.forwarded(policy, &peer, &head, &mut PureRust);
    let again = memory.forwarded(policy, &peer, &head, &mut PureRust);
    assert_eq!(format!("{forwarded:?}"), format!("{again:?}"));
    if let Forwarded::Certificate(client) = &forwarded {
        let hash = client.leaf().sha256();
        assert!(values.iter().any(|value| certificates_in(value).any(|leaf| leaf.sha256() == hash)));
    }
    let request = Request {
        now: NOW,
        peer,
        forwarded: &forwarded,
        token: &Bearer::Absent,
        tls: Tls::default(),
        source: None,
        listener: None,
        protocol: Protocol::Http,
        head,
    };
    let decision = policy.decide(&request);
    match &forwarded {
        Forwarded::Refused(_) => assert!(!decision.is_allowed()),
        Forwarded::Certificate(client) => assert_eq!(decision.identity(), Some(client.leaf().identity())),
        // A forwarder is never taken for a client of its own.
        Forwarded::Nothing => assert_eq!(decision.identity(), None),
    }
    if let Decision::Allow(permit) = &decision {
        assert!(permit.identity().is_none_or(|label| !label.contains(['\r', '\n'])));
    }
}

/// Every certificate that stands in a value in any way: another reader, which knows nothing of elements and their borders.
fn certificates_in(value: &[u8]) -> impl Iterator<Item = Leaf> {
    let mut decoded = Vec::new();
    let mut rest = value;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let escape = after.get(..2).and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok());
        match escape.filter(|_| byte == b'%') {
            Some(escaped) => {
                decoded.push(escaped);
                rest = &after[2..];
            }
            None => decoded.push(byte),
        }
    }
    let decoded = String::from_utf8_lossy(&decoded).replace("\\n", "\n").replace("\\/", "/");
    let pem = |label: &str, text: &str| {
        Leaf::from_pem(format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----").as_bytes())
    };
    let blocks: Vec<Leaf> = decoded
        .split("-----BEGIN CERTIFICATE-----")
        .filter_map(|block| pem("CERTIFICATE", block.split("-----END").next()?.trim()).ok())
        .chain(decoded.split(':').filter_map(|bytes| pem("CERTIFICATE", bytes.trim()).ok()))
        .collect();
    blocks.into_iter()
}
