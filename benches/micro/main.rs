//! What one step costs, in time and in allocations: `cargo bench`.

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

/// One record of 100 bytes. A sample is more than a batch, so that opening one is included.
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

/// The header of a full batch, including its CRC.
#[divan::bench]
fn stamp_16_kib(bencher: Bencher) {
    if let Some(stamp) = rooms::stamp(Instant::now()) {
        bencher
            .counter(BytesCount::new(16_384_usize))
            .bench_local(stamp);
    }
}

/// Takes a buffer from the shelf and puts it back.
#[divan::bench]
fn lease(bencher: Bencher) {
    bencher.bench_local(rooms::lease());
}

/// Fills a batch of 1 KiB, pushes it after `others` batches, takes one, and settles it.
#[divan::bench(args = [0, 100])]
fn ledger(bencher: Bencher, others: usize) {
    bencher.bench_local(rooms::ledger(Instant::now(), others));
}

/// Makes a request with one batch of each partition.
#[divan::bench(args = [12, 100, 1000])]
fn gather(bencher: Bencher, partitions: i32) {
    bencher.bench_local(rooms::gather_all(partitions));
}

/// One record of 100 bytes into a chunk of the spool, over memory behind a mutex that is taken twice.
#[divan::bench(sample_size = 4096)]
fn spool_append(bencher: Bencher) {
    if let Some(append) = rooms::spool_append() {
        bencher.bench_local(append);
    }
}

/// What of that the memory takes: two writes.
#[divan::bench(sample_size = 4096)]
fn spool_region(bencher: Bencher) {
    bencher.bench_local(rooms::spool_region());
}
