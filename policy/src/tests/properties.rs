//! Random policies and requests: the engine says what [the reference](super::reference) says.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::reference::Document;
use super::reference::Member;
use super::reference::Peer;
use super::reference::Request;
use super::reference::Rule;
use super::reference::rule_name;
use super::reference_requirements::Facts;
use super::reference_requirements::Requirements;
use super::reference_requirements::Window;
use super::reference_tokens::Token as SampleToken;
use super::reference_tokens::Wanted;
use super::*;
use crate::selftest::TestToken;
use crate::token::Token;

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
    let not_dns = option::weighted(0.1, select(&["a.t", "*.t"][..]).prop_map(str::to_owned));
    let token = option::weighted(0.2, (select(&["one", "two"][..]), wanted(0.4, &["a", "b", "{x}", "{y}"])));
    (option::weighted(0.6, spiffe_pattern()), dns, not_dns, token, role).prop_map(
        |(spiffe, dns, not_dns, token, role)| {
            // A member without a condition is refused.
            let spiffe = if dns.is_none() && not_dns.is_none() && role.is_none() && token.is_none() {
                spiffe.or_else(|| Some("spiffe://t/**".to_owned()))
            } else {
                spiffe
            };
            Member { spiffe, dns, not_dns, token, role }
        },
    )
}

fn wanted(likely: f64, values: &'static [&'static str]) -> impl Strategy<Value = Wanted> {
    let scopes = option::weighted(likely, vec(select(&["r", "w"][..]), 1..3)).prop_map(Option::unwrap_or_default);
    let claim = || option::weighted(likely, select(values));
    (scopes, claim(), claim()).prop_map(|(scopes, one, other)| {
        let claims = [("c", one), ("d", other)].into_iter().filter_map(|(name, value)| Some((name, value?)));
        Wanted { scopes, claims: claims.collect() }
    })
}

fn token() -> impl Strategy<Value = SampleToken> {
    let scopes = option::weighted(0.8, vec(select(&["r", "w", "rw"][..]), 0..3));
    let claim = || option::weighted(0.8, vec(select(&["a", "b", "c"][..]), 0..3));
    (select(&["one", "two"][..]), scopes, claim(), claim()).prop_map(|(provider, scopes, one, other)| {
        let claims = [("c", one), ("d", other)].into_iter().filter_map(|(name, value)| Some((name, value?)));
        SampleToken { provider, scopes, claims: claims.collect() }
    })
}

fn window() -> impl Strategy<Value = Window> {
    let instant = || option::weighted(0.3, (-3_i64..4).prop_map(|days| NOW.0 + days * 86_400));
    let days = option::weighted(0.5, vec(select(&["mon", "tue", "wed", "thu", "fri", "sat", "sun"][..]), 1..4));
    let hours = option::weighted(0.5, select(&[("00:00", "24:00"), ("08:00", "18:00"), ("07:59", "08:00")][..]));
    (instant(), instant(), days, hours).prop_filter_map("a window that nobody writes", |(from, until, days, hours)| {
        let window = Window { from, until, days: days.unwrap_or_default(), hours };
        let empty = from.is_none() && until.is_none() && window.days.is_empty() && hours.is_none();
        let backwards = matches!((from, until), (Some(from), Some(until)) if from >= until);
        (!empty && !backwards).then_some(window)
    })
}

fn requirements(likely: f64) -> impl Strategy<Value = Requirements> {
    let header = (select(&["x-a", "x-b"][..]), vec(select(&["1", "2", "1, 2", "two words"][..]), 1..3));
    let networks = select(&["10.0.0.0/8", "10.1.2.0/24", "10.1.2.3", "0.0.0.0/0", "2001:db8::/32", "::/0"][..]);
    let names = select(&["a.t", "*.t", "a.a.t"][..]);
    (
        option::weighted(likely, header).prop_map(|header| header.into_iter().collect()),
        option::weighted(likely, vec(networks, 1..3)).prop_map(Option::unwrap_or_default),
        option::weighted(likely, vec(names, 1..3)).prop_map(Option::unwrap_or_default),
        option::weighted(likely, select(&["1.0", "1.2", "1.3"][..])),
        option::weighted(likely, vec(window(), 1..3)).prop_map(Option::unwrap_or_default),
    )
        .prop_map(|(headers, sources, sni, min_version, times)| Requirements {
            headers,
            sources,
            sni,
            min_version,
            times,
        })
}

