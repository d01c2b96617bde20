//! The certificates in use: they are warned of before they expire, and seen in metrics.

use std::time::Duration;

use actix::prelude::*;

use super::RuntimeActor;
use crate::actors::guard::On;
use crate::actors::messages::CertificatesSeen;
use crate::core::security::{Expiring, Whose};
use crate::intake::wall_clock;
use crate::meters::certificate_expiry;

impl RuntimeActor {
    /// Warns of what expires soon. Connections may last for months, so it is looked at with each view of
    /// the cluster, too.
    pub(super) fn look_at_certificates(&mut self) {
        let now = Duration::from_millis(wall_clock::millis().unsigned_abs());
        for Expiring {
            whose,
            end,
            days_left,
        } in self.expiries.due(now)
        {
            let what = match days_left {
                ..0 => "has expired: replace it",
                _ => "expires soon: replace it before then",
            };
            let (subject, until) = (end.subject, end.until);
            match whose {
                Whose::Client => {
                    tracing::warn!(%subject, %until, days_left, "this client's certificate {what}");
                }
                Whose::Broker(broker) => {
                    tracing::warn!(
                        %broker, %subject, %until, days_left,
                        "a certificate of a broker {what}"
                    );
                }
            }
        }
    }

    /// Forgets the certificates of brokers that are gone.
    pub(super) fn forget_certificates(&mut self) {
        let bootstrap = &self.config.bootstrap_servers;
        let senders = &self.senders;
        let gone = self.expiries.keep(|endpoint| {
            bootstrap.contains(endpoint) || senders.values().any(|it| it.endpoint == *endpoint)
        });
        for endpoint in gone {
            certificate_expiry(&self.client_id, Some(&endpoint), Duration::ZERO);
        }
    }
}

impl On<CertificatesSeen> for RuntimeActor {
    fn on(&mut self, seen: CertificatesSeen, _: &mut Context<Self>) {
        self.expiries.seen(Whose::Broker(seen.broker), &seen.shown);
        self.expiries.seen(Whose::Client, &seen.own);
        for (whose, end) in self.expiries.ends() {
            let broker = match whose {
                Whose::Client => None,
                Whose::Broker(endpoint) => Some(endpoint),
            };
            certificate_expiry(&self.client_id, broker, end.not_after);
        }
        self.look_at_certificates();
    }
}
