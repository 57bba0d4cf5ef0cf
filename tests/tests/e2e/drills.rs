//! The short form of each drill ends as it declares, and its control is caught.

use anyhow::{Context as _, Result, ensure};
use tests::drill::{self, Runs, Settings};
use tests::layout;
use tests::stack::Place;

use crate::runner::{Ended, place};

pub(crate) async fn short(name: &str) -> Result<Ended> {
    let drill = drill::find(name).context("a drill of the registry")?;
    let place = if drill.runs == Runs::Natively { Place::Native } else { place() };
    let story = drill.run(Settings { place, short: true, seed: 1 }).await?;
    println!("{}", story.result);
    story.write(&layout::repository().join("target/drills").join(name))?;
    let failures: Vec<&String> = story.runs.iter().flat_map(|run| &run.load.examples).collect();
    ensure!(story.result.exit_code() == 0, "exit code {}; failures: {failures:#?}", story.result.exit_code());
    Ok(Ended::Passed)
}

/// How often a drill is looked at whose figures are parts of the machine's CPUs.
const LOOKS: u32 = 3;

/// The same for drills that measure what a part of a CPU can do: whatever else the machine does takes its own part and looks like
/// a contrary verdict, or like a missed control. Each look is printed; a drill that is contrary each time has failed.
pub(crate) async fn short_by_cpu(name: &str) -> Result<Ended> {
    for look in 1..LOOKS {
        match short(name).await {
            Ok(ended) => return Ok(ended),
            Err(error) => println!("  look {look} of {LOOKS} at {name} was contrary: {error}"),
        }
    }
    short(name).await
}
