//! Each statement with its class and effects. `R` read, `W` write, `B`/`b` begin read-write/read-only, `C` commit, `A`
//! rollback, `D` deallocate, `-` nothing.

use super::*;

#[track_caller]
fn check(sql: &str, expected: &str) {
    let functions = ReadFunctions::new(["search_exercises".to_owned(), "app.find".to_owned()]);
    let got = Classifier::new(functions, 100_000).classify(sql.as_bytes());
    let class = match got.class {
        Class::Nothing => "-",
        Class::Read => "R",
        Class::Write => "W",
        Class::Begin { read_only: false } => "B",
        Class::Begin { read_only: true } => "b",
        Class::End { commit: true } => "C",
        Class::End { commit: false } => "A",
        Class::Deallocate => "D",
    };
    let effects = got.effects.iter().map(|effect| match effect {
        Effect::Set { name, sql } => format!(" set({name}|{sql})"),
        Effect::Reset { name } => format!(" reset({name})"),
        Effect::ResetAll => " reset-all".to_owned(),
        Effect::DiscardAll => " discard-all".to_owned(),
        Effect::Deallocate { name } => format!(" deallocate({})", name.as_deref().unwrap_or("*")),
        Effect::RollbackTo => " rollback-to".to_owned(),
        Effect::Disturbs => " disturbs".to_owned(),
    });
    assert_eq!(format!("{class}{}", effects.collect::<String>()), expected, "{sql}");
}

#[test]
fn plain_reads() {
    check("SELECT 1", "R");
    check("select a, count(*) from t join u using (id) where b = $1 group by 1 order by 2 limit 3", "R");
    check("TABLE t", "R");
    check("VALUES (1), (2)", "R");
    check("SHOW search_path", "R");
    check("WITH a AS (SELECT 1) SELECT * FROM a UNION SELECT lower(x) FROM t", "R");
    check(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<9) SELECT sum(i) FROM n",
        "R",
    );
    check("SELECT * FROM generate_series(1, 3) g, LATERAL (SELECT max(v) FROM t WHERE t.k = g) x", "R");
    check("SELECT a FILTER_ FROM (SELECT row_number() OVER (PARTITION BY a ORDER BY b) a FROM t) q", "R");
    check(
        "SELECT '{\"a\":1}'::jsonb -> 'a', x::text, now(), current_date, coalesce(a, b), a AT TIME ZONE 'UTC' FROM t",
        "R",
    );
    check("SELECT extract(epoch FROM now()), substring('abc' from 2), trim('x'), position('a' in 'b')", "R");
    check("SELECT pg_is_in_recovery(), inet_server_port()", "R");
    check("SELECT /* for update */ 1 -- insert", "R");
    check("SELECT embedding <=> $1 FROM exercises ORDER BY embedding <=> $1 LIMIT 10", "R");
    check("SELECT * FROM JSON_TABLE('[]', '$[*]' COLUMNS (a int PATH '$.a')) t", "R");
    check("EXPLAIN SELECT 1", "R");
    check("EXPLAIN ANALYZE SELECT * FROM t", "R");
    check("COPY t TO STDOUT", "R");
    check("COPY (SELECT 1) TO STDOUT WITH (FORMAT csv)", "R");
    check("SELECT 1; SELECT 2;", "R");
    check("", "-");
    check(" ; -- nothing", "-");
}

#[test]
fn locks_anywhere_are_writes() {
    for lock in ["FOR UPDATE", "FOR NO KEY UPDATE", "FOR SHARE", "FOR KEY SHARE", "FOR UPDATE SKIP LOCKED"] {
        check(&format!("SELECT 1 FROM t {lock}"), "W");
        check(&format!("WITH a AS (SELECT 1 FROM t {lock}) SELECT count(*) FROM a"), "W");
        check(&format!("SELECT count(*) FROM (SELECT 1 FROM t {lock}) x"), "W");
        check(&format!("SELECT EXISTS (SELECT 1 FROM t {lock})"), "W");
    }
}

#[test]
fn writes_anywhere_are_writes() {
    check("INSERT INTO t VALUES (1)", "W");
    check("UPDATE t SET a = 1", "W");
    check("DELETE FROM t", "W");
    check("MERGE INTO t USING u ON t.a=u.a WHEN MATCHED THEN DELETE", "W");
    check("WITH a AS (INSERT INTO t VALUES (1) RETURNING *) SELECT * FROM a", "W");
    check("WITH a AS (DELETE FROM t RETURNING *) SELECT count(*) FROM a", "W");
    check("SELECT 1 INTO t2", "W");
    check("SELECT 1 INTO TEMP t2", "W disturbs");
    check("CREATE TABLE t AS SELECT 1", "W");
    check("EXPLAIN ANALYZE INSERT INTO t VALUES (1)", "W");
    check("EXPLAIN INSERT INTO t VALUES (1)", "W");
    check("COPY t FROM STDIN", "W");
    check("COPY t TO '/file'", "W");
    check("COPY t TO PROGRAM 'cat'", "W");
    check("COPY (INSERT INTO t VALUES (1) RETURNING *) TO STDOUT", "W");
    check("SELECT 1; INSERT INTO t VALUES (1)", "W");
    check("INSERT INTO t VALUES (1); SELECT 1", "W");
    check("VACUUM", "W");
    check("LOCK TABLE t", "W");
    check("TRUNCATE t", "W");
    check("NOTIFY a", "W");
    check("REFRESH MATERIALIZED VIEW m", "W");
    check("PREPARE TRANSACTION 'a'", "W");
}

