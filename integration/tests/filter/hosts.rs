//! What any host may withhold.

use portcullis_integration::wasm_host::Connection;

use crate::gate::assert_alive;
use crate::gate::bare;
use crate::gate::gate;
use crate::gate::get;
use crate::gate::policy;

const INTERNAL_FAILURE: i32 = 10;

#[test]
fn a_host_that_withholds_what_every_decision_needs_is_refused_at_start() {
    for call in ["proxy_get_property", "proxy_get_current_time_nanoseconds", "proxy_get_buffer_bytes"] {
        let mut vm = bare();
        vm.break_call(call, INTERNAL_FAILURE);
        assert!(!vm.configure(policy().to_string().as_bytes()), "without `{call}`");
        let said = vm.log().iter().any(|line| line.text.contains("configuration refused"));
        // Where the SDK takes the status for impossible, the machine traps: that is a refusal as well.
        assert!(said || vm.failure().is_some(), "without `{call}`: {:?}", vm.log());
    }
}

#[test]
fn a_policy_that_does_not_fit_into_memory_leaves_the_one_before() {
    let mut large = policy();
    let rules = large["rules"].as_array_mut().unwrap();
    rules.extend((0..20_000).map(|index| {
        serde_json::json!({ "id": format!("rule-{index}"), "allow": ["reader"], "paths": [format!("/many/{index}/**")] })
    }));
    let mut vm = gate();
    let size = vm.memory_size();
    vm.limit_memory(size + (1 << 20));
    assert!(!vm.configure(large.to_string().as_bytes()), "{} bytes were enough", vm.memory_size());
    assert!(vm.failure().is_some(), "it ends in a trap, not in half a policy");
    assert_eq!(get(&mut vm, &Connection::tls(), "/healthz").status(), Some(503));
    vm.reload().unwrap();
    assert_alive(&mut vm);
}
