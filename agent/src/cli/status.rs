//! `portcullis status`.

use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;

use super::Global;
use super::Outcome;
use super::client::ask;
use super::output::Colour;
use super::output::Format;
use super::output::Rows;
use super::output::Tone;
use super::output::json;
use super::output::short;
use super::output::span;
use super::output::toned;
use super::print;
use super::wait::duration;
use crate::status::CaStatus;
use crate::status::CertificateStatus;
use crate::status::CredentialStatus;
use crate::status::InHandshake;
use crate::status::PolicyStatus;
use crate::status::RevocationStatus;
use crate::status::Status;

/// With less than this part of the lifetime left it stands out; with less than that, it is an emergency.
const LATE: i64 = 4;
const EMERGENCY: i64 = 20;

/// Show what the running agent holds, serves and plans.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// How long to wait for the agent's answer, as in `30s`, `5m`.
    #[arg(long, default_value = "10s", value_parser = duration)]
    timeout: Duration,
}

impl Args {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let status = ask(global, Some(self.timeout), async |client| client.status().await)?;
        print(&match self.output {
            Format::Json => json(&status)?,
            Format::Table => render(&status, Timestamp::now(), Colour::of_stdout()),
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

fn render(status: &Status, now: Timestamp, colour: Colour) -> String {
    let mut text = String::new();
    if status.ready {
        text.push_str(&format!("{}\n", toned(colour, Tone::Good, "ready")));
    } else {
        text.push_str(&format!("{}\n", toned(colour, Tone::Bad, "not ready")));
        for reason in &status.reasons {
            text.push_str(&format!("  {reason}\n"));
        }
    }
    text.push('\n');

    let mut rows = Rows::new(colour, &["NAME", "IDENTITY", "ISSUER", "EXPIRES IN", "NEXT STEP", "SERVED"]);
    for certificate in &status.certificates {
        rows.push([
            (Tone::Plain, certificate.name.clone()),
            identity(certificate),
            issuer(certificate),
            expires_in(certificate, now),
            next_step(certificate, now),
            served(certificate, now),
        ]);
    }
    text.push_str(&rows.render());
    for certificate in &status.certificates {
        for dead in &certificate.dead_names {
            let why = dead.why.as_deref().unwrap_or("it is not accepted");
            text.push_str(&toned(colour, Tone::Bad, &format!("{}: {why}", certificate.name)));
            text.push('\n');
        }
    }
    text.push('\n');

    if !status.credentials.is_empty() {
        text.push_str(&credentials(&status.credentials, now, colour));
        text.push('\n');
    }

    let mut rows = Rows::new(colour, &[]);
    let (tone, policy) = policy_line(&status.policy);
    rows.push([(Tone::Plain, "policy".to_owned()), (tone, policy)]);
    for bundle in &status.bundles {
        let entries = &bundle.entries;
        let earliest = entries.iter().map(|(_, not_after)| *not_after).min();
        let expiry = earliest.map_or_else(String::new, |earliest| format!(", expires in {}", span(now, earliest)));
        let count = if entries.len() == 1 { "1 CA".to_owned() } else { format!("{} CAs", entries.len()) };
        let (tone, taken) =
            if bundle.acknowledged { (Tone::Plain, "in force") } else { (Tone::Waiting, "not yet in force") };
        let (tone, refused) = match &bundle.in_handshake {
            InHandshake::Nobody => (tone, String::new()),
            InHandshake::Refused { entries, .. } => {
                (tone, format!(", refuses {entries} serial numbers in the handshake"))
            }
            InHandshake::LeftToFilter { why } => (Tone::Waiting, format!(", leaves the revoked to the filter: {why}")),
        };
        let text = format!("{}: {count}{expiry}, {taken}{refused}", bundle.name);
        rows.push([(Tone::Plain, "bundle".to_owned()), (tone, text)]);
    }
    if let Some(roots) = roots_line(&status.ca, now) {
        rows.push([(Tone::Plain, "ca".to_owned()), roots]);
    }
    for provider in &status.providers {
        let keys = if provider.keys == 1 { "1 key".to_owned() } else { format!("{} keys", provider.keys) };
        let fetched = provider.fetched_at.map_or_else(String::new, |at| format!(", fetched {} ago", span(at, now)));
        let (tone, error) = match &provider.last_error {
            None if provider.keys == 0 => (Tone::Waiting, String::new()),
            None => (Tone::Plain, String::new()),
            Some(error) => (Tone::Bad, format!(", {error}")),
        };
        rows.push([(Tone::Plain, "provider".to_owned()), (tone, format!("{}: {keys}{fetched}{error}", provider.name))]);
    }
    let RevocationStatus { keys, brakes, .. } = &status.revocations;
    if *keys > 0 || *brakes > 0 {
        let what = format!("{keys} certificates, keys and identities; {brakes} authorities up to a date");
        rows.push([(Tone::Plain, "revoked".to_owned()), (Tone::Plain, what)]);
    }
    for list in &status.revocations.lists {
        let tone = if list.is_stale(now) || list.last_error.is_some() { Tone::Bad } else { Tone::Plain };
        let age = match list.next_update {
            None => "never taken".to_owned(),
            Some(end) => format!("{} entries, good for {}", list.entries, span(now, end)),
        };
        let error = list.last_error.as_deref().map_or_else(String::new, |error| format!(", {error}"));
        rows.push([(Tone::Plain, "list".to_owned()), (tone, format!("{}: {age}{error}", list.name))]);
    }
    if status.proxies.is_empty() {
        rows.push([(Tone::Plain, "proxy".to_owned()), (Tone::Waiting, "none connected".to_owned())]);
    }
    for proxy in &status.proxies {
        let pid = proxy.pid.map_or_else(String::new, |pid| format!(", pid {pid}"));
        let (tone, nacks) = match proxy.nacks {
            0 => (Tone::Plain, String::new()),
            nacks => (Tone::Bad, format!(", refused {nacks}")),
        };
        rows.push([(Tone::Plain, "proxy".to_owned()), (tone, format!("{}{pid}{nacks}", proxy.node))]);
    }
    text.push_str(&rows.render());
    text
}

/// For whom it is; without whom it had to be issued stands out.
fn identity(certificate: &CertificateStatus) -> (Tone, String) {
    let left_out = certificate.dead_names.iter().filter(|dead| dead.left_out);
    let left_out: Vec<&str> = left_out.map(|dead| dead.name.as_str()).collect();
    if left_out.is_empty() {
        return (Tone::Plain, certificate.identity.clone());
    }
    (Tone::Bad, format!("{} (WITHOUT {})", certificate.identity, left_out.join(", ")))
}

/// Who issued it; one that should not have is marked.
fn issuer(certificate: &CertificateStatus) -> (Tone, String) {
    if certificate.is_fallback {
        return (Tone::Waiting, format!("{} (fallback)", certificate.issuer));
    }
    (Tone::Plain, certificate.issuer.clone())
}

fn expires_in(certificate: &CertificateStatus, now: Timestamp) -> (Tone, String) {
    match &certificate.stored {
        None => (Tone::Waiting, "-".to_owned()),
        Some(leaf) if leaf.not_after.as_second() < now.as_second() => {
            (Tone::Bad, format!("expired {} ago", span(leaf.not_after, now)))
        }
        Some(leaf) => {
            let lifetime = leaf.not_after.as_second() - leaf.not_before.as_second();
            let left = leaf.not_after.as_second() - now.as_second();
            let tone = match left {
                left if left < lifetime / EMERGENCY => Tone::Bad,
                left if left < lifetime / LATE => Tone::Waiting,
                _ => Tone::Plain,
            };
            (tone, span(now, leaf.not_after))
        }
    }
}

fn next_step(certificate: &CertificateStatus, now: Timestamp) -> (Tone, String) {
    let due = certificate
        .next_attempt
        .map(|due| if due.as_second() > now.as_second() { format!("in {}", span(now, due)) } else { "now".to_owned() });
    match (&certificate.last_error, due) {
        (Some(_), Some(due)) => (Tone::Bad, format!("retry {due} ({} failed)", certificate.failures)),
        (Some(_), None) => (Tone::Bad, format!("{} failed", certificate.failures)),
        (None, Some(due)) if certificate.waits_for.as_deref() == Some("closed") => {
            (Tone::Waiting, format!("due, window {due}"))
        }
        (None, _) if certificate.waits_for.as_deref() == Some("clock") => {
            (Tone::Waiting, "waits: the clock is in doubt".to_owned())
        }
        (None, _) if certificate.waits_for.as_deref() == Some("listener") => {
            (Tone::Waiting, "waits for a proxy".to_owned())
        }
        (None, Some(due)) if matches!(certificate.state.as_str(), "served" | "retired") => {
            (Tone::Plain, format!("renew {due}"))
        }
        (None, _) => (Tone::Waiting, certificate.state.clone()),
    }
}

fn credentials(all: &[CredentialStatus], now: Timestamp, colour: Colour) -> String {
    let mut rows = Rows::new(colour, &["CREDENTIAL", "CONSUMERS", "SOURCE", "ACCOUNT", "ID", "NEXT STEP", "PUBLISHED"]);
    for credential in all {
        let due = credential.next_attempt.map(|due| {
            if due.as_second() > now.as_second() { format!("in {}", span(now, due)) } else { "now".to_owned() }
        });
        let next = match (&credential.last_error, due) {
            (Some(_), due) => {
                let due = due.map_or_else(String::new, |due| format!("retry {due} "));
                (Tone::Bad, format!("{due}({} failed)", credential.failures))
            }
            (None, _) if credential.waits_for.as_deref() == Some("first_use") => {
                (Tone::Plain, "on first use".to_owned())
            }
            (None, Some(due)) if credential.waits_for.as_deref() == Some("closed") => {
                (Tone::Waiting, format!("due, window {due}"))
            }
            (None, _) if credential.overlap_until.is_some_and(|until| Some(until) == credential.next_attempt) => (
                Tone::Plain,
                format!(
                    "retire {}",
                    credential.overlap_until.map_or_else(String::new, |at| format!("in {}", span(now, at)))
                ),
            ),
            (None, Some(due)) if credential.waits_for.is_some() => (Tone::Plain, format!("rotate {due}")),
            (None, None) if credential.waits_for.is_some() => (Tone::Plain, "when its source does".to_owned()),
            (None, _) => (Tone::Waiting, credential.state.clone()),
        };
        let none = || "-".to_owned();
        rows.push([
            (Tone::Plain, credential.name.clone()),
            (Tone::Plain, credential.consumers.join(" ")),
            (Tone::Plain, credential.source.clone()),
            (Tone::Plain, credential.account.clone().unwrap_or_else(none)),
            (Tone::Plain, credential.id.as_deref().map_or_else(none, |id| id.chars().take(16).collect())),
            next,
            (Tone::Plain, if credential.published.is_empty() { none() } else { credential.published.join(" ") }),
        ]);
    }
    rows.render()
}

/// Whether the stored leaf is in use, in a word.
pub(super) fn served(certificate: &CertificateStatus, now: Timestamp) -> (Tone, String) {
    let Some(stored) = &certificate.stored else {
        return (Tone::Waiting, "no".to_owned());
    };
    if certificate.served.is_empty() {
        // Nobody can shake hands for it: what the proxies say has to do.
        return if certificate.installed.as_ref() == Some(&stored.serial) {
            (Tone::Good, "taken".to_owned())
        } else {
            (Tone::Waiting, "no".to_owned())
        };
    }
    let expired = certificate.served.iter().filter_map(|seen| seen.leaf.as_ref());
    if expired.filter(|leaf| leaf.not_after.as_second() < now.as_second()).count() > 0 {
        return (Tone::Bad, "EXPIRED".to_owned());
    }
    let current = certificate.served.iter().filter(|seen| seen.current).count();
    match (current, certificate.served.len()) {
        (current, all) if current == all => (Tone::Good, "yes".to_owned()),
        (0, 1) => (Tone::Bad, "no".to_owned()),
        (current, all) => (Tone::Bad, format!("{current} of {all}")),
    }
}

/// What is to be known of the roots: that one follows another, or that the end of the last one is near. None otherwise.
fn roots_line(ca: &CaStatus, now: Timestamp) -> Option<(Tone, String)> {
    if let Some(succession) = &ca.succession {
        let waits_for =
            succession.waits_for.as_deref().map_or_else(String::new, |waits| format!(", waits for {waits}"));
        let until = succession.until.map_or_else(String::new, |until| format!(" (in {})", span(now, until)));
        return Some((Tone::Waiting, format!("another root follows, step `{}`{waits_for}{until}", succession.step)));
    }
    if let Some(wanted) = &ca.wanted {
        return Some((Tone::Bad, wanted.clone()));
    }
    let root = ca.roots.iter().find(|root| root.signs).filter(|root| root.is_old(now))?;
    let ends = format!("the root ends in {}; `portcullis ca rotate` has another one follow", span(now, root.not_after));
    Some((Tone::Bad, ends))
}

fn policy_line(policy: &PolicyStatus) -> (Tone, String) {
    let version = policy.version.as_deref().map_or("none", short);
    if policy.error.is_some() {
        // Why stands among the reasons already.
        return (Tone::Bad, format!("{version} stays in force, what is in {} now was refused", policy.file));
    }
    match (&policy.version, policy.acknowledged) {
        (Some(_), true) => (Tone::Good, format!("{version} in force ({})", policy.file)),
        (Some(_), false) => (Tone::Waiting, format!("{version} not yet in force ({})", policy.file)),
        (None, _) => (Tone::Waiting, "none".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::status::BundleStatus;
    use crate::status::LeafStatus;
    use crate::status::ProviderStatus;
    use crate::status::ProxyStatus;
    use crate::status::ServedStatus;

    const NOW: Timestamp = Timestamp::constant(1_000, 0);

    fn leaf(serial: &str, not_after: i64) -> LeafStatus {
        LeafStatus {
            serial: serial.to_owned(),
            sha256: serial.to_owned(),
            not_before: Timestamp::UNIX_EPOCH,
            not_after: Timestamp::from_second(not_after).unwrap(),
        }
    }

    fn seen(leaf: LeafStatus, current: bool) -> ServedStatus {
        ServedStatus {
            address: "127.0.0.1:10443".to_owned(),
            sni: None,
            leaf: Some(leaf),
            current,
            error: None,
            checked_at: Some(NOW),
        }
    }

    fn certificate(name: &str) -> CertificateStatus {
        CertificateStatus {
            name: name.to_owned(),
            identity: "spiffe://acme.example/gateway".to_owned(),
            issuer: "built-in".to_owned(),
            state: "served".to_owned(),
            stored: Some(leaf("2a", 1_060)),
            chain: Vec::new(),
            installed: Some("2a".to_owned()),
            served: Vec::new(),
            next_attempt: Some(Timestamp::constant(1_039, 0)),
            renew_at: None,
            waits_for: None,
            is_fallback: false,
            dead_names: Vec::new(),
            last_error: None,
            rotations: 3,
            failures: 0,
            issued_to_served_ms: None,
        }
    }

    fn status() -> Status {
        let gateway = CertificateStatus { served: vec![seen(leaf("2a", 1_060), true)], ..certificate("gateway") };
        Status {
            credentials: Vec::new(),
            ready: true,
            reasons: Vec::new(),
            certificates: vec![gateway, certificate("upstream-client")],
            ca: CaStatus::default(),
            bundles: vec![BundleStatus {
                name: "clients".to_owned(),
                entries: vec![("ab".to_owned(), Timestamp::constant(1_000 + 86_400, 0))],
                not_before: BTreeMap::new(),
                version: "1".to_owned(),
                acknowledged: true,
                in_handshake: InHandshake::Nobody,
            }],
            policy: PolicyStatus {
                file: "policy.yaml".to_owned(),
                version: Some("0123456789abcdef".to_owned()),
                acknowledged: true,
                error: None,
            },
            providers: Vec::new(),
            revocations: RevocationStatus::default(),
            proxies: vec![ProxyStatus { node: "gateway-1".to_owned(), pid: Some(42), nacks: 0 }],
        }
    }

    #[test]
    fn a_ready_agent_at_a_glance() {
        let want = "\
ready

NAME             IDENTITY                       ISSUER    EXPIRES IN  NEXT STEP      SERVED
gateway          spiffe://acme.example/gateway  built-in  1 min       renew in 39 s  yes
upstream-client  spiffe://acme.example/gateway  built-in  1 min       renew in 39 s  taken

policy  0123456789ab in force (policy.yaml)
bundle  clients: 1 CA, expires in 1 d, in force
proxy   gateway-1, pid 42
";
        assert_eq!(render(&status(), NOW, Colour::Never), want);
    }

    #[test]
    fn providers_of_tokens_have_a_line_each() {
        let mut status = status();
        let provider = ProviderStatus::new("corp", "https://login.acme.example/jwks");
        let good = ProviderStatus { keys: 2, fetched_at: Some(Timestamp::constant(940, 0)), ..provider.clone() };
        let bad = ProviderStatus { name: "other".to_owned(), last_error: Some("no answer".to_owned()), ..provider };
        status.providers = vec![good, bad];
        let text = render(&status, NOW, Colour::Never);
        assert!(text.contains("\nprovider  corp: 2 keys, fetched 1 min ago\n"), "{text}");
        assert!(text.contains("\nprovider  other: 0 keys, no answer\n"), "{text}");
    }

    #[test]
    fn what_is_revoked_has_a_line() {
        let mut status = status();
        assert!(!render(&status, NOW, Colour::Never).contains("\nrevoked"));
        status.revocations.keys = 3;
        let text = render(&status, NOW, Colour::Never);
        assert!(
            text.contains("\nrevoked  3 certificates, keys and identities; 0 authorities up to a date\n"),
            "{text}"
        );
    }

    #[test]
    fn an_agent_that_is_not_ready_says_why() {
        let mut status = status();
        status.ready = false;
        status.reasons = vec!["no proxy is connected".to_owned()];
        status.proxies.clear();
        status.policy.error = Some("policy.yaml:3:5: unknown field `rulez`".to_owned());
        let text = render(&status, NOW, Colour::Never);
        assert!(text.starts_with("not ready\n  no proxy is connected\n\n"), "{text}");
        assert!(
            text.contains("\npolicy  0123456789ab stays in force, what is in policy.yaml now was refused\n"),
            "{text}"
        );
        assert!(text.ends_with("\nproxy   none connected\n"), "{text}");
    }

    #[test]
    fn colour_goes_to_terminals_only() {
        assert!(!render(&status(), NOW, Colour::Never).contains('\u{1b}'));
        assert!(render(&status(), NOW, Colour::OnTerminal).contains("\u{1b}[32mready"));
    }

    #[test]
    fn served_in_a_word() {
        let new = certificate("a");
        let with = |served| CertificateStatus { served, ..new.clone() };
        for (name, certificate, want) in [
            ("nothing stored", CertificateStatus { stored: None, ..new.clone() }, "no"),
            ("taken by all, no listener", new.clone(), "taken"),
            ("not taken, no listener", CertificateStatus { installed: None, ..new.clone() }, "no"),
            ("at its listener", with(vec![seen(leaf("2a", 1_060), true)]), "yes"),
            ("the one before", with(vec![seen(leaf("29", 1_030), false)]), "no"),
            ("one that is over", with(vec![seen(leaf("28", 999), false)]), "EXPIRED"),
            ("half", with(vec![seen(leaf("2a", 1_060), true), seen(leaf("29", 1_030), false)]), "1 of 2"),
        ] {
            assert_eq!(served(&certificate, NOW).1, want, "{name}");
        }
    }

    #[test]
    fn a_credential_that_is_due_says_what_it_waits_for() {
        let later = Some(Timestamp::constant(1_039, 0));
        let due = CredentialStatus { next_attempt: later, ..CredentialStatus::default() };
        for (waits_for, want) in [("rotation", "rotate in 39 s"), ("closed", "due, window in 39 s")] {
            let due = CredentialStatus { waits_for: Some(waits_for.to_owned()), ..due.clone() };
            let text = credentials(&[due], NOW, Colour::Never);
            assert!(text.contains(want), "{waits_for}: {text}");
        }
    }

    #[test]
    fn the_next_step_in_a_word() {
        let new = certificate("a");
        for (name, certificate, want) in [
            ("healthy", new.clone(), "renew in 39 s"),
            ("due", CertificateStatus { next_attempt: Some(NOW), ..new.clone() }, "renew now"),
            ("under way", CertificateStatus { state: "staged".to_owned(), ..new.clone() }, "staged"),
            (
                "due and closed",
                CertificateStatus { waits_for: Some("closed".to_owned()), ..new.clone() },
                "due, window in 39 s",
            ),
            (
                "nobody to give it to",
                CertificateStatus { waits_for: Some("listener".to_owned()), state: "staged".to_owned(), ..new.clone() },
                "waits for a proxy",
            ),
            (
                "failing",
                CertificateStatus { last_error: Some("x".to_owned()), failures: 2, ..new.clone() },
                "retry in 39 s (2 failed)",
            ),
        ] {
            assert_eq!(next_step(&certificate, NOW).1, want, "{name}");
        }
    }
}
