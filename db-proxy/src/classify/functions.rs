//! Which functions only read.
//!
//! The list holds the names in `pg_catalog` of Postgres 17 whose overloads are all immutable or stable, less those that
//! tell about the server process rather than the data, plus a few volatile ones that do no harm on a replica. A function of
//! the same name in another schema counts as unknown only when it is called with its schema.

use std::collections::HashSet;
use std::sync::LazyLock;

static CATALOGUE: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| include_str!("catalogue_functions.txt").lines().collect());

/// Functions that the operator declares free of side effects.
#[derive(Debug, Clone, Default)]
pub struct ReadFunctions(HashSet<String>);

impl ReadFunctions {
    /// Names as they are called: `name` or `schema.name`.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().collect())
    }

    /// Whether a call by this name only reads.
    pub(super) fn only_reads(&self, schema: Option<&str>, name: &str) -> bool {
        match schema {
            None => CATALOGUE.contains(name) || self.0.contains(name),
            Some("pg_catalog") => CATALOGUE.contains(name),
            Some(schema) => self.0.contains(&format!("{schema}.{name}")),
        }
    }
}

/// Functions that change the session when they succeed.
pub(super) fn disturbs_session(name: &str) -> bool {
    name == "set_config"
        || (name.starts_with("pg_") && name.contains("advisory_lock") && !name.contains("xact"))
}

/// Relations that show the server itself: their rows mean another thing on another node.
pub(super) fn is_about_the_node(schema: Option<&str>, relation: &str) -> bool {
    matches!(schema, None | Some("pg_catalog"))
        && (relation.starts_with("pg_stat") && relation != "pg_statistic" && relation != "pg_stats"
            || matches!(
                relation,
                "pg_locks"
                    | "pg_cursors"
                    | "pg_prepared_statements"
                    | "pg_prepared_xacts"
                    | "pg_replication_slots"
                    | "pg_replication_origin_status"
                    | "pg_settings"
                    | "pg_file_settings"
                    | "pg_hba_file_rules"
                    | "pg_backend_memory_contexts"
                    | "pg_shmem_allocations"
                    | "pg_aios"
            ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_lower_case_names() {
        let names: Vec<_> = include_str!("catalogue_functions.txt").lines().collect();
        assert!(names.len() > 400);
        assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "sorted, no name twice");
    }

    #[test]
    fn what_changes_things_is_not_on_it() {
        for name in [
            "nextval",
            "set_config",
            "pg_advisory_lock",
            "pg_notify",
            "lo_create",
            "txid_current",
            "query_to_xml",
        ] {
            assert!(!CATALOGUE.contains(name), "{name}");
        }
    }
}
