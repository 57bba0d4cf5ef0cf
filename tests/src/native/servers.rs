//! The servers of a native stack, each with a folder and a configuration of its own.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown};
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::home::Home;
use crate::layout;
use crate::process::Spec;
use crate::secrets;
use crate::servers_root::ServersRoot;
use crate::topology::{DATABASES, Network};

/// What starts them.
#[derive(Debug)]
pub(super) struct Servers {
    root: ServersRoot,
}

impl Servers {
    pub(super) fn find() -> Result<Self> {
        Ok(Self { root: ServersRoot::find()? })
    }

    /// The group that may read the secrets: the only server that runs as somebody else and needs them is Postgres.
    pub(super) fn secrets_group(&self) -> Result<u32> {
        Ok(self.root.user("postgres")?.1)
    }

    /// The session store keeps every write to the second; the cache keeps nothing and forgets the least used.
    pub(super) fn redis(&self, home: &Home, network: Network) -> Result<Vec<Spec>> {
        let session = "appendonly yes\nappendfsync everysec\nmaxmemory 64mb\nmaxmemory-policy noeviction\n";
        let cache = "appendonly no\nmaxmemory 64mb\nmaxmemory-policy allkeys-lru\n";
        let instances = [
            ("redis-session", network.redis_session(), session),
            ("redis-cache", network.redis_cache(), cache),
        ];
        instances
            .into_iter()
            .map(|(name, address, keeping)| {
                let password = secrets::password(&home.secrets(), name)?;
                // In a file, because a password in a command line is everybody's.
                let text = format!(
                    "bind {}\nport {}\nprotected-mode no\nrequirepass {password}\ndir /srv/stack\nsave \"\"\n{keeping}",
                    address.ip(),
                    address.port()
                );
                let folder = self.folder(home, name, "redis")?;
                let file = folder.join("redis.conf");
                fs::write(&file, text)?;
                fs::set_permissions(&file, fs::Permissions::from_mode(0o400))?;
                let (user, group) = self.root.user("redis")?;
                chown(&file, Some(user), Some(group))?;
                self.contained(home, name, "redis", &["redis-server", "/srv/stack/redis.conf"], BTreeMap::new())
            })
            .collect()
    }

    pub(super) fn etcd(&self, home: &Home, network: Network) -> Result<Spec> {
        let (client, peer) =
            (format!("http://{}", network.etcd()), format!("http://{}", network.etcd_peer()));
        let cluster = format!("etcd={peer}");
        let arguments = [
            "etcd",
            "--name=etcd",
            "--data-dir=/srv/stack/data",
            &format!("--listen-client-urls={client}"),
            &format!("--advertise-client-urls={client}"),
            &format!("--listen-peer-urls={peer}"),
            &format!("--initial-advertise-peer-urls={peer}"),
            &format!("--initial-cluster={cluster}"),
            "--auto-compaction-mode=revision",
            "--auto-compaction-retention=1000",
            "--quota-backend-bytes=67108864",
            "--log-level=warn",
        ];
        self.folder(home, "etcd", "etcd")?;
        self.contained(home, "etcd", "etcd", &arguments, BTreeMap::new())
    }

    /// Three nodes; whichever reaches etcd first makes the cluster, the others copy it.
    pub(super) fn postgres(&self, home: &Home, network: Network) -> Result<Vec<Spec>> {
        (1..=DATABASES)
            .map(|n| {
                let name = format!("pg-{n}");
                let environment = BTreeMap::from([
                    ("PG_NAME".to_owned(), name.clone()),
                    ("PG_ADDRESS".to_owned(), network.database(n).ip().to_string()),
                    ("PG_ETCD".to_owned(), network.etcd().to_string()),
                ]);
                self.folder(home, &name, "postgres")?;
                self.contained(home, &name, "postgres", &["/srv/stack/config/run-patroni"], environment)
            })
            .collect()
    }

    /// The instance's folder, seen by it as /srv/stack.
    fn folder(&self, home: &Home, name: &str, user: &str) -> Result<PathBuf> {
        let folder = home.folder(name);
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let (user, group) = self.root.user(user)?;
        for part in ["config", "secrets"] {
            DirBuilder::new().recursive(true).mode(0o700).create(folder.join(part))?;
        }
        chown(&folder, Some(user), Some(group)).with_context(|| folder.display().to_string())?;
        Ok(folder)
    }

    fn contained(
        &self,
        home: &Home,
        name: &str,
        user: &str,
        command: &[&str],
        environment: BTreeMap<String, String>,
    ) -> Result<Spec> {
        let config = layout::repository().join("deploy/postgres");
        let secrets = home.secrets();
        let mounts = [(config.as_path(), "config"), (secrets.as_path(), "secrets")];
        let argv = self.root.contained(user, &home.folder(name), &mounts, command);
        Ok(home.spec(name, argv, environment).contained())
    }
}
