//! Where work waits for the disk.

/// Does what waits for the disk where nobody else waits for it. `None` if it panicked.
pub(super) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    #[cfg(feature = "internals")]
    if crate::disk::simulation().is_some() {
        return Some(work());
    }
    tokio::task::spawn_blocking(work).await.ok()
}
