//! `[transfer]`: who may take whole zones, who is told of new ones, and the secrets for both.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use service_kit::{Invalid, Networks};

use super::list;
use crate::exchange::{Exchange, Rules};
use crate::tsig::{Algorithm, Key, Keys};
use crate::wire::Name;

/// Shorter secrets can be tried out (RFC 8945 section 8 asks for as many octets as the hash has).
const SECRET_BYTES_MIN: usize = 16;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawTransfer {
    pub clients: Vec<String>,
    pub keys: Vec<RawKey>,
    pub notify: Vec<String>,
    pub notify_key: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawKey {
    pub name: String,
    #[serde(default = "usual")]
    pub algorithm: String,
    pub secret_file: PathBuf,
}

fn usual() -> String {
    "hmac-sha256".into()
}

/// What other servers may have of us.
#[derive(Debug, Clone)]
pub struct Transfers {
    pub exchange: Arc<Exchange>,
    /// Secondaries that are told of new serials.
    pub notify: Vec<SocketAddr>,
    pub notify_key: Option<Arc<Key>>,
}

pub(super) fn parse(raw: &RawTransfer) -> Result<Transfers, Invalid> {
    let keys = Keys::new(raw.keys.iter().map(key).collect::<Result<Vec<_>, _>>()?);
    let clients = Networks::parse(&raw.clients).map_err(|entry| {
        Invalid::new("transfer.clients", entry, "not a network", "write ADDRESS or ADDRESS/BITS")
    })?;
    let notify_key = match raw.notify_key.as_str() {
        "" => None,
        text => Some(keys.get(&name("transfer.notify_key", text)?).cloned().ok_or_else(|| {
            let remedy = "name one of transfer.keys";
            Invalid::new("transfer.notify_key", text, "there is no such key", remedy)
        })?),
    };
    let rules = Rules { clients, signed: !raw.keys.is_empty() };
    Ok(Transfers {
        notify: list(
            "transfer.notify",
            &raw.notify,
            "give ADDRESS:PORT, as in 192.0.2.1:53 or [2001:db8::1]:53",
        )?,
        notify_key,
        exchange: Arc::new(Exchange { keys, transfers: rules }),
    })
}

fn name(at: &str, text: &str) -> Result<Name, Invalid> {
    Name::from_text(text.as_bytes(), Some(&Name::root())).map_err(|error| {
        Invalid::new(at, text, error.to_string(), "give the key's name, as the other side has it")
    })
}

fn key(raw: &RawKey) -> Result<Key, Invalid> {
    let algorithm = Algorithm::from_text(&raw.algorithm).ok_or_else(|| {
        let remedy = "give hmac-sha256, hmac-sha384 or hmac-sha512";
        Invalid::new("transfer.keys.algorithm", &raw.algorithm, "not a known algorithm", remedy)
    })?;
    let file = raw.secret_file.display();
    let unusable = |reason: String| {
        let remedy =
            "write the secret in base64, at least 16 octets of it, and nothing else: openssl rand -base64 32";
        Invalid::new("transfer.keys.secret_file", file.to_string(), reason, remedy)
    };
    let text = std::fs::read_to_string(&raw.secret_file).map_err(|error| unusable(error.to_string()))?;
    let secret = BASE64.decode(text.trim().as_bytes()).map_err(|_| unusable("it is not base64".into()))?;
    if secret.len() < SECRET_BYTES_MIN {
        return Err(unusable(format!("its secret has {} octets", secret.len())));
    }
    Ok(Key::new(name("transfer.keys.name", &raw.name)?, algorithm, secret))
}

#[cfg(test)]
mod tests {
    use service_kit::config::parse_text;

    use crate::config::Config;

    #[track_caller]
    fn check(secret: &str, text: &str, expected: Result<usize, &str>) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, secret).unwrap();
        let text = text.replace("{file}", &file.display().to_string());
        match (parse_text::<Config>("dns", &text), expected) {
            (Ok(config), Ok(secondaries)) => assert_eq!(config.transfers.notify.len(), secondaries),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (got, _) => panic!("{got:?}"),
        }
    }

    const SECRET: &str = "MDEyMzQ1Njc4OWFiY2RlZg==\n";
    const KEY: &str = "keys = [{ name = 'moves', secret_file = '{file}' }]\n";

    #[test]
    fn keys_are_found_by_name() {
        let uses =
            "[transfer]\nclients = ['192.0.2.0/24']\nnotify = ['192.0.2.7:53']\nnotify_key = 'Moves.'\n";
        check(SECRET, &format!("{uses}{KEY}"), Ok(1));
        check(SECRET, uses, Err("transfer.notify_key: got Moves.: there is no such key"));
    }

    #[test]
    fn what_cannot_work_is_refused_by_key() {
        let key = format!("[transfer]\n{KEY}");
        check("c2hvcnQ=", &key, Err("its secret has 5 octets"));
        check("not base64", &key, Err("it is not base64"));
        check(SECRET, &key.replace(" }", ", algorithm = 'hmac-md5' }"), Err("give hmac-sha256"));
        check(SECRET, "[transfer]\nclients = ['192.0.2.0/33']\n", Err("transfer.clients"));
        check(SECRET, "[transfer]\nnotify = ['192.0.2.7']\n", Err("transfer.notify"));
    }
}
