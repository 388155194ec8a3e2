//! `identity`: the right role gets in and the service learns who asks; everyone else is refused, at the door they
//! deserve.

use std::time::Duration;

use hyper::Method;
use rustls::AlertDescription;

use super::CHECKOUT;
use super::REPORTING;
use super::seconds_left;
use super::within;
use crate::certificates::Authority;
use crate::environment::Ask;
use crate::environment::Client;
use crate::environment::ClientError;
use crate::environment::Credentials;
use crate::environment::Environment;
use crate::environment::Protocol;
use crate::environment::Protocol::Http1;
use crate::environment::Protocol::Http2;
use crate::environment::Settings;
use crate::environment::wait;
use crate::report::Report;
use crate::report::StoryError;

pub(super) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    within(Settings::default(), report, async |environment, report| {
        for protocol in [Http1, Http2] {
            roles(environment, report, protocol).await?;
        }
        strangers(environment, report).await?;
        for protocol in [Http1, Http2] {
            expiry_on_an_open_connection(environment, report, protocol).await?;
        }
        Ok(())
    })
    .await
}

async fn roles(environment: &Environment, report: &mut Report, protocol: Protocol) -> Result<(), StoryError> {
    report.step(format_args!("clients with certificates of the built-in CA, over {protocol}"));
    let checkout = environment.client(CHECKOUT, protocol).await?;
    let reporting = environment.client(REPORTING, protocol).await?;
    environment.upstream.take_seen();

    let answer = ask(&checkout, &Ask::get("/orders/42?expand=items"), "read an order as checkout").await?;
    report.holds("checkout reads an order", answer.status == 200, answer.status)?;
    let seen = environment.upstream.take_seen().pop();
    let Some(seen) = seen else { return report.holds("the service sees the request", false, "nothing") };
    let identity = seen.values("x-portcullis-identity");
    report.holds("the service is told who asks", identity == [CHECKOUT], identity.join(", "))?;
    let roles = seen.values("x-portcullis-roles");
    report.holds("and in which roles", roles == ["checkout,tenant"], roles.join(", "))?;
    let rule = seen.values("x-portcullis-rule");
    report.holds("and by which rule", rule == ["read-orders"], rule.join(", "))?;
    report.holds("the path is as the client sent it", seen.path == "/orders/42?expand=items", &seen.path)?;
    let proxy = "spiffe://acme.example/gateway";
    report.holds("the service knows the proxy by its own certificate", seen.proxy == proxy, &seen.proxy)?;

    let write = Ask::new(Method::POST, "/orders");
    let cases = [
        ("checkout writes an order", &checkout, write.clone(), 200, ""),
        ("reporting reads an order", &reporting, Ask::get("/orders/42"), 200, ""),
        ("reporting does not write", &reporting, write, 403, "no_rule_matched"),
        ("reporting sees its own tenant", &reporting, Ask::get("/tenants/reporting/x"), 200, ""),
        ("and no other tenant", &reporting, Ask::get("/tenants/shop/x"), 403, "no_rule_matched"),
        ("nobody sees what a deny rule closes", &checkout, Ask::get("/debug/vars"), 403, "deny_rule_matched"),
        ("what no rule names is closed", &checkout, Ask::get("/"), 403, "no_rule_matched"),
    ];
    for (claim, client, request, status, code) in cases {
        environment.upstream.take_seen();
        let answer = ask(client, &request, claim).await?;
        let reached = !environment.upstream.take_seen().is_empty();
        let seen = format!("{} {}", answer.status.as_u16(), answer.code());
        report.holds(claim, answer.status == status && answer.code() == code && reached == (status == 200), &seen)?;
    }
    Ok(())
}

async fn strangers(environment: &Environment, report: &mut Report) -> Result<(), StoryError> {
    report.step("clients that the handshake refuses");
    environment.upstream.take_seen();

    let nobody = environment.client_with(None, Http1)?;
    refused(report, "no certificate", &nobody, AlertDescription::CertificateRequired).await?;

    let authority = Authority::new("somebody else's");
    let leaf = authority.leaf().uri(CHECKOUT).issue();
    let own = Credentials { chain_pem: leaf.pem(), key_pem: leaf.key_pem().to_owned(), ca_pem: authority.pem() };
    let stranger = environment.client_with(Some(&own), Http1)?;
    refused(report, "checkout's name under another CA", &stranger, AlertDescription::UnknownCA).await?;

    let own = environment.agent.issue(CHECKOUT, "1s").await?;
    let late = environment.client_with(Some(&own), Http1)?;
    wait::until("a certificate of one second to expire", Duration::from_secs(15), async || {
        let left = seconds_left(&own);
        if left < 0 { Ok(()) } else { Err(format!("{left} s left")) }
    })
    .await?;
    refused(report, "an expired certificate", &late, AlertDescription::CertificateExpired).await?;

    let reached = environment.upstream.take_seen().len();
    report.holds("none of them reached the service", reached == 0, format_args!("{reached} requests"))
}

async fn refused(report: &mut Report, who: &str, client: &Client, alert: AlertDescription) -> Result<(), StoryError> {
    let claim = format!("{who} is refused in the handshake");
    match client.refusal().await {
        Ok(None) => report.holds(&claim, false, "a connection that stays open"),
        Ok(Some(seen)) => report.holds(&claim, seen == alert, format_args!("{seen:?}")),
        Err(error) => report.holds(&claim, false, error.kind()),
    }
}

/// Envoy checks a certificate in the handshake and never again: on a connection that stays open it is the filter that
/// notices.
async fn expiry_on_an_open_connection(
    environment: &Environment,
    report: &mut Report,
    protocol: Protocol,
) -> Result<(), StoryError> {
    report.step(format_args!("a certificate that expires while its connection is open, over {protocol}"));
    let own = environment.agent.issue(CHECKOUT, "8s").await?;
    let client = environment.client_with(Some(&own), protocol)?;
    let opening = |source| StoryError::Request { doing: "open a connection".to_owned(), source };
    let mut connection = client.connect().await.map_err(opening)?;
    let request = Ask::get("/orders/42");
    let first = connection.ask(&request).await.map_err(opening)?;
    report.holds("it is let in while it is valid", first.status == 200, first.status)?;
    // Nothing is asked meanwhile: a request that is under way when its certificate ends would take the connection along.
    wait::until("the certificate to expire", Duration::from_secs(30), async || {
        let left = seconds_left(&own);
        if left < 0 { Ok(()) } else { Err(format!("{left} s left")) }
    })
    .await?;
    let answer = connection.ask(&request).await.map_err(opening)?;
    let seen = format!("{} {}", answer.status.as_u16(), answer.code());
    report.holds("then the same connection is refused", seen == "401 certificate_expired", &seen)?;
    environment.upstream.take_seen();
    let again = connection.ask(&request).await.map_err(opening)?;
    let reached = environment.upstream.take_seen().len();
    report.holds("and stays refused", again.status == 401 && reached == 0, again.status)
}

async fn ask(client: &Client, request: &Ask, doing: &str) -> Result<crate::environment::Answer, StoryError> {
    let failed = |source: ClientError| StoryError::Request { doing: format!("cannot ask: {doing}"), source };
    client.ask(request).await.map_err(failed)
}
