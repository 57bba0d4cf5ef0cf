//! Which pool serves a request, by its host and path. No sockets, no clock.
//!
//! An exact host wins over a wildcard (`*.example.com`: any name below it, the longest first), a wildcard over any host;
//! among routes of one host the longest path prefix wins. Where a host has no route for the path, the next less exact
//! host is asked; where nobody has one, the pool `default` serves. As in the Gateway API's `PathPrefix` a prefix ends at
//! a slash: `/api` and `/api/` are the same and match `/api` and `/api/x`, never `/apis`. Paths are compared as they
//! stand: nothing is decoded, no dots are resolved, case matters. So routes lead requests, they protect nothing.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::limits::RouteLimits;

/// What a request must have: `host` and `path` of `[[routes]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    host: Host,
    /// Without the slash at its end, so empty for every path.
    path: Box<str>,
}

/// Names in small letters.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Any,
    /// What follows `*.`.
    Below(Box<str>),
    Exactly(Box<str>),
}

impl Pattern {
    /// Reads a host (`api.example.com`, `*.example.com`, empty for any) or says what is wrong with it.
    pub(crate) fn new(host: &str, path: &str) -> Result<Self, BadPattern> {
        let name = |text: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:[]".contains(&byte);
            let with_port = !text.ends_with(']') && text.contains(':');
            if text.is_empty() || with_port || !text.bytes().all(plain) {
                return Err(BadPattern::Host);
            }
            Ok(Box::from(text.trim_end_matches('.').to_ascii_lowercase()))
        };
        let host = match host.strip_prefix("*.") {
            _ if host.is_empty() => Host::Any,
            Some(parent) => Host::Below(name(parent)?),
            None => Host::Exactly(name(host)?),
        };
        let plain = |byte: u8| (0x21..=0x7e).contains(&byte) && !b"?#*".contains(&byte);
        if !(path.is_empty() || path.starts_with('/')) || !path.bytes().all(plain) {
            return Err(BadPattern::Path);
        }
        Ok(Self { host, path: Box::from(path.trim_end_matches('/')) })
    }
}

/// What cannot be a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadPattern {
    Host,
    Path,
}

/// Where requests of one pattern go.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    /// For people, logs and metrics: `api.example.com/v1`, `default`.
    pub(crate) name: Arc<str>,
    /// The index of its pool in the configuration.
    pub(crate) pool: usize,
    pub(crate) limits: RouteLimits,
    path: Box<str>,
}

/// All routes, in an order in which the first match is the right one.
#[derive(Debug, Clone)]
pub(crate) struct Router {
    routes: Vec<Route>,
    exact: Vec<Group>,
    below: Vec<Group>,
    any: Vec<usize>,
}

/// The routes of one host: indices, the longest path first.
#[derive(Debug, Clone)]
struct Group {
    host: Box<str>,
    routes: Vec<usize>,
}

impl Router {
    /// What a route allows; `id` is its place in the list that this was made from.
    pub(crate) fn limit(&mut self, id: usize, limits: RouteLimits) {
        self.routes[id].limits = limits;
    }

    /// `routes` with the indices of their pools; everything else goes to pool 0. Fails with the index of a route that
    /// has the same pattern as one before it.
    pub(crate) fn new(patterns: Vec<(Pattern, usize)>) -> Result<Self, usize> {
        let mut router = Self { routes: Vec::new(), exact: Vec::new(), below: Vec::new(), any: Vec::new() };
        for (id, (pattern, pool)) in patterns.into_iter().enumerate() {
            let (prefix, group) = match &pattern.host {
                Host::Any => ("", &mut router.any),
                Host::Below(host) => ("*.", group(&mut router.below, host)),
                Host::Exactly(host) => ("", group(&mut router.exact, host)),
            };
            if group.iter().any(|other| router.routes[*other].path == pattern.path) {
                return Err(id);
            }
            group.push(id);
            let host = match &pattern.host {
                Host::Any => "*",
                Host::Below(host) | Host::Exactly(host) => host,
            };
            let path = if pattern.path.is_empty() { "/" } else { &pattern.path };
            let name = Arc::from(format!("{prefix}{host}{path}"));
            router.routes.push(Route { name, pool, limits: RouteLimits::default(), path: pattern.path });
        }
        let routes = &router.routes;
        let longest_first = |group: &mut Vec<usize>| {
            group.sort_by_key(|route| std::cmp::Reverse(routes[*route].path.len()));
        };
        router.exact.iter_mut().chain(&mut router.below).for_each(|group| longest_first(&mut group.routes));
        longest_first(&mut router.any);
        router.exact.sort_by(|one, other| one.host.cmp(&other.host));
        router.below.sort_by(|one, other| one.host.cmp(&other.host));
        router.routes.push(Route {
            name: Arc::from("default"),
            pool: 0,
            limits: RouteLimits::default(),
            path: Box::from(""),
        });
        Ok(router)
    }

