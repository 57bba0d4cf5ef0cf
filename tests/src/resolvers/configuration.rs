//! What servers of others are told, as text: resolvers in front of our name server, and secondaries of it.

use std::fmt::Write as _;
use std::net::SocketAddr;

/// Where each of them finds what it is told.
const CONFIGURATION: &str = "/srv/stack/configuration";

/// A resolver that remembers answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Resolver {
    Unbound,
    Bind,
    Dnsmasq,
}

/// Whether a resolver remembers anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caching {
    On,
    Off,
}

/// A zone and the name servers that have it.
pub(crate) type Served<'a> = (&'a str, Vec<SocketAddr>);

impl Resolver {
    pub(crate) const ALL: [Self; 3] = [Self::Unbound, Self::Bind, Self::Dnsmasq];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unbound => "unbound",
            Self::Bind => "BIND",
            Self::Dnsmasq => "dnsmasq",
        }
    }

    pub(super) fn command(self) -> &'static [&'static str] {
        match self {
            Self::Unbound => &["/usr/sbin/unbound", "-d", "-p", "-c", CONFIGURATION],
            Self::Bind => &["/usr/sbin/named", "-g", "-n", "1", "-c", CONFIGURATION],
            // Its option's value is optional and has to be joined to it.
            Self::Dnsmasq => {
                &["/usr/sbin/dnsmasq", "--keep-in-foreground", "--conf-file=/srv/stack/configuration"]
            }
        }
    }

    pub(super) fn configuration(self, at: SocketAddr, zones: &[Served<'_>], caching: Caching) -> String {
        match self {
            Self::Unbound => unbound(at, zones, caching),
            Self::Bind => bind(at, zones, caching),
            Self::Dnsmasq => dnsmasq(at, zones, caching),
        }
    }
}

/// A root that is nowhere, so that no question leaves the machine.
pub(super) const HINTS: &str = ". 3600 NS nowhere.\nnowhere. 3600 A 127.0.0.1\n";

