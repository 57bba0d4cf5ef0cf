//! Reads that missed what was acknowledged before them.

use std::collections::BTreeMap;

use super::{History, Kind, Operation, Told};

impl History {
    /// Reads that missed a write which was acknowledged before they began, and which nothing can have undone: a
    /// write of the other kind that began before the read ended, and was not refused, makes both answers right.
    pub(super) fn stale(&self) -> Vec<String> {
        let mut writes: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
        for operation in &self.0 {
            if matches!(operation.kind, Kind::Add | Kind::Remove) && operation.told != Told::Failed {
                writes.entry(&operation.id).or_default().push(operation);
            }
        }
        let mut stale = Vec::new();
        for read in &self.0 {
            let (shown, missed) = match read.kind {
                Kind::NotSeen => (Kind::Remove, Kind::Add),
                Kind::Seen => (Kind::Add, Kind::Remove),
                Kind::Add | Kind::Remove => continue,
            };
            let of_id = writes.get(read.id.as_str()).map(Vec::as_slice).unwrap_or_default();
            let before = of_id
                .iter()
                .filter(|write| {
                    write.kind == missed
                        && write.told == Told::Acknowledged
                        && write.ended_us <= read.began_us
                })
                .max_by_key(|write| write.began_us);
            let Some(before) = before else { continue };
            let explained = of_id.iter().any(|write| {
                write.kind == shown
                    && write.began_us <= read.ended_us
                    && (write.told == Told::Unknown || write.ended_us > before.began_us)
            });
            if read.told == Told::Acknowledged && !explained {
                stale.push(read.id.clone());
            }
        }
        stale
    }
}
