use portcullis_policy::Protocol;

use super::*;
use crate::resource::Body;
use crate::resource::Resource;

const NOW: Timestamp = Timestamp::constant(1_000, 0);

/// A stream and the catalogue behind it.
struct Pair {
    catalogue: Catalogue,
    stream: Subscription,
}

impl Pair {
    fn state_of_the_world() -> Self {
        Self { catalogue: Catalogue::default(), stream: Subscription::state_of_the_world(Kind::Filter) }
    }

    fn delta() -> Self {
        Self { catalogue: Catalogue::default(), stream: Subscription::delta(Kind::Filter) }
    }

    fn publish(&mut self, name: &str, version: &str) {
        let body = Body::WasmFilter {
            protocol: Protocol::Http,
            module: "m".to_owned(),
            configuration: version.to_owned(),
            root_id: version.to_owned(),
        };
        let resource = Resource { name: name.to_owned(), version: version.to_owned(), body };
        self.catalogue.publish(Published { resource, not_after: None });
    }

    fn ask(&mut self, names: &[&str], version: &str) -> Vec<Answer> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        self.receive(Request { change: Change::Exactly { names, version: version.to_owned() }, ..Request::default() })
    }

    fn subscribe(&mut self, subscribe: &[&str], unsubscribe: &[&str], versions: &[(&str, &str)]) -> Vec<Answer> {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        self.receive(Request {
            change: Change::Delta {
                subscribe: own(subscribe),
                unsubscribe: own(unsubscribe),
                versions: versions.iter().map(|(name, held)| ((*name).to_owned(), (*held).to_owned())).collect(),
            },
            ..Request::default()
        })
    }

    fn acknowledge(&mut self, nonce: &str) -> Vec<Answer> {
        self.answer(nonce, None)
    }

    fn refuse(&mut self, nonce: &str) -> Vec<Answer> {
        self.answer(nonce, Some("no".to_owned()))
    }

    /// An answer that leaves the subscription as it is, in the words of the protocol.
    fn answer(&mut self, nonce: &str, error: Option<String>) -> Vec<Answer> {
        let change = if self.stream.can_say_absent {
            Change::default()
        } else {
            Change::Exactly { names: self.stream.names.keys().cloned().collect(), version: String::new() }
        };
        self.receive(Request { nonce: nonce.to_owned(), error, change })
    }

    fn receive(&mut self, request: Request) -> Vec<Answer> {
        self.stream.receive(request, &mut self.catalogue).unwrap()
    }

    /// Everything that can be sent now, as `nonce:name=version` or `nonce:-name`.
    fn sent(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.stream.poll(&self.catalogue, NOW))
            .map(|response| match response.item {
                Item::Absent(name) => format!("{}:-{name}", response.nonce),
                Item::Present(published) => {
                    format!("{}:{}={}", response.nonce, published.resource.name, published.resource.version)
                }
            })
            .collect()
    }
}

fn acknowledged(name: &str, version: &str) -> Answer {
    Answer::Acknowledged { name: name.to_owned(), version: version.to_owned() }
}

fn refused(name: &str, version: &str) -> Answer {
    Answer::Refused { name: name.to_owned(), version: version.to_owned(), detail: "no".to_owned() }
}

const NOTHING: [&str; 0] = [];

#[test]
fn each_resource_has_its_own_version_and_nonce() {
    for (protocol, mut pair) in [("state of the world", Pair::state_of_the_world()), ("delta", Pair::delta())] {
        pair.publish("a", "a1");
        pair.publish("b", "b1");
        if pair.stream.can_say_absent {
            pair.subscribe(&["a", "b"], &[], &[]);
        } else {
            pair.ask(&["a", "b"], "");
        }
        assert_eq!(pair.sent(), ["1:a=a1", "2:b=b1"], "{protocol}");
        assert_eq!(pair.acknowledge("2"), [acknowledged("b", "b1")], "{protocol}: in any order");
        assert_eq!(pair.acknowledge("1"), [acknowledged("a", "a1")], "{protocol}");
        pair.publish("b", "b2");
        assert_eq!(pair.sent(), ["3:b=b2"], "{protocol}: only what changed");
    }
}

#[test]
fn only_the_newest_version_waits_for_an_answer_to_come() {
    let mut pair = Pair::delta();
    pair.publish("a", "1");
    pair.subscribe(&["a"], &[], &[]);
    assert_eq!(pair.sent(), ["1:a=1"]);
    pair.publish("a", "2");
    pair.publish("a", "3");
    assert_eq!(pair.sent(), NOTHING, "one is on its way");
    assert_eq!(pair.acknowledge("1"), [acknowledged("a", "1")]);
    assert_eq!(pair.sent(), ["2:a=3"], "the second was overtaken");
}

