//! The stories against real parts: the agent, Envoy, a service and clients. `lab story NAME` tells one to whoever
//! watches; here a story that does not hold fails with everything that it saw.

use std::sync::PoisonError;
use std::sync::RwLock;

use portcullis_integration::environment::chain;
use portcullis_integration::environment::programs;
use portcullis_integration::environment::validate;
use portcullis_integration::report::Report;
use portcullis_integration::stories::Story;

/// Stories that fill the machine, or live by certificates and tokens of seconds. The others mostly wait, and share it.
const ALONE: [Story; 11] = [
    Story::AcmeDown,
    Story::Bundle,
    Story::ForgedFlood,
    Story::InjectedToken,
    Story::ManyNames,
    Story::PostgresRotation,
    Story::Revoke,
    Story::RevokeTenThousand,
    Story::Rotation,
    Story::SigningKeys,
    Story::ThousandRotations,
];

/// The machine. A story that failed leaves it as it found it.
static STAGE: RwLock<()> = RwLock::new(());

fn tell(story: Story) {
    let is_alone = ALONE.contains(&story);
    let _alone = is_alone.then(|| STAGE.write().unwrap_or_else(PoisonError::into_inner));
    let _shared = (!is_alone).then(|| STAGE.read().unwrap_or_else(PoisonError::into_inner));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut report = Report::quiet();
    if let Err(error) = runtime.block_on(story.tell(&mut report)) {
        panic!("{}\n`{}`: {}", report.text(), story.name(), chain(&error));
    }
}

#[test]
fn identity() {
    tell(Story::Identity);
}

#[test]
fn rotation() {
    tell(Story::Rotation);
}

#[test]
fn clock_step() {
    tell(Story::ClockStep);
}

#[test]
fn dead_name() {
    tell(Story::DeadName);
}

#[test]
fn staging() {
    tell(Story::Staging);
}

#[test]
fn drain() {
    tell(Story::Drain);
}

#[test]
fn policy_edit() {
    tell(Story::PolicyEdit);
}

#[test]
fn revoke() {
    tell(Story::Revoke);
}

#[test]
fn revoke_ten_thousand() {
    tell(Story::RevokeTenThousand);
}

#[test]
fn agent_crash() {
    tell(Story::AgentCrash);
}

#[test]
fn bundle() {
    tell(Story::Bundle);
}

#[test]
fn intermediate() {
    tell(Story::Intermediate);
}

#[test]
fn acme() {
    tell(Story::Acme);
}

#[test]
fn acme_down() {
    tell(Story::AcmeDown);
}

#[test]
fn issuer_down() {
    tell(Story::IssuerDown);
}

#[test]
fn kill_everywhere() {
    tell(Story::KillEverywhere);
}

#[test]
fn impersonation() {
    tell(Story::Impersonation);
}

#[test]
fn hostile_requests() {
    tell(Story::HostileRequests);
}

#[test]
fn detours() {
    tell(Story::Detours);
}

#[test]
fn sessions() {
    tell(Story::Sessions);
}

#[test]
fn failure() {
    tell(Story::Failure);
}

#[test]
fn secrecy() {
    tell(Story::Secrecy);
}

#[test]
fn forwarder() {
    tell(Story::Forwarder);
}

#[test]
fn many_names() {
    tell(Story::ManyNames);
}

#[test]
fn hot_restart() {
    tell(Story::HotRestart);
}

#[test]
fn thousand_rotations() {
    tell(Story::ThousandRotations);
}

#[test]
fn tcp_postgres() {
    tell(Story::TcpPostgres);
}

#[test]
fn nginx_haproxy() {
    tell(Story::NginxHaproxy);
}

#[test]
fn not_served() {
    tell(Story::NotServed);
}

#[test]
fn faults() {
    tell(Story::Faults);
}

#[test]
fn open_streams() {
    tell(Story::OpenStreams);
}

#[test]
fn four_ways() {
    tell(Story::FourWays);
}

#[test]
fn tokens() {
    tell(Story::Tokens);
}

#[test]
fn bound_tokens() {
    tell(Story::BoundTokens);
}

#[test]
fn candidate() {
    tell(Story::Candidate);
}

#[test]
fn forged_flood() {
    tell(Story::ForgedFlood);
}

#[test]
fn injected_token() {
    tell(Story::InjectedToken);
}

#[test]
fn signing_keys() {
    tell(Story::SigningKeys);
}

#[test]
fn session_tickets() {
    tell(Story::SessionTickets);
}

#[test]
fn postgres_rotation() {
    tell(Story::PostgresRotation);
}

#[test]
fn redis_rotation() {
    tell(Story::RedisRotation);
}

#[test]
fn openbao_leases() {
    tell(Story::OpenbaoLeases);
}

#[test]
fn just_in_time() {
    tell(Story::JustInTime);
}

#[test]
fn credential_faults() {
    tell(Story::CredentialFaults);
}

#[test]
fn envoy_accepts_the_shipped_configuration() {
    let config = programs::checkout().join("envoy-config/envoy.yaml");
    if let Err(error) = programs::envoy().and_then(|envoy| validate(&envoy, &config)) {
        panic!("{}", chain(&error));
    }
}
