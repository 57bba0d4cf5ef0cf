//! Decides who is primary from what the probes saw. No sockets, no clock.
//!
//! ```text
//!   writer of the highest timeline ever seen ──────────────► Primary
//!   writer of a lower one, or a second of the same one ────► Fenced
//!   in recovery, on the primary's timeline, near enough ───► Replica      (any, while there is no primary)
//!   in recovery, otherwise ────────────────────────────────► Lagging
//!   several failed probes of the primary, one of another ──► Down
//! ```
//!
//! Giving up a primary is dear (its clients are cut and writes wait), giving up a replica is cheap (reads go elsewhere),
//! and every read that still goes to a dead one waits for a connection that never comes.
//!
//! Log positions of different timelines are never compared, and a timeline once seen is never forgotten: an old primary
//! that comes back after its successor has died stays fenced, because what it would accept is on a dead branch.

use super::{NodeId, NodeView, Role, Snapshot};

/// What one probe saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// `pg_is_in_recovery()`
    pub in_recovery: bool,
    /// Of the log that it writes or receives; of its last restart point when it receives nothing.
    pub timeline: u32,
    /// End of its log: inserted on a primary, replayed on a replica.
    pub position: u64,
    /// `system_identifier`
    pub system: u64,
}

/// How a probe failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Refused or closed: nobody is there.
    Refused,
    /// No answer in time, or a strange one.
    Silent,
}

/// One change worth a log line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The node.
    pub node: NodeId,
    /// Before.
    pub from: Role,
    /// Now.
    pub to: Role,
    /// Why.
    pub reason: String,
}

#[derive(Debug, Clone, Default)]
struct Seen {
    observation: Option<Observation>,
    failures: u32,
}

/// The state of the decision.
#[derive(Debug)]
pub struct Roles {
    seen: Vec<Seen>,
    snapshot: Snapshot,
    highest_timeline: u32,
    system: Option<u64>,
    lost_after_failures: u32,
    lag_bytes_max: u64,
}

impl Roles {
    /// Knows nothing yet.
    pub fn new(nodes: usize, lost_after_failures: u32, lag_bytes_max: u64) -> Self {
        Self {
            seen: vec![Seen::default(); nodes],
            snapshot: Snapshot::empty(nodes),
            highest_timeline: 0,
            system: None,
            lost_after_failures,
            lag_bytes_max,
        }
    }

    /// The decision as it stands.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Takes one probe's outcome; returns what changed, most often nothing.
    pub fn observe(&mut self, node: NodeId, outcome: Result<Observation, Failure>) -> Vec<Change> {
        let patience = if self.snapshot.primary() == Some(node) { self.lost_after_failures } else { 1 };
        let seen = &mut self.seen[node.0];
        match outcome {
            Ok(observation) => *seen = Seen { observation: Some(observation), failures: 0 },
            Err(failure) => {
                seen.failures += if failure == Failure::Refused { 2 } else { 1 };
                if seen.failures >= patience {
                    seen.observation = None;
                }
            }
        }
        self.decide()
    }

    fn decide(&mut self) -> Vec<Change> {
        let primary = self.elect();
        let mut changes = Vec::new();
        for at in 0..self.seen.len() {
            let (role, reason) = self.role_of(NodeId(at), primary);
            let view = self.snapshot.nodes[at];
            if role != view.role {
                changes.push(Change { node: NodeId(at), from: view.role, to: role, reason });
                self.snapshot.nodes[at] =
                    NodeView { role, generation: view.generation + u64::from(severs(view.role, role)) };
            }
        }
        self.snapshot.epoch += u64::from(!changes.is_empty());
        changes
    }

    /// The primary: a writer of the highest timeline; of two, the one that was primary before, else none.
    fn elect(&mut self) -> Option<NodeId> {
        let writers: Vec<(NodeId, Observation)> = (0..self.seen.len())
            .filter_map(|at| Some((NodeId(at), self.seen[at].observation?)))
            .filter(|(_, seen)| !seen.in_recovery && self.system.is_none_or(|system| system == seen.system))
            .collect();
        let highest = writers.iter().map(|(_, seen)| seen.timeline).max()?;
        if highest < self.highest_timeline {
            return None;
        }
        let mut best = writers.iter().filter(|(_, seen)| seen.timeline == highest);
        let before = self.snapshot.primary();
        let chosen = match (best.clone().find(|(node, _)| Some(*node) == before), best.next(), best.next()) {
            (Some(same), ..) => same,
            (None, Some(only), None) => only,
            _ => return None,
        };
        self.highest_timeline = highest;
        self.system.get_or_insert(chosen.1.system);
        Some(chosen.0)
    }

    fn role_of(&self, node: NodeId, primary: Option<NodeId>) -> (Role, String) {
        let Some(seen) = self.seen[node.0].observation else {
            return (Role::Down, format!("{} failed probes", self.seen[node.0].failures));
        };
        if primary == Some(node) {
            return (Role::Primary, format!("writes on timeline {}", seen.timeline));
        }
        if self.system.is_some_and(|system| system != seen.system) {
            return (Role::Fenced, "it belongs to another cluster (system identifier)".to_owned());
        }
        if !seen.in_recovery {
            let highest = self.highest_timeline;
            return (
                Role::Fenced,
                format!("it writes on timeline {}, the cluster is on {highest}", seen.timeline),
            );
        }
        let Some(leader) = primary.and_then(|primary| self.seen[primary.0].observation) else {
            return (Role::Replica, "in recovery, and there is no primary to compare with".to_owned());
        };
        if seen.timeline != leader.timeline {
            let reason =
                format!("it follows timeline {}, the primary is on {}", seen.timeline, leader.timeline);
            return (Role::Lagging, reason);
        }
        match leader.position.saturating_sub(seen.position) {
            lag if lag > self.lag_bytes_max => (Role::Lagging, format!("it is {lag} bytes behind")),
            _ => (Role::Replica, "in recovery, near the primary".to_owned()),
        }
    }
}

