//! Which backends have other content than the rest (claim C6). No sockets; `now` is a parameter.
//!
//! Backends publish a hash of what they serve in their health answers: of their catalogue and templates, never of their
//! build, which differs in the middle of every deploy. What more than half of those that say a hash have is right; where
//! nobody has the majority, nobody is wrong. One that differs is given a grace time: a deploy changes one backend after
//! another, and those that are first or last in it differ for a while without being broken.

use std::time::{Duration, Instant};

/// What more than half of the hashes are.
pub(crate) fn majority<'a>(hashes: &[&'a str]) -> Option<&'a str> {
    // Boyer and Moore, MJRTY (1981): the only candidate, then a count.
    let (mut candidate, mut lead) = (None, 0_usize);
    for hash in hashes {
        if lead == 0 {
            candidate = Some(*hash);
        }
        if candidate == Some(*hash) { lead += 1 } else { lead -= 1 }
    }
    let candidate = candidate?;
    let votes = hashes.iter().filter(|hash| **hash == candidate).count();
    (votes * 2 > hashes.len()).then_some(candidate)
}

/// How long one backend has been different.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Difference {
    since: Option<Instant>,
}

impl Difference {
    /// Notes what `own` is against the right one at `now`. A hash that is not said is not different.
    pub(crate) fn note(&mut self, own: Option<&str>, right: Option<&str>, now: Instant) {
        self.since = match (own, right) {
            (Some(own), Some(right)) if own != right => Some(self.since.unwrap_or(now)),
            _ => None,
        };
    }

    /// Whether it has been different for longer than is forgiven.
    pub(crate) fn is_flagged(&self, grace: Duration, now: Instant) -> bool {
        self.due(grace).is_some_and(|due| due <= now)
    }

    /// When that will be.
    pub(crate) fn due(&self, grace: Duration) -> Option<Instant> {
        self.since.map(|since| since + grace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A letter is a backend's hash, `-` one that says none; draws the flagged ones after the grace time.
    #[track_caller]
    fn check(hashes: &str, flagged: &str) {
        let own: Vec<Option<String>> =
            hashes.chars().map(|hash| (hash != '-').then(|| hash.to_string())).collect();
        let said: Vec<&str> = own.iter().flatten().map(String::as_str).collect();
        let (right, now) = (majority(&said), Instant::now());
        let drawn: String = own
            .iter()
            .map(|own| {
                let mut difference = Difference::default();
                difference.note(own.as_deref(), right, now);
                if difference.is_flagged(Duration::ZERO, now) { '!' } else { '.' }
            })
            .collect();
        assert_eq!(drawn, flagged, "{hashes}");
    }

    #[test]
    fn who_differs_from_the_majority_is_flagged() {
        check("aaa", "...");
        check("aab", "..!");
        check("baa", "!..");
        check("aabac", "..!.!");
        check("bbaaa", "!!...");
    }

    #[test]
    fn without_a_majority_nobody_is() {
        check("ab", "..");
        check("aabb", "....");
        check("abc", "...");
        check("aabc", "....");
        check("a", ".");
        check("", "");
    }

    #[test]
    fn who_says_nothing_neither_votes_nor_is_flagged() {
        check("aab-", "..!.");
        check("ab--", "....");
        check("--a", "...");
    }

    /// A rolling deploy from a to b, one step a second; the grace time is `grace` seconds.
    fn flagged_in_deploy(steps: &[&str], grace: u64) -> bool {
        let begin = Instant::now();
        let mut differences = vec![Difference::default(); steps[0].len()];
        let mut flagged = false;
        for (second, step) in (0..).zip(steps) {
            let now = begin + Duration::from_secs(second);
            let said: Vec<&str> = step.split("").filter(|hash| !hash.is_empty()).collect();
            let right = majority(&said);
            for (difference, own) in differences.iter_mut().zip(&said) {
                difference.note(Some(own), right, now);
                flagged |= difference.is_flagged(Duration::from_secs(grace), now);
            }
        }
        flagged
    }

    #[test]
    fn a_deploy_shorter_than_the_grace_time_flags_nobody() {
        let steps = ["aaaa", "baaa", "bbaa", "bbba", "bbbb", "bbbb"];
        assert!(!flagged_in_deploy(&steps, 2));
        assert!(flagged_in_deploy(&["aaaa", "baaa", "baaa", "baaa"], 2));
    }

    #[test]
    fn being_right_again_begins_anew() {
        let (mut difference, now) = (Difference::default(), Instant::now());
        let second = Duration::from_secs(1);
        difference.note(Some("b"), Some("a"), now);
        difference.note(Some("a"), Some("a"), now + second);
        difference.note(Some("b"), Some("a"), now + second * 2);
        assert!(!difference.is_flagged(second * 2, now + second * 3));
        assert!(difference.is_flagged(second * 2, now + second * 4));
    }
}
