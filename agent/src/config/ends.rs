//! Where a credential comes from, and whom it is set on.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::check::Check;
use super::raw;
use crate::credential::source;
use crate::credential::source::BaoSettings;
use crate::credential::source::ClientAuth;
use crate::credential::source::Field;
use crate::credential::source::Grant;
use crate::credential::source::OauthSettings;
use crate::credential::target;
use crate::credential::target::ClientPair;
use crate::credential::target::Persist;
use crate::credential::target::Place;
use crate::credential::target::Tls;
use crate::credential::target::Verify;
use crate::hook::When;
use crate::openbao::Server;
use crate::yaml::Located;

/// Seconds that a step may take, if nothing is said.
const STEP: i64 = 10;
const LONGEST_STEP: i64 = 300;
const POSTGRES_PORT: u16 = 5432;
const REDIS_PORT: u16 = 6379;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub(super) enum Source {
    Oauth(Oauth),
    OpenbaoDatabase(BaoRole),
    OpenbaoKv(BaoKv),
    OpenbaoStatic(BaoRole),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BaoRole {
    address: String,
    server_ca: Option<PathBuf>,
    namespace: Option<String>,
    mount: Option<String>,
    role: String,
    login: raw::BaoLogin,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BaoKv {
    address: String,
    server_ca: Option<PathBuf>,
    namespace: Option<String>,
    mount: Option<String>,
    path: String,
    field: Option<String>,
    account_field: Option<String>,
    login: raw::BaoLogin,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Oauth {
    token_endpoint: String,
    server_ca: Option<PathBuf>,
    client: OauthClient,
    token_exchange: Option<Exchange>,
    scope: Option<String>,
    #[serde(default)]
    audience: Vec<String>,
    #[serde(default)]
    resource: Vec<String>,
    timeout: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum OauthClient {
    ClientSecretBasic(ClientSecret),
    ClientSecretPost(ClientSecret),
    PrivateKeyJwt(PrivateKeyJwt),
    TlsClientAuth(TlsClient),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientSecret {
    id: String,
    secret_file: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PrivateKeyJwt {
    id: String,
    key: PathBuf,
    key_id: Option<String>,
    audience: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsClient {
    id: String,
    certificate: PathBuf,
    key: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exchange {
    subject_token_file: PathBuf,
    subject_token_type: Option<String>,
    requested_token_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub(super) enum Target {
    Postgres(Postgres),
    Program(Program),
    Redis(Redis),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Postgres {
    address: Option<String>,
    socket: Option<PathBuf>,
    tls: Option<TlsMode>,
    server_ca: Option<PathBuf>,
    client_certificate: Option<PathBuf>,
    client_key: Option<PathBuf>,
    database: Option<String>,
    user: String,
    password_file: Option<PathBuf>,
    test_database: Option<String>,
    timeout: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Redis {
    address: Option<String>,
    socket: Option<PathBuf>,
    tls: Option<TlsMode>,
    server_ca: Option<PathBuf>,
    client_certificate: Option<PathBuf>,
    client_key: Option<PathBuf>,
    user: Option<String>,
    password_file: Option<PathBuf>,
    persist: Option<PersistIn>,
    timeout: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Program {
    run: Vec<String>,
    timeout: Option<String>,
    #[serde(default)]
    keeps_two: bool,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum TlsMode {
    Plain,
    Require,
    VerifyFull,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PersistIn {
    AclFile,
    ConfigFile,
    Nowhere,
}

/// What the two databases have in common.
struct Way {
    address: Option<String>,
    socket: Option<PathBuf>,
    tls: Option<TlsMode>,
    server_ca: Option<PathBuf>,
    client_certificate: Option<PathBuf>,
    client_key: Option<PathBuf>,
    port: u16,
}

impl Check<'_> {
    pub(super) fn credential_source(&self, raw: Source, field: &str) -> Result<source::Settings, Located> {
        Ok(match raw {
            Source::Oauth(raw) => source::Settings::Oauth(self.oauth(raw, &format!("{field}.oauth"))?),
            Source::OpenbaoDatabase(raw) => {
                source::Settings::OpenbaoDatabase(self.bao_role(raw, &format!("{field}.openbao_database"))?)
            }
            Source::OpenbaoKv(raw) => {
                let (settings, part) = self.bao_kv(raw, &format!("{field}.openbao_kv"))?;
                source::Settings::OpenbaoKv(settings, part)
            }
            Source::OpenbaoStatic(raw) => {
                source::Settings::OpenbaoStatic(self.bao_role(raw, &format!("{field}.openbao_static"))?)
            }
        })
    }

    pub(super) fn credential_target(&self, raw: Target, field: &str) -> Result<target::Target, Located> {
        Ok(match raw {
            Target::Postgres(raw) => target::Target::Postgres(self.postgres(raw, &format!("{field}.postgres"))?),
            Target::Program(raw) => target::Target::Program(self.program(raw, &format!("{field}.program"))?),
            Target::Redis(raw) => target::Target::Redis(self.redis(raw, &format!("{field}.redis"))?),
        })
    }

    fn bao_role(&self, raw: BaoRole, field: &str) -> Result<BaoSettings, Located> {
        let mount = raw.mount.unwrap_or_else(|| "database".to_owned());
        self.bao_path(&mount, &format!("{field}.mount"))?;
        self.bao_path(&raw.role, &format!("{field}.role"))?;
        let server = Server {
            address: self.server(&raw.address, &format!("{field}.address"))?,
            roots: self.server_roots(raw.server_ca.as_deref(), field)?,
            namespace: raw.namespace,
            login: self.bao_login(raw.login),
        };
        Ok(BaoSettings { server, mount, name: raw.role })
    }

    fn bao_kv(&self, raw: BaoKv, field: &str) -> Result<(BaoSettings, Field), Located> {
        let mount = raw.mount.unwrap_or_else(|| "secret".to_owned());
        self.bao_path(&mount, &format!("{field}.mount"))?;
        self.bao_path(&raw.path, &format!("{field}.path"))?;
        let part = match (raw.field, raw.account_field) {
            (None, None) => Field::Everything,
            (Some(secret), account) => Field::One { secret, account },
            (None, Some(_)) => {
                return Err(self.bad(&format!("{field}.account_field"), "say which `field` holds the secret too"));
            }
        };
        let server = Server {
            address: self.server(&raw.address, &format!("{field}.address"))?,
            roots: self.server_roots(raw.server_ca.as_deref(), field)?,
            namespace: raw.namespace,
            login: self.bao_login(raw.login),
        };
        Ok((BaoSettings { server, mount, name: raw.path }, part))
    }

    fn oauth(&self, raw: Oauth, field: &str) -> Result<OauthSettings, Located> {
        let client = match raw.client {
            OauthClient::ClientSecretBasic(ClientSecret { id, secret_file }) => {
                ClientAuth::Basic { id, secret: self.path(&secret_file) }
            }
            OauthClient::ClientSecretPost(ClientSecret { id, secret_file }) => {
                ClientAuth::Post { id, secret: self.path(&secret_file) }
            }
            OauthClient::PrivateKeyJwt(PrivateKeyJwt { id, key, key_id, audience }) => {
                ClientAuth::Jwt { id, key: self.path(&key), key_id, audience }
            }
            OauthClient::TlsClientAuth(TlsClient { id, certificate, key }) => {
                ClientAuth::Tls { id, certificate: self.path(&certificate), key: self.path(&key) }
            }
        };
        let grant = raw.token_exchange.map_or(Grant::ClientCredentials, |exchange| Grant::TokenExchange {
            subject_token: self.path(&exchange.subject_token_file),
            subject_token_type: exchange
                .subject_token_type
                .unwrap_or_else(|| "urn:ietf:params:oauth:token-type:jwt".to_owned()),
            requested_token_type: exchange.requested_token_type,
        });
        let token_endpoint = self.server(&raw.token_endpoint, &format!("{field}.token_endpoint"))?;
        if token_endpoint.scheme() != "https" && matches!(client, ClientAuth::Tls { .. }) {
            let message = "a client with a certificate needs a server with `https`";
            return Err(self.bad(&format!("{field}.token_endpoint"), message));
        }
        Ok(OauthSettings {
            token_endpoint,
            roots: self.server_roots(raw.server_ca.as_deref(), field)?,
            grant,
            client,
            scope: raw.scope,
            audience: raw.audience,
            resource: raw.resource,
            timeout: self.step(raw.timeout.as_deref(), field)?,
        })
    }

    fn postgres(&self, raw: Postgres, field: &str) -> Result<target::Postgres, Located> {
        let way = Way {
            address: raw.address,
            socket: raw.socket,
            tls: raw.tls,
            server_ca: raw.server_ca,
            client_certificate: raw.client_certificate,
            client_key: raw.client_key,
            port: POSTGRES_PORT,
        };
        Ok(target::Postgres {
            place: self.way(way, field)?,
            database: raw.database.unwrap_or_else(|| "postgres".to_owned()),
            user: raw.user,
            password: raw.password_file.map(|file| self.path(&file)),
            test_database: raw.test_database,
            timeout: self.step(raw.timeout.as_deref(), field)?,
        })
    }

    fn redis(&self, raw: Redis, field: &str) -> Result<target::Redis, Located> {
        let way = Way {
            address: raw.address,
            socket: raw.socket,
            tls: raw.tls,
            server_ca: raw.server_ca,
            client_certificate: raw.client_certificate,
            client_key: raw.client_key,
            port: REDIS_PORT,
        };
        Ok(target::Redis {
            place: self.way(way, field)?,
            user: raw.user.unwrap_or_else(|| "default".to_owned()),
            password: raw.password_file.map(|file| self.path(&file)),
            persist: match raw.persist {
                None => Persist::WhatThereIs,
                Some(PersistIn::AclFile) => Persist::AclFile,
                Some(PersistIn::ConfigFile) => Persist::ConfigFile,
                Some(PersistIn::Nowhere) => Persist::Nowhere,
            },
            timeout: self.step(raw.timeout.as_deref(), field)?,
        })
    }

    fn program(&self, raw: Program, field: &str) -> Result<target::Program, Located> {
        let Program { run, timeout, keeps_two } = raw;
        let run = self.hook(raw::Hook { run, timeout, when: When::default() }, field)?;
        Ok(target::Program { run, keeps_two })
    }

    /// Plain connections carry verifiers and passwords to this machine only.
    fn way(&self, way: Way, field: &str) -> Result<Place, Located> {
        let Way { address, socket, tls, server_ca, client_certificate, client_key, port } = way;
        let roots = self.server_roots(server_ca.as_deref(), field)?;
        let client = match (client_certificate, client_key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => {
                Some(ClientPair { certificate: self.path(&certificate), key: self.path(&key) })
            }
            _ => return Err(self.bad(field, "name both, `client_certificate` and `client_key`, or neither")),
        };
        let has_tls = tls.is_some_and(|tls| tls != TlsMode::Plain) || roots.is_some() || client.is_some();
        let address = match (address, socket) {
            (Some(address), None) => address,
            (None, Some(_)) if has_tls => return Err(self.bad(field, "there is no tls on a Unix socket")),
            (None, Some(socket)) => return Ok(Place::Unix(self.path(&socket))),
            _ => return Err(self.bad(field, "say where it is: an `address` or a `socket`")),
        };
        let place = format!("{field}.address");
        let (host, port) = host_and_port(&address, port).ok_or_else(|| {
            self.bad(&place, &format!("`{address}` is not a host with a port, as in `db.acme.example:{port}`"))
        })?;
        let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        let verify = match tls {
            None if is_here && !has_tls => None,
            Some(TlsMode::Plain) if is_here && !has_tls => None,
            Some(TlsMode::Plain) if is_here => {
                return Err(self.bad(&format!("{field}.tls"), "`plain` uses neither authorities nor certificates"));
            }
            Some(TlsMode::Plain) => {
                return Err(self.bad(&format!("{field}.tls"), "`plain` is taken for loopback hosts only"));
            }
            Some(TlsMode::Require) if roots.is_none() => {
                let message = "`require` takes any server of one authority: name it in `server_ca`";
                return Err(self.bad(&format!("{field}.tls"), message));
            }
            Some(TlsMode::Require) => Some(Verify::Chain),
            None | Some(TlsMode::VerifyFull) => Some(Verify::Full),
        };
        Ok(Place::Tcp { host, port, tls: verify.map(|verify| Tls { roots, verify, client }) })
    }

    fn step(&self, given: Option<&str>, field: &str) -> Result<Duration, Located> {
        let seconds = match given {
            None => STEP,
            Some(given) => self.duration(given, &format!("{field}.timeout"), 1, LONGEST_STEP)?,
        };
        Ok(Duration::from_secs(seconds.unsigned_abs()))
    }
}

/// `host`, `host:port`, `[::1]` or `[::1]:port`.
fn host_and_port(text: &str, port: u16) -> Option<(String, u16)> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(text) => text.split_once(']')?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = match rest {
        "" => port,
        rest => rest.strip_prefix(':')?.parse().ok().filter(|port| *port != 0)?,
    };
    let is_good = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_' | ':');
    (!host.is_empty() && host.chars().all(is_good)).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests;
