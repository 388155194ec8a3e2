//! Certificates put together by hand, so that each part of one can be wrong.

/// One element with a length in its shortest form.
pub(super) fn tlv(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut encoded = vec![tag];
    match contents.len() {
        length @ 0..0x80 => encoded.push(length as u8),
        length @ 0x80..0x100 => encoded.extend([0x81, length as u8]),
        length => encoded.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    encoded.extend(contents);
    encoded
}

pub(super) fn sequence(elements: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &elements.concat())
}

/// An OBJECT IDENTIFIER from its contents.
pub(super) fn oid(contents: &[u8]) -> Vec<u8> {
    tlv(0x06, contents)
}

/// `2.5.4.n = value`, the value being an encoded string.
pub(super) fn attribute(n: u8, value: Vec<u8>) -> Vec<u8> {
    sequence(&[oid(&[0x55, 0x04, n]), value])
}

pub(super) fn utf8(text: &str) -> Vec<u8> {
    tlv(0x0c, text.as_bytes())
}

/// A Name with one SET for each slice.
pub(super) fn name(groups: &[&[Vec<u8>]]) -> Vec<u8> {
    sequence(&groups.iter().map(|group| tlv(0x31, &group.concat())).collect::<Vec<_>>())
}

/// The extension `2.5.29.n`.
pub(super) fn extension(n: u8, value: &[u8]) -> Vec<u8> {
    sequence(&[oid(&[0x55, 0x1d, n]), tlv(0x04, value)])
}

/// A subject alternative name extension of these context-specific tags and contents.
pub(super) fn alternative_names(names: &[(u8, &[u8])]) -> Vec<u8> {
    extension(17, &sequence(&names.iter().map(|(tag, contents)| tlv(*tag, contents)).collect::<Vec<_>>()))
}

/// Every part of a certificate, encoded.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) version: Vec<u8>,
    pub(super) serial: Vec<u8>,
    pub(super) inner_algorithm: Vec<u8>,
    pub(super) issuer: Vec<u8>,
    pub(super) validity: Vec<u8>,
    pub(super) subject: Vec<u8>,
    pub(super) key_info: Vec<u8>,
    /// Between the key and the extensions.
    pub(super) unique_ids: Vec<u8>,
    pub(super) extensions: Vec<Vec<u8>>,
    pub(super) outer_algorithm: Vec<u8>,
    pub(super) signature: Vec<u8>,
    /// After the last part, inside the outermost element.
    pub(super) leftover: Vec<u8>,
}

impl Parts {
    /// Of version 3, with a P-256 key, valid from 2026-11-22T10:00:00Z for a day, without subject and extensions.
    pub(super) fn new() -> Self {
        let ecdsa_with_sha256 = sequence(&[oid(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02])]);
        let ec_public_key = oid(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01]);
        let p256 = oid(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07]);
        Self {
            version: tlv(0xa0, &[0x02, 0x01, 0x02]),
            serial: tlv(0x02, &[0x0a, 0x0b]),
            inner_algorithm: ecdsa_with_sha256.clone(),
            issuer: name(&[&[attribute(3, utf8("issuer"))]]),
            validity: sequence(&[tlv(0x17, b"261122100000Z"), tlv(0x17, b"261123100000Z")]),
            subject: name(&[]),
            key_info: sequence(&[sequence(&[ec_public_key, p256]), tlv(0x03, &[0, 4, 1, 2, 3])]),
            unique_ids: Vec::new(),
            extensions: Vec::new(),
            outer_algorithm: ecdsa_with_sha256,
            signature: tlv(0x03, &[0, 1, 2, 3]),
            leftover: Vec::new(),
        }
    }

    /// The same with these alternative names.
    pub(super) fn named(names: &[(u8, &[u8])]) -> Self {
        Self { extensions: vec![alternative_names(names)], ..Self::new() }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let extensions = match self.extensions.as_slice() {
            [] => Vec::new(),
            extensions => tlv(0xa3, &sequence(extensions)),
        };
        let signed = sequence(&[
            self.version.clone(),
            self.serial.clone(),
            self.inner_algorithm.clone(),
            self.issuer.clone(),
            self.validity.clone(),
            self.subject.clone(),
            self.key_info.clone(),
            self.unique_ids.clone(),
            extensions,
        ]);
        sequence(&[signed, self.outer_algorithm.clone(), self.signature.clone(), self.leftover.clone()])
    }
}
