//! How records come into the DNS, as it is written and as it is checked.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::Deserializer;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Visitor;
use serde::de::value::MapAccessDeserializer;
use serde::de::value::SeqAccessDeserializer;

use super::check::Check;
use crate::issuer::acme;
use crate::issuer::acme::Challenge;
use crate::issuer::acme::Tsig;
use crate::issuer::acme::TsigAlgorithm;
use crate::issuer::acme::Update;
use crate::names::is_dns_name;
use crate::secret::Secret;
use crate::yaml::Located;

/// Until every server shows a record, at most, where nothing is said.
const WITHIN: &str = "2m";
const LONGEST_WITHIN: i64 = 3_600;

/// A program alone, or all there is to say.
pub(super) enum Dns01 {
    Program(Vec<String>),
    Settings(Box<Settings>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    hook: Option<Vec<String>>,
    rfc2136: Option<Rfc2136>,
    #[serde(default)]
    servers: Vec<String>,
    check: Option<bool>,
    within: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rfc2136 {
    server: String,
    zone: String,
    tsig: Option<TsigKey>,
    resolver: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TsigKey {
    name: String,
    #[serde(default)]
    algorithm: TsigAlgorithm,
    secret_file: PathBuf,
}

impl<'de> Deserialize<'de> for Dns01 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Dns01;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a program with its arguments, or a map with `hook` or `rfc2136`")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, sequence: A) -> Result<Dns01, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(sequence)).map(Dns01::Program)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Dns01, A::Error> {
                Settings::deserialize(MapAccessDeserializer::new(map))
                    .map(|settings| Dns01::Settings(Box::new(settings)))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl Check<'_> {
    pub(super) fn dns01(&self, raw: Dns01, field: &str) -> Result<Challenge, Located> {
        let hook = |argv| Challenge::dns_hook(argv).map_err(|error| self.bad(field, &error.to_string()));
        let raw = match raw {
            Dns01::Program(argv) => return hook(argv),
            Dns01::Settings(raw) => *raw,
        };
        let place = format!("{field}.within");
        let within = self.duration(raw.within.as_deref().unwrap_or(WITHIN), &place, 1, LONGEST_WITHIN)?;
        let wait = Duration::from_secs(within.unsigned_abs());
        let servers =
            raw.servers.iter().enumerate().map(|(at, given)| self.server_at(given, &format!("{field}.servers[{at}]")));
        let servers: Vec<SocketAddr> = servers.collect::<Result<_, _>>()?;
        let wanted = match (raw.check, servers.is_empty()) {
            (Some(false), _) => acme::Check::Off,
            (_, false) => acme::Check::Servers(servers, wait),
            (_, true) => acme::Check::OfZone(wait),
        };
        match (raw.hook, raw.rfc2136) {
            (Some(_), None) if raw.check == Some(true) && raw.servers.is_empty() => {
                Err(self.bad(&format!("{field}.check"), "say which servers have to show the records: `servers`"))
            }
            (Some(argv), None) => match hook(argv)? {
                Challenge::Dns01Hook { argv, within, .. } => Ok(Challenge::Dns01Hook { argv, within, check: wanted }),
                other => Ok(other),
            },
            (None, Some(update)) => {
                let update = self.update(update, &format!("{field}.rfc2136"))?;
                Ok(Challenge::Dns01Update { update, check: wanted })
            }
            _ => Err(self.bad(field, "say how records come into the DNS: either `hook` or `rfc2136`")),
        }
    }

    fn update(&self, raw: Rfc2136, field: &str) -> Result<Update, Located> {
        let server = self.server_at(&raw.server, &format!("{field}.server"))?;
        let resolver = raw.resolver.map(|given| self.server_at(&given, &format!("{field}.resolver"))).transpose()?;
        let tsig = match raw.tsig {
            None => None,
            Some(key) => {
                let path = self.path(&key.secret_file);
                let secret = Secret::read(&path).map_err(|error| {
                    let message = format!("`{}` cannot be read: {error}", path.display());
                    self.bad(&format!("{field}.tsig.secret_file"), &message)
                })?;
                if STANDARD.decode(secret.expose()).is_err() {
                    // The secret itself is not repeated.
                    let message = format!("`{}` is not a key in base64, as `tsig-keygen` prints it", path.display());
                    return Err(self.bad(&format!("{field}.tsig.secret_file"), &message));
                }
                self.dns_name(&key.name, &format!("{field}.tsig.name"))?;
                Some(Tsig { name: key.name, algorithm: key.algorithm, secret })
            }
        };
        self.dns_name(&raw.zone, &format!("{field}.zone"))?;
        Ok(Update { server, zone: raw.zone, tsig, resolver })
    }

    fn dns_name(&self, given: &str, field: &str) -> Result<(), Located> {
        if is_dns_name(given.strip_suffix('.').unwrap_or(given)) {
            return Ok(());
        }
        Err(self.bad(field, &format!("`{given}` is not a DNS name, as in `acme.example`")))
    }

    pub(super) fn server_at(&self, given: &str, field: &str) -> Result<SocketAddr, Located> {
        given.parse().map_err(|_| {
            let message = format!("`{given}` is not an IP address with a port, as in `192.0.2.1:53`");
            self.bad(field, &message)
        })
    }
}
