//! The table of the peers, in Markdown.

use std::io;
use std::io::Write;
use std::time::Duration;

use super::Peer;
use super::Settings;
use super::Variant;
use super::drive::CONNECTIONS;
use super::numbers::Spread;
use super::numbers::thousands;

pub(super) fn write(peers: &[Peer], settings: &Settings, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "Envoy's processor time for a request over mTLS, HTTP/1.1 kept alive, {CONNECTIONS} connections, one worker on a \
         core of its own; {} interleaved rounds of {} requests; median (smallest–largest). The rule that lets the request \
         in is the last of the list. Ratios are taken within each round.\n",
        settings.rounds,
        thousands(usize::try_from(settings.requests).unwrap_or(usize::MAX)),
    )?;
    let head = [
        "",
        "CPU µs",
        "the filter's own µs",
        "× empty Wasm filter",
        "RBAC's own ÷ ours",
        "our own ÷ jwt_authn's",
        "our own ÷ with access log",
        "requests/s",
        "p50 µs",
        "p99 µs",
    ];
    writeln!(out, "| {} |", head.join(" | "))?;
    writeln!(out, "|---|{}", "--:|".repeat(head.len() - 1))?;
    let none = find(peers, Variant::Nothing);
    let empty = find(peers, Variant::Empty);
    for peer in peers {
        let own = none.filter(|_| peer.variant != Variant::Nothing).and_then(|none| spread(peer, none, |a, b| a - b));
        let to_empty = empty.and_then(|empty| spread(peer, empty, |a, b| a / b));
        let to_rbac = match peer.variant {
            Variant::Ours(count) => {
                find(peers, Variant::Rbac(count)).zip(none).and_then(|(rbac, none)| own_ratio(rbac, peer, none))
            }
            _ => None,
        };
        let [to_jwt, to_recorded] = [Variant::JwtAuthn, Variant::RecordedJwtAuthn].map(|jwt| match peer.variant {
            Variant::Token(kind) => find(peers, jwt(kind)).zip(none).and_then(|(jwt, none)| own_ratio(peer, jwt, none)),
            _ => None,
        });
        let micros = |pick: fn(&super::Round) -> Duration| {
            let figures = peer.rounds.iter().map(|round| pick(round).as_secs_f64() * 1e6);
            Spread::of(figures).map_or_else(String::new, |spread| format!("{:.0}", spread.median))
        };
        let rate = Spread::of(peer.rounds.iter().map(|round| round.rate));
        let cells = [
            peer.variant.to_string(),
            show(Spread::of(peer.rounds.iter().map(|round| round.cpu)), 1),
            show(own, 1),
            show(to_empty, 2),
            show(to_rbac, 1),
            show(to_jwt, 2),
            show(to_recorded, 2),
            rate.map_or_else(String::new, |spread| thousands(spread.median as usize)),
            micros(|round| round.p50),
            micros(|round| round.p99),
        ];
        writeln!(out, "| {} |", cells.join(" | "))?;
    }
    Ok(())
}

pub(super) fn find(peers: &[Peer], variant: Variant) -> Option<&Peer> {
    peers.iter().find(|peer| peer.variant == variant)
}

/// One figure a round from the processor times of two peers in that round.
fn spread(one: &Peer, other: &Peer, compare: impl Fn(f64, f64) -> f64) -> Option<Spread> {
    Spread::of(one.rounds.iter().zip(&other.rounds).map(|(one, other)| compare(one.cpu, other.cpu)))
}

/// What one adds to an Envoy without a filter, over what the other adds.
fn own_ratio(one: &Peer, other: &Peer, none: &Peer) -> Option<Spread> {
    let rounds = one.rounds.iter().zip(&other.rounds).zip(&none.rounds);
    Spread::of(rounds.map(|((one, other), none)| (one.cpu - none.cpu) / (other.cpu - none.cpu)))
}

fn show(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or_else(String::new, |spread| spread.show(digits))
}
