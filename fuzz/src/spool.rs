//! Files of the spool, as a disk or anybody else may have left them.

use std::io;
use std::sync::Arc;

use forebay::internals::ledger::Identity;
use forebay::internals::spool::{
    self, ALIGN, Appending, Batch, Catalog, Chunk, ChunkUse, Entry, Fate, FileHeader, Index,
    Journal, Kind, Line, Memory, PAGE, Place, ReadChunk, Reader, Region, Seen, Source, State,
    Survey,
};

const NUMBER: u64 = 1;

/// The first byte chooses: bytes as they come, or bytes whose CRCs are right and which say anything at all.
pub fn spool(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    match first % 4 {
        0 => any_bytes(rest),
        1 => forged_segment(rest),
        2 => forged_index(rest),
        _ => forged_journal(rest),
    }
}

fn header(salt: u64, length: usize) -> FileHeader {
    FileHeader {
        number: NUMBER,
        salt,
        length: length as u64,
    }
}

/// As each kind of file, with a header that is right and with whatever is there.
fn any_bytes(data: &[u8]) {
    let _ = FileHeader::decode_page(Kind::Segment, NUMBER, data);
    let _ = Index::decode(NUMBER, data);
    let _ = Journal::read(NUMBER, data);
    let header = header(
        u64::from(data.first().copied().unwrap_or(0)),
        PAGE + data.len(),
    );
    let mut journal = header.page(Kind::Journal).to_vec();
    journal.extend_from_slice(data);
    if let Ok(read) = Journal::read(NUMBER, &journal) {
        assert!(read.end as usize <= journal.len() + ALIGN);
    }
    let mut segment = header.page(Kind::Segment).to_vec();
    segment.extend_from_slice(data);
    scanned(&header, &segment);
}

/// Numbers out of the data; 0 where it is used up.
struct Numbers<'a>(&'a [u8]);

impl<'a> Numbers<'a> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    /// Small ones, and now and then some at the ends of what there is.
    fn number(&mut self) -> u64 {
        match self.byte() {
            255 => u64::MAX,
            254 => 1 << 62,
            253 => (1 << 31) - 1,
            252 => u64::from(u32::MAX),
            251 => 1 << 63,
            250 => (1 << 62) - 1,
            small => u64::from(small),
        }
    }

    fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()).min(self.0.len());
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    fn name(&mut self) -> Arc<str> {
        String::from_utf8_lossy(self.bytes()).into()
    }

    fn is_over(&self) -> bool {
        self.0.is_empty()
    }
}

fn forged_segment(data: &[u8]) {
    let mut numbers = Numbers(data);
    let header = header(numbers.number(), PAGE + 4096);
    let memory = Arc::new(Memory::new(header.length as usize));
    memory.write(0, &header.page(Kind::Segment));
    let mut at = PAGE as u32;
    while !numbers.is_over() {
        let length = (u32::from(numbers.byte()) + 2) * ALIGN as u32;
        let place = Place {
            region: Arc::clone(&memory) as Arc<dyn Region>,
            salt: header.salt,
            at,
            length,
            begun: numbers.number() as i64,
        };
        let batch = (numbers.byte() % 2 == 1).then(|| Batch {
            index: numbers.number() as u32,
            base_timestamp: numbers.number() as i64,
        });
        let (slot, position) = (numbers.number() as u32 % 3, numbers.number());
        let Some(mut chunk) = Chunk::begin(place, slot, position, batch) else {
            break;
        };
        at += length;
        loop {
            let source = (numbers.byte() % 2 == 1).then(|| Source {
                source: numbers.number() as u32,
                position: numbers.number(),
            });
            let begins = (numbers.byte() % 2 == 0).then(|| numbers.number() as i64);
            let index = chunk.batch().filter(|_| begins.is_none());
            let count = numbers.byte() % 9;
            let records = match numbers.byte() % 3 {
                0 => numbers.bytes().to_vec(),
                delta => records(index.map_or(0, |batch| batch.index), count, delta),
            };
            let appending = Appending {
                count: count.into(),
                newest: numbers.number() as i64,
                begins,
                source,
                records: &records,
            };
            if !chunk.append(&appending) {
                break;
            }
        }
    }
    let mut bytes = memory.bytes();
    // And a place that is hurt.
    let hurt = data.len() * 37 % 4096;
    bytes[PAGE + hurt] ^= data.last().copied().unwrap_or(0);
    scanned(&header, &bytes);
}

