//! Certificates for somebody else: signed once on an operator's word, written into the audit log and the ledger, not renewed.
//! The key is nowhere kept.

use portcullis_policy::UnixTime;

use crate::audit::Event;
use crate::audit::Kind;
use crate::command::CommandError;
use crate::command::IssueRequest;
use crate::command::Issued;
use crate::errors::chain;
use crate::leaf;
use crate::names::Names;
use crate::rotation::Context;

/// As long as public CAs ever issued for, and no longer.
pub(crate) const LONGEST: u64 = 398 * 86_400;

/// Signs a certificate with a new key. The audit log's entry is written down before the key leaves.
///
/// # Errors
///
/// [`CommandError::Invalid`] for a request that cannot be met, [`CommandError::Failed`] if the CA or the store fails.
pub fn issue(context: &Context, request: IssueRequest) -> Result<Issued, CommandError> {
    let invalid = |what: String| CommandError::Invalid { what };
    let failed = |error: &dyn std::error::Error| CommandError::Failed { step: "issue".to_owned(), cause: chain(error) };
    if !(1..=LONGEST).contains(&request.lifetime_seconds) {
        return Err(invalid(format!("a lifetime of {}s is out of range: 1s to {LONGEST}s", request.lifetime_seconds)));
    }
    let lifetime = i64::try_from(request.lifetime_seconds).unwrap_or(i64::MAX);
    let names = Names::new(request.spiffe, request.dns, request.ip, request.usage, &context.trust_domain)
        .map_err(|error| invalid(error.to_string()))?;
    let label = names.label();
    let authority = context.authorities.issuing();
    let now = leaf::now();
    let order = authority.order(names, lifetime, authority.directory(), now).map_err(|error| failed(&error))?;
    // Before it leaves, so that its root is not removed under it; and before the roots are read that go with it, so that
    // whoever is not counted among those who know the old one only knows both.
    let until = order.validity.not_after;
    context.roots.journal().issued(&authority.leaf().sha256, until).map_err(|error| failed(&error))?;
    let chain_pem = authority.sign(&order).map_err(|error| failed(&error))?;
    let serial = leaf::serial_hex(&order.serial);
    let mut event = Event::new(Kind::IssuedForOther, &label).by("operator").change(None, Some(&serial));
    if until < UnixTime(now.0.saturating_add(lifetime)) {
        event = event.because(format!("asked for {lifetime}s; ends with who signs it, at {}", leaf::timestamp(until)));
    }
    context.ledger.record(&chain_pem, leaf::now(), &event.note()).map_err(|error| failed(&error))?;
    context.noted.notify_one();
    Ok(Issued { chain_pem, key_pem: order.key.pem().to_string(), ca_pem: context.authorities.pem() })
}
