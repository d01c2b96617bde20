//! Ctrl-C.

use std::io;

/// Waits for the first Ctrl-C. After it, another one ends the process at once.
pub async fn interrupt() {
    // One listener for both. A new one would miss a Ctrl-C before its first poll.
    let Ok(mut presses) = presses() else {
        // Without a listener, Ctrl-C ends the process, which is the default.
        return std::future::pending().await;
    };
    presses.recv().await;
    tokio::spawn(async move {
        if presses.recv().await.is_some() {
            std::process::exit(130);
        }
    });
}

#[cfg(unix)]
fn presses() -> io::Result<tokio::signal::unix::Signal> {
    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())
}

#[cfg(windows)]
fn presses() -> io::Result<tokio::signal::windows::CtrlC> {
    tokio::signal::windows::ctrl_c()
}
