use super::super::sample::{Sample, file, read_back, records};
use super::*;

fn scanned(header: &FileHeader, bytes: &[u8]) -> Scanned {
    scan(header, bytes.len() as u64, &mut file(bytes))
}

#[test]
fn a_scan_finds_what_was_appended() {
    let sample = Sample::usual();
    let bytes = sample.bytes();
    let scanned = scanned(&sample.header, &bytes);
    assert_eq!(scanned.chunks, sample.used());
    assert_eq!(scanned.chunks.len(), 5);
    assert_eq!(scanned.damage, []);
    assert_eq!(scanned.accepted, [((2, 7), 80)].into());
    let (batches, missing) = read_back(&sample.header, &bytes, &scanned.chunks);
    assert_eq!((records(&batches), missing), (sample.all, 0));
}

/// What a file held under its former salt is where nothing was written since.
#[test]
fn what_a_former_use_has_left_is_not_there() {
    let former = Sample::usual();
    let header = FileHeader {
        number: 4,
        salt: former.header.salt + (1 << 20),
        ..former.header
    };
    let mut sample = Sample::new(header, former.bytes(), 256);
    sample.append(1, &[0], Some(5), None);
    let scanned = scanned(&header, &sample.bytes());
    assert_eq!(scanned.chunks, sample.used());
    assert_eq!(scanned.damage, []);
}

#[test]
fn a_chunk_that_was_never_begun_hides_none_behind_it() {
    let sample = Sample::usual();
    let mut bytes = sample.bytes();
    bytes[PAGE..PAGE + 256].fill(0);
    let scanned = scanned(&sample.header, &bytes);
    assert_eq!(scanned.chunks, sample.used()[1..]);
    assert_eq!(scanned.damage, []);
}

#[test]
fn a_chunk_without_records_tells_its_position() {
    let sample = Sample::usual();
    let mut bytes = sample.bytes();
    let last = sample.used().pop().expect("a chunk");
    bytes[last.offset as usize + HEADER..].fill(0);
    let scanned = scanned(&sample.header, &bytes);
    let empty = scanned.chunks.last().expect("a chunk");
    assert_eq!((empty.position, empty.count), (last.position, 0));
    assert_eq!(empty.bytes, HEADER as u32);
}

/// What must be true of a segment of which one place is hurt, from `from` up to `to`.
fn hurt(sample: &Sample, bytes: &[u8], from: usize, to: usize) -> Scanned {
    let scanned = scanned(&sample.header, bytes);
    let (batches, missing) = read_back(&sample.header, bytes, &scanned.chunks);
    assert_eq!(missing, 0, "a scan counts what can be read");
    let found = records(&batches);
    for (place, kept) in &found {
        assert_eq!(
            sample.all.get(place),
            Some(kept),
            "{place:?} was appended so"
        );
    }
    for (place, (begin, end)) in &sample.frames {
        if found.contains_key(place) {
            continue;
        }
        let chunk = chunk_of(sample, *begin).offset as usize;
        let header = from < chunk + HEADER && to > chunk;
        assert!(
            header || (to > chunk && *end > from),
            "{place:?} is before the damage"
        );
        // Of what was written last in its chunk, it is not to be seen that it was there.
        let hit = *begin < to && *end > from;
        assert!(
            hit || !scanned.damage.is_empty(),
            "{place:?} is lost without a word"
        );
    }
    scanned
}

fn chunk_of(sample: &Sample, at: usize) -> ChunkUse {
    let used = sample.used();
    let mut of = used.into_iter().filter(|it| it.offset as usize <= at);
    of.next_back().expect("a chunk")
}

#[test]
fn any_bit_may_flip() {
    let sample = Sample::usual();
    let bytes = sample.bytes();
    let (mut told, mut unharmed) = (0, 0);
    for bit in PAGE * 8..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let scanned = hurt(&sample, &bytes, bit / 8, bit / 8 + 1);
        told += usize::from(!scanned.damage.is_empty());
        unharmed += usize::from(scanned.chunks == sample.used());
    }
    assert!(told > 6_000, "{told} told");
    assert!(unharmed > 1_000, "{unharmed} between frames");
}

#[test]
fn it_may_end_anywhere() {
    let sample = Sample::usual();
    let bytes = sample.bytes();
    for end in PAGE..bytes.len() {
        hurt(&sample, &bytes[..end], end, bytes.len());
        let mut zeroed = bytes.clone();
        zeroed[end..].fill(0);
        let scanned = hurt(&sample, &zeroed, end, bytes.len());
        assert_eq!(scanned.damage, [], "an end at {end} is no damage");
    }
}

