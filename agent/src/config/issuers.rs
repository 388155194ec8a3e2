//! Who signs beside the built-in CA, and whom a certificate asks.

use std::path::Path;

use portcullis_policy::schedule::Share;
use reqwest::Url;
use rustls::pki_types::CertificateDer;

use super::Acme;
use super::check::Check;
use super::raw;
use crate::issuer::BUILT_IN;
use crate::issuer::Roots;
use crate::issuer::RootsError;
use crate::issuer::directory;
use crate::issuer::openbao;
use crate::leaf;
use crate::yaml::Located;

/// Left of a lifetime when the fallback is asked, where nothing is said.
const BELOW: f64 = 0.1;

/// Somebody who signs.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// Its name.
    pub name: String,
    /// What its certificates lead to.
    pub roots: Roots,
    /// How it is asked.
    pub kind: IssuerKind,
}

/// How an issuer is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IssuerKind {
    /// An ACME server (RFC 8555).
    Acme(Box<Acme>),
    /// A directory that somebody else writes to.
    Directory(Box<directory::Settings>),
    /// The PKI engine of OpenBao or HashiCorp Vault.
    OpenBao(Box<openbao::Settings>),
}

/// Whom to ask when the issuer of a certificate fails for too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// Its name.
    pub issuer: String,
    /// With less than this share of the lifetime left.
    pub below: Share,
}

