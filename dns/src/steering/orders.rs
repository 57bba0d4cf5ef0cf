//! What operators have ordered: kept in a file, so that a restart does not bring back what somebody took out.

use super::evaluate::is_sound;
use super::plan::{Family, Plan};
use super::view::{Force, View};
use serde::{Deserialize, Serialize};
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// One order that is in force until it is taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// A pool, a choice or an address.
    pub subject: String,
    pub force: Force,
    /// Who ordered it.
    pub by: String,
    pub since_unix_ms: u64,
}

/// Why an order is not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("there is no pool, choice or address {subject}; there are {known}")]
    NoSubject { subject: String, known: String },
    #[error(
        "{subject} is the last that is healthy for {names}; put it back to use something else first, or add ?force=true"
    )]
    LastHealthy { subject: String, names: String },
    #[error("the order cannot be kept in {}: {reason}; nothing was changed", file.display())]
    NotKept { file: PathBuf, reason: std::io::Error },
    #[error("there is no order about {subject}")]
    NoOrder { subject: String },
    #[error("the server is ending")]
    Ending,
}

impl Refused {
    /// The `reason` of the problem.
    pub fn kind(&self) -> &'static str {
        match self {
            Refused::NoSubject { .. } => "no-subject",
            Refused::LastHealthy { .. } => "last-healthy",
            Refused::NotKept { .. } => "not-kept",
            Refused::NoOrder { .. } => "no-order",
            Refused::Ending => "ending",
        }
    }
}

/// The file cannot be used; the program does not start, for it would undo what somebody ordered.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}; mend it, or remove it to start with no orders", file.display())]
pub struct Unusable {
    pub file: PathBuf,
    pub reason: String,
}

/// The orders in force, the same as in the file.
#[derive(Debug, Default)]
pub struct Orders {
    /// `None`: they are kept until the program ends.
    file: Option<PathBuf>,
    list: Vec<Order>,
}

impl Orders {
    /// Reads the file; one that is not there holds no orders.
    pub fn load(file: Option<&Path>) -> Result<Orders, Unusable> {
        let Some(file) = file else { return Ok(Orders::default()) };
        let unusable = |reason: String| Unusable { file: file.to_owned(), reason };
        let list = match std::fs::read(file) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| unusable(error.to_string()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(unusable(error.to_string())),
        };
        Ok(Orders { file: Some(file.to_owned()), list })
    }

    pub fn list(&self) -> &[Order] {
        &self.list
    }

    /// Whether they outlive the program.
    pub fn are_kept(&self) -> bool {
        self.file.is_some()
    }

    /// Puts an order in force, in place of an earlier one about the same; `None` takes it back.
    pub fn set(&mut self, subject: &str, order: Option<Order>) -> Result<(), Refused> {
        let mut next: Vec<Order> = self.list.iter().filter(|it| it.subject != subject).cloned().collect();
        next.extend(order);
        if let Some(file) = &self.file {
            keep(file, &next).map_err(|reason| Refused::NotKept { file: file.clone(), reason })?;
        }
        self.list = next;
        Ok(())
    }
}

/// Writes beside and renames, so that the file is always whole.
fn keep(file: &Path, list: &[Order]) -> std::io::Result<()> {
    let mut part = file.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let text = serde_json::to_string_pretty(list).expect("orders are plain data");
    let mut out = std::fs::File::create(&part)?;
    out.write_all(text.as_bytes())?;
    out.sync_all()?;
    std::fs::rename(&part, file)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    std::fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// What orders mean for a plan. Orders about what is not in it wait: it may come back.
pub fn apply(orders: &[Order], plan: &Plan, view: &mut View) {
    view.choices = vec![None; plan.choices.len()];
    view.addresses.clear();
    for order in orders {
        match (plan.choice(&order.subject), order.subject.parse::<IpAddr>()) {
            (Some(choice), _) => view.choices[choice] = Some(order.force),
            (None, Ok(address)) => view.addresses.push((address, order.force)),
            (None, Err(_)) => {}
        }
    }
}

/// Whether an order makes sense, and whether it leaves every name something healthy that had it before.
pub fn check(plan: &Plan, view: &View, orders: &[Order], new: &Order, insist: bool) -> Result<(), Refused> {
    let is_address = || {
        let address = new.subject.parse::<IpAddr>();
        address.is_ok_and(|address| plan.targets.iter().any(|target| target.address == address))
    };
    if plan.choice(&new.subject).is_none() && !is_address() {
        let mut known: Vec<String> = plan.choices.iter().map(|choice| choice.name.to_string()).collect();
        known.extend(plan.targets.iter().map(|target| target.address.to_string()));
        known.dedup();
        let known = if known.is_empty() { "none".into() } else { known.join(", ") };
        return Err(Refused::NoSubject { subject: new.subject.clone(), known });
    }
    if insist || new.force == Force::Up {
        return Ok(());
    }
    let mut after = view.clone();
    let others = orders.iter().filter(|order| order.subject != new.subject).cloned();
    apply(&others.chain([new.clone()]).collect::<Vec<_>>(), plan, &mut after);
    let lost = plan.names.iter().filter(|steered| {
        let is_lost = |family| {
            is_sound(plan, view, steered.choice, family) && !is_sound(plan, &after, steered.choice, family)
        };
        Family::ALL.into_iter().any(is_lost)
    });
    let names: Vec<String> = lost.map(|steered| steered.name.to_string()).collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(Refused::LastHealthy { subject: new.subject.clone(), names: names.join(", ") })
}
