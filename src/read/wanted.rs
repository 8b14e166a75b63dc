//! The bookkeeping of a batch read: which different keys are wanted, how they are spread over calls, and who gets what.
//!
//! Pure. A key is wanted once, whoever asks for it how often; numbers are compared as numbers (`1` and `1.0` are one key).

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use super::point::{ReadOutcome, TableRead, Unavailable};
use crate::limits::{BATCH_GET_MAX_KEYS, READ_MAX_ANSWER_BYTES};
use crate::payload::number::Decimal;
use crate::store::{Attr, BatchGetDone, GetKeys, Item, KeyAttrs, ReadError};

/// What the store said about one key.
pub(super) type Fetched = Result<Option<Item>, Unavailable>;

/// The different keys of a batch read.
pub(super) struct Wanted {
    sources: Vec<Source>,
    keys: Vec<WantedKey>,
    /// For each requested table and each of its keys: which wanted key that is.
    positions: Vec<Vec<usize>>,
}

/// A DynamoDB table, whichever requests are about it.
struct Source {
    table: Arc<str>,
    /// What to fetch for all requests of the table; empty for everything.
    attributes: Vec<String>,
    by_identity: HashMap<Identity, usize>,
}

struct WantedKey {
    source: usize,
    attributes: KeyAttrs,
    /// How many results still need it.
    wanted_by: usize,
    fetched: Option<Fetched>,
}

/// A key's values, so that equal keys are equal. The attribute names are those of the table.
type Identity = Vec<KeyPart>;

#[derive(PartialEq, Eq, Hash)]
enum KeyPart {
    Text(String),
    Number { unscaled: i128, scale: i32 },
    Bytes(Bytes),
}

