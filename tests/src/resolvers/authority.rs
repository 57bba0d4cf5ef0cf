//! Our name server on a bench: one zone, health checks by TCP that look often, nothing else.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;

use super::{Bench, END_DEADLINE};
use crate::http_client::HttpClient;
use crate::layout;
use crate::process::Process;
use crate::stack::sum_samples;

/// A name that every zone has, so that a start can be waited for without asking what a drill is about.
pub(super) const READY: &str = "ready";
/// Where targets listen, and are looked at.
pub(crate) const TARGET_PORT: u16 = 8080;
const ADMIN_PORT: u16 = 9001;

/// What a zone says.
#[derive(Debug, Clone)]
pub(crate) struct Zone {
    /// Without its final dot.
    pub(crate) origin: &'static str,
    pub(crate) serial: u32,
    /// How long a resolver may remember that there is nothing.
    pub(crate) negative_ttl_s: u32,
    /// Everything but SOA, NS and the server's address.
    pub(crate) records: String,
}

impl Zone {
    /// `NAME TTL A ADDRESS` for each address.
    pub(crate) fn set(name: &str, ttl_s: u32, addresses: &[Ipv4Addr]) -> String {
        addresses.iter().fold(String::new(), |mut text, address| {
            writeln!(text, "{name} {ttl_s} A {address}").expect("writing to a string");
            text
        })
    }

    /// The refresh time is a day: a secondary that has a new serial earlier was told.
    fn text(&self, server: IpAddr) -> String {
        let Self { origin, serial, negative_ttl_s, records } = self;
        format!(
            "$ORIGIN {origin}.\n$TTL 60\n@ SOA ns hostmaster {serial} 86400 86400 864000 {negative_ttl_s}\n@ NS ns\n\
             ns A {server}\n{READY} TXT \"yes\"\n{records}"
        )
    }
}

/// One that was started.
#[derive(Debug)]
pub(crate) struct Authority<'a> {
    bench: &'a Bench,
    folder: PathBuf,
    process: Process,
    pub(crate) address: SocketAddr,
}

impl Bench {
    /// Starts one at this host; `variables` are keys without the program, as in `POOLS__WWW__ALL_DOWN`.
    pub(crate) async fn authority(
        &self,
        host: u8,
        zone: &Zone,
        variables: &[(&str, String)],
    ) -> Result<Authority<'_>> {
        let address = self.server(host);
        let name = format!("dns-{host}");
        let folder = self.folder(&name)?;
        write_zone(&folder, zone, address)?;
        let ready = folder.join("ready");
        let base = [
            ("SERVER__LISTEN", serde_json::json!([address.to_string()]).to_string()),
            ("ADMIN__LISTEN", SocketAddr::new(address.ip(), ADMIN_PORT).to_string()),
            ("ZONES__DIRECTORY", folder.display().to_string()),
            ("HEALTH__MODE", "tcp".to_owned()),
            ("HEALTH__PORT", TARGET_PORT.to_string()),
            ("HEALTH__INTERVAL_MS", "200".to_owned()),
            ("HEALTH__START_INTERVAL_MS", "100".to_owned()),
            // What is dead here refuses at once; who is only slow, on a busy machine, is not dead.
            ("HEALTH__TIMEOUT_MS", "5000".to_owned()),
        ];
        let all = base.iter().chain(variables);
        let mut environment: std::collections::BTreeMap<String, String> =
            all.map(|(key, value)| (format!("DNS_{key}"), value.clone())).collect();
        environment.insert("NO_COLOR".to_owned(), "1".to_owned());
        let argv = [
            layout::program("dns")?.display().to_string(),
            "--ready-file".into(),
            ready.display().to_string(),
        ];
        let mut spec = self.spec(&name, argv.into(), environment);
        spec.ready_file = Some(ready);
        let process = self.spawn(spec)?;
        process.ready().await?;
        Ok(Authority { bench: self, folder, process, address })
    }
}

fn write_zone(folder: &std::path::Path, zone: &Zone, server: SocketAddr) -> Result<()> {
    let part = folder.join(".zone");
    fs::write(&part, zone.text(server.ip()))?;
    fs::rename(part, folder.join(format!("{}.zone", zone.origin))).context("moving a zone into its place")
}

impl Authority<'_> {
    /// Writes another zone; a running server reads it only when told to, or started anew.
    pub(crate) fn write(&self, zone: &Zone) -> Result<()> {
        write_zone(&self.folder, zone, self.address)
    }

    pub(crate) async fn kill(&self) -> Result<()> {
        self.process.signal(Signal::SIGKILL)?;
        self.process.gone(END_DEADLINE).await
    }

    /// Starts it again after a kill.
    pub(crate) async fn restart(&mut self) -> Result<()> {
        self.process = self.bench.spawn(self.process.spec.clone())?;
        self.process.ready().await.map(drop)
    }

    /// How many answers it has given, over UDP and TCP.
    pub(crate) async fn answers(&self) -> Result<u64> {
        let admin = SocketAddr::new(self.address.ip(), ADMIN_PORT);
        let text = HttpClient::new(admin).get("/metrics").await?.text();
        Ok(sum_samples(&text, "dns_answers_total", "") as u64)
    }
}
