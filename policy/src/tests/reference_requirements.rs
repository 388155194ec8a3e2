//! The part of [the reference](super::reference) about what rules require: on text, one answer after the other.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;
use serde_json::json;

/// What a rule requires; empty lists require nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Requirements {
    pub(super) headers: Vec<(&'static str, Vec<&'static str>)>,
    pub(super) sources: Vec<&'static str>,
    pub(super) sni: Vec<&'static str>,
    pub(super) min_version: Option<&'static str>,
    pub(super) times: Vec<Window>,
}

#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) from: Option<i64>,
    pub(super) until: Option<i64>,
    pub(super) days: Vec<&'static str>,
    pub(super) hours: Option<(&'static str, &'static str)>,
}

/// What a request says.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) now: i64,
    pub(super) headers: Vec<(&'static str, &'static str)>,
    pub(super) source: Option<&'static str>,
    pub(super) sni: Option<&'static str>,
    pub(super) version: Option<&'static str>,
}

impl Requirements {
    pub(super) fn is_empty(&self) -> bool {
        self.to_json() == json!({})
    }

    /// `None` if it cannot be told. Of several header values any has to be asked for, or all.
    pub(super) fn hold(&self, facts: &Facts, any: bool) -> Option<bool> {
        let mut answers = Vec::new();
        for (name, values) in &self.headers {
            answers.push(facts.header(name, values, any));
        }
        if !self.sources.is_empty() {
            answers.push(facts.source.map(|source| self.sources.iter().any(|network| is_in(network, source))));
        }
        if !self.sni.is_empty() {
            answers.push(facts.sni.map(|sni| self.sni.iter().any(|name| is_named(name, sni))));
        }
        if let Some(least) = self.min_version {
            let version = facts.version.map(|version| if version == "TLSv1" { "TLSv1.0" } else { version });
            answers.push(version.map(|version| version >= format!("TLSv{least}").as_str()));
        }
        if !self.times.is_empty() {
            answers.push(Some(self.times.iter().any(|window| window.contains(facts.now))));
        }
        if answers.contains(&Some(false)) {
            return Some(false);
        }
        answers.into_iter().try_fold(true, |_, answer| answer)
    }

    pub(super) fn to_json(&self) -> Value {
        let mut value = json!({});
        for (name, values) in &self.headers {
            value["headers"][name] = if let [only] = &values[..] { json!(only) } else { json!(values) };
        }
        for (field, list) in [("sources", &self.sources), ("sni", &self.sni)] {
            if !list.is_empty() {
                value[field] = json!(list);
            }
        }
        if let Some(version) = self.min_version {
            value["tls"] = json!({ "min_version": version });
        }
        if !self.times.is_empty() {
            value["times"] = self.times.iter().map(Window::to_json).collect();
        }
        value
    }
}

impl Facts {
    fn header(&self, name: &str, wanted: &[&str], any: bool) -> Option<bool> {
        let fields: Vec<_> = self.headers.iter().filter(|(known, _)| known.replace('_', "-") == name).collect();
        if fields.is_empty() {
            return None;
        }
        let words = |text: &str| -> Vec<String> {
            text.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
        };
        if any {
            let all = words(&fields.iter().map(|(_, value)| *value).collect::<Vec<_>>().join(","));
            let occurs = |wanted: &[String]| (0..all.len()).any(|start| all[start..].starts_with(wanted));
            return Some(wanted.iter().any(|wanted| occurs(&words(wanted))));
        }
        let good = |value: &str| wanted.contains(&value) || value.split(',').all(|item| wanted.contains(&item.trim()));
        let all = fields.iter().all(|(_, value)| good(value));
        if all && !fields.iter().any(|(known, _)| *known == name) { None } else { Some(all) }
    }
}

impl Window {
    fn contains(&self, now: i64) -> bool {
        let civil = Timestamp::from_second(now).unwrap().to_zoned(TimeZone::UTC);
        let day = civil.strftime("%a").to_string().to_lowercase();
        let clock = civil.strftime("%H:%M").to_string();
        self.from.is_none_or(|from| now >= from)
            && self.until.is_none_or(|until| now < until)
            && (self.days.is_empty() || self.days.contains(&day.as_str()))
            && self.hours.is_none_or(|(from, until)| from <= clock.as_str() && clock.as_str() < until)
    }

    fn to_json(&self) -> Value {
        let mut value = json!({});
        let instant = |seconds: i64| json!(Timestamp::from_second(seconds).unwrap().to_string());
        self.from.iter().for_each(|from| value["from"] = instant(*from));
        self.until.iter().for_each(|until| value["until"] = instant(*until));
        if !self.days.is_empty() {
            value["days"] = json!(self.days);
        }
        self.hours.iter().for_each(|(from, until)| value["hours"] = json!(format!("{from}-{until}")));
        value
    }
}

/// On the binary digits of addresses.
fn is_in(network: &str, source: &str) -> bool {
    let (address, bits) = network.split_once('/').map_or((network, None), |(address, bits)| (address, Some(bits)));
    let (address, source) = (digits(address), digits(source.strip_prefix("::ffff:").unwrap_or(source)));
    let bits = bits.map_or(address.len(), |bits| bits.parse().unwrap());
    address.len() == source.len() && address[..bits] == source[..bits]
}

fn digits(address: &str) -> String {
    match address.parse().unwrap() {
        std::net::IpAddr::V4(address) => format!("{:032b}", u32::from(address)),
        std::net::IpAddr::V6(address) => format!("{:0128b}", u128::from(address)),
    }
}

fn is_named(pattern: &str, sni: &str) -> bool {
    let sni = sni.to_lowercase();
    match pattern.strip_prefix("*.") {
        Some(parent) => sni.split_once('.').is_some_and(|(_, rest)| rest == parent),
        None => sni == pattern,
    }
}