fn facts() -> impl Strategy<Value = Facts> {
    let addresses =
        select(&["10.1.2.3", "10.1.2.4", "10.9.9.9", "192.0.2.1", "::ffff:10.1.2.3", "2001:db8::1", "::1"][..]);
    let names = select(&["x-a", "x_a", "x-b"][..]);
    let values = select(&["1", "2", "1,2", "2, 1", "1,", "", "two words", "3"][..]);
    (
        (-7_i64..7, 0_i64..86_400).prop_map(|(days, seconds)| NOW.0 + days * 86_400 + seconds),
        vec((names, values), 0..4),
        option::weighted(0.8, addresses),
        option::weighted(0.8, select(&["a.t", "A.T", "b.t", "a.a.t", "t"][..])),
        option::weighted(0.8, select(&["TLSv1", "TLSv1.2", "TLSv1.3"][..])),
    )
        .prop_map(|(now, headers, source, sni, version)| Facts { now, headers, source, sni, version })
}

fn not() -> impl Strategy<Value = Option<Requirements>> {
    option::weighted(0.2, requirements(0.3)).prop_map(|not| not.filter(|not| !not.is_empty()))
}

pub(super) fn rule(roles: usize) -> impl Strategy<Value = Rule> {
    let methods = option::of(vec(select(&["GET", "POST", "PUT"][..]), 1..3));
    let some_roles = option::weighted(0.8, vec(0..roles, 1..3));
    (
        any::<u8>(),
        some_roles,
        methods,
        option::weighted(0.9, vec(path_pattern(), 1..3)),
        option::weighted(0.3, vec(host_pattern(), 1..3)),
        (requirements(0.08), not()),
        (wanted(0.12, &["a", "b", "{x}", "{y}"]), option::weighted(0.1, wanted(0.4, &["a", "b"]))),
    )
        .prop_map(|(kind, roles, methods, paths, hosts, (requirements, not), (token, not_token))| Rule {
            deny: kind < 64,
            shadow: kind % 8 == 0,
            roles,
            methods,
            paths,
            hosts,
            requirements,
            token,
            not,
            not_token: not_token.filter(|not| !not.is_empty()),
        })
}

pub(super) fn document() -> impl Strategy<Value = Document> {
    let roles = (vec(member(0), 1..3), vec(member(1), 1..3), vec(member(2), 1..3), vec(member(3), 1..3));
    (roles, vec(rule(4), 0..12)).prop_map(|((a, b, c, d), rules)| Document { roles: vec![a, b, c, d], rules })
}

pub(super) fn request() -> impl Strategy<Value = Request> {
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
    (peer, select(&["GET", "POST", "DELETE"][..]), host, path, facts(), option::weighted(0.6, token()))
        .prop_map(|(peer, method, host, path, facts, token)| Request { peer, method, host, path, facts, token })
}

fn certificate(peer: &Peer) -> Option<Leaf> {
    let alternative_names = match peer {
        Peer::Absent => return None,
        Peer::Spiffe(id) => vec![AlternativeName::Uri(id.clone())],
        Peer::Dns(names) => names.iter().cloned().map(AlternativeName::Dns).collect(),
    };
    let (not_before, not_after) = (UnixTime(NOW.0 - 30 * 86_400), UnixTime(NOW.0 + 30 * 86_400));
    Some(Synthetic { alternative_names, not_before, not_after, ..unnamed() }.leaf())
}

/// The token as the policy would have verified it.
fn bearer(policy: &Policy, token: Option<&SampleToken>) -> Bearer {
    let Some(token) = token else { return Bearer::Absent };
    let claims = token.claims.iter().map(|(name, texts)| ((*name).to_owned(), serde_json::json!(texts)));
    let token = TestToken {
        provider: policy.providers.named(token.provider).expect("a provider"),
        claims: claims.collect(),
        scopes: token.scopes.as_ref().map(|scopes| scopes.iter().map(|scope| (*scope).to_owned()).collect()),
    };
    Bearer::Verified(Arc::new(Token::thought_of(policy.providers.version(), &token)))
}

