//! Zones as they are served: immutable after loading, looked up by walking labels down from the apex.

pub mod build;
pub mod check;
pub mod encoded;
mod index;
pub mod lookup;
pub mod order;
pub mod orders;
pub mod rdata;
pub mod replace;
pub mod rrset;
pub mod zones;

pub use build::{Line, Node, Record, Zone};
pub use check::Fault;
pub use lookup::Found;
pub use order::{Cursor, Draw, Order, OrderPolicy};
pub use orders::{Orders, SetOrder};
pub use rdata::{Rdata, Soa};
pub use replace::SetChange;
pub use rrset::Rrset;
pub use zones::Zones;
