//! One worker's pickers: one a pool, for as long as the pool lives.

use std::cell::RefCell;
use std::sync::Arc;

use super::Picker;
use crate::commons::Commons;
use crate::snapshot::{Pool, Snapshot};

/// Few, and found by comparing pointers.
#[derive(Debug, Default)]
pub(crate) struct Pickers(RefCell<Vec<(Arc<Commons>, Picker)>>);

impl Pickers {
    /// The picker of a pool; a new one begins anywhere.
    pub(crate) fn with<T>(&self, pool: &Pool, act: impl FnOnce(&mut Picker) -> T) -> T {
        let mut pickers = self.0.borrow_mut();
        if let Some((_, picker)) = pickers.iter_mut().find(|(commons, _)| Arc::ptr_eq(commons, &pool.commons))
        {
            return act(picker);
        }
        let mut picker = Picker::new(fastrand::u64(..));
        let result = act(&mut picker);
        pickers.push((Arc::clone(&pool.commons), picker));
        result
    }

    /// Forgets those of pools that are gone.
    pub(crate) fn prune(&self, snapshot: &Snapshot) {
        self.0
            .borrow_mut()
            .retain(|(commons, _)| snapshot.pools.iter().any(|pool| Arc::ptr_eq(commons, &pool.commons)));
    }
}
