use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SignatureAlgorithm};
use tempfile::TempDir;

use super::*;

/// Files of certificates in a folder of their own.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// A certificate for some names, with its key in a file beside it.
    fn certificate(&self, file: &str, names: &[&str], algorithm: &'static SignatureAlgorithm) -> Files {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        Files {
            chain: self.put(&format!("{file}.crt"), &certificate.pem()),
            key: self.put(&format!("{file}.key"), &key.serialize_pem()),
        }
    }

    fn plain(&self, file: &str, names: &[&str]) -> Files {
        self.certificate(file, names, &rcgen::PKCS_ECDSA_P256_SHA256)
    }
}

/// Which of several files a client gets that asks for a name; `-` for none.
#[track_caller]
fn check(files: &[Files], strict: bool, name: &str, expected: &str) {
    let certificates = Certificates::load(files, strict).unwrap();
    let name = Some(name).filter(|name| !name.is_empty());
    let schemes = provider().signature_verification_algorithms.supported_schemes();
    let found = certificates.find(name, &schemes);
    let owner = |key: Arc<CertifiedKey>| {
        let own = |one: &&Files| load(one).unwrap().cert == key.cert;
        let file = files.iter().find(own).unwrap();
        file.chain.file_stem().unwrap().to_str().unwrap().to_owned()
    };
    assert_eq!(found.map_or("-".to_owned(), owner), expected, "{name:?}");
}

#[test]
fn the_exact_name_goes_before_the_wildcard_before_the_first() {
    let folder = Folder::new();
    let files = [
        folder.plain("first", &["example.org"]),
        folder.plain("wild", &["*.example.com"]),
        folder.plain("exact", &["api.example.com", "example.com"]),
    ];
    check(&files, false, "api.example.com", "exact");
    check(&files, false, "API.Example.com", "exact");
    check(&files, false, "www.example.com", "wild");
    check(&files, false, "example.com", "exact");
    check(&files, false, "a.b.example.com", "first");
    check(&files, false, "other.net", "first");
    check(&files, false, "", "first");
    check(&files, true, "www.example.com", "wild");
    check(&files, true, "other.net", "-");
    check(&files, true, "", "-");
}

#[test]
fn one_name_may_have_keys_of_several_kinds() {
    let folder = Folder::new();
    let files = [
        folder.plain("ecdsa", &["example.com"]),
        folder.certificate("ed25519", &["example.com"], &PKCS_ED25519),
    ];
    let certificates = Certificates::load(&files, false).unwrap();
    let chosen = |scheme| certificates.find(Some("example.com"), &[scheme]).unwrap().key.algorithm();
    assert_eq!(chosen(SignatureScheme::ED25519), rustls::SignatureAlgorithm::ED25519);
    assert_eq!(chosen(SignatureScheme::ECDSA_NISTP256_SHA256), rustls::SignatureAlgorithm::ECDSA);
}

/// What is said of certificates that cannot be used.
#[track_caller]
fn check_refused(files: &[Files], strict: bool, parts: &[&str]) {
    let message = Certificates::load(files, strict).map(drop).unwrap_err().to_string();
    for part in parts {
        assert!(message.contains(part), "{message:?} should contain {part:?}");
    }
}

#[test]
fn what_is_wrong_is_said_with_the_file() {
    let folder = Folder::new();
    let (one, two) = (folder.plain("one", &["example.com"]), folder.plain("two", &["example.net"]));
    let missing = Files { chain: folder.0.path().join("none.crt"), key: one.key.clone() };
    check_refused(&[missing], false, &["none.crt", "No such file"]);
    let swapped = Files { chain: one.chain.clone(), key: two.key };
    check_refused(&[swapped], false, &["two.key", "not that of", "one.crt"]);
    let keyless = Files { chain: one.chain.clone(), key: one.chain.clone() };
    check_refused(&[keyless], false, &["one.crt", "no private key"]);
    let empty = Files { chain: folder.put("empty.crt", ""), key: one.key.clone() };
    check_refused(&[empty], false, &["empty.crt", "no certificate"]);
    let text = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let sealed = Files { chain: one.chain.clone(), key: folder.put("sealed.key", text) };
    check_refused(&[sealed], false, &["sealed.key", "encrypted", "without a passphrase"]);
    let broken = Files { chain: folder.put("broken.crt", &one_in_pem("CERTIFICATE")), key: one.key };
    check_refused(&[broken], false, &["broken.crt"]);
}

fn one_in_pem(kind: &str) -> String {
    format!("-----BEGIN {kind}-----\nAQID\n-----END {kind}-----\n")
}

#[test]
fn two_certificates_of_one_kind_for_one_name_are_a_mistake() {
    let folder = Folder::new();
    let files = [
        folder.plain("one", &["example.com", "example.net"]),
        folder.certificate("two", &["example.net"], &PKCS_ECDSA_P384_SHA384),
    ];
    check_refused(&files, false, &["two.crt", "example.net has a certificate already", "one.crt"]);
}

#[test]
fn a_certificate_that_nobody_would_get_is_a_mistake() {
    let folder = Folder::new();
    let named = folder.plain("named", &["example.com"]);
    let nameless = folder.plain("nameless", &["192.0.2.1"]);
    check_refused(&[named.clone(), nameless.clone()], false, &["nameless.crt", "no DNS name"]);
    check_refused(std::slice::from_ref(&nameless), true, &["nameless.crt", "no DNS name"]);
    check(&[nameless, named], false, "", "nameless");
}

#[test]
fn certificate_and_key_may_share_a_file() {
    let folder = Folder::new();
    let files = folder.plain("one", &["example.com"]);
    let both = fs::read_to_string(&files.chain).unwrap() + &fs::read_to_string(&files.key).unwrap();
    let path = folder.put("both.pem", &both);
    check(&[Files { chain: path.clone(), key: path }], false, "example.com", "both");
}

#[test]
fn a_new_file_has_a_new_stamp() {
    let folder = Folder::new();
    let path = folder.put("one", "1");
    let before = Stamp::of(&path);
    assert_eq!(Stamp::of(&path), before);
    fs::rename(folder.put("two", "2"), &path).unwrap();
    assert_ne!(Stamp::of(&path), before);
    assert_eq!(Stamp::of(Path::new("/none")), None);
}
