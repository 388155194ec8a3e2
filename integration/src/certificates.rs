//! Certificates made for one test: a small CA, and leaves with whatever is odd about them.
//!
//! Absent: files, and the clock but in revocation lists. Validity is given as Unix seconds; where nothing is said, a leaf is valid for ever.

use std::net::IpAddr;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertificateRevocationListParams;
use rcgen::CustomExtension;
use rcgen::DistinguishedName;
use rcgen::DnType;
use rcgen::DnValue;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyIdMethod;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rcgen::RevokedCertParams;
use rcgen::SerialNumber;
use rcgen::SigningKey as _;
use sha2::Digest as _;
use sha2::Sha256;

/// `id-ce-subjectAltName` (RFC 5280 §4.2.1.6).
const SUBJECT_ALT_NAME: &[u64] = &[2, 5, 29, 17];

/// A root that signs leaves.
#[derive(Debug)]
pub struct Authority {
    der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A self-signed root with a new key.
    pub fn new(common_name: &str) -> Self {
        let key = new_key();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.distinguished_name.push(DnType::OrganizationName, "Portcullis tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).expect("a root of these parameters can be signed");
        Self { der: certificate.der().to_vec(), issuer: Issuer::new(params, key) }
    }

    /// The root's DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The root's PEM.
    pub fn pem(&self) -> String {
        pem(&self.der)
    }

    /// Its revocation list of these serial numbers, made now and good for an hour; DER.
    pub fn list(&self, number: u64, serials: &[&[u8]]) -> Vec<u8> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(now.as_secs());
        let revoked = |serial: &&[u8]| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: now,
            next_update: now + Duration::from_secs(3_600),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).expect("a list of these parameters can be signed").der().to_vec()
    }

    /// Begins a leaf: a client certificate with no name at all and no end, until told otherwise.
    pub fn leaf(&self) -> LeafBuilder<'_> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        LeafBuilder { authority: self, params, names: Vec::new(), joined: Vec::new() }
    }
}

/// A leaf in the making. Names are kept in the order in which they are given.
#[derive(Debug)]
#[must_use = "a leaf exists only after `issue`"]
pub struct LeafBuilder<'a> {
    authority: &'a Authority,
    params: CertificateParams,
    /// The `GeneralName`s in DER.
    names: Vec<u8>,
    /// Which attributes of the subject stand in the RDN of the one before.
    joined: Vec<usize>,
}

impl LeafBuilder<'_> {
    /// Adds a URI SAN; the text is not checked, so that a test can put anything there.
    pub fn uri(self, uri: impl AsRef<[u8]>) -> Self {
        self.name(0x86, uri)
    }

    /// Adds a DNS SAN, unchecked.
    pub fn dns(self, name: impl AsRef<[u8]>) -> Self {
        self.name(0x82, name)
    }

    /// Adds an e-mail SAN, unchecked.
    pub fn email(self, address: impl AsRef<[u8]>) -> Self {
        self.name(0x81, address)
    }

    /// Adds an IP address SAN.
    pub fn ip(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => self.name(0x87, address.octets()),
            IpAddr::V6(address) => self.name(0x87, address.octets()),
        }
    }

    /// Adds an `otherName` SAN: `oid` in DER without its tag, `text` as a UTF8String.
    pub fn other_name(self, oid: &[u8], text: &str) -> Self {
        let value = tlv(0xa0, &tlv(0x0c, text.as_bytes()));
        self.name(0xa0, [tlv(0x06, oid), value].concat())
    }

    /// Adds a `GeneralName` with this tag and these contents, whatever they are.
    pub fn name(mut self, tag: u8, contents: impl AsRef<[u8]>) -> Self {
        self.names.extend(tlv(tag, contents.as_ref()));
        self
    }

    /// Adds an attribute to the subject.
    pub fn subject(mut self, attribute: DnType, value: impl Into<DnValue>) -> Self {
        self.params.distinguished_name.push(attribute, value);
        self
    }

    /// Adds an attribute to the subject, in the RDN of the one before: `CN=a+OU=b`.
    pub fn subject_beside(mut self, attribute: DnType, value: impl Into<DnValue>) -> Self {
        self.joined.push(self.params.distinguished_name.iter().count());
        self.subject(attribute, value)
    }

    /// Sets the validity: Unix seconds of the first and of the last valid second.
    pub fn valid(mut self, not_before: u64, not_after: u64) -> Self {
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        self.params.not_before = epoch + Duration::from_secs(not_before);
        self.params.not_after = epoch + Duration::from_secs(not_after);
        self
    }

    /// Sets the serial number, big-endian.
    pub fn serial(mut self, serial: &[u8]) -> Self {
        self.params.serial_number = Some(SerialNumber::from_slice(serial));
        self
    }

    /// Replaces the extended key usages, of which `clientAuth` is the default.
    pub fn usages(mut self, usages: &[ExtendedKeyUsagePurpose]) -> Self {
        self.params.extended_key_usages = usages.to_vec();
        self
    }

    /// Signs it with a new key.
    pub fn issue(mut self) -> Leaf {
        if !self.names.is_empty() {
            let mut extension = CustomExtension::from_oid_content(SUBJECT_ALT_NAME, tlv(0x30, &self.names));
            // RFC 5280 §4.2.1.6: critical if the subject is empty.
            extension.set_criticality(self.params.distinguished_name.iter().next().is_none());
            self.params.custom_extensions.push(extension);
        }
        let key = new_key();
        let issuer = &self.authority.issuer;
        let certificate = self.params.signed_by(&key, issuer).expect("a leaf of these parameters can be signed");
        let mut der = certificate.der().to_vec();
        if !self.joined.is_empty() {
            der = with_joined(&der, &self.joined, issuer.key());
        }
        Leaf { der, key_pem: key.serialize_pem() }
    }
}

