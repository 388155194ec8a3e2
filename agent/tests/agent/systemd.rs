//! The unit that is shipped: systemd takes it, it cages the agent, and it gives the agent what it needs.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;

use portcullis::config::Config;
use tempfile::TempDir;

const UNIT: &str = "../examples/systemd/portcullis.service";
/// Where the unit expects the program.
const INSTALLED: &str = "/usr/local/bin/portcullis";
/// Tenths of a point of exposure, of a hundred, that `systemd-analyze security` may give. systemd's own idea of OK ends at 40.
const EXPOSURE: &str = "--threshold=20";

fn unit() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(UNIT)).expect("the unit")
}

/// Writes a unit as systemd would read it, with the program that was built in the place of the installed one.
fn placed(text: &str) -> (TempDir, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("portcullis.service");
    fs::write(&path, text.replace(INSTALLED, env!("CARGO_BIN_EXE_portcullis"))).expect("written");
    let path = path.display().to_string();
    (directory, path)
}

fn systemd_analyze(arguments: &[&str]) -> Output {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/systemd-analyze");
    let program = env::var_os("SYSTEMD_ANALYZE").map_or(ours, PathBuf::from);
    assert!(
        program.is_file(),
        "systemd-analyze is missing: no file `{}`; run `./just install`, or set `SYSTEMD_ANALYZE` to where it is",
        program.display()
    );
    Command::new(program).args(arguments).output().expect("it runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn systemd_takes_the_unit_and_has_no_remark() {
    let (_directory, path) = placed(&unit());
    let output = systemd_analyze(&["verify", "--man=no", &path]);
    // What it does not know it ignores, and says so: a misspelt cage is none.
    assert!(output.status.success() && said(&output).trim().is_empty(), "{}", said(&output));
    let (_directory, path) = placed(&unit().replace("ProtectClock=", "ProtectClokc="));
    let output = said(&systemd_analyze(&["verify", "--man=no", &path]));
    assert!(output.contains("ProtectClokc"), "the check above finds what is wrong: {output}");
}

#[test]
fn the_agent_is_caged() {
    let (_directory, path) = placed(&unit());
    let output = systemd_analyze(&["security", "--offline=true", "--no-pager", EXPOSURE, &path]);
    assert!(output.status.success(), "{}", said(&output));
    let (_directory, path) = placed(&unit().replace("SystemCallFilter=", "#").replace("Protect", "#"));
    let output = systemd_analyze(&["security", "--offline=true", "--no-pager", EXPOSURE, &path]);
    assert!(!output.status.success(), "the check above finds what is open");
}

/// The keys of `[Service]`, each with its values.
fn service(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let section = text.split("[Service]").nth(1).and_then(|rest| rest.split("[Install]").next()).expect("a section");
    for line in section.lines().filter(|line| !line.starts_with('#')) {
        if let Some((key, value)) = line.split_once('=') {
            keys.entry(key.to_owned()).or_default().push(value.to_owned());
        }
    }
    keys
}

#[test]
fn the_unit_gives_the_agent_what_it_needs() {
    let text = unit();
    let keys = service(&text);
    let one = |key: &str| match keys.get(key).map(Vec::as_slice) {
        Some([value]) => value.as_str(),
        other => panic!("`{key}` has one value, not {other:?}"),
    };
    // Where nothing else is said, the agent keeps and listens where the unit lets it.
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("portcullis.yaml");
    fs::write(&file, "version: 1\nca: { trust_domain: acme.example }\ncertificates: []\n").expect("written");
    let config = Config::load(&file).expect("a configuration");
    assert_eq!(config.state_dir, Path::new("/var/lib").join(one("StateDirectory")));
    for socket in [&config.listen.xds, &config.listen.control] {
        assert_eq!(socket.parent(), Some(Path::new("/run").join(one("RuntimeDirectory")).as_path()));
    }
    assert_eq!(one("StateDirectoryMode"), "0700", "the CA's key is in it");
    // Its user may not be root, and is the one whom the unit's head makes.
    assert!(text.contains(&format!(
        "useradd --system --home-dir /var/lib/portcullis --shell /usr/sbin/nologin {}",
        one("User")
    )));
    assert_eq!(one("User"), one("Group"));
    for (key, wanted) in [
        ("Type", "notify"),
        ("NotifyAccess", "main"),
        ("Restart", "on-failure"),
        ("CapabilityBoundingSet", ""),
        ("AmbientCapabilities", ""),
        ("NoNewPrivileges", "yes"),
        // With `invisible`, `reload:` would find nobody to signal.
        ("ProtectProc", "default"),
        ("UMask", "0077"),
        ("LimitCORE", "0"),
    ] {
        assert_eq!(one(key), wanted, "{key}");
    }
    for family in ["AF_UNIX", "AF_INET", "AF_INET6"] {
        assert!(one("RestrictAddressFamilies").split(' ').any(|known| known == family), "{family}");
    }
    // The agent gives a sign of life twice in the time, counted in whole seconds.
    let watchdog: u64 = one("WatchdogSec").trim_end_matches('s').parse().expect("seconds");
    assert!(watchdog >= 10, "{watchdog}");
    // Files that others own are given away before anybody sees them.
    assert!(keys["SystemCallFilter"].iter().any(|filter| filter == "@chown"), "{keys:#?}");
}

#[test]
fn what_the_unit_starts_is_a_command_of_the_program() {
    let keys = service(&unit());
    for key in ["ExecStartPre", "ExecStart"] {
        let [command] = keys[key].as_slice() else { panic!("one `{key}`") };
        let arguments: Vec<&str> = command.strip_prefix(INSTALLED).expect("ours").split_whitespace().collect();
        assert_eq!(arguments.iter().rfind(|word| !word.starts_with("--")), Some(&"run"), "{arguments:?}");
        let nowhere = ["--config", "/nonexistent/portcullis.yaml"];
        let arguments = nowhere.iter().chain(&arguments[2..]);
        let output = Command::new(env!("CARGO_BIN_EXE_portcullis")).args(arguments).output().expect("it runs");
        // A wrong word would be 2.
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(said(&output).contains("/nonexistent/portcullis.yaml"), "{}", said(&output));
    }
    assert_eq!(keys["ExecReload"], ["/bin/kill -HUP $MAINPID"], "the signal that has it read its file again");
}