#[test]
fn a_stale_answer_changes_nothing() {
    let mut pair = Pair::state_of_the_world();
    pair.publish("a", "1");
    pair.ask(&["a"], "");
    pair.sent();
    pair.acknowledge("1");
    pair.publish("a", "2");
    assert_eq!(pair.sent(), ["2:a=2"]);
    assert_eq!(pair.acknowledge("1"), [], "the first again");
    assert_eq!(pair.refuse("1"), [], "even as a refusal");
    assert_eq!(pair.acknowledge("7"), [], "never sent");
    assert_eq!(pair.sent(), NOTHING);
    assert_eq!(pair.acknowledge("2"), [acknowledged("a", "2")]);
}

#[test]
fn a_refused_version_is_not_sent_again() {
    for (protocol, mut pair) in [("state of the world", Pair::state_of_the_world()), ("delta", Pair::delta())] {
        pair.publish("a", "1");
        if pair.stream.can_say_absent {
            pair.subscribe(&["a"], &[], &[]);
        } else {
            pair.ask(&["a"], "");
        }
        pair.sent();
        pair.acknowledge("1");
        pair.publish("a", "2");
        assert_eq!(pair.sent(), ["2:a=2"], "{protocol}");
        assert_eq!(pair.refuse("2"), [refused("a", "2")], "{protocol}");
        assert_eq!(pair.sent(), ["3:a=1"], "{protocol}: back to what it took");
        assert_eq!(pair.acknowledge("3"), [acknowledged("a", "1")], "{protocol}");
        pair.publish("a", "2");
        assert_eq!(pair.sent(), NOTHING, "{protocol}: not new");
        pair.publish("a", "3");
        assert_eq!(pair.sent(), ["4:a=3"], "{protocol}");
    }
}

#[test]
fn a_new_proxy_gets_the_version_before_the_refused_one() {
    let mut pair = Pair::state_of_the_world();
    pair.publish("a", "1");
    pair.ask(&["a"], "");
    pair.sent();
    pair.acknowledge("1");
    pair.publish("a", "2");
    pair.sent();
    pair.refuse("2");
    pair.stream = Subscription::state_of_the_world(Kind::Filter);
    pair.ask(&["a"], "");
    assert_eq!(pair.sent(), ["1:a=1"]);
}

#[test]
fn a_refusal_by_one_takes_no_filter_back_from_another() {
    let mut pair = Pair::delta();
    pair.publish("a", "1");
    pair.subscribe(&["a"], &[], &[]);
    pair.sent();
    pair.acknowledge("1");
    pair.publish("a", "2");
    pair.sent();
    pair.acknowledge("2");
    pair.catalogue.refuse("a", "2");
    assert_eq!(pair.sent(), NOTHING, "the one before may believe who was revoked since");
    pair.publish("a", "3");
    assert_eq!(pair.sent(), ["3:a=3"]);
}

#[test]
fn the_first_version_refused_leaves_a_waiting_proxy_with_none() {
    let mut pair = Pair::delta();
    pair.publish("a", "1");
    pair.subscribe(&["a"], &[], &[]);
    pair.sent();
    assert_eq!(pair.refuse("1"), [refused("a", "1")]);
    assert_eq!(pair.sent(), ["2:-a"], "so that it does not wait");
    pair.acknowledge("2");
    assert_eq!(pair.sent(), NOTHING);
}

#[test]
fn a_proxy_that_refuses_the_first_version_it_is_sent_keeps_what_it_brought() {
    let mut pair = Pair::delta();
    pair.publish("a", "2");
    pair.subscribe(&["a"], &[], &[("a", "1")]);
    assert_eq!(pair.sent(), ["1:a=2"]);
    assert_eq!(pair.refuse("1"), [refused("a", "2")]);
    assert_eq!(pair.sent(), NOTHING, "no version is known to be good, and none is taken away");
    pair.publish("a", "3");
    assert_eq!(pair.sent(), ["2:a=3"]);
}

#[test]
fn a_version_that_is_refused_when_sent_back_is_given_up() {
    let mut pair = Pair::state_of_the_world();
    pair.publish("a", "1");
    pair.ask(&["a"], "");
    pair.sent();
    pair.acknowledge("1");
    pair.publish("a", "2");
    pair.sent();
    pair.refuse("2");
    assert_eq!(pair.sent(), ["3:a=1"]);
    pair.refuse("3");
    assert_eq!(pair.sent(), NOTHING);
}

