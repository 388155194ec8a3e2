//! `proxy_get_property`: the attributes that Envoy 1.40 has for a request, in Envoy's encodings.
//!
//! Strings are raw bytes, unsigned integers 8 bytes little-endian, booleans one byte. Only what a gate could want is
//! here; everything else is "not found", which is also what Envoy says of what it does not know.

use std::fmt::Write as _;
use std::net::SocketAddr;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::prelude::X509Certificate;

use crate::certificates;

use super::connection::Connection;
use super::connection::Fault;
use super::headers::Headers;
use super::status::HostResult;
use super::status::Status;

/// The bytes that carry in a query or form without escape; Envoy's `urlEncodedPem…` replaces everything else that PEM has.
const ESCAPED_IN_PEM: &str = "\n +/=";

/// Looks a property up. `path` is the ABI's form: parts with a NUL between them.
pub(crate) fn property(path: &[u8], connection: &Connection, request: Option<&Headers>) -> HostResult<Vec<u8>> {
    let path = std::str::from_utf8(path).map_err(|_| Status::NotFound)?.replace('\0', ".");
    match connection.faults.iter().find(|fault| fault.property() == path) {
        Some(Fault::Missing(_)) => return Err(Status::NotFound),
        Some(Fault::Value(_, value)) => return Ok(value.clone()),
        Some(Fault::Status(_, status)) => return Err(status_of(*status)),
        None => {}
    }
    match path.split_once('.') {
        Some(("connection", attribute)) => of_connection(attribute, connection),
        Some(("request", attribute)) => of_request(attribute, request.ok_or(Status::NotFound)?),
        Some(("source", "address")) => Ok(SocketAddr::from(connection.source).to_string().into_bytes()),
        Some(("destination", "address")) => Ok(connection.listener.to_string().into_bytes()),
        Some(("source", "port")) => Ok(i64::from(connection.source.1).to_le_bytes().to_vec()),
        None if path == "connection_id" => Ok(connection.id.to_le_bytes().to_vec()),
        None if path == "plugin_name" || path == "plugin_root_id" || path == "plugin_vm_id" => {
            Ok(b"portcullis".to_vec())
        }
        _ => Err(Status::NotFound),
    }
}

fn of_connection(attribute: &str, connection: &Connection) -> HostResult<Vec<u8>> {
    let certificate = connection.certificate.as_deref();
    match attribute {
        "id" => return Ok(connection.id.to_le_bytes().to_vec()),
        // Presented, not validated: Envoy has no attribute for the latter.
        "mtls" => return Ok(vec![u8::from(certificate.is_some())]),
        "requested_server_name" => return Ok(connection.sni.clone().into_bytes()),
        _ => {}
    }
    let version = connection.tls_version.as_deref().ok_or(Status::NotFound)?;
    if attribute == "tls_version" {
        return Ok(version.as_bytes().to_vec());
    }
    let Some(der) = certificate else {
        // Envoy has an empty subject, but no empty digest and no empty SAN.
        return if attribute == "subject_peer_certificate" { Ok(Vec::new()) } else { Err(Status::NotFound) };
    };
    match attribute {
        "sha256_peer_certificate_digest" => Ok(certificates::sha256_hex(der).into_bytes()),
        "peer_certificate" => Ok(url_encoded(&certificates::pem(der)).into_bytes()),
        "subject_peer_certificate" => parsed(der, |leaf| Some(leaf.subject().to_string())),
        "uri_san_peer_certificate" => first_name(der, |name| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        }),
        "dns_san_peer_certificate" => first_name(der, |name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        }),
        _ => Err(Status::NotFound),
    }
}

fn of_request(attribute: &str, request: &Headers) -> HostResult<Vec<u8>> {
    let name: &[u8] = match attribute {
        "path" => b":path",
        "method" => b":method",
        "host" => b":authority",
        "scheme" => b":scheme",
        "id" => b"x-request-id",
        _ => attribute.strip_prefix("headers.").ok_or(Status::NotFound)?.as_bytes(),
    };
    request.first(name).map(<[u8]>::to_vec).ok_or(Status::NotFound)
}

fn parsed(der: &[u8], ask: impl FnOnce(&X509Certificate<'_>) -> Option<String>) -> HostResult<Vec<u8>> {
    let (_, leaf) = X509Certificate::from_der(der).map_err(|_| Status::NotFound)?;
    ask(&leaf).map(String::into_bytes).ok_or(Status::NotFound)
}

fn first_name(der: &[u8], pick: impl Fn(&GeneralName<'_>) -> Option<String>) -> HostResult<Vec<u8>> {
    parsed(der, |leaf| {
        let names = leaf.subject_alternative_name().ok().flatten()?;
        names.value.general_names.iter().find_map(pick)
    })
}

fn url_encoded(pem: &str) -> String {
    let mut text = String::with_capacity(pem.len() * 2);
    for character in pem.chars() {
        if ESCAPED_IN_PEM.contains(character) {
            write!(text, "%{:02X}", u32::from(character)).expect("a string takes everything");
        } else {
            text.push(character);
        }
    }
    text
}

fn status_of(code: i32) -> Status {
    match code {
        1 => Status::NotFound,
        2 => Status::BadArgument,
        6 => Status::InvalidMemoryAccess,
        _ => Status::InternalFailure,
    }
}
