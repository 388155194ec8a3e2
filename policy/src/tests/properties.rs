//! Random policies and requests: the engine says what [the reference](super::reference) says.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::reference::Document;
use super::reference::Member;
use super::reference::Peer;
use super::reference::Request;
use super::reference::Requirements;
use super::reference::Rule;
use super::reference::rule_name;
use super::*;

fn segments(from: &'static [&'static str], most: usize) -> impl Strategy<Value = Vec<&'static str>> {
    vec(select(from), 0..=most)
}

fn path_pattern() -> impl Strategy<Value = String> {
    let end = prop_oneof![4 => Just(""), 2 => Just("/**"), 1 => Just("/")];
    (segments(&["a", "b", "{x}", "{y}", "*"], 3), end).prop_map(|(segments, end)| {
        let path: String = segments.iter().map(|segment| format!("/{segment}")).collect();
        if path.is_empty() && end.is_empty() { "/".to_owned() } else { path + end }
    })
}

fn host_pattern() -> impl Strategy<Value = String> {
    let label = select(&["a", "b", "{x}", "*"][..]);
    (any::<bool>(), vec(label, 1..=3))
        .prop_map(|(rest, labels)| format!("{}{}", if rest { "**." } else { "" }, labels.join(".")))
}

fn spiffe_pattern() -> impl Strategy<Value = String> {
    (segments(&["a", "b", "{x}", "{y}", "*"], 3), any::<bool>()).prop_map(|(segments, rest)| {
        let path: String = segments.iter().map(|segment| format!("/{segment}")).collect();
        let rest = if rest || path.is_empty() { "/**" } else { "" };
        format!("spiffe://t{path}{rest}")
    })
}

fn member(roles_before: usize) -> impl Strategy<Value = Member> {
    let role = if roles_before == 0 { Just(None).boxed() } else { option::of(0..roles_before).boxed() };
    let dns = option::weighted(0.2, select(&["a.t", "b.t", "*.t"][..]).prop_map(str::to_owned));
    (option::weighted(0.7, spiffe_pattern()), dns, role).prop_map(|(spiffe, dns, role)| {
        // A member without a condition is refused.
        let spiffe =
            if dns.is_none() && role.is_none() { spiffe.or_else(|| Some("spiffe://t/**".to_owned())) } else { spiffe };
        Member { spiffe, dns, role }
    })
}

fn requirements(likely: f64) -> impl Strategy<Value = Requirements> {
    let networks = select(&["10.0.0.0/8", "10.1.2.0/24", "10.1.2.3", "0.0.0.0/0", "2001:db8::/32", "::/0"][..]);
    option::weighted(likely, vec(networks, 1..3))
        .prop_map(|sources| Requirements { sources: sources.unwrap_or_default() })
}

fn not() -> impl Strategy<Value = Option<Requirements>> {
    option::weighted(0.2, requirements(0.7)).prop_map(|not| not.filter(|not| !not.is_empty()))
}

fn rule(roles: usize) -> impl Strategy<Value = Rule> {
    let methods = option::of(vec(select(&["GET", "POST", "PUT"][..]), 1..3));
    let some_roles = option::weighted(0.8, vec(0..roles, 1..3));
    (
        any::<u8>(),
        some_roles,
        methods,
        option::weighted(0.9, vec(path_pattern(), 1..3)),
        option::weighted(0.3, vec(host_pattern(), 1..3)),
        (requirements(0.2), not()),
    )
        .prop_map(|(kind, roles, methods, paths, hosts, (requirements, not))| Rule {
            deny: kind < 64,
            roles,
            methods,
            paths,
            hosts,
            requirements,
            not,
        })
}

fn document() -> impl Strategy<Value = Document> {
    let roles = (vec(member(0), 1..3), vec(member(1), 1..3), vec(member(2), 1..3), vec(member(3), 1..3));
    (roles, vec(rule(4), 0..12)).prop_map(|((a, b, c, d), rules)| Document { roles: vec![a, b, c, d], rules })
}

