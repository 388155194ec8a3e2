//! One certificate revocation list (RFC 5280 §5), taken only if it is whole, signed by its authority, and not older than the
//! one before.
//!
//! Absent: where it comes from. A list that is refused changes nothing; the one before stays.

use std::sync::Arc;

use jiff::Timestamp;
use portcullis_policy::UnixTime;
use portcullis_policy::revocation::IssuerName;
use portcullis_policy::revocation::Key;
use portcullis_policy::revocation::MAX_KEYS;
use portcullis_policy::signature::PureRust;
use portcullis_policy::signature::VerifyingKey;
use x509_parser::asn1_rs;
use x509_parser::asn1_rs::Any;
use x509_parser::asn1_rs::Class;
use x509_parser::asn1_rs::Sequence;
use x509_parser::extensions::X509Extension;
use x509_parser::oid_registry::OID_X509_EXT_ISSUER_DISTRIBUTION_POINT;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer as _;
use x509_parser::prelude::X509Certificate;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::leaf;
use crate::trust::AuthorityList;

/// Longest list that is read, in bytes: about as many entries as a set may have, with what lists say beside the numbers.
pub(super) const MAX_LENGTH: u64 = 64 << 20;
/// Longest list that is pushed to proxies, in bytes of DER: each of them keeps it, and is sent it with every change.
const MAX_PUSHED: usize = 4 << 20;
/// Clocks of authorities may be this far ahead, in seconds.
const AHEAD: i64 = 300;

/// An authority that signs lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListAuthority {
    /// Its subject, DER.
    subject: Box<[u8]>,
    /// Its `SubjectPublicKeyInfo`, DER.
    key: Box<[u8]>,
}

/// Why a certificate is not one of an authority that signs lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// Not a certificate.
    #[error("is not one certificate in PEM")]
    Unreadable,
    /// It may not sign lists.
    #[error("is of nobody who may sign revocation lists: it is no CA, or its key usage lacks `cRLSign`")]
    SignsNoLists,
}

/// A list that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct List {
    authority: ListAuthority,
    /// None for one that is too long to be pushed.
    der: Option<Arc<[u8]>>,
    /// `cRLNumber`, big-endian without leading zeros.
    number: Option<Box<[u8]>>,
    pub(super) this_update: UnixTime,
    pub(super) next_update: UnixTime,
    pub(super) scope: Scope,
    pub(super) keys: Vec<Key>,
}

/// About which of the certificates that the authority issued a list speaks (RFC 5280 §5.2.5). Serial numbers on a part are
/// revoked like any other; those that are not may be on another part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// All that are no authority's, for all reasons.
    Whole,
    /// Those of one distribution point, or those revoked for some reasons: the `issuingDistributionPoint`, DER.
    Part(Box<[u8]>),
}

/// Whether a list without entries may replace one that has some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emptied {
    /// It is refused.
    Refused,
    /// It may: the configuration says so of this list by name.
    Taken,
}

/// Why a list is refused. The one before stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListError {
    /// Not a list.
    #[error("not a certificate revocation list, in DER or PEM")]
    Malformed,
    /// Too long.
    #[error("longer than {MAX_LENGTH} bytes")]
    TooLong,
    /// More entries than a set may have.
    #[error("more than {MAX_KEYS} entries")]
    TooMany,
    /// Somebody else's.
    #[error("issued by another authority than the one whose certificate is configured")]
    Issuer,
    /// Its signature is not the authority's.
    #[error("the signature is not that of the configured authority")]
    Signature,
    /// It says something about itself, or about an entry, that would have to be understood.
    #[error("says what is not understood here (the critical extension {0}): a list of its own, no delta, is needed")]
    Critical(String),
    /// It has entries about certificates of others.
    #[error(
        "about certificates of other authorities as well (`indirectCRL`, RFC 5280 §5.2.5): a list of the authority itself is needed"
    )]
    Indirect,
    /// It is about no certificate that a peer would show.
    #[error("only about {0} (RFC 5280 §5.2.5): one about the certificates of peers is needed")]
    NoLeaves(&'static str),
    /// It would take the place of another part.
    #[error(
        "about another part of what the authority issued than the one in force (`issuingDistributionPoint`, RFC 5280 §5.2.5): each part has to be a list of its own in `revocation.lists`, with a name of its own"
    )]
    OtherPart,
    /// It does not say how long it is good.
    #[error("does not say when the next one comes (`nextUpdate`, RFC 5280 §5.1.2.5)")]
    NoNextUpdate,
    /// It is of a time that has not come.
    #[error("made at {0}, which has not come; check the clock")]
    Future(Timestamp),
    /// It is older than the one that is in force.
    #[error("older than the one in force: {this} after {last}")]
    Older {
        /// What it is.
        this: String,
        /// What the other is.
        last: String,
    },
    /// It has no entries, and the one before has.
    #[error("without entries, while the one in force has {0}; if that is meant, say `may_be_empty: true` of this list")]
    Emptied(usize),
}

