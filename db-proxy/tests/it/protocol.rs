//! What clients may do, and what they get.

use std::process::Command;

use sqlx::{Connection as _, Executor as _, Row as _};

use crate::cluster::{PASSWORD, available, eventually};
use crate::proxy::shared;
use crate::raw::{Raw, bind, execute, message, parse, query, startup, sync};

macro_rules! with_shared {
    ($shared:ident) => {
        if !available() {
            return;
        }
        let guard = shared().await;
        let $shared = guard.as_ref().expect("it was started");
    };
}
pub(crate) use with_shared;

#[tokio::test]
async fn passwords_decide() {
    with_shared!(shared);
    let mut attempts = Vec::new();
    for (user, password) in [("app", PASSWORD), ("app", "wrong"), ("nobody", "wrong"), ("probe", PASSWORD)] {
        let mut raw = Raw::dial(shared.proxy.address);
        raw.send(&startup(&["user", user, "database", "fitness"]));
        attempts.push(raw.log_in(password));
    }
    let wrong = Err("28P01".to_owned());
    assert_eq!(attempts, [Ok(()), wrong.clone(), wrong.clone(), wrong]);
}

#[tokio::test]
async fn a_database_that_is_not_there_is_named() {
    with_shared!(shared);
    let error =
        sqlx::PgConnection::connect_with(&shared.proxy.options().database("nowhere")).await.unwrap_err();
    assert!(error.to_string().contains("database \"nowhere\" does not exist"), "{error}");
}

#[tokio::test]
async fn newer_protocols_are_negotiated_down() {
    with_shared!(shared);
    let mut raw = Raw::dial(shared.proxy.address);
    let mut packet = startup(&["user", "app", "database", "fitness", "_pq_.future", "1"]);
    packet[7] = 2; // version 3.2
    raw.send(&packet);
    let (tag, body) = raw.receive();
    assert_eq!((tag, body.as_slice()), ('v', &b"\0\x03\0\0\0\0\0\x01_pq_.future\0"[..]));
    assert_eq!(raw.log_in(PASSWORD), Ok(()));
}

#[tokio::test]
async fn encryption_is_declined_and_bytes_behind_the_question_are_not_believed() {
    with_shared!(shared);
    let (ssl, gss) = (b"\0\0\0\x08\x04\xd2\x16\x2f", b"\0\0\0\x08\x04\xd2\x16\x30");
    let mut raw = Raw::dial(shared.proxy.address);
    for request in [ssl, gss] {
        raw.send(request);
        let mut answer = [0; 1];
        std::io::Read::read_exact(&mut raw.stream, &mut answer).unwrap();
        assert_eq!(&answer, b"N");
    }
    raw.send(&startup(&["user", "app", "database", "fitness"]));
    assert_eq!(raw.log_in(PASSWORD), Ok(()));

    let mut injected = Raw::dial(shared.proxy.address);
    injected.send(&[&ssl[..], &startup(&["user", "app", "database", "fitness"])].concat());
    assert_eq!(injected.log_in(PASSWORD), Err("08P01".to_owned()));
}

#[tokio::test]
async fn simple_and_extended_queries() {
    with_shared!(shared);
    let mut raw = Raw::connect(shared.proxy.address);
    assert_eq!(raw.ask(&query("SELECT 1")), "T D1 SELECT_1 ZI");
    assert_eq!(raw.ask(&query("SELECT 1; SELECT 2")), "T D1 SELECT_1 T D2 SELECT_1 ZI");
    assert_eq!(raw.ask(&query("")), "I ZI");
    assert_eq!(raw.ask(&query("nonsense")), "E42601 ZI");
    assert_eq!(raw.ask(&[parse("", "SELECT 2"), bind(""), execute(), sync()].concat()), "1 2 D2 SELECT_1 ZI");
    assert_eq!(raw.ask(&[parse("a", "SELECT 3"), message('D', b"Sa\0"), sync()].concat()), "1 t T ZI");
    assert_eq!(raw.ask(&[bind("a"), message('D', b"P\0"), execute(), sync()].concat()), "2 T D3 SELECT_1 ZI");
    assert_eq!(raw.ask(&sync()), "ZI");
}

