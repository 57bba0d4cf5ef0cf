//! What a backend is to requests.

/// How a backend stands at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum State {
    /// Not one verdict yet.
    Unknown,
    Up,
    /// Alive: keeps whom it has, gets nobody new.
    Draining,
    Down,
    /// An operator took it out: nobody goes there.
    Maintenance,
    /// Its answers were bad: nobody goes there for a while.
    Ejected,
    /// Its content differs from the majority's: nobody goes there until it is the same.
    Excluded,
}

impl State {
    pub(crate) const ALL: [Self; 7] = [
        Self::Unknown,
        Self::Up,
        Self::Draining,
        Self::Down,
        Self::Maintenance,
        Self::Ejected,
        Self::Excluded,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Draining => "draining",
            Self::Down => "down",
            Self::Maintenance => "maintenance",
            Self::Ejected => "ejected",
            Self::Excluded => "excluded",
        }
    }
}