impl Check<'_> {
    pub(super) fn issuers(&self, raw: Vec<raw::Issuer>) -> Result<Vec<Issuer>, Located> {
        let mut issuers: Vec<Issuer> = Vec::with_capacity(raw.len());
        for (at, issuer) in raw.into_iter().enumerate() {
            let field = format!("issuers[{at}]");
            let place = format!("{field}.name");
            if issuer.name.is_empty() || issuer.name == BUILT_IN {
                return Err(self.bad(&place, &format!("give it a name other than `{BUILT_IN}`, which is taken")));
            }
            if issuers.iter().any(|other| other.name == issuer.name) {
                return Err(self.bad(&place, "another issuer has this name"));
            }
            let kind = match (issuer.acme, issuer.openbao, issuer.directory) {
                (Some(acme), None, None) => IssuerKind::Acme(Box::new(self.acme(acme, &format!("{field}.acme"))?)),
                (None, Some(openbao), None) => {
                    IssuerKind::OpenBao(Box::new(self.openbao(openbao, &format!("{field}.openbao"))?))
                }
                (None, None, Some(given)) => {
                    IssuerKind::Directory(Box::new(self.directory(given, &format!("{field}.directory"))?))
                }
                _ => return Err(self.bad(&field, "say how it is asked: one of `acme`, `openbao` and `directory`")),
            };
            let roots = match &issuer.roots {
                Some(file) => self.roots(file, &format!("{field}.roots"))?,
                None => Roots::of_system().map_err(|error| self.bad(&field, &error.to_string()))?,
            };
            issuers.push(Issuer { name: issuer.name, roots, kind });
        }
        Ok(issuers)
    }

    fn roots(&self, file: &Path, field: &str) -> Result<Roots, Located> {
        Roots::read(&self.path(file)).map_err(|error| {
            let cause = match &error {
                RootsError::Read { source, .. } => format!("{error}: {source}"),
                _ => error.to_string(),
            };
            self.bad(field, &cause)
        })
    }

    fn directory(&self, raw: raw::Directory, field: &str) -> Result<directory::Settings, Located> {
        let files = match (raw.certificate, raw.key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some([certificate, key]),
            _ => return Err(self.bad(field, "name both files, `certificate` and `key`, or neither")),
        };
        Ok(directory::Settings { path: self.path(&raw.path), files })
    }

    fn openbao(&self, raw: raw::OpenBao, field: &str) -> Result<openbao::Settings, Located> {
        let server_roots = self.server_roots(raw.server_ca.as_deref(), field)?;
        let login = self.bao_login(raw.login);
        let mount = raw.mount.unwrap_or_else(|| "pki".to_owned());
        self.bao_path(&mount, &format!("{field}.mount"))?;
        self.bao_path(&raw.role, &format!("{field}.role"))?;
        let address = self.server(&raw.address, &format!("{field}.address"))?;
        Ok(openbao::Settings { address, server_roots, namespace: raw.namespace, mount, role: raw.role, login })
    }

    /// The authorities of `server_ca`, if it is there.
    pub(super) fn server_roots(
        &self,
        file: Option<&Path>,
        field: &str,
    ) -> Result<Option<Vec<CertificateDer<'static>>>, Located> {
        let Some(file) = file else { return Ok(None) };
        let place = format!("{field}.server_ca");
        let refuse = |why: String| self.bad(&place, &format!("`{}` {why}", self.path(file).display()));
        let pem = std::fs::read_to_string(self.path(file));
        let pem = pem.map_err(|error| refuse(format!("cannot be read: {error}")))?;
        leaf::chain(&pem).map(Some).map_err(|_| refuse("holds no certificates in PEM".to_owned()))
    }

    pub(super) fn bao_login(&self, raw: raw::BaoLogin) -> openbao::Login {
        match raw {
            raw::BaoLogin::Approle(login) => openbao::Login::AppRole {
                mount: login.mount.unwrap_or_else(|| "approle".to_owned()),
                role_id: login.role_id,
                secret_id: self.path(&login.secret_id_file),
            },
            raw::BaoLogin::Certificate(login) => openbao::Login::Certificate {
                mount: login.mount.unwrap_or_else(|| "cert".to_owned()),
                role: login.role,
                certificate: self.path(&login.certificate),
                key: self.path(&login.key),
            },
            raw::BaoLogin::Token(login) => openbao::Login::Token { file: self.path(&login.file) },
        }
    }

    /// A part of a path of the API.
    pub(super) fn bao_path(&self, part: &str, field: &str) -> Result<(), Located> {
        if is_path(part) {
            return Ok(());
        }
        Err(self.bad(field, &format!("`{part}` is not a path of letters, digits, `-`, `_`, `.` and `/`")))
    }

    /// A server that gets secrets: over TLS, or on this machine.
    pub(super) fn server(&self, given: &str, field: &str) -> Result<Url, Located> {
        crate::fetch::parse_private(given).map_err(|why| self.bad(field, &format!("`{given}` {why}")))
    }

    pub(super) fn issuer_of(
        &self,
        issuer: Option<String>,
        fallback: Option<raw::Fallback>,
        field: &str,
        issuers: &[Issuer],
    ) -> Result<(String, Option<Fallback>), Located> {
        let known = |name: &str, place: String| {
            if name == BUILT_IN || issuers.iter().any(|issuer| issuer.name == name) {
                return Ok(());
            }
            let names: Vec<String> = issuers.iter().map(|issuer| format!("`{}`", issuer.name)).collect();
            let names = [vec![format!("`{BUILT_IN}`")], names].concat().join(", ");
            Err(self.bad(&place, &format!("`{name}` is not an issuer; there are {names}")))
        };
        let issuer = issuer.unwrap_or_else(|| BUILT_IN.to_owned());
        known(&issuer, format!("{field}.issuer"))?;
        let Some(fallback) = fallback else { return Ok((issuer, None)) };
        known(&fallback.issuer, format!("{field}.fallback.issuer"))?;
        if fallback.issuer == issuer {
            return Err(self.bad(&format!("{field}.fallback.issuer"), "the fallback is another issuer"));
        }
        let below = fallback.below.unwrap_or(BELOW);
        let below = Share::new(below).ok_or_else(|| {
            let message = format!("`{below}` is not a share of the lifetime: more than 0 and less than 1");
            self.bad(&format!("{field}.fallback.below"), &message)
        })?;
        Ok((issuer, Some(Fallback { issuer: fallback.issuer, below })))
    }
}

fn is_path(text: &str) -> bool {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/');
    !text.is_empty() && text.bytes().all(is_good) && !text.split('/').any(|part| matches!(part, "" | "." | ".."))
}
