//! Certificates that expire soon, this client's and a broker's.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay::{Placement, Producer, Record};
use forebay_kafka_cluster::Printed;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use super::{secured, skipped};

/// The gauges of this thread, by their name and labels.
#[derive(Default)]
struct Gauges(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

impl Recorder for Gauges {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let labels = key.labels().filter(|it| it.key() != "client-id");
        let labels: Vec<_> = labels.map(|it| it.value().to_owned()).collect();
        let name = format!("{} {}", key.name(), labels.join(" "));
        let mut gauges = self.0.lock().unwrap();
        Gauge::from_arc(Arc::clone(gauges.entry(name).or_default()))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[test]
fn certificates_that_expire_soon_are_warned_of_once_and_seen_in_figures() {
    if skipped("certificates_that_expire_soon_are_warned_of_once_and_seen_in_figures") {
        return;
    }
    let secured = secured();
    secured.cluster.create_topic("soon", 1, 1, &[]).unwrap();
    let day = Duration::from_secs(86_400);
    let hour = Duration::from_secs(3_600);
    let signer = &secured.signer;
    let own = signer.signs_for("own-soon", &["me"], 20 * day - hour);
    let (printed, gauges) = (Printed::default(), Gauges::default());
    // The runtime shares this thread.
    let _printing = printed.keep_log(tracing::Level::WARN);
    let _recorder = metrics::set_default_local_recorder(&gauges);
    let config = secured
        .config("SOON", "SSL")
        .set("ssl.keystore.type", "PEM")
        .set("ssl.keystore.location", own.display())
        // Every record gets a connection of its own.
        .set("connections.max.idle.ms", 1)
        .build()
        .unwrap();
    let broker = secured.cluster.bootstrap_of("SOON");
    let figures = actix::System::new().block_on(async {
        let builder = Producer::builder().placement(Placement::CurrentArbiter);
        let producer = builder.start(config).unwrap();
        for _ in 0..5 {
            let record = Record::to("soon").value("1");
            producer.send(record).await.unwrap().await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let figures = producer.figures().await.unwrap();
        producer.close(Duration::from_secs(5)).await.unwrap();
        figures
    });
    let log = printed.text();
    println!("{log}{:#?}", figures.certificates);
    let lines = |phrase: &str| log.lines().filter(|it| it.contains(phrase)).count();
    assert_eq!(lines("this client's certificate expires soon"), 1, "{log}");
    assert_eq!(lines("a certificate of a broker expires soon"), 1, "{log}");
    for phrase in [
        "CN=own-soon",
        "days_left=19",
        "CN=soon",
        "days_left=5",
        &broker,
    ] {
        assert!(log.contains(phrase), "{phrase}: {log}");
    }
    let seen = figures.certificates.iter();
    let seen: Vec<_> = seen
        .map(|it| (it.broker.as_deref(), &*it.subject))
        .collect();
    assert_eq!(seen, [(None, "CN=own-soon"), (Some(&*broker), "CN=soon")]);
    let gauges = gauges.0.lock().unwrap();
    let gauge = |name: &str| f64::from_bits(gauges[name].load(Ordering::Relaxed)) as i64;
    assert_eq!(
        gauge("client-certificate-expiry-time-ms "),
        figures.certificates[0].expires_at_ms
    );
    assert_eq!(
        gauge(&format!("broker-certificate-expiry-time-ms {broker}")),
        figures.certificates[1].expires_at_ms
    );
    let between = figures.certificates[0].expires_at_ms - figures.certificates[1].expires_at_ms;
    let days = between / i64::try_from(day.as_millis()).unwrap();
    assert_eq!(days, 14);
}
