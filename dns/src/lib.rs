//! An authoritative DNS server that gives round robin its due.
//!
//! A packet goes down and its answer comes back: [`udp`] (by way of [`batch`]) and [`tcp`] own the sockets, the latter also
//! those below [`tls`] and [`https`]. [`fast`] answers what is common over UDP from octets laid out at load, [`answer`] turns
//! any octets into octets, [`resolve`] picks the sets, [`zone`] finds them, [`wire`] reads and writes. [`query_log`] has a line
//! for each query where that is wanted. Zones come in from the side: [`directory`] reads master files with [`master`], and
//! [`reload`] publishes a new snapshot that workers take up with their next packet. Names may be steered by health, weights
//! and networks: [`roster`] owns what is known of that, [`probe`] looks, [`steering`] decides, [`admin`] explains and takes
//! orders. Everything from [`answer`] down is pure but for the cursors of cyclic sets.

pub mod batch;
pub mod bind;
pub mod clients;
pub mod config;
pub mod https;
pub mod notify;
pub mod query_log;
pub mod server;
pub mod tcp;
pub mod tls;
pub mod udp;

pub mod admin;
pub mod probe;
pub mod roster;

pub mod answer;
pub mod cookie;
pub mod exchange;
pub mod extras;
pub mod fast;
pub mod limiter;
pub mod replay;
pub mod resolve;
pub mod steering;
pub mod transfer;
pub mod tsig;
pub mod wire;
pub mod zone;

pub mod check_zone;
pub mod directory;
pub mod master;
pub mod metrics;
pub mod reload;
pub mod watch;

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;

pub use server::start;
