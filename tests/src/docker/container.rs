//! A container as `docker inspect` tells it, known by Compose's labels.

use std::net::IpAddr;

use serde_json::Value;

use crate::platform::State;
use crate::topology::Tier;

/// One container of the project.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) id: String,
    pub(super) service: String,
    pub(super) name: String,
    pub(super) state: State,
    pub(super) pid: Option<i32>,
    pub(super) address: Option<IpAddr>,
}

impl Container {
    pub(super) fn parse(inspected: &Value) -> Option<Self> {
        let labels = &inspected["Config"]["Labels"];
        let service = labels["com.docker.compose.service"].as_str()?.to_owned();
        if labels["com.docker.compose.oneoff"] == "True" {
            return None;
        }
        let number = labels["com.docker.compose.container-number"].as_str().unwrap_or("1");
        let name = if service == "app" { format!("app-{number}") } else { service.clone() };
        let state = match inspected["State"]["Status"].as_str() {
            Some("running") => State::Running,
            Some("paused") => State::Paused,
            _ => State::Dead,
        };
        let pid =
            inspected["State"]["Pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0);
        let address = address(&service, &inspected["NetworkSettings"]["Networks"]);
        Some(Self { id: inspected["Id"].as_str()?.to_owned(), service, name, state, pid, address })
    }

    pub(super) fn tier(&self) -> Tier {
        Tier::of(&self.service)
    }
}

/// A container has one address a network; the one that its clients use is on the network of the tier in front.
fn address(service: &str, networks: &Value) -> Option<IpAddr> {
    let wanted = match Tier::of(service) {
        Tier::Dns | Tier::Lb => "_edge",
        Tier::App => "_app",
        _ => "_data",
    };
    let networks = networks.as_object()?;
    let found =
        networks.iter().find(|(name, _)| name.ends_with(wanted)).or_else(|| networks.iter().next())?;
    found.1["IPAddress"].as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_known_by_its_labels() {
        let inspected = serde_json::json!({
            "Id": "ab", "Name": "/anything",
            "Config": { "Labels": {
                "com.docker.compose.service": "app", "com.docker.compose.container-number": "2",
                "com.docker.compose.oneoff": "False" } },
            "State": { "Status": "running", "Pid": 42 },
            "NetworkSettings": { "Networks": {
                "p_data": { "IPAddress": "198.18.12.9" }, "p_app": { "IPAddress": "198.18.11.4" } } }
        });
        let container = Container::parse(&inspected).unwrap();
        assert_eq!(
            (container.name.as_str(), container.tier(), container.pid),
            ("app-2", Tier::App, Some(42))
        );
        assert_eq!(container.address, Some("198.18.11.4".parse().unwrap()));
    }
}
