//! Where statements run.

use std::collections::BTreeMap;

use sqlx::{Executor as _, Row as _};

use crate::cluster::{Cluster, available};
use crate::protocol::with_shared;
use crate::proxy::{Proxy, shared};
use crate::raw::{Raw, bind, execute, parse, query, sync};

#[tokio::test]
async fn reads_are_spread_over_replicas_and_the_rest_is_the_primarys() {
    with_shared!(shared);
    let ports: Vec<u16> = shared.cluster.nodes.iter().map(|node| node.port).collect();
    let pool = shared.proxy.pool(6);
    let mut seen = BTreeMap::<i32, usize>::new();
    for _ in 0..300 {
        let row =
            sqlx::query("SELECT inet_server_port(), pg_is_in_recovery()").fetch_one(&pool).await.unwrap();
        assert!(row.get::<bool, _>(1), "a replica");
        *seen.entry(row.get(0)).or_default() += 1;
    }
    assert_eq!(seen.len(), 2);
    assert!(seen.values().all(|count| *count > 60), "{seen:?}");

    let mut raw = Raw::connect(shared.proxy.address);
    let primary = format!("D{}", ports[0]);
    let where_ = "SELECT inet_server_port()";
    for (sql, answers) in [
        (format!("BEGIN; {where_}; COMMIT"), format!("BEGIN T {primary} SELECT_1 COMMIT ZI")),
        (format!("{where_} FOR UPDATE"), format!("T {primary} SELECT_1 ZI")),
        (format!("WITH x AS (SELECT 1 FOR UPDATE) {where_}"), format!("T {primary} SELECT_1 ZI")),
        (format!("{where_}, pg_backend_pid() > 0"), format!("T {primary},t SELECT_1 ZI")),
        (format!("SET work_mem = '4MB'; {where_}"), format!("SET T {primary} SELECT_1 ZI")),
    ] {
        for _ in 0..4 {
            assert_eq!(raw.ask(&query(&sql)), answers, "{sql}");
        }
    }
    // Step by step, too.
    assert_eq!(raw.ask(&query("BEGIN")), "BEGIN ZT");
    assert_eq!(raw.ask(&query(where_)), format!("T {primary} SELECT_1 ZT"));
    assert_eq!(raw.ask(&query("COMMIT")), "COMMIT ZI");
    let read_only = raw.ask(&query("BEGIN READ ONLY"));
    assert_eq!(read_only, "BEGIN ZT");
    assert_ne!(raw.ask(&query(where_)), format!("T {primary} SELECT_1 ZT"));
    assert_eq!(raw.ask(&query("COMMIT")), "COMMIT ZI");
    assert_eq!(raw.ask(&query("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY")), "BEGIN ZT");
    assert_eq!(raw.ask(&query(where_)), format!("T {primary} SELECT_1 ZT"));
    assert_eq!(raw.ask(&query("ROLLBACK")), "ROLLBACK ZI");
}

