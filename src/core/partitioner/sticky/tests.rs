//! Tests of the sticky partitioner. The first four are Kafka's own `BuiltInPartitionerTest`.

use proptest::prelude::*;

use super::*;

fn sequential(batch_size: usize) -> Sticky {
    Sticky::with_source(true, batch_size, Source::Counting(0))
}

/// Sends one record of one byte, and returns its partition.
fn send(sticky: &Sticky, partitions: &TopicPartitions<'_>) -> i32 {
    let partition = sticky.next(partitions);
    sticky.appended(partition, 1, false);
    partition
}

fn loads(queues: &[usize]) -> Vec<Load> {
    let load = |(partition, &queue_len): (usize, &usize)| Load {
        partition: partition as i32,
        queue_len,
        available: true,
    };
    queues.iter().enumerate().map(load).collect()
}

#[test]
fn sticky_partitioning() {
    let topic = TopicPartitions::new(3, &[0, 1, 2]);
    let sticky = sequential(3);
    let first = send(&sticky, &topic);
    assert_eq!(send(&sticky, &topic), first);
    assert_eq!(send(&sticky, &topic), first);
    assert_ne!(send(&sticky, &topic), first);

    // Switching also works with one partition.
    let topic = TopicPartitions::new(1, &[0]);
    let sticky = sequential(1);
    for _ in 0..10 {
        assert_eq!(send(&sticky, &topic), 0);
    }
}

#[test]
fn unavailable_partitions() {
    let a = TopicPartitions::new(3, &[0, 2]);
    let sticky = Sticky::new(true, 1, 1);
    let chosen: Vec<i32> = (0..100).map(|_| send(&sticky, &a)).collect();
    assert!(chosen.contains(&0) && chosen.contains(&2) && !chosen.contains(&1));

    let b = TopicPartitions::new(2, &[1]);
    let sticky = Sticky::new(true, 1, 1);
    assert!((0..100).all(|_| send(&sticky, &b) == 1));

    // Without an available partition there is still a choice.
    let c = TopicPartitions::new(1, &[]);
    let sticky = Sticky::new(true, 1, 1);
    assert!((0..100).all(|_| send(&sticky, &c) == 0));
}

#[test]
fn adaptive_partitions() {
    let topic = TopicPartitions::new(5, &[0, 1, 2, 3, 4]);
    let sticky = sequential(1);
    sticky.update(&loads(&[5, 0, 3, 0, 1]));
    let range = *sticky.chooser().ends.last().unwrap();
    assert_eq!(range, 21);

    let mut chosen = [0; 5];
    for _ in 0..2 * range {
        chosen[send(&sticky, &topic) as usize] += 1;
    }
    assert_eq!(chosen, [1, 6, 3, 6, 5].map(|frequency| 2 * frequency));
}

#[test]
fn a_batch_size_of_zero_counts_as_one() {
    let topic = TopicPartitions::new(3, &[0, 1, 2]);
    let sticky = Sticky::new(true, 0, 1);
    assert!(sticky.appended(sticky.next(&topic), 1, false));
}

#[test]
fn an_open_batch_puts_the_switch_off_up_to_twice_the_size() {
    let topic = TopicPartitions::new(3, &[0, 1, 2]);
    let sticky = sequential(100);
    let first = sticky.next(&topic);
    assert!(!sticky.appended(first, 150, true));
    assert_eq!(sticky.next(&topic), first);
    // The batch was sent, so the postponed switch is made.
    assert!(sticky.appended(first, 0, false));

    let second = sticky.next(&topic);
    assert_ne!(second, first);
    assert!(!sticky.appended(second, 199, true));
    assert!(sticky.appended(second, 1, true));
    assert_ne!(sticky.next(&topic), second);
}

#[test]
fn bytes_of_another_partition_do_not_count() {
    let topic = TopicPartitions::new(3, &[0, 1, 2]);
    let sticky = sequential(10);
    let current = sticky.next(&topic);
    assert!(sticky.appended(current + 1, 1000, false));
    assert!(!sticky.appended(current, 9, false));
    assert_eq!(sticky.next(&topic), current);
}

#[test]
fn numbers_at_the_edge_do_not_overflow() {
    let topic = TopicPartitions::new(3, &[0, 1, 2]);
    let sticky = Sticky::new(true, usize::MAX, 1);
    let first = sticky.next(&topic);
    assert!(!sticky.appended(first, 1 << 31, true));
    assert_eq!(sticky.next(&topic), first);
    assert!(sticky.appended(first, usize::MAX, true));
    sticky.update(&loads(&[usize::MAX, 0, 0]));
    assert!((0..3).contains(&sticky.next(&topic)));
}

#[test]
fn equal_queues_and_no_adaptation_are_uniform() {
    let topic = TopicPartitions::new(3, &[0, 1, 2]);
    for (adaptive, queues) in [(true, [4, 4, 4]), (false, [9, 0, 0])] {
        let sticky = Sticky::with_source(adaptive, 1, Source::Counting(0));
        sticky.update(&loads(&queues));
        let chosen = [(); 6].map(|()| send(&sticky, &topic));
        assert_eq!(chosen, [0, 1, 2, 0, 1, 2]);
    }
}

