use std::collections::BTreeSet;

use super::*;

/// Operations in a row, each one time unit long: `+a` added, `-a` removed, `?a` seen, `!a` not seen; a trailing
/// `x` was refused, `~` had no answer. A `|` before a word lets it overlap the one before.
fn history(drawn: &str) -> History {
    let mut history = History::default();
    let mut now_ms = 0;
    for word in drawn.split_whitespace() {
        let (overlaps, word) = word.strip_prefix('|').map_or((false, word), |rest| (true, rest));
        let kind = match &word[..1] {
            "+" => Kind::Add,
            "-" => Kind::Remove,
            "?" => Kind::Seen,
            _ => Kind::NotSeen,
        };
        let id = word[1..].trim_end_matches(['x', '~']);
        let told = match word.chars().last() {
            Some('x') => Told::Failed,
            Some('~') => Told::Unknown,
            _ => Told::Acknowledged,
        };
        now_ms += if overlaps { 0 } else { 20 };
        let at = Duration::from_millis(now_ms);
        history.record(id, kind, told, at, at + Duration::from_millis(10));
    }
    history
}

/// Compares all that was found, in words.
fn check(drawn: &str, found: &str, expected: &str) {
    let findings = history(drawn).check(found.split_whitespace());
    let lists = [
        ("lost", &findings.lost),
        ("duplicated", &findings.duplicated),
        ("unexpected", &findings.unexpected),
        ("recovered", &findings.recovered),
        ("resurrected", &findings.resurrected),
        ("stale", &findings.stale),
    ];
    let words: Vec<String> =
        lists.iter().flat_map(|(word, ids)| ids.iter().map(move |id| format!("{word} {id}"))).collect();
    assert_eq!(words.join(", "), expected, "{drawn} / {found}");
    assert_eq!(findings.is_clean(), words.iter().all(|word| word.starts_with("recovered")));
}

#[test]
fn what_was_acknowledged_is_there() {
    check("+a +b", "b a", "");
    check("", "", "");
}

#[test]
fn what_was_acknowledged_and_is_not_there_is_lost() {
    check("+a +b +c", "b", "lost a, lost c");
}

#[test]
fn what_is_there_twice_is_duplicated_whoever_did_it() {
    check("+a +b~ +cx", "a a b b c c", "duplicated a, duplicated b, duplicated c, unexpected c, recovered b");
}

#[test]
fn without_an_answer_both_ends_are_right() {
    check("+a~ +b~", "a", "recovered a");
}

#[test]
fn what_was_refused_or_never_tried_must_not_be_there() {
    check("+ax", "a z", "unexpected a, unexpected z");
    check("+ax", "", "");
}

#[test]
fn a_retry_that_was_acknowledged_counts() {
    check("+a~ +a", "", "lost a");
    check("+ax +a", "a", "");
    check("+a +ax", "", "lost a");
}

#[test]
fn what_was_removed_stays_away() {
    check("+a -a", "", "");
    check("+a -a", "a", "resurrected a");
}

#[test]
fn a_removal_that_was_refused_changes_nothing() {
    check("+a -ax", "", "lost a");
    check("+a -ax", "a", "");
}

#[test]
fn a_removal_without_an_answer_may_have_happened_even_late() {
    check("+a -a~", "", "");
    check("+a -a~", "a", "");
    check("-a~ +a", "", "");
}

#[test]
fn what_came_back_by_a_new_addition_is_expected() {
    check("+a -a +a", "a", "");
    check("+a -a +a", "", "lost a");
    check("+a -a +a~", "a", "");
}

#[test]
fn an_addition_and_a_removal_at_the_same_time_have_no_order() {
    check("+a |-a", "", "");
    check("+a |-a", "a", "");
}

#[test]
fn a_removal_of_what_never_was_is_nothing() {
    check("-a", "", "");
    check("-a", "a", "unexpected a");
}

#[test]
fn a_read_that_misses_an_acknowledged_write_is_stale() {
    check("+a !a ?a", "a", "stale a");
    check("+a !a !a", "a", "stale a, stale a");
    check("+a -a ?a", "", "stale a");
}

#[test]
fn a_read_beside_a_write_is_not_stale() {
    check("+a |!a", "a", "");
    check("+a |-a !a", "", "");
    check("!a +a", "a", "");
    check("+a~ !a", "a", "recovered a");
}

#[test]
fn a_read_after_a_write_that_may_have_undone_it_is_not_stale() {
    check("+a -a~ !a", "", "");
    check("+a -ax !a", "a", "stale a");
    check("+a -a !a", "", "");
    check("+a -a +a !a", "a", "stale a");
}

#[test]
fn a_read_that_failed_says_nothing() {
    check("+a !ax !a~", "a", "");
}

#[test]
fn counts_are_those_of_additions() {
    let findings = history("+a +b~ +cx +d -d ?a").check(["a"]);
    let counts = [findings.attempted, findings.acknowledged, findings.failed, findings.unknown];
    assert_eq!(counts, [4, 2, 1, 1]);
}

#[test]
fn a_history_survives_its_file() {
    let history = history("+a -a~ ?ax !b");
    let mut file = Vec::new();
    history.write(&mut file).unwrap();
    assert_eq!(History::read(&file[..]).unwrap(), history);
    assert_eq!(String::from_utf8(file).unwrap().lines().count(), 4);
}

#[test]
fn found_lists_need_no_order() {
    let both: BTreeSet<Vec<String>> =
        [["a", "b"], ["b", "a"]].iter().map(|found| history("+a +b~").check(*found).recovered).collect();
    assert_eq!(both.len(), 1);
}