/// Whether connections opened under the old role must not be used any more. A promoted replica's may: they can write now.
fn severs(from: Role, to: Role) -> bool {
    matches!(from, Role::Primary) || matches!(to, Role::Down | Role::Fenced)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each step is one probe: node letter, then `w`/`r` (writer, replica), timeline, optionally `@` position; or `x` (refused)
    /// or `?` (silent). After each step the roles: `P`rimary, `R`eplica, `L`agging, `F`enced, `.` down.
    #[track_caller]
    fn check(steps: &str) {
        let mut roles = Roles::new(3, 3, 100);
        for step in steps.split_whitespace() {
            let (probe, expected) = step.split_once('=').unwrap();
            let node = NodeId((probe.as_bytes()[0] - b'a') as usize);
            let outcome = match probe.as_bytes()[1] {
                b'x' => Err(Failure::Refused),
                b'?' => Err(Failure::Silent),
                kind => {
                    let (timeline, position) = probe[2..].split_once('@').unwrap_or((&probe[2..], "1000"));
                    Ok(Observation {
                        in_recovery: kind == b'r',
                        timeline: timeline.parse().unwrap(),
                        position: position.parse().unwrap(),
                        system: if kind == b'o' { 8 } else { 7 },
                    })
                }
            };
            roles.observe(node, outcome);
            let got: String = roles
                .snapshot()
                .nodes
                .iter()
                .map(|node| match node.role {
                    Role::Primary => 'P',
                    Role::Replica => 'R',
                    Role::Lagging => 'L',
                    Role::Fenced => 'F',
                    Role::Down => '.',
                })
                .collect();
            assert_eq!(got, expected, "after {probe} in {steps}");
        }
    }

    #[test]
    fn a_cluster_comes_up() {
        check("aw1=P.. br1=PR. cr1=PRR");
        check("br1=.R. cr1=.RR aw1=PRR");
    }

    #[test]
    fn one_silent_probe_is_forgiven_three_are_not() {
        check("aw1=P.. a?=P.. a?=P.. aw1=P.. a?=P.. a?=P.. a?=...");
        check("aw1=P.. ax=P.. ax=...");
    }

    #[test]
    fn a_replica_is_left_alone_after_one_failed_probe() {
        check("aw1=P.. br1=PR. b?=P.. br1=PR. bx=P..");
    }

    #[test]
    fn reads_go_on_without_a_primary_and_a_promoted_replica_takes_over() {
        check("aw1=P.. br1=PR. cr1=PRR ax=PRR ax=.RR bw2=.PL cr1=.PL cr2=.PR");
    }

    #[test]
    fn a_higher_timeline_wins_at_once_and_the_old_primary_is_fenced() {
        check("aw1=P.. br1=PR. bw2=FP. aw1=FP. bw2=FP. ar2=RP.");
    }

    #[test]
    fn an_old_primary_stays_fenced_when_its_successor_dies() {
        check("aw1=P.. bw2=FP. bx=FP. bx=F.. aw1=F..");
        check("aw1=P.. ax=P.. ax=... bw2=.P. bx=.P. bx=... aw1=F..");
    }

    #[test]
    fn two_writers_of_one_timeline() {
        check("aw1=P.. bw1=PF."); // the known one stays
        check("ar1=R.. aw2=P.. ax=P.. ax=... cw2=..P"); // the old one is lost
    }

    #[test]
    fn a_demoted_primary_is_no_primary() {
        check("aw1=P.. ar1=R..");
    }

    #[test]
    fn replicas_too_far_behind_get_no_reads() {
        check("aw1@1000=P.. br1@950=PR. br1@800=PL. br1@990=PR.");
        check("aw1@1000=P.. br1@800=PL. ax=PL. ax=.R."); // an old answer is better than none
    }

    #[test]
    fn a_node_of_another_cluster_is_never_used() {
        check("aw1=P.. bo9=PF. ax=PF. ax=.F.");
    }

    #[test]
    fn generations_change_when_connections_must_close() {
        let mut roles = Roles::new(2, 1, 100);
        let seen = |in_recovery, timeline| Ok(Observation { in_recovery, timeline, position: 0, system: 1 });
        let generation = |roles: &Roles, at| roles.snapshot().node(NodeId(at)).generation;
        roles.observe(NodeId(0), seen(false, 1));
        roles.observe(NodeId(1), seen(true, 1));
        let (primary, replica) = (generation(&roles, 0), generation(&roles, 1));
        roles.observe(NodeId(1), seen(false, 2));
        assert_ne!(generation(&roles, 0), primary, "a fenced primary");
        assert_eq!(generation(&roles, 1), replica, "a promoted replica");
        roles.observe(NodeId(1), Err(Failure::Silent));
        assert_ne!(generation(&roles, 1), replica, "a lost node");
    }
}
