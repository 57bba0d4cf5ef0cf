//! Which three /24s a project has: the shipped ones, those that the variables say, or a test's own.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};

/// The three networks, as the variables call them, and what docker-compose.yml says when they are not set.
pub(super) const NETWORKS: [(&str, [u8; 3]); 3] = [
    ("SCALEOUT_EDGE_PREFIX", [198, 18, 10]),
    ("SCALEOUT_APP_PREFIX", [198, 18, 11]),
    ("SCALEOUT_DATA_PREFIX", [198, 18, 12]),
];

/// Three /24s of 198.18.0.0/15 for a leased number; the first leases are not for tests, so these are not the shipped ones.
pub(super) fn test_networks(lease: u16) -> Result<[[u8; 3]; 3]> {
    let network = |n: u16| -> Result<[u8; 3]> {
        let [high, low] = (3 * lease + n).to_be_bytes();
        anyhow::ensure!(high < 2, "no networks left in 198.18.0.0/15 for lease {lease}");
        Ok([198, 18 + high, low])
    };
    Ok([network(0)?, network(1)?, network(2)?])
}

/// What the variables say, or what docker-compose.yml says without them.
pub(super) fn configured_networks() -> Result<[[u8; 3]; 3]> {
    let mut networks = NETWORKS.map(|(_, shipped)| shipped);
    for ((variable, _), network) in NETWORKS.iter().zip(&mut networks) {
        if let Ok(text) = std::env::var(variable) {
            let address: Ipv4Addr = format!("{text}.0")
                .parse()
                .with_context(|| format!("{variable}={text}: write for example 198.18.10"))?;
            let [a, b, c, _] = address.octets();
            *network = [a, b, c];
        }
    }
    Ok(networks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_networks_never_meet_the_shipped_ones() {
        assert_eq!(test_networks(16).unwrap(), [[198, 18, 48], [198, 18, 49], [198, 18, 50]]);
        assert_eq!(test_networks(100).unwrap()[0], [198, 19, 44]);
        assert!(test_networks(171).is_err());
    }
}
