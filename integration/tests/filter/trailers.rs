//! What follows the body of a request: some servers join it to the header.

use portcullis_integration::wasm_host::Headers;

use crate::gate::CART;
use crate::gate::assert_alive;
use crate::gate::gate;
use crate::gate::peer;
use crate::gate::request;

#[test]
fn what_a_client_says_of_itself_in_trailers_never_arrives() {
    let mut vm = gate();
    let ours = ["x-portcullis-identity", "X_Portcullis_Roles", "x.portcullis-rule", "x-portcullis-later"];
    let forwarded = ["x-forwarded-client-cert", "X_Forwarded_Client_Cert", "client-cert", "Client-Cert-Chain"];
    for name in ours.into_iter().chain(forwarded) {
        let (stream, outcome) = vm.open(&peer(CART), request("GET", "/orders/1"));
        assert_eq!(outcome.status(), Some(200));
        let sent = [(name, "forged"), ("x-checksum", "1"), (name, "forged again"), ("x-portcullisidentity", "2")];
        let passed = vm.trailers(stream, Headers::from_client(sent)).unwrap();
        let expected = Headers::from_client([("x-checksum", "1"), ("x-portcullisidentity", "2")]);
        assert_eq!(passed, expected, "`{name}`");
        vm.close(stream);
    }
    assert_alive(&mut vm);
}

#[test]
fn trailers_of_every_size_are_survived() {
    let mut vm = gate();
    for (count, passes) in [(0, true), (1, true), (1_000, true), (1_001, false), (5_000, false)] {
        let (stream, _) = vm.open(&peer(CART), request("GET", "/orders/1"));
        let fields = (0..count).map(|index| (format!("x-{index}"), vec![0xff_u8; 10]));
        let passed = vm.trailers(stream, Headers::from_client(fields));
        assert_eq!(passed.is_some(), passes, "{count} trailers");
        vm.close(stream);
    }
    assert_alive(&mut vm);
}