#[test]
fn functions_go_by_name() {
    check("SELECT nextval('s')", "W");
    check("SELECT upsert_ttl(1)", "W");
    check("SELECT * FROM upsert_ttl(1)", "W");
    check("SELECT lower(upsert_ttl(1))", "W");
    check("SELECT a FROM t ORDER BY upsert_ttl(a)", "W");
    check("SELECT pg_notify('a', 'b')", "W");
    check("SELECT txid_current()", "W");
    check("SELECT lo_create(0)", "W");
    check("SELECT pg_advisory_lock(1)", "W disturbs");
    check("SELECT pg_advisory_xact_lock(1)", "W");
    check("INSERT INTO t SELECT pg_try_advisory_lock(1)", "W disturbs");
    check("SELECT set_config('a.b', 'c', false)", "W disturbs");
    check("SELECT pg_backend_pid()", "W");
    check("SELECT name FROM search_exercises($1, $2)", "R");
    check("SELECT app.find(1)", "R");
    check("SELECT find(1)", "W");
    check("SELECT other.search_exercises(1)", "W");
    check("SELECT pg_catalog.lower('a')", "R");
    check("SELECT evil.lower('a')", "W");
    check("SELECT \"Lower\"('a')", "W");
}

#[test]
fn the_servers_own_state_is_the_primarys() {
    check("SELECT * FROM pg_stat_activity", "W");
    check("SELECT * FROM pg_catalog.pg_locks", "W");
    check("SELECT relname FROM pg_class", "R");
    check("SELECT * FROM mine.pg_locks", "R");
}

#[test]
fn transactions() {
    check("BEGIN", "B");
    check("START TRANSACTION ISOLATION LEVEL REPEATABLE READ", "B");
    check("BEGIN READ ONLY", "b");
    check("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY", "b");
    check("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY", "B");
    check("BEGIN READ WRITE", "B");
    check("COMMIT", "C");
    check("END", "C");
    check("ROLLBACK", "A");
    check("ABORT", "A");
    check("SAVEPOINT a", "W");
    check("ROLLBACK TO a", "W rollback-to");
    check("BEGIN; INSERT INTO t VALUES (1); COMMIT", "W");
}

#[test]
fn session_state() {
    check("SET search_path TO a, b", "W set(search_path|SET search_path TO a, b)");
    check("SET TIME ZONE 'UTC'; SELECT 1", "W set(timezone|SET TIME ZONE 'UTC')");
    check("SET LOCAL x.y = 1", "W");
    check("SET TRANSACTION READ ONLY", "W");
    check("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "W disturbs");
    check("SET Statement_Timeout TO DEFAULT", "W reset(statement_timeout)");
    check("RESET work_mem", "W reset(work_mem)");
    check("RESET ALL", "W reset-all");
    check("DISCARD ALL", "W discard-all");
    check("DISCARD TEMP", "W disturbs");
    check("DEALLOCATE a", "D deallocate(a)");
    check("DEALLOCATE ALL", "D deallocate(*)");
    check("LISTEN a", "W disturbs");
    check("PREPARE p AS SELECT 1", "W disturbs");
    check("CREATE TEMP TABLE x (a int)", "W disturbs");
    check("CREATE TABLE x (a int)", "W");
    check("CREATE TEMP TABLE x AS SELECT 1", "W disturbs");
    check("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "W disturbs");
    check("DECLARE c CURSOR FOR SELECT 1", "W");
    check("DO $$ BEGIN END $$", "W disturbs");
}

#[test]
fn what_is_not_understood_is_a_write() {
    check("SELEC 1", "W");
    check("SELECT 1 +", "W");
    check("SELECT 'unfinished", "W");
    check("SELECT 1\0", "W");
    assert_eq!(Classifier::new(ReadFunctions::default(), 100).classify(b"SELECT '\xff'").class, Class::Write);
    assert_eq!(Classifier::new(ReadFunctions::default(), 5).classify(b"SELECT 1").class, Class::Write);
}

#[test]
fn deep_trees_cost_no_stack() {
    let check_on_a_small_stack = |sql: String, expected: &'static str| {
        let run = move || check(&sql, expected);
        std::thread::Builder::new().stack_size(512 * 1024).spawn(run).unwrap().join().unwrap();
    };
    check_on_a_small_stack(format!("SELECT 1{}", "+1".repeat(40_000)), "R");
    check_on_a_small_stack(format!("SELECT {}1", "- ".repeat(20_000)), "W");
    check_on_a_small_stack(format!("SELECT {}1{}", "(".repeat(40_000), ")".repeat(40_000)), "W");
    check_on_a_small_stack(format!("SELECT {}1{}", "f(".repeat(3_000), ")".repeat(3_000)), "W");
}