#[tokio::test]
async fn pipelines_with_many_syncs_errors_and_queries_between() {
    with_shared!(shared);
    let mut raw = Raw::connect(shared.proxy.address);
    let one = |sql: &str| [parse("", sql), bind(""), execute()].concat();
    let pipeline = [
        one("SELECT 1"),
        sync(),
        one("SELECT 1/0"),
        one("SELECT 2"),
        sync(),
        one("SELECT 3"),
        sync(),
        query("SELECT 4"),
    ];
    raw.send(&pipeline.concat());
    let answers: Vec<String> = (0..4).map(|_| raw.answer()).collect();
    let expected = ["1 2 D1 SELECT_1 ZI", "1 2 E22012 ZI", "1 2 D3 SELECT_1 ZI", "T D4 SELECT_1 ZI"];
    // Postgres finds the constant division while it plans (at Bind) or while it runs.
    assert_eq!(
        answers.iter().map(|answer| answer.replace("1 E22012", "1 2 E22012")).collect::<Vec<_>>(),
        expected
    );
    // A query between, after an error, gets no answer of its own.
    let mixed = [parse("", "nonsense"), query("SELECT 5"), sync(), query("SELECT 6")];
    raw.send(&mixed.concat());
    assert_eq!([raw.answer(), raw.answer()], ["E42601 ZI", "T D6 SELECT_1 ZI"]);
    // Writes and reads in one pipeline change servers, and keep their order.
    raw.ask(&query("DROP TABLE IF EXISTS pipelined; CREATE TABLE pipelined (a int)"));
    let turns: Vec<u8> = (0..20)
        .flat_map(|n| {
            [one(&format!("INSERT INTO pipelined VALUES ({n})")), sync(), one("SELECT 7"), sync()].concat()
        })
        .collect();
    raw.send(&turns);
    for _ in 0..20 {
        assert_eq!([raw.answer(), raw.answer()], ["1 2 INSERT_0_1 ZI", "1 2 D7 SELECT_1 ZI"]);
    }
    assert_eq!(
        raw.ask(&query("BEGIN; SELECT count(*) FROM pipelined; END")),
        "BEGIN T D20 SELECT_1 COMMIT ZI"
    );
}

#[tokio::test]
async fn flush_shows_answers_before_the_sync() {
    with_shared!(shared);
    let mut raw = Raw::connect(shared.proxy.address);
    raw.send(&[parse("f", "SELECT 1"), message('H', b"")].concat());
    assert_eq!(raw.receive().0, '1');
    assert_eq!(raw.ask(&[bind("f"), execute(), sync()].concat()), "2 D1 SELECT_1 ZI");
}

#[tokio::test]
async fn prepared_statements_work_on_any_server() {
    with_shared!(shared);
    let mut raw = Raw::connect(shared.proxy.address);
    let ports = "SELECT inet_server_port()";
    assert_eq!(raw.ask(&[parse("s", ports), sync()].concat()), "1 ZI");
    assert_eq!(raw.ask(&[parse("", ports), sync()].concat()), "1 ZI");
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..60 {
        for name in ["s", ""] {
            seen.insert(raw.ask(&[bind(name), execute(), sync()].concat()));
        }
    }
    assert_eq!(seen.len(), 2, "both replicas: {seen:?}");
    // In a transaction the same statement runs on the primary.
    raw.ask(&query("BEGIN"));
    let answer = raw.ask(&[bind("s"), execute(), sync()].concat());
    assert_eq!(answer, format!("2 D{} SELECT_1 ZT", shared.cluster.nodes[0].port));
    raw.ask(&query("ROLLBACK"));
}

