//! What the balancer makes of odd and hostile messages, beside HAProxy and nginx: every case of `tests/conformance` is sent to
//! all three over a connection of its own, in front of an origin that notes what reaches it. `lb/CONFORMANCE.md` is the table.
//!
//! Two things must hold, and [`Report::faults`] says which do not: the table is what a run gives, and wherever the
//! balancer lets through what HAProxy does not, the case says why.

mod case;
mod decision;
mod exchange;
mod http1;
mod http2;
mod origin;
mod subjects;
mod table;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::layout;
use case::Case;
use decision::Decision;
use origin::Origin;
use subjects::{Place, Subject};
pub use table::Report;

/// So many cases are under way at a time with each subject; each lane has listeners and an origin of its own.
const LANES: usize = 10;
/// How long a connection must be silent for its exchange to be over.
const QUIET: Duration = Duration::from_millis(150);
/// Where a first look did not find what the table says: what hangs on which of two packets comes first may come out so again.
const LOOKS_AGAIN: usize = 4;
/// The same where a first look did not find what the table says: this machine may be busy.
const QUIET_AGAIN: Duration = Duration::from_millis(1_000);

/// One case and what each subject made of it.
#[derive(Debug)]
struct Row {
    case: Case,
    /// In the order of [`Subject::ALL`].
    decisions: Vec<Decision>,
}

/// Where the table is.
pub fn table() -> PathBuf {
    layout::repository().join("lb/CONFORMANCE.md")
}

/// Runs every case. What differs from the committed table is looked at a second time, alone and with patience.
pub async fn run() -> Result<Report> {
    let cases = case::all()?;
    let committed = fs::read_to_string(table()).unwrap_or_default();
    let place = Place::prepare(LANES)?;
    let versions = place.versions()?;
    let running = place.start().await?;
    let mut lanes = Vec::new();
    for subject in Subject::ALL {
        for lane in 0..LANES {
            let mine: Vec<(usize, Case)> =
                cases.iter().cloned().enumerate().filter(|(number, _)| number % LANES == lane).collect();
            let (address, origin) =
                (place.listener(subject, lane), Origin::listen(place.origin(subject, lane)).await?);
            lanes.push(tokio::spawn(async move {
                let mut decisions = Vec::new();
                for (number, case) in mine {
                    let decision = decide(&case, address, &origin, QUIET).await;
                    decisions.push((number, subject, decision.with_context(|| case.name.clone())?));
                }
                anyhow::Ok((decisions, origin))
            }));
        }
    }
    let mut rows: Vec<Row> = cases
        .into_iter()
        .map(|case| Row { case, decisions: vec![Decision::default(); Subject::ALL.len()] })
        .collect();
    let mut origins = Vec::new();
    for lane in lanes {
        let (decisions, origin) = lane.await??;
        origins.push(origin);
        for (number, subject, decision) in decisions {
            rows[number].decisions[subject as usize] = decision;
        }
    }
    let known = table::read(&committed);
    for row in &mut rows {
        for subject in Subject::ALL {
            for _ in 0..LOOKS_AGAIN {
                if known.says(row, subject).is_none_or(|text| text == row.decisions[subject as usize].text) {
                    break;
                }
                let (address, origin) = (place.listener(subject, 0), &origins[subject as usize * LANES]);
                row.decisions[subject as usize] = decide(&row.case, address, origin, QUIET_AGAIN).await?;
            }
        }
    }
    drop(running);
    Ok(Report::new(rows, versions, known))
}

async fn decide(
    case: &Case,
    address: std::net::SocketAddr,
    origin: &Origin,
    quiet: Duration,
) -> Result<Decision> {
    origin.expect(case);
    let exchange = match &case.fields {
        Some(fields) => http2::exchange(case, fields, address, quiet).await?,
        None => exchange::exchange(case, address, quiet).await?,
    };
    let seen = origin.seen(quiet / 2).await;
    Ok(decision::decide(case, &exchange, &seen))
}
