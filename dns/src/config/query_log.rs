//! `[query_log]`: whether each query leaves a line, and where it goes.

use super::within;
use crate::query_log::Settings;
use serde::{Deserialize, Serialize};
use service_kit::Invalid;
use service_kit::lines::Target;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Raw {
    format: String,
    file: String,
    sample: f64,
    ipv4_prefix_bits: u8,
    ipv6_prefix_bits: u8,
}

impl Default for Raw {
    fn default() -> Raw {
        Raw {
            format: "off".into(),
            file: "stdout".into(),
            sample: 1.0,
            ipv4_prefix_bits: 32,
            ipv6_prefix_bits: 128,
        }
    }
}

/// `None` where it is off.
pub(super) fn parse(raw: &Raw) -> Result<Option<Settings>, Invalid> {
    let is_on = match raw.format.as_str() {
        "off" => false,
        "json" => true,
        other => return Err(Invalid::new("query_log.format", other, "unknown format", "write off or json")),
    };
    if !(0.0..=1.0).contains(&raw.sample) {
        let remedy = "write 0 to 1, 1 for every query";
        return Err(Invalid::new("query_log.sample", raw.sample, "not a share of the queries", remedy));
    }
    within("query_log.ipv4_prefix_bits", raw.ipv4_prefix_bits.into(), 0, 32)?;
    within("query_log.ipv6_prefix_bits", raw.ipv6_prefix_bits.into(), 0, 128)?;
    let settings = Settings {
        target: Target::parse("query_log.file", &raw.file)?,
        sample: raw.sample,
        ipv4_prefix_bits: raw.ipv4_prefix_bits,
        ipv6_prefix_bits: raw.ipv6_prefix_bits,
    };
    Ok(is_on.then_some(settings))
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use service_kit::config::parse_text;

    #[track_caller]
    fn check_refused(text: &str, part: &str) {
        let error = parse_text::<Config>("dns", &format!("[query_log]\n{text}")).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn off_unless_a_format_is_given() {
        let log = |text: &str| parse_text::<Config>("dns", text).unwrap().query_log;
        assert_eq!(log(""), None);
        assert_eq!(log("[query_log]\nformat = 'json'\nsample = 0.25").unwrap().sample, 0.25);
    }

    #[test]
    fn what_cannot_work_is_refused_by_key() {
        check_refused("format = 'text'", "query_log.format: got text: unknown format");
        check_refused("sample = 1.5", "query_log.sample: got 1.5");
        check_refused("file = ''", "query_log.file");
        check_refused("ipv4_prefix_bits = 33", "query_log.ipv4_prefix_bits: got 33");
    }
}
