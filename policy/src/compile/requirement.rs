//! What a rule requires, as it is written, to what can be asked of a request.

use super::claims;
use super::member;
use super::rules::FieldProblem;
use super::rules::each;
use super::value;
use crate::document;
use crate::document::Requirements;
use crate::error::PolicyProblem;
use crate::form::is_own_header;
use crate::network::Network;
use crate::requirement::Days;
use crate::requirement::Header;
use crate::requirement::ListenerAddress;
use crate::requirement::Requirement;
use crate::requirement::TlsVersion;
use crate::requirement::Window;
use crate::strings::Strings;

/// The most values of one field: they are tried one by one.
const MAX_VALUES: usize = 256;

/// Compiles the fields of a rule, and those of its `not`.
pub(super) fn compile(
    written: &Requirements<'_>,
    not: Option<&Requirements<'_>>,
    strings: &mut Strings,
) -> Result<Vec<Requirement>, FieldProblem> {
    let mut requirements = fields(written, strings)?;
    if let Some(not) = not {
        let inner = fields(not, strings).map_err(|(field, problem)| (format!("not.{field}"), problem))?;
        if inner.is_empty() {
            return Err(("not".to_owned(), PolicyProblem::EmptyList));
        }
        if inner.iter().any(|one| one.claim_captures().next().is_some()) {
            // It would be bound to nothing, or to whatever the claim must not be.
            return Err(("not.claims".to_owned(), PolicyProblem::NotWithin { what: "{capture}" }));
        }
        requirements.push(Requirement::Not(inner.into()));
    }
    Ok(requirements)
}

// In the order in which they are asked: cheap ones first.
fn fields(written: &Requirements<'_>, strings: &mut Strings) -> Result<Vec<Requirement>, FieldProblem> {
    let Requirements { headers, sources, listeners, sni, tls, times, scopes, claims } = written;
    let mut requirements = Vec::new();
    if let Some(tls) = tls {
        let text = tls.min_version.as_str();
        let version = TlsVersion::parse(text).ok_or_else(|| value::bad(text, "a version of TLS, `1.0` to `1.3`"));
        requirements.push(Requirement::Tls(version.map_err(|problem| ("tls.min_version".to_owned(), problem))?));
    }
    if let Some(times) = times {
        requirements.push(Requirement::Times(windows(&times.0)?));
    }
    if let Some(sources) = sources {
        bounded("sources", sources.0.len())?;
        requirements.push(Requirement::Sources(each("sources", &sources.0, source)?.into()));
    }
    if let Some(listeners) = listeners {
        bounded("listeners", listeners.0.len())?;
        requirements.push(Requirement::Listeners(each("listeners", &listeners.0, listener)?.into()));
    }
    if let Some(sni) = sni {
        bounded("sni", sni.0.len())?;
        requirements.push(Requirement::Sni(each("sni", &sni.0, member::dns)?.into()));
    }
    if let Some(headers) = headers {
        requirements.push(Requirement::Headers(self::headers(headers)?));
    }
    if let Some(names) = scopes {
        bounded("scopes", names.0.len())?;
        requirements.push(Requirement::Scopes(claims::scopes(&names.0)?));
    }
    if let Some(written) = claims {
        requirements.push(Requirement::Claims(claims::claims(written, strings)?));
    }
    Ok(requirements)
}

fn bounded(field: &str, length: usize) -> Result<(), FieldProblem> {
    match length {
        0 => Err((field.to_owned(), PolicyProblem::EmptyList)),
        1..=MAX_VALUES => Ok(()),
        _ => {
            let what = "values of one condition";
            Err((field.to_owned(), PolicyProblem::TooMany { what, limit: MAX_VALUES }))
        }
    }
}

fn source(text: &str) -> Result<Network, PolicyProblem> {
    let expected = "an IP address, or a network whose bits after the prefix are zero; IPv4 is written as such, not within `::ffff:`";
    Network::parse(text)
        .filter(|network| network.address.to_canonical() == network.address)
        .ok_or_else(|| value::bad(text, expected))
}

fn listener(text: &str) -> Result<ListenerAddress, PolicyProblem> {
    let expected = "where a client connects to, such as `:5432` (a port), `10.0.0.1:5432` or `[2001:db8::1]:5432`";
    ListenerAddress::parse(text).ok_or_else(|| value::bad(text, expected))
}

