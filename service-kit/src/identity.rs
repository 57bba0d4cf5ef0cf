//! Who this process is among its siblings.

/// Name and birth of one running instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `[service] instance`, else the host's name (in a container its id).
    pub instance: String,
    /// Random at every start: an instance that came back with an old name or address is told apart by it.
    pub generation: u64,
}

impl Identity {
    pub(crate) fn new(configured: Option<String>) -> Self {
        let instance = configured.unwrap_or_else(|| {
            nix::unistd::gethostname()
                .ok()
                .and_then(|name| name.into_string().ok())
                .filter(|name| !name.is_empty())
                .unwrap_or_else(|| "unnamed".to_owned())
        });
        Self { instance, generation: crate::trace::random_u64() }
    }
}
