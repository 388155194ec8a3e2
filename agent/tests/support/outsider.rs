//! A CA that is not the agent's, and a directory that somebody puts its certificates into.

use std::fs;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
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
}

/// What they make.
pub(crate) struct Made {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Outsider {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("signed").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Valid from so many seconds ago, for so many.
    pub(crate) fn make(&self, name: &str, age: u64, lifetime: u64) -> Made {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time");
        let begin = now - Duration::from_secs(age);
        params.not_before = rcgen::date_time_ymd(1970, 1, 1) + begin;
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + begin + Duration::from_secs(lifetime);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().expect("a key");
        let chain = params.signed_by(&key, &self.issuer).expect("signed").pem();
        Made { chain, key: key.serialize_pem() }
    }
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
