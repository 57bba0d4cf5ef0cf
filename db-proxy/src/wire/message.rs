//! Messages that the proxy writes itself.

/// Appends one message whose body `fill` writes.
fn put(out: &mut Vec<u8>, tag: u8, fill: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    sized(out, fill);
}

fn sized(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend([0; 4]);
    fill(out);
    let length = (out.len() - at) as u32;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

fn text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend(text);
    out.push(0);
}

/// Where a transaction stands, as in ReadyForQuery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Outside of a transaction.
    Idle,
    /// Inside one.
    InTransaction,
    /// Inside one that can only be rolled back.
    Failed,
}

impl Status {
    /// Reads the byte of ReadyForQuery.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'I' => Some(Self::Idle),
            b'T' => Some(Self::InTransaction),
            b'E' => Some(Self::Failed),
            _ => None,
        }
    }
}

/// Messages to clients.
pub mod to_client {
    use super::{Status, put, text};
    use crate::wire::startup::CancelKey;

    /// `1`
    pub const PARSE_COMPLETE: [u8; 5] = [b'1', 0, 0, 0, 4];
    /// `3`
    pub const CLOSE_COMPLETE: [u8; 5] = [b'3', 0, 0, 0, 4];

    /// `R` with code 10: the mechanisms.
    pub fn sasl_mechanisms(out: &mut Vec<u8>) {
        put(out, b'R', |body| {
            body.extend(10u32.to_be_bytes());
            body.extend(b"SCRAM-SHA-256\0\0");
        });
    }

    /// `R` with code 11: the server's first message.
    pub fn sasl_continue(out: &mut Vec<u8>, data: &[u8]) {
        put(out, b'R', |body| {
            body.extend(11u32.to_be_bytes());
            body.extend(data);
        });
    }

    /// `R` with code 12, then `R` with code 0: the server's proof, and the door is open.
    pub fn sasl_final_and_ok(out: &mut Vec<u8>, data: &[u8]) {
        put(out, b'R', |body| {
            body.extend(12u32.to_be_bytes());
            body.extend(data);
        });
        put(out, b'R', |body| body.extend(0u32.to_be_bytes()));
    }

    /// `S`
    pub fn parameter_status(out: &mut Vec<u8>, name: &str, value: &str) {
        put(out, b'S', |body| {
            text(body, name.as_bytes());
            text(body, value.as_bytes());
        });
    }

    /// `K`
    pub fn backend_key(out: &mut Vec<u8>, key: CancelKey) {
        put(out, b'K', |body| {
            body.extend(key.process_id.to_be_bytes());
            body.extend(key.secret.to_be_bytes());
        });
    }

    /// `v`: the newest minor version spoken here is 0, and none of these options are known.
    pub fn negotiate_version(out: &mut Vec<u8>, unknown_options: &[String]) {
        put(out, b'v', |body| {
            body.extend((3u32 << 16).to_be_bytes());
            body.extend((unknown_options.len() as u32).to_be_bytes());
            for option in unknown_options {
                text(body, option.as_bytes());
            }
        });
    }

    /// `Z`
    pub fn ready(out: &mut Vec<u8>, status: Status) {
        let byte = match status {
            Status::Idle => b'I',
            Status::InTransaction => b'T',
            Status::Failed => b'E',
        };
        put(out, b'Z', |body| body.push(byte));
    }

    /// `C`
    pub fn command_complete(out: &mut Vec<u8>, tag: &str) {
        put(out, b'C', |body| text(body, tag.as_bytes()));
    }

    /// `I`
    pub fn empty_query(out: &mut Vec<u8>) {
        put(out, b'I', |_| {});
    }
}

/// Messages to servers.
pub mod to_server {
    use super::{put, sized, text};

    /// The startup packet.
    pub fn startup(out: &mut Vec<u8>, parameters: &[(&str, &str)]) {
        sized(out, |body| {
            body.extend((3u32 << 16).to_be_bytes());
            for (name, value) in parameters {
                text(body, name.as_bytes());
                text(body, value.as_bytes());
            }
            body.push(0);
        });
    }

    /// A CancelRequest packet.
    pub fn cancel(out: &mut Vec<u8>, process_id: i32, secret: &[u8]) {
        sized(out, |body| {
            body.extend(80_877_102u32.to_be_bytes());
            body.extend(process_id.to_be_bytes());
            body.extend(secret);
        });
    }

    /// `p`: SASLInitialResponse.
    pub fn sasl_initial(out: &mut Vec<u8>, mechanism: &str, data: &[u8]) {
        put(out, b'p', |body| {
            text(body, mechanism.as_bytes());
            body.extend((data.len() as u32).to_be_bytes());
            body.extend(data);
        });
    }

    /// `p`: SASLResponse, or a password with its NUL already there.
    pub fn password(out: &mut Vec<u8>, data: &[u8]) {
        put(out, b'p', |body| body.extend(data));
    }

    /// `Q`
    pub fn query(out: &mut Vec<u8>, sql: &str) {
        put(out, b'Q', |body| text(body, sql.as_bytes()));
    }

    /// `P`; `types` is the tail of a Parse message: the count and the parameter types.
    pub fn parse(out: &mut Vec<u8>, name: &str, sql: &[u8], types: &[u8]) {
        put(out, b'P', |body| {
            text(body, name.as_bytes());
            text(body, sql);
            body.extend(types);
        });
    }

    /// `D` of a statement.
    pub fn describe_statement(out: &mut Vec<u8>, name: &str) {
        put(out, b'D', |body| {
            body.push(b'S');
            text(body, name.as_bytes());
        });
    }

    /// `C` of a statement.
    pub fn close_statement(out: &mut Vec<u8>, name: &str) {
        put(out, b'C', |body| {
            body.push(b'S');
            text(body, name.as_bytes());
        });
    }

    /// The head of a Bind with its statement's name replaced; `rest_bytes` of formats and values follow.
    pub fn bind_head(out: &mut Vec<u8>, portal: &[u8], statement: &str, rest_bytes: usize) {
        let length = 4 + portal.len() + 1 + statement.len() + 1 + rest_bytes;
        out.push(b'B');
        out.extend((length as u32).to_be_bytes());
        text(out, portal);
        text(out, statement.as_bytes());
    }

    /// `X`
    pub const TERMINATE: [u8; 5] = [b'X', 0, 0, 0, 4];
}
