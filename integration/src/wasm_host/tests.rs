//! The host against small modules that make one call and insist on one status.

use portcullis_policy::UnixTime;
use wasm_encoder::CodeSection;
use wasm_encoder::ConstExpr;
use wasm_encoder::DataSection;
use wasm_encoder::EntityType;
use wasm_encoder::ExportKind;
use wasm_encoder::ExportSection;
use wasm_encoder::Function;
use wasm_encoder::FunctionSection;
use wasm_encoder::GlobalSection;
use wasm_encoder::GlobalType;
use wasm_encoder::ImportSection;
use wasm_encoder::Instruction;
use wasm_encoder::MemorySection;
use wasm_encoder::MemoryType;
use wasm_encoder::TypeSection;
use wasm_encoder::ValType;

use crate::certificates::Authority;

use super::*;

const NOW: UnixTime = UnixTime(1_763_805_600);

/// Where answers go in the guest's memory; its strings begin at 1024 and what the host gives it lies above 65536.
const OUT: i32 = 512;
const STRINGS: i32 = 1024;

/// A module that makes these calls in `proxy_on_request_headers`, traps if one answers another status than said, and
/// lets the request go.
#[derive(Default)]
struct Guest {
    calls: Vec<(&'static str, Vec<Argument>, Option<i32>)>,
    in_configure: bool,
}

#[derive(Clone)]
enum Argument {
    I32(i32),
    I64(i64),
    /// Address and size of these bytes.
    Bytes(Vec<u8>),
}

use Argument::I32;
use Argument::I64;

fn text(text: impl AsRef<[u8]>) -> Argument {
    Argument::Bytes(text.as_ref().to_vec())
}

impl Guest {
    fn call(mut self, name: &'static str, arguments: impl Into<Vec<Argument>>, expected: i32) -> Self {
        self.calls.push((name, arguments.into(), Some(expected)));
        self
    }

    /// Traps.
    fn trap(mut self) -> Self {
        self.calls.push(("", Vec::new(), None));
        self
    }

    /// Makes its calls while it is configured instead.
    fn in_configure(mut self) -> Self {
        self.in_configure = true;
        self
    }

    fn encode(&self) -> Vec<u8> {
        let (mut types, mut imports, mut data) = (TypeSection::new(), ImportSection::new(), DataSection::new());
        let mut body = Function::new([]);
        let mut string_at = STRINGS;
        let mut imported = 0;
        for (name, arguments, expected) in &self.calls {
            let Some(expected) = expected else {
                body.instruction(&Instruction::Unreachable);
                continue;
            };
            let mut parameters = Vec::new();
            for argument in arguments {
                match argument {
                    I32(value) => {
                        body.instruction(&Instruction::I32Const(*value));
                        parameters.push(ValType::I32);
                    }
                    I64(value) => {
                        body.instruction(&Instruction::I64Const(*value));
                        parameters.push(ValType::I64);
                    }
                    Argument::Bytes(bytes) => {
                        let size = i32::try_from(bytes.len()).unwrap();
                        data.active(0, &ConstExpr::i32_const(string_at), bytes.iter().copied());
                        body.instruction(&Instruction::I32Const(string_at));
                        body.instruction(&Instruction::I32Const(size));
                        parameters.extend([ValType::I32; 2]);
                        string_at += size;
                    }
                }
            }
            types.ty().function(parameters, [ValType::I32]);
            let module = if name.starts_with("proxy_") || name.starts_with("no_") { "env" } else { wasi::MODULE };
            imports.import(module, name, EntityType::Function(imported));
            body.instruction(&Instruction::Call(imported));
            imported += 1;
            body.instruction(&Instruction::I32Const(*expected)).instruction(&Instruction::I32Ne);
            body.instruction(&Instruction::If(wasm_encoder::BlockType::Empty));
            body.instruction(&Instruction::Unreachable).instruction(&Instruction::End);
        }
        let answer = i32::from(self.in_configure);
        body.instruction(&Instruction::I32Const(answer)).instruction(&Instruction::End);
        let mut quiet = Function::new([]);
        quiet.instruction(&Instruction::I32Const(1 - answer)).instruction(&Instruction::End);
        let mut nothing = Function::new([]);
        nothing.instruction(&Instruction::End);
        // A bump allocator: the address of the next free byte.
        let mut allocate = Function::new([]);
        allocate.instruction(&Instruction::GlobalGet(0));
        allocate.instruction(&Instruction::GlobalGet(0)).instruction(&Instruction::LocalGet(0));
        allocate.instruction(&Instruction::I32Add).instruction(&Instruction::GlobalSet(0));
        allocate.instruction(&Instruction::End);

        let (headers, configure) = if self.in_configure { (&quiet, &body) } else { (&body, &quiet) };
        let exported: [(&str, &[ValType], &[ValType], &Function); 4] = [
            ("proxy_on_request_headers", &[ValType::I32; 3], &[ValType::I32], headers),
            ("proxy_on_configure", &[ValType::I32; 2], &[ValType::I32], configure),
            ("proxy_on_memory_allocate", &[ValType::I32], &[ValType::I32], &allocate),
            ("proxy_abi_version_0_2_1", &[], &[], &nothing),
        ];
        let (mut functions, mut exports, mut code) = (FunctionSection::new(), ExportSection::new(), CodeSection::new());
        for (index, (name, parameters, results, function)) in (imported..).zip(exported) {
            types.ty().function(parameters.iter().copied(), results.iter().copied());
            functions.function(index);
            exports.export(name, ExportKind::Func, index);
            code.function(function);
        }
        exports.export("memory", ExportKind::Memory, 0);
        let mut memories = MemorySection::new();
        let pages = MemoryType { minimum: 64, maximum: None, memory64: false, shared: false, page_size_log2: None };
        memories.memory(pages);
        let mut globals = GlobalSection::new();
        let heap = GlobalType { val_type: ValType::I32, mutable: true, shared: false };
        globals.global(heap, &ConstExpr::i32_const(65_536));
        let mut module = wasm_encoder::Module::new();
        module.section(&types).section(&imports).section(&functions).section(&memories).section(&globals);
        module.section(&exports).section(&code).section(&data);
        module.finish()
    }

