//! What operators ask of the roots, and why they are refused.

use std::sync::Arc;

use portcullis_policy::UnixTime;
use portcullis_policy::succession;
use portcullis_policy::succession::Edge;
use portcullis_policy::succession::Refusal;
use portcullis_policy::succession::Role;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

use super::LONG;
use super::Succession;
use super::SuccessionError;
use crate::ca::Journal;
use crate::ca::Kept;
use crate::ca::Turn;
use crate::ca::offline;
use crate::command::CommandError;
use crate::command::RootsAsk;
use crate::errors::chain;
use crate::leaf;
#[cfg(test)]
use crate::store::Store;

/// Where answers go.
pub(crate) type Reply = oneshot::Sender<Result<(), CommandError>>;

/// A question with the way back.
pub(super) struct Asked {
    pub(super) ask: RootsAsk,
    pub(super) reply: Reply,
}

/// Where questions come in.
pub struct Inbox(pub(super) mpsc::Receiver<Asked>);

/// The way to those who have roots follow each other.
#[derive(Clone)]
pub struct Handle {
    journal: Arc<Journal>,
    asks: mpsc::Sender<Asked>,
}

impl Handle {
    /// A way, and its other end.
    pub fn new(journal: Arc<Journal>) -> (Self, Inbox) {
        let (asks, inbox) = mpsc::channel(16);
        (Self { journal, asks }, Inbox(inbox))
    }

    /// Nobody is at the other end.
    #[cfg(test)]
    pub(crate) fn alone(store: Arc<dyn Store>) -> Self {
        let (journal, _) = Journal::open(store).expect("a journal");
        Self::new(Arc::new(journal)).0
    }

    /// What is written down.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// Hands a question over; the answer comes when it was looked at.
    pub(crate) fn ask(&self, ask: RootsAsk, reply: Reply) {
        if let Err(error) = self.asks.try_send(Asked { ask, reply }) {
            let (mpsc::error::TrySendError::Full(asked) | mpsc::error::TrySendError::Closed(asked)) = error;
            let cause = "too much is asked at once, or the agent is stopping".to_owned();
            let _ = asked.reply.send(Err(CommandError::Failed { step: "handing the command over".to_owned(), cause }));
        }
    }
}

/// Why a root is left as it is.
#[derive(Debug, thiserror::Error)]
enum NotDone {
    #[error(
        "no other root is on its way that others could have to know: `portcullis ca rotate` has one follow, in the safe order"
    )]
    AtRest,
    #[error("there is no root `{asked}`; `portcullis ca` lists {known}")]
    Unknown { asked: String, known: String },
    #[error("`{asked}` may be more than one root; give more of its SHA-256")]
    Ambiguous { asked: String },
    #[error(
        "another root is on its way already (step `{}`): it goes on by itself, and `portcullis ca` says what it waits for",
        .0.as_str()
    )]
    UnderWay(Edge),
    #[error(
        "leaves are signed by it: without it nobody would be let in any more; `portcullis ca rotate` has another one follow, and removes this one when it is safe"
    )]
    Signs,
    #[error(
        "{0} certificates that are in use lead to it; they are renewed under the other root, and then it is removed by itself: `portcullis ca` says how far that is"
    )]
    Ours(usize),
    #[error(
        "certificates that others were issued lead to it until {}: they would be refused; it is removed by itself after that",
        leaf::timestamp(*.0)
    )]
    Others(UnixTime),
    #[error("the clock was set a moment ago, and what it says to have ended may not have: ask again in two minutes")]
    Clock,
    #[error(
        "the policy names this root (`anchors`), and one with `name_constraints` can be no anchor: the policy could never name the next one; take `ca.name_constraints` out, or the root out of the policy"
    )]
    Anchors,
    #[error(
        "the root's key is kept elsewhere (`ca.root: offline`), and so is the making of another root; what the agent can replace is the \
         intermediate: `portcullis ca request`"
    )]
    Offline,
    #[error("it is on its way out already; `portcullis ca` says what that waits for")]
    Going,
}

impl From<Refusal> for NotDone {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Going => Self::Going,
            Refusal::Others(until) => Self::Others(until),
            Refusal::Ours(count) => Self::Ours(count),
            Refusal::Signs => Self::Signs,
            Refusal::UnderWay(edge) => Self::UnderWay(edge),
        }
    }
}

