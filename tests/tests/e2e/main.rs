//! End-to-end tests: a whole stack of real processes, started once; one module a behaviour, in turn, on that stack.
//!
//! `cargo test --workspace --test e2e -- [PART OF A NAME]`; `STACK_ON=docker` runs the same on containers. What cannot run on this
//! machine says SKIPPED and why, and fails where CI=true.

#![allow(clippy::print_stdout, reason = "a test runner prints what it finds")]

mod balance;
mod conformance;
mod drain;
mod drills;
mod faults;
mod hostile;
mod readme;
mod replace;
mod resolve;
mod runner;
mod servers;
mod sessions;
mod soak;
mod start_order;
mod visit;

use runner::{shared, single};

fn main() -> std::process::ExitCode {
    runner::main(&[
        shared("resolve::our_client_gets_both_balancers_in_turn", |stack| {
            Box::pin(resolve::our_client(stack))
        }),
        shared("resolve::dig_gets_both_balancers_in_turn", |stack| Box::pin(resolve::dig(stack))),
        shared("balance::every_app_serves", |stack| Box::pin(balance::every_app_serves(stack))),
        shared("sessions::seen_through_the_other_balancer", |stack| {
            Box::pin(sessions::seen_elsewhere(stack))
        }),
        shared("sessions::survive_a_restart_of_every_app", |stack| Box::pin(sessions::survive_apps(stack))),
        shared("visit::search_plan_log_in_work_out", |stack| Box::pin(visit::whole(stack))),
        shared("readme::commands_work", |stack| Box::pin(readme::commands_work(stack))),
        shared("faults::a_killed_app_fails_no_request", |stack| Box::pin(faults::app(stack))),
        shared("faults::a_killed_balancer_fails_no_retried_request", |stack| {
            Box::pin(faults::balancer(stack))
        }),
        shared("faults::a_killed_replica_fails_no_request", |stack| Box::pin(faults::replica(stack))),
        shared("drain::a_terminated_app_fails_no_request", |stack| Box::pin(drain::app(stack))),
        shared("drain::a_terminated_balancer_fails_no_retried_request", |stack| {
            Box::pin(drain::balancer(stack))
        }),
        shared("replace::every_balancer_and_nobody_notices", |stack| Box::pin(replace::balancers(stack))),
        shared("replace::every_app_and_nobody_notices", |stack| Box::pin(replace::apps(stack))),
        shared("replace::a_killed_balancer_is_noticed", |stack| Box::pin(replace::control(stack))),
        shared("hostile::every_listener_stands_it", |stack| Box::pin(hostile::every_listener(stack))),
        single("conformance::as_the_table_says", || Box::pin(conformance::as_the_table_says())),
        single("soak::dns_short", || Box::pin(soak::dns_short())),
        single("start_order::the_database_may_come_last", || Box::pin(start_order::database_last())),
        single("servers::patroni_fails_over_and_nothing_is_left", || Box::pin(servers::fail_over())),
        single("servers::the_database_has_roles_and_quorum", || Box::pin(servers::roles_and_quorum())),
        single("drills::kill_app", || Box::pin(drills::short("kill-app"))),
        single("drills::scale_out", || Box::pin(drills::short("scale-out"))),
        single("drills::tls_offload", || Box::pin(drills::short_by_cpu("tls-offload"))),
        single("drills::vertical", || Box::pin(drills::short_by_cpu("vertical"))),
        single("drills::cheap_machines", || Box::pin(drills::short_by_cpu("cheap-machines"))),
        single("drills::kill_primary", || Box::pin(drills::short("kill-primary"))),
        single("drills::sticky_death", || Box::pin(drills::short("sticky-death"))),
        single("drills::sticky_uneven", || Box::pin(drills::short("sticky-uneven"))),
        single("drills::forged_cookie", || Box::pin(drills::short("forged-cookie"))),
        single("drills::sticky_table", || Box::pin(drills::short("sticky-table"))),
        single("drills::least_busy", || Box::pin(drills::short("least-busy"))),
        single("drills::skew", || Box::pin(drills::short("skew"))),
        single("drills::drain", || Box::pin(drills::short("drain"))),
        single("drills::hybrid", || Box::pin(drills::short("hybrid"))),
        single("drills::lb_dies", || Box::pin(drills::short("lb-dies"))),
        single("drills::no_load_view", || Box::pin(drills::short("no-load-view"))),
        single("drills::client_order", || Box::pin(drills::short("client-order"))),
        single("drills::prefer_ipv6", || Box::pin(drills::short("prefer-ipv6"))),
        single("drills::dead_address", || Box::pin(drills::short("dead-address"))),
        single("drills::ttl_low_high", || Box::pin(drills::short("ttl-low-high"))),
        single("drills::resolver_pins", || Box::pin(drills::short("resolver-pins"))),
        single("drills::all_down", || Box::pin(drills::short("all-down"))),
        single("drills::primary_authority_dies", || Box::pin(drills::short("primary-authority-dies"))),
    ])
}
