//! A connection that carries one request at a time.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::time::{Instant, timeout};

use super::connection::{Call, Connection, connect, exchange};
use super::{ConnectOptions, Endpoint, NetError};
use crate::core::dial::Learned;
use crate::core::wire::{Addressee, Api, Versions, WireError};

/// Who sends a request gets the connection back with the answer. A request that fails or is cancelled
/// closes it. Otherwise the late response could be taken for that of the next request.
pub(super) struct Live {
    pub connection: Connection,
    /// Whether any request after the handshake got a response.
    proven: bool,
    correlation_id: i32,
}

impl Live {
    pub async fn open(
        endpoint: &Endpoint,
        addressee: Option<&Addressee>,
        options: &ConnectOptions,
        learned: &mut Learned,
    ) -> Result<Self, NetError> {
        Ok(Self {
            connection: connect(endpoint, addressee, options, learned).await?,
            proven: false,
            correlation_id: 0,
        })
    }

    pub fn endpoint(&self) -> &Endpoint {
        self.connection.reader.endpoint()
    }

    pub fn versions(&self) -> &Versions {
        &self.connection.versions
    }

    pub fn is_proven(&self) -> bool {
        self.proven
    }

    /// Whether the broker has not closed the connection yet, as it does when it was idle for long. To be
    /// called while no answer is due.
    pub fn is_open(&mut self) -> bool {
        // Any answer is none that was asked for.
        self.connection.reader.next().now_or_never().is_none()
    }

    /// Logs in again where that is due, and encodes a request in the version that `choose` takes. Nothing
    /// of it is sent.
    pub async fn prepare(
        &mut self,
        options: &ConnectOptions,
        api: Api,
        choose: impl FnOnce(&Versions) -> Result<i16, WireError>,
        encode: impl FnOnce(i16, i32, &str) -> Result<Bytes, WireError>,
    ) -> Result<Call, NetError> {
        let term = self.connection.term.as_ref();
        if term.is_some_and(|term| term.renew_at() <= Instant::now()) {
            self.connection.log_in(options).await?;
        }
        let wire_error = |error| NetError::wire(self.endpoint(), error);
        let version = choose(self.versions()).map_err(wire_error)?;
        let correlation_id = self.correlation_id.wrapping_add(1);
        let request = encode(version, correlation_id, &options.client_id).map_err(wire_error)?;
        self.correlation_id = correlation_id;
        Ok(Call {
            api,
            version,
            correlation_id,
            request,
        })
    }

    /// Sends a request and waits for its answer.
    pub async fn exchange<A>(
        self,
        options: &ConnectOptions,
        call: &Call,
        decode: impl FnOnce(i16, &Bytes) -> Result<A, WireError>,
    ) -> Result<(Self, A), NetError> {
        let after = options.request_timeout;
        self.exchange_within(after, options, call, decode).await
    }

    /// The same for a request that may take another time than `request_timeout`.
    pub async fn exchange_within<A>(
        mut self,
        after: Duration,
        options: &ConnectOptions,
        call: &Call,
        decode: impl FnOnce(i16, &Bytes) -> Result<A, WireError>,
    ) -> Result<(Self, A), NetError> {
        let Connection { reader, writer, .. } = &mut self.connection;
        let (endpoint, api) = (reader.endpoint().clone(), call.api);
        let body = match timeout(after, exchange(reader, writer, call)).await {
            Ok(Ok(body)) => body,
            // After a login it is no sign that one is asked for.
            Ok(Err(error))
                if error.is_closed_unsaid() && !self.proven && options.security.login.is_none() =>
            {
                return Err(NetError::ClosedAfterHandshake {
                    endpoint,
                    protocol: options.security.protocol(),
                });
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                return Err(NetError::RequestTimeout {
                    endpoint,
                    api,
                    after,
                });
            }
        };
        let answer =
            decode(call.version, &body).map_err(|error| NetError::wire(&endpoint, error))?;
        self.proven = true;
        Ok((self, answer))
    }
}
