//! From what is written to what can be used.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use portcullis_policy::SpiffeId;
use portcullis_policy::schedule::Share;
use rustls::pki_types::DnsName;
use rustls::pki_types::ServerName;

use super::Bundle;
use super::Ca;
use super::Certificate;
use super::Config;
use super::Filter;
use super::Issuer;
use super::IssuerKind;
use super::ListSource;
use super::Listen;
use super::Revocation;
use super::RevocationList;
use super::authorities::authorities;
use super::authorities::is_trust_domain;
use super::calendar::Calendars;
use super::raw;
use crate::command::Usage;
use crate::issuer::BUILT_IN;
use crate::names::Names;
use crate::proof::ServedAt;
use crate::proof::host_of;
use crate::revocation;
use crate::revocation::Emptied;
use crate::revocation::ListAuthority;
use crate::trust::Handshake;
use crate::yaml::Located;
use crate::yaml::Source;

/// `sun_path` of Linux holds 108 bytes with the NUL at its end.
const SOCKET_PATH_BYTES: usize = 107;
/// As long as a DNS name may be: one that proxies ask for by server name has that name.
const LONGEST_NAME: usize = 253;
const DAY: i64 = 86_400;
pub(super) const SHORTEST_LIFETIME: i64 = 60;
const LONGEST_LIFETIME: i64 = 398 * DAY;
/// Ends of validity are four-digit years, far from the end of what the clock's types hold.
pub(super) const LONGEST_ROOT_LIFETIME: i64 = 100 * 366 * DAY;
const LONGEST_VERIFY: i64 = 30;
/// Less would be due again as soon as it is issued, because certificates begin a little before they are.
pub(super) const LEAST_SHARE: f64 = 0.2;

pub(super) struct Check<'a> {
    pub(super) source: &'a Source,
    pub(super) file: &'a Path,
    pub(super) base: &'a Path,
}

