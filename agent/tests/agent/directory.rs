//! Certificates that somebody else puts into a directory: taken when they are whole, new and what they should be, and refused
//! by name otherwise.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use portcullis::status::Status;

use crate::support;
use crate::support::Agent;
use crate::support::Desk;
use crate::support::outsider::DAY;
use crate::support::outsider::Made;
use crate::support::outsider::Outsider;
use crate::support::outsider::put;
use crate::support::serial;

/// One certificate out of the directory `live`, delivered to `tls`.
fn desk(outsider: &Outsider, rest: &str) -> Desk {
    let desk = Desk::new("certificates: []\n");
    desk.write("roots.pem", &outsider.pem);
    fs::create_dir(desk.path("live")).expect("made");
    desk.configure(&format!(
        "issuers:\n  - {{ name: outsider, roots: roots.pem, directory: {{ path: live }} }}\ncertificates:\n  \
         - {{ name: web, issuer: outsider, dns: [web.example], files: {{ directory: tls }}{rest} }}\n"
    ));
    desk
}

/// As Kubernetes writes: a directory of its own, and one rename of `..data`.
fn mount(desk: &Desk, generation: &str, made: &Made) {
    let live = desk.path("live");
    fs::create_dir(live.join(generation)).expect("made");
    desk.write(&format!("live/{generation}/tls.crt"), &made.chain);
    desk.write(&format!("live/{generation}/tls.key"), &made.key);
    symlink(generation, live.join("..data_tmp")).expect("linked");
    fs::rename(live.join("..data_tmp"), live.join("..data")).expect("renamed");
    for name in ["tls.crt", "tls.key"] {
        let _ = symlink(Path::new("..data").join(name), live.join(name));
    }
}

fn until_delivered(desk: &Desk, agent: &mut Agent, made: &Made) {
    let wanted = made.serial();
    desk.until(agent, "delivered", |status| {
        let stored = status.certificates[0].stored.as_ref();
        status.ready && status.certificates[0].state == "retired" && stored.is_some_and(|leaf| leaf.serial == wanted)
    });
    assert_eq!(serial(&desk.path("tls/tls.crt")), Some(wanted));
    let key = fs::read_to_string(desk.path("tls/privkey.pem")).expect("a key");
    assert_eq!(key.lines().collect::<String>(), made.key.lines().collect::<String>());
}

/// Waits until it is said of the certificate, and returns what is in the files then.
fn until_said(desk: &Desk, agent: &mut Agent, word: &str) -> Option<String> {
    desk.until(agent, word, |status| {
        status.certificates[0].last_error.as_ref().is_some_and(|error| error.contains(word))
    });
    desk.until_audit(word, |line| {
        line["event"] == "alarm" && line["cause"].as_str().is_some_and(|cause| cause.contains(word))
    });
    serial(&desk.path("tls/tls.crt"))
}

#[test]
fn a_pair_is_taken_as_soon_as_it_is_there_and_again_when_it_is_replaced() {
    let outsider = Outsider::new();
    let desk = desk(&outsider, "");
    let mut agent = desk.start();
    // Nothing is there yet, and that is said.
    assert_eq!(until_said(&desk, &mut agent, "has neither `fullchain.pem` and `privkey.pem`"), None);
    let first = outsider.make("web.example", 10, DAY);
    put(&desk, &first);
    until_delivered(&desk, &mut agent, &first);
    let second = outsider.make("web.example", 0, DAY);
    put(&desk, &second);
    until_delivered(&desk, &mut agent, &second);
    assert!(agent.terminate().success());

    // Nothing happens at a start; what was put there meanwhile is taken.
    let mut agent = desk.start();
    desk.until(&mut agent, "ready", |status| status.ready && status.certificates[0].rotations == 2);
    assert!(agent.terminate().success());
    let third = outsider.make("web.example", 0, DAY);
    put(&desk, &third);
    let mut agent = desk.start();
    until_delivered(&desk, &mut agent, &third);
    assert!(desk.audit().iter().any(|line| line["event"] == "installed" && line["cause"] == "offered"));
    assert!(desk.run(&["audit", "verify"]).status.success());
}