#[test]
fn a_reconnecting_proxy_gets_a_version_only_if_it_differs() {
    let mut pair = Pair::state_of_the_world();
    pair.publish("a", "1");
    assert_eq!(pair.ask(&["a"], "1"), [acknowledged("a", "1")], "what it brings counts as taken");
    assert_eq!(pair.sent(), NOTHING);

    pair.stream = Subscription::state_of_the_world(Kind::Filter);
    assert_eq!(pair.ask(&["a"], "0"), []);
    assert_eq!(pair.sent(), ["1:a=1"]);

    pair.stream = Subscription::delta(Kind::Filter);
    pair.publish("b", "1");
    assert_eq!(pair.subscribe(&["a", "b"], &[], &[("a", "1"), ("b", "0")]), [acknowledged("a", "1")]);
    assert_eq!(pair.sent(), ["1:b=1"]);
}

#[test]
fn the_version_of_a_stream_with_two_names_says_nothing() {
    let mut pair = Pair::state_of_the_world();
    pair.publish("a", "1");
    pair.publish("b", "1");
    assert_eq!(pair.ask(&["a", "b"], "1"), []);
    assert_eq!(pair.sent(), ["1:a=1", "2:b=1"]);
}

#[test]
fn an_unknown_name_does_not_hold_up_the_others() {
    let mut pair = Pair::state_of_the_world();
    pair.publish("a", "1");
    pair.ask(&["a", "nobody"], "");
    assert_eq!(pair.sent(), ["1:a=1"], "state of the world cannot say that there is none");
    pair.publish("nobody", "1");
    assert_eq!(pair.sent(), ["2:nobody=1"]);

    let mut pair = Pair::delta();
    pair.publish("a", "1");
    pair.subscribe(&["a", "nobody"], &[], &[]);
    assert_eq!(pair.sent(), ["1:a=1", "2:-nobody"]);
    assert_eq!(pair.acknowledge("2"), []);
    assert_eq!(pair.sent(), NOTHING, "said once");
    pair.publish("nobody", "1");
    assert_eq!(pair.sent(), ["3:nobody=1"]);
}

#[test]
fn nothing_is_taken_from_a_proxy_that_has_it() {
    let mut pair = Pair::delta();
    pair.subscribe(&["a"], &[], &[("a", "1")]);
    assert_eq!(pair.sent(), NOTHING, "the agent may just have started");
    pair.publish("a", "1");
    assert_eq!(pair.sent(), NOTHING);
    pair.catalogue.remove("a");
    assert_eq!(pair.sent(), NOTHING);
}

#[test]
fn dropped_names_are_not_sent_and_come_back_whole() {
    let mut pair = Pair::delta();
    pair.publish("a", "1");
    pair.subscribe(&["a"], &[], &[]);
    pair.sent();
    pair.acknowledge("1");
    pair.subscribe(&[], &["a"], &[]);
    pair.publish("a", "2");
    assert_eq!(pair.sent(), NOTHING);
    pair.subscribe(&["a"], &[], &[("a", "2")]);
    assert_eq!(pair.sent(), ["2:a=2"], "versions count in the first request only");

    let mut pair = Pair::state_of_the_world();
    pair.publish("a", "1");
    pair.ask(&["a"], "");
    pair.sent();
    pair.acknowledge("1");
    pair.ask(&[], "1");
    pair.publish("a", "2");
    assert_eq!(pair.sent(), NOTHING);
    pair.ask(&["a"], "1");
    assert_eq!(pair.sent(), ["2:a=2"]);
}

#[test]
fn a_name_that_is_asked_for_again_is_sent_again() {
    let mut pair = Pair::delta();
    pair.publish("a", "1");
    pair.subscribe(&["a"], &[], &[]);
    pair.sent();
    pair.subscribe(&["a"], &[], &[]);
    assert_eq!(pair.sent(), ["2:a=1"]);
    assert_eq!(pair.acknowledge("1"), [], "the first is void");
    assert_eq!(pair.acknowledge("2"), [acknowledged("a", "1")]);
}

#[test]
fn a_forgotten_resource_is_sent_again() {
    let mut pair = Pair::delta();
    pair.publish("a", "1");
    pair.subscribe(&["a"], &[], &[]);
    pair.sent();
    pair.acknowledge("1");
    pair.stream.forget("a");
    assert_eq!(pair.sent(), ["2:a=1"]);
}

#[test]
fn a_stream_with_too_many_names_is_an_error() {
    let mut pair = Pair::delta();
    let subscribe = (0..=MAX_NAMES).map(|number| number.to_string()).collect();
    let change = Change::Delta { subscribe, unsubscribe: Vec::new(), versions: HashMap::new() };
    let result = pair.stream.receive(Request { change, ..Request::default() }, &mut pair.catalogue);
    assert_eq!(result, Err(TooManyNames));
}
