//! Paths, hosts, and the heads of requests as a whole.

use std::sync::OnceLock;

use portcullis_policy::Decision;
use portcullis_policy::Forwarded;
use portcullis_policy::Head;
use portcullis_policy::Host;
use portcullis_policy::Normalization;
use portcullis_policy::Peer;
use portcullis_policy::Policy;
use portcullis_policy::Protocol;
use portcullis_policy::Reason;
use portcullis_policy::Request;
use portcullis_policy::RequestPath;
use portcullis_policy::Tls;
use portcullis_policy::UnixTime;
use portcullis_policy::is_own_header;
use portcullis_policy::token::Bearer;

/// A path that is accepted has nothing left in it that a back end could read in another way.
pub(crate) fn path(bytes: &[u8]) {
    let plain = RequestPath::parse(bytes, Normalization::default());
    for (normalize_path, merge_slashes) in [(false, false), (false, true), (true, false), (true, true)] {
        let Ok(path) = RequestPath::parse(bytes, Normalization { normalize_path, merge_slashes }) else { continue };
        let (_, others) = path.segments().split_last().expect("a path has a segment");
        assert!(others.iter().all(|segment| !segment.is_empty()));
        for segment in path.segments() {
            assert!(segment != "." && segment != "..");
            assert!(!segment.contains(['/', '\\', ';']) && !segment.chars().any(|character| character.is_control()));
        }
        // What needs no rewriting does not depend on whether the proxy would.
        if let Ok(plain) = &plain {
            assert_eq!(&path, plain);
        }
        assert_eq!(bytes.first(), Some(&b'/'));
    }
}

/// A host that is accepted is in its one form already.
pub(crate) fn host(bytes: &[u8]) {
    let Ok(host) = Host::parse(bytes) else { return };
    let text = host.as_str();
    assert_eq!(Host::parse(text.as_bytes()).as_ref(), Ok(&host));
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase()));
    assert!(!text.is_empty() && !text.ends_with('.') && !text.contains(['/', '@', '%', ',', '*', '\\']));
}

/// Lets everything pass that has an acceptable form, so that what passes can be looked at.
fn open() -> &'static Policy {
    static POLICY: OnceLock<Policy> = OnceLock::new();
    POLICY.get_or_init(|| {
        let document = r#"{"version": 1, "roles": {}, "rules": [
            {"id": "no-debug", "deny": "any", "paths": ["/debug/**"]},
            {"id": "read", "allow": "any", "methods": ["GET", "HEAD"], "paths": ["/**"]},
            {"id": "tenant", "allow": "any", "hosts": ["{tenant}.acme.example"], "paths": ["/{tenant}/**"]}
        ]}"#;
        Policy::from_json(document.as_bytes()).expect("the policy compiles")
    })
}

/// `name: value` lines, pseudo-headers among them: nothing ambiguous is let in, and the explanation comes to the same end.
pub(crate) fn head(bytes: &[u8]) {
    let pairs = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(|line| {
        let colon = line.iter().skip(1).position(|byte| *byte == b':').map_or(line.len(), |position| position + 1);
        (&line[..colon], line.get(colon + 1..).unwrap_or_default())
    });
    let pairs: Vec<_> = pairs.collect();
    // Nobody is a forwarder of this policy, and what nobody believes is read by `forwarded` alone.
    if pairs.iter().any(|(name, _)| name.to_ascii_lowercase().windows(11).any(|part| part == b"client-cert")) {
        return;
    }
    let count = |wanted: &str| pairs.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted.as_bytes())).count();
    let head = Head::from_pairs(pairs.iter().copied());
    let (forwarded, tls) = (&Forwarded::Nothing, Tls::default());
    let request = Request {
        now: UnixTime(1_800_000_000),
        peer: Peer::Absent,
        forwarded,
        token: &Bearer::Absent,
        tls,
        source: None,
        listener: None,
        protocol: Protocol::Http,
        head,
    };
    let decision = open().decide(&request);
    assert_eq!(open().explain(&request).decision.reason(), decision.reason());
    let Decision::Allow(permit) = &decision else {
        assert!(matches!(decision.status(), 400..=499), "{:?}", decision.reason());
        return;
    };
    assert_eq!(permit.identity(), None);
    for single in ["host", "authorization"] {
        assert!(count(single) <= 1, "`{single}` more than once");
    }
    for single in [":method", ":path", ":authority"] {
        assert!(pairs.iter().filter(|(name, _)| *name == single.as_bytes()).count() <= 1, "`{single}` more than once");
    }
    for (name, value) in &request.head.fields {
        assert!(
            !name.is_empty()
                && name.iter().all(|byte| byte.is_ascii_graphic() && !br#""(),/:;<=>?@[\]{}"#.contains(byte))
        );
        assert!(str::from_utf8(value).is_ok_and(|text| !text.chars().any(|c| c.is_ascii_control() && c != '\t')));
        let hop_by_hop = name.eq_ignore_ascii_case(b"connection");
        assert!(!hop_by_hop || !value.split(|byte| *byte == b',').any(|option| is_own_header(option.trim_ascii())));
    }
    let path = request.head.path.expect("what is let in has a path");
    let path = RequestPath::parse(path, Normalization::default()).expect("and one that can be read");
    assert!(path.segments()[0] != "debug" || path.segments().len() == 1);
    assert_eq!(decision.reason(), Reason::RuleMatched);
}
