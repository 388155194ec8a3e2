//! A CA that is not the agent's, and a directory that somebody puts its certificates into.

use std::fs;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::DnType;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;

use super::Desk;

pub(crate) const DAY: u64 = 86_400;

/// Somebody else's CA.
pub(crate) struct Outsider {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
    /// What comes with what it makes, PEM.
    pub(crate) above: String,
}

/// What they make.
pub(crate) struct Made {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Outsider {
    pub(crate) fn new() -> Self {
        let params = Self::params("outsider");
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("signed").pem();
        Self { issuer: Issuer::new(params, key), pem, above: String::new() }
    }

    /// Another one below it, which is good for so many seconds.
    pub(crate) fn below(&self, lifetime: u64) -> Self {
        let mut params = Self::params("below");
        hold(&mut params, DAY, DAY + lifetime);
        let key = KeyPair::generate().expect("a key");
        let pem = params.signed_by(&key, &self.issuer).expect("signed").pem();
        Self { issuer: Issuer::new(params, key), above: pem.clone() + &self.above, pem }
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    /// Valid from so many seconds ago, for so many.
    pub(crate) fn make(&self, name: &str, age: u64, lifetime: u64) -> Made {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        hold(&mut params, age, lifetime);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().expect("a key");
        let chain = params.signed_by(&key, &self.issuer).expect("signed").pem() + &self.above;
        Made { chain, key: key.serialize_pem() }
    }
}

/// From so many seconds ago, for so many.
fn hold(params: &mut CertificateParams, age: u64, lifetime: u64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time");
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + (now - Duration::from_secs(age));
    params.not_after = params.not_before + Duration::from_secs(lifetime);
}

impl Made {
    pub(crate) fn serial(&self) -> String {
        let chain = portcullis::leaf::chain(&self.chain).expect("a chain");
        portcullis::leaf::Leaf::from_der(&chain[0]).expect("a leaf").serial
    }
}

/// As certbot writes: the key first, each file by a rename.
pub(crate) fn put(desk: &Desk, made: &Made) {
    for (name, text) in [("privkey.pem", &made.key), ("fullchain.pem", &made.chain)] {
        desk.write(&format!("live/{name}.new"), text);
        fs::rename(desk.path(&format!("live/{name}.new")), desk.path(&format!("live/{name}"))).expect("renamed");
    }
}
