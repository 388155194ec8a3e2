use std::path::Path;
use std::time::Duration;

use crate::config::Config;
use crate::hook::When;
use crate::remedy::Action;
use crate::remedy::Failure;
use crate::yaml::Located;
use crate::yaml::Source;

const GOOD: &str = "\
version: 1
ca: { trust_domain: acme.example }
certificates:
  - name: site
    dns: [localhost]
    files: { directory: files, keep: 2, mode: \"0640\", owner: root, group: 7, combined: true }
    hooks: [ { run: [sh, -c, x], timeout: 5s, when: served }, { run: [bin/missing] } ]
    reload: { signal: HUP, pid_file: /run/nginx.pid, exe: sbin/missing }
    roll_back_after: 3
    served_at: [ { address: \"127.0.0.1:443\" } ]
remedies:
  - { on: [not_served], run: [sh, -c, page], timeout: 7s }
  - { url: \"https://alarms.example/hook?token=1\" }
";

fn parse(text: &str) -> Result<Config, Located> {
    let file = Path::new("/etc/portcullis/portcullis.yaml");
    Config::parse(file, &Source::new(file, text))
}

#[test]
fn what_is_wrong_is_named_with_its_line_and_field() {
    for (name, old, new, place, word) in [
        ("a user that is not there", "owner: root", "owner: nobody-of-that-name", "yaml:6:", "files.owner"),
        ("a group below nothing", "group: 7", "group: -1", "yaml:6:", "files.group"),
        ("a hook of nothing", "run: [sh, -c, x]", "run: []", "yaml:7:", "hooks[0].run"),
        ("a hook without a name", "run: [sh, -c, x]", "run: [\"\"]", "yaml:7:", "hooks[0].run"),
        ("a hook in one string", "run: [sh, -c, x]", "run: sh", "yaml:7:", "hooks[0].run"),
        ("a zero byte", "-c, x", "-c, \"\\0\"", "yaml:7:", "zero byte"),
        ("a hook that may take a day", "timeout: 5s", "timeout: 1d", "yaml:7:", "hooks[0].timeout"),
        ("a hook at another time", "when: served", "when: later", "yaml:7:", "hooks[0].when"),
        ("a signal that ends", "signal: HUP", "signal: TERM", "yaml:8:", "reload.signal"),
        ("no attempt", "roll_back_after: 3", "roll_back_after: 0", "yaml:9:", "counted from 1"),
        ("attempts at nothing", "    served_at: [ { address: \"127.0.0.1:443\" } ]\n", "", "yaml:9:", "served_at"),
        ("a failure that there is not", "on: [not_served]", "on: [all]", "yaml:12:", "remedies[0].on"),
        ("a remedy of nothing", ", run: [sh, -c, page]", "", "yaml:12:", "either a program to `run` or a `url`"),
        ("a remedy of two kinds", "- { url", "- { run: [sh], url", "yaml:13:", "either a program"),
        ("a web hook for everybody to read", "https://alarms", "http://alarms", "yaml:13:", "`https`"),
        ("a reload of anybody", ", exe: sbin/missing", "", "yaml:8:", "exe"),
    ] {
        let text = GOOD.replacen(old, new, 1);
        assert_ne!(text, GOOD, "{name}: the case changes something");
        let error = parse(&text).expect_err(name).to_string();
        assert!(error.contains(place) && error.contains(word), "{name}: {error}");
        assert!(!error.contains('\n'), "{name}: one line");
    }
}

#[test]
fn files_belong_to_whom_it_is_said() {
    let config = parse(GOOD).expect("good");
    let files = config.certificates[0].files.as_ref().expect("files");
    assert_eq!((files.owner, files.group, files.mode, files.combined), (Some(0), Some(7), 0o640, true));
    let plain = GOOD.replace(", owner: root, group: 7, combined: true", "");
    let config = parse(&plain).expect("good");
    let files = config.certificates[0].files.as_ref().expect("files");
    assert_eq!((files.owner, files.group, files.combined), (None, None, false));
}

#[test]
fn remedies_are_programs_and_web_hooks() {
    let config = parse(GOOD).expect("good");
    let [run, post] = config.remedies.as_slice() else { panic!("two remedies") };
    assert_eq!(run.on.iter().copied().collect::<Vec<_>>(), [Failure::NotServed]);
    assert!(matches!(&run.action, Action::Run(hook) if hook.timeout == Duration::from_secs(7)));
    assert!(post.on.is_empty());
    assert_eq!(post.action.to_string(), "`https://alarms.example`");
    assert_eq!(config.certificates[0].roll_back_after, Some(3));
}

#[test]
fn hooks_are_programs_beside_the_file_or_on_the_path() {
    let config = parse(GOOD).expect("good");
    let [first, second] = config.certificates[0].hooks.as_slice() else { panic!("two hooks") };
    assert_eq!((first.program.as_path(), first.arguments.len(), first.when), (Path::new("sh"), 2, When::Served));
    assert_eq!(first.timeout, Duration::from_secs(5));
    assert_eq!((second.program.as_path(), second.when), (Path::new("/etc/portcullis/bin/missing"), When::Installed));
    assert_eq!(second.timeout, Duration::from_secs(30));
}

#[test]
fn a_program_that_is_not_there_is_remarked_on() {
    let remarks = parse(GOOD).expect("good").remarks;
    let [hook, reload] = remarks.as_slice() else { panic!("{remarks:?}") };
    let (remark, reload) = (hook.to_string(), reload.to_string());
    assert!(reload.contains("yaml:8:") && reload.contains("`/etc/portcullis/sbin/missing` is not there"), "{reload}");
    assert!(remark.contains("yaml:7:") && remark.contains("hooks[1].run"), "{remark}");
    assert!(remark.contains("`/etc/portcullis/bin/missing` is not there"), "{remark}");
}
