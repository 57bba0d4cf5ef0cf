//! Who has a port? Asked before anything starts, so that a clash is one sentence with a name and not a crash later.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use crate::process::Identity;

/// One address that cannot be listened on, and who listens there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The address that was wanted.
    pub wanted: SocketAddr,
    /// What for: `lb-1`.
    pub purpose: String,
    /// `pid 123 (nginx)`, or why that is not known.
    pub holder: String,
}

impl std::fmt::Display for Taken {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} (wanted by {}) is taken by {}", self.wanted, self.purpose, self.holder)
    }
}

/// Tries each address over TCP and UDP; returns those that are taken.
pub fn taken(wanted: &[(SocketAddr, String)]) -> Vec<Taken> {
    wanted
        .iter()
        .filter(|(address, _)| TcpListener::bind(address).is_err() || UdpSocket::bind(address).is_err())
        .map(|(address, purpose)| Taken {
            wanted: *address,
            purpose: purpose.clone(),
            holder: holder(*address),
        })
        .collect()
}

/// Names the process that listens on this address, or on all addresses with the same port.
fn holder(address: SocketAddr) -> String {
    let inodes: Vec<u64> = ["tcp", "tcp6", "udp", "udp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(format!("/proc/net/{table}")).ok())
        .flat_map(|text| text.lines().skip(1).filter_map(parse_row).collect::<Vec<_>>())
        .filter(|row| row.local.port() == address.port() && covers(row.local.ip(), address.ip()))
        .map(|row| row.inode)
        .collect();
    for pid in crate::process::pids() {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        let holds = descriptors.flatten().any(|entry| {
            fs::read_link(entry.path()).is_ok_and(|link| {
                inodes.iter().any(|inode| link.to_string_lossy() == format!("socket:[{inode}]"))
            })
        });
        if holds && let Some(process) = Identity::of(pid) {
            return format!("pid {pid} ({})", process.command_name());
        }
    }
    "a process of another user, or of another network namespace".to_owned()
}

fn covers(listening: IpAddr, wanted: IpAddr) -> bool {
    listening == wanted || listening.is_unspecified()
}

struct Row {
    local: SocketAddr,
    inode: u64,
}

/// One line of /proc/net/{tcp,udp}[6] that is listening (TCP state 0A) or bound (UDP state 07).
fn parse_row(line: &str) -> Option<Row> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    if !matches!(*fields.get(3)?, "0A" | "07") {
        return None;
    }
    let (ip, port) = fields[1].split_once(':')?;
    Some(Row {
        local: SocketAddr::new(parse_ip(ip)?, u16::from_str_radix(port, 16).ok()?),
        inode: fields.get(9)?.parse().ok()?,
    })
}

/// Addresses are printed as words in the machine's byte order.
fn parse_ip(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(hex.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    if hex.len() == 8 {
        return Some(Ipv4Addr::from(word(0)?).into());
    }
    let mut bytes = [0; 16];
    for (chunk, at) in bytes.chunks_exact_mut(4).zip([0, 8, 16, 24]) {
        chunk.copy_from_slice(&word(at)?);
    }
    let address = Ipv6Addr::from(bytes);
    Some(address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_taken_port_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let wanted = vec![(listener.local_addr().unwrap(), "lb-1".to_owned())];
        let found = taken(&wanted);
        assert_eq!(found.len(), 1);
        assert!(found[0].holder.contains(&format!("pid {}", std::process::id())), "{}", found[0]);
        drop(listener);
        assert_eq!(taken(&wanted), []);
    }

    #[test]
    fn a_listener_on_all_addresses_covers_each() {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let address = SocketAddr::new("127.64.255.9".parse().unwrap(), listener.local_addr().unwrap().port());
        assert!(taken(&[(address, "dns".to_owned())])[0].holder.contains("pid"));
    }
}
