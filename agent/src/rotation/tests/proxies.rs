use tokio::sync::oneshot;

use super::*;
use crate::command::Renewed;
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

/// A renewal that an operator waits for, delivered as far as it gets.
async fn renewal(rotor: &mut Rotor) -> oneshot::Receiver<Result<Renewed, CommandError>> {
    let (reply, mut answer) = oneshot::channel();
    rotor.ask(Ask::Renew(reply, Insistence::default()));
    rotor.look().await;
    rotor.drive().await;
    assert!(matches!(rotor.step(leaf::now()), Step::Wait { reason: Wait::Listener, .. }));
    assert!(answer.try_recv().is_err(), "somebody may come yet");
    assert!(!rotor.needs_work(leaf::now(), Duration::MAX));
    answer
}

#[tokio::test]
async fn a_renewal_waits_for_a_proxy_that_comes_back() {
    let (_directory, mut rotor) = to_proxies().await;
    let answer = renewal(&mut rotor).await;
    let mut proxy = Proxy::of_secrets(&rotor.context.publisher, "gateway");
    assert_eq!(proxy.take().len(), 1);
    rotor.somebody_listens();
    rotor.drive().await;
    let renewed = answer.await.expect("answered").expect("renewed");
    assert_eq!(Some(renewed.new_serial.as_str()), rotor.entry.serial());
    // Where somebody listens, nothing is waited for.
    rotor.look().await;
    assert!(!rotor.needs_work(leaf::now(), Duration::MAX));
}

#[tokio::test]
async fn who_waits_for_a_renewal_that_no_proxy_takes_is_told_so() {
    let (_directory, mut rotor) = to_proxies().await;
    let answer = renewal(&mut rotor).await;
    // Its time has passed.
    rotor.answer_by = Some(Instant::now());
    assert!(rotor.needs_work(leaf::now(), Duration::MAX));
    rotor.drive().await;
    let error = answer.await.expect("answered").expect_err("nobody has it").to_string();
    assert!(error.contains("no proxy asks for the certificate"), "{error}");
    assert!(!rotor.needs_work(leaf::now(), Duration::MAX));
    // Whoever asks next waits as long.
    renewal(&mut rotor).await;
}

/// A certificate, and a bundle that two proxies asked for.
async fn before_a_bundle() -> (TempDir, Rotation, [Proxy; 2]) {
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
    let proxies = [(); 2].map(|()| Proxy::of_secrets(&publisher, "peers"));

    let rotation = Rotation::open(context, Arc::new(config)).await.expect("a rotation");
    (directory, rotation, proxies)
}

#[tokio::test]
async fn what_waits_for_a_bundle_goes_on_when_every_proxy_took_it() {
    let (_directory, mut rotation, mut proxies) = before_a_bundle().await;
    let later = UnixTime(leaf::now().0 + 3_600);
    let rotor = rotation.idle.get_mut("gateway").expect("the configuration has it");
    (rotor.is_held, rotor.awaited, rotor.entry.retry_at) = (true, Some("peers".to_owned()), Some(later));
    for (proxy, want) in proxies.iter_mut().zip([Some(later), None]) {
        proxy.take();
        rotation.awaited_no_more();
        assert_eq!(rotation.idle["gateway"].entry.retry_at, want);
    }
}

#[tokio::test]
async fn a_proxy_on_its_way_back_may_lack_the_bundle() {
    let (_directory, mut rotation, [mut one, other]) = before_a_bundle().await;
    let publisher = rotation.context.publisher.clone();
    rotation.context.trust.bundles(&rotation.wanted.bundles);
    let rotor = rotation.idle.get_mut("gateway").expect("the configuration has it");
    rotor.look().await;
    rotor.drive().await;
    rotor.entry.last_good = rotor.entry.stored.clone();
    rotor.entry.stored.as_mut().expect("issued").issuer = "another".to_owned();
    rotor.config.trusted_by = vec!["peers".to_owned()];
    publisher.expect_back();
    one.take();
    other.leave();

    let held = tokio::time::timeout(Duration::ZERO, rotor.hold_back(leaf::now())).await;
    assert!(held.is_err(), "the other one is not there");
    let mut other = Proxy::of_secrets(&publisher, "peers");
    publisher.expect_no_more();
    let error = rotor.hold_back(leaf::now()).await.expect_err("it is there and took nothing yet");
    assert!(matches!(error, DeliveryError::BundleNotTaken { .. }), "{error}");
    other.take();
    rotor.hold_back(leaf::now()).await.expect("it took it");
}

#[tokio::test]
async fn what_waits_for_a_bundle_goes_on_when_those_leave_who_did_not_take_it() {
    let (_directory, mut rotation, proxies) = before_a_bundle().await;
    let context = Arc::clone(&rotation.context);
    let rotor = rotation.idle.get_mut("gateway").expect("the configuration has it");
    let later = UnixTime(leaf::now().0 + 3_600);
    (rotor.is_held, rotor.awaited, rotor.entry.retry_at) = (true, Some("peers".to_owned()), Some(later));
    rotor.entry.flight = Some(Flight::begin(Cause::Requested));
    // At rest: nothing but the proxies wakes it.
    rotor.look().await;
    rotor.drive().await;
    assert!(rotor.entry.stored.is_none() && !rotor.needs_work(leaf::now(), Duration::MAX));
    let (_commands, commands) = mpsc::channel(1);
    let (_configs, configs) = mpsc::channel(1);
    let shutdown = CancellationToken::new();
    let outcomes = context.publisher.outcomes();
    let leave = async {
        proxies.into_iter().for_each(Proxy::leave);
        let mut board = context.board.watch();
        let issued = board.wait_for(|status| status.certificates[0].stored.is_some());
        let issued = tokio::time::timeout(Duration::from_secs(60), issued).await.is_ok();
        shutdown.cancel();
        issued
    };
    let ((), issued) = tokio::join!(biased; rotation.run(commands, outcomes, configs, shutdown.clone()), leave);
    assert!(issued);
}
