//! The `stack` command: starts, shows, heals and ends the whole, puts load on it, runs benches and drills.

mod bench;
mod conformance;
mod drill;
mod load;
mod report;
mod say;
mod soak;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand, ValueEnum};

use say::say;

use crate::docker::{self, Docker};
use crate::native::{Native, Published};
use crate::platform::Platform;
use crate::secrets;
use crate::stack::{Place, Stack};
use crate::topology::Topology;

/// The name of the stack that `stack up` starts natively, and of its Compose project.
const NAME: &str = "up";
const PROJECT: &str = "scaleout";

#[derive(Debug, Parser)]
#[command(
    name = "stack",
    version,
    about = "Runs the whole architecture on this machine, and breaks it on purpose"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum On {
    Native,
    Docker,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts everything and waits for a real request to succeed
    Up {
        /// Where; containers when a Docker engine answers, plain processes when not
        #[arg(long)]
        on: Option<On>,
        /// App instances
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=20))]
        apps: u8,
    },
    /// Ends everything and leaves nothing behind
    Down {
        /// Where; both when not given
        #[arg(long)]
        on: Option<On>,
    },
    /// Lists every instance: tier, address, state, memory
    Status {
        /// Where; wherever a stack runs when not given
        #[arg(long)]
        on: Option<On>,
        /// For machines
        #[arg(long)]
        json: bool,
    },
    /// Exits 0 once a client's whole journey succeeds
    Ready {
        /// Where; wherever a stack runs when not given
        #[arg(long)]
        on: Option<On>,
    },
    /// Restarts what is dead and waits for the whole
    Heal {
        /// Where; wherever a stack runs when not given
        #[arg(long)]
        on: Option<On>,
    },
    /// Replaces balancers and apps by new ones, in turn, without losing a request
    Replace {
        /// Their names: lb-1 lb-2 app-1
        #[arg(required = true)]
        instances: Vec<String>,
        /// Where; wherever a stack runs when not given
        #[arg(long)]
        on: Option<On>,
    },
    /// Changes the number of apps
    Scale {
        /// App instances
        #[arg(value_parser = clap::value_parser!(u8).range(1..=20))]
        apps: u8,
        /// Where; wherever a stack runs when not given
        #[arg(long)]
        on: Option<On>,
    },
    /// Sends a fixed rate of requests to the site's name and reports what a visitor would have felt
    Load(load::Arguments),
    /// Measures one of our programs beside its peers
    Bench(bench::Arguments),
    /// Keeps one of our programs under load for long while everything about it changes
    Soak(soak::Arguments),
    /// Sends odd messages to the balancer and its peers and compares the result with the table
    Conformance {
        /// Writes the table
        #[arg(long)]
        write: bool,
    },
    /// Lists and runs drills
    #[command(subcommand)]
    Drill(drill::Command),
    /// Fills a folder with passwords and keys; leaves what is there
    Secrets {
        /// The folder
        folder: PathBuf,
        /// The group that may read them, as a number
        #[arg(long)]
        group: Option<u32>,
    },
}

/// Parses the command line and does what it says.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("the system gives threads to a starting program");
    match runtime.block_on(run(arguments.command)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("stack: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Up { on, apps } => up(on, apps).await?,
        Command::Down { on } => down(on).await?,
        Command::Status { on, json } => {
            let stack = running(on).await?;
            report::status(stack.platform(), json).await?;
        }
        Command::Ready { on } => {
            running(on).await?.ready().await?;
            say("ready");
        }
        Command::Heal { on } => heal(on).await?,
        Command::Scale { apps, on } => {
            let stack = running(on).await?;
            stack.scale_apps(apps).await?;
            stack.ready().await?;
            say(format_args!("{apps} apps"));
        }
        Command::Replace { instances, on } => {
            let stack = running(on).await?;
            for instance in instances {
                let started = Instant::now();
                stack.replace(&instance).await?;
                say(format_args!("{instance} replaced after {:.1} s", started.elapsed().as_secs_f64()));
            }
        }
        Command::Load(arguments) => load::run(&running(arguments.on).await?, arguments).await?,
        Command::Bench(arguments) => return bench::run(arguments).await,
        Command::Soak(arguments) => return soak::run(arguments).await,
        Command::Conformance { write } => return conformance::run(write).await,
        Command::Drill(command) => return drill::run(command).await,
        Command::Secrets { folder, group } => {
            let made = secrets::fill(&folder, group)?;
            say(format_args!("{}: {} made, the rest was there", folder.display(), made.len()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn up(on: Option<On>, apps: u8) -> Result<()> {
    let place = place(on);
    let started = Instant::now();
    let topology = Topology { apps, ..Topology::default() };
    let platform: Arc<dyn Platform> = match place {
        Place::Docker => Arc::new(Docker::start_detached(PROJECT, topology).await?),
        Place::Native => match Native::attach(NAME)? {
            Some(running) => {
                say("a native stack is there already; healing it");
                let stack = Stack::over(Arc::new(running));
                stack.heal().await?;
                return report::addresses(stack.platform(), &stack.ready().await?, started.elapsed());
            }
            None => Arc::new(Native::start_detached(NAME, topology, Published::from_environment()).await?),
        },
    };
    let stack = Stack::over(platform);
    let seen = stack
        .ready()
        .await
        .context("everything was started and stays up for you to look at (`stack status`)")?;
    report::addresses(stack.platform(), &seen, started.elapsed())
}

/// Containers when an engine answers, plain processes when not; says so when that is a second choice.
fn place(on: Option<On>) -> Place {
    match on {
        Some(On::Native) => Place::Native,
        Some(On::Docker) => Place::Docker,
        None if docker::engine_answers() => Place::Docker,
        None => {
            eprintln!("no Docker engine answers here: plain processes instead");
            Place::Native
        }
    }
}

async fn down(on: Option<On>) -> Result<()> {
    let mut found = false;
    if !matches!(on, Some(On::Docker))
        && let Some(native) = Native::attach(NAME)?
    {
        native.tear_down()?;
        say("native: ended");
        found = true;
    }
    if !matches!(on, Some(On::Native)) && docker::engine_answers() {
        let docker = Docker::attach(PROJECT).await?;
        if let Some(docker) = docker {
            docker.tear_down()?;
            say("docker: ended");
            found = true;
        }
    }
    if !found {
        say("nothing was running");
    }
    Ok(())
}

async fn heal(on: Option<On>) -> Result<()> {
    let started = Instant::now();
    let restarted = running(on).await?.heal().await?;
    match restarted.as_slice() {
        [] => {
            say("nothing was dead");
        }
        names => {
            say(format_args!(
                "restarted {}; whole again after {:.1} s",
                names.join(" "),
                started.elapsed().as_secs_f64()
            ));
        }
    }
    Ok(())
}

/// The stack that runs: the one asked for, else whichever is there.
async fn running(on: Option<On>) -> Result<Stack> {
    if !matches!(on, Some(On::Docker))
        && let Some(native) = Native::attach(NAME)?
    {
        return Ok(Stack::over(Arc::new(native)));
    }
    if !matches!(on, Some(On::Native))
        && docker::engine_answers()
        && let Some(docker) = Docker::attach(PROJECT).await?
    {
        return Ok(Stack::over(Arc::new(docker)));
    }
    bail!("no stack runs here; start one with: stack up")
}