impl Succession {
    pub(super) async fn carry_out(&mut self, ask: &RootsAsk) -> Result<(), CommandError> {
        let failed =
            |error: SuccessionError| CommandError::Failed { step: "the CA's roots".to_owned(), cause: chain(&error) };
        let invalid = |why: NotDone| CommandError::Invalid { what: why.to_string() };
        let turn = self.journal().record().turn;
        let edge = turn.as_ref().map(|turn| turn.edge);
        match ask {
            RootsAsk::Install(chain_pem) => self.install_below(chain_pem).await.map_err(failed),
            RootsAsk::Intermediate => {
                let refused = |why: &str| CommandError::Invalid { what: why.to_owned() };
                self.may_insist(&self.config.borrow().ca).map_err(refused)?;
                self.below.insists = true;
                self.keep_below().await.map_err(failed)
            }
            RootsAsk::Request => {
                let domain = self.config.borrow().ca.trust_domain.clone();
                let made = offline::request(&self.directory, &domain);
                made.map(drop).map_err(|error| failed(SuccessionError::Below(error)))
            }
            RootsAsk::Rotate if !self.context.authorities.issuing().has_key() => Err(invalid(NotDone::Offline)),
            RootsAsk::Rotate => {
                succession::may_add(edge).map_err(|refusal| invalid(refusal.into()))?;
                if self.would_strand_anchors() {
                    return Err(invalid(NotDone::Anchors));
                }
                self.begin("operator").map_err(failed)
            }
            RootsAsk::Vouch => {
                let Some(Edge::Spread | Edge::Switch) = edge else { return Err(invalid(NotDone::AtRest)) };
                let vouched = self.journal().change(&[], |record| {
                    if let Some(turn) = &mut record.turn {
                        turn.unaware_until = None;
                    }
                });
                vouched.map_err(|error| failed(SuccessionError::Store(error)))
            }
            RootsAsk::Remove(asked) => {
                let turn = self.may_remove(asked, turn).await.map_err(|why| match why {
                    Ok(why) => invalid(why),
                    Err(error) => failed(error),
                })?;
                let begun = self.journal().change(&[], |record| record.turn = Some(turn));
                begun.map_err(|error| failed(SuccessionError::Store(error)))?;
                self.put_in_force().await;
                Ok(())
            }
        }
    }

    /// The turn that removes a root, if that is safe.
    async fn may_remove(&self, asked: &str, turn: Option<Turn>) -> Result<Turn, Result<NotDone, SuccessionError>> {
        let kept = self.named(asked).map_err(Ok)?;
        let now = leaf::now();
        let role = match &turn {
            Some(turn) if turn.to.as_ref() == Some(&kept) => Role::New,
            _ => Role::Old,
        };
        let edge = turn.as_ref().map(|turn| turn.edge);
        let others = self.journal().record().ends.get(&kept.sha256).copied();
        let ours = match &turn {
            Some(turn) if role == Role::Old => self.look(turn).await.facts.ours,
            _ => 0,
        };
        if role == Role::Old && self.context.clock.is_in_doubt(LONG, 0) {
            return Err(Ok(NotDone::Clock));
        }
        succession::may_remove(role, edge, ours, others, now).map_err(|refusal| Ok(refusal.into()))?;
        let turn = turn.ok_or(Ok(NotDone::Signs))?;
        let other = if role == Role::Old { turn.to } else { Some(turn.from) };
        let (edge, by) = (Edge::Remove, "operator".to_owned());
        Ok(Turn { edge, from: kept, to: other, by, begun: now, unaware_until: None })
    }

    fn named(&self, asked: &str) -> Result<Kept, NotDone> {
        let asked = asked.to_ascii_lowercase();
        let mut found = self.loaded.iter().filter(|(kept, _)| kept.sha256.starts_with(&asked));
        match (found.next(), found.next()) {
            (Some((kept, _)), None) => Ok(kept.clone()),
            (Some(_), Some(_)) => Err(NotDone::Ambiguous { asked }),
            (None, _) => {
                let known = self.loaded.iter().map(|(kept, _)| format!("`{}`", kept.sha256));
                Err(NotDone::Unknown { asked, known: known.collect::<Vec<_>>().join(", ") })
            }
        }
    }
}
