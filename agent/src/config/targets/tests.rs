use std::path::Path;
use std::time::Duration;

use crate::config::Config;
use crate::hook::When;
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
";

fn parse(text: &str) -> Result<Config, Located> {
    let file = Path::new("/etc/portcullis/portcullis.yaml");
    Config::parse(file, &Source::new(file, text))
}

#[test]
fn what_is_wrong_is_named_with_its_line_and_field() {
    for (name, old, new, place, word) in [
        ("a hook of nothing", "run: [sh, -c, x]", "run: []", "yaml:7:", "hooks[0].run"),
        ("a hook without a name", "run: [sh, -c, x]", "run: [\"\"]", "yaml:7:", "hooks[0].run"),
        ("a hook in one string", "run: [sh, -c, x]", "run: sh", "yaml:7:", "hooks[0].run"),
        ("a zero byte", "-c, x", "-c, \"\\0\"", "yaml:7:", "zero byte"),
        ("a hook that may take a day", "timeout: 5s", "timeout: 1d", "yaml:7:", "hooks[0].timeout"),
        ("a hook at another time", "when: served", "when: later", "yaml:7:", "hooks[0].when"),
        ("a signal that ends", "signal: HUP", "signal: TERM", "yaml:8:", "reload.signal"),
        ("a reload of anybody", ", exe: sbin/missing", "", "yaml:8:", "exe"),
    ] {
        let text = GOOD.replacen(old, new, 1);
        ("a user that is not there", "owner: root", "owner: nobody-of-that-name", "yaml:6:", "files.owner"),
        ("a group below nothing", "group: 7", "group: -1", "yaml:6:", "files.group"),
        assert_ne!(text, GOOD, "{name}: the case changes something");
        let error = parse(&text).expect_err(name).to_string();
        assert!(error.contains(place) && error.contains(word), "{name}: {error}");
        assert!(!error.contains('\n'), "{name}: one line");
    }
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
