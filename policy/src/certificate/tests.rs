use super::*;

#[test]
fn an_svid_is_known_by_its_spiffe_id() {
    let mut params = rcgen::CertificateParams::default();
    let uri = "spiffe://acme.example/ns/pay/sa/checkout";
    params.subject_alt_names = vec![rcgen::SanType::URI(uri.try_into().unwrap())];
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();

    let leaf = Leaf::from_der(certificate.der()).unwrap();
    assert_eq!(leaf.identity(), uri);
    assert_eq!(leaf.spiffe().unwrap().segments().collect::<Vec<_>>(), ["ns", "pay", "sa", "checkout"]);
    assert_eq!(Leaf::from_pem(certificate.pem().as_bytes()).unwrap().sha256(), leaf.sha256());
}
