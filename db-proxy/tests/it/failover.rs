//! What happens when nodes die, stand still, and come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use sqlx::postgres::PgPool;
use sqlx::{Executor as _, Row as _};

use crate::cluster::{Cluster, available, eventually};
use crate::proxy::Proxy;
use crate::raw::{Raw, query};

/// Reads without pause; every error is kept.
struct Reader {
    stop: Arc<AtomicBool>,
    reads: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<(Vec<String>, Duration)>,
}

impl Reader {
    fn start(pool: PgPool) -> Self {
        let (stop, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopping, count) = (Arc::clone(&stop), Arc::clone(&reads));
        let task = tokio::spawn(async move {
            let (mut errors, mut slowest) = (Vec::new(), Duration::ZERO);
            while !stopping.load(Ordering::Relaxed) {
                let started = Instant::now();
                let read =
                    sqlx::query_as::<_, (i64,)>("SELECT count(*) FROM ledger WHERE id >= $1").bind(0_i64);
                match read.fetch_one(&pool).await {
                    Ok(_) => drop(count.fetch_add(1, Ordering::Relaxed)),
                    Err(error) => errors.push(error.to_string()),
                }
                slowest = slowest.max(started.elapsed());
            }
            (errors, slowest)
        });
        Self { stop, reads, task }
    }

    async fn goes_on(&self) {
        let before = self.reads.load(Ordering::Relaxed);
        eventually("reads go on", async || self.reads.load(Ordering::Relaxed) > before + 20).await;
    }

    /// No read may have failed.
    async fn finish(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        let (errors, slowest) = self.task.await.unwrap();
        assert!(errors.is_empty(), "{} reads failed, first: {}", errors.len(), errors[0]);
        println!("{} reads, slowest {} ms", self.reads.load(Ordering::Relaxed), slowest.as_millis());
        slowest
    }
}

async fn ledger(cluster: &Cluster, proxy: &Proxy) -> PgPool {
    let pool = proxy.pool(6);
    pool.execute("CREATE TABLE ledger (id bigint PRIMARY KEY)").await.unwrap();
    cluster.caught_up(0, 1).await;
    cluster.caught_up(0, 2).await;
    pool
}