/// A signed leaf with its key.
#[derive(Clone, Debug)]
pub struct Leaf {
    der: Vec<u8>,
    key_pem: String,
}

impl Leaf {
    /// The certificate's DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The certificate's PEM.
    pub fn pem(&self) -> String {
        pem(&self.der)
    }

    /// The key's PEM (PKCS #8).
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// SHA-256 of the DER in lower-case hexadecimal digits.
    pub fn sha256_hex(&self) -> String {
        sha256_hex(&self.der)
    }
}

/// PEM of one certificate (RFC 7468): lines of 64 characters, as Envoy writes it.
pub fn pem(der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for (index, digit) in text.chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            pem.push('\n');
        }
        pem.push(digit);
    }
    pem.push_str("\n-----END CERTIFICATE-----\n");
    pem
}

/// SHA-256 in lower-case hexadecimal digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The same certificate, signed again, in whose subject these attributes stand in the RDN of the one before: `rcgen` gives
/// each an RDN of its own.
fn with_joined(der: &[u8], joined: &[usize], key: &KeyPair) -> Vec<u8> {
    /// In the fields of a `TBSCertificate` with a version (RFC 5280 §4.1).
    const SUBJECT: usize = 5;
    let [tbs, algorithm, _] = elements(contents(der))[..] else { panic!("a certificate has three parts") };
    let mut fields: Vec<Vec<u8>> = elements(contents(tbs)).into_iter().map(<[u8]>::to_vec).collect();
    let mut rdns: Vec<Vec<&[u8]>> = Vec::new();
    for (number, rdn) in elements(contents(&fields[SUBJECT])).into_iter().enumerate() {
        let attribute = contents(rdn);
        match rdns.last_mut() {
            Some(last) if joined.contains(&number) => last.push(attribute),
            _ => rdns.push(vec![attribute]),
        }
    }
    // The elements of a SET OF are sorted (X.690 §11.6).
    rdns.iter_mut().for_each(|rdn| rdn.sort_unstable());
    let name: Vec<u8> = rdns.iter().flat_map(|rdn| tlv(0x31, &rdn.concat())).collect();
    fields[SUBJECT] = tlv(0x30, &name);
    let tbs = tlv(0x30, &fields.concat());
    let signature = key.sign(&tbs).expect("a certificate can be signed");
    tlv(0x30, &[&tbs, algorithm, &tlv(0x03, &[&[0], &signature[..]].concat())].concat())
}

