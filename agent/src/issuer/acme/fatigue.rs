//! What is begun anew after failures in a row, as a restart would: state on our side that went bad is not to be tried with for
//! ever.
//!
//! Absent: the back-off, which is the rotation's.

use std::sync::Mutex;
use std::sync::PoisonError;

use super::error::AcmeError;

/// Failures in a row after which something is begun anew, and again after as many more.
const ENOUGH: u32 = 3;

/// Failures in a row at one CA, of whichever certificates.
#[derive(Debug, Default)]
pub(super) struct Fatigue(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    failures: u32,
    /// Those among them by which the CA says that the account may not do this.
    refusals: u32,
    /// Whether another account was made since the last success: one that may nothing either is not the cure.
    is_new: bool,
}

/// What is begun anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Another account takes the place of one that the CA does not let order any more (RFC 8555 §7.3.6).
    Account,
    /// Connections, and with them where names lead to.
    Connections,
}

impl Fatigue {
    /// Counts how a step came out. What to begin anew before the next one.
    pub(super) fn after(&self, error: Option<&AcmeError>) -> Vec<Remedy> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(error) = error else {
            *counts = Counts::default();
            return Vec::new();
        };
        if error.is_expected() {
            return Vec::new();
        }
        counts.failures = counts.failures.saturating_add(1);
        counts.refusals = if is_about_account(error) { counts.refusals.saturating_add(1) } else { 0 };
        let mut remedies = Vec::new();
        if counts.failures.is_multiple_of(ENOUGH) {
            remedies.push(Remedy::Connections);
        }
        if counts.refusals >= ENOUGH && !counts.is_new {
            counts.is_new = true;
            remedies.push(Remedy::Account);
        }
        remedies
    }
}

/// Whether the CA refuses the account, whatever it is asked for.
fn is_about_account(error: &AcmeError) -> bool {
    matches!(error, AcmeError::Refused { problem, .. } if problem.kind == "unauthorized")
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;
    use portcullis_policy::UnixTime;

    use super::super::Problem;
    use super::*;

    fn refused(kind: &str) -> AcmeError {
        let problem = Box::new(Problem { kind: kind.to_owned(), ..Problem::default() });
        AcmeError::Refused { host: "ca".to_owned(), status: StatusCode::FORBIDDEN, problem }
    }

    #[test]
    fn after_three_failures_in_a_row_connections_are_made_anew_and_after_three_more() {
        let fatigue = Fatigue::default();
        let error = AcmeError::Status { host: "ca".to_owned(), status: StatusCode::BAD_GATEWAY };
        let counted: Vec<usize> = (0..6).map(|_| fatigue.after(Some(&error)).len()).collect();
        assert_eq!(counted, [0, 0, 1, 0, 0, 1]);
        fatigue.after(Some(&error));
        fatigue.after(Some(&error));
        assert!(fatigue.after(None).is_empty());
        assert!(fatigue.after(Some(&error)).is_empty(), "a success ends the row");
    }

    #[test]
    fn an_account_that_may_nothing_is_replaced_once() {
        let fatigue = Fatigue::default();
        for _ in 0..2 {
            fatigue.after(Some(&refused("unauthorized")));
        }
        fatigue.after(Some(&refused("malformed")));
        let remedies: Vec<_> = (0..9).flat_map(|_| fatigue.after(Some(&refused("unauthorized")))).collect();
        let accounts = remedies.iter().filter(|remedy| **remedy == Remedy::Account).count();
        assert_eq!(accounts, 1, "{remedies:?}");
        fatigue.after(None);
        let remedies: Vec<_> = (0..3).flat_map(|_| fatigue.after(Some(&refused("unauthorized")))).collect();
        assert!(remedies.contains(&Remedy::Account), "{remedies:?}");
    }

    #[test]
    fn who_was_not_asked_did_not_fail() {
        let fatigue = Fatigue::default();
        let waiting = AcmeError::Waiting { host: "ca".to_owned(), until: UnixTime(1) };
        assert!((0..9).all(|_| fatigue.after(Some(&waiting)).is_empty()));
    }
}
