//! Every listener of ours gets hostile payloads while a good client goes on beside: same process, descriptors and memory
//! back, and the good client notices nothing.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tests::Stack;
use tests::dns_client::DnsClient;
use tests::hostile::{Bounds, HostileReport, Kind, Target, attack};
use tests::http_client::HttpClient;
use tests::stack::admin_port;
use tests::topology::SITE;

use crate::runner::Ended;

const GOOD_DEADLINE: Duration = Duration::from_secs(5);

pub(crate) async fn every_listener(stack: &Stack) -> Result<Ended> {
    let mut reports = Vec::new();
    for (instance, kind) in [
        ("dns", Kind::DnsUdp),
        ("dns", Kind::DnsTcp),
        ("lb-1", Kind::Http),
        ("app-1", Kind::Http),
        ("db-proxy", Kind::Postgres),
        ("dns", Kind::AdminHttp),
        ("lb-1", Kind::AdminHttp),
        ("app-1", Kind::AdminHttp),
        ("db-proxy", Kind::AdminHttp),
    ] {
        let started = Instant::now();
        let report = one(stack, instance, kind).await.with_context(|| format!("{instance} {kind:?}"))?;
        println!("  {instance} {report} ({:.1} s)", started.elapsed().as_secs_f64());
        reports.push((instance, report));
    }
    let bad: Vec<String> =
        reports.iter().filter(|(_, it)| !it.survived()).map(|(name, it)| format!("{name}: {it}")).collect();
    ensure!(bad.is_empty(), "{}", bad.join("\n"));
    Ok(Ended::Passed)
}

async fn one(stack: &Stack, instance: &str, kind: Kind) -> Result<HostileReport> {
    let status = stack.instance(instance).status().await?;
    let (ip, pid) = (status.address.context("an address")?, status.pid.context("a process")?);
    let endpoints = stack.endpoints();
    let port = match (kind, instance) {
        (Kind::AdminHttp, _) => admin_port(status.tier).context("an admin listener")?,
        (_, "dns") => endpoints.dns.port(),
        (_, "lb-1") => endpoints.site_port,
        (_, "app-1") => 3000,
        _ => 6432,
    };
    let address = SocketAddr::new(ip, port);
    let mut target = Target::new(address, kind, pid);
    // Connections to the tier behind may stay for the next client.
    target.bounds = Bounds { descriptors_more_max: 16, ..Bounds::default() };
    let report = match kind {
        Kind::DnsUdp | Kind::DnsTcp => attack(&target, || async move { resolves(address).await }).await?,
        Kind::Http => {
            attack(&target, || async move { answers(address, SITE, "/api/exercises?q=squat&limit=3").await })
                .await?
        }
        // It goes by its address and by loopback's name, so that no web page can reach it by a name of its own.
        Kind::AdminHttp => {
            attack(&target, || async move { answers(address, "localhost", "/livez").await }).await?
        }
        Kind::Postgres => {
            let password = stack.platform().password("postgres-app").await?;
            attack(&target, || queries(address, &password)).await?
        }
        Kind::Redis => unreachable!("Redis is not ours"),
    };
    Ok(report)
}

async fn resolves(dns: SocketAddr) -> Result<(), String> {
    DnsClient::new(dns).addresses(SITE).await.map(drop).map_err(|error| error.to_string())
}

async fn answers(address: SocketAddr, host: &str, path: &str) -> Result<(), String> {
    let response = HttpClient::new(address).host(host).deadline(GOOD_DEADLINE).get(path).await;
    match response {
        Ok(response) if response.status.is_success() => Ok(()),
        Ok(response) => Err(format!("{} {}", response.status, response.text())),
        Err(error) => Err(error.to_string()),
    }
}

async fn queries(proxy: SocketAddr, password: &str) -> Result<(), String> {
    let options = PgConnectOptions::new_without_pgpass()
        .host(&proxy.ip().to_string())
        .port(proxy.port())
        .username("app")
        .password(password)
        .database("fitness")
        .ssl_mode(PgSslMode::Disable);
    let asked = async {
        let mut connection = sqlx::PgConnection::connect_with(&options).await?;
        let one: i32 = sqlx::query_scalar("SELECT 1").fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok::<_, sqlx::Error>(one)
    };
    match asked.await {
        Ok(1) => Ok(()),
        Ok(other) => Err(format!("SELECT 1 gave {other}")),
        Err(error) => Err(error.to_string()),
    }
}
