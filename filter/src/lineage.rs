//! Which policy took the place of which.
//!
//! A host makes a root context for each configuration and tells nobody which earlier one it replaces; it may also run
//! filters of several listeners in one VM. Filters are told apart by the `name` of their configuration in the proxy: a new
//! policy under a name replaces the one before it, for the streams that are open too. Listeners with policies of their own
//! need names of their own. Where two live under one name all the same, each stream keeps the policy that it began under
//! until the next one comes.

use std::cell::RefCell;
use std::rc::Rc;

use portcullis_policy::UnixTime;
use proxy_wasm::types::LogLevel;

use crate::generation::Generation;
use crate::host;
use crate::streams;

/// How long streams may still begin under a policy that was replaced: the proxy changes over a little after it configures.
const CHANGEOVER_SECONDS: i64 = 5;

thread_local! {
    /// Of the VM.
    static LINEAGES: RefCell<Vec<Lineage>> = const { RefCell::new(Vec::new()) };
}

/// The policies that were in force under one name.
struct Lineage {
    name: Vec<u8>,
    newest: Rc<Generation>,
    since: UnixTime,
    /// The newest was replaced before, and came back.
    is_back: bool,
    /// Another one that is in force at once.
    beside: Option<Rc<Generation>>,
}

impl Lineage {
    fn pass_to(&mut self, next: &Rc<Generation>, now: UnixTime) {
        next.replaced_by(None);
        self.newest.replaced_by(Some(Rc::clone(next)));
        self.newest = Rc::clone(next);
        self.since = now;
        self.is_back = false;
        streams::policy_replaced();
    }
}

/// Puts a policy in force, for the open streams of its name too.
pub(crate) fn succeed(new: &Rc<Generation>, now: UnixTime) {
    LINEAGES.with_borrow_mut(|lineages| match lineages.iter_mut().find(|lineage| lineage.name == new.name()) {
        Some(lineage) => {
            // Which of two it replaces, nobody says: a revocation must not miss the streams of either.
            if let Some(beside) = lineage.beside.take() {
                beside.replaced_by(Some(Rc::clone(new)));
            }
            lineage.pass_to(new, now);
        }
        None => lineages.push(Lineage {
            name: new.name().to_owned(),
            newest: Rc::clone(new),
            since: now,
            is_back: false,
            beside: None,
        }),
    });
}

/// Notes that a stream begins under a policy. One that was replaced is in force again then; two that are back in turns were
/// both in force all the time.
///
/// A proxy that is given an earlier configuration back takes up its root context where streams have kept it alive, and
/// says nothing of it.
pub(crate) fn begin_under(generation: &Rc<Generation>, now: UnixTime) {
    if !generation.is_replaced() {
        return;
    }
    LINEAGES.with_borrow_mut(|lineages| {
        let Some(lineage) = lineages.iter_mut().find(|lineage| lineage.name == generation.name()) else { return };
        // A clock that went back says nothing of how long ago that was: longer, most of the time.
        let changes_over = (0..=CHANGEOVER_SECONDS).contains(&now.0.saturating_sub(lineage.since.0));
        if lineage.beside.is_some() || changes_over {
            return;
        }
        if lineage.is_back {
            generation.replaced_by(None);
            lineage.beside = Some(Rc::clone(generation));
            host::log(LogLevel::Error, &split(&lineage.name));
        } else {
            lineage.pass_to(generation, now);
            lineage.is_back = true;
        }
    });
}

fn split(name: &[u8]) -> String {
    format!(
        "filters with different policies have the name `{}`: open streams keep the policy that they began under, until the next; \
         give each filter a `name` of its own",
        String::from_utf8_lossy(name)
    )
}
