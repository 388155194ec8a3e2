//! The stories: tests against real parts that one can also watch. Each is told through a [`Report`], by the test and by
//! `lab story NAME` alike, and holds only if every claim in it holds.

mod acme;
mod acme_down;
mod agent_crash;
mod alone;
mod bound_tokens;
mod bundle;
mod candidate;
mod clock_step;
mod credentials;
mod dead_name;
mod detours;
mod drain;
mod edge;
mod failure;
mod faults;
mod forged_flood;
mod forwarder;
mod four_ways;
mod gate;
mod hostile_requests;
mod hot_restart;
mod identity;
mod impersonation;
mod intermediate;
mod issuer_down;
mod kill_everywhere;
mod many_names;
mod nginx_haproxy;
mod not_served;
mod open_streams;
mod policy_edit;
mod revoke;
mod revoke_ten_thousand;
mod rotation;
mod secrecy;
mod sessions;
mod staging;
mod tcp_postgres;
mod thousand_rotations;
mod tokens;

use portcullis_policy::Leaf;

use crate::environment::Credentials;
use crate::environment::Environment;
use crate::environment::Settings;
use crate::report::Report;
use crate::report::StoryError;

pub use rotation::Rotations;
pub use rotation::rotate;

/// SPIFFE ID that the shipped policy's role `checkout` names.
pub const CHECKOUT: &str = "spiffe://acme.example/ns/shop/sa/checkout";
/// One that its role `reporting` names.
pub const REPORTING: &str = "spiffe://acme.example/ns/reporting/sa/daily";

/// A story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Story {
    /// Who gets in, who does not, and what the service learns.
    Identity,
    /// Certificates are replaced under load.
    Rotation,
    /// A thousand certificates are replaced under load.
    ThousandRotations,
    /// The policy is edited, well and badly.
    PolicyEdit,
    /// Certificates are revoked, one by one and very many.
    Revoke,
    /// A thousand of ten thousand open streams end at once.
    RevokeTenThousand,
    /// The agent is killed.
    AgentCrash,
    /// One root of the built-in CA follows another under load.
    Bundle,
    /// The authority below the root is replaced under load.
    Intermediate,
    /// Certificates from an ACME server.
    Acme,
    /// An ACME server that is gone for a day.
    AcmeDown,
    /// One name of several is dead.
    DeadName,
    /// Orders that are tried where they do not count.
    Staging,
    /// An issuer goes away and comes back.
    IssuerDown,
    /// The agent dies at every place where it can.
    KillEverywhere,
    /// Clients pretend to be others.
    Impersonation,
    /// Requests that are meant to break something.
    HostileRequests,
    /// Ways around the decision at a request's head.
    Detours,
    /// Certificates that lose their standing while connections and sessions go on.
    Sessions,
    /// The proxy or its configuration fails the filter.
    Failure,
    /// What is written down.
    Secrecy,
    /// Two proxies in a row.
    Forwarder,
    /// What is open when it stops being allowed.
    OpenStreams,
    /// A real database behind the gate.
    TcpPostgres,
    /// Certificates by server name.
    ManyNames,
    /// One Envoy takes over from another.
    HotRestart,
    /// Proxies that read files.
    NginxHaproxy,
    /// A proxy that takes no new certificate.
    NotServed,
    /// Disks and directories that do not do what they should.
    Faults,
    /// Clients whose certificates are about to end.
    Drain,
    /// The clock is set while everything runs.
    ClockStep,
    /// One table, decided four ways.
    FourWays,
    /// Bearer tokens of every kind, and keys that change under load.
    Tokens,
    /// Tokens that are good with one certificate only.
    BoundTokens,
    /// A second policy is tried beside the first.
    Candidate,
    /// Ten thousand bad tokens.
    ForgedFlood,
    /// A proxy puts tokens into requests.
    InjectedToken,
    /// The keys that sign tokens are replaced.
    SigningKeys,
    /// The keys of session tickets are replaced.
    SessionTickets,
    /// Two hundred passwords of a database under load.
    PostgresRotation,
    /// A Redis user with two passwords at a time.
    RedisRotation,
    /// What OpenBao lends and keeps.
    OpenbaoLeases,
    /// An account that exists while it is used.
    JustInTime,
    /// Credentials that cannot be set, tried or published.
    CredentialFaults,
}