#[tokio::test]
async fn a_function_that_writes_in_spite_of_its_declaration_is_caught_and_learnt() {
    with_shared!(shared);
    let mut raw = Raw::connect(shared.proxy.address);
    raw.ask(&query(
        "DROP TABLE IF EXISTS sneaky; CREATE TABLE sneaky (a int); \
         CREATE OR REPLACE FUNCTION sneaky_write(n int) RETURNS int LANGUAGE plpgsql AS \
         'BEGIN INSERT INTO sneaky VALUES (n); RETURN n; END'",
    ));
    shared.cluster.caught_up(0, 1).await;
    shared.cluster.caught_up(0, 2).await;
    let before = shared.proxy.metric("db_proxy_replays_total{reason=\"needs-primary\"}").await;
    for _ in 0..5 {
        assert_eq!(raw.ask(&query("SELECT sneaky_write(1)")), "T D1 SELECT_1 ZI");
    }
    let after = shared.proxy.metric("db_proxy_replays_total{reason=\"needs-primary\"}").await;
    assert_eq!(after - before, 1.0, "caught once, then known");
    // Prepared, in one batch with another read, and in a pipeline behind one.
    let call = [parse("w", "SELECT sneaky_write(2)"), bind("w"), execute(), sync()].concat();
    assert_eq!(raw.ask(&call), "1 2 D2 SELECT_1 ZI");
    assert_eq!(raw.ask(&[bind("w"), execute(), sync()].concat()), "2 D2 SELECT_1 ZI");
    let read = [parse("", "SELECT 0"), bind(""), execute()].concat();
    let write = [parse("", "SELECT sneaky_write(3)"), bind(""), execute()].concat();
    raw.send(&[&read[..], &sync(), &write, &sync(), &read, &sync()].concat());
    let answers = [raw.answer(), raw.answer(), raw.answer()];
    assert_eq!(answers, ["1 2 D0 SELECT_1 ZI", "1 2 D3 SELECT_1 ZI", "1 2 D0 SELECT_1 ZI"]);
    let counts = "BEGIN; SELECT count(*), sum(a) FROM sneaky; COMMIT";
    assert_eq!(raw.ask(&query(counts)), "BEGIN T D8,12 SELECT_1 COMMIT ZI", "each ran exactly once");
    // Unlogged tables cannot be read on a replica either, and say so with another code.
    raw.ask(&query("DROP TABLE IF EXISTS unlogged; CREATE UNLOGGED TABLE unlogged (a int)"));
    shared.cluster.caught_up(0, 1).await;
    shared.cluster.caught_up(0, 2).await;
    assert_eq!(raw.ask(&query("SELECT count(*) FROM unlogged")), "T D0 SELECT_1 ZI");
    // Rows were shown before the write: the error is the client's, and nothing runs twice.
    let late = "SELECT CASE WHEN g < 5 THEN g ELSE sneaky_write(g) END FROM generate_series(1, 5) g";
    let answer = raw.ask(&query(late));
    assert!(answer.ends_with("E25006 ZI") || answer == "T D1 D2 D3 D4 D5 SELECT_5 ZI", "{answer}");
}

#[tokio::test]
async fn without_splitting_everything_is_the_primarys() {
    if !available() {
        return;
    }
    let guard = shared().await;
    let cluster = &guard.as_ref().unwrap().cluster;
    let proxy = Proxy::start(cluster, &[("DB_PROXY_ROUTING__SPLIT", "false")]).await;
    let pool = proxy.pool(4);
    for _ in 0..20 {
        let row = pool.fetch_one("SELECT pg_is_in_recovery()").await.unwrap();
        assert!(!row.get::<bool, _>(0));
    }
}

#[tokio::test]
async fn few_servers_serve_many_clients_and_waiting_ends() {
    if !available() {
        return;
    }
    let guard = shared().await;
    let cluster: &Cluster = &guard.as_ref().unwrap().cluster;
    let limits = [
        ("DB_PROXY_POOL__SERVERS_PER_NODE_MAX", "2"),
        ("DB_PROXY_POOL__QUERY_WAIT_TIMEOUT_MS", "4000"),
        ("DB_PROXY_POOL__WAITING_MAX", "30"),
        ("DB_PROXY_SERVER__TRANSACTION_IDLE_TIMEOUT_MS", "6000"),
        ("DB_PROXY_SERVER__CLIENTS_MAX", "40"),
    ];
    let proxy = Proxy::start(cluster, &limits).await;
    let pool = proxy.pool(24);
    let tasks: Vec<_> = (0..24)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move {
                for _ in 0..20 {
                    pool.execute("SELECT pg_backend_pid()").await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert!(proxy.metric("db_proxy_wait_seconds_count").await > 0.0);
    drop(pool);
    let mut holders: Vec<Raw> = (0..2).map(|_| Raw::connect(proxy.address)).collect();
    for holder in &mut holders {
        assert_eq!(holder.ask(&query("BEGIN; SELECT txid_current() > 0")), "BEGIN T Dt SELECT_1 ZT");
    }
    let mut waiting = Raw::connect(proxy.address);
    assert_eq!(waiting.ask(&query("BEGIN")), "E53300 ZI", "nothing became free");
    assert_eq!(waiting.ask(&query("SELECT 1")), "T D1 SELECT_1 ZI", "replicas are free");
    let (tag, body) = holders[0].receive();
    assert_eq!((tag, crate::raw::code(&body).as_str()), ('E', "25P03"), "it held a server without a word");
    assert_eq!(waiting.ask(&query("BEGIN; COMMIT")), "BEGIN COMMIT ZI");
    // Too many clients.
    let mut all: Vec<Raw> = (0..38).map(|_| Raw::dial(proxy.address)).collect();
    let refused = loop {
        let mut next = Raw::dial(proxy.address);
        next.stream.set_read_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
        match next.try_receive() {
            Ok((_, body)) => break crate::raw::code(&body),
            Err(_) => all.push(next),
        }
    };
    assert_eq!(refused, "53300");
}
