//! Addresses of databases: `postgres://USER@HOST[:PORT][,HOST[:PORT]...]/DATABASE`.
//!
//! Without the password: it has a key of its own, so that addresses can be printed.
//! Our own parser, because the client library knows one host only and `migrate` is given every node. Connections are
//! plain TCP on the private network, so there are no options to say otherwise.

use std::fmt;

use service_kit::Secret;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

/// One database and the hosts it may be on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dsn {
    pub(crate) user: String,
    pub(crate) password: Secret,
    pub(crate) hosts: Vec<Host>,
    pub(crate) database: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) port: u16,
}

impl Dsn {
    pub(crate) fn parse(text: &str, password: &Secret) -> Result<Self, String> {
        let rest = text
            .strip_prefix("postgres://")
            .or_else(|| text.strip_prefix("postgresql://"))
            .ok_or("does not start with postgres://")?;
        let (user, rest) = rest.rsplit_once('@').ok_or("names no user")?;
        if user.contains(':') {
            return Err("has a password in it; give that by its own key or file".into());
        }
        let (hosts, database) = rest.split_once('/').ok_or("names no database")?;
        let plain = |part: &str| !part.is_empty() && !part.contains(['?', '%', '/', '#']);
        if !plain(user) || !plain(database) {
            return Err("user and database must be plain names, without options".into());
        }
        let hosts = hosts.split(',').map(host).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { user: user.into(), password: password.clone(), hosts, database: database.into() })
    }

    /// What to connect with, for the host at `index`.
    pub(crate) fn options(&self, index: usize) -> PgConnectOptions {
        let host = &self.hosts[index];
        let options = PgConnectOptions::new_without_pgpass()
            .host(&host.name)
            .port(host.port)
            .username(&self.user)
            .database(&self.database)
            .application_name("app")
            .ssl_mode(PgSslMode::Disable);
        match self.password.is_empty() {
            true => options,
            false => options.password(self.password.expose()),
        }
    }
}

fn host(text: &str) -> Result<Host, String> {
    let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, "")) => (name, "5432"),
        Some((name, port)) => {
            (name, port.strip_prefix(':').ok_or("has something odd after an address in brackets")?)
        }
        None => text.split_once(':').unwrap_or((text, "5432")),
    };
    let port =
        port.parse().ok().filter(|port| *port != 0).ok_or("has a port that is no number from 1 to 65535")?;
    match name.is_empty() {
        true => Err("names no host".into()),
        false => Ok(Host { name: name.into(), port }),
    }
}

/// Without the password.
impl fmt::Display for Dsn {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<String> = self.hosts.iter().map(ToString::to_string).collect();
        write!(out, "postgres://{}@{}/{}", self.user, hosts.join(","), self.database)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.contains(':') {
            true => write!(out, "[{}]:{}", self.name, self.port),
            false => write!(out, "{}:{}", self.name, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        let got = Dsn::parse(text, &Secret::default()).map(|dsn| dsn.to_string());
        assert_eq!(got.as_deref().map_err(String::as_str), expected);
    }

    #[test]
    fn one_host_or_several() {
        check("postgres://app@db/fitness", Ok("postgres://app@db:5432/fitness"));
        check("postgresql://app@db:6432/fitness", Ok("postgres://app@db:6432/fitness"));
        check("postgres://app@a:1,b,c:3/fitness", Ok("postgres://app@a:1,b:5432,c:3/fitness"));
        check("postgres://app@[::1]:6432,[::2]/x", Ok("postgres://app@[::1]:6432,[::2]:5432/x"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        check("mysql://app@db/x", Err("does not start with postgres://"));
        check("postgres://db/x", Err("names no user"));
        check("postgres://a:b@db/x", Err("has a password in it; give that by its own key or file"));
        check("postgres://app@db", Err("names no database"));
        check("postgres://app@/x", Err("names no host"));
        check("postgres://app@db:0/x", Err("has a port that is no number from 1 to 65535"));
        check(
            "postgres://app@db/x?sslmode=require",
            Err("user and database must be plain names, without options"),
        );
    }
}