async fn insert(pool: &PgPool, id: i64) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO ledger VALUES ($1)").bind(id).execute(pool).await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_primary_is_replaced_without_a_failed_read_and_writes_wait() {
    if !available() {
        return;
    }
    let mut cluster = Cluster::start().await;
    let proxy = Proxy::start(&cluster, &[]).await;
    let pool = ledger(&cluster, &proxy).await;
    insert(&pool, 1).await.unwrap();
    cluster.caught_up(0, 1).await;
    let reader = Reader::start(pool.clone());
    reader.goes_on().await;
    let mut in_transaction = Raw::connect(proxy.address);
    assert_eq!(in_transaction.ask(&query("BEGIN; INSERT INTO ledger VALUES (99)")), "BEGIN INSERT_0_1 ZT");

    cluster.kill(0);
    let (tag, body) = in_transaction.receive();
    assert_eq!(
        (tag, crate::raw::code(&body).as_str()),
        ('E', "08006"),
        "the transaction is gone, and says so"
    );
    eventually("the loss is seen", async || {
        proxy.metric("db_proxy_node_role{node=\"pg-1\",role=\"down\"}").await == 1.0
    })
    .await;
    // Writes begun now wait for the new primary instead of failing.
    let writers: Vec<_> = (2..6)
        .map(|id| {
            let pool = pool.clone();
            tokio::spawn(async move { insert(&pool, id).await })
        })
        .collect();
    reader.goes_on().await;
    cluster.sql(1, "SELECT pg_promote(true, 20)").await;
    let promoted = Instant::now();
    for writer in writers {
        writer.await.unwrap().unwrap();
    }
    println!("writes came back {} ms after the promotion", promoted.elapsed().as_millis());
    reader.goes_on().await;
    reader.finish().await;
    let rows = pool.fetch_one("BEGIN; SELECT array_agg(id ORDER BY id)::text FROM ledger; COMMIT").await;
    let row = match rows {
        Ok(row) => row.get::<String, _>(0),
        Err(error) => panic!("{error}"),
    };
    assert_eq!(row, "{1,2,3,4,5}");

    // The old primary comes back, still believing in itself: it is fenced.
    cluster.start_node(0).await;
    eventually("the old primary is fenced", async || {
        proxy.metric("db_proxy_node_role{node=\"pg-1\",role=\"fenced\"}").await == 1.0
    })
    .await;
    for id in 10..40 {
        insert(&pool, id).await.unwrap();
        let row = pool.fetch_one("BEGIN; SELECT inet_server_port(); COMMIT").await.unwrap();
        assert_eq!(row.get::<i32, _>(0), i32::from(cluster.nodes[1].port));
    }
    let old = cluster
        .connect(0, "postgres", "fitness")
        .await
        .fetch_one("SELECT count(*) FROM ledger")
        .await
        .unwrap();
    assert_eq!(old.get::<i64, _>(0), 1, "nothing was written there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_stands_still_is_found_and_fenced_when_it_wakes() {
    if !available() {
        return;
    }
    let cluster = Cluster::start().await;
    let proxy = Proxy::start(&cluster, &[("DB_PROXY_CLUSTER__PROBE_TIMEOUT_MS", "500")]).await;
    let pool = ledger(&cluster, &proxy).await;
    insert(&pool, 1).await.unwrap();
    cluster.caught_up(0, 1).await;
    let reader = Reader::start(pool.clone());
    reader.goes_on().await;
    let mut raw = Raw::connect(proxy.address);
    raw.send(&query("INSERT INTO ledger SELECT 50 FROM pg_sleep(3)"));
    eventually("the insert runs", async || {
        proxy.metric("db_proxy_servers{node=\"pg-1\",state=\"active\"}").await == 1.0
    })
    .await;
    cluster.signal(0, Signal::SIGSTOP);
    // In flight when it stopped: nobody knows what becomes of it, and that is what the client hears.
    assert_eq!(raw.answer(), "E08007 ZI");
    reader.goes_on().await;
    cluster.sql(1, "SELECT pg_promote(true, 20)").await;
    insert(&pool, 2).await.unwrap();
    cluster.signal(0, Signal::SIGCONT);
    eventually("the old primary is fenced", async || {
        proxy.metric("db_proxy_node_role{node=\"pg-1\",role=\"fenced\"}").await == 1.0
    })
    .await;
    for id in 3..20 {
        insert(&pool, id).await.unwrap();
    }
    reader.finish().await;
    let sql = "BEGIN; SELECT inet_server_port(); COMMIT";
    assert_eq!(pool.fetch_one(sql).await.unwrap().get::<i32, _>(0), i32::from(cluster.nodes[1].port));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_writer_with_a_higher_timeline_takes_over_at_once() {
    if !available() {
        return;
    }
    let cluster = Cluster::start().await;
    let proxy = Proxy::start(&cluster, &[]).await;
    let pool = ledger(&cluster, &proxy).await;
    insert(&pool, 1).await.unwrap();
    cluster.sql(2, "SELECT pg_promote(true, 20)").await;
    eventually("writes go to the promoted node", async || {
        // Between: an insert on the old primary's connection may be cut, and says so.
        let row = pool.fetch_one("BEGIN; SELECT inet_server_port(); COMMIT").await;
        row.is_ok_and(|row| row.get::<i32, _>(0) == i32::from(cluster.nodes[2].port))
    })
    .await;
    assert_eq!(proxy.metric("db_proxy_node_role{node=\"pg-1\",role=\"fenced\"}").await, 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_die_and_come_back_without_a_failed_read() {
    if !available() {
        return;
    }
    let mut cluster = Cluster::start().await;
    let proxy = Proxy::start(&cluster, &[]).await;
    let pool = ledger(&cluster, &proxy).await;
    let readers: Vec<Reader> = (0..3).map(|_| Reader::start(pool.clone())).collect();
    readers[0].goes_on().await;
    cluster.kill(1);
    readers[0].goes_on().await;
    cluster.kill(2);
    readers[0].goes_on().await;
    let row = pool.fetch_one("SELECT pg_is_in_recovery()").await.unwrap();
    assert!(!row.get::<bool, _>(0), "with no replica left, the primary reads");
    eventually("both losses are seen", async || {
        let metrics = proxy.metrics().await;
        ["pg-2", "pg-3"].iter().all(|node| metrics.contains(&format!("{{node=\"{node}\",role=\"down\"}} 1")))
    })
    .await;
    readers[0].goes_on().await;
    cluster.start_node(1).await;
    eventually("the replica is used again", async || {
        pool.fetch_one("SELECT pg_is_in_recovery()").await.unwrap().get::<bool, _>(0)
    })
    .await;
    for reader in readers {
        reader.finish().await;
    }
    assert!(proxy.metric("db_proxy_role_changes_total").await >= 6.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_does_not_replay_gets_no_reads() {
    if !available() {
        return;
    }
    let cluster = Cluster::start().await;
    let proxy = Proxy::start(&cluster, &[("DB_PROXY_ROUTING__REPLICA_LAG_BYTES_MAX", "100000")]).await;
    let pool = ledger(&cluster, &proxy).await;
    cluster.sql(1, "SELECT pg_wal_replay_pause()").await;
    pool.execute("INSERT INTO ledger SELECT generate_series(1, 20000)").await.unwrap();
    // So many rows may leave the other one behind for a moment, too.
    eventually("it alone is left out", async || {
        proxy.metric("db_proxy_node_role{node=\"pg-2\",role=\"lagging\"}").await == 1.0
            && proxy.metric("db_proxy_node_role{node=\"pg-3\",role=\"replica\"}").await == 1.0
    })
    .await;
    for _ in 0..40 {
        let row = pool.fetch_one("SELECT inet_server_port()").await.unwrap();
        assert_eq!(row.get::<i32, _>(0), i32::from(cluster.nodes[2].port));
    }
    cluster.sql(1, "SELECT pg_wal_replay_resume()").await;
    eventually("it is back", async || {
        proxy.metric("db_proxy_node_role{node=\"pg-2\",role=\"replica\"}").await == 1.0
    })
    .await;
}

#[tokio::test]
async fn a_read_that_replay_cancels_is_run_elsewhere() {
    if !available() {
        return;
    }
    let cluster = Cluster::start().await;
    let proxy = Proxy::start(&cluster, &[]).await;
    let pool = ledger(&cluster, &proxy).await;
    pool.execute("INSERT INTO ledger SELECT generate_series(1, 1000)").await.unwrap();
    cluster.caught_up(0, 1).await;
    cluster.caught_up(0, 2).await;
    // A long read on a replica, and a lock that the replica must replay: Postgres cancels the read.
    let reads: Vec<_> = (0..4)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.fetch_one("SELECT count(*), pg_sleep(2) FROM ledger").await })
        })
        .collect();
    eventually("the reads run", async || {
        proxy.metric("db_proxy_servers{node=\"pg-2\",state=\"active\"}").await
            + proxy.metric("db_proxy_servers{node=\"pg-3\",state=\"active\"}").await
            == 4.0
    })
    .await;
    pool.execute("ALTER TABLE ledger ADD note text").await.unwrap();
    for read in reads {
        assert_eq!(read.await.unwrap().unwrap().get::<i64, _>(0), 1000);
    }
    assert!(proxy.metric("db_proxy_replays_total{reason=\"recovery-conflict\"}").await >= 1.0);
}

#[tokio::test]
async fn it_starts_without_nodes_and_drains_without_errors() {
    if !available() {
        return;
    }
    let mut cluster = Cluster::start().await;
    for at in 0..3 {
        cluster.kill(at);
    }
    let mut proxy = Proxy::start_cold(&cluster, &[]).await;
    let pool = proxy.pool(2);
    let first = tokio::spawn({
        let pool = pool.clone();
        async move { pool.fetch_one("SELECT pg_backend_pid() > 0").await }
    });
    for at in 0..3 {
        cluster.start_node(at).await;
    }
    assert!(first.await.unwrap().unwrap().get::<bool, _>(0), "it waited for the cluster");

    let mut open = Raw::connect(proxy.address);
    assert_eq!(open.ask(&query("BEGIN")), "BEGIN ZT");
    let mut idle = Raw::connect(proxy.address);
    proxy.terminate();
    let (tag, body) = idle.receive();
    assert_eq!((tag, crate::raw::code(&body).as_str()), ('E', "57P01"));
    assert_eq!(open.ask(&query("CREATE TABLE drained (a int)")), "CREATE_TABLE ZT");
    assert_eq!(open.ask(&query("COMMIT")), "COMMIT ZI", "what is open may end");
    eventually("it ends", async || !proxy.is_running()).await;
}
