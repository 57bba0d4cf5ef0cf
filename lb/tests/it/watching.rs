//! The stats page as a person sees it, in a real browser.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::backend::Backend;
use crate::browser::Page;
use crate::client::Client;
use crate::process::Setup;
use crate::{client, tools};

/// Keeps some requests going until it is dropped.
struct Traffic(Arc<AtomicBool>);

impl Traffic {
    fn start(address: std::net::SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        tokio::spawn(async move {
            let mut client = Client::connect(address).await;
            while !seen.load(Ordering::Relaxed) {
                if client.send(client::request("GET /size/2000", &[], "")).await.is_err() {
                    client = Client::connect(address).await;
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        });
        Self(stop)
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

const STATE_OF_B: &str = "document.querySelector('[data-backend=b]')?.dataset.state";
const BACKGROUND: &str = "getComputedStyle(document.body).backgroundColor";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_sees_a_backend_go_down_without_reloading() {
    let Some(mut page) = tokio::task::block_in_place(Page::open) else { return tools::missing("chromium") };
    let (a, mut b, c) = (Backend::start("a"), Backend::start("b"), Backend::start("c"));
    let lb = Setup::new(&[&a, &b, &c]).start(3).await;
    let _traffic = Traffic::start(lb.http);
    tokio::task::block_in_place(|| {
        page.look(1280, 900, "light");
        page.go(&format!("http://{}/stats", lb.admin));
        page.until("b is up", &format!("{STATE_OF_B} === 'up'"));
        page.until("the verdict", "document.getElementById('verdict').textContent === 'all 3 backends up'");
        page.until("a curve", "document.querySelectorAll('svg.spark path.curve').length >= 4");
        // What a reload would lose.
        page.evaluate("window.untouched = true");
        b.kill();
        page.until("b is down", &format!("{STATE_OF_B} === 'down'"));
        page.until("the verdict", "document.getElementById('verdict').textContent === 'b is down'");
        assert_eq!(page.evaluate("window.untouched"), true, "it was reloaded");
        let row = page.evaluate("document.querySelector('[data-backend=b]').innerText");
        // Probes found it, or the requests of the load did so first.
        assert!(row.as_str().unwrap().contains("checks: connection refused"), "it says why: {row}");
        assert_eq!(page.errors, Vec::<String>::new(), "console");
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_is_light_dark_narrow_and_made_of_tables_with_headers() {
    let Some(mut page) = tokio::task::block_in_place(Page::open) else { return tools::missing("chromium") };
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let lb = Setup::new(&[&a, &b]).start(2).await;
    tokio::task::block_in_place(|| {
        page.look(1280, 900, "light");
        page.go(&format!("http://{}/stats", lb.admin));
        page.until("b is up", &format!("{STATE_OF_B} === 'up'"));
        let light = page.evaluate(BACKGROUND);
        let light_picture = page.screenshot();
        page.look(1280, 900, "dark");
        let dark = page.evaluate(BACKGROUND);
        assert_ne!(light, dark, "it follows what the person prefers");
        assert_ne!(light_picture, page.screenshot());
        page.evaluate("document.querySelector('[data-theme-choice=light]').click()");
        assert_eq!(page.evaluate(BACKGROUND), light, "the switch wins");
        page.evaluate("document.querySelector('[data-theme-choice=auto]').click()");
        assert_eq!(page.evaluate(BACKGROUND), dark);
        // Every cell has a heading for its column and one for its row; each state has a word and a shape.
        let headings = page.evaluate("document.querySelectorAll('thead th[scope=col]').length");
        let cells = "[...document.querySelectorAll('tbody tr')].every((row) => row.querySelector('th[scope=row]') && row.children.length";
        assert_eq!(page.evaluate(&format!("{cells} === {headings})")), true);
        assert_eq!(page.evaluate("document.querySelectorAll('.state svg path').length >= 2"), true);
        page.look(390, 844, "light");
        let wide =
            page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth");
        assert_eq!(wide, false, "a phone scrolls in one direction only");
        assert_eq!(page.errors, Vec::<String>::new(), "console");
    });
}
