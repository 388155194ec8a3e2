//! Each corpus, run once. What the fuzzer ever found to fail is in one of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use portcullis_fuzz::TARGETS;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

#[test]
fn every_corpus_holds() {
    for (name, target) in TARGETS {
        let mut cases = 0;
        for entry in fs::read_dir(corpus(name)).unwrap() {
            let file = entry.unwrap().path();
            let bytes = fs::read(&file).unwrap();
            let held = std::panic::catch_unwind(|| target(&bytes));
            assert!(held.is_ok(), "{}", file.display());
            cases += 1;
        }
        assert!(cases > 0, "the corpus of {name} is empty");
    }
}

#[test]
fn every_target_has_a_corpus_and_every_corpus_a_target() {
    let targets: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let corpora: BTreeSet<_> =
        fs::read_dir(corpus("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    // Runs under the fuzzer only: it needs what the policy crate hides from everybody else.
    let hidden = BTreeSet::from(["engine".to_owned()]);
    assert_eq!(corpora.difference(&hidden).cloned().collect::<BTreeSet<_>>(), &targets - &hidden);
}
