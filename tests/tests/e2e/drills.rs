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
