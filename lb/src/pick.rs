//! Round robin over the first group that has somebody left to try. No sockets, no clock.

/// Who takes the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pick {
    One(usize),
    /// There is somebody, but everybody is at the limit.
    Full,
    Nobody,
}

/// Takes the next of the first group in which somebody is not in `tried`. A full group is not left for a worse one:
/// overload must not wake those that are draining or down.
pub(crate) fn pick(
    tiers: &[&[usize]],
    turn: &mut usize,
    tried: &[usize],
    has_room: impl Fn(usize) -> bool,
) -> Pick {
    let Some(tier) = tiers.iter().find(|tier| tier.iter().any(|index| !tried.contains(index))) else {
        return Pick::Nobody;
    };
    let start = *turn;
    *turn = turn.wrapping_add(1);
    (0..tier.len())
        .map(|step| tier[start.wrapping_add(step) % tier.len()])
        .find(|index| !tried.contains(index) && has_room(*index))
        .map_or(Pick::Full, Pick::One)
}

/// Whether anybody is left who was not tried.
pub(crate) fn others(tiers: &[&[usize]], tried: &[usize]) -> bool {
    tiers.iter().any(|tier| tier.iter().any(|index| !tried.contains(index)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `ready | floor | draining`, digits are backends; `tried` and `full` likewise. Draws who gets `expected.len()` requests.
    #[track_caller]
    fn check(tiers: &str, tried: &str, full: &str, expected: &str) {
        let digits = |text: &str| {
            text.chars().filter_map(|c| c.to_digit(10)).map(|digit| digit as usize).collect::<Vec<_>>()
        };
        let tiers: Vec<Vec<usize>> = tiers.split('|').map(digits).collect();
        let tiers: Vec<&[usize]> = tiers.iter().map(Vec::as_slice).collect();
        let (tried, full) = (digits(tried), digits(full));
        let mut turn = 0;
        let drawn: String = expected
            .chars()
            .map(|_| match pick(&tiers, &mut turn, &tried, |index| !full.contains(&index)) {
                Pick::One(index) => char::from_digit(u32::try_from(index).unwrap(), 10).unwrap(),
                Pick::Full => 'F',
                Pick::Nobody => '-',
            })
            .collect();
        assert_eq!(drawn, expected);
    }

    #[test]
    fn takes_turns() {
        check("012", "", "", "0120120");
        check("20|1|3", "", "", "2020");
    }

    #[test]
    fn skips_those_tried_and_those_full() {
        check("012", "1", "", "022");
        check("012", "", "0", "1121");
        check("012", "02", "", "111");
    }

    #[test]
    fn the_next_group_serves_when_the_first_is_empty_or_used_up() {
        check("|01|2", "", "", "0101");
        check("||2", "", "", "22");
        check("0||2", "0", "", "22");
    }

    #[test]
    fn a_full_group_is_full() {
        check("01||2", "", "01", "FF");
        check("01||2", "0", "1", "FF");
    }

    #[test]
    fn nobody_is_nobody() {
        check("||", "", "", "--");
        check("01", "01", "", "-");
    }

    #[test]
    fn turns_wrap_around() {
        let mut turn = usize::MAX;
        assert_eq!(pick(&[&[0, 1, 2]], &mut turn, &[], |_| true), Pick::One(usize::MAX % 3));
        assert_eq!(turn, 0);
    }
}
