//! Questions and changes to DNS servers (RFC 1035, RFC 2136), asked directly: no cache is in between.

mod authority;
mod update;

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::op::Message;
use hickory_proto::op::Query;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::Name;
use hickory_proto::rr::RData;
use hickory_proto::rr::RecordType;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::UdpSocket;
use tokio::time::timeout;

pub(super) use authority::Authority;
pub(super) use update::Updater;

/// For one answer.
const ANSWER: Duration = Duration::from_secs(3);
/// Datagrams get lost.
const TRIES: usize = 3;
/// Names that lead on to each other, at most.
const LINKS: usize = 8;

/// Why the DNS is not as it has to be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DnsError {
    /// The server's clock and ours differ (RFC 8945 §5.2.3).
    #[error("the clock of `{server}` and ours are too far apart for the key `{key}`: set them")]
    Clock {
        /// The server.
        server: SocketAddr,
        /// The name of the key.
        key: String,
    },
    /// It may not be changed with this key, or by anybody (RFC 2136 §3.3).
    #[error("`{server}` does not let {who} change `{name}`: allow it there to update the zone `{zone}`")]
    Forbidden {
        /// The server.
        server: SocketAddr,
        /// With which key.
        who: String,
        /// The name.
        name: String,
        /// The zone of the configuration.
        zone: String,
    },
    /// It answers something else.
    #[error("what `{server}` answers is no DNS message")]
    Malformed {
        /// The server.
        server: SocketAddr,
    },
    /// Not a name.
    #[error("`{name}` is not a name that the DNS can hold")]
    Name {
        /// What it is.
        name: String,
    },
    /// A server does not have the record in time.
    #[error(
        "`{server}`, which answers for `{name}`, does not show the record after {within:?}; nothing was sent to the CA"
    )]
    NotSeen {
        /// The server.
        server: SocketAddr,
        /// The record.
        name: String,
        /// How long was waited.
        within: Duration,
    },
    /// It leads elsewhere.
    #[error("`{name}` is not in the zone `{zone}`, the only one that is changed")]
    OtherZone {
        /// The name, aliases followed.
        name: String,
        /// The zone of the configuration.
        zone: String,
    },
    /// It leads nowhere.
    #[error("`{resolver}` knows no address of `{name}`, so that nobody can come to it")]
    NoAddress {
        /// Who was asked.
        resolver: SocketAddr,
        /// The name.
        name: String,
    },
    /// It has no such zone, or only a copy of it (RFC 2136 §3.1).
    #[error(
        "`{server}` is not the primary server of the zone `{zone}`: give `server` the one that is, or `zone` the name that it has there"
    )]
    NotPrimary {
        /// The server.
        server: SocketAddr,
        /// The zone of the configuration.
        zone: String,
    },
    /// It says no.
    #[error("`{server}` answers {code} about `{name}`")]
    Refused {
        /// The server.
        server: SocketAddr,
        /// The name.
        name: String,
        /// The code of the answer.
        code: ResponseCode,
    },
    /// The secrets differ, or nobody vouches for the answer (RFC 8945 §5.2.2, §5.3).
    #[error("`{server}` has another secret for the key `{key}`, or is another server: compare it with `secret_file`")]
    Signature {
        /// The server.
        server: SocketAddr,
        /// The name of the key.
        key: String,
    },
    /// No answer.
    #[error("`{server}` does not answer: {why}; is it there, and does a firewall let UDP and TCP through?")]
    Silent {
        /// The server.
        server: SocketAddr,
        /// Why.
        why: String,
    },
    /// It does not know the key, or not for this (RFC 8945 §5.2.1).
    #[error(
        "`{server}` does not take the key `{key}`: it has to know it by this name and with this algorithm, and to let it update the zone"
    )]
    UnknownKey {
        /// The server.
        server: SocketAddr,
        /// The name of the key.
        key: String,
    },
    /// The key of the configuration cannot be used.
    #[error("the key `{key}` cannot sign")]
    Unsigned {
        /// The name of the key.
        key: String,
    },
}

/// That there is nothing.
#[derive(Clone, Copy, Debug)]
struct Negative {
    /// For how long who hears it may remember it.
    for_long: Duration,
    /// Whether somebody remembers it already.
    is_remembered: bool,
}

