//! A client of our own beside dnsperf: it asks every kind of question and reads every answer in full.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::answers::{Pools, Question};
use crate::dns_client::DnsClient;

/// Pause between two answers.
const READ_EVERY: Duration = Duration::from_millis(20);
/// How often and how long it asks: what is lost is dnsperf's to count.
const TRIES: usize = 3;
const PATIENCE: Duration = Duration::from_secs(3);
/// Wrong answers that are kept for the report.
const EXAMPLES_MAX: usize = 5;

/// The versions that may be served at this moment.
#[derive(Debug)]
pub(super) struct Versions {
    /// The latest that was seen in an answer: nothing older may follow.
    seen: AtomicU32,
    /// The latest that was written.
    written: AtomicU32,
}

impl Versions {
    /// One version, which is written before the subject starts.
    pub(super) fn new(version: u32) -> Self {
        Self { seen: AtomicU32::new(version), written: AtomicU32::new(version) }
    }

    pub(super) fn seen(&self) -> u32 {
        self.seen.load(Ordering::SeqCst)
    }

    pub(super) fn written(&self) -> u32 {
        self.written.load(Ordering::SeqCst)
    }

    /// An answer of this version was read.
    pub(super) fn see(&self, version: u32) {
        self.seen.fetch_max(version, Ordering::SeqCst);
    }

    /// This version is about to be written.
    pub(super) fn write(&self, version: u32) {
        self.written.store(version, Ordering::SeqCst);
    }
}

/// What was read in full.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Reads {
    /// Answers that were as they must be.
    pub right: u64,
    /// Answers with another code, another version or other records than may be, or none in three tries.
    pub wrong: u64,
    /// The first of those.
    pub examples: Vec<String>,
    #[serde(skip)]
    asked: u32,
}

impl Reads {
    /// Asks until it is told to stop.
    pub(super) async fn run(
        &mut self,
        target: SocketAddr,
        versions: &Versions,
        pools: &Pools,
        stop: &CancellationToken,
    ) {
        let client = DnsClient::new(target).tries(TRIES, PATIENCE);
        while !stop.is_cancelled() {
            tokio::time::sleep(READ_EVERY).await;
            let question = Question::numbered(self.asked);
            self.asked = self.asked.wrapping_add(1);
            match read(&client, question, versions, pools).await {
                Ok(()) => self.right += 1,
                Err(reason) => {
                    self.wrong += 1;
                    if self.examples.len() < EXAMPLES_MAX {
                        self.examples.push(format!("{}: {reason}", question.asked().0));
                    }
                }
            }
        }
    }
}

/// Asks once. What may be served runs from what was seen before the question to what was written before the answer.
pub(super) async fn read(
    client: &DnsClient,
    question: Question,
    versions: &Versions,
    pools: &Pools,
) -> Result<(), String> {
    let (name, record_type) = question.asked();
    let oldest = versions.seen();
    let answer = client.query(&name, record_type).await.map_err(|error| error.to_string())?;
    if let Some(version) = question.judge(&answer, &(oldest..=versions.written()), pools)? {
        versions.see(version);
    }
    Ok(())
}