    /// The route of a request: `host` as in its header, perhaps with a port; `path` without a query.
    pub(crate) fn route(&self, host: &str, path: &str) -> &Route {
        let everything_else = self.routes.last().expect("a router has the route of everything else");
        if self.routes.len() == 1 {
            return everything_else;
        }
        let host = bare(host);
        let first = |group: &[usize]| {
            group.iter().map(|route| &self.routes[*route]).find(|route| begins(path, &route.path))
        };
        find(&self.exact, host)
            .and_then(first)
            .or_else(|| parents(host).find_map(|parent| find(&self.below, parent).and_then(first)))
            .or_else(|| first(&self.any))
            .unwrap_or(everything_else)
    }

    /// All routes in the order of the file, the one of everything else last.
    pub(crate) fn routes(&self) -> &[Route] {
        &self.routes
    }
}

fn group<'a>(groups: &'a mut Vec<Group>, host: &str) -> &'a mut Vec<usize> {
    let at = groups.iter().position(|group| &*group.host == host).unwrap_or_else(|| {
        groups.push(Group { host: Box::from(host), routes: Vec::new() });
        groups.len() - 1
    });
    &mut groups[at].routes
}

fn find<'a>(groups: &'a [Group], host: &str) -> Option<&'a [usize]> {
    let at = groups.binary_search_by(|group| compare(&group.host, host)).ok()?;
    Some(&groups[at].routes)
}

/// As bytes, `host` in small letters.
fn compare(lower: &str, host: &str) -> Ordering {
    lower.bytes().cmp(host.bytes().map(|byte| byte.to_ascii_lowercase()))
}

/// Without port and without the dot at the end.
fn bare(host: &str) -> &str {
    let end = match host.rfind(':') {
        Some(colon) if !host.ends_with(']') => colon,
        _ => host.len(),
    };
    host[..end].trim_end_matches('.')
}

/// `a.b.c`: `b.c`, `c`.
fn parents(host: &str) -> impl Iterator<Item = &str> {
    host.match_indices('.').map(|(dot, _)| &host[dot + 1..])
}