/// So many records from an index on, as they stand in a batch, as long as their index takes one byte.
fn records(index: u32, count: u8, delta: u8) -> Vec<u8> {
    let one = |index: u32| [16, 0, 2 * delta, 2 * index as u8, 1, 4, b'v', b'v', 0];
    (index..index.saturating_add(count.into()))
        .take_while(|index| *index < 64)
        .flat_map(one)
        .collect()
}

/// Whatever a scan finds can be read, and all of it.
fn scanned(header: &FileHeader, bytes: &[u8]) {
    let mut read = |at: u64, into: &mut [u8]| {
        let part = bytes.get(at as usize..at as usize + into.len());
        into.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    };
    let scanned = spool::scan(header, bytes.len() as u64, &mut read);
    let sources = scanned.accepted.iter();
    let sources = sources.map(|((_, source), position)| Source {
        source: *source,
        position: *position,
    });
    let index = Index {
        number: header.number,
        salt: header.salt,
        chunks: scanned.chunks.clone(),
        accepted: sources.collect(),
    };
    assert_eq!(Index::decode(NUMBER, &index.encode()), Ok(index));
    for damage in &scanned.damage {
        assert!(!damage.to_string().is_empty());
    }
    let mut catalog = Catalog::default();
    catalog.segment(NUMBER, header.length, true);
    for used in &scanned.chunks {
        catalog.chunk_closed(NUMBER, *used);
    }
    let slots: Vec<_> = catalog.slots().collect();
    for slot in slots {
        let (mut reader, mut batches) = (Reader::new(0), Vec::new());
        for held in catalog.held(slot, 0) {
            let from = held.used.offset as usize;
            let part = &bytes[from..from + held.used.bytes as usize];
            let chunk = ReadChunk::new(part, header.salt, from as u64, header.length);
            let chunk = chunk.expect("the chunk that was scanned");
            assert_eq!(reader.read(&chunk, held.positions(), &mut batches), []);
        }
        batches.extend(reader.finish());
        let held: u64 = catalog.held(slot, 0).map(|held| held.to - held.from).sum();
        let read: u64 = batches.iter().map(|batch| u64::from(batch.count)).sum();
        assert_eq!(held, read);
    }
}

fn forged_index(data: &[u8]) {
    let mut numbers = Numbers(data);
    let mut catalog = Catalog::default();
    while !numbers.is_over() {
        let number = numbers.number() % 4;
        let used = chunk(&mut numbers);
        let index = Index {
            number: NUMBER,
            salt: numbers.number(),
            chunks: vec![used],
            accepted: Vec::new(),
        };
        if Index::decode(NUMBER, &index.encode()).is_err() {
            continue;
        }
        match numbers.byte() % 4 {
            0 => catalog.segment(number, numbers.number() % (1 << 30), true),
            1 => {
                catalog.moved(number, used);
            }
            2 => {
                catalog.settle(used.slot, used.position..used.end(), 0);
            }
            _ => {
                catalog.chunk_closed(number, used);
            }
        }
        for free in catalog.free() {
            let slots: Vec<_> = catalog.slots().collect();
            let mut held = slots.iter().flat_map(|slot| catalog.held(*slot, 0));
            assert!(held.all(|held| held.segment != free));
        }
        for slot in catalog.slots() {
            let held: Vec<_> = catalog.held(slot, 0).collect();
            assert!(
                held.windows(2).all(|two| two[0].to <= two[1].from),
                "{held:?}"
            );
        }
        let _ = (
            catalog.moves(1).count(),
            catalog.oldest(),
            catalog.unsettled_bytes(),
        );
    }
}