impl ListError {
    /// The stable code, a label of the metrics.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooLong => "too_long",
            Self::TooMany => "too_many",
            Self::Issuer => "issuer",
            Self::Signature => "signature",
            Self::Critical(_) => "critical_extension",
            Self::Indirect => "indirect",
            Self::NoLeaves(_) => "no_leaves",
            Self::OtherPart => "other_part",
            Self::NoNextUpdate => "no_next_update",
            Self::Future(_) => "future",
            Self::Older { .. } => "older",
            Self::Emptied(_) => "emptied",
        }
    }
}

impl ListAuthority {
    /// From its certificate.
    ///
    /// # Errors
    ///
    /// [`AuthorityError`].
    pub fn from_pem(pem: &str) -> Result<Self, AuthorityError> {
        let chain = leaf::chain(pem).map_err(|_| AuthorityError::Unreadable)?;
        let [der] = chain.as_slice() else { return Err(AuthorityError::Unreadable) };
        Self::from_der(der)
    }

    /// The same from DER.
    ///
    /// # Errors
    ///
    /// [`AuthorityError`].
    pub fn from_der(der: &[u8]) -> Result<Self, AuthorityError> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| AuthorityError::Unreadable)?;
        // RFC 5280 §4.2.1.3: where there is a key usage, it has to say so.
        let usage = certificate.key_usage().map_err(|_| AuthorityError::Unreadable)?;
        if !certificate.is_ca() || usage.is_some_and(|usage| !usage.value.crl_sign()) {
            return Err(AuthorityError::SignsNoLists);
        }
        Ok(Self { subject: certificate.subject().as_raw().into(), key: certificate.public_key().raw.into() })
    }
}

impl List {
    /// Reads a list of `authority`, which may replace `last`.
    ///
    /// # Errors
    ///
    /// [`ListError`], the first thing that is wrong.
    pub(super) fn read(
        bytes: &[u8],
        authority: &ListAuthority,
        last: Option<&Self>,
        emptied: Emptied,
        now: UnixTime,
    ) -> Result<Self, ListError> {
        if bytes.len() as u64 > MAX_LENGTH {
            return Err(ListError::TooLong);
        }
        let list = Self::parse(&der(bytes)?, authority, now)?;
        if let Some(last) = last {
            if list.scope != last.scope {
                return Err(ListError::OtherPart);
            }
            if list.is_older_than(last) {
                return Err(ListError::Older { this: list.to_string(), last: last.to_string() });
            }
            if list.keys.is_empty() && !last.keys.is_empty() && emptied == Emptied::Refused {
                return Err(ListError::Emptied(last.keys.len()));
            }
        }
        Ok(list)
    }

    /// Reads a list that was taken before. Its time is not held against the clock again: that may have gone back since,
    /// and who is on the list is revoked all the same.
    ///
    /// # Errors
    ///
    /// As of [`List::read`].
    pub(super) fn kept(bytes: &[u8], authority: &ListAuthority) -> Result<Self, ListError> {
        Self::read(bytes, authority, None, Emptied::Refused, UnixTime(i64::MAX))
    }

    fn parse(der: &[u8], authority: &ListAuthority, now: UnixTime) -> Result<Self, ListError> {
        let (rest, list) = CertificateRevocationList::from_der(der).map_err(|_| ListError::Malformed)?;
        let tbs = &list.tbs_cert_list;
        if !rest.is_empty() || tbs.signature != list.signature_algorithm || list.signature_value.unused_bits != 0 {
            return Err(ListError::Malformed);
        }
        if tbs.issuer.as_raw() != &*authority.subject {
            return Err(ListError::Issuer);
        }
        let key = VerifyingKey::of_issuer(&authority.key, &list.signature_algorithm.algorithm.to_id_string());
        let signed = |key: VerifyingKey| key.verify_x509(tbs.as_ref(), &list.signature_value.data, &mut PureRust);
        if !key.is_some_and(signed) {
            return Err(ListError::Signature);
        }
        // From here on it is the authority's word.
        let scope = Scope::of(tbs.extensions())?;
        let this_update = UnixTime(tbs.this_update.timestamp());
        if this_update.0 > now.0.saturating_add(AHEAD) {
            return Err(ListError::Future(leaf::timestamp(this_update)));
        }
        let next_update = UnixTime(tbs.next_update.ok_or(ListError::NoNextUpdate)?.timestamp());
        if tbs.revoked_certificates.len() > MAX_KEYS {
            return Err(ListError::TooMany);
        }
        let issuer = IssuerName::from_der(&authority.subject);
        let mut keys = Vec::with_capacity(tbs.revoked_certificates.len());
        for entry in &tbs.revoked_certificates {
            // Such an entry is about somebody else's certificate (§5.3.3), or says what is not understood here.
            if let Some(critical) = entry.extensions().iter().find(|extension| extension.critical) {
                return Err(ListError::Critical(critical.oid.to_id_string()));
            }
            keys.push(Key::of_serial(&issuer, entry.raw_serial()));
        }
        let number = list.crl_number().map(|number| number.to_bytes_be().into());
        let der = (der.len() <= MAX_PUSHED).then(|| der.into());
        Ok(Self { authority: authority.clone(), der, number, this_update, next_update, scope, keys })
    }