impl Story {
    /// All of them, in the order in which one would read them.
    pub const ALL: &[Self] = &[
        Self::Identity,
        Self::Rotation,
        Self::PolicyEdit,
        Self::Revoke,
        Self::RevokeTenThousand,
        Self::AgentCrash,
        Self::Bundle,
        Self::Intermediate,
        Self::Acme,
        Self::AcmeDown,
        Self::DeadName,
        Self::Staging,
        Self::IssuerDown,
        Self::KillEverywhere,
        Self::Impersonation,
        Self::HostileRequests,
        Self::Detours,
        Self::Sessions,
        Self::Failure,
        Self::Secrecy,
        Self::Forwarder,
        Self::OpenStreams,
        Self::TcpPostgres,
        Self::ManyNames,
        Self::ThousandRotations,
        Self::HotRestart,
        Self::NginxHaproxy,
        Self::NotServed,
        Self::Faults,
        Self::Drain,
        Self::ClockStep,
        Self::FourWays,
        Self::Tokens,
        Self::BoundTokens,
        Self::Candidate,
        Self::ForgedFlood,
        Self::InjectedToken,
        Self::SigningKeys,
        Self::SessionTickets,
        Self::PostgresRotation,
        Self::RedisRotation,
        Self::OpenbaoLeases,
        Self::JustInTime,
        Self::CredentialFaults,
    ];

