//! Who is told that a certificate is about to end, and what may be said about when.

use super::*;

fn drains(policy_text: &str, ends_in: i64) -> Option<UnixTime> {
    let policy = policy(policy_text);
    let subject = policy.subject(Synthetic { not_after: UnixTime(NOW.0 + ends_in), ..unnamed() }.leaf());
    policy.drains(&request(presented(Some(&subject)), "GET", None, "/"))
}

#[test]
fn the_holder_of_a_certificate_that_ends_soon_is_told_and_nobody_else() {
    let minute = r#"{"version": 1, "drain": {"before": "1m"}, "rules": []}"#;
    for (name, ends_in, told) in [("far away", 61, false), ("near", 60, true), ("nearer", 1, true), ("now", 0, true)] {
        let end = UnixTime(NOW.0 + ends_in);
        assert_eq!(drains(minute, ends_in), told.then_some(end), "{name}");
    }
    assert_eq!(drains(r#"{"version": 1, "rules": []}"#, 1), None, "the policy does not say so");
    let nobody = policy(minute);
    assert_eq!(nobody.drains(&request(Peer::Absent, "GET", None, "/")), None, "there is no certificate");
    assert_eq!(drains(minute, i64::MAX - NOW.0), None, "it never ends");
}

#[test]
fn a_length_of_time_is_taken_within_bounds_and_rendered_in_seconds() {
    let text = |before: &str| format!(r#"{{"version": 1, "drain": {{"before": "{before}"}}, "rules": []}}"#);
    for (before, rendered) in [("1s", "1s"), ("5m", "300s"), ("24h", "86400s")] {
        let json = policy(&text(before)).to_json();
        assert!(json.contains(&format!(r#""drain":{{"before":"{rendered}"}}"#)), "{before}: {json}");
    }
    for before in ["0s", "25h", "-1s", "1", ""] {
        let error = Policy::from_json(text(before).as_bytes()).unwrap_err();
        assert_eq!(error.path(), "drain.before", "{before}");
        assert!(error.to_string().contains("a length of time from `1s` to `24h`"), "{before}: {error}");
    }
    let missing = Policy::from_json(br#"{"version": 1, "drain": {}, "rules": []}"#).unwrap_err();
    assert!(missing.to_string().contains("before"), "{missing}");
}
