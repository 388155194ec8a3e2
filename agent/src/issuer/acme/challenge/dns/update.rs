//! Changes to a zone (RFC 2136), signed (RFC 8945).

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hickory_proto::op::Message;
use hickory_proto::op::ResponseCode;
use hickory_proto::op::update_message;
use hickory_proto::rr::Name;
use hickory_proto::rr::RData;
use hickory_proto::rr::RecordSet;
use hickory_proto::rr::RecordType;
use hickory_proto::rr::TSigner;
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::rdata::tsig::TsigError;

use super::DnsError;
use super::LINKS;
use super::Negative;
use super::alias;
use super::ask;
use super::exchange_by_tcp;
use super::negative;
use super::parse;
use crate::issuer::acme::challenge::Before;
use crate::issuer::acme::challenge::TxtRecord;
use crate::issuer::acme::settings::TsigAlgorithm as Algorithm;
use crate::issuer::acme::settings::Update;
use crate::leaf;

/// A proof is looked at once.
const TTL: u32 = 10;
/// Seconds that two clocks may differ (RFC 8945 §10).
const FUDGE: u16 = 300;

/// One who may change a zone.
#[derive(Clone, Debug)]
pub(in crate::issuer::acme::challenge) struct Updater {
    settings: Update,
}

/// Where a record belongs, aliases followed.
struct Place {
    name: Name,
    /// What was said there, if nothing was.
    nothing: Option<Negative>,
}

impl Updater {
    pub(in crate::issuer::acme::challenge) fn new(settings: Update) -> Self {
        Self { settings }
    }

    /// Whether the record could be added: its name leads into the zone. Changes nothing.
    pub(in crate::issuer::acme::challenge) async fn probe(&self, record: &TxtRecord) -> Result<(), DnsError> {
        self.place(record).await.map(drop)
    }

    /// Adds the record beside those that are there. Says how long others may remember that it was not there.
    pub(in crate::issuer::acme::challenge) async fn add(
        &self,
        record: &TxtRecord,
        before: Before,
    ) -> Result<Option<Duration>, DnsError> {
        let place = self.place(record).await?;
        let zone = parse(&self.settings.zone)?;
        self.send(update_message::append(set(&place.name, record), zone, false, false), &place.name).await?;
        let remembered = place.nothing.filter(|nothing| nothing.is_remembered || before == Before::Looked);
        Ok(remembered.map(|nothing| nothing.for_long))
    }

    /// Takes this record away, and no other.
    pub(in crate::issuer::acme::challenge) async fn remove(&self, record: &TxtRecord) -> Result<(), DnsError> {
        let place = self.place(record).await?;
        let zone = parse(&self.settings.zone)?;
        self.send(update_message::delete_by_rdata(set(&place.name, record), zone, false), &place.name).await
    }

    /// Follows aliases, as the CA does, to a name of the zone.
    async fn place(&self, record: &TxtRecord) -> Result<Place, DnsError> {
        let zone = parse(&self.settings.zone)?;
        let mut name = parse(&record.name)?;
        let mut nothing = None;
        for _ in 0..LINKS {
            // Another zone may be another server's.
            let server = if zone.zone_of(&name) { self.settings.server } else { self.settings.resolver() };
            let answer = ask(server, &name, RecordType::CNAME).await?;
            nothing = negative(&answer);
            match alias(&answer, &name) {
                Some(next) => name = next,
                None => break,
            }
        }
        if zone.zone_of(&name) {
            return Ok(Place { name, nothing });
        }
        Err(DnsError::OtherZone { name: name.to_string(), zone: self.settings.zone.clone() })
    }

    async fn send(&self, mut message: Message, name: &Name) -> Result<(), DnsError> {
        let server = self.settings.server;
        let verifier = match self.signer()? {
            Some((signer, key)) => {
                let now = u64::try_from(leaf::now().0).unwrap_or_default();
                let unsigned = |_| DnsError::Unsigned { key: key.clone() };
                message.finalize(&signer, now).map_err(unsigned)?.map(|verifier| (verifier, key.clone()))
            }
            None => None,
        };
        let bytes = message.to_vec().map_err(|_| DnsError::Name { name: name.to_string() })?;
        let bytes = exchange_by_tcp(server, &bytes).await?;
        let answer = Message::from_vec(&bytes).map_err(|_| DnsError::Malformed { server })?;
        let code = answer.metadata.response_code;
        let who = verifier
            .as_ref()
            .map_or_else(|| "somebody without a key, or anybody,".to_owned(), |(_, key)| format!("`{key}`"));
        if let Some((mut verifier, key)) = verifier {
            // RFC 8945 §5.2: beside NOTAUTH, it says what it has against the key.
            match answer.signature.as_ref().and_then(|signature| signature.data.error) {
                Some(TsigError::BadKey) => return Err(DnsError::UnknownKey { server, key }),
                Some(TsigError::BadTime) => return Err(DnsError::Clock { server, key }),
                Some(TsigError::BadSig | TsigError::BadTrunc) => return Err(DnsError::Signature { server, key }),
                Some(TsigError::Unknown(_)) | None => {}
            }
            // Who refuses need not sign that, and nothing is believed but that nothing was changed.
            if code == ResponseCode::NoError && verifier.verify(&bytes).is_err() {
                return Err(DnsError::Signature { server, key });
            }
        }
        let (name, zone) = (name.to_string(), self.settings.zone.clone());
        match code {
            ResponseCode::NoError => Ok(()),
            // Some answer so where a key is missing.
            ResponseCode::NotAuth if self.settings.tsig.is_none() => {
                Err(DnsError::Forbidden { server, who, name, zone })
            }
            ResponseCode::NotAuth | ResponseCode::NotZone => Err(DnsError::NotPrimary { server, zone }),
            ResponseCode::Refused => Err(DnsError::Forbidden { server, who, name, zone }),
            code => Err(DnsError::Refused { server, name, code }),
        }
    }

    fn signer(&self) -> Result<Option<(TSigner, String)>, DnsError> {
        let Some(tsig) = &self.settings.tsig else { return Ok(None) };
        let key = tsig.name.clone();
        let unsigned = || DnsError::Unsigned { key: key.clone() };
        let secret = STANDARD.decode(tsig.secret.expose()).map_err(|_| unsigned())?;
        let algorithm = match tsig.algorithm {
            Algorithm::HmacSha256 => TsigAlgorithm::HmacSha256,
            Algorithm::HmacSha384 => TsigAlgorithm::HmacSha384,
            Algorithm::HmacSha512 => TsigAlgorithm::HmacSha512,
        };
        let signer = TSigner::new(secret, algorithm, parse(&key)?, FUDGE).map_err(|_| unsigned())?;
        Ok(Some((signer, key)))
    }

    /// The zone and the server that changes it.
    pub(in crate::issuer::acme::challenge) fn zone(&self) -> (&str, SocketAddr) {
        (&self.settings.zone, self.settings.server)
    }
}

fn set(name: &Name, record: &TxtRecord) -> RecordSet {
    let mut set = RecordSet::with_ttl(name.clone(), RecordType::TXT, TTL);
    set.add_rdata(RData::TXT(TXT::new(vec![record.value.clone()])));
    set
}
