//! SCRAM-SHA-256 (RFC 5802, RFC 7677), the server's half.
//!
//! Verifiers are derived from the password files once, at start; a log-in then costs two HMACs. Unknown users get the same
//! conversation with a salt that stays the same for their name, and fail at its end, so that names cannot be probed.
//! Channel binding is not offered, as there is no TLS to bind to.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use thiserror::Error;

const ITERATIONS: u32 = 4096;
/// Longest client message that is looked at: names and nonces of real clients are far below.
const MESSAGE_BYTES_MAX: usize = 1024;

/// What is kept of a password.
#[derive(Clone)]
pub struct Verifier {
    iterations: u32,
    salt: Vec<u8>,
    stored_key: [u8; 32],
    server_key: [u8; 32],
    known: bool,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Verifier {{ known: {} }}", self.known)
    }
}

/// Why a log-in failed. The client is told one thing for all of `Proof`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ScramError {
    /// The messages do not follow the protocol.
    #[error("malformed SCRAM message: {0}")]
    Malformed(&'static str),
    /// Wrong password, or no such user.
    #[error("the proof does not match")]
    Proof,
}

impl Verifier {
    /// Derives the verifier of a password; costs some milliseconds on purpose.
    pub fn derive(password: &str) -> Self {
        // "SCRAM-SHA-256$4096:SALT$STORED:SERVER", with SASLprep applied to the password.
        let text = postgres_protocol::password::scram_sha_256(password.as_bytes());
        Self::read(&text).expect("the library writes the form that Postgres stores")
    }

    /// Reads the form that Postgres keeps in `pg_authid`.
    pub fn read(text: &str) -> Option<Self> {
        let (iterations_and_salt, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let (iterations, salt) = iterations_and_salt.split_once(':')?;
        let (stored, server) = keys.split_once(':')?;
        let key = |text: &str| BASE64.decode(text).ok().and_then(|key| key.try_into().ok());
        Some(Self {
            iterations: iterations.parse().ok()?,
            salt: BASE64.decode(salt).ok()?,
            stored_key: key(stored)?,
            server_key: key(server)?,
            known: true,
        })
    }

    /// The verifier of a user who does not exist.
    pub fn mock(server_secret: &[u8], user: &str) -> Self {
        let salt = hmac(server_secret, &[user.as_bytes()]);
        Self {
            iterations: ITERATIONS,
            salt: salt[..16].to_vec(),
            stored_key: salt,
            server_key: salt,
            known: false,
        }
    }
}

/// A conversation after the server's first message.
#[derive(Debug)]
pub struct Exchange {
    verifier: Verifier,
    client_first_bare: String,
    server_first: String,
    nonce: String,
    gs2_header: String,
}

impl Exchange {
    /// Takes the client's first message; returns the conversation and the server's first message.
    pub fn begin(verifier: Verifier, client_first: &[u8], server_nonce: &str) -> Result<Self, ScramError> {
        let text = readable(client_first)?;
        // "n,,n=user,r=nonce"; "y" says that the client would bind if the server could.
        let (flag, rest) = text.split_once(',').ok_or(ScramError::Malformed("no channel binding flag"))?;
        if !matches!(flag, "n" | "y") {
            return Err(ScramError::Malformed("channel binding was not offered"));
        }
        let (authorization, bare) = rest.split_once(',').ok_or(ScramError::Malformed("no header end"))?;
        if !authorization.is_empty() && !authorization.starts_with("a=") {
            return Err(ScramError::Malformed("unknown header field"));
        }
        let client_nonce = bare
            .split(',')
            .nth(1)
            .and_then(|field| field.strip_prefix("r="))
            .filter(|nonce| !nonce.is_empty())
            .ok_or(ScramError::Malformed("no nonce"))?;
        let nonce = format!("{client_nonce}{server_nonce}");
        let server_first = format!("r={nonce},s={},i={}", BASE64.encode(&verifier.salt), verifier.iterations);
        let gs2_header = format!("{flag},{authorization},");
        Ok(Self { verifier, client_first_bare: bare.to_owned(), server_first, nonce, gs2_header })
    }

    /// What to send now.
    pub fn server_first(&self) -> &str {
        &self.server_first
    }

