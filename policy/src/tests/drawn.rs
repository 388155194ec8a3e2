//! Policies and requests made of bytes: what a fuzzer changes them by.

use proptest::strategy::Strategy;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::Config;
use proptest::test_runner::RngAlgorithm;
use proptest::test_runner::TestRng;
use proptest::test_runner::TestRunner;

use super::properties;

/// Most rules of a case.
const MAX_RULES: usize = 12;

/// Most requests of a case.
const MAX_REQUESTS: usize = 30;

/// Makes a policy and requests of `bytes` and asks what the property tests ask of theirs: four bytes are the dice of the
/// roles, of one rule, of one request, so that the fuzzer can change, drop and join them one by one.
pub(crate) fn engine_decides_as_the_reference(bytes: &[u8]) {
    let Some((count, dice)) = bytes.split_first() else { return };
    let (dice, _) = dice.as_chunks::<4>();
    let Some((roles, dice)) = dice.split_first() else { return };
    let (rules, requests) = dice.split_at(dice.len().min(usize::from(*count) % (MAX_RULES + 1)));
    let Some(mut document) = draw(properties::document(), *roles) else { return };
    document.rules = rules.iter().filter_map(|dice| draw(properties::rule(document.roles.len()), *dice)).collect();
    let requests: Vec<_> =
        requests.iter().take(MAX_REQUESTS).filter_map(|dice| draw(properties::request(), *dice)).collect();
    properties::agree(&document, &requests);
}

fn draw<S: Strategy>(strategy: S, dice: [u8; 4]) -> Option<S::Value> {
    // Never all zeros, with which these dice would stand still.
    let seed: Vec<u8> = dice.iter().copied().chain(b"portcullis!!".iter().copied()).collect();
    let dice = TestRng::from_seed(RngAlgorithm::XorShift, &seed);
    let mut runner = TestRunner::new_with_rng(Config { failure_persistence: None, ..Config::default() }, dice);
    strategy.new_tree(&mut runner).ok().map(|tree| tree.current())
}