#[tokio::test]
async fn statement_names_are_the_clients_own() {
    with_shared!(shared);
    let (mut one, mut other) = (Raw::connect(shared.proxy.address), Raw::connect(shared.proxy.address));
    one.ask(&[parse("x", "SELECT 1"), sync()].concat());
    other.ask(&[parse("x", "SELECT 2"), sync()].concat());
    assert_eq!(one.ask(&[bind("x"), execute(), sync()].concat()), "2 D1 SELECT_1 ZI");
    assert_eq!(other.ask(&[bind("x"), execute(), sync()].concat()), "2 D2 SELECT_1 ZI");
    assert_eq!(one.ask(&[parse("x", "SELECT 3"), sync()].concat()), "E42P05 ZI", "the name is taken");
    assert_eq!(one.ask(&[message('C', b"Sx\0"), sync()].concat()), "3 ZI");
    assert_eq!(one.ask(&[bind("x"), execute(), sync()].concat()), "E26000 ZI", "closed");
    assert_eq!(one.ask(&[parse("x", "nonsense"), sync()].concat()), "E42601 ZI");
    assert_eq!(one.ask(&[parse("x", "SELECT 4"), sync()].concat()), "1 ZI", "a failed Parse leaves no name");
    assert_eq!(one.ask(&query("DEALLOCATE x")), "DEALLOCATE ZI");
    assert_eq!(one.ask(&query("DEALLOCATE x")), "E26000 ZI");
    assert_eq!(
        one.ask(&[bind("dbp_1"), execute(), sync()].concat()),
        "E26000 ZI",
        "no other client's statement"
    );
    one.ask(&[parse("y", "SELECT 5"), sync()].concat());
    assert_eq!(one.ask(&query("BEGIN")), "BEGIN ZT");
    assert_eq!(one.ask(&query("DEALLOCATE y")), "DEALLOCATE ZT");
    assert_eq!(one.ask(&query("COMMIT")), "COMMIT ZI");
    assert_eq!(one.ask(&query("DEALLOCATE ALL")), "DEALLOCATE_ALL ZI");
}

#[tokio::test]
async fn a_statement_whose_table_changed_is_prepared_afresh() {
    with_shared!(shared);
    let mut raw = Raw::connect(shared.proxy.address);
    raw.ask(&query("DROP TABLE IF EXISTS shape; CREATE TABLE shape (a int); INSERT INTO shape VALUES (1)"));
    // Locking sends it to the primary, where the change is seen at once.
    raw.ask(&[parse("shape", "SELECT * FROM shape FOR UPDATE"), sync()].concat());
    assert_eq!(raw.ask(&[bind("shape"), execute(), sync()].concat()), "2 D1 SELECT_1 ZI");
    raw.ask(&query("ALTER TABLE shape ADD b int DEFAULT 2"));
    assert_eq!(raw.ask(&[bind("shape"), execute(), sync()].concat()), "E0A000 ZI");
    assert_eq!(raw.ask(&[bind("shape"), execute(), sync()].concat()), "2 D1,2 SELECT_1 ZI");
}

#[tokio::test]
async fn many_statements_on_few_servers() {
    with_shared!(shared);
    let mut raw = Raw::connect(shared.proxy.address);
    for n in 0..1200 {
        raw.send(&[parse(&format!("m{n}"), &format!("SELECT {n}")), sync()].concat());
    }
    for _ in 0..1200 {
        assert_eq!(raw.answer(), "1 ZI");
    }
    for n in (0..1200).rev() {
        let answer = raw.ask(&[bind(&format!("m{n}")), execute(), sync()].concat());
        assert_eq!(answer, format!("2 D{n} SELECT_1 ZI"));
    }
}

