//! `portcullis verify`.

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
use super::print;
use super::wait::duration;
use crate::status::CertificateStatus;

/// Shake hands with the listeners now. Fails if one of them serves anything but the stored certificate.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of one certificate; all by default.
    name: Option<String>,
    /// What to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// How long to wait for the agent's answer, as in `30s`, `5m`.
    #[arg(long, default_value = "1m", value_parser = duration)]
    timeout: Duration,
}

impl Args {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let name = self.name.clone();
        let status = ask(global, Some(self.timeout), async |client| client.verify(name).await)?;
        let mut certificates = status.certificates;
        certificates.retain(|certificate| self.name.as_ref().is_none_or(|name| *name == certificate.name));
        let now = Timestamp::now();
        print(&match self.output {
            Format::Json => json(&certificates)?,
            Format::Table => render(&certificates, now, Colour::of_stdout()),
        })?;
        let good = certificates.iter().all(is_current);
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Whether the stored certificate is the one in use, everywhere it was looked for. One that no listener shows counts
/// by what the proxies took.
pub(super) fn is_current(certificate: &CertificateStatus) -> bool {
    let Some(stored) = &certificate.stored else { return false };
    if certificate.served.is_empty() {
        return certificate.installed.as_ref() == Some(&stored.serial);
    }
    certificate.served.iter().all(|seen| seen.current)
}

fn render(certificates: &[CertificateStatus], now: Timestamp, colour: Colour) -> String {
    let mut rows = Rows::new(colour, &["NAME", "ADDRESS", "SERVER NAME", "STORED", "SERVED", "EXPIRES IN", "RESULT"]);
    for certificate in certificates {
        let plain = |text: &str| (Tone::Plain, text.to_owned());
        let stored = certificate.stored.as_ref().map_or("-", |leaf| short(&leaf.serial));
        if certificate.served.is_empty() {
            let result = if is_current(certificate) {
                (Tone::Good, "taken by the proxies".to_owned())
            } else {
                (Tone::Bad, "not taken".to_owned())
            };
            let installed = certificate.installed.as_deref().map_or("-", short);
            let expires = certificate.stored.as_ref().map_or_else(|| "-".to_owned(), |leaf| span(now, leaf.not_after));
            let name = plain(&certificate.name);
            rows.push([name, plain("-"), plain("-"), plain(stored), plain(installed), plain(&expires), result]);
        }
        for seen in &certificate.served {
            let (serial, expires) = match &seen.leaf {
                None => ("-", "-".to_owned()),
                Some(leaf) => (short(&leaf.serial), span(now, leaf.not_after)),
            };
            let expired = seen.leaf.as_ref().is_some_and(|leaf| leaf.not_after.as_second() < now.as_second());
            let result = match (&seen.error, seen.current) {
                (_, true) => (Tone::Good, "current".to_owned()),
                (_, false) if expired => (Tone::Bad, "EXPIRED".to_owned()),
                (Some(error), false) => (Tone::Bad, error.clone()),
                (None, false) if seen.leaf.is_none() => (Tone::Waiting, "not looked at yet".to_owned()),
                (None, false) => (Tone::Bad, "not the stored one".to_owned()),
            };
            rows.push([
                plain(&certificate.name),
                plain(&seen.address),
                plain(seen.sni.as_deref().unwrap_or("-")),
                plain(stored),
                plain(serial),
                plain(&expires),
                result,
            ]);
        }
    }
    rows.render()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::LeafStatus;
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

    fn certificate(served: Vec<ServedStatus>) -> CertificateStatus {
        CertificateStatus {
            name: "gateway".to_owned(),
            identity: "a".to_owned(),
            issuer: "built-in".to_owned(),
            state: "served".to_owned(),
            stored: Some(leaf("2a", 1_060)),
            chain: Vec::new(),
            installed: Some("2a".to_owned()),
            served,
            next_attempt: None,
            renew_at: None,
            waits_for: None,
            is_fallback: false,
            dead_names: Vec::new(),
            last_error: None,
            rotations: 0,
            failures: 0,
            issued_to_served_ms: None,
        }
    }

    fn seen(leaf: Option<LeafStatus>, current: bool, error: Option<&str>) -> ServedStatus {
        ServedStatus {
            address: "127.0.0.1:1".to_owned(),
            sni: Some("a.example".to_owned()),
            leaf,
            current,
            error: error.map(str::to_owned),
            checked_at: Some(NOW),
        }
    }

    #[test]
    fn each_listener_has_a_line_and_a_result() {
        for (name, seen, want, current) in [
            ("current", seen(Some(leaf("2a", 1_060)), true, None), "2a      1 min       current", true),
            ("another", seen(Some(leaf("29", 1_001)), false, None), "29      1 s         not the stored one", false),
            ("expired", seen(Some(leaf("28", 999)), false, None), "28      -1 s        EXPIRED", false),
            ("no answer", seen(None, false, Some("cannot connect")), "-       -           cannot connect", false),
        ] {
            let certificate = certificate(vec![seen]);
            let text = render(std::slice::from_ref(&certificate), NOW, Colour::Never);
            let want = format!("gateway  127.0.0.1:1  a.example    2a      {want}\n");
            assert!(text.ends_with(&want), "{name}: {text}");
            assert_eq!(is_current(&certificate), current, "{name}");
        }
    }

    #[test]
    fn a_certificate_without_listener_counts_by_what_proxies_took() {
        let mut certificate = certificate(Vec::new());
        assert!(is_current(&certificate));
        assert!(render(std::slice::from_ref(&certificate), NOW, Colour::Never).ends_with("taken by the proxies\n"));
        certificate.installed = Some("29".to_owned());
        assert!(!is_current(&certificate));
        certificate.stored = None;
        assert!(!is_current(&certificate));
    }
}