    /// As it may go into a bundle.
    pub(super) fn for_bundles(&self) -> AuthorityList {
        AuthorityList {
            authority: self.authority.clone(),
            der: self.der.clone(),
            is_whole: self.scope == Scope::Whole,
            entries: self.keys.len(),
            next_update: self.next_update,
        }
    }

    /// By number where both have one (§5.2.3: they only grow), and by time.
    fn is_older_than(&self, last: &Self) -> bool {
        let number = |list: &Self| list.number.as_ref().map(|number| (number.len(), number.clone()));
        let by_number = number(self).zip(number(last)).is_some_and(|(this, last)| this < last);
        by_number || self.this_update < last.this_update
    }
}

impl std::fmt::Display for List {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(number) = &self.number {
            write!(f, "number {} ", leaf::serial_hex(number))?;
        }
        write!(f, "of {}", leaf::timestamp(self.this_update))
    }
}

impl Scope {
    /// Refuses what makes a list speak of others, of nobody, or in a way that is not understood.
    fn of(extensions: &[X509Extension<'_>]) -> Result<Self, ListError> {
        let mut scope = Self::Whole;
        for extension in extensions {
            if extension.oid == OID_X509_EXT_ISSUER_DISTRIBUTION_POINT {
                scope = Self::read(extension.value)?;
            } else if extension.critical {
                return Err(ListError::Critical(extension.oid.to_id_string()));
            }
        }
        Ok(scope)
    }

    /// From an `issuingDistributionPoint`. Read field by field: nothing in it may be passed over.
    fn read(value: &[u8]) -> Result<Self, ListError> {
        let (rest, sequence) = Sequence::from_der(value).map_err(|_| ListError::Malformed)?;
        let fields: Result<Vec<Any<'_>>, _> = sequence.der_iter::<Any<'_>, asn1_rs::Error>().collect();
        let fields = fields.map_err(|_| ListError::Malformed)?;
        if !rest.is_empty() {
            return Err(ListError::Malformed);
        }
        let mut scope = Self::Whole;
        for field in &fields {
            let is_set = field.data.iter().any(|byte| *byte != 0);
            match field.tag().0 {
                _ if field.class() != Class::ContextSpecific => return Err(ListError::Malformed),
                // distributionPoint, onlySomeReasons
                0 | 3 => scope = Self::Part(value.into()),
                // onlyContainsUserCerts
                1 => {}
                2 if is_set => return Err(ListError::NoLeaves("certificates of authorities")),
                4 if is_set => return Err(ListError::Indirect),
                5 if is_set => return Err(ListError::NoLeaves("attribute certificates")),
                2 | 4 | 5 => {}
                _ => return Err(ListError::Malformed),
            }
        }
        Ok(scope)
    }
}

fn der(bytes: &[u8]) -> Result<Vec<u8>, ListError> {
    if !bytes.trim_ascii_start().starts_with(b"-----BEGIN") {
        return Ok(bytes.to_vec());
    }
    let mut blocks = Pem::iter_from_buffer(bytes);
    match (blocks.next(), blocks.next()) {
        (Some(Ok(pem)), None) if pem.label == "X509 CRL" => Ok(pem.contents),
        _ => Err(ListError::Malformed),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use rcgen::BasicConstraints;
    use rcgen::CertificateParams;
    use rcgen::CertificateRevocationListParams;
    use rcgen::CrlDistributionPoint;
    use rcgen::CrlIssuingDistributionPoint;
    use rcgen::CrlScope;
    use rcgen::IsCa;
    use rcgen::Issuer;
    use rcgen::KeyIdMethod;
    use rcgen::KeyPair;
    use rcgen::KeyUsagePurpose;
    use rcgen::RevokedCertParams;
    use rcgen::SerialNumber;

    use super::*;

    /// Somebody who signs lists.
    pub(crate) struct Signer {
        pub(crate) pem: String,
        issuer: Issuer<'static, KeyPair>,
    }

    impl Signer {
        pub(crate) fn new(name: &str, usages: &[KeyUsagePurpose]) -> Self {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = usages.to_vec();
            let key = KeyPair::generate().expect("a key");
            let pem = params.self_signed(&key).expect("signed").pem();
            Self { pem, issuer: Issuer::new(params, key) }
        }

        pub(crate) fn authority(&self) -> ListAuthority {
            ListAuthority::from_pem(&self.pem).expect("an authority")
        }

        /// A list made at `at`, good for an hour.
        pub(crate) fn list(&self, number: u64, at: i64, serials: &[u64]) -> Vec<u8> {
            self.part(None, number, at, serials)
        }

        /// The same for one distribution point.
        pub(crate) fn part(&self, point: Option<&str>, number: u64, at: i64, serials: &[u64]) -> Vec<u8> {
            let instant = |seconds: i64| {
                rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(seconds.unsigned_abs())
            };
            let revoked = |serial: &u64| RevokedCertParams {
                serial_number: SerialNumber::from(*serial),
                revocation_time: instant(at),
                reason_code: None,
                invalidity_date: None,
            };
            let params = CertificateRevocationListParams {
                this_update: instant(at),
                next_update: instant(at + 3600),
                crl_number: SerialNumber::from(number),
                issuing_distribution_point: point.map(|url| CrlIssuingDistributionPoint {
                    distribution_point: CrlDistributionPoint { uris: vec![url.to_owned()] },
                    scope: Some(CrlScope::UserCertsOnly),
                }),
                revoked_certs: serials.iter().map(revoked).collect(),
                key_identifier_method: KeyIdMethod::Sha256,
            };
            params.signed_by(&self.issuer).expect("signed").der().to_vec()
        }
    }

    const NOW: UnixTime = UnixTime(1_800_000_000);

    fn signer(name: &str) -> Signer {
        Signer::new(name, &[KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign])
    }

    #[test]
    fn a_list_gives_the_keys_of_its_serial_numbers() {
        let signer = signer("one");
        let der = signer.list(7, NOW.0, &[1, 300]);
        let authority = signer.authority();
        let issuer = IssuerName::from_der(&authority.subject);
        let list = List::read(&der, &authority, None, Emptied::Refused, NOW).expect("a list");
        let want = [Key::of_serial(&issuer, &[1]), Key::of_serial(&issuer, &[1, 44])];
        assert_eq!((list.keys.as_slice(), list.next_update), (want.as_slice(), UnixTime(NOW.0 + 3600)));
        assert_eq!(list.to_string(), "number 7 of 2027-01-15T08:00:00Z");
        let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &der);
        let pem = format!("-----BEGIN X509 CRL-----\n{base64}\n-----END X509 CRL-----\n");
        assert_eq!(List::read(pem.as_bytes(), &authority, None, Emptied::Refused, NOW), Ok(list));
    }

    #[test]
    fn what_is_not_the_authoritys_newest_whole_list_is_refused() {
        let (signer, other) = (signer("one"), signer("other"));
        let twin = self::signer("one");
        let authority = signer.authority();
        let good = |number, at, serials: &[u64]| signer.list(number, at, serials);
        let last = List::read(&good(7, NOW.0 - 100, &[1, 2]), &authority, None, Emptied::Refused, NOW).expect("a list");
        let mut flipped = good(8, NOW.0, &[1]);
        let end = flipped.len() - 1;
        flipped[end] ^= 1;
        let cases = [
            ("the next", good(8, NOW.0, &[1]), None),
            ("the same once more", good(7, NOW.0 - 100, &[1, 2]), None),
            ("nothing", Vec::new(), Some("malformed")),
            ("text", b"<html>".to_vec(), Some("malformed")),
            ("cut", good(8, NOW.0, &[1])[..100].to_vec(), Some("malformed")),
            ("more behind it", [good(8, NOW.0, &[1]), vec![0]].concat(), Some("malformed")),
            ("a certificate", signer.pem.clone().into_bytes(), Some("malformed")),
            ("another authority's", other.list(8, NOW.0, &[1]), Some("issuer")),
            ("signed by a namesake", twin.list(8, NOW.0, &[1]), Some("signature")),
            ("a bit is another", flipped, Some("signature")),
            ("an older number", good(6, NOW.0, &[1]), Some("older")),
            ("an older time", good(8, NOW.0 - 101, &[1]), Some("older")),
            ("of the future", good(8, NOW.0 + 301, &[1]), Some("future")),
            ("emptied", good(8, NOW.0, &[]), Some("emptied")),
        ];
        for (name, bytes, want) in cases {
            let got = List::read(&bytes, &authority, Some(&last), Emptied::Refused, NOW);
            assert_eq!(got.as_ref().err().map(ListError::code), want, "{name}: {got:?}");
        }
        let empty = good(8, NOW.0, &[]);
        assert!(List::read(&empty, &authority, Some(&last), Emptied::Taken, NOW).is_ok(), "asked for by name");
        assert!(List::read(&empty, &authority, None, Emptied::Refused, NOW).is_ok(), "nothing before it");
    }

    #[test]
    fn a_kept_list_is_good_before_its_time_too() {
        let signer = signer("one");
        let der = signer.list(7, NOW.0 + 86_400, &[1]);
        let authority = signer.authority();
        assert_eq!(
            List::read(&der, &authority, None, Emptied::Refused, NOW).err().as_ref().map(ListError::code),
            Some("future")
        );
        assert_eq!(List::kept(&der, &authority).map(|list| list.keys.len()), Ok(1), "the clock went back since");
        assert!(List::kept(&der[..100], &authority).is_err());
    }

    #[test]
    fn one_part_does_not_replace_another_nor_the_whole() {
        let signer = signer("one");
        let authority = signer.authority();
        let read = |bytes: &[u8], last| List::read(bytes, &authority, last, Emptied::Taken, NOW);
        let part = |point, number| signer.part(Some(point), number, NOW.0, &[1]);
        let (first, whole) = (part("http://a.example/1.crl", 7), signer.list(7, NOW.0, &[1]));
        let last = read(&first, None).expect("serial numbers on a part count");
        assert!(matches!(last.scope, Scope::Part(_)) && last.keys.len() == 1);
        let next = read(&part("http://a.example/1.crl", 8), Some(&last));
        assert!(next.is_ok(), "the next of the same part: {next:?}");
        let other = part("http://a.example/2.crl", 8);
        for (name, bytes) in [("another part", &other), ("the whole", &whole)] {
            assert_eq!(read(bytes, Some(&last)), Err(ListError::OtherPart), "{name}");
        }
        let last = read(&whole, None).expect("a list");
        assert_eq!((&last.scope, read(&other, Some(&last))), (&Scope::Whole, Err(ListError::OtherPart)));
    }

    #[test]
    fn the_scope_of_a_list_is_read_whole_or_not_at_all() {
        let part = |value: &[u8]| Ok(Scope::Part(value.into()));
        let point: &[u8] = &[0x30, 0x07, 0xa0, 0x05, 0xa0, 0x03, 0x86, 0x01, b'a'];
        let reasons: &[u8] = &[0x30, 0x04, 0x83, 0x02, 0x06, 0x40];
        let authorities = ListError::NoLeaves("certificates of authorities");
        let cases: [(&str, &[u8], Result<Scope, ListError>); 10] = [
            ("nothing said", &[0x30, 0x00], Ok(Scope::Whole)),
            ("leaves only", &[0x30, 0x03, 0x81, 0x01, 0xff], Ok(Scope::Whole)),
            ("a distribution point", point, part(point)),
            ("some reasons", reasons, part(reasons)),
            ("authorities only", &[0x30, 0x03, 0x82, 0x01, 0xff], Err(authorities)),
            ("of others as well", &[0x30, 0x03, 0x84, 0x01, 0xff], Err(ListError::Indirect)),
            ("behind what is no reason", &[0x30, 0x06, 0x83, 0x01, 0x09, 0x84, 0x01, 0xff], Err(ListError::Indirect)),
            ("attributes only", &[0x30, 0x03, 0x85, 0x01, 0xff], Err(ListError::NoLeaves("attribute certificates"))),
            ("a field that there is not", &[0x30, 0x03, 0x86, 0x01, 0xff], Err(ListError::Malformed)),
            ("no sequence", &[0x81, 0x01, 0xff], Err(ListError::Malformed)),
        ];
        for (name, value, want) in cases {
            assert_eq!(Scope::read(value), want, "{name}");
        }
    }

    #[test]
    fn only_who_may_sign_lists_is_an_authority() {
        let none = Signer::new("one", &[KeyUsagePurpose::KeyCertSign]);
        assert_eq!(ListAuthority::from_pem(&none.pem), Err(AuthorityError::SignsNoLists));
        assert_eq!(ListAuthority::from_pem("text"), Err(AuthorityError::Unreadable));
    }
}