impl Wanted {
    /// Finds the different keys of these requests.
    pub(super) fn gather(tables: &[TableRead<'_>]) -> Self {
        let mut wanted = Self { sources: Vec::new(), keys: Vec::new(), positions: Vec::with_capacity(tables.len()) };
        let mut source_of = HashMap::<&str, usize>::new();
        for table in tables {
            let attributes = table.decoder.attributes();
            let source = *source_of.entry(&table.dynamodb_table).or_insert_with(|| {
                let (table, attributes) = (table.dynamodb_table.clone(), attributes.to_vec());
                wanted.sources.push(Source { table, attributes, by_identity: HashMap::new() });
                wanted.sources.len() - 1
            });
            wanted.sources[source].fetch_also(attributes);
            let positions = table.keys.iter().map(|key| wanted.position(source, key)).collect();
            wanted.positions.push(positions);
        }
        wanted
    }

    fn position(&mut self, source: usize, key: &KeyAttrs) -> usize {
        let identity = key.iter().map(|(_, attr)| key_part(attr)).collect::<Option<Identity>>();
        let position = match identity {
            Some(identity) => *self.sources[source].by_identity.entry(identity).or_insert(self.keys.len()),
            None => self.keys.len(),
        };
        if position == self.keys.len() {
            self.keys.push(WantedKey { source, attributes: key.clone(), wanted_by: 0, fetched: None });
        }
        self.keys[position].wanted_by += 1;
        position
    }

    /// The wanted keys, by their ids, in calls of at most 100; keys of one table stay together.
    pub(super) fn calls(&self) -> Vec<Vec<usize>> {
        let mut ids: Vec<usize> = (0..self.keys.len()).collect();
        ids.sort_by_key(|&id| self.keys[id].source);
        ids.chunks(BATCH_GET_MAX_KEYS).map(<[usize]>::to_vec).collect()
    }

    /// The request of a call, and the ids of its keys, table by table.
    pub(super) fn request(&self, ids: &[usize], strong: bool) -> (Vec<GetKeys>, Vec<Vec<usize>>) {
        let by_table: Vec<Vec<usize>> =
            ids.chunk_by(|&a, &b| self.keys[a].source == self.keys[b].source).map(<[usize]>::to_vec).collect();
        let get_keys = |ids: &Vec<usize>| {
            let source = &self.sources[self.keys[ids[0]].source];
            GetKeys {
                table: source.table.clone(),
                keys: ids.iter().map(|&id| self.keys[id].attributes.clone()).collect(),
                attributes: source.attributes.as_slice().into(),
                strong,
            }
        };
        (by_table.iter().map(get_keys).collect(), by_table)
    }

    /// Tells the keys of a call that were answered (with an item or with none) from those that were not processed.
    pub(super) fn sort_out(
        &self,
        ids_by_table: Vec<Vec<usize>>,
        done: BatchGetDone,
    ) -> (Vec<(usize, Fetched)>, Vec<usize>) {
        let (mut answered, mut unprocessed) = (Vec::new(), Vec::new());
        let (mut items, mut left_out) = (done.items.into_iter(), done.unprocessed.into_iter());
        for ids in ids_by_table {
            let mut missing: Vec<Option<usize>> = ids.iter().copied().map(Some).collect();
            for index in left_out.next().unwrap_or_default() {
                unprocessed.extend(missing.get_mut(index).and_then(Option::take));
            }
            let mut unknown_items = 0;
            for item in items.next().unwrap_or_default() {
                let id = self.identify(ids[0], &item);
                match missing.iter_mut().find(|missing| missing.is_some() && **missing == id).and_then(Option::take) {
                    Some(id) => answered.push((id, Ok(Some(item)))),
                    None => unknown_items += 1,
                }
            }
            // An item that is none of the keys must be one of them all the same: then nothing counts as absent.
            let absent = |id| match unknown_items {
                0 => (id, Ok(None)),
                _ => {
                    let message = "items came back without the keys asked for".to_owned();
                    (id, Err(ReadError::Unavailable { message }.into()))
                }
            };
            answered.extend(missing.into_iter().flatten().map(absent));
        }
        (answered, unprocessed)
    }

    /// The wanted key of an item, from the table of another wanted key.
    fn identify(&self, like: usize, item: &Item) -> Option<usize> {
        let key = &self.keys[like];
        let part = |(name, _): &(String, Attr)| item.get(name).and_then(key_part);
        let identity = key.attributes.iter().map(part).collect::<Option<Identity>>()?;
        self.sources[key.source].by_identity.get(&identity).copied()
    }

    /// Notes what the store said.
    pub(super) fn settle(&mut self, fetched: impl Iterator<Item = (usize, Fetched)>) {
        for (id, fetched) in fetched {
            self.keys[id].fetched = Some(fetched);
        }
    }

    /// An outcome for each requested key, in order, as far as they fit into one answer.
    pub(super) fn answer(mut self, tables: &[TableRead<'_>], now_epoch_seconds: i64) -> Vec<Vec<ReadOutcome>> {
        let mut room_bytes = READ_MAX_ANSWER_BYTES;
        let positions = std::mem::take(&mut self.positions);
        let answer_table = |(table, positions): (&TableRead<'_>, Vec<usize>)| {
            let answer_key = |position: usize| {
                let outcome = ReadOutcome::of(self.take(position), &table.decoder, now_epoch_seconds);
                if let ReadOutcome::Found(row) = &outcome {
                    let bytes = row.encoded_len();
                    if bytes > room_bytes {
                        room_bytes = 0;
                        return ReadOutcome::Unavailable(Unavailable::ANSWER_FULL);
                    }
                    room_bytes -= bytes;
                }
                outcome
            };
            positions.into_iter().map(answer_key).collect()
        };
        tables.iter().zip(positions).map(answer_table).collect()
    }

    /// What was fetched for a key: the thing itself for the last who wants it, a copy for those before.
    fn take(&mut self, position: usize) -> Fetched {
        let key = &mut self.keys[position];
        key.wanted_by -= 1;
        let fetched = if key.wanted_by == 0 { key.fetched.take() } else { key.fetched.clone() };
        fetched.unwrap_or(Err(Unavailable::Deadline))
    }
}

impl Source {
    /// Widens what is fetched so that another request is satisfied, too.
    fn fetch_also(&mut self, attributes: &[String]) {
        if self.attributes.is_empty() {
            return;
        }
        let new: Vec<_> = attributes.iter().filter(|name| !self.attributes.contains(name)).cloned().collect();
        self.attributes.extend(new);
        if attributes.is_empty() {
            self.attributes.clear();
        }
    }
}

fn key_part(attr: &Attr) -> Option<KeyPart> {
    match attr {
        Attr::S(text) => Some(KeyPart::Text(text.clone())),
        Attr::N(number) => {
            let Decimal { unscaled, scale } = Decimal::parse(number)?.normalized();
            Some(KeyPart::Number { unscaled, scale })
        }
        Attr::B(bytes) => Some(KeyPart::Bytes(bytes.clone())),
        _ => None,
    }
}
