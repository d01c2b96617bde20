//! Logins by each mechanism, in the clear and encrypted.

use forebay::config::ConfigBuilder;
use forebay_kafka_cluster::Load;

use super::{HARD, OTHER, PASSWORD, PLAIN, SCRAM, USER, quoted, secured, skipped};

/// As the user whom the brokers know.
pub fn by(config: ConfigBuilder, mechanism: &str) -> ConfigBuilder {
    config
        .set("sasl.mechanism", mechanism)
        .set("sasl.username", USER)
        .set("sasl.password", PASSWORD)
}

#[test]
fn records_arrive_after_a_login() {
    if skipped("records_arrive_after_a_login") {
        return;
    }
    let secured = secured();
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        for (listener, protocol) in [("LOGIN", "SASL_PLAINTEXT"), ("LOGINTLS", "SASL_SSL")] {
            let topic = format!("{protocol}-{mechanism}");
            secured.arrives(&topic, by(secured.config(listener, protocol), mechanism));
        }
    }
}

#[test]
fn a_file_that_java_takes_is_all_it_needs() {
    if skipped("a_file_that_java_takes_is_all_it_needs") {
        return;
    }
    let secured = secured();
    for (name, module, mechanism, user, password) in [
        ("plain", PLAIN, "PLAIN", OTHER, HARD),
        ("scram", SCRAM, "SCRAM-SHA-512", USER, PASSWORD),
    ] {
        // The file takes one of two backslashes, too.
        let password = quoted(password).replace('\\', "\\\\");
        let file = secured.dir.join(format!("{name}.properties"));
        let text = format!(
            "bootstrap.servers={}\n\
             security.protocol=SASL_SSL\n\
             ssl.truststore.type=PEM\n\
             ssl.truststore.location={}\n\
             sasl.mechanism={mechanism}\n\
             sasl.jaas.config={module} required \\\n   username=\"{user}\" \\\n   \
             password=\"{password}\";\n",
            secured.cluster.bootstrap_of("LOGINTLS"),
            secured.signer.certificate.display(),
        );
        std::fs::write(&file, text).unwrap();
        let config = forebay::Config::builder().file(&file);
        secured.arrives(&format!("file-{name}"), config);
    }
}

/// The broker ends a login after two seconds. Sending goes on over the same connection.
#[test]
fn a_login_is_renewed_while_records_flow() {
    if skipped("a_login_is_renewed_while_records_flow") {
        return;
    }
    let secured = secured();
    for mechanism in ["PLAIN", "SCRAM-SHA-512"] {
        let topic = format!("renewed-{mechanism}");
        secured.cluster.create_topic(&topic, 3, 1, &[]).unwrap();
        // A broker tells of a topic before its leaders are there, and has the first records sent again.
        assert_eq!(secured.cluster.seen(&topic).records(), 0);
        let config = by(secured.config("RENEW", "SASL_SSL"), mechanism);
        let config = config.set("metadata.max.age.ms", 700).build().unwrap();
        let load = Load::new(&topic, 50_000).per_second(5_000);
        let outcomes = load.run(config);
        println!("{topic}: {outcomes}");
        outcomes.all_acked_in(&secured.cluster.seen(&topic));
        assert_eq!(outcomes.retries, 0, "no connection was lost");
    }
}
