//! A DNS server for tests that answers what a closure says, over UDP and TCP on one port.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_proto::op::{Message, OpCode};
use hickory_proto::rr::{RData, Record, rdata};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

pub(crate) struct FakeDns {
    pub(crate) address: SocketAddr,
    pub(crate) queries: Arc<AtomicUsize>,
    tasks: [tokio::task::JoinHandle<()>; 2],
}

impl Drop for FakeDns {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// Answers `build(query, over_tcp)`; `None` is silence.
pub(crate) async fn serve(
    build: impl Fn(&Message, bool) -> Option<Message> + Send + Sync + 'static,
) -> FakeDns {
    let build = Arc::new(build);
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let udp = UdpSocket::bind(address).await.unwrap();
    let queries = Arc::new(AtomicUsize::new(0));
    let (counted, on_udp) = (queries.clone(), build.clone());
    let udp_task = tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = udp.recv_from(&mut buffer).await {
            counted.fetch_add(1, Ordering::Relaxed);
            let query = Message::from_vec(&buffer[..length]).unwrap();
            if let Some(answer) = on_udp(&query, false) {
                udp.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
            }
        }
    });
    let tcp_task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            let length = stream.read_u16().await.unwrap();
            let mut bytes = vec![0; usize::from(length)];
            stream.read_exact(&mut bytes).await.unwrap();
            if let Some(answer) = build(&Message::from_vec(&bytes).unwrap(), true) {
                let bytes = answer.to_vec().unwrap();
                stream.write_u16(u16::try_from(bytes.len()).unwrap()).await.unwrap();
                stream.write_all(&bytes).await.unwrap();
            }
        }
    });
    FakeDns { address, queries, tasks: [udp_task, tcp_task] }
}

pub(crate) fn reply(query: &Message, addresses: &[Ipv4Addr], ttl_s: u32) -> Message {
    let mut answer = Message::response(query.metadata.id, OpCode::Query);
    answer.add_queries(query.queries.clone());
    for address in addresses {
        let name = query.queries[0].name.clone();
        answer.add_answer(Record::from_rdata(name, ttl_s, RData::A(rdata::A(*address))));
    }
    answer
}