#[tokio::test]
async fn copies_both_ways() {
    with_shared!(shared);
    let mut raw = Raw::connect(shared.proxy.address);
    raw.ask(&query("DROP TABLE IF EXISTS copied; CREATE TABLE copied (a int, b text)"));
    raw.send(&query("COPY copied FROM STDIN"));
    assert_eq!(raw.receive().0, 'G');
    for n in 0..2000 {
        raw.send(&message('d', format!("{n}\t{}\n", "x".repeat(1000)).as_bytes()));
    }
    assert_eq!(raw.ask(&message('c', b"")), "COPY_2000 ZI");
    // Data after a failed copy is ignored.
    raw.send(&query("COPY copied FROM STDIN"));
    assert_eq!(raw.receive().0, 'G');
    raw.send(&[message('d', b"not a number\tx\n"), message('d', b"1\tx\n"), message('c', b"")].concat());
    assert_eq!(raw.answer(), "E22P02 ZI");
    raw.send(&query("COPY copied FROM STDIN"));
    assert_eq!(raw.receive().0, 'G');
    assert_eq!(raw.ask(&message('f', b"changed my mind\0")), "E57014 ZI");
    // The extended protocol: libpq sends its Sync before it knows that this is a copy.
    raw.send(&[parse("", "COPY copied FROM STDIN"), bind(""), execute(), sync()].concat());
    assert_eq!([raw.receive().0, raw.receive().0, raw.receive().0], ['1', '2', 'G']);
    assert_eq!(raw.ask(&[message('d', b"1\tx\n"), message('c', b""), sync()].concat()), "COPY_1 ZI");
    raw.send(&query("BEGIN; COPY copied TO STDOUT; COMMIT"));
    let rows = raw.until_ready().iter().filter(|(tag, _)| *tag == 'd').count();
    assert_eq!(rows, 2001);
    assert_eq!(raw.ask(&query("SELECT 1")), "T D1 SELECT_1 ZI");
}

#[tokio::test]
async fn a_client_that_vanishes_in_a_copy_or_a_transaction_leaves_nothing() {
    with_shared!(shared);
    let mut raw = Raw::connect(shared.proxy.address);
    raw.ask(&query("DROP TABLE IF EXISTS vanished; CREATE TABLE vanished (a int)"));
    for opening in ["COPY vanished FROM STDIN", "BEGIN; INSERT INTO vanished VALUES (1)"] {
        let mut gone = Raw::connect(shared.proxy.address);
        gone.send(&query(opening));
        gone.receive();
        gone.send(&message('d', b"1\n")[..4]);
    }
    let mut server = shared.cluster.connect(0, "postgres", "fitness").await;
    eventually("no transaction is left", async || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state <> 'idle'";
        server.fetch_one(sql).await.unwrap().get::<i64, _>(0) == 0
    })
    .await;
    assert_eq!(raw.ask(&query("BEGIN; SELECT count(*) FROM vanished; END")), "BEGIN T D0 SELECT_1 COMMIT ZI");
}

#[tokio::test]
async fn cancelling_hits_the_right_query() {
    with_shared!(shared);
    let mut raw = Raw::connect(shared.proxy.address);
    // Reads go to a replica, transactions to the primary.
    let mut servers = Vec::new();
    for node in 0..shared.cluster.nodes.len() {
        servers.push(shared.cluster.connect(node, "postgres", "fitness").await);
    }
    for sleep in ["SELECT pg_sleep(60)", "BEGIN; SELECT pg_sleep(60)"] {
        raw.send(&query(sleep));
        // What the server has not begun yet, it would not cancel either.
        eventually("the query runs", async || {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() \
                       AND query LIKE '%pg_sleep(60)%'";
            let mut running = 0;
            for server in &mut servers {
                running += server.fetch_one(sql).await.unwrap().get::<i64, _>(0);
            }
            running == 1
        })
        .await;
        let (key, secret) = (raw.process_id.to_be_bytes(), raw.secret.to_be_bytes());
        let before = shared.proxy.metric("db_proxy_cancels_total").await;
        // Wrong secrets cancel nothing.
        let mut wrong = Raw::dial(shared.proxy.address);
        wrong.send(&[&b"\0\0\0\x10\x04\xd2\x16\x2e"[..], &key, &[1, 2, 3, 4]].concat());
        assert!(wrong.try_receive().is_err(), "closed");
        eventually("the cancel is delivered", async || {
            let mut cancel = Raw::dial(shared.proxy.address);
            cancel.send(&[&b"\0\0\0\x10\x04\xd2\x16\x2e"[..], &key, &secret].concat());
            assert!(cancel.try_receive().is_err(), "closed");
            shared.proxy.metric("db_proxy_cancels_total").await > before
        })
        .await;
        let answer = raw.answer();
        assert!(answer.contains("E57014"), "{answer}");
        raw.ask(&query("ROLLBACK"));
    }
    assert_eq!(raw.ask(&query("SELECT 1")), "T D1 SELECT_1 ZI");
}

