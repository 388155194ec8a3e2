//! `portcullis.yaml` as it is written: every key there is, nothing checked but its type, and where each value stands.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::command::Usage;
use crate::proof::ServedAt;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    pub(super) version: Spanned<u64>,
    pub(super) state_dir: Option<PathBuf>,
    pub(super) policy: Option<Spanned<PathBuf>>,
    #[serde(default)]
    pub(super) listen: Listen,
    pub(super) ca: Ca,
    pub(super) certificates: Vec<Certificate>,
    #[serde(default)]
    pub(super) bundles: Vec<Bundle>,
    pub(super) filter: Option<Filter>,
    pub(super) envoy: Option<Envoy>,
    pub(super) verify_every: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listen {
    pub(super) xds: Option<Spanned<PathBuf>>,
    pub(super) control: Option<Spanned<PathBuf>>,
    pub(super) metrics: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ca {
    pub(super) trust_domain: Spanned<String>,
    pub(super) root_lifetime: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Certificate {
    pub(super) name: Spanned<String>,
    pub(super) spiffe: Option<String>,
    #[serde(default)]
    pub(super) dns: Vec<String>,
    #[serde(default)]
    pub(super) ip: Vec<IpAddr>,
    #[serde(default)]
    pub(super) usage: Vec<Usage>,
    pub(super) lifetime: Option<Spanned<String>>,
    pub(super) renew_after: Option<Spanned<f64>>,
    pub(super) files: Option<Files>,
    #[serde(default)]
    pub(super) served_at: Vec<Spanned<ServedAt>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Files {
    pub(super) directory: Spanned<PathBuf>,
    pub(super) keep: Option<Spanned<u64>>,
    pub(super) mode: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bundle {
    pub(super) name: Spanned<String>,
    pub(super) ca: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) spiffe: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    pub(super) name: Spanned<String>,
    pub(super) wasm: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Envoy {
    pub(super) admin: Option<Spanned<String>>,
}
