//! Many seeds on all cores, and a watchdog for those that spin.

use std::ops::{AddAssign, Range};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use super::Injected;
use super::seed::Verdict;

/// A seed that takes longer, in real time, spins.
const SPINS: Duration = Duration::from_secs(60);

/// The line that replays a seed.
pub(super) fn replay(seed: u64) -> String {
    format!("FOREBAY_SEED={seed} cargo test --test simulation replay -- --nocapture")
}

/// Panics that are injected by the hundred thousand are not worth a line each.
pub(super) fn keep_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !info.payload().is::<Injected>() {
                before(info);
            }
        }));
    });
}

/// Runs seeds until all are done or `each`, which is called with every verdict, says that it is enough.
pub(super) fn run_many<T: Default + Send + for<'a> AddAssign<&'a T>>(
    seeds: Range<u64>,
    run: impl Fn(u64) -> Verdict<T> + Sync,
    replay: fn(u64) -> String,
    each: impl Fn(u64, &Verdict<T>) -> bool + Sync,
) -> T {
    keep_quiet();
    let next = AtomicU64::new(seeds.start);
    let total = Mutex::new(T::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let watchdog = Watchdog::start(replay);
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    watchdog.begin(seed);
                    let verdict = run(seed);
                    watchdog.end();
                    *total.lock().expect("no panic holds it") += &verdict.tally;
                    if each(seed, &verdict) {
                        next.store(seeds.end, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    total.into_inner().expect("no panic held it")
}

/// Turns a spin into a failure that names the seed.
pub(super) struct Watchdog(Arc<Mutex<Watched>>);

#[derive(Clone, Copy, Default)]
struct Watched {
    /// Which seed runs, and since when.
    now: Option<(u64, Instant)>,
    over: bool,
}

impl Watchdog {
    pub fn start(replay: fn(u64) -> String) -> Self {
        let at = Arc::new(Mutex::new(Watched::default()));
        let watched = Arc::clone(&at);
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_millis(500));
                let Watched { now, over } = *watched.lock().expect("no panic holds it");
                if over {
                    return;
                }
                let Some((seed, since)) = now else {
                    continue;
                };
                if since.elapsed() > SPINS {
                    // Nothing can stop a thread that spins.
                    eprintln!(
                        "seed {seed} has not ended after {SPINS:?}: {}",
                        replay(seed)
                    );
                    std::process::exit(101);
                }
            }
        });
        Self(at)
    }

    pub fn begin(&self, seed: u64) {
        self.0.lock().expect("no panic holds it").now = Some((seed, Instant::now()));
    }

    pub fn end(&self) {
        self.0.lock().expect("no panic holds it").now = None;
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.0.lock().expect("no panic holds it").over = true;
    }
}
