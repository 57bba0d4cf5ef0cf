//! Runs the cases one after the other, because they break things, and prints what the standard runner prints.

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;
use tests::Stack;
use tests::stack::Place;

/// How a case ended that did not fail.
pub(crate) enum Ended {
    Passed,
    /// This machine lacks something; says what.
    Skipped(String),
}

type Shared = for<'a> fn(&'a Stack) -> LocalBoxFuture<'a, Result<Ended>>;
type Single = fn() -> LocalBoxFuture<'static, Result<Ended>>;

enum Body {
    /// On the one stack that all share; whole again before the next case.
    Shared(Shared),
    /// Starts what it needs.
    Single(Single),
}

pub(crate) struct Case {
    name: &'static str,
    body: Body,
}

pub(crate) fn shared(name: &'static str, body: Shared) -> Case {
    Case { name, body: Body::Shared(body) }
}

pub(crate) fn single(name: &'static str, body: Single) -> Case {
    Case { name, body: Body::Single(body) }
}

/// Where the cases run.
pub(crate) fn place() -> Place {
    match std::env::var("STACK_ON").as_deref() {
        Ok("docker") => Place::Docker,
        _ => Place::Native,
    }
}

pub(crate) fn main(cases: &[Case]) -> ExitCode {
    let (flags, filters): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|it| it.starts_with('-'));
    let chosen: Vec<&Case> = cases
        .iter()
        .filter(|case| filters.is_empty() || filters.iter().any(|part| case.name.contains(part.as_str())))
        .collect();
    if flags.iter().any(|flag| flag == "--list") {
        chosen.iter().for_each(|case| println!("{}: test", case.name));
        return ExitCode::SUCCESS;
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads for the tests");
    let started = Instant::now();
    println!("\nrunning {} tests", chosen.len());
    let counts = runtime.block_on(run(&chosen));
    let result = if counts.failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {result}. {} passed; {} failed; {} ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
        counts.passed,
        counts.failed,
        counts.skipped,
        cases.len() - chosen.len(),
        started.elapsed().as_secs_f64()
    );
    if counts.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Default)]
struct Counts {
    passed: u32,
    failed: u32,
    skipped: u32,
}

async fn run(cases: &[&Case]) -> Counts {
    let mut counts = Counts::default();
    let mut stack: Option<Stack> = None;
    for case in cases {
        let started = Instant::now();
        let outcome = AssertUnwindSafe(one(case, &mut stack)).catch_unwind().await;
        let outcome =
            outcome.unwrap_or_else(|panic| Err(anyhow::anyhow!("panicked: {}", message(panic.as_ref()))));
        let outcome = strict(outcome);
        let took = started.elapsed().as_secs_f64();
        match outcome {
            Ok(Ended::Passed) => {
                counts.passed += 1;
                println!("test {} ... ok ({took:.1} s)", case.name);
            }
            Ok(Ended::Skipped(why)) => {
                counts.skipped += 1;
                println!("test {} ... SKIPPED: {why}", case.name);
            }
            Err(error) => {
                counts.failed += 1;
                println!("test {} ... FAILED ({took:.1} s)\n{error:?}\n", case.name);
                // Whatever is wrong with it is not the next case's fault.
                stack = None;
            }
        }
    }
    counts
}

/// On CI nothing is skipped.
fn strict(outcome: Result<Ended>) -> Result<Ended> {
    match outcome {
        Ok(Ended::Skipped(why)) if std::env::var("CI").as_deref() == Ok("true") => {
            bail!("skipped on CI: {why}")
        }
        outcome => outcome,
    }
}

async fn one(case: &Case, stack: &mut Option<Stack>) -> Result<Ended> {
    if place() == Place::Native && !nix::unistd::geteuid().is_root() {
        return Ok(Ended::Skipped("a native stack needs root".into()));
    }
    let body = match case.body {
        // One whole stack at a time: two would measure each other.
        Body::Single(body) => {
            *stack = None;
            return body().await;
        }
        Body::Shared(body) => body,
    };
    let running = match stack.take() {
        Some(running) => running,
        None => Stack::on(place()).start().await?,
    };
    let outcome = body(&running).await?;
    running.heal().await?;
    *stack = Some(running);
    Ok(outcome)
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".into())
}
