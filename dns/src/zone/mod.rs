//! Zones as they are served: immutable after loading, looked up by walking labels down from the apex.

pub mod build;
pub mod check;
pub mod lookup;
pub mod rdata;
pub mod rrset;
pub mod zones;

pub use build::{Line, Record, Zone};
pub use check::Fault;
pub use lookup::Found;
pub use rdata::{Rdata, Soa};
pub use rrset::{Cursor, Order, OrderPolicy, Rrset};
pub use zones::Zones;