    /// Takes the client's last message; returns the server's proof.
    pub fn finish(&self, client_final: &[u8]) -> Result<String, ScramError> {
        let text = readable(client_final)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(ScramError::Malformed("no proof"))?;
        let mut fields = without_proof.split(',');
        let binding = fields.next().and_then(|field| field.strip_prefix("c="));
        if binding != Some(BASE64.encode(&self.gs2_header).as_str()) {
            return Err(ScramError::Malformed("the channel binding is not the one agreed on"));
        }
        if fields.next().and_then(|field| field.strip_prefix("r=")) != Some(self.nonce.as_str()) {
            return Err(ScramError::Malformed("the nonce is not the one agreed on"));
        }
        let proof: [u8; 32] = BASE64
            .decode(proof)
            .ok()
            .and_then(|proof| proof.try_into().ok())
            .ok_or(ScramError::Malformed("the proof is not 32 bytes"))?;
        let message = [&self.client_first_bare, ",", &self.server_first, ",", without_proof];
        let message = message.map(str::as_bytes);
        let signature = hmac(&self.verifier.stored_key, &message);
        let client_key: [u8; 32] = std::array::from_fn(|at| proof[at] ^ signature[at]);
        let stored_key: [u8; 32] = Sha256::digest(client_key).into();
        let right = bool::from(stored_key.ct_eq(&self.verifier.stored_key));
        if !(right & self.verifier.known) {
            return Err(ScramError::Proof);
        }
        Ok(format!("v={}", BASE64.encode(hmac(&self.verifier.server_key, &message))))
    }
}

fn readable(message: &[u8]) -> Result<&str, ScramError> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(ScramError::Malformed("message too long"));
    }
    str::from_utf8(message).map_err(|_| ScramError::Malformed("not UTF-8"))
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};

    /// One whole log-in with an independent client.
    #[track_caller]
    fn check(verifier: Verifier, password: &str, expected: Result<(), ScramError>) {
        let mut client = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        let exchange = Exchange::begin(verifier, client.message(), "servernonce").unwrap();
        client.update(exchange.server_first().as_bytes()).unwrap();
        let got = exchange.finish(client.message()).map(|last| client.finish(last.as_bytes()).unwrap());
        assert_eq!(got, expected);
    }

    #[test]
    fn passwords_decide() {
        check(Verifier::derive("pencil"), "pencil", Ok(()));
        check(Verifier::derive("pencil"), "pen", Err(ScramError::Proof));
        check(Verifier::derive("I\u{ad}X"), "IX", Ok(())); // SASLprep drops the soft hyphen
        check(Verifier::mock(b"secret", "nobody"), "pencil", Err(ScramError::Proof));
    }

    #[test]
    fn the_example_of_rfc_7677() {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let salted: [u8; 32] = {
            let mut block = hmac(b"pencil", &[&salt, &[0, 0, 0, 1]]);
            let mut sum = block;
            for _ in 1..4096 {
                block = hmac(b"pencil", &[&block]);
                sum = std::array::from_fn(|at| sum[at] ^ block[at]);
            }
            sum
        };
        let stored_key: [u8; 32] = Sha256::digest(hmac(&salted, &[b"Client Key"])).into();
        let server_key = hmac(&salted, &[b"Server Key"]);
        let verifier = Verifier { iterations: 4096, salt, stored_key, server_key, known: true };
        let exchange =
            Exchange::begin(verifier, b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
                .unwrap();
        let last = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                     p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(exchange.finish(last).unwrap(), "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn the_mock_salt_is_steady_and_differs_by_name() {
        assert_eq!(Verifier::mock(b"s", "a").salt, Verifier::mock(b"s", "a").salt);
        assert_ne!(Verifier::mock(b"s", "a").salt, Verifier::mock(b"s", "b").salt);
    }

    #[test]
    fn malformed_messages_are_refused() {
        for first in ["", "n", "n,", "n,,", "n,,n=u", "n,,n=u,r=", "p=tls-unique,,n=u,r=x", "n,z,n=u,r=x"] {
            assert!(Exchange::begin(Verifier::mock(b"s", "a"), first.as_bytes(), "x").is_err(), "{first}");
        }
        let exchange = Exchange::begin(Verifier::mock(b"s", "a"), b"n,,n=,r=abc", "def").unwrap();
        for last in [
            "",
            "c=biws",
            "c=biws,r=abcdef",
            "c=biws,r=other,p=AAAA",
            "c=eSws,r=abcdef,p=AAAA",
            "c=biws,r=abcdef,p=AA",
        ] {
            assert!(matches!(exchange.finish(last.as_bytes()), Err(ScramError::Malformed(_))), "{last}");
        }
    }
}