fn unbound(at: SocketAddr, zones: &[Served<'_>], caching: Caching) -> String {
    let mut text = format!(
        "server:\n interface: {}@{}\n chroot: \"\"\n username: \"\"\n directory: \"/srv/stack\"\n use-syslog: no\n \
         access-control: 127.0.0.0/8 allow\n do-not-query-localhost: no\n module-config: \"iterator\"\n \
         root-hints: \"/srv/stack/hints\"\n use-caps-for-id: yes\n qname-minimisation: yes\n\
         remote-control:\n control-enable: no\n",
        at.ip(),
        at.port()
    );
    for (zone, servers) in zones {
        // The zone's own NS records say port 53: a stub that is not primed stays with these.
        text += &format!("stub-zone:\n name: \"{zone}\"\n stub-prime: no\n");
        if caching == Caching::Off {
            text += " stub-no-cache: yes\n";
        }
        for server in servers {
            writeln!(text, " stub-addr: {}@{}", server.ip(), server.port()).expect("writing to a string");
        }
    }
    text
}

fn bind(at: SocketAddr, zones: &[Served<'_>], caching: Caching) -> String {
    let caching =
        if caching == Caching::Off { "max-cache-ttl 0; max-ncache-ttl 0; servfail-ttl 0;" } else { "" };
    let mut text = format!(
        "options {{ directory \"/srv/stack\"; pid-file none; session-keyfile none; recursion yes; allow-recursion {{ 127.0.0.0/8; }};\n\
         listen-on port {} {{ {}; }}; listen-on-v6 {{ none; }}; dnssec-validation no; empty-zones-enable no; {caching} }};\n\
         controls {{ }};\nzone \".\" {{ type hint; file \"hints\"; }};\n",
        at.port(),
        at.ip()
    );
    for (zone, servers) in zones {
        let list: String =
            servers.iter().map(|server| format!("{} port {}; ", server.ip(), server.port())).collect();
        writeln!(text, "zone \"{zone}\" {{ type forward; forward only; forwarders {{ {list}}}; }};")
            .expect("writing to a string");
    }
    text
}

fn dnsmasq(at: SocketAddr, zones: &[Served<'_>], caching: Caching) -> String {
    let size = if caching == Caching::Off { 0 } else { 1000 };
    let mut text = format!(
        "port={}\nlisten-address={}\nbind-interfaces\nno-resolv\nno-hosts\npid-file=\nlog-facility=-\ncache-size={size}\n",
        at.port(),
        at.ip()
    );
    // Else it stays with the server that answered first, and learns of its death only from clients that ask again from the same
    // port, which not all do.
    if zones.iter().any(|(_, servers)| servers.len() > 1) {
        text += "all-servers\n";
    }
    for (zone, servers) in zones {
        for server in servers {
            writeln!(text, "server=/{zone}/{}#{}", server.ip(), server.port()).expect("writing to a string");
        }
    }
    text
}

/// A server of others that copies a zone of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Secondary {
    Bind,
    Nsd,
    Knot,
}

/// What the primary and its secondaries call the secret that they share.
pub(crate) const KEY: &str = "moves";

impl Secondary {
    pub(crate) const ALL: [Self; 3] = [Self::Bind, Self::Nsd, Self::Knot];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bind => "BIND",
            Self::Nsd => "NSD",
            Self::Knot => "Knot",
        }
    }

    pub(super) fn command(self) -> &'static [&'static str] {
        match self {
            Self::Bind => &["/usr/sbin/named", "-g", "-n", "1", "-c", CONFIGURATION],
            Self::Nsd => &["/usr/sbin/nsd", "-d", "-c", CONFIGURATION],
            Self::Knot => &["/usr/sbin/knotd", "-c", CONFIGURATION],
        }
    }

    /// It takes the zone, and news of it, only with the key's signature.
    pub(super) fn configuration(
        self,
        at: SocketAddr,
        zone: &str,
        primary: SocketAddr,
        secret: &str,
    ) -> String {
        let (ip, port, from, of) = (at.ip(), at.port(), primary.ip(), primary.port());
        match self {
            Self::Bind => format!(
                "options {{ directory \"/srv/stack\"; pid-file none; session-keyfile none; recursion no;\n\
                 listen-on port {port} {{ {ip}; }}; listen-on-v6 {{ none; }}; dnssec-validation no; notify no;\n\
                 empty-zones-enable no; minimal-responses yes; }};\ncontrols {{ }};\n\
                 key \"{KEY}\" {{ algorithm hmac-sha256; secret \"{secret}\"; }};\n\
                 zone \"{zone}\" {{ type secondary; file \"copy\"; primaries {{ {from} port {of} key {KEY}; }}; }};\n"
            ),
            Self::Nsd => format!(
                "server:\n ip-address: {ip}@{port}\n zonesdir: \"/srv/stack\"\n username: \"\"\n pidfile: \"\"\n \
                 xfrdir: \"/srv/stack\"\n zonelistfile: \"/srv/stack/list\"\n xfrdfile: \"/srv/stack/xfrd\"\n \
                 minimal-responses: yes\n rrl-ratelimit: 0\nremote-control:\n control-enable: no\n\
                 key:\n name: \"{KEY}\"\n algorithm: hmac-sha256\n secret: \"{secret}\"\n\
                 zone:\n name: \"{zone}\"\n zonefile: \"copy\"\n allow-notify: {from} {KEY}\n request-xfr: {from}@{of} {KEY}\n"
            ),
            Self::Knot => format!(
                "server:\n rundir: \"/srv/stack\"\n listen: {ip}@{port}\n udp-workers: 1\n tcp-workers: 1\n \
                 background-workers: 1\ndatabase:\n storage: \"/srv/stack/db\"\nlog:\n - target: stdout\n   any: info\n\
                 key:\n - id: {KEY}\n   algorithm: hmac-sha256\n   secret: {secret}\n\
                 remote:\n - id: primary\n   address: {from}@{of}\n   key: {KEY}\n\
                 acl:\n - id: news\n   address: {from}\n   key: {KEY}\n   action: notify\n\
                 zone:\n - domain: \"{zone}\"\n   storage: \"/srv/stack\"\n   file: \"copy\"\n   master: primary\n   acl: news\n"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(resolver: Resolver, caching: Caching, parts: &[&str]) {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let zones = [("z.example", vec![at("127.64.1.2:1053"), at("127.64.1.3:1053")])];
        let text = resolver.configuration(at("127.64.1.31:1053"), &zones, caching);
        for part in parts {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn every_server_of_a_zone_is_named() {
        check(Resolver::Unbound, Caching::On, &["stub-addr: 127.64.1.2@1053\n stub-addr: 127.64.1.3@1053\n"]);
        check(Resolver::Bind, Caching::On, &["forwarders { 127.64.1.2 port 1053; 127.64.1.3 port 1053; }"]);
        check(
            Resolver::Dnsmasq,
            Caching::On,
            &["all-servers\n", "/z.example/127.64.1.2#1053\nserver=/z.example/127.64.1.3#1053"],
        );
    }

    #[test]
    fn caching_can_be_switched_off() {
        check(Resolver::Unbound, Caching::Off, &["stub-no-cache: yes"]);
        check(Resolver::Bind, Caching::Off, &["max-cache-ttl 0;"]);
        check(Resolver::Dnsmasq, Caching::Off, &["cache-size=0\n"]);
    }
}
