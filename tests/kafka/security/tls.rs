//! TLS, and clients that show a certificate.

#[cfg(feature = "graviola")]
use forebay_kafka_cluster::Printed;

use super::{secured, skipped};

#[test]
fn records_arrive_over_tls() {
    if skipped("records_arrive_over_tls") {
        return;
    }
    let secured = secured();
    secured.arrives("tls", secured.config("TLS", "SSL"));
    secured.arrives("tls-1-2", secured.config("TLS12", "SSL"));
}

#[test]
fn records_arrive_where_clients_show_a_certificate() {
    if skipped("records_arrive_where_clients_show_a_certificate") {
        return;
    }
    let secured = secured();
    let own = secured.signer.signs("client", &["client"]);
    let config = secured.config("MUTUAL", "SSL");
    let config = config
        .set("ssl.keystore.type", "PEM")
        .set("ssl.keystore.location", own.display());
    secured.arrives("mutual", config);
}

#[test]
fn a_host_that_is_not_checked_may_have_another_name() {
    if skipped("a_host_that_is_not_checked_may_have_another_name") {
        return;
    }
    let secured = secured();
    let config = secured.config("ELSEWHERE", "SSL");
    let config = config.set("ssl.endpoint.identification.algorithm", "");
    secured.arrives("elsewhere", config);
}

/// The application's own configuration, in place of the settings. No session is resumed here: Kafka gives
/// tickets and takes none, as `openssl s_client -reconnect` shows.
#[cfg(feature = "graviola")]
#[test]
fn the_applications_own_tls_makes_each_connection() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use forebay::rustls::pki_types::CertificateDer;
    use forebay::rustls::pki_types::pem::PemObject;
    use forebay::rustls::{ClientConfig, RootCertStore};
    use forebay::{Config, Placement, Producer, Record};

    if skipped("the_applications_own_tls_makes_each_connection") {
        return;
    }
    let secured = secured();
    secured.cluster.create_topic("own-tls", 1, 1, &[]).unwrap();
    for (listener, version) in [("TLS12", "TLSv1_2"), ("TLS", "TLSv1_3")] {
        let mut roots = RootCertStore::empty();
        let signer = CertificateDer::from_pem_file(&secured.signer.certificate);
        roots.add(signer.unwrap()).unwrap();
        let provider = Arc::new(rustls_graviola::default_provider());
        let own = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (own, asked) = (Arc::new(own), Arc::new(AtomicUsize::new(0)));
        let config = Config::builder()
            .bootstrap_servers(secured.cluster.bootstrap_of(listener))
            .set("security.protocol", "SSL")
            // Every record gets a connection of its own.
            .set("connections.max.idle.ms", 1);
        let printed = Printed::default();
        // The runtime shares this thread, and with it what it prints to.
        let _printing = printed.keep_log(tracing::Level::DEBUG);
        let asks = Arc::clone(&asked);
        actix::System::new().block_on(async {
            let producer = Producer::builder()
                .placement(Placement::CurrentArbiter)
                .tls(move || {
                    asks.fetch_add(1, Ordering::Relaxed);
                    Ok(Arc::clone(&own))
                })
                .start(config.build().unwrap())
                .unwrap();
            for value in 0..3 {
                let record = Record::to("own-tls").value(value.to_string());
                let receipt = producer.send(record).await.unwrap();
                receipt.await.unwrap();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            let closed = producer.close(Duration::from_secs(5)).await;
            closed.expect("closed in time");
        });
        let text = printed.text();
        let lines: Vec<_> = text.lines().filter(|it| it.contains("TLS is up")).collect();
        assert_eq!(lines.len(), asked.load(Ordering::Relaxed), "{text}");
        assert!(lines.len() >= 3, "{text}");
        assert!(lines.iter().all(|it| it.contains(version)), "{lines:?}");
    }
}
