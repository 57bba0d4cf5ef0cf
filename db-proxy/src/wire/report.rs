//! ErrorResponse: written for the proxy's own errors, read for the servers'.

use super::frame::{HEADER_BYTES, split_text};

/// How bad an error is for the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The statement failed; the connection goes on.
    Error,
    /// The connection ends.
    Fatal,
}

/// SQLSTATE codes that the proxy itself reports or looks for.
pub mod sqlstate {
    /// connection_failure
    pub const CONNECTION_FAILURE: &str = "08006";
    /// transaction_resolution_unknown
    pub const RESOLUTION_UNKNOWN: &str = "08007";
    /// protocol_violation
    pub const PROTOCOL_VIOLATION: &str = "08P01";
    /// invalid_password
    pub const INVALID_PASSWORD: &str = "28P01";
    /// feature_not_supported
    pub const NOT_SUPPORTED: &str = "0A000";
    /// read_only_sql_transaction
    pub const READ_ONLY: &str = "25006";
    /// idle_in_transaction_session_timeout
    pub const IDLE_IN_TRANSACTION: &str = "25P03";
    /// idle_session_timeout
    pub const IDLE_SESSION: &str = "57P05";
    /// too_many_connections
    pub const TOO_MANY_CONNECTIONS: &str = "53300";
    /// configuration_limit_exceeded
    pub const LIMIT_EXCEEDED: &str = "53400";
    /// program_limit_exceeded
    pub const TOO_LARGE: &str = "54000";
    /// admin_shutdown
    pub const SHUTDOWN: &str = "57P01";
    /// cannot_connect_now
    pub const CANNOT_CONNECT_NOW: &str = "57P03";
}

/// An error as the proxy tells it: what, where, remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// ERROR or FATAL.
    pub severity: Severity,
    /// SQLSTATE.
    pub code: &'static str,
    /// What happened.
    pub message: String,
    /// Where, and what was seen.
    pub detail: String,
    /// What to do.
    pub hint: &'static str,
}

impl Report {
    /// An error that ends the connection.
    pub fn fatal(
        code: &'static str,
        message: impl Into<String>,
        detail: impl Into<String>,
        hint: &'static str,
    ) -> Self {
        Self { severity: Severity::Fatal, code, message: message.into(), detail: detail.into(), hint }
    }

    /// An error after which the connection goes on.
    pub fn error(
        code: &'static str,
        message: impl Into<String>,
        detail: impl Into<String>,
        hint: &'static str,
    ) -> Self {
        Self { severity: Severity::Error, ..Self::fatal(code, message, detail, hint) }
    }

    /// Appends the message.
    pub fn put(&self, out: &mut Vec<u8>) {
        let severity = match self.severity {
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
        };
        let at = out.len();
        out.extend([b'E', 0, 0, 0, 0]);
        let fields = [
            (b'S', severity),
            (b'V', severity),
            (b'C', self.code),
            (b'M', &self.message),
            (b'D', &self.detail),
            (b'H', self.hint),
        ];
        for (tag, value) in fields {
            if !value.is_empty() {
                out.push(tag);
                // A NUL would end the field early and let the rest pose as other fields.
                out.extend(value.bytes().filter(|&byte| byte != 0));
                out.push(0);
            }
        }
        out.push(0);
        let length = (out.len() - at - 1) as u32;
        out[at + 1..at + HEADER_BYTES].copy_from_slice(&length.to_be_bytes());
    }
}

/// The fields of a server's ErrorResponse that decide something. Missing fields are empty, also the SQLSTATE.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerError {
    /// ERROR, FATAL or PANIC, never translated.
    pub severity: String,
    /// SQLSTATE.
    pub code: String,
    /// The primary message.
    pub message: String,
}

impl ServerError {
    /// Reads the body of an ErrorResponse.
    pub fn parse(mut body: &[u8]) -> Self {
        let mut error = Self::default();
        while let Some((&field, rest)) = body.split_first() {
            let Some((value, rest)) = split_text(rest) else { break };
            let value = || String::from_utf8_lossy(value).into_owned();
            match field {
                b'V' => error.severity = value(),
                b'C' => error.code = value(),
                b'M' => error.message = value(),
                _ => {}
            }
            body = rest;
        }
        error
    }

    /// The server ends the connection after this.
    pub fn is_fatal(&self) -> bool {
        matches!(self.severity.as_str(), "FATAL" | "PANIC")
    }

    /// What a standby says to a statement that only a primary can run.
    pub fn needs_primary(&self) -> bool {
        // Not every refusal has a code of its own: unlogged tables, WAL functions and large objects use general codes.
        match self.code.as_str() {
            sqlstate::READ_ONLY => true,
            "0A000" | "55000" => self.message.contains("recovery") || self.message.contains("hot standby"),
            "XX000" => self.message.contains("recovery") || self.message.contains("read-only"),
            _ => false,
        }
    }

    /// The statement failed because of where it ran, and may do well elsewhere.
    pub fn is_local_to_node(&self) -> bool {
        match self.code.as_str() {
            // Replay of the primary's changes had to win over this query.
            "40001" | "40P01" => self.message.contains("recovery"),
            // Shutdown, crash of a sibling, starting up.
            "57P01" | "57P02" | "57P03" => true,
            code => code.starts_with("08"),
        }
    }

    /// A prepared statement's rows changed their shape (DDL since it was prepared).
    pub fn is_stale_plan(&self) -> bool {
        self.code == "0A000" && self.message.contains("cached plan must not change result type")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let mut out = Vec::new();
        Report::fatal("53300", "no room", "at the door\0Cxx", "come later").put(&mut out);
        assert_eq!(out.len(), 1 + u32::from_be_bytes([out[1], out[2], out[3], out[4]]) as usize);
        let read = ServerError::parse(&out[5..]);
        assert_eq!(
            (read.severity.as_str(), read.code.as_str(), read.message.as_str()),
            ("FATAL", "53300", "no room")
        );
        assert!(read.is_fatal());
    }

    #[test]
    fn an_error_without_a_code_or_an_end_is_survived() {
        assert_eq!(ServerError::parse(b"Mhello\0\0").code, "");
        assert_eq!(ServerError::parse(b"Mhello").message, "");
    }

    #[track_caller]
    fn check(code: &str, message: &str, expected: &str) {
        let error = ServerError { severity: "ERROR".into(), code: code.into(), message: message.into() };
        let got = match (error.needs_primary(), error.is_local_to_node(), error.is_stale_plan()) {
            (true, false, false) => "primary",
            (false, true, false) => "elsewhere",
            (false, false, true) => "prepare again",
            _ => "client",
        };
        assert_eq!(got, expected, "{code} {message}");
    }

    #[test]
    fn errors_of_a_standby_go_to_the_primary() {
        check("25006", "cannot execute INSERT in a read-only transaction", "primary");
        check("0A000", "cannot access temporary or unlogged relations during recovery", "primary");
        check("0A000", "cannot use serializable mode in a hot standby", "primary");
        check("55000", "recovery is in progress", "primary");
        check("XX000", "cannot assign OIDs during recovery", "primary");
        check("55000", "currval of sequence is not yet defined in this session", "client");
        check("0A000", "cached plan must not change result type", "prepare again");
    }

    #[test]
    fn recovery_conflicts_and_shutdowns_go_elsewhere() {
        check("40001", "canceling statement due to conflict with recovery", "elsewhere");
        check("40001", "could not serialize access due to concurrent update", "client");
        check("57P01", "terminating connection due to administrator command", "elsewhere");
        check("57014", "canceling statement due to user request", "client");
        check("23505", "duplicate key", "client");
    }
}
