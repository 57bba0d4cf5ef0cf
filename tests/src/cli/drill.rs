//! `stack drill`: the list, and one run with its exit code.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Subcommand;

use super::On;
use super::say::say;
use crate::drill::{self, Runs, Settings};
use crate::layout;
use crate::stack::Place;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// One drill a line, its name first
    List,
    /// Breaks something in a stack of its own; 0 as declared and the control caught, 1 contrary, 2 control missed, 3 not measurable
    Run {
        /// The drill's name
        name: String,
        /// At most 20 s of measurement
        #[arg(long)]
        short: bool,
        /// Repeats what the drill leaves to chance
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Where; containers when a Docker engine answers, plain processes when not
        #[arg(long)]
        on: Option<On>,
        /// For machines
        #[arg(long)]
        json: bool,
        /// Where the report goes; target/drills/NAME when not given
        #[arg(long)]
        report: Option<PathBuf>,
    },
}

pub(super) async fn run(command: Command) -> Result<ExitCode> {
    let (name, settings, json, folder) = match command {
        Command::List => {
            for drill in drill::ALL {
                say(format_args!("{:<14} {}", drill.name, drill.about));
            }
            return Ok(ExitCode::SUCCESS);
        }
        Command::Run { name, short, seed, on, json, report } => (name, (short, seed, on), json, report),
    };
    let drill = drill::find(&name).with_context(|| format!("no drill {name}; see: stack drill list"))?;
    let (short, seed, on) = settings;
    let place = match (on, drill.runs) {
        (None, Runs::Natively) => Place::Native,
        (on, _) => super::place(on),
    };
    let settings = Settings { place, short, seed };
    let story = drill.run(settings).await?;
    let folder = folder.unwrap_or_else(|| layout::repository().join("target/drills").join(&name));
    let page = story.write(&folder).with_context(|| folder.display().to_string())?;
    if json {
        say(format_args!("{}", serde_json::to_string(&story.result)?));
    } else {
        say(format_args!("{}\n  report   {}", story.result, page.display()));
    }
    Ok(ExitCode::from(story.result.exit_code()))
}
