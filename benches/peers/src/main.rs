//! Compares Kafka producers: the same records, settings and broker for each.

mod cases;
mod clients;
mod follow;
mod job;
mod load;
mod measure;
mod picture;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use cases::{CASES, Case};
use clap::Parser;
use clients::{PEERS, Peer};
use job::Job;
use measure::{Setting, become_on_core, broker, measure};
use report::{Entrant, Report};

/// Measures Kafka producers. Each runs as its own process on the first core, against a broker on
/// the second core that acknowledges and stores nothing.
///
/// Linux, two cores. franz-go needs Go, the Java producer a JDK 17 and Maven. What is missing is
/// reported and left out. With everything it takes 20 minutes.
#[derive(Parser)]
struct Args {
    /// Only these, by name.
    #[arg(long, value_delimiter = ',', value_parser = PEERS.iter().map(|it| it.name).collect::<Vec<_>>())]
    clients: Vec<String>,
    /// Only these, by name.
    #[arg(long, value_delimiter = ',', value_parser = CASES.map(|it| it.name).to_vec())]
    cases: Vec<String>,
    /// How often each client runs each case. The order of the clients alternates.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Milliseconds before the measured window. The Java producer gets at least 5,000.
    #[arg(long, default_value_t = 2000)]
    warm_up: u64,
    /// Milliseconds of the measured window.
    #[arg(long, default_value_t = 1500)]
    window: u64,
    /// Real brokers, whose topics peers-1, peers-6, peers-12, peers-100 and peers-1000 have that
    /// many partitions. Without --cases: only 12 partitions.
    #[arg(long, value_name = "HOST:PORT")]
    brokers: Option<String>,
    /// The broker verifies every CRC and sequence number. Then the figures are not comparable.
    #[arg(long, conflicts_with = "brokers")]
    check: bool,
    /// A folder for the tables, the picture, and the figures of each run.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut words: impl Iterator<Item = String>) -> Result<(), String> {
    match words.next().as_deref() {
        Some("on-core") => {
            let core = words
                .next()
                .and_then(|core| core.parse().ok())
                .expect("a core");
            become_on_core(core, words.collect())
        }
        Some("broker") => {
            let partitions = words.next().and_then(|n| n.parse().ok()).expect("a number");
            let check = words.next().as_deref() == Some("true");
            broker(partitions, check, words.next())?;
            Ok(())
        }
        Some("client") => {
            let peer = words
                .next()
                .and_then(|name| Peer::named(&name))
                .expect("a client");
            peer.drive(&Job::parse(words));
            Ok(())
        }
        _ => compare(Args::parse()),
    }
}

fn compare(args: Args) -> Result<(), String> {
    let this = std::env::current_exe().map_err(|e| e.to_string())?;
    let target = this.parent().ok_or("a folder to build in")?;
    let mut entrants = Vec::new();
    for peer in PEERS {
        if !args.clients.is_empty() && !args.clients.iter().any(|name| name == peer.name) {
            continue;
        }
        match peer.prepare(target) {
            Ok((program, version)) => entrants.push(Entrant {
                peer,
                program,
                version,
            }),
            Err(why) => eprintln!("without {}: {why}", peer.title),
        }
    }
    let chosen = |case: &&Case| match &args.cases[..] {
        [] if args.brokers.is_some() => case.name == "12p",
        [] => case.transactions.is_none(),
        names => names.iter().any(|name| name == case.name),
    };
    let cases: Vec<_> = CASES.iter().filter(chosen).collect();
    let committing = |case: &&&Case| case.transactions.is_some();
    if let (None, Some(case)) = (&args.brokers, cases.iter().find(committing)) {
        return Err(format!("{} takes real brokers: --brokers", case.name));
    }
    let command = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    let mut report = Report::new(&entrants, &cases, &command);
    for (row, case) in cases.iter().enumerate() {
        for round in 0..args.rounds {
            let forwards = 0..entrants.len();
            let order: Vec<_> = match round % 2 {
                0 => forwards.collect(),
                _ => forwards.rev().collect(),
            };
            for column in order {
                let Entrant { peer, program, .. } = &entrants[column];
                if (case.tls && !peer.tls)
                    || (case.transactions.is_some() && !peer.transactions)
                    || (case.tasks > 0 && !peer.tasks)
                {
                    continue;
                }
                let setting = Setting {
                    brokers: args.brokers.as_deref(),
                    check: args.check,
                    warm_up: args.warm_up.max(peer.warm_up),
                    window: args.window,
                };
                match measure(case, program, &setting) {
                    Ok(figures) => {
                        eprintln!("{} / {}: {figures:?}", case.title, peer.title);
                        report.add(row, column, figures);
                    }
                    Err(why) => eprintln!("{} / {}: {why}", case.title, peer.title),
                }
            }
        }
    }
    println!("{}", report.markdown());
    if let Some(dir) = args.out {
        let write = |name: &str, text: String| {
            let path = dir.join(name);
            std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))
        };
        std::fs::create_dir_all(&dir).map_err(|e| e.to_string())?;
        write("peers.md", report.markdown())?;
        write("runs.csv", report.csv())?;
        write("peers.svg", picture::draw(&report))?;
    }
    Ok(())
}
