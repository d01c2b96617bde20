//! Measures one client in one case, with two child processes, each on its own core.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

use crate::cases::Case;
use crate::job::Job;

pub const CLIENT_CORE: usize = 0;
pub const BROKER_CORE: usize = 1;

/// Time for the start, and for records that are not acked when the window ends.
const TO_FINISH: Duration = Duration::from_secs(30);

/// The results of one run, in the window only.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Microseconds of processor time of the client's process, user and system, per acked record.
    pub cpu: f64,
    /// Acked records per second.
    pub rate: f64,
    /// The largest resident memory in the whole run, in MB.
    pub peak: f64,
    /// The share of its core that the broker used. `None` for a real broker.
    pub broker: Option<f64>,
    /// Latency in microseconds from when a record was due, or a commit asked for: p50 and p99.
    pub latency: Option<[f64; 2]>,
}

/// A child process that is killed when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A command that runs this program on one core, which then becomes `program`.
fn on_core(core: usize, program: &[String]) -> Result<Command, String> {
    let this = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut command = Command::new(this);
    command.arg("on-core").arg(core.to_string()).args(program);
    Ok(command)
}

/// The part of [`on_core`] in the child process.
pub fn become_on_core(core: usize, program: Vec<String>) -> Result<(), String> {
    use std::os::unix::process::CommandExt;
    let mut cores = CpuSet::new();
    cores.set(core).map_err(|e| e.to_string())?;
    sched_setaffinity(Pid::this(), &cores).map_err(|e| format!("core {core}: {e}"))?;
    let error = Command::new(&program[0]).args(&program[1..]).exec();
    Err(format!("{}: {error}", program[0]))
}

/// Nanoseconds of processor time that a process has used so far.
fn cpu_of(process: &Running) -> Result<(Instant, f64), String> {
    let clock = clock_getcpuclockid(Pid::from_raw(process.0.id() as i32));
    let time = clock
        .and_then(|clock| clock.now())
        .map_err(|e| e.to_string())?;
    let nanos = time.tv_sec() as f64 * 1e9 + time.tv_nsec() as f64;
    Ok((Instant::now(), nanos))
}

fn peak_of(child: &Child) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024.0 / 1e6)
}

/// Starts the forgetting broker, which encrypts if it is told where to put its certificate. Returns it
/// and its address.
fn start_broker(case: &Case, check: bool, certificate: &str) -> Result<(Running, String), String> {
    let this = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut words = vec![this.display().to_string(), "broker".into()];
    words.push(case.partitions.to_string());
    words.push(check.to_string());
    words.push(certificate.to_owned());
    let mut command = on_core(BROKER_CORE, &words)?;
    let mut broker = Running(
        command
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| e.to_string())?,
    );
    let mut address = String::new();
    let out = broker.0.stdout.take().ok_or("the broker's output")?;
    BufReader::new(out)
        .read_line(&mut address)
        .map_err(|e| e.to_string())?;
    Ok((broker, address.trim().to_owned()))
}

/// Runs the broker, in its own process.
pub fn broker(partitions: i32, check: bool, certificate: Option<String>) -> Result<(), String> {
    let tls = match certificate.filter(|path| !path.is_empty()) {
        Some(path) => {
            let (config, pem) = forgetting_broker::self_signed();
            std::fs::write(&path, pem).map_err(|e| format!("{path}: {e}"))?;
            Some(config)
        }
        None => None,
    };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
    println!("{}", listener.local_addr().map_err(|e| e.to_string())?);
    forgetting_broker::serve(listener, partitions, check, tls);
    Ok(())
}

/// A client's report at one moment: acked records, nanoseconds since its start, and nanoseconds of
/// processor time of all its threads. Also the broker's processor time, read when the report
/// arrives.
struct Mark {
    acked: f64,
    at: f64,
    cpu: f64,
    broker: Option<(Instant, f64)>,
}

pub struct Setting<'a> {
    pub brokers: Option<&'a str>,
    pub check: bool,
    pub warm_up: u64,
    pub window: u64,
}

pub fn measure(case: &Case, program: &[String], setting: &Setting<'_>) -> Result<Figures, String> {
    let certificate = match case.tls {
        true => std::env::temp_dir().join(format!("peers-{}.pem", std::process::id())),
        false => PathBuf::new(),
    };
    let certificate = certificate.display().to_string();
    let (broker, address) = match setting.brokers {
        Some(address) => (None, address.to_owned()),
        None => {
            let (broker, address) = start_broker(case, setting.check, &certificate)?;
            (Some(broker), address)
        }
    };
    let job = Job::new(
        case,
        (&address, &certificate),
        setting.warm_up,
        setting.window,
    );
    let mut command = on_core(CLIENT_CORE, &[program, &job.words()].concat())?;
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut client = Running(command.spawn().map_err(|e| e.to_string())?);
    let out = client.0.stdout.take().ok_or("the client's output")?;

    // A client may retry for ever if its broker is gone.
    let limit = Duration::from_millis(setting.warm_up + setting.window) + TO_FINISH;
    let (ended, end_of_client) = mpsc::channel::<()>();
    let pid = Pid::from_raw(client.0.id() as i32);
    let watch = std::thread::spawn(move || {
        let late = end_of_client.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
        if late {
            let _ = kill(pid, Signal::SIGKILL);
        }
        late
    });

    let mut marks = Vec::new();
    let mut end = None;
    let mut latency = None;
    let mut peak = None;
    for line in BufReader::new(out).lines() {
        let line = line.map_err(|e| e.to_string())?;
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let numbers: Vec<f64> = rest.split(' ').filter_map(|n| n.parse().ok()).collect();
        match (word, &numbers[..]) {
            ("warm" | "done", &[acked, at, cpu]) => marks.push(Mark {
                acked,
                at,
                cpu,
                broker: broker.as_ref().map(cpu_of).transpose()?,
            }),
            ("end", &[sent, acked, failed]) => end = Some((sent, acked, failed)),
            ("latency", &[p50, p99]) => latency = Some([p50, p99]),
            ("bye", []) => {
                peak = peak_of(&client.0);
                drop(client.0.stdin.take());
            }
            // Some clients log to standard output.
            _ => eprintln!("{line}"),
        }
    }
    drop(ended);
    if watch.join().unwrap_or(false) {
        return Err(format!("void: not done after {limit:?}"));
    }
    let (sent, acked, failed) = end.ok_or("void: the client fell")?;
    if sent != acked || failed > 0.0 {
        return Err(format!("void: {sent} sent, {acked} acked, {failed} failed"));
    }
    let [from, to] = &marks[..] else {
        return Err("void: no window".into());
    };
    let records = to.acked - from.acked;
    let seconds = (to.at - from.at) / 1e9;
    let broker = from
        .broker
        .zip(to.broker)
        .map(|((begin, from), (end, to))| (to - from) / 1e9 / (end - begin).as_secs_f64());
    if records < 1.0 {
        return Err("void: no record was acked in the window".into());
    }
    Ok(Figures {
        cpu: (to.cpu - from.cpu) / 1e3 / records,
        rate: records / seconds,
        peak: peak.ok_or("void: no VmHWM")?,
        broker,
        latency,
    })
}