#[test]
fn a_swap_of_all_files_at_once_is_followed_also_when_the_directory_itself_is_replaced() {
    let outsider = Outsider::new();
    let desk = desk(&outsider, "");
    let first = outsider.make("web.example", 10, DAY);
    mount(&desk, "..1", &first);
    let mut agent = desk.start();
    until_delivered(&desk, &mut agent, &first);
    let second = outsider.make("web.example", 5, DAY);
    mount(&desk, "..2", &second);
    until_delivered(&desk, &mut agent, &second);
    // A mount that is made anew.
    fs::rename(desk.path("live"), desk.path("old")).expect("renamed");
    fs::create_dir(desk.path("live")).expect("made");
    let third = outsider.make("web.example", 0, DAY);
    mount(&desk, "..1", &third);
    until_delivered(&desk, &mut agent, &third);
    let fourth = outsider.make("web.example", 0, DAY);
    mount(&desk, "..2", &fourth);
    until_delivered(&desk, &mut agent, &fourth);
    assert_eq!(desk.count("certificate_issued"), 4);
}

#[test]
fn what_is_torn_or_of_somebody_else_is_refused_by_name_and_the_last_good_stays() {
    let outsider = Outsider::new();
    let desk = desk(&outsider, "");
    let good = outsider.make("web.example", 10, DAY);
    put(&desk, &good);
    let mut agent = desk.start();
    until_delivered(&desk, &mut agent, &good);
    let (stays, next) = (Some(good.serial()), outsider.make("web.example", 5, DAY));

    desk.write("live/privkey.pem", &next.key);
    assert_eq!(until_said(&desk, &mut agent, "is not the key of"), stays);
    desk.write("live/fullchain.pem", &next.chain[..next.chain.len() / 2]);
    assert_eq!(until_said(&desk, &mut agent, "is not a chain of certificates"), stays);
    let secret = next.key.lines().nth(1).expect("a line");
    assert!(!agent.log().contains(secret), "{}", agent.log());

    put(&desk, &outsider.make("other.example", 3, DAY));
    assert_eq!(until_said(&desk, &mut agent, "other.example"), stays);
    put(&desk, &Outsider::new().make("web.example", 3, DAY));
    assert_eq!(until_said(&desk, &mut agent, "a client would refuse"), stays);
    put(&desk, &outsider.make("web.example", 3, 2));
    assert_eq!(until_said(&desk, &mut agent, "so soon that it would be replaced"), stays);
    let refused = desk.count("certificate_issued");

    // One that is whole ends it all, and none of the others was ever handed out.
    put(&desk, &next);
    until_delivered(&desk, &mut agent, &next);
    assert_eq!(desk.count("installed"), 2, "{:#?}", desk.audit());
    assert!(desk.status().expect("a status").certificates[0].last_error.is_none());
    // One of before the present one is left alone; the one after it is not.
    put(&desk, &good);
    let last = outsider.make("web.example", 0, DAY);
    put(&desk, &last);
    until_delivered(&desk, &mut agent, &last);
    assert_eq!((desk.count("installed"), desk.count("certificate_issued")), (3, refused + 2));
}

#[test]
fn a_chain_that_ends_before_its_certificate_is_replaced_before_it_does() {
    let outsider = Outsider::new();
    let desk = desk(&outsider, "");
    let stored = |status: &Status| status.certificates[0].stored.clone().expect("stored").not_after;
    let planned = |status: &Status| status.certificates[0].renew_at.expect("a plan");
    let mut agent = desk.start();
    // What a peer does not need on its way may end when it likes.
    let (long, other) = (outsider.below(2 * DAY), Outsider::new().below(600));
    let mut made = long.make("web.example", 4000, DAY);
    made.chain += &other.pem;
    put(&desk, &made);
    until_delivered(&desk, &mut agent, &made);
    let status = desk.status().expect("a status");
    let chain = &status.certificates[0].chain;
    assert!(chain.len() == 2 && chain[1].1 < planned(&status) && planned(&status) < stored(&status), "{status:#?}");
    let is_told = |agent: &Agent| agent.log().contains("an authority of the chain ends before the certificate");
    assert!(!is_told(&agent), "{}", agent.log());

    let short = outsider.below(DAY / 2).make("web.example", 3900, DAY);
    put(&desk, &short);
    until_delivered(&desk, &mut agent, &short);
    let status = desk.status().expect("a status");
    let end = status.certificates[0].chain[0].1;
    assert!(planned(&status) < end && end < stored(&status), "{status:#?}");
    assert!(is_told(&agent), "{}", agent.log());

    put(&desk, &outsider.below(60).make("web.example", 3800, DAY));
    assert_eq!(until_said(&desk, &mut agent, "so soon that it would be replaced"), Some(short.serial()));
}

