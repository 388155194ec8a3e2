//! Requests that break programs: none may trap the module, and none may get through.

use portcullis_integration::wasm_host::Connection;
use portcullis_integration::wasm_host::Headers;

use crate::gate::CART;
use crate::gate::CHECKOUT;
use crate::gate::answer;
use crate::gate::assert_alive;
use crate::gate::gate;
use crate::gate::peer;
use crate::gate::request;
use crate::gate::request_with;

#[test]
fn values_that_are_not_utf_8_are_refused() {
    let mut vm = gate();
    let checkout = peer(CHECKOUT);
    for value in [&b"\xff"[..], b"ok\xc3", b"\xc0\xaf", b"\xed\xa0\x80", &[0x80; 5_000]] {
        let outcome = vm.request(&checkout, request_with("GET", "/orders/1", &[("x-odd", value)]));
        assert_eq!(answer(&outcome), (400, "header_not_utf8".to_owned()), "{value:?}");
    }
    assert_alive(&mut vm);
}

#[test]
fn fields_that_no_codec_should_hand_over_are_refused() {
    let mut vm = gate();
    let checkout = peer(CHECKOUT);
    let good = request("GET", "/orders/1");
    let cases: [(&str, &[u8], &[u8]); 8] = [
        ("a NUL", b"x-odd", b"a\0"),
        ("a line feed", b"x-odd", b"a\nx-portcullis-roles: checkout"),
        ("a folded line", b"x-odd", b"a\r\n b"),
        ("delete", b"x-odd", b"\x7f"),
        ("a bell beside UTF-8", b"x-odd", "\u{fc}\u{7}".as_bytes()),
        ("no name", b"", b"a"),
        ("a blank in a name", b"x odd", b"a"),
        ("a NUL in a name", b"x-odd\0", b"a"),
    ];
    for (name, field, value) in cases {
        let outcome = vm.request(&checkout, Headers::of_no_codec(good.iter().chain([(field, value)])));
        assert_eq!(answer(&outcome), (400, "header_malformed".to_owned()), "{name}");
    }
    assert_alive(&mut vm);
}

#[test]
fn header_maps_of_every_size_are_survived() {
    let mut vm = gate();
    let checkout = peer(CHECKOUT);
    for (count, expected) in [(0, 200), (100, 200), (1_000, 400), (1_024, 400), (1_025, 400), (5_000, 400)] {
        let names: Vec<String> = (0..count).map(|index| format!("x-{index}")).collect();
        let fields: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"v"[..])).collect();
        let outcome = vm.request(&checkout, request_with("GET", "/orders/1", &fields));
        assert_eq!(outcome.status(), Some(expected), "{count} fields: {:?}", answer(&outcome));
    }
    assert_alive(&mut vm);
}

#[test]
fn a_field_of_a_mebibyte_is_survived() {
    let mut vm = gate();
    let value = vec![b'v'; 1 << 20];
    let outcome = vm.request(&peer(CHECKOUT), request_with("GET", "/orders/1", &[("x-large", &value)]));
    assert!(outcome.status().is_some());
    assert_alive(&mut vm);
}

#[test]
fn a_path_of_60_kilobytes_is_refused() {
    let mut vm = gate();
    let checkout = peer(CHECKOUT);
    for path in ["a".repeat(60_000), "a/".repeat(30_000), "%61".repeat(20_000), "../".repeat(20_000)] {
        let outcome = vm.request(&checkout, request("GET", &format!("/orders/{path}")));
        assert_eq!(answer(&outcome), (400, "path_too_long".to_owned()));
    }
    assert_alive(&mut vm);
}

#[test]
fn a_request_without_its_parts_is_refused() {
    let all: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "https"), (":authority", "orders.acme.example"), (":path", "/orders/1")];
    let mut vm = gate();
    let checkout = peer(CHECKOUT);
    for (missing, expected) in [(":method", "method_invalid"), (":path", "path_missing")] {
        let outcome = vm.request(&checkout, Headers::from_client(all.into_iter().filter(|(name, _)| *name != missing)));
        assert_eq!(answer(&outcome), (400, expected.to_owned()), "without {missing}");
    }
    let nothing: [(&str, &str); 0] = [];
    assert_eq!(vm.request(&checkout, Headers::from_client(nothing)).status(), Some(400));
    for twice in all.into_iter().filter(|(name, _)| *name != ":scheme") {
        let outcome = vm.request(&checkout, Headers::from_client(all.into_iter().chain([twice])));
        assert_eq!(answer(&outcome), (400, "header_duplicated".to_owned()), "{twice:?} twice");
    }
    assert_alive(&mut vm);
}

#[test]
fn of_two_single_values_neither_the_first_nor_the_last_counts() {
    let good: &[u8] = b"orders.acme.example";
    let mut vm = gate();
    let checkout = peer(CHECKOUT);
    for name in ["authorization", "host"] {
        let odd: [&[u8]; 5] = [good, b"", b" ", b"evil.example", b"orders.acme.example, evil.example"];
        for value in odd {
            for pair in [[good, value], [value, good]] {
                let fields: [(&str, &[u8]); 3] = [(name, pair[0]), ("x-other", b"1"), (name, pair[1])];
                let outcome = vm.request(&checkout, request_with("GET", "/orders/1", &fields));
                assert_eq!(answer(&outcome), (400, "header_duplicated".to_owned()), "{name}: {pair:?}");
            }
        }
    }
    assert_alive(&mut vm);
}

#[test]
fn noise_neither_passes_nor_traps() {
    // A simple generator of numbers: a failure can be repeated.
    let mut state = 0x2545_f491_u32;
    let mut noise = move |length: usize| -> Vec<u8> {
        let next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()[1]
        };
        std::iter::repeat_with(next).take(length).collect()
    };
    let mut vm = gate();
    let cart = peer(CART);
    for round in 0..300 {
        let path = [b"/debug/".to_vec(), noise(round % 64)].concat();
        let authority = noise(round % 32);
        let connection = if round % 3 == 0 { Connection::presenting(noise(200 + round)) } else { cart.clone() };
        let headers = Headers::of_no_codec([
            (":method", noise(round % 8)),
            (":authority", authority),
            (":path", path),
            ("connection", noise(20)),
            ("x-noise", noise(50)),
        ]);
        let outcome = vm.request(&connection, headers);
        assert!(matches!(outcome.status(), Some(400..=403)), "round {round}: {outcome:?}");
    }
    assert_alive(&mut vm);
}