    fn vm(&self) -> Vm {
        self.vm_permitting(Capabilities::All)
    }

    fn vm_permitting(&self, capabilities: Capabilities) -> Vm {
        let module = Module::new(&self.encode(), capabilities).unwrap();
        let mut vm = Vm::start(&module, NOW).unwrap();
        vm.configure(b"{}");
        vm
    }

    /// What becomes of a plain request over `connection`; fails the test if a status was another one than expected.
    fn run(&self, connection: &Connection) -> Headers {
        let mut vm = self.vm();
        let outcome = vm.request(connection, plain_request());
        outcome.upstream().unwrap_or_else(|| panic!("{outcome:?}: {:?}", vm.failure())).clone()
    }
}

fn plain_request() -> Headers {
    Headers::from_client([(":method", "GET"), (":authority", "a.example"), (":path", "/"), ("accept", "*/*")])
}

fn property(path: &str, expected: i32) -> Guest {
    let path = path.replace('.', "\0");
    Guest::default().call("proxy_get_property", [text(path), I32(OUT), I32(OUT + 4)], expected)
}

#[test]
fn properties_are_there_or_not_found_as_in_envoy() {
    let leaf = Authority::new("root").leaf().uri("spiffe://acme.example/a").dns("a.example").issue();
    let (mtls, tls, plaintext) = (Connection::mtls(&leaf), Connection::tls(), Connection::plaintext());
    // Status over mTLS, over TLS without a client certificate, without TLS.
    let cases = [
        ("connection.mtls", [0, 0, 0]),
        ("connection.id", [0, 0, 0]),
        ("connection.requested_server_name", [0, 0, 0]),
        ("connection.tls_version", [0, 0, 1]),
        ("connection.peer_certificate", [0, 1, 1]),
        ("connection.sha256_peer_certificate_digest", [0, 1, 1]),
        ("connection.uri_san_peer_certificate", [0, 1, 1]),
        ("connection.dns_san_peer_certificate", [0, 1, 1]),
        ("connection.subject_peer_certificate", [0, 0, 1]),
        ("source.address", [0, 0, 0]),
        ("request.path", [0, 0, 0]),
        ("request.id", [1, 1, 1]),
        ("connection.no_such_attribute", [1, 1, 1]),
        ("no_such_root", [1, 1, 1]),
    ];
    for (path, expected) in cases {
        for (connection, expected) in [&mtls, &tls, &plaintext].into_iter().zip(expected) {
            property(path, expected).run(connection);
        }
    }
}

#[test]
fn a_faulty_proxy_says_what_the_test_says() {
    let leaf = Authority::new("root").leaf().issue();
    let connection = Connection::mtls(&leaf)
        .fault(Fault::Missing("connection.peer_certificate"))
        .fault(Fault::Status("connection.mtls", 10));
    property("connection.peer_certificate", 1).run(&connection);
    property("connection.mtls", 10).run(&connection);
}

#[test]
fn header_maps_exist_in_their_phase_only() {
    let pairs = |map, expected| {
        Guest::default().call("proxy_get_header_map_pairs", [I32(map), I32(OUT), I32(OUT + 4)], expected)
    };
    let add = |map, expected| {
        Guest::default().call("proxy_add_header_map_value", [I32(map), text("x-a"), text("1")], expected)
    };
    let connection = Connection::tls();
    // Reading a map that is not there gives an empty one, changing it is an error, a ninth kind does not exist.
    for (guest, fields) in
        [(pairs(0, 0), 4), (pairs(2, 0), 4), (pairs(9, 2), 4), (add(0, 0), 5), (add(2, 2), 4), (add(1, 2), 4)]
    {
        assert_eq!(guest.run(&connection).iter().len(), fields);
    }
}

#[test]
fn header_fields_that_no_upstream_may_see_are_refused() {
    let cases: [(&str, &[u8], &[u8], i32); 7] = [
        ("proxy_add_header_map_value", b"x-a", b"one\ntwo", 2),
        ("proxy_add_header_map_value", b"x-a", b"one\0two", 2),
        ("proxy_replace_header_map_value", b"x-a", b"one\rtwo", 2),
        ("proxy_add_header_map_value", b"x a", b"1", 2),
        ("proxy_add_header_map_value", b"", b"1", 2),
        ("proxy_replace_header_map_value", b"X-A", b"\xff", 0),
        ("proxy_replace_header_map_value", b":path", b"/other", 0),
    ];
    for (call, name, value, expected) in cases {
        let upstream = Guest::default().call(call, [I32(0), text(name), text(value)], expected).run(&Connection::tls());
        let name = String::from_utf8(name.to_ascii_lowercase()).unwrap();
        assert_eq!(upstream.all(&name).contains(&value), expected == 0, "{call} `{name}`");
    }
}

#[test]
fn a_replaced_field_is_there_once_and_a_removed_one_not_at_all() {
    let request = Headers::from_client([(":path", "/"), ("x-a", "1"), ("X-A", "2"), ("x-b", "3")]);
    let guest = Guest::default()
        .call("proxy_get_header_map_value", [I32(0), text("X-a"), I32(OUT), I32(OUT + 4)], 0)
        .call("proxy_replace_header_map_value", [I32(0), text("x-a"), text("new")], 0)
        .call("proxy_remove_header_map_value", [I32(0), text("X-B")], 0)
        .call("proxy_get_header_map_value", [I32(0), text("x-b"), I32(OUT), I32(OUT + 4)], 1);
    let mut vm = guest.vm();
    let outcome = vm.request(&Connection::tls(), request);
    assert_eq!(outcome.upstream(), Some(&Headers::from_client([(":path", "/"), ("x-a", "new")])), "{:?}", vm.failure());
}

#[test]
fn pairs_beyond_the_limits_are_refused() {
    let pairs = |count: usize, value: usize| {
        let name = [b'a'; 3];
        let mut bytes = u32::try_from(count).unwrap().to_le_bytes().to_vec();
        for _ in 0..count {
            bytes.extend(3_u32.to_le_bytes());
            bytes.extend(u32::try_from(value).unwrap().to_le_bytes());
        }
        for _ in 0..count {
            bytes.extend(name);
            bytes.push(0);
            bytes.extend(vec![b'v'; value]);
            bytes.push(0);
        }
        bytes
    };
    let truncated = pairs(3, 10)[..40].to_vec();
    let cases = [
        ("1024 pairs", pairs(1024, 10), 0),
        ("1025 pairs", pairs(1025, 10), 2),
        ("1 MiB", pairs(2, 600_000), 2),
        ("a length beyond the end", truncated, 2),
    ];
    for (name, bytes, expected) in cases {
        let mut vm = Guest::default().call("proxy_set_header_map_pairs", [I32(0), text(bytes)], expected).vm();
        let outcome = vm.request(&Connection::tls(), plain_request());
        assert_eq!(outcome.status(), Some(200), "{name}: {:?}", vm.failure());
    }
}

#[test]
fn metrics_know_their_kind_and_their_ids() {
    let guest = Guest::default()
        .call("proxy_define_metric", [I32(0), text("requests"), I32(OUT)], 0)
        .call("proxy_define_metric", [I32(1), text("rules"), I32(OUT)], 0)
        .call("proxy_define_metric", [I32(3), text("nothing"), I32(OUT)], 2)
        .call("proxy_increment_metric", [I32(1), I64(2)], 0)
        .call("proxy_increment_metric", [I32(1), I64(-1)], 2)
        .call("proxy_record_metric", [I32(2), I64(7)], 0)
        .call("proxy_increment_metric", [I32(3), I64(1)], 1)
        .call("proxy_get_metric", [I32(0), I32(OUT)], 1);
    let mut vm = guest.vm();
    vm.request(&Connection::tls(), plain_request());
    assert_eq!(vm.failure(), None);
    assert_eq!((vm.counter("requests"), vm.gauge("rules"), vm.counter("rules")), (Some(2), Some(7), None));
}

#[test]
fn bad_addresses_and_unknown_contexts_are_statuses() {
    Guest::default()
        .call("proxy_log", [I32(2), I32(-8), I32(16)], 6)
        .call("proxy_get_property", [I32(0), I32(i32::MAX), I32(OUT), I32(OUT + 4)], 6)
        .call("proxy_set_effective_context", [I32(77)], 2)
        .call("proxy_close_stream", [I32(4)], 2)
        .call("proxy_log", [I32(6), text("no such level")], 2)
        .run(&Connection::tls());
}

#[test]
fn a_root_context_has_neither_connection_nor_headers() {
    let guest = Guest::default()
        .in_configure()
        .call("proxy_get_property", [text("connection\0mtls"), I32(OUT), I32(OUT + 4)], 1)
        .call("proxy_add_header_map_value", [I32(0), text("x-a"), text("1")], 2)
        .call("proxy_send_local_response", [I32(403), text(""), text(""), text(""), I32(-1)], 2)
        .call("proxy_get_buffer_bytes", [I32(7), I32(0), I32(1 << 20), I32(OUT), I32(OUT + 4)], 0)
        .call("proxy_set_tick_period_milliseconds", [I32(1_000)], 0);
    let vm = guest.vm();
    assert_eq!(vm.failure(), None);
    assert_eq!(vm.tick_period(), Some(std::time::Duration::from_secs(1)));
}

#[test]
fn a_local_reply_ends_the_request() {
    let guest = Guest::default().call(
        "proxy_send_local_response",
        [I32(403), text("why"), text("no"), text(Headers::from_client([("X-Code", "c")]).serialize()), I32(-1)],
        0,
    );
    let outcome = guest.vm().request(&Connection::tls(), plain_request());
    let reply = outcome.reply().unwrap();
    assert_eq!((reply.status, reply.body.as_slice(), reply.headers.single("x-code")), (403, &b"no"[..], Some("c")));
}

#[test]
fn a_trap_fails_the_vm_until_it_is_reloaded() {
    let mut vm = Guest::default().trap().vm();
    for _ in 0..2 {
        let outcome = vm.request(&Connection::tls(), plain_request());
        assert_eq!(outcome.status(), Some(503));
        assert!(vm.failure().is_some_and(|trap| trap.contains("unreachable")), "{:?}", vm.failure());
    }
    vm.reload().unwrap();
    assert_eq!(vm.failure(), None);
}

#[test]
fn the_clock_is_the_tests() {
    let guest = Guest::default()
        .call("proxy_get_current_time_nanoseconds", [I32(OUT)], 0)
        .call("clock_time_get", [I32(0), I64(0), I32(OUT)], 0)
        .call("proxy_log", [I32(2), I32(OUT), I32(8)], 0);
    let mut vm = guest.vm();
    vm.set_time(UnixTime(1));
    vm.request(&Connection::tls(), plain_request());
    let nanoseconds = String::from_utf8_lossy(&1_000_000_000_u64.to_le_bytes()).into_owned();
    assert_eq!(vm.log(), [LogLine { level: LogLevel::Info, text: nanoseconds }]);
}

#[test]
fn a_broken_call_answers_what_the_test_says() {
    let mut vm = Guest::default().call("proxy_get_header_map_pairs", [I32(0), I32(OUT), I32(OUT)], 10).vm();
    vm.break_call("proxy_get_header_map_pairs", 10);
    assert_eq!(vm.request(&Connection::tls(), plain_request()).status(), Some(200), "{:?}", vm.failure());
}

#[test]
#[should_panic(expected = "which the capability restriction does not permit")]
fn a_call_without_permission_fails_the_test() {
    let permitted = ["proxy_on_request_headers", "proxy_on_configure"].map(str::to_owned).into();
    let guest = Guest::default().call("proxy_log", [I32(2), text("x")], 10);
    guest.vm_permitting(Capabilities::Only(permitted)).request(&Connection::tls(), plain_request());
}

#[test]
#[should_panic(expected = "which this host does not have")]
fn a_call_that_this_host_lacks_fails_the_test() {
    Guest::default().call("proxy_done", [], 10).run(&Connection::tls());
}

#[test]
fn an_unknown_import_is_named() {
    let module = Guest::default().call("no_such_call", [], 0).encode();
    let error = Module::new(&module, Capabilities::All).err().unwrap();
    assert!(error.to_string().contains("`env.no_such_call`"), "{error}");
}

#[test]
#[should_panic(expected = "Envoy's codec refuses")]
fn a_request_that_no_codec_hands_on_is_no_test() {
    Headers::from_client([("x-a", "one\r\ntwo")]);
}
