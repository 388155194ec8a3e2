//! `portcullis.yaml` as it is written: every key there is, nothing checked but its type.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use portcullis_policy::revocation::WhenStale;
use serde::Deserialize;

use super::WhenNameFails;
use super::account::Account;
use super::authorities::RootKey;
use super::credentials::RawCredential;
use crate::command::Usage;
use crate::hook::When;
use crate::proof::ServedAt;
use crate::reload::Signal;
use crate::remedy::Failure;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    pub(super) version: u64,
    pub(super) state_dir: Option<PathBuf>,
    pub(super) policy: Option<PathBuf>,
    #[serde(default)]
    pub(super) listen: Listen,
    pub(super) ca: Ca,
    #[serde(default)]
    pub(super) issuers: Vec<Issuer>,
    pub(super) certificates: Vec<Certificate>,
    #[serde(default)]
    pub(super) credentials: Vec<RawCredential>,
    pub(super) credential_lifetime_max: Option<String>,
    pub(super) seal_key_file: Option<PathBuf>,
    #[serde(default)]
    pub(super) remedies: Vec<Remedy>,
    #[serde(default)]
    pub(super) bundles: Vec<Bundle>,
    #[serde(default)]
    pub(super) revocation: Revocation,
    pub(super) filter: Option<Filter>,
    pub(super) envoy: Option<Envoy>,
    pub(super) verify_every: Option<String>,
    #[serde(default)]
    pub(super) renew_window: Vec<Period>,
    #[serde(default)]
    pub(super) blackout: Vec<Period>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Period {
    pub(super) cron: Option<String>,
    #[serde(rename = "for")]
    pub(super) lasts: Option<String>,
    pub(super) from: Option<String>,
    pub(super) to: Option<String>,
    pub(super) zone: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listen {
    pub(super) xds: Option<PathBuf>,
    pub(super) control: Option<PathBuf>,
    pub(super) metrics: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ca {
    pub(super) trust_domain: String,
    pub(super) root_lifetime: Option<String>,
    pub(super) rotate_root_after: Option<f64>,
    #[serde(default)]
    pub(super) root: RootKey,
    pub(super) intermediate: Option<Intermediate>,
    #[serde(default)]
    pub(super) name_constraints: NameConstraints,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Intermediate {
    pub(super) lifetime: Option<String>,
    pub(super) rotate_after: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NameConstraints {
    #[serde(default)]
    pub(super) dns: Vec<String>,
    #[serde(default)]
    pub(super) ip: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Issuer {
    pub(super) name: String,
    pub(super) roots: Option<PathBuf>,
    pub(super) acme: Option<Acme>,
    pub(super) openbao: Option<OpenBao>,
    pub(super) directory: Option<Directory>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Directory {
    pub(super) path: PathBuf,
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Acme {
    pub(super) directory: String,
    pub(super) staging: Option<Staging>,
    pub(super) server_ca: Option<PathBuf>,
    #[serde(default)]
    pub(super) contact: Vec<String>,
    pub(super) external_account: Option<ExternalAccount>,
    pub(super) profile: Option<String>,
    pub(super) preferred_chain: Option<String>,
    pub(super) resolver: Option<String>,
    pub(super) challenge: Challenge,
    pub(super) certificates_a_week: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Staging {
    pub(super) directory: String,
    pub(super) server_ca: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExternalAccount {
    pub(super) key_id: String,
    pub(super) key_file: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub(super) enum Challenge {
    Dns01(super::dns::Dns01),
    Http01(String),
    #[serde(rename = "tls_alpn01")]
    TlsAlpn01(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OpenBao {
    pub(super) address: String,
    pub(super) server_ca: Option<PathBuf>,
    pub(super) namespace: Option<String>,
    pub(super) mount: Option<String>,
    pub(super) role: String,
    pub(super) login: BaoLogin,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub(super) enum BaoLogin {
    Approle(AppRole),
    Certificate(ClientCertificate),
    Token(TokenFile),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AppRole {
    pub(super) mount: Option<String>,
    pub(super) role_id: String,
    pub(super) secret_id_file: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClientCertificate {
    pub(super) mount: Option<String>,
    pub(super) role: Option<String>,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenFile {
    pub(super) file: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fallback {
    pub(super) issuer: String,
    pub(super) below: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Certificate {
    pub(super) name: Option<String>,
    pub(super) each: Option<PathBuf>,
    pub(super) issuer: Option<String>,
    pub(super) fallback: Option<Fallback>,
    pub(super) spiffe: Option<String>,
    #[serde(default)]
    pub(super) dns: Vec<String>,
    #[serde(default)]
    pub(super) ip: Vec<IpAddr>,
    #[serde(default)]
    pub(super) usage: Vec<Usage>,
    #[serde(default)]
    pub(super) when_a_name_fails: WhenNameFails,
    pub(super) lifetime: Option<String>,
    pub(super) renew_after: Option<f64>,
    pub(super) renew_window: Option<Vec<Period>>,
    pub(super) blackout: Option<Vec<Period>>,
    pub(super) files: Option<Files>,
    #[serde(default)]
    pub(super) hooks: Vec<Hook>,
    pub(super) reload: Option<Reload>,
    pub(super) roll_back_after: Option<u32>,
    #[serde(default)]
    pub(super) trusted_by: Vec<String>,
    #[serde(default)]
    pub(super) served_at: Vec<ServedAt>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Files {
    pub(super) directory: PathBuf,
    pub(super) keep: Option<usize>,
    pub(super) mode: Option<String>,
    pub(super) owner: Option<Account>,
    pub(super) group: Option<Account>,
    #[serde(default)]
    pub(super) combined: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hook {
    pub(super) run: Vec<String>,
    pub(super) timeout: Option<String>,
    #[serde(default)]
    pub(super) when: When,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Remedy {
    #[serde(default)]
    pub(super) on: BTreeSet<Failure>,
    pub(super) run: Option<Vec<String>>,
    pub(super) url: Option<String>,
    pub(super) timeout: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reload {
    pub(super) signal: Signal,
    pub(super) pid_file: PathBuf,
    pub(super) exe: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bundle {
    pub(super) name: String,
    pub(super) ca: Option<String>,
    #[serde(default)]
    pub(super) also: Vec<PathBuf>,
    #[serde(default)]
    pub(super) spiffe: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    pub(super) name: String,
    pub(super) wasm: PathBuf,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Revocation {
    #[serde(default)]
    pub(super) when_stale: WhenStale,
    pub(super) handshake: Option<bool>,
    #[serde(default)]
    pub(super) lists: Vec<RevocationList>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RevocationList {
    pub(super) name: String,
    pub(super) ca: PathBuf,
    pub(super) file: Option<PathBuf>,
    pub(super) url: Option<String>,
    #[serde(default)]
    pub(super) may_be_empty: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Envoy {
    pub(super) admin: Option<String>,
}
