//! Policies, as JSON and as YAML. The filter's plugin configuration is the JSON.

use portcullis_policy::Policy;
use portcullis_policy::UnixTime;

#[path = "../../../agent/src/yaml/mod.rs"]
#[allow(dead_code, missing_docs, unreachable_pub, reason = "the agent's module, of which not everything is used here")]
mod yaml;

/// What compiles is rendered in one form, which compiles to the same policy.
pub(crate) fn policy(bytes: &[u8]) {
    let policy = match Policy::from_json(bytes) {
        Ok(policy) => policy,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let rendered = policy.to_json();
    let again = Policy::from_json(rendered.as_bytes())
        .unwrap_or_else(|error| panic!("rendered, it is refused at `{}`: {error}\n{rendered}", error.path()));
    assert_eq!(again.to_json(), rendered);
    assert_eq!(again.version(), policy.version());
    assert_eq!(again.rule_count(), policy.rule_count());
    assert_eq!(again.run_tests(), policy.run_tests());
    // Pairs of rules are compared: not for thousands of them in a loop of the fuzzer.
    if policy.rule_count() <= 64 {
        for finding in policy.check(UnixTime(0)) {
            assert!(!finding.to_string().is_empty() && !finding.path().is_empty());
        }
    }
}

/// A text is a value or is refused at a place in it; the value as JSON is YAML again; a complaint about it finds a place.
pub(crate) fn yaml(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let source = yaml::Source::new("policy.yaml", text);
    let value = match source.value() {
        Ok(value) => value,
        Err(error) => {
            assert!(format!("{error:#}").starts_with("policy.yaml:"));
            assert!(error.place().line >= 1 && error.place().column >= 1);
            return;
        }
    };
    let json = value.to_string();
    let again = yaml::Source::new("policy.json", json.as_str()).value();
    assert_eq!(again.as_ref().map_err(ToString::to_string), Ok(&value), "{json}");
    if let Err(error) = Policy::from_json(json.as_bytes()) {
        let shown = source.error_at(error.path(), &error.to_string());
        let lines = text.replace("\r\n", "\n").split(['\n', '\r']).count();
        // What is missing at the end of the text may be missed on the line after it.
        assert!(shown.place().line <= lines + 1 && format!("{shown:#}").starts_with("policy.yaml:"));
    }
}
