//! The table of requests, decided natively, by the command line and by the filter in wasmtime. The fourth way, a real
//! Envoy, is the story `four-ways`.

use std::collections::BTreeMap;
use std::env;
use std::path::Path;
use std::path::PathBuf;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use portcullis_integration::four_ways::Policy;
use portcullis_integration::four_ways::Table;
use portcullis_integration::four_ways::Verdict;
use portcullis_integration::four_ways::decide_in_wasmtime;
use portcullis_integration::four_ways::decide_natively;
use portcullis_integration::four_ways::decide_with_cli;
use portcullis_integration::wasm_host::Module;
use portcullis_policy::UnixTime;

#[test]
fn the_library_decides_as_the_table_says() {
    check("natively", |policy, table| {
        let document = policy.document(table);
        let compiled = portcullis_policy::Policy::from_json(document.as_bytes()).unwrap();
        assert_eq!(compiled.run_tests(), [], "{policy:?}");
        let verdict = |row| decide_natively(&compiled, table, row);
        table.rows_of(policy).map(|row| (row.name.clone(), verdict(row))).collect()
    });
}

#[test]
fn the_filter_decides_as_the_table_says() {
    let module = Module::under_test().unwrap_or_else(|error| panic!("{error}"));
    check("in wasmtime", |policy, table| decide_in_wasmtime(&module, policy, table));
}

#[test]
fn the_command_line_decides_as_the_table_says() {
    let program = env::var_os("PORTCULLIS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist/portcullis"), PathBuf::from);
    assert!(program.is_file(), "`{}` is missing: build it with `./just build`", program.display());
    check("by the command line", |policy, table| decide_with_cli(&program, policy, table).unwrap());
}

#[test]
fn the_table_is_worth_its_name() {
    assert!(table().rows.len() >= 150, "{}", table().rows.len());
}

fn table() -> Table {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Table::new(UnixTime(i64::try_from(now.as_secs()).unwrap()))
}

/// Decides every row and reports all that differ at once.
fn check(way: &str, decide: impl Fn(Policy, &Table) -> BTreeMap<String, Verdict>) {
    let table = table();
    let mut differences = String::new();
    let mut decided = 0;
    for policy in Policy::ALL {
        let verdicts = decide(policy, &table);
        decided += verdicts.len();
        for row in table.rows_of(policy) {
            if let Some(verdict) = verdicts.get(&row.name).filter(|verdict| **verdict != row.expected) {
                differences += &format!("\n`{}`: expected {:?}, got {verdict:?}", row.name, row.expected);
            }
        }
    }
    assert!(differences.is_empty(), "{way}:{differences}");
    let reachable = table.rows.iter().filter(|row| row.reaches_the_filter(&table)).count();
    assert!(decided >= reachable, "{way}: {decided} of {reachable} rows have a verdict");
}
