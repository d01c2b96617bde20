//! What a step costs in each room, in time and in allocations: `cargo bench`.

mod rooms;

use std::time::Instant;

use divan::counter::BytesCount;
use divan::{AllocProfiler, Bencher, black_box};
use forebay::partitioner::partition_for_key;

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// One record of 100 bytes; the sample is more than a batch, so that beginning one is in it.
#[divan::bench(sample_size = 1530)]
fn append(bencher: Bencher) {
    bencher.bench_local(rooms::append(Instant::now()));
}

/// A key of 16 bytes.
#[divan::bench]
fn partition_by_key() -> i32 {
    partition_for_key(black_box(b"sixteen bytes it"), 100)
}

#[divan::bench]
fn partition_by_sticking(bencher: Bencher) {
    bencher.bench_local(rooms::stick());
}

/// The header of a full batch, CRC included.
#[divan::bench]
fn stamp_16_kib(bencher: Bencher) {
    if let Some(stamp) = rooms::stamp(Instant::now()) {
        bencher
            .counter(BytesCount::new(16_384_usize))
            .bench_local(stamp);
    }
}

/// A buffer off the shelf and back.
#[divan::bench]
fn lease(bencher: Bencher) {
    bencher.bench_local(rooms::lease());
}

/// A batch of 1 KiB filled, pushed behind so many others, taken, settled.
#[divan::bench(args = [0, 100])]
fn ledger(bencher: Bencher, others: usize) {
    bencher.bench_local(rooms::ledger(Instant::now(), others));
}

/// A request with a batch of each of so many partitions.
#[divan::bench(args = [12, 100, 1000])]
fn gather(bencher: Bencher, partitions: i32) {
    bencher.bench_local(rooms::gather_all(partitions));
}
