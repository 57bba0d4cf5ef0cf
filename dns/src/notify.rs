//! NOTIFY (RFC 1996): tells secondaries that a zone has a new serial, so that they need not wait for its refresh time.
//!
//! One task a secondary. It sends over UDP and again, each time twice as long after the time before, until the secondary
//! answers; changes in the meantime become one notification. A secondary that never answers finds out by itself.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::metrics::Metrics;
use crate::tsig::{Key, Signer};
use crate::wire::query::HEADER_BYTES;
use crate::wire::{Class, Full, Name, Opcode, RecordType, Writer};
use crate::zone::{Zone, Zones};

/// Before the second try; doubled before each further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const TRIES: u32 = 5;
const MESSAGE_BYTES_MAX: usize = 512;

/// One secondary, and what it was told.
#[derive(Debug)]
pub struct Secondary {
    pub address: SocketAddr,
    /// Ours: secondaries take notifications only from a server that they know.
    pub source: Option<IpAddr>,
    pub key: Option<Arc<Key>>,
    pub metrics: Metrics,
    pub told: HashMap<Box<[u8]>, u32>,
}

/// Seconds since 1970.
pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Secondary {
    /// Tells of every zone at the start and of each new serial, until told to stop.
    pub async fn run(
        mut self,
        zones: Arc<ArcSwap<Zones>>,
        mut published: watch::Receiver<()>,
        stopping: CancellationToken,
    ) {
        let work = async {
            loop {
                published.mark_unchanged();
                let news: Vec<Arc<Zone>> =
                    zones.load().iter().filter(|zone| self.is_news(zone)).map(Arc::clone).collect();
                for zone in news {
                    self.tell(&zone).await;
                }
                if published.changed().await.is_err() {
                    return;
                }
            }
        };
        stopping.run_until_cancelled(work).await;
    }

    fn is_news(&self, zone: &Zone) -> bool {
        self.told.get(&zone.origin().key()) != Some(&zone.soa().1.serial)
    }

    /// Whatever becomes of it, this serial is not told again: who was away asks when it is back.
    async fn tell(&mut self, zone: &Zone) {
        let (origin, serial) = (zone.origin(), zone.soa().1.serial);
        self.told.insert(origin.key(), serial);
        match self.acknowledged(origin).await {
            Ok(true) => {
                self.metrics.notified(true);
                debug!(zone = %origin, serial, secondary = %self.address, "notified");
            }
            Ok(false) => {
                self.metrics.notified(false);
                warn!(zone = %origin, serial, secondary = %self.address, "no answer to a notification");
            }
            Err(error) => {
                self.metrics.notified(false);
                warn!(zone = %origin, serial, secondary = %self.address, %error, "cannot notify");
            }
        }
    }

    async fn acknowledged(&self, origin: &Name) -> std::io::Result<bool> {
        let any = if self.address.is_ipv4() {
            IpAddr::from(Ipv4Addr::UNSPECIFIED)
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let socket = UdpSocket::bind((self.source.unwrap_or(any), 0)).await?;
        socket.connect(self.address).await?;
        let mut wait = FIRST_WAIT;
        for _ in 0..TRIES {
            let id = fastrand::u16(..);
            let mut message = notification(id, origin).expect("512 octets hold a header and any question");
            let signer = self.key.clone().map(|key| {
                let mut signer = Signer::request(key);
                signer.sign(&mut message, 0, now_s());
                signer
            });
            let deadline = Instant::now() + wait;
            // Nobody there is an error of a later call; there may be somebody at the next try.
            let sent = socket.send(&message).await.is_ok();
            while sent && let Some(answer) = receive(&socket, deadline).await {
                if is_acknowledgement(&answer, id)
                    && signer.as_ref().is_none_or(|it| it.accepts(&answer, now_s()))
                {
                    return Ok(true);
                }
            }
            tokio::time::sleep_until(deadline).await;
            wait *= 2;
        }
        Ok(false)
    }
}

/// The next datagram before the deadline.
async fn receive(socket: &UdpSocket, deadline: Instant) -> Option<Vec<u8>> {
    let mut buffer = vec![0; MESSAGE_BYTES_MAX];
    let received = timeout_at(deadline, socket.recv(&mut buffer)).await.ok()?;
    buffer.truncate(received.ok()?);
    Some(buffer)
}

/// RFC 1996 section 3.7: a question for the SOA, with AA, and no more.
fn notification(id: u16, origin: &Name) -> Result<Vec<u8>, Full> {
    let mut out = Vec::with_capacity(MESSAGE_BYTES_MAX);
    let mut writer = Writer::new(&mut out, MESSAGE_BYTES_MAX);
    writer.put_u16(id)?;
    writer.put(&[Opcode::NOTIFY.0 << 3 | 0x04, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
    writer.put_name(origin)?;
    writer.put_u16(RecordType::SOA.0)?;
    writer.put_u16(Class::IN.0)?;
    Ok(out)
}

/// RFC 1996 section 4.7: the same id and opcode with QR set; any code ends the tries.
fn is_acknowledgement(message: &[u8], id: u16) -> bool {
    message.len() >= HEADER_BYTES
        && message[..2] == id.to_be_bytes()
        && message[2] & 0xF8 == 0x80 | Opcode::NOTIFY.0 << 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notification_is_a_question_with_authority() {
        let message = notification(0x1234, &Name::from_text(b"a.example.", None).unwrap()).unwrap();
        assert_eq!(message, b"\x12\x34\x24\0\0\x01\0\0\0\0\0\0\x01a\x07example\0\0\x06\0\x01");
        assert!(!is_acknowledgement(&message, 0x1234));
    }

    #[test]
    fn any_answer_with_its_id_acknowledges() {
        let mut answer = notification(0x1234, &Name::root()).unwrap();
        answer[2] |= 0x80;
        assert!(is_acknowledgement(&answer, 0x1234) && !is_acknowledgement(&answer, 0x1235));
        answer[3] |= 5;
        assert!(is_acknowledgement(&answer, 0x1234));
        assert!(!is_acknowledgement(&answer[..11], 0x1234));
    }
}
