//! The DNS wire format, as far as an authoritative server needs it: bytes in, values out, and back. Nothing here
//! knows zones, sockets or clocks; every function is total (no input panics) and is a fuzz target as it stands.

pub mod name;
pub mod options;
pub mod query;
pub mod shape;
pub mod types;
pub mod writer;

pub use name::{Name, NameError};
pub use options::Options;
pub use query::{Edns, Ignored, Query, Question, Rejected};
pub use types::{Class, Opcode, Rcode, RecordType};
pub use writer::{Full, Writer};
