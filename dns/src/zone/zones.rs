//! All zones served at one moment. Workers load one snapshot for each packet and answer from it alone.

use super::build::Zone;
use crate::steering::Steering;
use crate::wire::{Name, RecordType};
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::sync::Arc;

/// An immutable set of zones.
#[derive(Debug, Default, Clone)]
pub struct Zones {
    // Asked with every query; which origins there are is the operator's choice, so the hash need not be a slow one.
    by_origin: HashMap<Box<[u8]>, Arc<Zone>, RandomState>,
    /// Labels of the deepest origin: longer suffixes of a name need no look-up.
    labels_max: usize,
    /// What steered names of these zones are answered by.
    steering: Arc<Steering>,
}

impl Zones {
    pub fn new(zones: impl IntoIterator<Item = Arc<Zone>>) -> Zones {
        let by_origin: HashMap<_, _, RandomState> =
            zones.into_iter().map(|zone| (zone.origin().key(), zone)).collect();
        let labels_max = by_origin.values().map(|zone| zone.origin().label_count()).max().unwrap_or(0);
        Zones { by_origin, labels_max, steering: Arc::default() }
    }

    /// The zone that answers for `name`: the one with the longest matching origin, except that DS at an origin is the
    /// parent's to answer when the parent is here too (RFC 4035 section 3.1.4.1).
    pub fn zone_for(&self, name: &Name, record_type: RecordType) -> Option<&Arc<Zone>> {
        let key = name.key();
        let labels = name.label_count();
        let mut own = None;
        let mut at = 0;
        for depth in 0..=labels {
            if labels - depth <= self.labels_max
                && let Some(zone) = self.by_origin.get(&key[at..])
            {
                if depth > 0 || record_type != RecordType::DS {
                    return Some(zone);
                }
                own = Some(zone);
            }
            at += 1 + usize::from(key[at]);
        }
        own
    }

    /// The zone of exactly this origin, in lower-case wire form.
    pub fn by_key(&self, key: &[u8]) -> Option<&Arc<Zone>> {
        self.by_origin.get(key)
    }

    /// Labels of the deepest origin.
    pub fn labels_max(&self) -> usize {
        self.labels_max
    }

    pub fn get(&self, origin: &Name) -> Option<&Arc<Zone>> {
        self.by_origin.get(&origin.key())
    }

    /// The same zones but for these, which are in force in place of those of their origins.
    pub fn with(&self, zones: impl IntoIterator<Item = Arc<Zone>>) -> Zones {
        let mut changed = self.clone();
        changed.by_origin.extend(zones.into_iter().map(|zone| (zone.origin().key(), zone)));
        changed
    }

    /// The same zones, with what their steered names are answered by.
    pub fn steered_by(mut self, steering: Arc<Steering>) -> Zones {
        self.steering = steering;
        self
    }

    pub fn steering(&self) -> &Arc<Steering> {
        &self.steering
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Zone>> {
        self.by_origin.values()
    }

    pub fn is_empty(&self) -> bool {
        self.by_origin.is_empty()
    }

    pub fn len(&self) -> usize {
        self.by_origin.len()
    }
}