    /// The story of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|story| story.name() == name)
    }

    /// The name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Rotation => "rotation",
            Self::PolicyEdit => "policy-edit",
            Self::Revoke => "revoke",
            Self::RevokeTenThousand => "revoke-ten-thousand",
            Self::AgentCrash => "agent-crash",
            Self::Bundle => "bundle",
            Self::Intermediate => "intermediate",
            Self::Acme => "acme",
            Self::AcmeDown => "acme-down",
            Self::DeadName => "dead-name",
            Self::Staging => "staging",
            Self::IssuerDown => "issuer-down",
            Self::KillEverywhere => "kill-everywhere",
            Self::Impersonation => "impersonation",
            Self::HostileRequests => "hostile-requests",
            Self::Detours => "detours",
            Self::Sessions => "sessions",
            Self::Failure => "failure",
            Self::Secrecy => "secrecy",
            Self::Forwarder => "forwarder",
            Self::OpenStreams => "open-streams",
            Self::TcpPostgres => "tcp-postgres",
            Self::ManyNames => "many-names",
            Self::ThousandRotations => "thousand-rotations",
            Self::HotRestart => "hot-restart",
            Self::NginxHaproxy => "nginx-haproxy",
            Self::NotServed => "not-served",
            Self::Faults => "faults",
            Self::Drain => "drain",
            Self::ClockStep => "clock-step",
            Self::FourWays => "four-ways",
            Self::Tokens => "tokens",
            Self::BoundTokens => "bound-tokens",
            Self::Candidate => "candidate",
            Self::ForgedFlood => "forged-flood",
            Self::InjectedToken => "injected-token",
            Self::SigningKeys => "signing-keys",
            Self::SessionTickets => "session-tickets",
            Self::PostgresRotation => "postgres-rotation",
            Self::RedisRotation => "redis-rotation",
            Self::OpenbaoLeases => "openbao-leases",
            Self::JustInTime => "just-in-time",
            Self::CredentialFaults => "credential-faults",
        }
    }

    /// What it tells, in a line.
    pub fn about(self) -> &'static str {
        match self {
            Self::Identity => "the right role gets in and the service learns who asks; everyone else is refused",
            Self::Rotation => "fifty new server certificates under load, each proven served, no request lost",
            Self::PolicyEdit => {
                "a saved edit is in force at once; a broken one changes nothing and says where it is broken"
            }
            Self::Revoke => {
                "who is revoked is refused with the next request, and in the handshake; a neighbour goes on"
            }
            Self::RevokeTenThousand => {
                "of 10,000 open streams, one command ends the 1,000 of whom it revokes, and no other"
            }
            Self::AgentCrash => "the agent dies by kill -9: traffic goes on, and its return re-issues nothing",
            Self::AcmeDown => {
                "the CA is gone for a day: the fallback takes over in time, the CA is not stormed, and takes back what is its own"
            }
            Self::DeadName => {
                "one bad name of several: said by name, left out if that is wished for, back when it is good again"
            }
            Self::Staging => "orders are rehearsed where they do not count: when asked, and after three failures",
            Self::Bundle => {
                "one root of the built-in CA follows another under load; nobody is refused, in the unsafe order nothing is done"
            }
            Self::Intermediate => {
                "the authority below the root is replaced twelve times under load; who knows the root alone notices nothing"
            }
            Self::Acme => "a real ACME server issues, refuses nonces, and says when it wants a certificate renewed",
            Self::IssuerDown => {
                "OpenBao is sealed when a certificate is due: the fallback issues it, and nobody notices"
            }
            Self::KillEverywhere => {
                "the agent dies at every step of an order, a delivery and a proof: one order, one certificate, served"
            }
            Self::Impersonation => "clients send the gate's own headers, in every spelling, and speak for nobody else",
            Self::Forwarder => "what a proxy in front says of its clients is believed if it is trusted and proven",
            Self::OpenStreams => "no stream outlives its certificate, its role or its revocation; its neighbours go on",
            Self::TcpPostgres => "a psql session behind the gate ends with its certificate, its role or its revocation",
            Self::ManyNames => "one port, 1,200 server names: each its own certificate, unknown ones refused at once",
            Self::ThousandRotations => "a thousand new certificates under load, each proven served, no request lost",
            Self::HotRestart => {
                "another Envoy takes over under load, certificates are replaced meanwhile, no request lost"
            }
            Self::NginxHaproxy => "nginx and HAProxy read new files when they are told, prove it, and lose no request",
            Self::NotServed => {
                "a proxy that ignores what it is given: tried again, alarm, those told who can help, one step back"
            }
            Self::Faults => {
                "full disks, planted links, wrong owners: no order is spent, the last good pair stays served"
            }
            Self::Drain => "who is told that a certificate ends comes back with a new one, and no request fails",
            Self::ClockStep => "the clock is set ahead and back: what has ended ends, and who is revoked stays out",
            Self::FourWays => "library, command line, filter in wasmtime and filter in Envoy decide one table alike",
            Self::Tokens => {
                "each kind of bearer token, by the host's arithmetic and by the filter's own; new keys lose no request"
            }
            Self::BoundTokens => "a stolen token is of no use with another certificate, or with none",
            Self::Candidate => "a second policy beside the first changes no verdict and counts each that would differ",
            Self::ForgedFlood => "ten thousand bad tokens are refused, and a good client beside them never is",
            Self::InjectedToken => {
                "Envoy gives an application tokens that live five seconds; for a minute none is refused"
            }
            Self::SigningKeys => "new keys sign tokens when every filter has them; no token is refused",
            Self::SessionTickets => "sessions are resumed at every proxy, across new keys, and not beyond the old ones",
            Self::PostgresRotation => "two hundred new passwords of a database under real logins, none of which fails",
            Self::RedisRotation => "a Redis user's password is replaced under load; the server dies and comes back",
            Self::OpenbaoLeases => "leases are extended, replaced and given back; OpenBao is sealed in the middle",
            Self::JustInTime => "an account that exists from the first question until nobody uses it",
            Self::CredentialFaults => {
                "two agents, foreign passwords, bad values: told apart, and the one before stays good"
            }
            Self::HostileRequests => "malformed and oversized requests neither get through nor break the filter",
            Self::Detours => "trailers, redirects, upgrades, tunnels and other hosts lead around no decision",
            Self::Sessions => "who is revoked or expires is refused on open connections and in resumed sessions",
            Self::Failure => "whatever fails, nobody gets in who should not, and a fresh machine serves the next",
            Self::Secrecy => "the log has a line for each refusal, which nobody forges and no secret is in",
        }
    }

    /// Tells it.
    ///
    /// # Errors
    ///
    /// [`StoryError`] at the first claim that does not hold.
    pub async fn tell(self, report: &mut Report) -> Result<(), StoryError> {
        match self {
            Self::Identity => identity::tell(report).await,
            Self::Rotation => rotation::tell(report).await,
            Self::PolicyEdit => policy_edit::tell(report).await,
            Self::Revoke => revoke::tell(report).await,
            Self::RevokeTenThousand => revoke_ten_thousand::tell(report).await,
            Self::AgentCrash => agent_crash::tell(report).await,
            Self::Bundle => bundle::tell(report).await,
            Self::Intermediate => intermediate::tell(report).await,
            Self::Acme => acme::tell(report).await,
            Self::AcmeDown => acme_down::tell(report).await,
            Self::DeadName => dead_name::tell(report).await,
            Self::Staging => staging::tell(report).await,
            Self::IssuerDown => issuer_down::tell(report).await,
            Self::KillEverywhere => kill_everywhere::tell(report).await,
            Self::Impersonation => impersonation::tell(report).await,
            Self::HostileRequests => hostile_requests::tell(report).await,
            Self::Detours => detours::tell(report).await,
            Self::Sessions => sessions::tell(report).await,
            Self::Failure => failure::tell(report).await,
            Self::Secrecy => secrecy::tell(report).await,
            Self::Forwarder => forwarder::tell(report).await,
            Self::OpenStreams => open_streams::tell(report).await,
            Self::TcpPostgres => tcp_postgres::tell(report).await,
            Self::ManyNames => many_names::tell(report).await,
            Self::ThousandRotations => thousand_rotations::tell(report).await,
            Self::HotRestart => hot_restart::tell(report).await,
            Self::NginxHaproxy => nginx_haproxy::tell(report).await,
            Self::NotServed => not_served::tell(report).await,
            Self::Faults => faults::tell(report).await,
            Self::Drain => drain::tell(report).await,
            Self::ClockStep => clock_step::tell(report).await,
            Self::FourWays => four_ways::tell(report).await,
            Self::Tokens => tokens::tell(report).await,
            Self::BoundTokens => bound_tokens::tell(report).await,
            Self::Candidate => candidate::tell(report).await,
            Self::ForgedFlood => forged_flood::tell(report).await,
            Self::InjectedToken => credentials::injected_token::tell(report).await,
            Self::SigningKeys => credentials::signing_keys::tell(report).await,
            Self::SessionTickets => credentials::session_tickets::tell(report).await,
            Self::PostgresRotation => credentials::postgres_rotation::tell(report).await,
            Self::RedisRotation => credentials::redis_rotation::tell(report).await,
            Self::OpenbaoLeases => credentials::openbao_leases::tell(report).await,
            Self::JustInTime => credentials::just_in_time::tell(report).await,
            Self::CredentialFaults => credentials::credential_faults::tell(report).await,
        }
    }
}

/// Seconds until a certificate ends; negative when it has ended.
pub(crate) fn seconds_left(own: &Credentials) -> i64 {
    let leaf = Leaf::from_pem(own.chain_pem.as_bytes());
    // One that cannot be read never ends: the wait for it will say so.
    leaf.map_or(i64::MAX, |leaf| leaf.not_after().0 - jiff::Timestamp::now().as_second())
}

/// Starts everything, tells one part of a story in it, and ends everything. If the part does not hold, the report gets
/// the last words of the programs.
async fn within(
    settings: Settings,
    report: &mut Report,
    tell: impl AsyncFnOnce(&mut Environment, &mut Report) -> Result<(), StoryError>,
) -> Result<(), StoryError> {
    report.step("starting the agent, Envoy and a service behind it, all mTLS");
    let mut environment = Environment::start(&settings).await?;
    report.step("everything is issued, delivered and proven served");
    let outcome = tell(&mut environment, report).await;
    if outcome.is_err() {
        report.line(environment.last_words());
    }
    outcome
}
