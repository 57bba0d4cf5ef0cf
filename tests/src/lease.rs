//! A network of its own for each stack: one /24 out of 127.64.0.0/10, held by a locked file, so that test stacks and
//! `stack up` run beside each other. A detached stack outlives its command, so it leaves a reservation beside the lock.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{Flock, FlockArg};

/// The first of the networks that tests take; the ones before are for `stack up` and other detached stacks.
const FIRST_TEST_NETWORK: u16 = 16;
/// 127.64.0.0/10 holds 16,384 networks of 256; this many at once is far beyond what a machine runs.
const NETWORKS: u16 = 1024;

/// Where stacks keep their files, leases and reservations: `SCALEOUT_STATE`, else a folder that survives a reboot of the
/// stack but is nobody's home.
pub fn state_root() -> PathBuf {
    std::env::var_os("SCALEOUT_STATE").map_or_else(|| PathBuf::from("/var/tmp/scaleout"), PathBuf::from)
}

/// The /24 of one stack; free again when dropped, unless reserved.
#[derive(Debug)]
pub struct Lease {
    network: u16,
    root: PathBuf,
    _lock: Flock<File>,
}

impl Lease {
    /// A network for a stack that lives as long as this process.
    pub fn for_test(root: &Path) -> Result<Self> {
        Self::first_free(root, FIRST_TEST_NETWORK..NETWORKS)
    }

    /// A network for a detached stack: the lowest free one, so that its addresses stay the same from run to run.
    pub fn for_detached(root: &Path) -> Result<Self> {
        Self::first_free(root, 1..FIRST_TEST_NETWORK)
    }

    fn first_free(root: &Path, mut networks: std::ops::Range<u16>) -> Result<Self> {
        networks.find_map(|network| Self::take(root, network).transpose()).unwrap_or_else(|| {
            bail!(
                "no free network left under {}; see the locks in {}",
                root.display(),
                folder(root).display()
            )
        })
    }

    /// The given network, or nothing when somebody has it.
    pub(crate) fn take(root: &Path, network: u16) -> Result<Option<Self>> {
        let folder = folder(root);
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let path = folder.join(format!("{network}.lock"));
        let file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| path.display().to_string())?;
        let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else { return Ok(None) };
        let lease = Self { network, root: root.to_owned(), _lock: lock };
        Ok((!lease.reservation().exists()).then_some(lease))
    }

    /// Keeps the network after this process, until [`Lease::release`].
    pub fn reserve(&self, stack: &str) -> Result<()> {
        fs::write(self.reservation(), stack).context("writing the reservation")
    }

    /// Gives a reserved network back.
    pub fn release(root: &Path, network: u16) {
        let _ = fs::remove_file(folder(root).join(format!("{network}.reserved")));
    }

    /// The network's number: 5 is 127.64.5.0/24.
    pub fn network(&self) -> u16 {
        self.network
    }

    fn reservation(&self) -> PathBuf {
        folder(&self.root).join(format!("{}.reserved", self.network))
    }
}

fn folder(root: &Path) -> PathBuf {
    root.join("leases")
}

/// Host `host` of leased network `network`.
pub fn address(network: u16, host: u8) -> Ipv4Addr {
    let [high, low] = network.to_be_bytes();
    Ipv4Addr::new(127, 64 + high, low, host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_stacks_never_share_a_network() {
        let root = tempfile::tempdir().unwrap();
        let (one, two) = (Lease::for_test(root.path()).unwrap(), Lease::for_test(root.path()).unwrap());
        assert_ne!(one.network(), two.network());
    }

    #[test]
    fn a_dropped_lease_is_free_and_a_reserved_one_is_not() {
        let root = tempfile::tempdir().unwrap();
        let first = Lease::for_detached(root.path()).unwrap().network();
        let again = Lease::for_detached(root.path()).unwrap();
        assert_eq!(again.network(), first);
        again.reserve("up").unwrap();
        drop(again);
        assert_ne!(Lease::for_detached(root.path()).unwrap().network(), first);
        Lease::release(root.path(), first);
        assert_eq!(Lease::for_detached(root.path()).unwrap().network(), first);
    }

    #[test]
    fn addresses() {
        assert_eq!(address(1, 2), Ipv4Addr::new(127, 64, 1, 2));
        assert_eq!(address(256 * 3 + 9, 73), Ipv4Addr::new(127, 67, 9, 73));
    }
}
