//! The page: one HTML document with its style and its plots inside.

use super::counts::Counts;
use super::plot;
use super::result::{DrillResult, Seconds};
use super::story::{Run, Story};
use crate::load::{ClientKind, ErrorClass};

const STYLE: &str = include_str!("page.css");

impl Story {
    /// The page.
    #[must_use]
    pub fn page(&self) -> String {
        let result = &self.result;
        let tone = if result.exit_code() == 0 { "good" } else { "bad" };
        let figures: String =
            self.runs.iter().enumerate().map(|(number, run)| section(number + 1, run)).collect();
        let charts: String =
            self.charts.iter().map(|chart| format!("<figure>{}</figure>\n", plot::bars(chart))).collect();
        let facts: String = self
            .facts
            .iter()
            .map(|(name, value)| format!("<dt>{}</dt><dd>{}</dd>", escape(name), escape(value)))
            .collect();
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <meta name=\"color-scheme\" content=\"light dark\">\
             <title>{drill}: {verdict}</title><style>\n{STYLE}</style></head><body><main>\n\
             <h1>{drill} <span class=\"badge {tone}\">{verdict}</span></h1>\n\
             <p class=\"claim\">{claim}</p>\n<p>{hypothesis}</p>\n\
             <p><b>{conclusion}</b> (declared: {expected}). {reason}</p>\n\
             {counts}{charts}{figures}\
             <h2>Where and how</h2><dl><dt>seed</dt><dd>{seed}</dd>{facts}</dl>\n</main></body></html>\n",
            drill = escape(&result.drill),
            verdict = result.verdict.as_str(),
            claim = escape(&result.claim),
            hypothesis = escape(&self.hypothesis),
            conclusion = capital(result.conclusion()),
            expected = result.expected.as_str(),
            reason = escape(&result.reason),
            counts = counts_table(result),
            seed = result.seed,
        )
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn counts_table(result: &DrillResult) -> String {
    let head: String = result.counts.named().iter().map(|(word, _)| format!("<th>{word}</th>")).collect();
    let row = |title: &str, counts: &Counts, rest: &str| {
        let cells: String = counts
            .named()
            .iter()
            .enumerate()
            .map(|(place, (_, count))| {
                let class = if place >= 2 && *count > 0 { " class=\"broken\"" } else { "" };
                format!("<td{class}>{count}</td>")
            })
            .collect();
        format!("<tr><th>{}</th>{cells}{rest}</tr>", escape(title))
    };
    let Seconds { detect, failover, recover } = result.seconds;
    let times: String = [detect, failover, recover]
        .iter()
        .map(|seconds| seconds.map_or("<td>–</td>".into(), |seconds| format!("<td>{seconds:.1} s</td>")))
        .collect();
    let caught = if result.control.caught { "It was caught" } else { "It was MISSED" };
    format!(
        "<div class=\"wide\"><table><tr><th></th>{head}<th>detect</th><th>failover</th><th>recover</th></tr>{}{}</table></div>\n\
         <p class=\"small\">The control is the same run without {}. {caught}.</p>\n",
        row("this run", &result.counts, &times),
        row("control", &result.control.counts, "<td>–</td><td>–</td><td>–</td>"),
        escape(&result.control.protection),
    )
}

fn section(number: usize, run: &Run) -> String {
    let load = &run.load;
    let ms = |us: u64| format!("{:.1} ms", us as f64 / 1000.0);
    let client = match load.client {
        ClientKind::Retrying => "retrying client",
        ClientKind::Plain => "plain client",
    };
    let classes: Vec<String> = ErrorClass::ALL
        .iter()
        .filter(|class| load.of_class(**class) > 0)
        .map(|class| format!("{} {}", load.of_class(*class), class.as_str()))
        .collect();
    let failed = if classes.is_empty() { String::new() } else { format!(" ({})", classes.join(", ")) };
    let warning = if load.generator_kept_up() {
        String::new()
    } else {
        format!(
            "<p class=\"warning\">The load generator was saturated: {} late sends, the latest by {}.</p>",
            load.late_sends,
            ms(load.max_lag_us)
        )
    };
    let events: String = run
        .events
        .iter()
        .map(|event| format!("<li>{:.1} s: {}</li>", event.at_s, escape(&event.label)))
        .collect();
    format!(
        "<h2>{title}</h2>\n<p>{client}, {rate} requests/s for {seconds:.1} s: {attempted} attempted, {ok} ok, \
         {failures} failed{failed}, {truncated} truncated, {retried} retried. \
         Latency from the due time: p50 {p50}, p99 {p99}, p99.9 {p999}, max {max}.</p>{warning}\n\
         <figure>{plot}</figure>\n<ul class=\"events\">{events}</ul>\n\
         <p class=\"small\">Raw: <a href=\"load-{number}.json\">load-{number}.json</a></p>\n",
        title = escape(&run.title),
        rate = load.rate_per_s,
        seconds = load.seconds,
        attempted = load.attempted,
        ok = load.ok,
        failures = load.failed,
        truncated = load.truncated,
        retried = load.retried,
        p50 = ms(load.p50_us),
        p99 = ms(load.p99_us),
        p999 = ms(load.p999_us),
        max = ms(load.max_us),
        plot = plot::svg(run),
    )
}

#[cfg(test)]
mod tests {
    use super::super::sample::story;

    #[test]
    fn the_page_is_one_file_and_escapes_what_it_shows() {
        let page = story().page();
        assert!(page.contains("app-2 is dead &lt;kill -9&gt;") && !page.contains("<kill"));
        for outside in ["<script", "src=", "http://", "https://", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert_eq!(page.matches("<svg").count(), 3, "one chart, two loads");
        assert_eq!(page.matches("class=\"err\" x=").count(), 2 + 7 + 2, "error bars, and one key a plot");
        assert!(!page.contains("NaN") && !page.contains("inf"));
    }
}