#[test]
fn any_stretch_may_be_lost() {
    let sample = Sample::usual();
    let bytes = sample.bytes();
    for from in (PAGE..bytes.len() - 64).step_by(4) {
        let to = (from + 128).min(bytes.len());
        let mut lost = bytes.clone();
        lost[from..to].fill(0);
        hurt(&sample, &lost, from, to);
    }
}

#[test]
fn a_page_that_cannot_be_read_costs_what_is_in_it() {
    let header = FileHeader {
        length: 6 * 4096,
        ..Sample::usual().header
    };
    let mut sample = Sample::new(header, vec![0; header.length as usize], 4096);
    while sample.used().len() < 4 {
        sample.append(0, &[0], Some(0), None);
    }
    let bytes = sample.bytes();
    let bad = 2 * 4096..3 * 4096;
    let mut file = file(&bytes);
    let mut read =
        |at: u64, into: &mut [u8]| match at < bad.end && at + into.len() as u64 > bad.start {
            true => Err(io::Error::other("input/output error")),
            false => file(at, into),
        };
    let scanned = scan(&header, bytes.len() as u64, &mut read);
    let unreadable = Damage::Unreadable {
        offset: bad.start,
        length: 4096,
        why: "input/output error".to_owned(),
    };
    assert_eq!(scanned.damage, [unreadable]);
    let mut others = sample.used();
    others.remove(1);
    assert_eq!(scanned.chunks, others);
}

#[test]
fn the_frames_of_a_chunk_without_a_header_are_counted() {
    let sample = Sample::usual();
    let mut bytes = sample.bytes();
    let second = sample.used()[1];
    bytes[second.offset as usize] ^= 1;
    let scanned = scanned(&sample.header, &bytes);
    let lost = Damage::NoChunk {
        offset: u64::from(second.offset) + HEADER as u64,
        count: second.count.into(),
    };
    assert_eq!(scanned.damage, [lost]);
}

/// What goes on with a batch whose beginning is damaged could be told from its index, but its timestamps
/// could not.
#[test]
fn records_whose_batch_is_not_known_are_damage() {
    let header = Sample::usual().header;
    let mut sample = Sample::new(header, vec![0; header.length as usize], 1024);
    for (delta, begins) in [
        (0, Some(1)),
        (1, Some(2)),
        (2, None),
        (3, Some(4)),
        (4, None),
    ] {
        sample.append(0, &[delta], begins, None);
    }
    let mut bytes = sample.bytes();
    bytes[sample.frames[&(0, 1)].0] ^= 1;
    let scanned = hurt(
        &sample,
        &bytes,
        sample.frames[&(0, 1)].0,
        sample.frames[&(0, 1)].1,
    );
    let parts: Vec<_> = scanned
        .chunks
        .iter()
        .map(|it| (it.position, it.count))
        .collect();
    assert_eq!(parts, [(0, 1), (3, 2)]);
    // In the middle of a batch its other records stay.
    let mut bytes = sample.bytes();
    bytes[sample.frames[&(0, 2)].0] ^= 1;
    let (batches, _) = read_back(
        &header,
        &bytes,
        &scan(&header, header.length, &mut file(&bytes)).chunks,
    );
    let positions: Vec<_> = records(&batches)
        .into_keys()
        .map(|(_, position)| position)
        .collect();
    assert_eq!(positions, [0, 1, 3, 4]);
}

#[test]
fn bytes_that_look_like_many_frames_are_summed_for_a_bounded_time() {
    let header = FileHeader {
        number: 1,
        salt: 0,
        length: PAGE as u64 + (1 << 20),
    };
    // Each fourth byte begins what may be a frame of 65,553 bytes.
    let length = header.length as usize / 4;
    let mut bytes: Vec<u8> = (0..length).flat_map(|_| [1, 0, 1, 0]).collect();
    assert!(Claim::read(&bytes, 0).is_some());
    let begin = std::time::Instant::now();
    assert_eq!(scanned(&header, &bytes).chunks, []);
    let chunk = ChunkHeader {
        length: 1 << 20,
        slot: 0,
        position: 0,
        batch: None,
        begun: 0,
    };
    bytes[PAGE..PAGE + HEADER].copy_from_slice(&chunk.encode(0, PAGE as u64));
    assert_eq!(scanned(&header, &bytes).chunks.len(), 1);
    assert!(begin.elapsed().as_secs() < 10);
}
