//! Those who answer for a zone: asked until each of them shows the record, since the CA may come to any of them.

use std::net::SocketAddr;
use std::time::Duration;

use futures::future::join_all;
use hickory_proto::rr::Name;
use hickory_proto::rr::RData;
use hickory_proto::rr::RecordType;
use tokio::time::Instant;

use super::DnsError;
use super::LINKS;
use super::alias;
use super::ask;
use super::parse;
use crate::issuer::acme::challenge::TxtRecord;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Who is asked, and for how long.
#[derive(Clone, Debug)]
pub(in crate::issuer::acme::challenge) struct Authority {
    servers: Vec<SocketAddr>,
    within: Duration,
}

impl Authority {
    pub(in crate::issuer::acme::challenge) fn new(servers: Vec<SocketAddr>, within: Duration) -> Self {
        Self { servers, within }
    }

    /// The servers that the zone itself names, and the one that is changed.
    pub(in crate::issuer::acme::challenge) async fn of_zone(
        zone: &str,
        primary: SocketAddr,
        within: Duration,
    ) -> Result<Self, DnsError> {
        let answer = ask(primary, &parse(zone)?, RecordType::NS).await?;
        let mut servers = vec![primary];
        for record in &answer.answers {
            let RData::NS(host) = &record.data else { continue };
            let glue = answer.additionals.iter().filter(|glue| glue.name == host.0);
            let mut found: Vec<SocketAddr> = glue
                .filter_map(|glue| match &glue.data {
                    RData::A(address) => Some(SocketAddr::from((address.0, 53))),
                    RData::AAAA(address) => Some(SocketAddr::from((address.0, 53))),
                    _ => None,
                })
                .collect();
            if found.is_empty() {
                match tokio::net::lookup_host((host.0.to_ascii(), 53)).await {
                    // One family is enough: not every machine has both.
                    Ok(addresses) => found.extend(addresses.take(1)),
                    Err(error) => {
                        let server = host.0.to_string();
                        tracing::warn!(server, %error, "a server of the zone has no address and is not asked");
                    }
                }
            }
            servers.extend(found);
        }
        servers.sort();
        servers.dedup();
        // The primary has other ways to be reached than the one that the zone names.
        servers.retain(|server| *server == primary || server.ip() != primary.ip());
        Ok(Self::new(servers, within))
    }

    /// Waits until every server shows every record. One that cannot be asked holds up nobody as long as another shows them: the
    /// CA turns to that one too.
    pub(in crate::issuer::acme::challenge) async fn show(&self, records: &[TxtRecord]) -> Result<(), DnsError> {
        let deadline = Instant::now() + self.within;
        let looks = self.servers.iter().map(|&server| async move {
            for record in records {
                self.shows(server, record, deadline).await?;
            }
            Ok(server)
        });
        let (mut shown, mut dead) = (false, None);
        for outcome in join_all(looks).await {
            match outcome {
                Ok(_) => shown = true,
                Err(error) if is_dead(&error) => dead = Some(error),
                Err(error) => return Err(error),
            }
        }
        match dead {
            Some(error) if !shown => Err(error),
            Some(error) => {
                tracing::warn!(error = crate::errors::chain(&error), "one of the zone's servers is left out");
                Ok(())
            }
            None => Ok(()),
        }
    }

    async fn shows(&self, server: SocketAddr, record: &TxtRecord, deadline: Instant) -> Result<(), DnsError> {
        let name = parse(&record.name)?;
        let mut pause = PAUSE;
        loop {
            match self.has(server, &name, &record.value).await {
                Ok(true) => return Ok(()),
                // Where there is another, it is not waited for.
                Err(error) if is_dead(&error) && self.servers.len() > 1 => return Err(error),
                Err(error) if Instant::now() + pause > deadline => return Err(error),
                Ok(false) if Instant::now() + pause > deadline => {
                    return Err(DnsError::NotSeen { server, name: record.name.clone(), within: self.within });
                }
                Ok(false) | Err(_) => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn has(&self, server: SocketAddr, name: &Name, value: &str) -> Result<bool, DnsError> {
        let mut name = name.clone();
        for _ in 0..LINKS {
            let answer = ask(server, &name, RecordType::TXT).await?;
            let has = answer.answers.iter().any(|record| match &record.data {
                RData::TXT(text) => text.txt_data.concat() == value.as_bytes(),
                _ => false,
            });
            if has {
                return Ok(true);
            }
            match alias(&answer, &name) {
                Some(next) => name = next,
                None => break,
            }
        }
        Ok(false)
    }
}

/// Whether nothing was learnt of the record: the server does not answer, or not this.
fn is_dead(error: &DnsError) -> bool {
    matches!(error, DnsError::Silent { .. } | DnsError::Refused { .. } | DnsError::Malformed { .. })
}
