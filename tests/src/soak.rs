//! Soaks: one of our programs and a peer under the same load for long, while everything about them changes that may change
//! in service. What a bench of seconds cannot show: what is lost around a change, and what grows.

pub mod dns;