fn begins(path: &str, prefix: &str) -> bool {
    prefix.is_empty()
        || path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(target: &str) -> (&str, &str) {
        target.split_at(target.find('/').unwrap_or(target.len()))
    }

    fn router(routes: &str) -> Result<Router, usize> {
        let pattern = |target: &str| {
            let (host, path) = split(target);
            Pattern::new(if host == "-" { "" } else { host }, path).unwrap()
        };
        Router::new(routes.split_whitespace().enumerate().map(|(at, it)| (pattern(it), at + 1)).collect())
    }

    /// `routes` are `host/path`, with `-` for any host; which one serves `target`, by the place of its letter: `a` is the
    /// first, `.` none of them.
    #[track_caller]
    fn check(routes: &str, target: &str, expected: char) {
        let router = router(routes).unwrap();
        let (host, path) = split(target);
        let route = router.route(host, path);
        let got = if route.pool == 0 { '.' } else { ('a'..).nth(route.pool - 1).unwrap() };
        assert_eq!(got, expected, "{target} in {routes}");
    }

    #[test]
    fn without_routes_everything_is_the_defaults() {
        check("", "example.com/", '.');
    }

    #[test]
    fn a_host_is_matched_whatever_its_case_port_and_last_dot() {
        check("example.com", "example.com/", 'a');
        check("example.com", "EXAMPLE.com/x", 'a');
        check("Example.COM", "example.com/", 'a');
        check("example.com", "example.com:8080/", 'a');
        check("example.com", "example.com./", 'a');
        check("example.com.", "example.com/", 'a');
        check("example.com", "www.example.com/", '.');
        check("example.com", "example.co/", '.');
        check("example.com", "/", '.');
        check("[::1]", "[::1]:80/", 'a');
        check("[::1]", "[::1]/", 'a');
        check("192.0.2.1", "192.0.2.1:80/", 'a');
    }

    #[test]
    fn a_wildcard_is_every_name_below_but_not_the_name_itself() {
        check("*.example.com", "a.example.com/", 'a');
        check("*.example.com", "a.B.example.com:1/", 'a');
        check("*.example.com", "example.com/", '.');
        check("*.example.com", "badexample.com/", '.');
        check("*.example.com", ".example.com/", 'a');
    }

    #[test]
    fn the_more_exact_host_wins() {
        check("-/ *.example.com www.example.com", "www.example.com/", 'c');
        check("-/ *.example.com www.example.com", "api.example.com/", 'b');
        check("-/ *.example.com www.example.com", "example.org/", 'a');
        check("*.com *.example.com", "a.example.com/", 'b');
        check("*.com *.b.example.com", "a.example.com/", 'a');
    }

    #[test]
    fn the_longest_path_wins() {
        check("-/ -/api -/api/v2", "h/", 'a');
        check("-/ -/api -/api/v2", "h/api", 'b');
        check("-/ -/api -/api/v2", "h/api/v1", 'b');
        check("-/api/v2 -/api -/", "h/api/v2/x", 'a');
    }

    #[test]
    fn a_prefix_ends_at_a_slash() {
        check("-/api", "h/apis", '.');
        check("-/api/", "h/api", 'a');
        check("-/api/", "h/api/", 'a');
        check("-/api/", "h/apis", '.');
        check("-/api", "h/API", '.');
        check("-/api", "h//api", '.');
        check("-/api", "h/%61pi", '.');
    }

    #[test]
    fn an_asterisk_is_below_no_path() {
        let router = router("-/api -/").unwrap();
        assert_eq!(router.route("h", "*").pool, 2);
    }

    #[test]
    fn a_host_without_the_path_leaves_it_to_the_next() {
        check("www.example.com/api *.example.com/img -/", "www.example.com/api/1", 'a');
        check("www.example.com/api *.example.com/img -/", "www.example.com/img/1", 'b');
        check("www.example.com/api *.example.com/img -/", "www.example.com/x", 'c');
        check("www.example.com/api *.example.com/img", "www.example.com/x", '.');
        check("*.example.com/x *.com/", "a.example.com/y", 'b');
    }

    #[test]
    fn many_hosts_are_each_found() {
        let hosts: Vec<String> = (0..500).map(|nth| format!("h{nth}.example.com")).collect();
        let router = router(&hosts.join(" ")).unwrap();
        for (at, host) in hosts.iter().enumerate() {
            assert_eq!(router.route(host, "/").pool, at + 1);
        }
    }

    #[test]
    fn names_say_host_and_path() {
        let router = router("A.example.com/x/ *.example.com -/y").unwrap();
        let names: Vec<_> = router.routes().iter().map(|route| &*route.name).collect();
        assert_eq!(names, ["a.example.com/x", "*.example.com/", "*/y", "default"]);
    }

    #[test]
    fn the_same_pattern_twice_is_one_too_many() {
        assert_eq!(router("a.example.com/x -/ A.example.com/x/").unwrap_err(), 2);
        assert_eq!(router("-/ -/").unwrap_err(), 1);
        assert!(router("*.example.com example.com -/").is_ok());
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for host in ["*", "a b", "*.", "a.*.b", "a:80", "a/b", "**.a"] {
            assert_eq!(Pattern::new(host, "/"), Err(BadPattern::Host), "{host}");
        }
        for path in ["api", "/a?b", "/a b", "/*", "/ä"] {
            assert_eq!(Pattern::new("a", path), Err(BadPattern::Path), "{path}");
        }
    }
}
