//! Revocation lists of the built-in CA.

use portcullis_policy::UnixTime;
use rcgen::CertificateRevocationListParams;
use rcgen::Issuer;
use rcgen::KeyIdMethod;
use rcgen::KeyPair;
use rcgen::RevokedCertParams;
use rcgen::SerialNumber;

use super::Authority;
use super::CaError;
use super::since_epoch;
use crate::leaf;

impl Authority {
    /// Signs revocation lists (RFC 5280 §5) of serial numbers, each with the time since when it is revoked: one by the root, if
    /// its key is at hand, and one by each authority below it that has not ended; PEM.
    ///
    /// # Errors
    ///
    /// [`CaError::Sign`].
    pub fn revocation_list<'a>(
        &self,
        entries: impl Iterator<Item = (&'a [u8], UnixTime)> + Clone,
        number: u64,
        this_update: UnixTime,
        next_update: UnixTime,
    ) -> Result<String, CaError> {
        let instant = |time| rcgen::date_time_ymd(1970, 1, 1) + since_epoch(time);
        let revoked = |(serial, since): (&[u8], UnixTime)| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: instant(since),
            reason_code: None,
            invalidity_date: None,
        };
        let list = |issuer: &Issuer<'_, KeyPair>, key_identifier_method| {
            let params = CertificateRevocationListParams {
                this_update: instant(this_update),
                next_update: instant(next_update),
                crl_number: SerialNumber::from(number),
                issuing_distribution_point: None,
                revoked_certs: entries.clone().map(revoked).collect(),
                key_identifier_method,
            };
            params.signed_by(issuer).and_then(|list| list.pem()).map_err(CaError::Sign)
        };
        let root = self.issuer.iter().map(|root| list(root, KeyIdMethod::Sha256));
        let now = leaf::now();
        let below = self.intermediates().into_iter().filter(|one| !one.leaf().validity.has_ended(now));
        root.chain(below.map(|one| list(&one.issuer, one.key_id()))).collect()
    }
}