/// Panics unless the engine, its explanation and its checks say what the reference says.
pub(super) fn agree(document: &Document, requests: &[Request]) {
    let policy = policy(&document.to_json().to_string());
    let again = super::policy(&policy.to_json());
    assert_eq!(again.to_json(), policy.to_json());
    let findings = policy.check(NOW);
    for request in requests {
        let subject = certificate(&request.peer).map(|leaf| policy.subject(leaf));
        let token = bearer(&policy, request.token.as_ref());
        let asked = asked(request, subject.as_ref(), &token);
        let decision = policy.decide(&asked);
        let (reason, rule) = document.decide(request, false);
        let rule = rule.map(rule_name);
        assert_eq!(
            (decision.reason().code(), decision.rule()),
            (reason, rule.as_deref()),
            "{request:?} of {}",
            document.to_json()
        );
        let with_shadows = document.decide(request, true);
        assert_eq!(told(decision.shadow()), differing(&decision, with_shadows), "{:?}", request);
        assert_eq!(decision.roles(), document.roles(request), "{:?}", request);

        // The explanation looks at each rule on its own and must come to the same end.
        let explanation = policy.explain(&asked);
        let matching = explanation.rules.iter().filter(|rule| rule.failed.is_none() && !rule.shadow);
        let matching = |effect| matching.clone().find(|rule| rule.effect == effect);
        let first = matching(crate::Effect::Deny).or_else(|| matching(crate::Effect::Allow));
        assert_eq!(first.map(|rule| rule.rule), decision.rule(), "{:?}", request);

        // What is said never to decide did not.
        for finding in &findings {
            if let crate::Finding::Contradictory { rule, .. }
            | crate::Finding::Dead { rule, .. }
            | crate::Finding::NoTokens { rule, .. }
            | crate::Finding::Shadowed { rule, .. } = finding
            {
                assert_ne!(decision.rule(), Some(rule.as_str()), "{}", finding);
            }
            if let crate::Finding::Over { rule, path, .. } = finding
                && path.ends_with("].times")
                && asked.now >= NOW
            {
                assert_ne!(decision.rule(), Some(rule.as_str()), "{}", finding);
            }
            if let crate::Finding::Impossible { role, path, .. } = finding
                && !path.ends_with(']')
            {
                assert!(!decision.roles().contains(role), "{}", finding);
            }
        }
    }
}

fn asked<'a>(request: &'a Request, subject: Option<&'a Subject>, token: &'a Bearer) -> crate::Request<'a> {
    let facts = &request.facts;
    let mut asked = super::request(presented(subject), request.method, request.host.as_deref(), &request.path);
    asked.token = token;
    asked.now = UnixTime(facts.now);
    asked.source = facts.source.map(|source| source.parse().unwrap());
    asked.tls = Tls { version: facts.version, sni: facts.sni };
    asked.head.fields.extend(facts.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
    asked
}

type Told = Option<(&'static str, Option<String>)>;

fn told(divergence: Option<crate::Divergence<'_>>) -> Told {
    divergence.map(|other| (other.reason().code(), other.rule().map(str::to_owned)))
}

/// What the reference says, if it is another verdict or by another rule.
fn differing(decision: &Decision<'_>, (reason, rule): (&'static str, Option<usize>)) -> Told {
    let rule = rule.map(rule_name);
    let same = decision.is_allowed() == (reason == "rule_matched") && decision.rule() == rule.as_deref();
    (!same).then_some((reason, rule))
}

