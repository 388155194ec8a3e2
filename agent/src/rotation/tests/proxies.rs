use super::*;
use crate::xds::Proxy;

/// Delivered to proxies alone.
async fn to_proxies() -> (TempDir, Rotor) {
    let (directory, mut rotor) = world(room::at).await;
    rotor.config.files = None;
    rotor.generations = None;
    (directory, rotor)
}

#[tokio::test]
async fn who_leaves_without_an_answer_is_not_waited_for() {
    let (_directory, mut rotor) = to_proxies().await;
    let publisher = rotor.context.publisher.clone();
    let (old, mut new) = (Proxy::of_secrets(&publisher, "gateway"), Proxy::of_secrets(&publisher, "gateway"));
    let restart = async {
        while new.take().is_empty() {
            tokio::task::yield_now().await;
        }
        // It hears of the new one's answer before the old one goes without any.
        tokio::task::yield_now().await;
        assert_eq!(publisher.acknowledged("gateway"), Some(false), "the old one says nothing");
        old.leave();
    };
    tokio::join!(biased; restart, rotor.drive());
    let status = rotor.status();
    assert_eq!((status.state.as_str(), status.failures, status.last_error), ("retired", 0, None));
    let notes = rotor.context.store.notes().expect("notes");
    assert!(!notes.iter().any(|note| String::from_utf8_lossy(&note.text).contains("alarm")));
}
