//! The secrets of one stack: random passwords, a token, certificates and key rings, made once into a folder that nothing of git
//! ever sees.

use std::fs::{self, DirBuilder, File};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown};
use std::path::Path;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

use crate::topology::SITE;

/// One password a file, without a line end.
pub const PASSWORDS: [&str; 6] = [
    "postgres-superuser",
    "postgres-replicator",
    "postgres-app",
    "postgres-probe",
    "redis-session",
    "redis-cache",
];
/// One key ring a file.
pub const KEY_RINGS: [&str; 2] = ["sticky", "signing"];

/// What changes at an admin listener must carry; one for all programs of a stack.
pub const ADMIN_TOKEN: &str = "admin.token";
/// The site's key, its certificate and the authority that signed it, in one file, so that they always belong together.
pub const SITE_CERTIFICATE: &str = "site.pem";
/// The authority alone, for clients: `curl --cacert`. Its key was thrown away, so it never signs anything else.
pub const AUTHORITY: &str = "ca.crt";
/// Names and addresses under which a stack's balancers are reached. Other addresses differ from stack to stack: there clients
/// use names.
const SITE_NAMES: [&str; 7] =
    [SITE, "*.fitness.example.com", "localhost", "lb-1", "lb-2", "127.0.0.1", "::1"];
/// Longer, and Apple's clients refuse certificates of private authorities too.
const CERTIFICATE_DAYS: i64 = 820;

/// 192 bits, in hex: safe in connection strings, in shells and in configuration files.
const PASSWORD_BYTES: usize = 24;

/// Makes what is missing in `folder` and leaves what is there. Files are 0440 and belong to `group`, when one is given.
/// Returns the names of the files that were made.
pub fn fill(folder: &Path, group: Option<u32>) -> Result<Vec<String>> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(folder)
        .with_context(|| folder.display().to_string())?;
    if let Some(group) = group {
        chown(folder, None, Some(group))
            .with_context(|| format!("group {group} for {}", folder.display()))?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o750))?;
    }
    let mut made = Vec::new();
    for name in PASSWORDS {
        write_once(folder, &format!("{name}.password"), group, &mut made, || {
            Ok(hex(&random::<PASSWORD_BYTES>()))
        })?;
    }
    write_once(folder, ADMIN_TOKEN, group, &mut made, || Ok(hex(&random::<PASSWORD_BYTES>())))?;
    for name in KEY_RINGS {
        write_once(folder, &format!("{name}.keys.toml"), group, &mut made, || Ok(key_ring()))?;
    }
    write_once(folder, SITE_CERTIFICATE, group, &mut made, site_certificate)?;
    // Read back: of two runs at the same time only one has made the certificate.
    write_once(folder, AUTHORITY, group, &mut made, || {
        let text = fs::read_to_string(folder.join(SITE_CERTIFICATE))?;
        let last = text.rfind("-----BEGIN CERTIFICATE-----").context("site.pem has no certificate")?;
        Ok(text[last..].to_owned())
    })?;
    Ok(made)
}

/// Writes beside the final name and links it into place: a half-written secret is never seen, and of two that run at the
/// same time one wins.
fn write_once(
    folder: &Path,
    name: &str,
    group: Option<u32>,
    made: &mut Vec<String>,
    content: impl Fn() -> Result<String>,
) -> Result<()> {
    let path = folder.join(name);
    if path.exists() {
        return Ok(());
    }
    let part = folder.join(format!(".{name}.{}", std::process::id()));
    let mut file = File::create(&part).with_context(|| part.display().to_string())?;
    fs::set_permissions(&part, fs::Permissions::from_mode(0o440))?;
    if let Some(group) = group {
        chown(&part, None, Some(group)).with_context(|| format!("group {group} for {name}"))?;
    }
    file.write_all(content()?.as_bytes())?;
    file.sync_all()?;
    match fs::hard_link(&part, &path) {
        Ok(()) => made.push(name.to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    }
    fs::remove_file(&part)?;
    Ok(())
}

fn key_ring() -> String {
    let secret = STANDARD.encode(random::<32>());
    format!("[[key]]\nid = 1\nstate = \"issue\"\nsecret = \"{secret}\"\n")
}

fn site_certificate() -> Result<String> {
    let now = time::OffsetDateTime::now_utc();
    let valid = |params: &mut CertificateParams| {
        // Clocks differ.
        params.not_before = now - time::Duration::days(1);
        params.not_after = now + time::Duration::days(CERTIFICATE_DAYS);
    };
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.distinguished_name.push(DnType::CommonName, "scaleout development CA");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(&mut authority);
    let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let mut site = CertificateParams::new(SITE_NAMES.map(str::to_owned))?;
    site.distinguished_name.push(DnType::CommonName, SITE);
    site.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    site.use_authority_key_identifier_extension = true;
    valid(&mut site);
    let key = KeyPair::generate()?;
    let certificate = site.signed_by(&key, &issuer)?;
    Ok(format!("{}{}{}", key.serialize_pem(), certificate.pem(), issuer.pem()))
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("Linux always has random numbers once it has started");
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a password of a stack.
pub fn password(folder: &Path, name: &str) -> Result<String> {
    let path = folder.join(format!("{name}.password"));
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: usize = PASSWORDS.len() + KEY_RINGS.len() + 3;

    #[test]
    fn a_second_run_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(fill(folder.path(), None).unwrap().len(), FILES);
        let before = password(folder.path(), "postgres-app").unwrap();
        assert_eq!(fill(folder.path(), None).unwrap(), Vec::<String>::new());
        assert_eq!(password(folder.path(), "postgres-app").unwrap(), before);
    }

    #[test]
    fn only_what_is_missing_is_made() {
        let folder = tempfile::tempdir().unwrap();
        fill(folder.path(), None).unwrap();
        fs::remove_file(folder.path().join("sticky.keys.toml")).unwrap();
        assert_eq!(fill(folder.path(), None).unwrap(), ["sticky.keys.toml"]);
    }

    #[test]
    fn others_cannot_read_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        fill(folder.path(), None).unwrap();
        let entries: Vec<_> = fs::read_dir(folder.path()).unwrap().map(Result::unwrap).collect();
        assert_eq!(entries.len(), FILES);
        for entry in entries {
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o440, "{entry:?}");
        }
    }

    #[test]
    fn the_authority_is_that_of_the_site() {
        let folder = tempfile::tempdir().unwrap();
        fill(folder.path(), None).unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let site = read(SITE_CERTIFICATE);
        assert_eq!(site.matches("-----BEGIN CERTIFICATE-----").count(), 2);
        assert!(site.starts_with("-----BEGIN PRIVATE KEY-----"));
        let authority = read(AUTHORITY);
        assert!(site.ends_with(&authority) && !authority.contains("PRIVATE"));
        fs::remove_file(folder.path().join(AUTHORITY)).unwrap();
        assert_eq!(fill(folder.path(), None).unwrap(), [AUTHORITY]);
        assert_eq!(read(AUTHORITY), authority);
    }

    #[test]
    fn passwords_differ_and_fit_into_a_connection_string() {
        let folder = tempfile::tempdir().unwrap();
        fill(folder.path(), None).unwrap();
        let all: std::collections::BTreeSet<String> =
            PASSWORDS.iter().map(|name| password(folder.path(), name).unwrap()).collect();
        assert_eq!(all.len(), PASSWORDS.len());
        assert!(
            all.iter().all(|it| it.len() == 2 * PASSWORD_BYTES && it.chars().all(|c| c.is_ascii_hexdigit()))
        );
    }
}