fn request() -> impl Strategy<Value = Request> {
    let id = segments(&["a", "b", "c"], 3).prop_map(|segments| {
        let path: String = segments.iter().map(|segment| format!("/{segment}")).collect();
        Peer::Spiffe(format!("spiffe://t{}", if path.is_empty() { "/a" } else { &path }))
    });
    let names =
        vec(select(&["a.t", "b.t", "c.t", "*.t", "a.a.t"][..]).prop_map(str::to_owned), 1..3).prop_map(Peer::Dns);
    let peer = prop_oneof![1 => Just(Peer::Absent), 6 => id, 2 => names];
    let host = option::weighted(0.8, vec(select(&["a", "b", "c"][..]), 1..4).prop_map(|labels| labels.join(".")));
    let path = (segments(&["a", "b", "c"], 4), any::<bool>()).prop_map(|(segments, slash)| {
        let path: String = segments.iter().map(|segment| format!("/{segment}")).collect();
        if slash || path.is_empty() { path + "/" } else { path }
    });
    let addresses =
        select(&["10.1.2.3", "10.1.2.4", "10.9.9.9", "192.0.2.1", "::ffff:10.1.2.3", "2001:db8::1", "::1"][..]);
    let source = option::weighted(0.8, addresses);
    (peer, select(&["GET", "POST", "DELETE"][..]), host, path, source)
        .prop_map(|(peer, method, host, path, source)| Request { peer, method, host, path, source })
}

fn certificate(peer: &Peer) -> Option<Leaf> {
    match peer {
        Peer::Absent => None,
        Peer::Spiffe(id) => Some(spiffe(id)),
        Peer::Dns(names) => Some(dns(&names.iter().map(String::as_str).collect::<Vec<_>>())),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_decides_as_the_reference_does(document in document(), requests in vec(request(), 1..30)) {
        let policy = policy(&document.to_json().to_string());
        let again = super::policy(&policy.to_json());
        prop_assert_eq!(again.to_json(), policy.to_json());
        for request in &requests {
            let subject = certificate(&request.peer).map(|leaf| policy.subject(leaf));
            let source = request.source.map(|source| source.parse().unwrap());
            let asked = crate::Request {
                source,
                ..super::request(presented(subject.as_ref()), request.method, request.host.as_deref(), &request.path)
            };
            let decision = policy.decide(&asked);
            let (reason, rule) = document.decide(request);
            let rule = rule.map(rule_name);
            prop_assert_eq!((decision.reason().code(), decision.rule()), (reason, rule.as_deref()), "{:?}", request);
            prop_assert_eq!(decision.roles(), document.roles(&request.peer), "{:?}", request);

            // The explanation looks at each rule on its own and must come to the same end.
            let explanation = policy.explain(&asked);
            let matching = |effect| explanation.rules.iter().find(|rule| rule.effect == effect && rule.failed.is_none());
            let first = matching(crate::Effect::Deny).or_else(|| matching(crate::Effect::Allow));
            prop_assert_eq!(first.map(|rule| rule.rule), decision.rule(), "{:?}", request);

            // What is said never to decide did not.
            for finding in policy.check() {
                if let crate::Finding::Dead { rule, .. } | crate::Finding::Shadowed { rule, .. } = &finding {
                    prop_assert_ne!(decision.rule(), Some(rule.as_str()), "{}", finding);
                }
                if let crate::Finding::Impossible { role, path, .. } = &finding
                    && !path.ends_with(']')
                {
                    prop_assert!(!decision.roles().contains(role), "{}", finding);
                }
            }
        }
    }

    #[test]
    fn each_sample_holds_its_role_and_a_policy_does_not_differ_from_itself(document in document()) {
        let policy = policy(&document.to_json().to_string());
        let again = super::policy(&policy.to_json());
        let mut compared = 0;
        let extent = crate::samples::compare(&policy, &again, &mut |request, peer, old, new| {
            compared += 1;
            assert_eq!(verdict(old), verdict(new), "{request} by {:?}", peer.identity());
            assert!(peer.role.as_ref().is_none_or(|role| old.roles().contains(role)), "{:?}", peer.identity());
        });
        prop_assert_eq!(extent, crate::samples::Extent { compared, cut: false });
    }
}
