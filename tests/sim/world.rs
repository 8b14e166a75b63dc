//! What all clients of a run share: the model, the pools over it, and the history that is judged in the end.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use forebay::payload::EncodedRow;
use forebay::pool::retry::RetryConfig;
use forebay::pool::{MemoryBudget, Pool, PoolConfig, PoolTable, PoolTasks, WindowConfig};
use forebay::sim::{Applied as ModelApplied, KeySchema, Model, Observer, SimStore};
use forebay::store::{SequenceRule, Span, Store, WriteItem, WriteOp};
use forebay::telemetry::Instruments;

use crate::checker::{Applied, COLUMNS, Cell, Columns, History, Key, RowId, SentRow, TableRules};

/// A pool, as one process of the gateway has it.
pub struct Gateway {
    pub pool: Pool,
    pub memory: MemoryBudget,
    pub memory_bytes: usize,
    pub instruments: Arc<Instruments>,
    tasks: PoolTasks,
}

/// How pools are made.
#[derive(Debug, Clone, Copy)]
pub struct PoolSpec {
    pub lanes: usize,
    pub window: WindowConfig,
    pub memory_bytes: usize,
    pub seed: u64,
}

/// See the module.
pub struct World {
    pub store: Arc<SimStore>,
    pub gateways: Vec<Gateway>,
    pub tables: Vec<PoolTable>,
    pub history: Arc<Mutex<History>>,
}

/// Puts what takes effect into the history.
struct Scribe {
    history: Arc<Mutex<History>>,
}

impl Observer for Scribe {
    fn applied(&mut self, applied: &ModelApplied<'_>) {
        let table = applied.table.trim_start_matches('t').parse().unwrap();
        let key = (table, key_number(applied.item));
        let applied = Applied::new(applied.at, applied.heard_at, key, applied.item);
        self.history.lock().unwrap().applied.push(applied);
    }
}

