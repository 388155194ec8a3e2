//! From what is written to what can be used.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use portcullis_policy::SpiffeId;
use portcullis_policy::schedule::Share;
use serde_saphyr::Spanned;

use super::Bundle;
use super::Ca;
use super::Certificate;
use super::Config;
use super::ConfigError;
use super::Files;
use super::Filter;
use super::Listen;
use super::Place;
use super::raw;
use crate::command::Usage;
use crate::names::Names;

/// `sun_path` of Linux holds 108 bytes with the NUL at its end.
const SOCKET_PATH_BYTES: usize = 107;
const DAY: i64 = 86_400;
const SHORTEST_LIFETIME: i64 = 60;
const LONGEST_LIFETIME: i64 = 398 * DAY;
/// Ends of validity are four-digit years, far from the end of what the clock types hold.
const LONGEST_ROOT_LIFETIME: i64 = 100 * 366 * DAY;
const LONGEST_VERIFY: i64 = 30;

pub(super) struct Check<'a> {
    pub(super) file: &'a Path,
    pub(super) base: &'a Path,
}

impl Check<'_> {
    pub(super) fn document(&self, raw: raw::Document) -> Result<Config, ConfigError> {
        if raw.version.value != 1 {
            return Err(self.bad(&raw.version, "version", "this agent reads version 1"));
        }
        let listen = self.listen(raw.listen)?;
        let ca = self.ca(raw.ca)?;
        let mut names = Taken::default();
        let mut certificates = Vec::with_capacity(raw.certificates.len());
        let mut directories = BTreeMap::new();
        for (at, certificate) in raw.certificates.into_iter().enumerate() {
            let field = format!("certificates[{at}]");
            self.name(&mut names, &certificate.name, &field)?;
            if let Some(files) = &certificate.files {
                let directory = self.path(&files.directory.value);
                if let Some(other) = directories.insert(directory, certificate.name.value.clone()) {
                    let message =
                        format!("certificate `{other}` is written there already; give each its own directory");
                    return Err(self.bad(&files.directory, &format!("{field}.files.directory"), &message));
                }
            }
            certificates.push(self.certificate(certificate, &field, &ca)?);
        }
        let mut bundles = Vec::with_capacity(raw.bundles.len());
        for (at, bundle) in raw.bundles.into_iter().enumerate() {
            let field = format!("bundles[{at}]");
            self.name(&mut names, &bundle.name, &field)?;
            bundles.push(self.bundle(bundle, &field)?);
        }
        let filter = match raw.filter {
            None => None,
            Some(filter) => {
                self.name(&mut names, &filter.name, "filter")?;
                Some(Filter { name: filter.name.value, wasm: self.path(&filter.wasm) })
            }
        };
        let policy = raw.policy.as_ref().map(|policy| self.path(&policy.value));
        if filter.is_some() && policy.is_none() {
            return Err(self.whole("policy", "a filter needs a policy: add `policy: policy.yaml`"));
        }
        let envoy_admin = match raw.envoy.and_then(|envoy| envoy.admin) {
            None => None,
            Some(admin) => Some(self.address(&admin, "envoy.admin")?),
        };
        let verify_every = match raw.verify_every {
            None => LONGEST_VERIFY,
            Some(every) => self.duration(&every, "verify_every", 1, LONGEST_VERIFY)?,
        };
        Ok(Config {
            file: self.file.to_owned(),
            state_dir: self.path(raw.state_dir.as_deref().unwrap_or_else(|| Path::new("/var/lib/portcullis"))),
            policy,
            listen,
            ca,
            certificates,
            bundles,
            filter,
            envoy_admin,
            verify_every: Duration::from_secs(verify_every.unsigned_abs()),
        })
    }

    fn listen(&self, raw: raw::Listen) -> Result<Listen, ConfigError> {
        let socket = |given: Option<Spanned<PathBuf>>, field: &str, default: &str| match given {
            None => Ok(PathBuf::from(default)),
            Some(given) => {
                let path = self.path(&given.value);
                let length = path.as_os_str().len();
                if length > SOCKET_PATH_BYTES {
                    let message = format!(
                        "`{}` has {length} bytes, a Unix socket's path {SOCKET_PATH_BYTES} at most; choose a shorter directory",
                        path.display()
                    );
                    return Err(self.bad(&given, field, &message));
                }
                Ok(path)
            }
        };
        let xds = socket(raw.xds, "listen.xds", "/run/portcullis/xds.sock")?;
        let place = raw.control.as_ref().and_then(|control| Place::of(&control.referenced));
        let control = socket(raw.control, "listen.control", "/run/portcullis/control.sock")?;
        if xds == control {
            return Err(self.value(place, "listen.control", "the same path as `listen.xds`; give it its own"));
        }
        let metrics = match raw.metrics {
            None => SocketAddr::from((Ipv4Addr::LOCALHOST, 9464)),
            Some(given) => {
                let address = self.address(&given, "listen.metrics")?;
                if !address.ip().is_loopback() {
                    let message = format!(
                        "`{address}` can be reached from outside; use a loopback address, as in `127.0.0.1:9464`"
                    );
                    return Err(self.bad(&given, "listen.metrics", &message));
                }
                address
            }
        };
        Ok(Listen { xds, control, metrics })
    }

    fn ca(&self, raw: raw::Ca) -> Result<Ca, ConfigError> {
        let trust_domain = raw.trust_domain.value.clone();
        if SpiffeId::parse(&format!("spiffe://{trust_domain}/x")).is_none_or(|id| id.trust_domain() != trust_domain) {
            let message =
                format!("`{trust_domain}` is not a SPIFFE trust domain: lower-case letters, digits, `.`, `-`, `_`");
            return Err(self.bad(&raw.trust_domain, "ca.trust_domain", &message));
        }
        let root_lifetime = match raw.root_lifetime {
            None => 3650 * DAY,
            Some(given) => self.duration(&given, "ca.root_lifetime", SHORTEST_LIFETIME, LONGEST_ROOT_LIFETIME)?,
        };
        Ok(Ca { trust_domain, root_lifetime })
    }

    fn certificate(&self, raw: raw::Certificate, field: &str, ca: &Ca) -> Result<Certificate, ConfigError> {
        let usage = if raw.usage.is_empty() { vec![Usage::Server] } else { raw.usage };
        let names = Names::new(raw.spiffe, raw.dns, raw.ip, usage, &ca.trust_domain)
            .map_err(|error| self.bad(&raw.name, field, &error.to_string()))?;
        let lifetime = match &raw.lifetime {
            None => DAY,
            Some(given) => self.duration(given, &format!("{field}.lifetime"), SHORTEST_LIFETIME, LONGEST_LIFETIME)?,
        };
        let renew_after = match &raw.renew_after {
            None => Share::TWO_THIRDS,
            Some(given) => Share::new(given.value).ok_or_else(|| {
                let message = format!("`{}` is not a share of the lifetime: more than 0 and less than 1", given.value);
                self.bad(given, &format!("{field}.renew_after"), &message)
            })?,
        };
        let files = raw.files.map(|files| self.files(files, &format!("{field}.files"))).transpose()?;
        if !raw.served_at.is_empty() && !names.usage().contains(&Usage::Server) {
            let message = "only a certificate with usage `server` is served at a listener";
            return Err(self.bad(&raw.served_at[0], &format!("{field}.served_at"), message));
        }
        for (at, served) in raw.served_at.iter().enumerate() {
            let has_port = served
                .value
                .address
                .rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0));
            if !has_port {
                let message =
                    format!("`{}` is not an address with a port, as in `127.0.0.1:10443`", served.value.address);
                return Err(self.bad(served, &format!("{field}.served_at[{at}].address"), &message));
            }
        }
        let served_at = raw.served_at.into_iter().map(|served| served.value).collect();
        Ok(Certificate { name: raw.name.value, names, lifetime, renew_after, files, served_at })
    }

    fn files(&self, raw: raw::Files, field: &str) -> Result<Files, ConfigError> {
        let keep = match &raw.keep {
            None => 3,
            Some(given) if (1..=100).contains(&given.value) => given.value as usize,
            Some(given) => return Err(self.bad(given, &format!("{field}.keep"), "keep 1 to 100 generations")),
        };
        let mode = match &raw.mode {
            None => 0o600,
            Some(given) => u32::from_str_radix(&given.value, 8)
                .ok()
                .filter(|mode| mode & !0o640 == 0 && mode & 0o400 != 0)
                .ok_or_else(|| {
                    let message = format!(
                        "`{}` is not a mode for a private key: \"0600\", or \"0640\" to let the group read",
                        given.value
                    );
                    self.bad(given, &format!("{field}.mode"), &message)
                })?,
        };
        Ok(Files { directory: self.path(&raw.directory.value), keep, mode })
    }

    fn bundle(&self, raw: raw::Bundle, field: &str) -> Result<Bundle, ConfigError> {
        if let Some(ca) = raw.ca.as_ref().filter(|ca| ca.value != "built-in") {
            let message = format!("`{}` is not a CA of this agent; `built-in` is", ca.value);
            return Err(self.bad(ca, &format!("{field}.ca"), &message));
        }
        for (at, id) in raw.spiffe.iter().enumerate() {
            if SpiffeId::parse(&id.value).is_none() {
                let message = format!("`{}` is not a SPIFFE ID, as in `spiffe://acme.example/upstream`", id.value);
                return Err(self.bad(id, &format!("{field}.spiffe[{at}]"), &message));
            }
        }
        Ok(Bundle { name: raw.name.value, spiffe: raw.spiffe.into_iter().map(|id| id.value).collect() })
    }

    fn name(&self, taken: &mut Taken, name: &Spanned<String>, field: &str) -> Result<(), ConfigError> {
        let field = format!("{field}.name");
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let good = (1..=63).contains(&name.value.len())
            && name.value.bytes().all(plain)
            && name.value.starts_with(|first: char| first.is_ascii_alphanumeric());
        if !good {
            let message = format!("`{}` is not a name: letters, digits, `-`, `_`, `.`, 63 at most", name.value);
            return Err(self.bad(name, &field, &message));
        }
        let line = Place::of(&name.referenced).map_or(0, |place| place.line);
        if let Some(first) = taken.0.insert(name.value.clone(), line) {
            let message = format!("`{}` is taken by line {first}; proxies tell resources apart by name", name.value);
            return Err(self.bad(name, &field, &message));
        }
        Ok(())
    }

    fn address(&self, given: &Spanned<String>, field: &str) -> Result<SocketAddr, ConfigError> {
        let text = given.value.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
        text.as_ref().unwrap_or(&given.value).parse().map_err(|_| {
            let message = format!("`{}` is not an IP address with a port, as in `127.0.0.1:9464`", given.value);
            self.bad(given, field, &message)
        })
    }

    fn duration(&self, given: &Spanned<String>, field: &str, least: i64, most: i64) -> Result<i64, ConfigError> {
        let seconds = parse_duration(&given.value).ok_or_else(|| {
            self.bad(given, field, &format!("`{}` is not a duration, as in `30s`, `5m`, `24h`, `7d`", given.value))
        })?;
        if !(least..=most).contains(&seconds) {
            let message = format!("`{}` is out of range: {least}s to {most}s", given.value);
            return Err(self.bad(given, field, &message));
        }
        Ok(seconds)
    }

    fn path(&self, path: &Path) -> PathBuf {
        self.base.join(path)
    }

    fn bad<T>(&self, at: &Spanned<T>, field: &str, message: &str) -> ConfigError {
        self.value(Place::of(&at.referenced), field, message)
    }

    fn whole(&self, field: &str, message: &str) -> ConfigError {
        self.value(None, field, message)
    }

    fn value(&self, place: Option<Place>, field: &str, message: &str) -> ConfigError {
        ConfigError::Value { path: self.file.to_owned(), place, field: field.to_owned(), message: message.to_owned() }
    }
}

/// Names of resources and the lines that they stand in.
#[derive(Default)]
struct Taken(BTreeMap<String, u64>);

/// Seconds in `30s`, `5m`, `24h`, `7d`.
pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => DAY,
        _ => return None,
    };
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    number.parse::<i64>().ok()?.checked_mul(unit)
}