#[tokio::test]
async fn parameters_follow_their_client() {
    with_shared!(shared);
    let mut one =
        Raw::connect_with(shared.proxy.address, &["application_name", "it's \\ one", "TimeZone", "UTC"]);
    let mut other = Raw::connect_with(
        shared.proxy.address,
        &["options", "-c statement_timeout=5s -c TimeZone=Asia/Tokyo"],
    );
    let show = "SELECT current_setting('TimeZone'), current_setting('statement_timeout')";
    for _ in 0..10 {
        assert_eq!(one.ask(&query(show)), "T DUTC,0 SELECT_1 ZI");
        assert_eq!(other.ask(&query(show)), "T DAsia/Tokyo,5s SELECT_1 ZI");
    }
    assert_eq!(one.ask(&query("SHOW application_name")), "T Dit's \\ one SHOW ZI");
    assert_eq!(one.ask(&query("SET statement_timeout = '7s' -- mine")), "SET ZI");
    assert_eq!(one.ask(&query("BEGIN; SET TimeZone = 'Europe/Paris'; ROLLBACK")), "BEGIN SET ROLLBACK ZI");
    for _ in 0..10 {
        assert_eq!(one.ask(&query(show)), "T DUTC,7s SELECT_1 ZI");
        assert_eq!(other.ask(&query(show)), "T DAsia/Tokyo,5s SELECT_1 ZI");
    }
    assert_eq!(one.ask(&query("BEGIN; SET LOCAL statement_timeout = '9s'; COMMIT")), "BEGIN SET COMMIT ZI");
    assert_eq!(one.ask(&query("RESET statement_timeout")), "RESET ZI");
    assert_eq!(one.ask(&query(show)), "T DUTC,0 SELECT_1 ZI");
    assert_eq!(
        one.ask(&query("SET TimeZone = 'Asia/Tokyo'; SELECT 1/0")),
        "SET E22012 ZI",
        "undone with its query"
    );
    assert_eq!(one.ask(&query(show)), "T DUTC,0 SELECT_1 ZI");
    assert_eq!(other.ask(&query("DISCARD ALL")), "DISCARD_ALL ZI");
    assert_eq!(other.ask(&query(show)), "T DAsia/Tokyo,5s SELECT_1 ZI");
}

#[tokio::test]
async fn what_is_left_in_a_session_is_not_left_to_the_next_client() {
    with_shared!(shared);
    let mut one = Raw::connect(shared.proxy.address);
    one.ask(&query("CREATE TEMP TABLE secret (a int)"));
    one.ask(&query("SELECT set_config('my.secret', 'x', false)"));
    one.ask(&query("SELECT pg_advisory_lock(77)"));
    one.ask(&query("PREPARE p AS SELECT 1"));
    one.ask(&query("LISTEN somebody"));
    let mut server = shared.cluster.connect(0, "postgres", "fitness").await;
    eventually("the advisory lock is gone", async || {
        let sql = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
        server.fetch_one(sql).await.unwrap().get::<i64, _>(0) == 0
    })
    .await;
    let sql = "BEGIN; SELECT to_regclass('pg_temp.secret'), current_setting('my.secret', true), \
               (SELECT count(*) FROM pg_prepared_statements WHERE from_sql), (SELECT count(*) FROM pg_listening_channels()); END";
    let mut others: Vec<Raw> = (0..5).map(|_| Raw::connect(shared.proxy.address)).collect();
    for other in &mut others {
        assert_eq!(other.ask(&query(sql)), "BEGIN T D,,0,0 SELECT_1 COMMIT ZI");
    }
}

