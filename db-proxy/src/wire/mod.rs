//! The Postgres wire protocol, version 3, as far as a relay has to know it: frames, the startup packet, the messages that
//! the proxy makes itself, and error reports. Pure: bytes in, values out.

pub mod frame;
pub mod message;
pub mod report;
pub mod startup;
