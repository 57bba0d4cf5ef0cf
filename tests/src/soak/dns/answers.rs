//! What a right answer is while versions and health change. Pure: a message and the versions that may be served.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, RecordType};

use super::zone;
use crate::bench::dns::zone::ORIGIN;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// The serial.
    Serial,
    /// A name whose addresses are of the version.
    Changing(u32),
    /// A name of which one pool or the other answers, each as a whole.
    Steered(u32),
    /// A name that is answered out of a pool whose members change.
    Moving,
    /// A name that is not there; the serial comes with the denial.
    Missing(u32),
}

/// Addresses that answers may have, besides those of versions.
#[derive(Debug, Clone)]
pub(super) struct Pools {
    pub(super) first: Vec<Ipv4Addr>,
    pub(super) second: Vec<Ipv4Addr>,
}

impl Question {
    /// The question with this number: each kind in turn, and among names in turn.
    pub(super) fn numbered(number: u32) -> Self {
        match number % 5 {
            0 => Self::Serial,
            1 => Self::Changing(number / 5 * 7),
            2 => Self::Steered(number / 5),
            3 => Self::Moving,
            _ => Self::Missing(number % 1_000),
        }
    }

    /// Name and type, as they are asked.
    pub(super) fn asked(self) -> (String, RecordType) {
        match self {
            Self::Serial => (ORIGIN.to_owned(), RecordType::SOA),
            Self::Changing(number) => (zone::changing(number), RecordType::A),
            Self::Steered(number) => (zone::steered(number), RecordType::A),
            Self::Moving => (zone::moving(), RecordType::A),
            Self::Missing(number) => (zone::missing(number), RecordType::A),
        }
    }

    /// The version that the answer is of, where it tells, or what is wrong with it. It must be one of `versions`.
    pub(super) fn judge(
        self,
        answer: &Message,
        versions: &RangeInclusive<u32>,
        pools: &Pools,
    ) -> Result<Option<u32>, String> {
        let expected =
            if matches!(self, Self::Missing(_)) { ResponseCode::NXDomain } else { ResponseCode::NoError };
        let code = answer.metadata.response_code;
        if code != expected {
            return Err(format!("{code}"));
        }
        let addresses = addresses(answer);
        let version = match self {
            Self::Serial => Some(serial(&answer.answers)?),
            Self::Missing(_) => Some(serial(&answer.authorities)?),
            Self::Changing(_) => Some(of_one_version(&addresses)?),
            Self::Steered(_) => {
                let is = |pool: &[Ipv4Addr]| addresses == pool.iter().copied().collect();
                if !is(&pools.first) && !is(&pools.second) {
                    return Err(format!("neither pool as a whole: {addresses:?}"));
                }
                None
            }
            Self::Moving => {
                let known = |it: &Ipv4Addr| {
                    pools.second.contains(it) || versions.clone().any(|version| zone::nobody(version) == *it)
                };
                if addresses.is_empty() || !addresses.iter().all(known) {
                    return Err(format!("not of versions {versions:?}: {addresses:?}"));
                }
                None
            }
        };
        match version {
            Some(version) if !versions.contains(&version) => {
                Err(format!("version {version}, which is none of {versions:?}"))
            }
            version => Ok(version),
        }
    }
}

fn addresses(answer: &Message) -> BTreeSet<Ipv4Addr> {
    let address = |data: &RData| if let RData::A(address) = data { Some(address.0) } else { None };
    answer.answers.iter().filter_map(|record| address(&record.data)).collect()
}

fn serial(records: &[hickory_proto::rr::Record]) -> Result<u32, String> {
    let serial = |data: &RData| if let RData::SOA(soa) = data { Some(soa.serial) } else { None };
    records.iter().find_map(|record| serial(&record.data)).ok_or_else(|| "no SOA".to_owned())
}