impl Check<'_> {
    pub(super) fn document(&self, raw: raw::Document) -> Result<Config, Located> {
        if raw.version != 1 {
            return Err(self.bad("version", "this agent reads version 1"));
        }
        let listen = self.listen(raw.listen)?;
        let ca = self.ca(raw.ca)?;
        let issuers = self.issuers(raw.issuers)?;
        let mut taken = BTreeMap::new();
        let mut certificates = Vec::with_capacity(raw.certificates.len());
        let mut directories = BTreeMap::new();
        let mut calendars = Calendars::new(self, &raw.renew_window, &raw.blackout)?;
        for (at, certificate) in raw.certificates.into_iter().enumerate() {
            let field = format!("certificates[{at}]");
            for certificate in self.certificates_of(certificate, &field, &ca, &issuers, &mut calendars)? {
                self.name(&mut taken, &certificate.name, &field)?;
                if let Some(files) = &certificate.files
                    && let Some(other) = directories.insert(files.directory.clone(), certificate.name.clone())
                {
                    let message =
                        format!("certificate `{other}` is written there already; give each its own directory");
                    return Err(self.bad(&format!("{field}.files.directory"), &message));
                }
                certificates.push(certificate);
            }
        }
        let mut bundles = Vec::with_capacity(raw.bundles.len());
        for (at, bundle) in raw.bundles.into_iter().enumerate() {
            let field = format!("bundles[{at}]");
            self.name(&mut taken, &bundle.name, &field)?;
            bundles.push(self.bundle(bundle, &field)?);
        }
        self.trusted_by(&mut certificates, &bundles)?;
        let revocation = self.revocation(raw.revocation)?;
        let filter = match raw.filter {
            None => None,
            Some(filter) => {
                let filter = Filter { name: filter.name, wasm: self.path(&filter.wasm) };
                filter.names().iter().try_for_each(|name| self.name(&mut taken, name, "filter"))?;
                Some(filter)
            }
        };
        if filter.is_some() && raw.policy.is_none() {
            return Err(self.bad("filter", "a filter needs a policy: add `policy: policy.yaml`"));
        }
        let longest = raw.credential_lifetime_max.as_deref();
        let credentials = self.credentials(raw.credentials, longest, filter.is_some(), &mut calendars)?;
        for (at, credential) in credentials.iter().enumerate() {
            let field = format!("credentials[{at}]");
            self.name(&mut taken, &credential.name, &field)?;
            if let Some(files) = &credential.files
                && let Some(other) = directories.insert(files.files.directory.clone(), credential.name.clone())
            {
                let message = format!("`{other}` is written there already; give each its own directory");
                return Err(self.bad(&format!("{field}.files.directory"), &message));
            }
        }
        let remedies = self.remedies(raw.remedies)?;
        let mut remarks = self.missing_programs(&certificates, &remedies);
        if filter.is_none() && raw.policy.is_some() {
            let message = "no `filter` gets the policy: it is neither read nor enforced";
            remarks.push(self.bad("policy", message));
        }
        let admin = raw.envoy.and_then(|envoy| envoy.admin);
        let envoy_admin = admin.map(|admin| self.address(&admin, "envoy.admin")).transpose()?;
        let verify_every = match raw.verify_every {
            None => LONGEST_VERIFY,
            Some(every) => self.duration(&every, "verify_every", 1, LONGEST_VERIFY)?,
        };
        Ok(Config {
            file: self.file.to_owned(),
            source: self.source.clone(),
            remarks,
            state_dir: self.path(raw.state_dir.as_deref().unwrap_or_else(|| Path::new("/var/lib/portcullis"))),
            policy: raw.policy.as_deref().map(|policy| self.path(policy)),
            listen,
            ca,
            issuers,
            certificates,
            credentials,
            seal_key: raw.seal_key_file.as_deref().map(|path| self.path(path)),
            remedies,
            bundles,
            revocation,
            filter,
            envoy_admin,
            verify_every: Duration::from_secs(verify_every.unsigned_abs()),
        })
    }

    fn revocation(&self, raw: raw::Revocation) -> Result<Revocation, Located> {
        let mut lists: Vec<RevocationList> = Vec::with_capacity(raw.lists.len());
        for (at, list) in raw.lists.into_iter().enumerate() {
            let field = |name: &str| format!("revocation.lists[{at}].{name}");
            if list.name.is_empty() || lists.iter().any(|other| other.name == list.name) {
                return Err(self.bad(&field("name"), "every list needs a name of its own"));
            }
            let ca = self.path(&list.ca);
            let refuse = |why: String| self.bad(&field("ca"), &format!("`{}` {why}", ca.display()));
            let pem = fs::read_to_string(&ca).map_err(|error| refuse(format!("cannot be read: {error}")))?;
            let authority = ListAuthority::from_pem(&pem).map_err(|error| refuse(error.to_string()))?;
            let emptied = if list.may_be_empty { Emptied::Taken } else { Emptied::Refused };
            let source = match (list.file, list.url) {
                (Some(file), None) => ListSource::File(self.path(&file)),
                (None, Some(url)) => {
                    let parsed = revocation::WANTED.parse(&url);
                    ListSource::Url(parsed.map_err(|why| self.bad(&field("url"), &format!("`{url}` {why}")))?)
                }
                _ => return Err(self.bad(&field("name"), "a list needs either a `file` or a `url`")),
            };
            lists.push(RevocationList { name: list.name, authority, source, emptied });
        }
        let handshake = if raw.handshake.unwrap_or(true) { Handshake::Refuses } else { Handshake::LeftToFilter };
        Ok(Revocation { when_stale: raw.when_stale, handshake, lists })
    }

    fn listen(&self, raw: raw::Listen) -> Result<Listen, Located> {
        let xds = self.socket(raw.xds, "listen.xds", "/run/portcullis/xds.sock")?;
        let control = self.socket(raw.control, "listen.control", "/run/portcullis/control.sock")?;
        if xds == control {
            return Err(self.bad("listen.control", "the same path as `listen.xds`; give it its own"));
        }
        let metrics = match raw.metrics {
            None => SocketAddr::from((Ipv4Addr::LOCALHOST, 9464)),
            Some(given) => self.address(&given, "listen.metrics")?,
        };
        if !metrics.ip().is_loopback() {
            let message =
                format!("`{metrics}` can be reached from outside; use a loopback address, as in `127.0.0.1:9464`");
            return Err(self.bad("listen.metrics", &message));
        }
        Ok(Listen { xds, control, metrics })
    }

    fn socket(&self, given: Option<PathBuf>, field: &str, default: &str) -> Result<PathBuf, Located> {
        let path = given.map_or_else(|| PathBuf::from(default), |given| self.path(&given));
        let length = path.as_os_str().len();
        if length > SOCKET_PATH_BYTES {
            let message = format!(
                "`{}` has {length} bytes, and a Unix socket's path {SOCKET_PATH_BYTES} at most; choose a shorter directory",
                path.display()
            );
            return Err(self.bad(field, &message));
        }
        Ok(path)
    }

    fn ca(&self, raw: raw::Ca) -> Result<Ca, Located> {
        let trust_domain = raw.trust_domain;
        if !is_trust_domain(&trust_domain) {
            let message =
                format!("`{trust_domain}` is not a SPIFFE trust domain: lower-case letters, digits, `.`, `-`, `_`");
            return Err(self.bad("ca.trust_domain", &message));
        }
        let root_lifetime = match raw.root_lifetime {
            None => 3650 * DAY,
            Some(given) => self.duration(&given, "ca.root_lifetime", SHORTEST_LIFETIME, LONGEST_ROOT_LIFETIME)?,
        };
        let rotate_root_after =
            raw.rotate_root_after.map(|given| self.share(given, "ca.rotate_root_after")).transpose()?;
        let intermediate = self.below(raw.root, raw.rotate_root_after, raw.intermediate)?;
        let constraints = self.constraints(raw.name_constraints)?;
        Ok(Ca { trust_domain, root_lifetime, rotate_root_after, root: raw.root, intermediate, constraints })
    }

    pub(super) fn certificate(
        &self,
        name: String,
        raw: raw::Certificate,
        field: &str,
        ca: &Ca,
        issuers: &[Issuer],
        calendars: &mut Calendars,
    ) -> Result<Certificate, Located> {
        let (issuer, fallback) = self.issuer_of(raw.issuer, raw.fallback, field, issuers)?;
        let usage = if raw.usage.is_empty() { vec![Usage::Server] } else { raw.usage };
        let names = Names::new(raw.spiffe, raw.dns, raw.ip, usage, &ca.trust_domain)
            .map_err(|error| self.bad(field, &error.to_string()))?;
        self.inside(&names, &issuer, fallback.as_ref(), field, ca)?;
        let lifetime = match &raw.lifetime {
            None => DAY,
            Some(given) => self.duration(given, &format!("{field}.lifetime"), SHORTEST_LIFETIME, LONGEST_LIFETIME)?,
        };
        if issuer == BUILT_IN || fallback.as_ref().is_some_and(|fallback| fallback.issuer == BUILT_IN) {
            self.ends_in_time(lifetime, field, ca)?;
        }
        let renew_after = match raw.renew_after {
            None if issuers.iter().any(|of| of.name == issuer && matches!(of.kind, IssuerKind::Directory(_))) => {
                Share::FOUR_FIFTHS
            }
            None => Share::TWO_THIRDS,
            Some(given) => self.share(given, &format!("{field}.renew_after"))?,
        };
        // What others issue lives as long as they say, if nothing is asked for.
        let known = raw.lifetime.as_ref().map(|_| lifetime).or_else(|| (issuer == BUILT_IN).then_some(lifetime));
        let calendar = calendars.of(self, raw.renew_window.as_deref(), raw.blackout.as_deref(), known, field)?;
        let files = raw.files.map(|files| self.files(files, &format!("{field}.files"))).transpose()?;
        if !raw.served_at.is_empty() && !names.usage().contains(&Usage::Server) {
            let message = "only a certificate with usage `server` is served at a listener";
            return Err(self.bad(&format!("{field}.served_at"), message));
        }
        let hooks = self.hooks(raw.hooks, field)?;
        let reload = raw.reload.map(|reload| self.reload(reload));
        let roll_back_after = raw.roll_back_after;
        if roll_back_after == Some(0) || roll_back_after.is_some() && raw.served_at.is_empty() {
            let message = "attempts are counted from 1, and need `served_at` to tell whether it is served";
            return Err(self.bad(&format!("{field}.roll_back_after"), message));
        }
        for (at, served) in raw.served_at.iter().enumerate() {
            let (host, port) = served.address.rsplit_once(':').unwrap_or_default();
            if host.is_empty() || !port.parse::<u16>().is_ok_and(|port| port != 0) {
                let message = format!("`{}` is not an address with a port, as in `127.0.0.1:10443`", served.address);
                return Err(self.bad(&format!("{field}.served_at[{at}].address"), &message));
            }
            self.server_name(served, &format!("{field}.served_at[{at}]"))?;
        }
        Ok(Certificate {
            name,
            issuer,
            fallback,
            names,
            when_a_name_fails: raw.when_a_name_fails,
            lifetime,
            renew_after,
            calendar,
            files,
            hooks,
            reload,
            roll_back_after,
            trusted_by: raw.trusted_by,
            served_at: raw.served_at,
        })
    }

    /// A name that no handshake can ask for would only be found out by the first one.
    fn server_name(&self, served: &ServedAt, field: &str) -> Result<(), Located> {
        match &served.sni {
            // RFC 6066 §3: a DNS name, never an address.
            Some(sni) if DnsName::try_from(sni.as_str()).is_err() => {
                let message = format!("`{sni}` is not a DNS name, as in `orders.acme.example`");
                Err(self.bad(&format!("{field}.sni"), &message))
            }
            None if ServerName::try_from(host_of(&served.address)).is_err() => {
                let message = format!("`{}` begins with neither a DNS name nor an IP address", served.address);
                Err(self.bad(&format!("{field}.address"), &message))
            }
            _ => Ok(()),
        }
    }

    fn bundle(&self, raw: raw::Bundle, field: &str) -> Result<Bundle, Located> {
        if let Some(ca) = raw.ca.filter(|ca| ca != "built-in") {
            return Err(self.bad(&format!("{field}.ca"), &format!("`{ca}` is not a CA of this agent; `built-in` is")));
        }
        for (at, id) in raw.spiffe.iter().enumerate() {
            if SpiffeId::parse(id).is_none() {
                let message = format!("`{id}` is not a SPIFFE ID, as in `spiffe://acme.example/upstream`");
                return Err(self.bad(&format!("{field}.spiffe[{at}]"), &message));
            }
        }
        let mut also = Vec::new();
        for (at, file) in raw.also.iter().enumerate() {
            let file = self.path(file);
            let refuse = |why: String| self.bad(&format!("{field}.also[{at}]"), &format!("`{}` {why}", file.display()));
            let pem = fs::read_to_string(&file).map_err(|error| refuse(format!("cannot be read: {error}")))?;
            let chain = authorities(&pem).map_err(refuse)?;
            also.extend(chain);
        }
        Ok(Bundle { name: raw.name, also, spiffe: raw.spiffe })
    }

    /// Looks whether a name is one and is free; `taken` maps names to the fields that took them.
    fn name(&self, taken: &mut BTreeMap<String, String>, name: &str, field: &str) -> Result<(), Located> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let good = (1..=LONGEST_NAME).contains(&name.len())
            && name.bytes().all(plain)
            && name.starts_with(|first: char| first.is_ascii_alphanumeric());
        let place = format!("{field}.name");
        if !good {
            let message = format!("`{name}` is not a name: letters, digits, `-`, `_`, `.`, {LONGEST_NAME} at most");
            return Err(self.bad(&place, &message));
        }
        match taken.insert(name.to_owned(), field.to_owned()) {
            None => Ok(()),
            Some(first) => {
                let message = format!("`{name}` is the name of `{first}`; proxies tell resources apart by name");
                Err(self.bad(&place, &message))
            }
        }
    }

    fn address(&self, given: &str, field: &str) -> Result<SocketAddr, Located> {
        let local = given.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
        local.as_deref().unwrap_or(given).parse().map_err(|_| {
            let message = format!("`{given}` is not an IP address with a port, as in `127.0.0.1:9464`");
            self.bad(field, &message)
        })
    }

    pub(super) fn duration(&self, given: &str, field: &str, least: i64, most: i64) -> Result<i64, Located> {
        let seconds = parse_duration(given)
            .ok_or_else(|| self.bad(field, &format!("`{given}` is not a duration, as in `30s`, `5m`, `24h`, `7d`")))?;
        if !(least..=most).contains(&seconds) {
            return Err(self.bad(field, &format!("`{given}` is out of range: {least}s to {most}s")));
        }
        Ok(seconds)
    }

    pub(super) fn path(&self, path: &Path) -> PathBuf {
        self.base.join(path)
    }

    pub(super) fn bad(&self, field: &str, message: &str) -> Located {
        self.source.error_at(field, message)
    }
}

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
