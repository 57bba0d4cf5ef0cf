//! `[access_log]`: whether each request leaves a line, how it looks and where it goes.

use serde::{Deserialize, Serialize};
use service_kit::Invalid;
use service_kit::lines::Target;

use crate::access_log::{AccessLog, Format};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Raw {
    format: String,
    file: String,
    sample: f64,
}

impl Default for Raw {
    fn default() -> Self {
        Self { format: "off".into(), file: "stdout".into(), sample: 1.0 }
    }
}

pub(super) fn parse(raw: &Raw) -> Result<Option<AccessLog>, Invalid> {
    let format = match raw.format.as_str() {
        "off" => None,
        "json" => Some(Format::Json),
        "haproxy" => Some(Format::Haproxy),
        other => {
            let remedy = "write off, json or haproxy";
            return Err(Invalid::new("access_log.format", other, "unknown format", remedy));
        }
    };
    if !(0.0..=1.0).contains(&raw.sample) {
        let reason = "not a share of the requests";
        return Err(Invalid::new(
            "access_log.sample",
            raw.sample,
            reason,
            "write 0 to 1, 1 for every request",
        ));
    }
    let target = Target::parse("access_log.file", &raw.file)?;
    Ok(format.map(|format| AccessLog { format, target, sample: raw.sample }))
}