#[test]
fn nobody_can_hurry_whoever_writes_there_and_is_told_who_it_is() {
    let outsider = Outsider::new();
    let desk = desk(&outsider, "");
    let good = outsider.make("web.example", 10, DAY);
    put(&desk, &good);
    let mut agent = desk.start();
    until_delivered(&desk, &mut agent, &good);
    let error = desk.renew("web").expect_err("nobody to ask").to_string();
    assert!(error.contains("`certbot renew`") && error.contains("live"), "{error}");
    assert_eq!(desk.count("renew_requested"), 0);
}

#[test]
fn an_operator_who_goes_back_is_not_overruled_by_what_lies_there() {
    let outsider = Outsider::new();
    let desk = desk(&outsider, "");
    let [first, second] = [10, 5].map(|age| outsider.make("web.example", age, DAY));
    put(&desk, &first);
    let mut agent = desk.start();
    until_delivered(&desk, &mut agent, &first);
    put(&desk, &second);
    until_delivered(&desk, &mut agent, &second);
    let back = desk.run(&["rollback", "web"]);
    assert!(back.status.success(), "{}", support::stderr(&back));
    until_delivered(&desk, &mut agent, &first);
    let third = outsider.make("web.example", 0, DAY);
    put(&desk, &third);
    until_delivered(&desk, &mut agent, &third);
    assert_eq!(desk.count("installed"), 3, "{:#?}", desk.audit());
}

#[test]
fn a_renewal_that_is_late_is_an_alarm_and_the_fallback_helps() {
    let outsider = Outsider::new();
    let desk = desk(&outsider, ", fallback: { issuer: built-in, below: 0.5 }");
    // Four fifths are over in some seconds, and half of it is.
    put(&desk, &outsider.make("web.example", 20, 40));
    let mut agent = desk.start();
    until_said_once(&desk, "is late");
    desk.until(&mut agent, "the fallback", |status| status.certificates[0].issuer == "built-in" && status.ready);
    // What lies there is as late as before; what comes then is taken.
    let fresh = outsider.make("web.example", 0, DAY);
    put(&desk, &fresh);
    until_delivered(&desk, &mut agent, &fresh);
    assert_eq!(desk.status().expect("a status").certificates[0].issuer, "outsider");
}

fn until_said_once(desk: &Desk, word: &str) {
    desk.until_audit(word, |line| {
        line["event"] == "alarm" && line["cause"].as_str().is_some_and(|cause| cause.contains(word))
    });
}

#[test]
fn a_certificate_under_a_root_that_its_peers_do_not_know_is_held_back() {
    let (known, next) = (Outsider::new(), Outsider::new());
    let desk = desk(&known, ", trusted_by: [peers]");
    // Whoever takes certificates from there believes both; those who judge by the bundle do not, yet.
    desk.write("roots.pem", &(known.pem.clone() + &next.pem));
    desk.write("also.pem", &known.pem);
    let text = fs::read_to_string(desk.path("portcullis.yaml")).expect("a configuration");
    desk.write("portcullis.yaml", &format!("{text}bundles: [{{ name: peers, also: [also.pem] }}]\n"));
    let first = known.make("web.example", 10, DAY);
    put(&desk, &first);
    let mut agent = desk.start();
    // Nobody is there to take the bundle, so that the agent as a whole is not ready.
    let delivered = |agent: &mut Agent, made: &Made| {
        let wanted = Some(made.serial());
        desk.until(agent, "delivered", |status| {
            status.certificates[0].state == "retired" && status.certificates[0].installed == wanted
        });
        assert_eq!(serial(&desk.path("tls/tls.crt")), wanted);
    };
    delivered(&mut agent, &first);

    let second = next.make("web.example", 0, DAY);
    put(&desk, &second);
    let in_files = until_said(&desk, &mut agent, "it leads to no authority in bundle `peers`");
    assert_eq!(in_files, Some(first.serial()), "the one before stays");
    desk.write("also.pem", &(known.pem.clone() + &next.pem));
    agent.signal(rustix::process::Signal::HUP);
    delivered(&mut agent, &second);
    assert!(desk.run(&["audit", "verify"]).status.success());
}
