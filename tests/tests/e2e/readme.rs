//! What the README tells people to type first works: its `sh` blocks under "Look around", with this stack's addresses.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tests::{Stack, layout};

use crate::runner::Ended;

const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) async fn commands_work(stack: &Stack) -> Result<Ended> {
    let text = std::fs::read_to_string(layout::repository().join("README.md"))?;
    let commands = commands(&text);
    ensure!(commands.len() >= 5, "the README shows {} commands to look around with", commands.len());
    let folder = tempfile::tempdir()?;
    for command in commands {
        let ours = with_addresses(&command, stack).replace("/tmp/", &format!("{}/", folder.path().display()));
        let run = tokio::process::Command::new("sh").args(["-ec", &ours]).kill_on_drop(true).output();
        let output =
            tokio::time::timeout(DEADLINE, run).await.with_context(|| format!("no end: {command}"))??;
        let shown = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success() && !shown.trim().is_empty(), "{command}\n{output:?}");
        if let Some(status) = shown.lines().find(|line| line.starts_with("HTTP/")) {
            ensure!(status.contains(" 200 "), "{command}\n{shown}");
        }
        ensure!(!shown.contains("problem+json") && !shown.contains("\"items\":[]"), "{command}\n{shown}");
    }
    Ok(Ended::Passed)
}

/// The lines of the `sh` blocks of one section.
fn commands(readme: &str) -> Vec<String> {
    let section =
        readme.split("\n## ").find(|section| section.starts_with("Look around")).unwrap_or_default();
    let blocks = section.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.flat_map(str::lines).map(str::to_owned).collect()
}

/// The README names the published ports; a test's stack is elsewhere.
fn with_addresses(command: &str, stack: &Stack) -> String {
    let endpoints = stack.endpoints();
    let dns = format!("@{} -p {}", endpoints.dns.ip(), endpoints.dns.port());
    command
        .replace("@127.0.0.1 -p 1053", &dns)
        .replace("127.0.0.1:8080", &endpoints.lbs[0].to_string())
        .replace("127.0.0.1:8081", &endpoints.lbs[1].to_string())
}
