//! One of our programs alone, with a configuration of the drill's own: what needs no stack around it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::layout;
use crate::namespaces::Host;
use crate::process::{self, Lifetime, Process, Spec};
use crate::topology::SITE;

const END_DEADLINE: Duration = Duration::from_secs(10);

/// A running program; ends when dropped.
#[derive(Debug)]
pub(super) struct Alone {
    process: Process,
    _folder: TempDir,
}

impl Drop for Alone {
    fn drop(&mut self) {
        let left = process::kill_all(std::slice::from_ref(&self.process), END_DEADLINE);
        if !left.is_empty() {
            eprintln!("still running: {}", left.join(" "));
        }
    }
}

impl Alone {
    /// Our name server on a host's network or on ours, with the site's zone, which consists of `records`. `config` is what
    /// its file says beside addresses and folders.
    pub(super) async fn dns(
        network: Option<&Host>,
        listen: SocketAddr,
        records: &str,
        config: &str,
    ) -> Result<Self> {
        let folder = folder()?;
        let zones = folder.path().join("zones");
        fs::create_dir(&zones)?;
        fs::write(zones.join(format!("{SITE}.zone")), zone(listen.ip(), records))?;
        let file = format!(
            "server.listen = [\"{listen}\"]\nzones.directory = \"{}\"\nadmin.listen = \"{}\"\n{config}",
            zones.display(),
            SocketAddr::new(listen.ip(), 0)
        );
        Self::start("dns", folder, network, &file).await
    }

    /// Our balancer on our network, with these backends, which are asked for `/`.
    pub(super) async fn lb(listen: SocketAddr, backends: &[SocketAddr], config: &str) -> Result<Self> {
        let mut list = String::new();
        for backend in backends {
            write!(list, "\"{backend}\", ")?;
        }
        let file = format!(
            "server.listen = \"{listen}\"\nadmin.listen = \"{}\"\ndiscovery.static = [{list}]\nhealth.path = \"/\"\n{config}",
            SocketAddr::new(listen.ip(), 0)
        );
        Self::start("lb", folder()?, None, &file).await
    }

    async fn start(program: &str, folder: TempDir, network: Option<&Host>, config: &str) -> Result<Self> {
        let (file, ready) = (folder.path().join("config.toml"), folder.path().join("ready"));
        fs::write(&file, config).with_context(|| file.display().to_string())?;
        let path = |path: &std::path::Path| path.display().to_string();
        let program_file = path(&layout::program(program)?);
        let argv = vec![program_file, "--config".into(), path(&file), "--ready-file".into(), path(&ready)];
        let process = Process::spawn(Spec {
            name: program.to_owned(),
            argv: network.map_or(argv.clone(), |host| host.on_its_network(argv)),
            environment: BTreeMap::from([("NO_COLOR".to_owned(), "1".to_owned())]),
            log: folder.path().join("log"),
            ready_file: Some(ready),
            contained: false,
            lifetime: Lifetime::WithParent,
        })?;
        let alone = Self { process, _folder: folder };
        alone.process.ready().await?;
        Ok(alone)
    }
}

fn folder() -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("drill-").tempdir()?)
}

fn zone(server: IpAddr, records: &str) -> String {
    let kind = if server.is_ipv4() { "A" } else { "AAAA" };
    format!(
        "$ORIGIN {SITE}.\n$TTL 5\n@ IN SOA ns hostmaster 1 60 60 86400 5\n@ IN NS ns\nns IN {kind} {server}\n{records}"
    )
}
