//! dnsperf with one set of questions, and what it says at its end.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use hickory_proto::rr::RecordType;
use tokio::process::Command;

use super::zone::Content;
use crate::dns_client::DnsClient;

/// Pause between two answers that are read in full.
const READ_EVERY: Duration = Duration::from_millis(20);

/// How questions travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// What is run.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Up to the time limit, which is given with each run.
    pub(crate) argv: Vec<String>,
    pub(crate) target: SocketAddr,
    pub(crate) content: Content,
}

/// What came back.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Seen {
    pub(crate) sent: u64,
    /// Answers with the right code and length.
    pub(crate) verified: u64,
    pub(crate) lost: u64,
    pub(crate) seconds: f64,
    /// Upper bounds in microseconds with how many answers took that long, ascending.
    latencies: Vec<(f64, u64)>,
}

impl Seen {
    /// The latency that this share of answers did not exceed.
    pub(crate) fn latency_us(&self, quantile: f64) -> Option<f64> {
        let total: u64 = self.latencies.iter().map(|(_, count)| count).sum();
        #[allow(clippy::cast_precision_loss, reason = "counts of a bench are far below 2^53")]
        let (wanted, exact) = (total as f64 * quantile, |count: u64| count as f64);
        let mut before = 0;
        self.latencies.iter().find_map(|(latency, count)| {
            before += count;
            (exact(before) >= wanted).then_some(*latency)
        })
    }
}

impl Plan {
    /// Asks for so long, and reads some answers in full meanwhile.
    pub(crate) async fn run(&self, duration: Duration) -> Result<Seen> {
        let text = tokio::select! {
            text = perf(&self.argv, duration) => text?,
            error = self.read_answers() => return Err(error),
        };
        self.judge(&text).with_context(|| format!("dnsperf said:\n{}", head(&text)))
    }

    /// Reads answers in full until one is wrong.
    async fn read_answers(&self) -> anyhow::Error {
        loop {
            tokio::time::sleep(READ_EVERY).await;
            if let Err(error) = self.read_answer().await {
                return error.context("an answer read in full");
            }
        }
    }

    /// One answer, which has to be right in code and records.
    pub(crate) async fn read_answer(&self) -> Result<()> {
        check(self.target, self.content, &self.content.name(7)).await
    }

    fn judge(&self, text: &str) -> Result<Seen> {
        let seen = read(text)?;
        let (rcode, count, length) = answers(text)?;
        let expected = self.content.expected().rcode;
        ensure!(rcode == expected, "answers are {rcode}, not {expected}");
        ensure!(count == seen.verified, "{count} of {} answers are {expected}", seen.verified);
        // All questions of a case have one length, and so have their answers.
        if let Some(expected) = self.content.answer_bytes() {
            ensure!(length == expected, "answers have {length} octets on average, not {expected}");
        }
        Ok(seen)
    }
}

/// Runs dnsperf for so long; gives what it says at its end.
pub(crate) async fn perf(argv: &[String], duration: Duration) -> Result<String> {
    let (program, arguments) = argv.split_first().context("a command line has a program")?;
    let child = Command::new(program)
        .args(arguments)
        .args(["-l", &format!("{:.1}", duration.as_secs_f64())])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("starting dnsperf")?;
    let output = child.wait_with_output().await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "dnsperf ended with {}: {text}{errors}", output.status);
    Ok(text)
}

/// Asks once and looks at everything that must be in the answer.
pub(crate) async fn check(target: SocketAddr, content: Content, name: &str) -> Result<()> {
    let client = DnsClient::new(target).tries(3, Duration::from_secs(2));
    let message = client.query(name, RecordType::A).await?;
    let expected = content.expected();
    let name_of_code = match message.metadata.response_code.to_string() {
        code if code == "No Error" => "NOERROR",
        code if code == "Non-Existent Domain" => "NXDOMAIN",
        other => bail!("{name}: {other}"),
    };
    ensure!(name_of_code == expected.rcode, "{name}: {name_of_code}");
    let addresses: std::collections::BTreeSet<String> =
        message.answers.iter().map(|record| record.data.to_string()).collect();
    ensure!(
        addresses.len() == expected.answers && message.answers.len() == expected.answers,
        "{name}: {} records expected in {message}",
        expected.answers
    );
    Ok(())
}