#[test]
fn what_is_not_available_is_left_and_not_chosen() {
    let topic = TopicPartitions::new(3, &[0, 1, 2]);
    let sticky = Sticky::new(true, 1_000_000, 1);
    let current = sticky.next(&topic);
    let mut seen = loads(&[1, 1, 1]);
    seen[current as usize].available = false;
    sticky.update(&seen);
    assert_ne!(sticky.next(&topic), current);

    let sticky = Sticky::new(true, 1, 1);
    sticky.update(&seen);
    assert!((0..100).all(|_| send(&sticky, &topic) != current));

    // If no partition is available, leaving the current one is useless.
    let sticky = Sticky::new(true, 1_000_000, 1);
    let current = sticky.next(&topic);
    seen.iter_mut().for_each(|load| load.available = false);
    sticky.update(&seen);
    assert_eq!(sticky.next(&topic), current);
}

#[test]
fn loads_older_than_the_view_do_no_harm() {
    let sticky = sequential(1);
    sticky.update(&loads(&[0, 9, 9]));
    // Partition 0 lost its leader after that.
    let lost = TopicPartitions::new(3, &[1, 2]);
    assert!((0..50).all(|_| send(&sticky, &lost) != 0));
    // The topic was created again with one partition. No other may be chosen.
    let shrunk = TopicPartitions::new(1, &[0]);
    assert!((0..50).all(|_| send(&sticky, &shrunk) == 0));
    // The topic has grown: the new partition is chosen, although no load lists it.
    let grown = TopicPartitions::new(4, &[0, 1, 2, 3]);
    assert!((0..50).any(|_| send(&sticky, &grown) == 3));
}

#[test]
fn a_topic_that_shrank_under_the_current_partition_is_chosen_anew() {
    let sticky = Sticky::new(true, 1_000_000, 1);
    assert_eq!(sticky.next(&TopicPartitions::new(10, &[9])), 9);
    assert_eq!(sticky.next(&TopicPartitions::new(2, &[1])), 1);
}

#[test]
fn the_same_seed_makes_the_same_choices() {
    let topic = TopicPartitions::new(8, &[0, 1, 2, 3, 4, 5, 6, 7]);
    let choices = |seed| {
        let sticky = Sticky::new(true, 1, seed);
        [(); 32].map(|()| send(&sticky, &topic))
    };
    assert_eq!(choices(3), choices(3));
    assert_ne!(choices(3), choices(4));
    // The one seed that splitmix64 turns into 0.
    assert_ne!(choices(0x61c8_8646_80b5_83eb), [0; 32]);
}

#[test]
fn threads_count_into_one_run() {
    let all: Vec<i32> = (0..8).collect();
    let topic = TopicPartitions::new(8, &all);
    let sticky = Sticky::new(true, 1000, 1);
    let first = sticky.next(&topic);
    // Four threads together append 999 bytes. This thread appends the last byte.
    std::thread::scope(|scope| {
        for bytes in [250, 250, 250, 249] {
            let sticky = &sticky;
            scope.spawn(move || {
                for _ in 0..bytes {
                    assert!(!sticky.appended(first, 1, false));
                }
            });
        }
    });
    assert_eq!(sticky.next(&topic), first);
    assert!(sticky.appended(first, 1, false));

    // During switches too, the result is always a partition.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    assert!((0..8).contains(&send(&sticky, &topic)));
                }
            });
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn without_loads_the_choice_is_uniform(seed: u64, count in 1i32..12) {
        let all: Vec<i32> = (0..count).collect();
        let topic = TopicPartitions::new(count, &all);
        let sticky = Sticky::new(true, 1, seed);
        let mut chosen = vec![0_u32; all.len()];
        let each = 2000;
        for _ in 0..each * all.len() {
            chosen[send(&sticky, &topic) as usize] += 1;
        }
        // Six standard deviations.
        let tolerance = 6.0 * (each as f64).sqrt();
        for hits in chosen {
            prop_assert!((f64::from(hits) - each as f64).abs() < tolerance, "{hits}");
        }
    }

    #[test]
    fn with_loads_the_choice_follows_them(
        seed: u64,
        queues in proptest::collection::vec(0usize..10, 2..8),
    ) {
        let all: Vec<i32> = (0..queues.len() as i32).collect();
        let topic = TopicPartitions::new(all.len() as i32, &all);
        let sticky = Sticky::new(true, 1, seed);
        sticky.update(&loads(&queues));
        let longest = queues.iter().max().copied().unwrap_or(0);
        let weights: Vec<f64> = queues.iter().map(|q| (longest + 1 - q) as f64).collect();
        let sum: f64 = weights.iter().sum();
        let records = 10_000.0;
        let mut chosen = vec![0_u32; all.len()];
        for _ in 0..records as usize {
            chosen[send(&sticky, &topic) as usize] += 1;
        }
        for (hits, weight) in chosen.into_iter().zip(weights) {
            let expected = records * weight / sum;
            prop_assert!((f64::from(hits) - expected).abs() < 6.0 * expected.sqrt(), "{hits}");
        }
    }

    #[test]
    fn what_comes_out_is_available_whatever_the_loads_say(
        seed: u64,
        total in 1i32..20,
        leaders in proptest::collection::vec(any::<bool>(), 20),
        seen in proptest::collection::vec((-1i32..25, 0usize..5, any::<bool>()), 0..25),
    ) {
        let available: Vec<i32> = (0..total).filter(|&p| leaders[p as usize]).collect();
        let topic = TopicPartitions::new(total, &available);
        let load = |(partition, queue_len, available)| Load { partition, queue_len, available };
        let seen: Vec<Load> = seen.into_iter().map(load).collect();
        let sticky = Sticky::new(true, 3, seed);
        for round in 0..30 {
            let partition = send(&sticky, &topic);
            prop_assert!((0..total).contains(&partition));
            prop_assert!(available.is_empty() || available.contains(&partition));
            if round % 7 == 0 {
                sticky.update(&seen);
            }
        }
    }
}
