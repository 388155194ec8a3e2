//! The header fields of an answer that the library does not read. Pure: text and times go in, values come out.

use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use hyper::HeaderMap;
use hyper::header::DATE;
use hyper::header::HeaderName;
use hyper::header::LINK;
use hyper::header::RETRY_AFTER;
use portcullis_policy::UnixTime;

/// What a server may ask for: a certificate more of an exhausted set comes sooner at the public CAs.
const LONGEST: i64 = 48 * 3_600;
/// Links that are looked at.
const MOST_LINKS: usize = 16;

/// Until when a server that answered at `now` asks to be left alone (RFC 9110 §10.2.3): never more than two days, and never
/// in the past. None for a text that is neither seconds nor a date.
///
/// A date is measured by the server's own clock (`Date`), so that a difference between the clocks is nothing to it.
pub(super) fn retry_after(headers: &HeaderMap, now: UnixTime) -> Option<UnixTime> {
    let value = text(headers, &RETRY_AFTER)?.trim();
    let wait = if value.bytes().all(|byte| byte.is_ascii_digit()) && !value.is_empty() {
        // What no number holds is long enough.
        value.parse().unwrap_or(i64::MAX)
    } else {
        http_date(value)?.0.saturating_sub(date(headers).unwrap_or(now).0)
    };
    Some(UnixTime(now.0.saturating_add(wait.clamp(0, LONGEST))))
}

/// What the server's clock says.
pub(super) fn date(headers: &HeaderMap) -> Option<UnixTime> {
    http_date(text(headers, &DATE)?.trim())
}

/// The targets of `Link` fields with this relation (RFC 8288 §3), in order.
pub(super) fn links(headers: &HeaderMap, relation: &str) -> Vec<String> {
    let fields = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    fields
        .flat_map(links_of)
        .filter(|(_, found)| is_one_of(found, relation))
        .map(|(url, _)| url)
        .take(MOST_LINKS)
        .collect()
}

/// The links of one field, with their relations.
fn links_of(field: &str) -> Vec<(String, String)> {
    let mut links = Vec::new();
    let mut rest = field;
    // A target may hold commas and semicolons; only `<` begins one.
    while let Some((_, after)) = rest.split_once('<') {
        let Some((target, parameters)) = after.split_once('>') else { break };
        let end = outside_quotes(parameters, ',').unwrap_or(parameters.len());
        let (mut own, next) = parameters.split_at(end);
        let mut relation = String::new();
        while let Some(start) = own.find(';') {
            own = &own[start + 1..];
            let end = outside_quotes(own, ';').unwrap_or(own.len());
            if let Some((name, value)) = own[..end].split_once('=')
                && name.trim().eq_ignore_ascii_case("rel")
                && relation.is_empty()
            {
                relation = value.trim().trim_matches('"').to_owned();
            }
            own = &own[end..];
        }
        links.push((target.trim().to_owned(), relation));
        rest = next;
    }
    links
}

fn outside_quotes(text: &str, wanted: char) -> Option<usize> {
    let mut quoted = false;
    text.char_indices().find_map(|(at, found)| {
        quoted ^= found == '"';
        (found == wanted && !quoted).then_some(at)
    })
}

fn is_one_of(relations: &str, wanted: &str) -> bool {
    relations.split_ascii_whitespace().any(|relation| relation.eq_ignore_ascii_case(wanted))
}

fn http_date(value: &str) -> Option<UnixTime> {
    let time: SystemTime = httpdate::parse_http_date(value).ok()?;
    let seconds = time.duration_since(UNIX_EPOCH).ok()?.as_secs();
    i64::try_from(seconds).ok().map(UnixTime)
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    /// 1994-11-06T08:49:37Z, the date of the examples in RFC 9110 §5.6.7.
    const NOW: UnixTime = UnixTime(784_111_777);

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        headers
    }

    #[test]
    fn a_server_is_left_alone_for_as_long_as_it_asks_within_bounds() {
        for (name, value, want) in [
            ("seconds", "120", Some(120)),
            ("with spaces", " 120 ", Some(120)),
            ("now", "0", Some(0)),
            ("a century", "3153600000", Some(LONGEST)),
            ("more than a number", "99999999999999999999999", Some(LONGEST)),
            ("a date", "Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("the date of RFC 850", "Sunday, 06-Nov-94 08:50:37 GMT", Some(60)),
            ("the date of asctime", "Sun Nov  6 08:50:37 1994", Some(60)),
            ("a date that is past", "Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("a date that is far", "Fri, 31 Dec 9999 23:59:59 GMT", Some(LONGEST)),
            ("negative", "-5", None),
            ("a word", "soon", None),
            ("nothing", "", None),
        ] {
            let got = retry_after(&headers(&[("retry-after", value)]), NOW);
            assert_eq!(got, want.map(|seconds| UnixTime(NOW.0 + seconds)), "{name}");
        }
        assert_eq!(retry_after(&headers(&[]), NOW), None);
    }

    #[test]
    fn a_date_is_measured_by_the_clock_of_the_server() {
        let headers =
            headers(&[("date", "Sun, 06 Nov 1994 08:49:37 GMT"), ("retry-after", "Sun, 06 Nov 1994 08:50:37 GMT")]);
        let our_clock = UnixTime(NOW.0 + 86_400);
        assert_eq!(retry_after(&headers, our_clock), Some(UnixTime(our_clock.0 + 60)));
    }

    #[test]
    fn links_are_read_as_rfc_8288_writes_them() {
        for (name, fields, want) in [
            ("none", vec![], vec![]),
            ("another relation", vec![r#"<https://ca/dir>;rel="index""#], vec![]),
            (
                "a field each",
                vec![r#"<https://ca/1>;rel="alternate""#, "<https://ca/2>; rel=alternate"],
                vec!["1", "2"],
            ),
            (
                "one field",
                vec![r#"<https://ca/dir>; rel="index", <https://ca/1>; title="a,b;c"; rel="up alternate""#],
                vec!["1"],
            ),
            ("commas in the target", vec![r#"<https://ca/a,b;rel="alternate">; rel="up""#], vec![]),
            ("only the first relation counts", vec![r#"<https://ca/1>; rel="up"; rel="alternate""#], vec![]),
            ("cut off", vec![r#"<https://ca/1>; rel="alternate", <https://ca/2"#], vec!["1"]),
            ("garbage", vec![">><<;;=,\"", "<>", "<", "<>;rel"], vec![]),
        ] {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(LINK, HeaderValue::from_str(field).expect("a value"));
            }
            let want: Vec<String> = want.into_iter().map(|path| format!("https://ca/{path}")).collect();
            assert_eq!(links(&headers, "alternate"), want, "{name}");
        }
    }

    #[test]
    fn links_beyond_a_number_are_not_followed() {
        let many = r#"<https://ca/1>;rel="alternate","#.repeat(1_000);
        let mut headers = HeaderMap::new();
        headers.append(LINK, HeaderValue::from_str(&many).expect("a value"));
        assert_eq!(links(&headers, "alternate").len(), MOST_LINKS);
    }
}