fn of_one_version(addresses: &BTreeSet<Ipv4Addr>) -> Result<u32, String> {
    let version = addresses.first().map_or(0, |first| {
        let [_, high, low, _] = first.octets();
        u32::from_be_bytes([0, 0, high, low])
    });
    let whole = (1..=zone::ADDRESSES).map(|number| zone::address(version, number)).collect();
    if *addresses == whole { Ok(version) } else { Err(format!("not of one version: {addresses:?}")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::OpCode;
    use hickory_proto::rr::{Name, Record, rdata};

    fn pools() -> Pools {
        let pool = |third| (1..=4).map(|last| Ipv4Addr::new(127, 0, third, last)).collect();
        Pools { first: pool(1), second: pool(2) }
    }

    /// Drawn: the addresses of an answer, or `serial N`, or `missing N`; what is made of it while versions 6 and 7 may
    /// be served.
    #[track_caller]
    fn check(question: Question, drawn: &str, expected: Result<Option<u32>, &str>) {
        let mut answer = Message::response(1, OpCode::Query);
        let record = |data| Record::from_rdata(Name::root(), 300, data);
        let soa = |serial: &str| {
            let serial = serial.parse().unwrap();
            record(RData::SOA(rdata::SOA::new(Name::root(), Name::root(), serial, 1, 1, 1, 1)))
        };
        if let Some(serial) = drawn.strip_prefix("serial ") {
            answer.add_answer(soa(serial));
        } else if let Some(serial) = drawn.strip_prefix("missing ") {
            answer.metadata.response_code = ResponseCode::NXDomain;
            answer.add_authority(soa(serial));
        } else {
            for address in drawn.split_whitespace() {
                answer.add_answer(record(RData::A(rdata::A(address.parse().unwrap()))));
            }
        }
        let found = question.judge(&answer, &(6..=7), &pools());
        match (&found, &expected) {
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
            _ => assert_eq!(found, expected.map_err(str::to_owned)),
        }
    }

    #[test]
    fn serials() {
        check(Question::Serial, "serial 6", Ok(Some(6)));
        check(Question::Serial, "serial 7", Ok(Some(7)));
        check(Question::Serial, "serial 5", Err("version 5"));
        check(Question::Serial, "serial 8", Err("version 8"));
        check(Question::Serial, "", Err("no SOA"));
        check(Question::Serial, "missing 7", Err("Non-Existent Domain"));
    }

    #[test]
    fn denials() {
        check(Question::Missing(1), "missing 7", Ok(Some(7)));
        check(Question::Missing(1), "missing 5", Err("version 5"));
        check(Question::Missing(1), "10.0.7.1", Err("No Error"));
    }

    #[test]
    fn addresses_of_versions() {
        check(Question::Changing(1), "10.0.7.2 10.0.7.1 10.0.7.4 10.0.7.3", Ok(Some(7)));
        check(Question::Changing(1), "10.0.8.1 10.0.8.2 10.0.8.3 10.0.8.4", Err("version 8"));
        check(Question::Changing(1), "10.0.7.1 10.0.7.2 10.0.6.3 10.0.7.4", Err("not of one version"));
        check(Question::Changing(1), "10.0.7.1 10.0.7.2 10.0.7.3", Err("not of one version"));
        check(Question::Changing(1), "", Err("not of one version"));
    }

    #[test]
    fn addresses_of_pools() {
        check(Question::Steered(1), "127.0.1.4 127.0.1.1 127.0.1.2 127.0.1.3", Ok(None));
        check(Question::Steered(1), "127.0.2.1 127.0.2.2 127.0.2.3 127.0.2.4", Ok(None));
        check(Question::Steered(1), "127.0.1.1 127.0.1.2 127.0.1.3", Err("neither pool"));
        check(Question::Steered(1), "127.0.1.1 127.0.1.2 127.0.1.3 127.0.2.4", Err("neither pool"));
        check(Question::Moving, "127.0.2.1 127.0.2.3 127.200.0.7", Ok(None));
        check(Question::Moving, "127.200.0.6 127.200.0.7", Ok(None));
        check(Question::Moving, "127.0.2.1 127.200.0.5", Err("not of versions"));
        check(Question::Moving, "", Err("not of versions"));
    }
}
