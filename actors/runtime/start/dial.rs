//! Makes the clients of those who ask brokers for something.

use std::sync::Arc;

use crate::config::{Config, MetadataRecovery};
use crate::net::{ConnectOptions, ControlClient, CoordinatorClient, TransactionClient};

/// Makes clients for metadata and producer ids. They have connections of their own, so that their
/// requests do not wait behind produce requests to a broker that hangs.
pub(super) fn dial(
    config: &Arc<Config>,
    connect: &ConnectOptions,
    seed: u64,
) -> impl Fn() -> ControlClient + 'static {
    let (config, connect) = (Arc::clone(config), connect.clone());
    let rebootstraps = config.metadata_recovery == MetadataRecovery::Rebootstrap;
    move || {
        ControlClient::new(
            config.bootstrap_servers.clone(),
            connect.clone(),
            (config.retry_backoff, config.retry_backoff_max),
            seed,
        )
        .rebootstraps_after(rebootstraps.then_some(config.rebootstrap_trigger))
    }
}

/// Makes clients for the coordinators of a transactional id and of groups.
pub(super) fn dial_coordinators(
    config: &Arc<Config>,
    connect: &ConnectOptions,
    seed: u64,
) -> impl Fn(&Arc<str>) -> TransactionClient + 'static {
    let (config, connect) = (Arc::clone(config), connect.clone());
    move |id| {
        let (config, connect) = (Arc::clone(&config), connect.clone());
        let (id, timeout) = (Arc::clone(id), config.transaction_timeout);
        let rebootstraps = config.metadata_recovery == MetadataRecovery::Rebootstrap;
        let dial = move |key| {
            let bootstrap = config.bootstrap_servers.clone();
            let backoff = (config.retry_backoff, config.retry_backoff_max);
            CoordinatorClient::new(key, bootstrap, connect.clone(), backoff, seed)
                .rebootstraps_after(rebootstraps.then_some(config.rebootstrap_trigger))
        };
        TransactionClient::new(id, timeout, Box::new(dial))
    }
}
