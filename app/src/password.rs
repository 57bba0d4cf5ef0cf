//! Passwords: argon2id, a few at once.
//!
//! Each hash takes 19 MiB and some tens of milliseconds of one core (OWASP's first choice of parameters). Without a limit a burst of log-ins would
//! take all memory and every core; so only a few run at once, a bounded crowd waits a bounded time, and the rest is
//! told to come back. Unknown e-mail addresses cost the same as known ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Security;
use crate::metrics::Metrics;
use crate::problem::Problem;

const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const RETRY_AFTER_SECONDS: u32 = 2;

/// The turnstile in front of the hashing.
#[derive(Debug)]
pub(crate) struct Passwords {
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
    waiters_max: usize,
    wait: Duration,
    metrics: Metrics,
    /// The hash of nothing anybody knows, for users who do not exist.
    decoy: String,
}

impl Passwords {
    pub(crate) fn new(security: &Security, metrics: Metrics) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(security.password_hashes_at_once)),
            waiting: AtomicUsize::new(0),
            waiters_max: security.password_waiters_max,
            wait: security.password_wait,
            metrics,
            decoy: decoy(),
        }
    }

    /// The hash of a new password, in the PHC string form.
    pub(crate) async fn hash(&self, password: String) -> Result<String, Problem> {
        let turn = self.turn().await?;
        on_its_own_thread(turn, move || {
            argon2()
                .hash_password(password.as_bytes())
                .map(|hash| hash.to_string())
                .map_err(|error| error.to_string())
        })
        .await?
        .map_err(Problem::internal)
    }

    /// Whether the password is the one that `hash` was made from; `None` takes as long and is always false.
    pub(crate) async fn verify(&self, password: String, hash: Option<String>) -> Result<bool, Problem> {
        let turn = self.turn().await?;
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.decoy.clone());
        let matches = on_its_own_thread(turn, move || {
            let hash = PasswordHash::new(&hash).map_err(|error| error.to_string())?;
            Ok::<_, String>(argon2().verify_password(password.as_bytes(), &hash).is_ok())
        })
        .await?
        .map_err(Problem::internal)?;
        Ok(matches && known)
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let started = Instant::now();
        let crowd =
            Waiter::join(&self.waiting, self.waiters_max).ok_or_else(|| self.shed("password-crowd"))?;
        let turn = tokio::time::timeout(self.wait, self.turns.clone().acquire_owned())
            .await
            .map_err(|_| self.shed("password-wait"))?
            .expect("the semaphore is never closed");
        drop(crowd);
        self.metrics.password_wait_seconds.observe(started.elapsed().as_secs_f64());
        Ok(turn)
    }

    fn shed(&self, limit: &'static str) -> Problem {
        self.metrics.shed.get_or_create(&("limit", limit).into()).inc();
        Problem {
            retry_after: Some(RETRY_AFTER_SECONDS),
            ..Problem::unavailable("busy", "too many log-ins at once; try again in a moment")
        }
    }
}

/// One place in the crowd, given back when dropped.
struct Waiter<'a>(&'a AtomicUsize);

impl<'a> Waiter<'a> {
    fn join(waiting: &'a AtomicUsize, max: usize) -> Option<Self> {
        let waiter = Self(waiting);
        (waiting.fetch_add(1, Ordering::Relaxed) < max).then_some(waiter)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The turn is held until the work is done, also when the request that wanted it is gone.
async fn on_its_own_thread<T: Send + 'static>(
    turn: OwnedSemaphorePermit,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(move || {
        let _turn = turn;
        work()
    })
    .await
    .map_err(|error| Problem::internal(error.to_string()))
}

fn argon2() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None)
        .expect("the parameters are within the algorithm's bounds");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// Well-formed, with our parameters, made of random bytes: costs nothing to make, and as much as any other to verify.
fn decoy() -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD_NO_PAD;
    let mut bytes = [0; 48];
    getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
    let (salt, hash) = bytes.split_at(16);
    format!(
        "$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${}${}",
        STANDARD_NO_PAD.encode(salt),
        STANDARD_NO_PAD.encode(hash)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passwords(waiters_max: usize) -> Passwords {
        let security = Security {
            signing_keys: None,
            password_hashes_at_once: 1,
            password_waiters_max: waiters_max,
            password_wait: Duration::from_millis(20),
        };
        Passwords::new(&security, Metrics::new())
    }

    #[tokio::test]
    async fn a_hash_fits_its_password_only() {
        let passwords = passwords(8);
        let hash = passwords.hash("correct horse".into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(passwords.verify("correct horse".into(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify("wrong horse".into(), Some(hash)).await.unwrap());
        assert!(!passwords.verify("correct horse".into(), None).await.unwrap());
        assert!(PasswordHash::new(&decoy()).is_ok());
    }

    #[tokio::test]
    async fn a_crowd_is_told_to_come_back() {
        let passwords = passwords(1);
        let turn = passwords.turn().await.unwrap();
        let late = passwords.turn().await.unwrap_err();
        assert_eq!((late.status.as_u16(), late.retry_after), (503, Some(2)));
        drop(turn);
        assert!(passwords.turn().await.is_ok());
        let _full = Waiter::join(&passwords.waiting, 1).unwrap();
        assert_eq!(passwords.turn().await.unwrap_err().kind, "busy");
    }
}