fn headers(written: &document::Headers<'_>) -> Result<Box<[Header]>, FieldProblem> {
    bounded("headers", written.0.len())?;
    let mut headers: Vec<Header> = Vec::with_capacity(written.0.len());
    for (name, values) in &written.0 {
        let name = name.as_str();
        let field = format!("headers.{}", value::shown(name));
        header_name(name).map_err(|problem| (field.clone(), problem))?;
        if headers.iter().any(|known| known.name.as_ref() == name) {
            return Err((field, PolicyProblem::Duplicate { what: "header", name: name.to_owned() }));
        }
        bounded(&field, values.0.len())?;
        let values = each(&field, &values.0, header_value)?;
        headers.push(Header { name: name.into(), values: values.into() });
    }
    headers.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(headers.into())
}

fn header_name(name: &str) -> Result<(), PolicyProblem> {
    // RFC 9110 §5.6.2, §5.1: names have no case, so a policy writes them in one.
    let token = |byte: u8| byte.is_ascii_graphic() && !br#""(),/:;<=>?@[\]{}"#.contains(&byte);
    if name.is_empty() || !name.bytes().all(|byte| token(byte) && !byte.is_ascii_uppercase()) {
        return Err(value::bad(name, "the name of a header field in small letters, such as `x-environment`"));
    }
    let expected = match name {
        "host" => "for `headers`: what a rule says of the host stands under `hosts`",
        "authorization" | "proxy-authorization" | "cookie" => {
            "for `headers`: its values are secrets, which have no place in a policy"
        }
        "x-forwarded-client-cert" | "client-cert" | "client-cert-chain" => {
            "for `headers`: who a peer is, roles tell, not a header that anybody can send"
        }
        _ if is_own_header(name.as_bytes()) => "for `headers`: the gate's own are never taken from a client",
        _ => return Ok(()),
    };
    Err(value::bad(name, expected))
}

fn header_value(text: &str) -> Result<Box<str>, PolicyProblem> {
    let valid = !text.is_empty() && text.trim() == text && !text.chars().any(char::is_control);
    let words = text.split(',').any(|item| !item.trim().is_empty());
    if valid && words {
        Ok(text.into())
    } else {
        Err(value::bad(text, "a header field's value: not empty, without white space around it or control characters"))
    }
}

fn windows(written: &[document::Window<'_>]) -> Result<Box<[Window]>, FieldProblem> {
    bounded("times", written.len())?;
    let windows = written.iter().enumerate().map(|(position, written)| {
        window(written).map_err(|(field, problem)| {
            let dot = if field.is_empty() { "" } else { "." };
            (format!("times[{position}]{dot}{field}"), problem)
        })
    });
    windows.collect()
}

fn window(written: &document::Window<'_>) -> Result<Window, FieldProblem> {
    let document::Window { from, until, days, hours } = written;
    if from.is_none() && until.is_none() && days.is_none() && hours.is_none() {
        return Err((
            String::new(),
            value::bad("{}", "a window of time: `from`, `until`, `days` or `hours` is needed"),
        ));
    }
    let instant = |field: &str, text: &Option<document::Text<'_>>| {
        let instant = text.as_ref().map(|text| value::time(text.as_str())).transpose();
        instant.map_err(|problem| (field.to_owned(), problem))
    };
    let (from, until) = (instant("from", from)?, instant("until", until)?);
    if let (Some(from), Some(until), Some(text)) = (from, until, &written.until)
        && from >= until
    {
        return Err(("until".to_owned(), value::bad(text.as_str(), "an instant after `from`")));
    }
    let days = match days {
        None => Days::ALL,
        Some(names) => {
            let day = |name: &str| {
                let known = "`mon`, `tue`, `wed`, `thu`, `fri`, `sat` and `sun`";
                Days::named(name).ok_or_else(|| PolicyProblem::UnknownWord { name: value::shown(name), known })
            };
            each("days", &names.0, day)?.into_iter().fold(Days::NONE, Days::and)
        }
    };
    let hours = hours.as_ref().map(|text| {
        let expected = "two times of a day, the later one last, such as `08:00-18:00`; midnight at its end is `24:00`";
        self::hours(text.as_str()).ok_or_else(|| ("hours".to_owned(), value::bad(text.as_str(), expected)))
    });
    Ok(Window { from, until, days, hours: hours.transpose()? })
}

/// Minutes since midnight.
fn hours(text: &str) -> Option<(u16, u16)> {
    let minutes = |text: &str| {
        let digits = |text: &str| {
            let valid = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
            if valid { text.parse::<u16>().ok() } else { None }
        };
        let (hour, minute) = text.split_once(':')?;
        let minutes = digits(hour)? * 60 + digits(minute).filter(|minute| *minute < 60)?;
        (minutes <= 24 * 60).then_some(minutes)
    };
    let (from, until) = text.split_once('-')?;
    let (from, until) = (minutes(from)?, minutes(until)?);
    (from < until).then_some((from, until))
}
