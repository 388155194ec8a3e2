//! What is read from forwarding proxies, what is refused, and that a forger never becomes somebody else.

mod client_cert;
mod forgery;
mod grammar;
mod hops;
mod recorded;

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::CertificateParams;
use rcgen::CustomExtension;
use rcgen::DistinguishedName;
use rcgen::DnType;
use rcgen::KeyPair;

use super::*;
use crate::hex::Hex;

const URI: u8 = 0x86;
const DNS: u8 = 0x82;

/// The URI name of the proxy that forwards.
const EDGE: &str = "spiffe://acme.example/edge";

/// A self-signed certificate: whom a proxy trusts is no matter of this module.
struct Certificate {
    der: Vec<u8>,
    uris: Vec<String>,
    dns: Vec<String>,
    subject: String,
}

impl Certificate {
    /// With these names, of kinds [`URI`] and [`DNS`], whatever is in them.
    fn new(common_name: &str, names: &[(u8, &str)]) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        if !common_name.is_empty() {
            params.distinguished_name.push(DnType::CommonName, common_name);
        }
        if !names.is_empty() {
            let names: Vec<u8> = names.iter().flat_map(|(tag, name)| tlv(*tag, name.as_bytes())).collect();
            params.custom_extensions.push(CustomExtension::from_oid_content(&[2, 5, 29, 17], tlv(0x30, &names)));
        }
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let of = |kind| names.iter().filter(|(tag, _)| *tag == kind).map(|(_, name)| (*name).to_owned()).collect();
        let subject = if common_name.is_empty() { String::new() } else { format!("CN={common_name}") };
        Self { der: certificate.der().to_vec(), uris: of(URI), dns: of(DNS), subject }
    }

    fn spiffe(id: &str) -> Self {
        Self::new("", &[(URI, id)])
    }

    fn leaf(&self) -> Leaf {
        Leaf::from_der(&self.der).unwrap()
    }

    fn hash(&self) -> String {
        Hex(self.leaf().sha256()).to_string()
    }

    fn pem(&self) -> String {
        let text = STANDARD.encode(&self.der);
        let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
    }

    fn url_encoded(&self) -> String {
        url_encoded(&self.pem())
    }

    /// What Envoy writes of it, asked for everything: names are raw.
    fn element(&self, by: &str) -> String {
        let (hash, pem) = (self.hash(), self.url_encoded());
        let mut text = format!("By={by};Hash={hash};Cert=\"{pem}\";Chain=\"{pem}\";Subject=\"{}\"", self.subject);
        if self.uris.is_empty() {
            text.push_str(";URI=");
        }
        self.uris.iter().for_each(|uri| write!(text, ";URI={uri}").unwrap());
        self.dns.iter().for_each(|name| write!(text, ";DNS={name}").unwrap());
        text
    }
}

fn url_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(char::from(byte)),
            _ => write!(encoded, "%{byte:02X}").unwrap(),
        }
    }
    encoded
}

fn tlv(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len();
    let mut der = match length {
        0..0x80 => vec![tag, length as u8],
        0x80..0x100 => vec![tag, 0x81, length as u8],
        _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
    };
    der.extend(contents);
    der
}

/// One proxy forwards.
fn one() -> Hops {
    Hops { count: 1, by: None }
}

/// The client's certificate, by the header alone.
fn read(header: &[u8], hops: &Hops, forwarder: &Leaf) -> Result<Leaf, Reason> {
    from_xfcc(header, false, hops, forwarder).map(Option::unwrap)
}

/// The identity of the client, or why it is not believed.
fn client(header: &str, hops: &Hops) -> Result<String, Reason> {
    let edge = Certificate::spiffe(EDGE).leaf();
    read(header.as_bytes(), hops, &edge).map(|leaf| leaf.identity().to_owned())
}
