//! The configurations of docs/clouds.md.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use forebay::Config;
use forebay::config::SecurityProtocol;

const PAGE: &str = include_str!("../../docs/clouds.md");

/// The blocks of configuration, under their headings.
fn configurations() -> BTreeMap<&'static str, Vec<String>> {
    let mut found: BTreeMap<_, Vec<String>> = BTreeMap::new();
    let (mut heading, mut open) = ("", false);
    for line in PAGE.lines() {
        match line.trim_start_matches('#') {
            title if title.len() < line.len() && !open => heading = title.trim(),
            "```properties" => {
                open = true;
                found.entry(heading).or_default().push(String::new());
            }
            "```" => open = false,
            _ if open => {
                let blocks = found.get_mut(heading).expect("opened");
                let block = blocks.last_mut().expect("opened");
                *block += line;
                *block += "\n";
            }
            _ => {}
        }
    }
    found
}

fn read(name: &str, text: &str) -> Config {
    Config::from_properties(text).unwrap_or_else(|error| panic!("{name}: {error}\n{text}"))
}

#[test]
fn each_configuration_of_the_page_is_one() {
    let secrets = tempfile::tempdir().expect("a directory");
    let user = secrets.path().join("user");
    fs::create_dir(&user).expect("made");
    fs::write(user.join("user.password"), "secret").expect("written");
    let mounted = secrets.path().display().to_string();
    let mut count = 0;
    for (name, blocks) in configurations() {
        for block in blocks {
            let config = read(name, &block.replace("/etc/strimzi", &mounted));
            assert!(config.max_request_size >= config.batch_size, "{name}");
            assert!(config.buffer_memory >= 16 * config.batch_size, "{name}");
            let clear = ["AutoMQ", "Bufstream"].contains(&name);
            let protocol = config.security_protocol();
            assert_eq!(protocol == SecurityProtocol::Plaintext, clear, "{name}");
            count += 1;
        }
    }
    assert_eq!(count, 14, "none is left out");
}

#[test]
fn the_page_sets_what_the_clouds_ask_for() {
    let configurations = configurations();
    let of = |name: &str| read(name, &configurations[name][0]);
    let event_hubs = of("Azure Event Hubs");
    assert!(event_hubs.max_request_size < 1_046_528);
    let idle = event_hubs.connections_max_idle.expect("closed");
    assert!(idle < Duration::from_secs(240));
    let msk = of("Amazon MSK");
    assert_eq!(msk.bootstrap_servers.len(), 2);
    assert_eq!(msk.reconnect_backoff, Duration::from_secs(1));
    assert!(of("Confluent Cloud").enable_idempotence);
    let freight = of("Freight");
    assert!(!freight.enable_idempotence && !freight.partitioner_adaptive);
    let warpstream = of("WarpStream");
    assert!(!warpstream.enable_idempotence);
    assert!(warpstream.client_id.ends_with(",warpstream_az=us-east-1a"));
    assert!(of("Bufstream").client_id.ends_with(",zone=us-east-1a"));
}
