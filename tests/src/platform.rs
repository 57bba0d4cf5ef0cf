//! Where a stack runs: as plain processes (`native`) or in containers (`docker`). Everything above this trait, tests and
//! drills and the command, is the same for both.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use futures_util::future::BoxFuture;
use serde::Serialize;

use crate::topology::{Tier, Topology};

/// What a drill does to an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL to all of it: the machine lost power.
    Kill,
    /// SIGTERM: asked to stop, and to drain.
    Terminate,
    /// SIGSTOP to all of it: the machine hangs.
    Pause,
    /// SIGCONT: it goes on as if nothing had been.
    Resume,
    /// SIGKILL to the Postgres process of a node only; its Patroni lives.
    KillPostgres,
}

/// How an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It runs.
    Running,
    /// It exists and is stopped by a signal.
    Paused,
    /// It has ended.
    Dead,
}

/// One instance as `stack status` lists it.
#[derive(Debug, Clone, Serialize)]
pub struct Instance {
    /// Unique in the stack: `lb-1`.
    pub name: String,
    /// Its layer.
    pub tier: Tier,
    /// Where its peers reach it.
    pub address: Option<IpAddr>,
    /// How it is.
    pub state: State,
    /// Native: proportional set size. Docker: the cgroup's usage less inactive file cache.
    pub memory_bytes: u64,
    /// Its first process, as the host sees it.
    pub pid: Option<i32>,
}

/// How clients reach the stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// The name server.
    pub dns: SocketAddr,
    /// The port of the site on every address that the name server gives.
    pub site_port: u16,
    /// The balancers, in order.
    pub lbs: Vec<SocketAddr>,
    /// Where they speak TLS.
    pub secure_lbs: Vec<SocketAddr>,
    /// The name server on 127.0.0.1, for people.
    pub published_dns: Option<SocketAddr>,
    /// The balancers on 127.0.0.1, for people.
    pub published_lbs: Vec<SocketAddr>,
    /// Where they speak TLS on 127.0.0.1.
    pub published_secure_lbs: Vec<SocketAddr>,
    /// The balancers' admin listeners with their stats pages, where this host can reach them, for people.
    pub stats: Vec<SocketAddr>,
}

/// A place that runs stacks.
pub trait Platform: fmt::Debug + Send + Sync {
    /// `native` or `docker`.
    fn name(&self) -> &'static str;

    /// How clients reach it.
    fn endpoints(&self) -> Endpoints;

    /// What it is made of.
    fn topology(&self) -> Topology;

    /// One of its passwords, by the name of its file.
    fn password<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<String>>;

    /// The certificate of the authority that signed the site's, as PEM.
    fn authority(&self) -> BoxFuture<'_, Result<String>>;

    /// Every instance, dead ones too.
    fn instances(&self) -> BoxFuture<'_, Result<Vec<Instance>>>;

    /// Does something to an instance.
    fn fault<'a>(&'a self, instance: &'a str, fault: Fault) -> BoxFuture<'a, Result<()>>;

    /// Starts an instance that is dead, as it was; does not wait for it to be useful.
    fn restart<'a>(&'a self, instance: &'a str) -> BoxFuture<'a, Result<()>>;

    /// Replaces a running balancer or app by a new one and loses no request: natively a balancer hands its sockets over to
    /// its successor; apps, and everything in containers, drain and are started again. Returns when the old one is gone.
    fn replace<'a>(&'a self, instance: &'a str) -> BoxFuture<'a, Result<()>>;

    /// Changes the number of apps; the balancers find out by themselves. Removed ones are drained.
    fn scale_apps(&self, apps: u8) -> BoxFuture<'_, Result<()>>;

    /// Restarts the apps and the balancers with other settings (sessions, stickiness, how many), at once and without a
    /// drain: for drills that compare settings on one database.
    fn reconfigure(&self, topology: Topology) -> BoxFuture<'_, Result<()>>;

    /// The end of an instance's log.
    fn log_tail<'a>(&'a self, instance: &'a str) -> BoxFuture<'a, String>;

    /// Ends everything and leaves nothing. Without awaiting, because it is also what `Drop` does.
    fn tear_down(&self) -> Result<()>;
}
