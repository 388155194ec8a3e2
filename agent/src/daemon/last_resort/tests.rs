use super::*;
use crate::status::CertificateStatus;

/// Certificates with these failures, each of which waits for something or not.
fn status(certificates: &[(u64, Option<&str>)]) -> Status {
    let one = |(failures, waits_for): &(u64, Option<&str>)| CertificateStatus {
        name: "web".to_owned(),
        identity: "web.acme.example".to_owned(),
        issuer: "acme".to_owned(),
        state: "planned".to_owned(),
        stored: None,
        chain: Vec::new(),
        installed: None,
        served: Vec::new(),
        next_attempt: None,
        renew_at: None,
        waits_for: waits_for.map(str::to_owned),
        is_fallback: false,
        dead_names: Vec::new(),
        last_error: None,
        rotations: 0,
        failures: *failures,
        issued_to_served_ms: None,
    };
    Status { certificates: certificates.iter().map(one).collect(), ..Status::default() }
}

#[test]
fn an_agent_ends_when_an_issuer_only_fails_for_long_and_nothing_else_is_left() {
    let (waits, second) = (Some("back_off"), Duration::from_secs(1));
    let failing = (FAILURES, waits);
    for (name, age, outage, certificates, want) in [
        ("old, and long enough", YOUNG, OUTAGE, vec![failing, (0, Some("renewal"))], true),
        ("young", YOUNG - second, OUTAGE, vec![failing], false),
        ("a short outage", YOUNG, OUTAGE - second, vec![failing], false),
        ("somebody else issues", YOUNG, OUTAGE, vec![(FAILURES - 1, waits)], false),
        ("something is under way", YOUNG, OUTAGE, vec![failing, (0, None)], false),
        ("no certificates", YOUNG, OUTAGE, vec![], false),
    ] {
        let began = Instant::now();
        let now = began + age;
        assert_eq!(is_due(began, now - outage, now, &status(&certificates)), want, "{name}");
    }
}