fn chunk(numbers: &mut Numbers<'_>) -> ChunkUse {
    ChunkUse {
        offset: numbers.number() as u32,
        slot: numbers.number() as u32 % 3,
        position: numbers.number(),
        count: numbers.number() as u32,
        bytes: numbers.number() as u32,
        newest: numbers.number() as i64,
        begun: numbers.number() as i64,
    }
}

fn forged_journal(data: &[u8]) {
    let mut numbers = Numbers(data);
    let header = header(numbers.number(), 1 << 20);
    let mut bytes = spool::checkpoint(&State::default(), &header);
    let mut catalog = Catalog::default();
    catalog.segment(0, 1 << 20, true);
    let mut seen = Vec::new();
    while !numbers.is_over() {
        match numbers.byte() % 8 {
            6 => {
                let used = chunk(&mut numbers);
                if used.position < 1 << 40 {
                    catalog.chunk_closed(0, used);
                }
            }
            7 => seen.push(Seen {
                identity: identity(&mut numbers),
                sequence: numbers.number() as i32 & i32::MAX,
                count: numbers.number() as u32 % (1 << 31),
                base_offset: numbers.number() as i64,
            }),
            kind => {
                let offset = bytes.len() as u64;
                entry(kind, &mut numbers).encode(header.salt, offset, &mut bytes);
            }
        }
    }
    let journal = Journal::read(NUMBER, &bytes).expect("a header that is right");
    assert!(journal.complete);
    let again = spool::checkpoint(&journal.state, &header);
    let again = Journal::read(NUMBER, &again).expect("a header that is right");
    assert_eq!(
        (again.state, again.damage),
        (journal.state.clone(), Vec::new())
    );
    for resume in spool::resume(&journal.state, &catalog, data.len().is_multiple_of(2)) {
        assert!(resume.next_position >= resume.end);
        let mut survey = Survey::new(&resume);
        for seen in &seen {
            let _ = survey.see(*seen);
        }
        let sizes = |ranges: &[std::ops::Range<u64>]| {
            ranges
                .iter()
                .map(|it| u128::from(it.end - it.start))
                .sum::<u128>()
        };
        let found: u128 = survey.found().iter().map(|it| u128::from(it.count)).sum();
        let all = sizes(&resume.unsettled) + sizes(&resume.missing);
        assert_eq!(found + sizes(&survey.absent()), all);
    }
}

fn identity(numbers: &mut Numbers<'_>) -> Identity {
    Identity {
        producer_id: numbers.number() as i64 % 3,
        epoch: numbers.number() as i16 % 3,
    }
}

fn entry(kind: u8, numbers: &mut Numbers<'_>) -> Entry {
    let slot = numbers.number() as u32 % 3;
    match kind {
        0 => Entry::Slot {
            slot,
            topic_id: [numbers.byte(); 16],
            partition: numbers.number() as i32,
            topic: numbers.name(),
        },
        1 => Entry::Line {
            slot,
            line: Line {
                identity: identity(numbers),
                sequence: numbers.number() as i32,
                position: numbers.number(),
                floor: numbers.number() as i64,
                sent: numbers.number(),
            },
        },
        2 => Entry::Settled {
            slot,
            position: numbers.number(),
            count: numbers.number() as u32,
            fate: match numbers.byte() % 4 {
                0 => Fate::Acked(numbers.number() as i64),
                1 => Fate::NotWritten,
                2 => Fate::Unknown,
                _ => Fate::Rejected,
            },
        },
        3 => Entry::Source {
            source: slot,
            name: numbers.name(),
        },
        4 => Entry::Accepted {
            source: slot,
            position: numbers.number(),
        },
        _ => Entry::Past {
            slot,
            from: numbers.number(),
            to: numbers.number(),
            floor: numbers.number() as i64,
        },
    }
}
