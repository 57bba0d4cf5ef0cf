//! One HTTP request over a connection of its own, as health checks send it. Who calls it sets the deadline.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// Longest body of an answer that is read.
const ANSWER_BYTES_MAX: usize = 16_384;

/// Sends `request`, reads the answer and closes. A page that is longer than any health answer has its status, and counts as
/// without a body. The error is for people.
pub async fn exchange<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<(StatusCode, Bytes), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        match body {
            Ok(body) => Ok((status, body.to_bytes())),
            Err(error) if error.is::<LengthLimitError>() => Ok((status, Bytes::new())),
            Err(error) => Err(format!("status {status}, then {error}")),
        }
    };
    let mut exchange = std::pin::pin!(exchange);
    // The connection is driven here rather than in a task: when time is up both go.
    tokio::select! {
        biased;
        answered = exchange.as_mut() => answered,
        _ = connection => exchange.await,
    }
}
