//! A listener that is there for as long as somebody holds one of its answers.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::task::JoinHandle;
use tokio::task::JoinSet;

use crate::issuer::acme::error::AcmeError;

/// Visitors at once. A CA comes from a handful of places; anybody else may come too.
const VISITORS: usize = 128;
/// For one visit.
const VISIT: Duration = Duration::from_secs(10);
/// After a visitor could not be let in, for want of descriptors, and between two tries to listen.
const PAUSE: Duration = Duration::from_millis(100);
/// So often a port that is taken is tried again.
const TRIES: usize = 5;

/// What visitors are told, by what they ask for.
pub(super) struct Answers<T>(Mutex<HashMap<String, Vec<Arc<T>>>>);

/// A place to listen at, and what is told there.
pub(super) struct Server<T> {
    listen: SocketAddr,
    answers: Arc<Answers<T>>,
    running: tokio::sync::Mutex<Option<(Weak<Running>, JoinHandle<()>)>>,
}

/// Ends the listener.
struct Running(AbortHandle);

/// Answers that are given; when it is dropped they are not any more, and after the last one nobody listens.
pub(in crate::issuer::acme) struct Held {
    // First: nothing is told any more once somebody else may listen.
    _answers: Vec<Box<dyn Send + Sync>>,
    _running: Arc<Running>,
}

struct Answer<T> {
    answers: Arc<Answers<T>>,
    question: String,
    answer: Arc<T>,
}

impl<T: Send + Sync + 'static> Server<T> {
    pub(super) fn new(listen: SocketAddr) -> Self {
        Self { listen, answers: Arc::new(Answers(Mutex::default())), running: tokio::sync::Mutex::default() }
    }

    pub(super) fn listen(&self) -> SocketAddr {
        self.listen
    }

    pub(super) fn answers(&self) -> Arc<Answers<T>> {
        Arc::clone(&self.answers)
    }

    /// Whether one can listen there.
    pub(super) async fn probe(&self) -> Result<(), AcmeError> {
        let mut running = self.running.lock().await;
        if running.as_ref().and_then(|(running, _)| running.upgrade()).is_some() {
            return Ok(());
        }
        self.bind(&mut running).await.map(drop)
    }

    /// Gives these answers, each visitor served by `visit`.
    pub(super) async fn hold<V>(
        &self,
        answers: Vec<(String, T)>,
        visit: impl Fn(TcpStream) -> V + Send + 'static,
    ) -> Result<Held, AcmeError>
    where
        V: Future<Output = ()> + Send + 'static,
    {
        let mut running = self.running.lock().await;
        let found = running.as_ref().and_then(|(running, _)| running.upgrade());
        let held = match found {
            Some(found) => found,
            None => {
                let listener = self.bind(&mut running).await?;
                let task = tokio::spawn(serve(listener, visit));
                let held = Arc::new(Running(task.abort_handle()));
                *running = Some((Arc::downgrade(&held), task));
                held
            }
        };
        let answers = answers.into_iter().map(|(question, answer)| {
            let answer = Arc::new(answer);
            self.answers.lock().entry(question.clone()).or_default().push(Arc::clone(&answer));
            let answers = Arc::clone(&self.answers);
            Box::new(Answer { answers, question, answer }) as Box<dyn Send + Sync>
        });
        Ok(Held { _answers: answers.collect(), _running: held })
    }

    async fn bind(&self, running: &mut Option<(Weak<Running>, JoinHandle<()>)>) -> Result<TcpListener, AcmeError> {
        if let Some((_, task)) = running.take() {
            // Ended, but perhaps not gone: until it is, it has the port.
            let _ = task.await;
        }
        let mut tries = 0;
        loop {
            match TcpListener::bind(self.listen).await {
                // Perhaps by ourselves: a hook that is being started has each socket of ours until it is another program.
                Err(source) if source.kind() == io::ErrorKind::AddrInUse && tries < TRIES => {
                    tries += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                bound => return bound.map_err(|source| AcmeError::Listen { address: self.listen, source }),
            }
        }
    }
}

