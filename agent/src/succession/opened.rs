//! What is found at the start: the roots in their directory, and how far one of them has come.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use portcullis_policy::UnixTime;
use portcullis_policy::succession::Edge;

use super::below;
use crate::ca::Authorities;
use crate::ca::Authority;
use crate::ca::CaError;
use crate::ca::Journal;
use crate::ca::Kept;
use crate::ca::Origin;
use crate::ca::Turn;
use crate::ca::directory;
use crate::config;
use crate::issue::LONGEST;
use crate::store::Store;
use crate::store::StoreError;

/// The roots, ready to sign.
pub struct Opened {
    /// Those of now.
    pub authorities: Authorities,
    /// What is written down of them.
    pub journal: Arc<Journal>,
    /// Whether the root was made now.
    pub origin: Origin,
    pub(super) loaded: Vec<(Kept, Arc<Authority>)>,
    pub(super) directory: PathBuf,
}

/// Why the roots cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The CA's files.
    #[error("the built-in CA cannot be used")]
    Ca(#[source] CaError),
    /// The store.
    #[error("the store cannot be used")]
    Store(#[source] StoreError),
}

/// What an agent without this record wrote down of those it issued certificates for, if the store is the one of then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// The store was lost: nobody knows how long what was issued is good.
    Lost,
    /// The last second of what others were issued; none if there is none.
    Until(Option<UnixTime>),
}

impl Opened {
    /// Reads the roots, or makes the first one.
    ///
    /// # Errors
    ///
    /// [`OpenError`]. A root that is there and cannot be used is never replaced.
    pub fn open(
        directory: &Path,
        config: &config::Ca,
        store: Arc<dyn Store>,
        memory: Memory,
        now: UnixTime,
    ) -> Result<Self, OpenError> {
        let (journal, was_there) = Journal::open(store).map_err(OpenError::Store)?;
        let mut numbers = directory::numbers(directory).map_err(OpenError::Ca)?;
        if numbers.is_empty() {
            numbers.push(directory::FIRST);
        }
        let (mut loaded, mut origin) = (Vec::with_capacity(numbers.len()), Origin::Found);
        for number in numbers {
            let folder = directory::folder(directory, number);
            let (authority, of) = Authority::open(&folder, config, now).map_err(OpenError::Ca)?;
            if of == Origin::Created {
                origin = of;
            }
            loaded.push((Kept { number, sha256: authority.leaf().sha256.clone() }, Arc::new(authority)));
        }
        for (_, root) in &loaded {
            below::recall(root, &journal.record());
        }
        let turn = turn_of(&loaded, journal.record().turn, now);
        if !was_there || turn != journal.record().turn {
            let ends = loaded.iter().filter(|_| !was_there && origin == Origin::Found).filter_map(|(kept, root)| {
                let end = match memory {
                    Memory::Until(until) => until?,
                    Memory::Lost => UnixTime(now.0.saturating_add_unsigned(LONGEST)),
                };
                Some((kept.sha256.clone(), end.min(root.leaf().validity.not_after)))
            });
            let ends: Vec<_> = ends.collect();
            let change = |record: &mut crate::ca::Record| {
                record.ends.extend(ends);
                record.turn = turn.clone().map(|turn| {
                    let unaware_until = turn.unaware_until.or_else(|| record.ends.get(&turn.from.sha256).copied());
                    Turn { unaware_until, ..turn }
                });
            };
            journal.change(&[], change).map_err(OpenError::Store)?;
        }
        let (trusted, issuing) = standing(&loaded, journal.record().turn.as_ref());
        let issuing = issuing.expect("there is a root, and a turn that is of roots that are there");
        let authorities = Authorities::new(trusted, issuing);
        Ok(Self { authorities, journal: Arc::new(journal), origin, loaded, directory: directory.to_owned() })
    }
}

/// What is under way, as far as the roots that are there can have it. Two roots without a word of why are one that was about to
/// follow the other when the store was lost: it begins with being added, whoever signed then.
fn turn_of(loaded: &[(Kept, Arc<Authority>)], turn: Option<Turn>, now: UnixTime) -> Option<Turn> {
    let is_there = |kept: &Kept| loaded.iter().any(|(other, _)| other == kept);
    let fits = |turn: &Turn| {
        let from = is_there(&turn.from) || turn.edge == Edge::Remove;
        from && match &turn.to {
            None => turn.edge == Edge::Add,
            Some(to) => is_there(to),
        }
    };
    if let Some(turn) = turn {
        if fits(&turn) {
            return Some(turn);
        }
        tracing::error!(edge = turn.edge.as_str(), "the roots are not those of the record; it is begun anew");
    }
    let [(first, _), .., (last, _)] = loaded else { return None };
    let (from, to, by) = (first.clone(), Some(last.clone()), "agent".to_owned());
    Some(Turn { edge: Edge::Spread, from, to, by, begun: now, unaware_until: None })
}

/// Who is trusted, oldest first, and who signs.
pub(super) fn standing(
    loaded: &[(Kept, Arc<Authority>)],
    turn: Option<&Turn>,
) -> (Vec<Arc<Authority>>, Option<Arc<Authority>>) {
    let of = |kept: &Kept| loaded.iter().find(|(other, _)| other == kept).map(|(_, root)| Arc::clone(root));
    let Some(turn) = turn else {
        let only = loaded.last().map(|(_, root)| Arc::clone(root));
        return (only.iter().cloned().collect(), only);
    };
    let (old, new) = (of(&turn.from), turn.to.as_ref().and_then(of));
    let issuing = if turn.edge.signs_with_new() { new.clone() } else { old.clone() };
    let old = old.filter(|_| turn.edge.trusts_old());
    let trusted = old.into_iter().chain(new.filter(|_| turn.edge.trusts_new())).collect();
    if issuing.is_some() { (trusted, issuing) } else { (Vec::new(), None) }
}
