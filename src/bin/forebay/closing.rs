//! The end of a command that has a producer.

use std::time::Duration;

use forebay::Producer;

/// How long the producer may take to close after all was delivered.
pub const TO_CLOSE: Duration = Duration::from_secs(10);

/// What is not delivered in time is told, and each of its records has its outcome.
pub async fn close(producer: &Producer, within: Duration) {
    if let Err(error) = producer.close(within).await {
        eprintln!("closing: {error}");
    }
}