#[cfg(test)]
proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_decides_as_the_reference_does(document in document(), requests in vec(request(), 1..30)) {
        agree(&document, &requests);
    }

    #[test]
    fn a_candidate_changes_nothing_and_tells_what_it_would_decide(
        (document, other) in (document(), document()),
        requests in vec(request(), 1..10),
    ) {
        let alone = policy(&document.to_json().to_string());
        let mut both = document.to_json();
        both["candidate"] = other.to_json();
        // Which tokens are believed is the other's word.
        both["candidate"].as_object_mut().unwrap().remove("tokens");
        let policy = policy(&both.to_string());
        prop_assert_eq!(super::policy(&policy.to_json()).to_json(), policy.to_json());
        prop_assert_ne!(alone.version(), policy.version());
        for request in &requests {
            let subject = certificate(&request.peer).map(|leaf| policy.subject(leaf));
            let token = bearer(&policy, request.token.as_ref());
            let asked = asked(request, subject.as_ref(), &token);
            let decision = policy.decide(&asked);
            let enforced = alone.decide(&asked);
            prop_assert_eq!(verdict(&decision), verdict(&enforced), "{:?}", request);
            prop_assert_eq!((decision.roles(), decision.shadow()), (enforced.roles(), enforced.shadow()), "{:?}", request);
            let candidate = other.decide(request, false);
            prop_assert_eq!(told(decision.candidate()), differing(&decision, candidate), "{:?}", request);
        }
    }

    #[test]
    fn until_it_is_reconsidered_a_verdict_holds(
        (document, fresh) in (document(), option::weighted(0.3, 0_i64..90_000)),
        requests in vec((request(), option::weighted(0.5, 0.0..1.0)), 1..30),
    ) {
        let mut text = document.to_json();
        if let Some(fresh) = fresh {
            let instant = jiff::Timestamp::from_second(NOW.0 + fresh).unwrap();
            text["revoked"] = serde_json::json!({ "sha256": [], "fresh_until": instant.to_string() });
        }
        let policy = policy(&text.to_string());
        for (request, part) in &requests {
            let subject = certificate(&request.peer).map(|leaf| policy.subject(leaf));
            let token = bearer(&policy, request.token.as_ref());
            let asked = asked(request, subject.as_ref(), &token);
            let Some(end) = policy.reconsider_at(&asked) else { continue };
            prop_assert!(end > asked.now);
            // The last second before, or one in between.
            let seconds = end.0 - 1 - asked.now.0;
            let later = UnixTime(asked.now.0 + part.map_or(seconds, |part| (seconds as f64 * part) as i64));
            let then = crate::Request { now: later, ..asked.clone() };
            prop_assert_eq!(verdict(&policy.decide(&then)), verdict(&policy.decide(&asked)), "{:?}", request);
        }
    }

    #[test]
    fn behind_a_forwarder_the_client_asks(
        document in document(),
        pattern in spiffe_pattern(),
        requests in vec((request(), option::weighted(0.5, request().prop_map(|request| request.peer))), 1..10),
    ) {
        let mut text = document.to_json();
        text["forwarders"] = serde_json::json!([{ "spiffe": pattern }]);
        let policy = policy(&text.to_string());
        for (request, client) in &requests {
            let client = client.as_ref().filter(|client| !matches!(client, Peer::Absent));
            let forwards = request.peer.matches(&pattern);
            let forwarded = match client {
                None => Forwarded::Nothing,
                Some(_) if !forwards => Forwarded::Refused(Reason::ForwarderUntrusted),
                Some(client) => Forwarded::Certificate(Arc::new(policy.subject(certificate(client).unwrap()))),
            };
            let asker = if forwards { client.unwrap_or(&Peer::Absent) } else { &request.peer };
            // A forwarder has no role, whether it is the peer or the client, which is somebody all the same.
            let roleless = asker.matches(&pattern);
            let asker = if roleless { Peer::Absent } else { asker.clone() };
            let subject = certificate(&request.peer).map(|leaf| policy.subject(leaf));
            let decision = policy.decide(&crate::Request { forwarded: &forwarded, ..asked(request, subject.as_ref(), &Bearer::Absent) });
            let told = Request { peer: asker, token: None, ..request.clone() };
            let (reason, rule) = match client {
                Some(_) if !forwards => ("forwarder_untrusted", None),
                _ => document.decide(&told, false),
            };
            let reason = if roleless && reason == "no_certificate" { "no_rule_matched" } else { reason };
            let rule = rule.map(rule_name);
            prop_assert_eq!((decision.reason().code(), decision.rule()), (reason, rule.as_deref()), "{:?}", request);
            prop_assert_eq!(decision.roles(), document.roles(&told), "{:?}", request);
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