/// The counts and latencies that dnsperf prints; codes and lengths are for [`answers`].
pub(crate) fn read(text: &str) -> Result<Seen> {
    let word = |name: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next())
            .with_context(|| format!("it does not say {name}"))
    };
    let bucket = |line: &str| {
        let (range, count) = line.trim().split_once(":  ")?;
        let (_, upper) = range.split_once(" - ")?;
        Some((upper.trim().parse::<f64>().ok()? * 1e6, count.trim().parse().ok()?))
    };
    // Over TCP a second list follows, of the connections' latencies.
    let buckets = text.lines().skip_while(|line| !line.contains("Latency bucket"));
    let buckets = buckets.skip(1).take_while(|line| !line.trim().is_empty());
    Ok(Seen {
        sent: word("Queries sent:")?.parse()?,
        verified: word("Queries completed:")?.parse()?,
        lost: word("Queries lost:")?.parse()?,
        seconds: word("Run time (s):")?.parse()?,
        latencies: buckets.filter_map(bucket).collect(),
    })
}

/// The one code of all answers, how many there were of it, and their length.
pub(crate) fn answers(text: &str) -> Result<(&str, u64, u64)> {
    let line =
        |name: &str| text.lines().find_map(|line| line.trim().strip_prefix(name)).context(name.to_owned());
    let mut codes = line("Response codes:")?.split_whitespace();
    let (rcode, count) = (codes.next().context("a code")?, codes.next().context("its count")?);
    let length = line("Average packet size:")?.rsplit(' ').next().context("a length")?;
    Ok((rcode, count.parse()?, length.parse()?))
}

pub(crate) fn head(text: &str) -> String {
    text.lines().take(25).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "
Statistics:

  Queries sent:         110
  Queries completed:    100 (90.91%)
  Queries lost:         10 (9.09%)

  Response codes:       NOERROR 100 (100.00%)
  Average packet size:  request 35, response 99
  Run time (s):         2.500000
  Queries per second:   40.0

  Average Latency (s):  0.006199 (min 0.000031, max 0.052197)
  Latency StdDev (s):   0.007453
  Latency bucket (s):   answer count
  0.000010 - 0.000020:  90
  0.000020 - 0.000031:  9
  0.000031 - 0.000999:  1
";

    fn plan(content: Content) -> Plan {
        Plan { argv: Vec::new(), target: SocketAddr::from(([127, 0, 0, 1], 1)), content }
    }

    #[test]
    fn what_dnsperf_says_is_read() {
        let seen = plan(Content::Addresses(4)).judge(OUTPUT).unwrap();
        assert_eq!((seen.sent, seen.verified, seen.lost, seen.seconds), (110, 100, 10, 2.5));
        let latency = |quantile| seen.latency_us(quantile).map(f64::round);
        assert_eq!([latency(0.5), latency(0.99), latency(0.999)], [Some(20.0), Some(31.0), Some(999.0)]);
    }

    #[test]
    fn the_latencies_of_connections_are_not_those_of_answers() {
        let over_tcp = format!(
            "{OUTPUT}\nConnection Statistics:\n\n  Latency bucket (s):   answer count\n  1.0 - 2.0:  500\n"
        );
        let seen = plan(Content::Addresses(4)).judge(&over_tcp).unwrap();
        assert_eq!(seen.latency_us(0.999).map(f64::round), Some(999.0));
    }

    #[test]
    fn another_code_is_an_error() {
        let error = plan(Content::NoName).judge(OUTPUT).unwrap_err();
        assert_eq!(error.to_string(), "answers are NOERROR, not NXDOMAIN");
        let mixed = OUTPUT.replace("NOERROR 100 (100.00%)", "NOERROR 99 (99.00%), SERVFAIL 1 (1.00%)");
        let error = plan(Content::Addresses(4)).judge(&mixed).unwrap_err();
        assert_eq!(error.to_string(), "99 of 100 answers are NOERROR");
    }
}
