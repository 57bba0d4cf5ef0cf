//! Looks at one node again and again, on a connection of its own: a full pool must not blind the proxy.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::debug;

use super::NodeId;
use super::roles::{Failure, Observation};
use crate::backend::connection::{ConnectError, Connection, Login};

/// Timeline: a primary's from the name of the log file it writes (its control file keeps the old one until the first
/// checkpoint after a promotion), a replica's from what it receives, else from its last restart point.
const QUESTION: &str = "SELECT pg_catalog.pg_is_in_recovery(), \
    CASE WHEN pg_catalog.pg_is_in_recovery() \
    THEN coalesce((SELECT received_tli FROM pg_catalog.pg_stat_wal_receiver), \
                  (SELECT timeline_id FROM pg_catalog.pg_control_checkpoint())) \
    ELSE ('x' || substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8))::bit(32)::int END, \
    CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() \
    ELSE pg_catalog.pg_current_wal_insert_lsn() END - '0/0'::pg_catalog.pg_lsn, \
    (SELECT system_identifier FROM pg_catalog.pg_control_system())";

/// One node to look at.
#[derive(Debug)]
pub struct Probe {
    /// Which.
    pub node: NodeId,
    /// `host:port`
    pub address: String,
    /// The probe user.
    pub login: Login,
    /// Between two looks.
    pub interval: Duration,
    /// For one look.
    pub limit: Duration,
}

/// What a look found.
pub type Outcome = (NodeId, Result<Observation, Failure>);

impl Probe {
    /// Looks until nobody listens to the outcomes.
    pub async fn run(self, outcomes: mpsc::Sender<Outcome>) {
        let mut connection = None;
        let mut ticks = interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let look = timeout(self.limit, self.look(&mut connection)).await;
            let outcome = match look.unwrap_or(Err(ConnectError::Timeout(self.limit))) {
                Ok(observation) => Ok(observation),
                Err(error) => {
                    // A half-read answer must not be taken for the next one.
                    connection = None;
                    debug!(node = %self.address, %error, "probe failed");
                    Err(failure(&error))
                }
            };
            if outcomes.send((self.node, outcome)).await.is_err() {
                return;
            }
        }
    }

    async fn look(&self, kept: &mut Option<Connection>) -> Result<Observation, ConnectError> {
        let connection = match kept {
            Some(connection) => connection,
            None => kept.insert(Connection::open(&self.address, &self.login, self.limit).await?),
        };
        let rows = connection.ask(QUESTION).await?;
        read(&rows).ok_or(ConnectError::Protocol("a probe's answer that makes no sense"))
    }
}

fn read(rows: &[Vec<Option<String>>]) -> Option<Observation> {
    let [row] = rows else { return None };
    let [Some(in_recovery), Some(timeline), position, Some(system)] = row.as_slice() else { return None };
    Some(Observation {
        in_recovery: in_recovery == "t",
        timeline: timeline.parse().ok()?,
        // Null: a replica that has replayed nothing yet.
        position: position.as_deref().map_or(Some(0), |text| text.parse().ok())?,
        system: system.parse::<i64>().ok()?.cast_unsigned(),
    })
}

fn failure(error: &ConnectError) -> Failure {
    match error {
        ConnectError::Unreachable(_) | ConnectError::Broken(_) => Failure::Refused,
        // Shutting down or dead; a full node (53300) is alive.
        ConnectError::Refused(error) if error.code.starts_with("57P") => Failure::Refused,
        _ => Failure::Silent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(row: [Option<&str>; 4], expected: Option<(bool, u32, u64)>) {
        let row = row.map(|value| value.map(str::to_owned)).to_vec();
        let got = read(&[row]).map(|seen| (seen.in_recovery, seen.timeline, seen.position));
        assert_eq!(got, expected);
    }

    #[test]
    fn answers() {
        check([Some("f"), Some("2"), Some("4096"), Some("-1")], Some((false, 2, 4096)));
        check([Some("t"), Some("1"), None, Some("7")], Some((true, 1, 0)));
        check([Some("t"), None, None, Some("7")], None);
        check([Some("t"), Some("x"), None, Some("7")], None);
    }
}