/// Asks one server.
async fn ask(server: SocketAddr, name: &Name, kind: RecordType) -> Result<Message, DnsError> {
    let mut question = Message::query();
    question.add_query(Query::query(name.clone(), kind));
    // A server with the zone does not mind; one without it finds out.
    question.metadata.recursion_desired = true;
    let bytes = question.to_vec().map_err(|_| DnsError::Name { name: name.to_string() })?;
    let answer = exchange(server, &bytes).await?;
    let answer = Message::from_vec(&answer).map_err(|_| DnsError::Malformed { server })?;
    match answer.metadata.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => Ok(answer),
        code => Err(DnsError::Refused { server, name: name.to_string(), code }),
    }
}

/// Why nobody could come to a name, if the resolver says so.
pub(super) async fn look_at(resolver: SocketAddr, name: &str) -> Option<DnsError> {
    let asked = parse(name).ok()?;
    for kind in [RecordType::A, RecordType::AAAA] {
        let answer = ask(resolver, &asked, kind).await.ok()?;
        if answer.answers.iter().any(|record| record.record_type() == kind) {
            return None;
        }
    }
    Some(DnsError::NoAddress { resolver, name: name.to_owned() })
}

/// Sends a datagram, and the same over TCP if the answer does not fit into one (RFC 7766).
async fn exchange(server: SocketAddr, question: &[u8]) -> Result<Vec<u8>, DnsError> {
    let silent = |why: String| DnsError::Silent { server, why };
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let mut why = "nothing came".to_owned();
    for _ in 0..TRIES {
        // Another port each time, so that nobody can guess it.
        let socket = UdpSocket::bind((any, 0)).await.map_err(|error| silent(error.to_string()))?;
        let asked = async {
            socket.connect(server).await?;
            socket.send(question).await?;
            let mut buffer = vec![0; 65_535];
            loop {
                let length = socket.recv(&mut buffer).await?;
                if length >= 12 && buffer.get(..2) == question.get(..2) {
                    buffer.truncate(length);
                    return Ok::<_, std::io::Error>(buffer);
                }
            }
        };
        match timeout(ANSWER, asked).await {
            // The bit that says that it was cut off.
            Ok(Ok(answer)) if answer.get(2).is_some_and(|flags| flags & 0x02 != 0) => {
                return exchange_by_tcp(server, question).await;
            }
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => why = error.to_string(),
            Err(_) => {}
        }
    }
    Err(silent(why))
}

/// Sends over TCP: what is changed is not to be sent twice.
async fn exchange_by_tcp(server: SocketAddr, question: &[u8]) -> Result<Vec<u8>, DnsError> {
    let asked = async {
        let mut tcp = TcpStream::connect(server).await?;
        let length = u16::try_from(question.len()).map_err(std::io::Error::other)?;
        tcp.write_all(&[&length.to_be_bytes(), question].concat()).await?;
        let length = tcp.read_u16().await?;
        let mut answer = vec![0; usize::from(length)];
        tcp.read_exact(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    match timeout(ANSWER, asked).await {
        Ok(Ok(answer)) if answer.get(..2) == question.get(..2) => Ok(answer),
        Ok(Ok(_)) => Err(DnsError::Malformed { server }),
        Ok(Err(error)) => Err(DnsError::Silent { server, why: error.to_string() }),
        Err(_) => Err(DnsError::Silent { server, why: "nothing came".to_owned() }),
    }
}

fn parse(name: &str) -> Result<Name, DnsError> {
    let mut parsed = Name::from_ascii(name).map_err(|_| DnsError::Name { name: name.to_owned() })?;
    parsed.set_fqdn(true);
    Ok(parsed)
}

/// Where an answer says that a name leads on to, if it does: as far as the answer goes.
fn alias(answer: &Message, name: &Name) -> Option<Name> {
    let mut at = name.clone();
    for _ in 0..LINKS {
        let next = answer.answers.iter().find_map(|record| match &record.data {
            RData::CNAME(target) if record.name == at => Some(target.0.clone()),
            _ => None,
        });
        match next {
            Some(next) => at = next,
            None => break,
        }
    }
    (at != *name).then_some(at)
}

/// For how long others may remember that there is nothing (RFC 2308 §5), if an answer says that.
fn negative(answer: &Message) -> Option<Negative> {
    if !answer.answers.is_empty() {
        return None;
    }
    answer.authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => {
            let for_long = Duration::from_secs(u64::from(record.ttl.min(soa.minimum)));
            // One who has the zone says it to us alone.
            Some(Negative { for_long, is_remembered: !answer.metadata.authoritative })
        }
        _ => None,
    })
}