fn key_number(item: &WriteItem) -> u32 {
    let text = std::str::from_utf8(item.key_text()).unwrap();
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

fn hash(text: &str) -> u64 {
    let mut hasher = foldhash::fast::FixedState::with_seed(7).build_hasher();
    hasher.write(text.as_bytes());
    hasher.finish()
}

impl World {
    /// Over a model whose tables are `t0`, `t1`, and so on. Of each, a pool may take so many units a second at most; where
    /// none are named, as many as there are. `wrap` is what stands between the model and the pools.
    pub fn new(
        mut model: Model,
        rules: &[TableRules],
        max_write_units: &[u64],
        pools: &[PoolSpec],
        wrap: impl Fn(Arc<SimStore>) -> Arc<dyn Store>,
    ) -> Arc<Self> {
        let history = Arc::new(Mutex::new(History::new(rules.to_vec())));
        model.observe(Box::new(Scribe { history: Arc::clone(&history) }));
        let store = SimStore::new(model);
        let wrapped = wrap(Arc::clone(&store));
        let gateway = |spec: &PoolSpec| {
            let instruments = Arc::new(Instruments::new());
            let PoolSpec { lanes, window, memory_bytes, seed } = *spec;
            let config = PoolConfig { lanes, window, retry: RetryConfig::default(), seed, heat: None };
            let (pool, tasks) = Pool::start(&config, &wrapped, &instruments);
            let memory = MemoryBudget::new(memory_bytes, Arc::clone(&instruments));
            Gateway { pool, memory, memory_bytes, instruments, tasks }
        };
        let table = |(number, rules): (usize, &TableRules)| PoolTable {
            coalesce: rules.coalesce,
            sequence: rules.sequenced.then(|| {
                Arc::new(SequenceRule { attribute: "s".into(), expiry_attribute: Some("_expires_at".into()) })
            }),
            max_write_units: max_write_units.get(number).copied().unwrap_or(0),
            ..PoolTable::new(format!("t{number}"))
        };
        let tables = rules.iter().enumerate().map(table).collect();
        Arc::new(Self { store, gateways: pools.iter().map(gateway).collect(), tables, history })
    }

    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap()
    }

    pub fn now(&self) -> Duration {
        self.store.now()
    }

    pub fn is_sequenced(&self, table: usize) -> bool {
        self.tables[table].sequence.is_some()
    }

    /// A row as the payload would encode it.
    pub fn encode(&self, id: RowId, row_index: u32) -> EncodedRow {
        let history = self.history();
        let row = &history.rows[id as usize];
        let key_text = format!("\"k\":{{\"S\":\"k{}\"}}", row.key.1);
        let (partition_hash, mut json) = (hash(&key_text), format!("{{{key_text}"));
        let mut sequence = None;
        if let Some(number) = row.sequence {
            json.push_str(",\"s\":");
            let value = format!("{{\"N\":\"{number}\"}}");
            let (start, end) = (json.len() as u32, (json.len() + value.len()) as u32);
            sequence = Some(Span { start, end });
            json.push_str(&value);
        }
        for (name, cell) in COLUMNS.iter().zip(row.cells) {
            match (cell, row.op) {
                (Cell::Sets, _) => json.push_str(&format!(",\"{name}\":{{\"N\":\"{id}\"}}")),
                (Cell::Removes, WriteOp::Merge) => json.push_str(&format!(",\"{name}\":null")),
                (Cell::Leaves | Cell::Removes, _) => {}
            }
        }
        if row.tombstone {
            json.push_str(",\"_deleted\":{\"BOOL\":true},\"_expires_at\":{\"N\":\"1800000000\"}");
        }
        if row.bad {
            json.push_str(",\"bad\":{\"X\":\"1\"}");
        }
        if row.op != WriteOp::Delete && id.is_multiple_of(16) {
            json.push_str(&format!(",\"pad\":{{\"S\":\"{}\"}}", "x".repeat(400 + 13 * (id as usize % 200))));
        }
        json.push('}');
        let item_bytes = json.len() as u32;
        let key_len = key_text.len() as u32;
        let item = WriteItem { sequence, ..WriteItem::new(row.op, Bytes::from(json), key_len) };
        EncodedRow { row_index, item, partition_hash, key_hash: partition_hash, item_bytes }
    }

    /// What is stored.
    pub fn stored(&self) -> BTreeMap<Key, Columns> {
        let mut stored = BTreeMap::new();
        for (number, table) in self.tables.iter().enumerate() {
            for (key, item) in self.store.items(&table.name) {
                let key: u32 = std::str::from_utf8(&key.partition[1..]).unwrap().parse().unwrap();
                let columns = Columns::parse(item.iter());
                stored.insert((number, key), columns.unwrap_or_default());
            }
        }
        stored
    }

    /// Ends the pools, and proves that nothing is left in them.
    pub async fn close(self: Arc<Self>) -> Arc<Mutex<History>> {
        let Ok(world) = Arc::try_unwrap(self) else { panic!("a client still holds the world") };
        for Gateway { pool, tasks, instruments, .. } in world.gateways {
            drop(pool);
            assert!(tasks.finish(Duration::from_secs(60)).await, "the lanes end");
            let left = [&instruments.queued_rows, &instruments.reserved_bytes, &instruments.attempts_in_flight];
            assert_eq!(left.map(|gauge| gauge.get()), [0; 3], "queued rows, reserved bytes, attempts in flight");
        }
        world.history
    }
}

/// The key of all tables.
pub fn schema() -> KeySchema {
    KeySchema::text("k")
}

/// A row with nothing special about it.
pub fn plain_row(key: Key, op: WriteOp) -> SentRow {
    SentRow {
        key,
        op,
        cells: [Cell::Sets, Cell::Leaves, Cell::Leaves, Cell::Leaves, Cell::Leaves],
        sequence: None,
        tombstone: false,
        group: None,
        bad: false,
        sends: Vec::new(),
    }
}