/// The elements in the contents of a SEQUENCE or SET, each with its tag and length.
fn elements(mut contents: &[u8]) -> Vec<&[u8]> {
    let mut elements = Vec::new();
    while !contents.is_empty() {
        let (header, length) = header(contents);
        let (element, rest) = contents.split_at(header + length);
        elements.push(element);
        contents = rest;
    }
    elements
}

/// An element without its tag and length.
fn contents(element: &[u8]) -> &[u8] {
    &element[header(element).0..]
}

/// How long the tag and the length of an element are, and how long its contents.
fn header(element: &[u8]) -> (usize, usize) {
    match usize::from(element[1]) {
        short @ ..0x80 => (2, short),
        long => {
            let digits = &element[2..2 + (long - 0x80)];
            (2 + digits.len(), digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)))
        }
    }
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("the default algorithm is compiled in")
}

/// One DER value: tag, definite length, contents.
fn tlv(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len();
    let mut der = vec![tag];
    if length < 0x80 {
        der.extend(u8::try_from(length));
    } else {
        let bytes: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
        der.extend(u8::try_from(0x80 | bytes.len()));
        der.extend(bytes);
    }
    der.extend_from_slice(contents);
    der
}

#[cfg(test)]
mod tests {
    use ring::signature::ECDSA_P256_SHA256_ASN1;
    use ring::signature::UnparsedPublicKey;
    use x509_parser::extensions::GeneralName;
    use x509_parser::prelude::FromDer as _;
    use x509_parser::prelude::X509Certificate;

    use super::*;

    #[test]
    fn a_leaf_has_the_names_and_the_validity_that_it_was_given() {
        let leaf = Authority::new("root")
            .leaf()
            .uri("spiffe://acme.example/a")
            .dns("evil\0.example")
            .other_name(&[0x2a, 0x03], "x")
            .subject(DnType::CommonName, "one")
            .subject(DnType::CustomDnType(vec![2, 5, 4, 3]), "two")
            .valid(1_000, 2_000)
            .serial(&[7])
            .issue();
        let (rest, parsed) = X509Certificate::from_der(leaf.der()).unwrap();
        assert!(rest.is_empty());
        assert_eq!(parsed.validity().not_before.timestamp(), 1_000);
        assert_eq!(parsed.validity().not_after.timestamp(), 2_000);
        assert_eq!(parsed.raw_serial(), [7]);
        assert_eq!(parsed.subject().iter_common_name().count(), 2);
        let names = parsed.subject_alternative_name().unwrap().unwrap();
        assert!(
            matches!(
                names.value.general_names.as_slice(),
                [
                    GeneralName::URI("spiffe://acme.example/a"),
                    GeneralName::DNSName("evil\0.example"),
                    GeneralName::OtherName(..)
                ]
            ),
            "{names:?}"
        );
    }

    #[test]
    fn attributes_that_stand_together_share_an_rdn_and_the_certificate_is_signed() {
        let authority = Authority::new("root");
        let leaf = authority
            .leaf()
            .subject(DnType::OrganizationalUnitName, "payments")
            .subject_beside(DnType::CommonName, "one")
            .subject(DnType::OrganizationName, "Acme")
            .uri("spiffe://acme.example/a")
            .issue();
        let (rest, parsed) = X509Certificate::from_der(leaf.der()).unwrap();
        assert!(rest.is_empty());
        let rdns: Vec<usize> = parsed.subject().iter().map(|rdn| rdn.iter().count()).collect();
        assert_eq!((rdns, parsed.subject().to_string().as_str()), (vec![2, 1], "CN=one + OU=payments, O=Acme"));
        let (_, root) = X509Certificate::from_der(authority.der()).unwrap();
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &root.public_key().subject_public_key.data);
        let signed = parsed.tbs_certificate.as_ref();
        assert!(key.verify(signed, &parsed.signature_value.data).is_ok());
    }

    #[test]
    fn a_thousand_names_fit() {
        let authority = Authority::new("root");
        let mut leaf = authority.leaf();
        for index in 0..1_000 {
            leaf = leaf.dns(format!("host-{index}.acme.example"));
        }
        let leaf = leaf.issue();
        let (_, parsed) = X509Certificate::from_der(leaf.der()).unwrap();
        assert_eq!(parsed.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 1_000);
    }
}