impl<T> Answers<T> {
    /// The newest answer to a question.
    pub(super) fn find(&self, question: &str) -> Option<Arc<T>> {
        self.lock().get(question)?.last().cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<Arc<T>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Answer<T> {
    fn drop(&mut self) {
        let mut answers = self.answers.lock();
        if let Some(given) = answers.get_mut(&self.question) {
            given.retain(|answer| !Arc::ptr_eq(answer, &self.answer));
            if given.is_empty() {
                answers.remove(&self.question);
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn serve<V>(listener: TcpListener, visit: impl Fn(TcpStream) -> V)
where
    V: Future<Output = ()> + Send + 'static,
{
    // They end with this task.
    let mut visitors = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if visitors.len() < VISITORS => match accepted {
                Ok((tcp, _)) => {
                    visitors.spawn(tokio::time::timeout(VISIT, visit(tcp)));
                }
                Err(error) if is_of_the_visitor(&error) => {}
                Err(_) => tokio::time::sleep(PAUSE).await,
            },
            Some(_) = visitors.join_next() => {}
        }
    }
}

fn is_of_the_visitor(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::atomic::AtomicU16;
    use std::sync::atomic::Ordering;

    use super::*;

    /// A port that nobody has, and that the system gives to nobody: it takes those of outgoing connections, and those that are
    /// asked for without a number, from above.
    fn free() -> SocketAddr {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        const FIRST: u16 = 12_000;
        const COUNT: u16 = 8_000;
        let begin = (std::process::id().wrapping_mul(97) % u32::from(COUNT)) as u16;
        let mut tried = (0..COUNT).map(|_| {
            let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
            SocketAddr::from((Ipv4Addr::LOCALHOST, FIRST + (begin + step) % COUNT))
        });
        tried.find(|address| std::net::TcpListener::bind(address).is_ok()).expect("a port")
    }

    async fn hold(server: &Server<&'static str>, question: &str, answer: &'static str) -> Held {
        server.hold(vec![(question.to_owned(), answer)], |tcp| async move { drop(tcp) }).await.expect("held")
    }

    #[tokio::test]
    async fn one_listens_for_as_long_as_something_is_held() {
        let server = Server::new(free());
        let answers = server.answers();
        server.probe().await.expect("free");
        for _ in 0..20 {
            let first = hold(&server, "a", "1").await;
            let second = hold(&server, "b", "2").await;
            server.probe().await.expect("ours");
            drop(first);
            assert_eq!((answers.find("a"), answers.find("b").as_deref()), (None, Some(&"2")));
            TcpStream::connect(server.listen()).await.expect("somebody listens");
            drop(second);
            assert!(answers.lock().is_empty());
            // At once again, although the task that listened may not be gone.
            server.probe().await.expect("free again");
        }
    }

    #[tokio::test]
    async fn two_answers_to_one_question_do_not_take_each_other_away() {
        let server = Server::new(free());
        let answers = server.answers();
        let first = hold(&server, "a", "1").await;
        let second = hold(&server, "a", "2").await;
        assert_eq!(answers.find("a").as_deref(), Some(&"2"));
        drop(second);
        assert_eq!(answers.find("a").as_deref(), Some(&"1"));
        drop(first);
        assert_eq!(answers.find("a"), None);
    }

    #[tokio::test]
    async fn a_port_of_somebody_else_is_said() {
        let other = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = other.local_addr().expect("an address");
        let server = Server::<&'static str>::new(address);
        let error = server.probe().await.expect_err("taken");
        assert!(matches!(error, AcmeError::Listen { address: found, .. } if found == address));
        // Who has it for a moment only is waited for: the first try is before it is let go.
        let (free, ()) = tokio::join!(server.probe(), async { drop(other) });
        free.expect("let go");
    }
}