#[tokio::test]
async fn big_rows_pass_through_little_memory() {
    with_shared!(shared);
    let mut raw = Raw::connect(shared.proxy.address);
    raw.ask(&query("SELECT 1"));
    let before = shared.proxy.rss_bytes();
    let mut most = 0;
    for sql in [
        "SELECT repeat('x', 64 * 1024 * 1024)",
        "SELECT repeat('x', 1000) FROM generate_series(1, 64 * 1024)",
    ] {
        raw.send(&query(sql));
        let mut bytes = 0;
        loop {
            let (tag, body) = raw.receive();
            bytes += body.len();
            most = most.max(shared.proxy.rss_bytes());
            match tag {
                'Z' => break,
                'E' => panic!("{}", crate::raw::code(&body)),
                _ => {}
            }
        }
        assert!(bytes > 64 * 1000 * 1000);
    }
    // And the other way: a parameter of 64 MB.
    let value = vec![b'y'; 64 * 1024 * 1024];
    let bind = [&b"\0\0\0\0\0\x01"[..], &(value.len() as u32).to_be_bytes(), &value, &[0, 0]].concat();
    raw.send(&[parse("", "SELECT length($1)"), message('B', &bind), execute(), sync()].concat());
    most = most.max(shared.proxy.rss_bytes());
    assert_eq!(raw.answer(), "1 2 D67108864 SELECT_1 ZI");
    let grown = most.saturating_sub(before);
    println!("grew by {} kB while 192 MB passed", grown / 1024);
    assert!(grown < 8 * 1024 * 1024, "grew by {grown} bytes");
}

#[tokio::test]
async fn sqlx_uses_it_like_postgres() {
    with_shared!(shared);
    let pool = shared.proxy.pool(8);
    sqlx::query("DROP TABLE IF EXISTS users").execute(&pool).await.unwrap();
    sqlx::query("CREATE TABLE users (id int PRIMARY KEY, name text)").execute(&pool).await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    for id in 0..50 {
        let insert = sqlx::query("INSERT INTO users VALUES ($1, $2)").bind(id).bind(format!("user {id}"));
        insert.execute(&mut *transaction).await.unwrap();
    }
    transaction.commit().await.unwrap();
    shared.cluster.caught_up(0, 1).await;
    shared.cluster.caught_up(0, 2).await;
    let tasks = (0..16).map(|n| {
        let pool = pool.clone();
        tokio::spawn(async move {
            for id in 0..50 {
                let select = sqlx::query_as::<_, (String,)>("SELECT name FROM users WHERE id = $1").bind(id);
                assert_eq!(select.fetch_one(&pool).await.unwrap().0, format!("user {id}"), "task {n}");
                let select =
                    sqlx::query("SELECT count(*) FROM users WHERE id < $1").persistent(false).bind(id);
                assert_eq!(select.fetch_one(&pool).await.unwrap().get::<i64, _>(0), i64::from(id));
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let error = sqlx::query("INSERT INTO users VALUES (1, 'twice')").execute(&pool).await.unwrap_err();
    assert_eq!(error.as_database_error().unwrap().code().as_deref(), Some("23505"));
}

#[tokio::test]
async fn psql_uses_it_like_postgres() {
    with_shared!(shared);
    let psql = |sql: &str| {
        let mut command = Command::new("psql");
        command.args(["-XAtq", "-h", "127.0.0.1", "-U", "app", "-d", "fitness", "-c", sql]);
        command.arg("-p").arg(shared.proxy.address.port().to_string()).env("PGPASSWORD", PASSWORD);
        let output = command.output().expect("psql is installed (postgresql-client)");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(psql("SELECT 40 + 2"), "42\n");
    assert_eq!(psql("BEGIN; SELECT pg_is_in_recovery(); COMMIT"), "f\n");
    assert!(psql("\\dn").contains("public"));
    assert!(psql("\\d pg_class").contains("relname"));
}

#[tokio::test]
async fn a_client_without_a_transaction_holds_no_server() {
    with_shared!(shared);
    let mut clients: Vec<Raw> = (0..100).map(|_| Raw::connect(shared.proxy.address)).collect();
    for client in &mut clients {
        assert_eq!(client.ask(&query("SELECT 1")), "T D1 SELECT_1 ZI");
        assert_eq!(client.ask(&query("BEGIN; COMMIT")), "BEGIN COMMIT ZI");
    }
    assert!(shared.proxy.metric("db_proxy_clients").await >= 100.0);
    assert!(shared.proxy.metric("db_proxy_servers").await <= 30.0, "few servers serve them all");
}
