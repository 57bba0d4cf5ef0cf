//! What must hold for every input, as functions over bytes: the targets of `fuzz/` call them with what libFuzzer makes
//! up, and the tests below with every seed that is committed. Each panics when its property does not hold.
//!
//! Nothing here is a part of the balancer; it is built for tests and with the feature `fuzzing` only.

mod answer;
mod config;
mod cookie;
mod memory;
mod proxy_header;
mod reading;
mod request;

pub use answer::answer;
pub use config::config;
pub use cookie::cookie;
pub use proxy_header::proxy_header;
pub use request::request;

/// Inputs that were found, and those that fuzzing starts from: `fuzz/seeds/TARGET/*`.
#[cfg(test)]
mod tests {
    use std::path::Path;

    #[track_caller]
    fn replay(target: &str, check: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
        let seeds: Vec<_> = std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            .map(|entry| entry.unwrap().path())
            .collect();
        assert!(!seeds.is_empty(), "{} is empty", folder.display());
        for seed in seeds {
            let bytes = std::fs::read(&seed).unwrap();
            let checked = std::panic::catch_unwind(|| check(&bytes));
            assert!(checked.is_ok(), "{} does not hold", seed.display());
        }
    }

    #[test]
    fn cookies() {
        replay("lb_cookie", super::cookie);
    }

    #[test]
    fn proxy_headers() {
        replay("lb_proxy_header", super::proxy_header);
    }

    #[test]
    fn requests() {
        replay("lb_request", super::request);
    }

    #[test]
    fn answers() {
        replay("lb_answer", super::answer);
    }

    #[test]
    fn configurations() {
        replay("lb_config", super::config);
    }
}
