use super::*;
use crate::resource::Body;
use crate::resource::Resource;
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

#[tokio::test]
async fn what_waits_for_a_bundle_goes_on_when_every_proxy_took_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("portcullis.yaml");
    let text = "version: 1\nstate_dir: state\nca: { trust_domain: acme.example }\nbundles: [{ name: peers }]\n\
                certificates: [{ name: gateway, dns: [localhost] }]\n";
    std::fs::write(&file, text).expect("written");
    let config = config::Config::load(&file).expect("a configuration");
    let context = context(directory.path(), room::at);
    let publisher = context.publisher.clone();
    let (trusted_ca_pem, match_uri) = (context.authorities.pem(), Vec::new());
    let body = Body::ValidationContext { trusted_ca_pem, match_uri, crl_pem: None };
    let bundle = Resource { name: "peers".to_owned(), version: "1".to_owned(), body };
    publisher.publish(bundle).expect("published");
    let mut proxies = [(); 2].map(|()| Proxy::of_secrets(&publisher, "peers"));

    let mut rotation = Rotation::open(context, Arc::new(config)).await.expect("a rotation");
    let later = UnixTime(leaf::now().0 + 3_600);
    let rotor = rotation.idle.get_mut("gateway").expect("the configuration has it");
    (rotor.is_held, rotor.awaited, rotor.entry.retry_at) = (true, Some("peers".to_owned()), Some(later));
    for (proxy, want) in proxies.iter_mut().zip([Some(later), None]) {
        proxy.take();
        rotation.somebody_answered(Some("peers"));
        assert_eq!(rotation.idle["gateway"].entry.retry_at, want);
    }
}
