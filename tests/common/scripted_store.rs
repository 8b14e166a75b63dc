//! A store in memory that fails as a test says: what was written can be compared with what was acked.
//!
//! Tables are real maps of items. Before each write call a script is asked what becomes of it; it sees the call and
//! answers with a [`Reply`]. Control tables and reads never fail, unless the test says that the store is away.

#![allow(unreachable_pub, missing_docs, reason = "a module of test binaries")]
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use forebay::schema::table::TableDef;
use forebay::store::{
    Attr, BatchGetDone, BatchWrite, ControlError, ControlRecord, GetKeys, Item, KeyAttrs, OneWrite, ReadError, Store,
    StoreFuture, TableDescription, ThrottleReason, WriteDone, WriteError, WriteItem, WriteOp,
};
use tokio::time::Instant;

/// What becomes of a write call.
#[derive(Debug, Clone, PartialEq)]
pub enum Fate {
    /// Everything is written.
    Written,
    /// Everything but these.
    Unprocessed(Vec<usize>),
    /// Everything but these, and nobody says so: a gateway that ignores what is unprocessed sees its store like this, and
    /// one that acks before the write, with all of them.
    Swallowed(Vec<usize>),
    /// Nothing is written.
    Fails(WriteError),
    /// Everything is written, and the answer is lost.
    LostAnswer,
    /// Nothing is written, and there is no answer.
    LostRequest,
    /// The call's task dies before anything is written.
    Panics,
}

/// What becomes of a write call, and when.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    pub after: Duration,
    pub fate: Fate,
}

impl From<Fate> for Reply {
    fn from(fate: Fate) -> Self {
        Self { after: Duration::from_millis(5), fate }
    }
}

impl Fate {
    /// After a while.
    pub fn after(self, after: Duration) -> Reply {
        Reply { after, fate: self }
    }

    pub fn throttled(reason: ThrottleReason) -> Self {
        Self::Fails(WriteError::Throttled { reason, index: None })
    }

    pub fn not_sent() -> Self {
        Self::Fails(WriteError::NotSent { message: "connection refused".to_owned() })
    }

    pub fn denied() -> Self {
        Self::Fails(WriteError::Access { message: "the security token has expired".to_owned() })
    }

    pub fn refused() -> Self {
        Self::Fails(WriteError::Validation { message: "an item is not to the script's liking".to_owned() })
    }
}

/// A write call.
#[derive(Debug, Clone)]
pub struct Call {
    /// The first call is 0.
    pub number: usize,
    pub at: Instant,
    pub table: Arc<str>,
    pub items: Vec<WriteItem>,
    /// PutItem or DeleteItem.
    pub alone: bool,
}

impl Call {
    /// The keys' texts, as they are in the items.
    pub fn keys(&self) -> Vec<String> {
        self.items.iter().map(|item| String::from_utf8(item.key_text().to_vec()).unwrap()).collect()
    }

    /// Whether one of the items is written with this text in it.
    pub fn carries(&self, text: &str) -> bool {
        self.items.iter().any(|item| String::from_utf8_lossy(&item.json).contains(text))
    }
}

type Script = Box<dyn FnMut(&Call) -> Reply + Send>;

/// The store.
pub struct ScriptedStore {
    script: Mutex<Script>,
    state: Mutex<State>,
    /// Calls that have been answered.
    answered: AtomicU64,
    in_flight: Mutex<InFlight>,
    away: AtomicBool,
}

#[derive(Default)]
struct State {
    tables: BTreeMap<String, Table>,
    calls: Vec<Call>,
    keep_calls: bool,
    records: BTreeMap<(String, String, u64), String>,
}

#[derive(Default)]
struct Table {
    description: Option<TableDescription>,
    items: BTreeMap<Vec<u8>, Bytes>,
}

/// Keys in flight: two writes of one key at once would make their order a matter of luck.
#[derive(Default)]
struct InFlight {
    keys: HashSet<(String, Vec<u8>)>,
    calls: usize,
    max_calls: usize,
}

impl ScriptedStore {
    /// Every call succeeds.
    pub fn new() -> Arc<Self> {
        Self::with(|_| Fate::Written.into())
    }

    /// Calls end as the script says.
    pub fn with(script: impl FnMut(&Call) -> Reply + Send + 'static) -> Arc<Self> {
        Arc::new(Self {
            script: Mutex::new(Box::new(script)),
            state: Mutex::new(State { keep_calls: true, ..State::default() }),
            answered: AtomicU64::new(0),
            in_flight: Mutex::default(),
            away: AtomicBool::new(false),
        })
    }

    /// From now on calls end as this script says.
    pub fn script(&self, script: impl FnMut(&Call) -> Reply + Send + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    /// Control calls and reads fail while the store is away.
    pub fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    /// Long runs keep no calls.
    pub fn forget_calls(&self) {
        let mut state = self.state();
        state.keep_calls = false;
        state.calls = Vec::new();
    }

    /// The write calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::SeqCst)
    }

    /// Calls in flight, and the most there ever were.
    pub fn in_flight(&self) -> (usize, usize) {
        let in_flight = self.in_flight.lock().unwrap();
        (in_flight.calls, in_flight.max_calls)
    }

    /// A table's items by their key's text.
    pub fn items(&self, table: &str) -> BTreeMap<String, String> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let state = self.state();
        let items = state.tables.get(table).map(|table| table.items.iter());
        items.into_iter().flatten().map(|(key, item)| (text(key), text(item))).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn write(&self, table: Arc<str>, items: Vec<WriteItem>, alone: bool) -> Result<WriteDone, WriteError> {
        assert!((1..=25).contains(&items.len()), "{} items in a call", items.len());
        let bytes: usize = items.iter().map(|item| item.json.len()).sum();
        assert!(bytes <= 16 << 20 || items.len() == 1, "{bytes} bytes in a call");
        let flying = Flying::start(self, &table, &items);
        let call = {
            let mut state = self.state();
            let number = state.calls.len();
            let call = Call { number, at: Instant::now(), table: Arc::clone(&table), items: items.clone(), alone };
            if state.keep_calls {
                state.calls.push(call.clone());
            }
            call
        };
        let Reply { after, fate } = (self.script.lock().unwrap())(&call);
        tokio::time::sleep(after).await;
        let units = (items.len() - if let Fate::Unprocessed(some) = &fate { some.len() } else { 0 }) as f64;
        let answer = match fate {
            Fate::Written => {
                self.apply(&table, items.iter());
                Ok(WriteDone { unprocessed: Vec::new(), write_units: units })
            }
            Fate::Unprocessed(unprocessed) => {
                self.apply_but(&table, &items, &unprocessed);
                Ok(WriteDone { unprocessed, write_units: units })
            }
            Fate::Swallowed(unprocessed) => {
                self.apply_but(&table, &items, &unprocessed);
                Ok(WriteDone { unprocessed: Vec::new(), write_units: units })
            }
            Fate::Fails(error) => Err(error),
            Fate::LostAnswer => {
                self.apply(&table, items.iter());
                Err(WriteError::Unknown { message: "the answer was lost".to_owned() })
            }
            Fate::LostRequest => Err(WriteError::Unknown { message: "the request was lost".to_owned() }),
            // Without the panic hook's noise.
            Fate::Panics => std::panic::resume_unwind(Box::new("the script says so")),
        };
        drop(flying);
        self.answered.fetch_add(1, Ordering::SeqCst);
        answer
    }

    fn apply<'a>(&self, table: &str, items: impl Iterator<Item = &'a WriteItem>) {
        let mut state = self.state();
        let table = state.tables.entry(table.to_owned()).or_default();
        for item in items {
            let key = item.key_text().to_vec();
            match item.op {
                WriteOp::Put | WriteOp::Merge | WriteOp::Insert => table.items.insert(key, item.json.clone()),
                WriteOp::Delete => table.items.remove(&key),
            };
        }
    }

    fn apply_but(&self, table: &str, items: &[WriteItem], but: &[usize]) {
        self.apply(table, items.iter().enumerate().filter(|(index, _)| !but.contains(index)).map(|(_, item)| item));
    }

    fn read(&self, table: &str, key: &KeyAttrs) -> Option<Item> {
        let state = self.state();
        let fits = |item: &Item| key.iter().all(|(name, value)| item.get(name) == Some(value));
        state.tables.get(table)?.items.values().map(|json| parse(json)).find(fits)
    }

    fn control(&self) -> Result<MutexGuard<'_, State>, ControlError> {
        if self.away.load(Ordering::SeqCst) {
            return Err(ControlError::Unavailable { message: "the store is away".to_owned() });
        }
        Ok(self.state())
    }
}

/// A call in flight; also a call that is dropped has landed.
struct Flying<'a> {
    store: &'a ScriptedStore,
    keys: Vec<(String, Vec<u8>)>,
}

impl<'a> Flying<'a> {
    fn start(store: &'a ScriptedStore, table: &str, items: &[WriteItem]) -> Self {
        let keys: Vec<_> = items.iter().map(|item| (table.to_owned(), item.key_text().to_vec())).collect();
        let mut in_flight = store.in_flight.lock().unwrap();
        for key in &keys {
            assert!(in_flight.keys.insert(key.clone()), "two writes of one key at once: {key:?}");
        }
        in_flight.calls += 1;
        in_flight.max_calls = in_flight.max_calls.max(in_flight.calls);
        drop(in_flight);
        Self { store, keys }
    }
}

impl Drop for Flying<'_> {
    fn drop(&mut self) {
        // A panic of the script's own making does not hold this lock.
        let mut in_flight = self.store.in_flight.lock().unwrap();
        for key in &self.keys {
            in_flight.keys.remove(key);
        }
        in_flight.calls -= 1;
    }
}

fn parse(json: &[u8]) -> Item {
    let serde_json::Value::Object(item) = serde_json::from_slice(json).unwrap() else { panic!("an item") };
    item.into_iter().map(|(name, value)| (name, attr(value))).collect()
}

fn attr(value: serde_json::Value) -> Attr {
    let serde_json::Value::Object(typed) = value else { panic!("a typed value") };
    let (kind, value) = typed.into_iter().next().unwrap();
    let text = |value: serde_json::Value| value.as_str().unwrap().to_owned();
    match (kind.as_str(), value) {
        ("S", value) => Attr::S(text(value)),
        ("N", value) => Attr::N(text(value)),
        ("BOOL", value) => Attr::Bool(value.as_bool().unwrap()),
        ("NULL", _) => Attr::Null,
        ("L", serde_json::Value::Array(values)) => Attr::L(values.into_iter().map(attr).collect()),
        ("M", serde_json::Value::Object(values)) => {
            Attr::M(values.into_iter().map(|(name, value)| (name, attr(value))).collect())
        }
        (kind, _) => panic!("tests write no {kind}"),
    }
}

impl Store for ScriptedStore {
    fn batch_write(&self, request: BatchWrite) -> StoreFuture<'_, WriteDone, WriteError> {
        Box::pin(self.write(request.table, request.items, false))
    }

    fn write_one(&self, OneWrite { table, item, .. }: OneWrite) -> StoreFuture<'_, WriteDone, WriteError> {
        Box::pin(self.write(table, vec![item], true))
    }

    fn get(&self, keys: GetKeys) -> StoreFuture<'_, Option<Item>, ReadError> {
        Box::pin(async move { Ok(self.read(&keys.table, &keys.keys[0])) })
    }

    fn batch_get(&self, tables: Vec<GetKeys>) -> StoreFuture<'_, BatchGetDone, ReadError> {
        Box::pin(async move {
            let found = |keys: &GetKeys| keys.keys.iter().filter_map(|key| self.read(&keys.table, key)).collect();
            let unprocessed = tables.iter().map(|_| Vec::new()).collect();
            Ok(BatchGetDone { items: tables.iter().map(found).collect(), unprocessed })
        })
    }

    fn describe_table<'a>(&'a self, table: &'a str) -> StoreFuture<'a, Option<TableDescription>, ControlError> {
        Box::pin(async move { Ok(self.control()?.tables.get(table).and_then(|table| table.description.clone())) })
    }

    fn create_table<'a>(&'a self, definition: &'a TableDef) -> StoreFuture<'a, (), ControlError> {
        Box::pin(async move {
            let description = TableDescription {
                partition: definition.partition_attribute().unwrap(),
                sort: definition.sort_attribute().unwrap(),
                active: true,
                deletion_protection: false,
            };
            let mut state = self.control()?;
            state.tables.entry(definition.dynamodb_table.clone()).or_default().description = Some(description);
            Ok(())
        })
    }

    fn delete_table<'a>(&'a self, table: &'a str) -> StoreFuture<'a, (), ControlError> {
        Box::pin(async move {
            let missing = || ControlError::TableMissing { table: table.to_owned() };
            self.control()?.tables.remove(table).map(drop).ok_or_else(missing)
        })
    }

    fn ensure_control_table<'a>(&'a self, _table: &'a str) -> StoreFuture<'a, (), ControlError> {
        Box::pin(async move { self.control().map(drop) })
    }

    fn put_record<'a>(
        &'a self,
        table: &'a str,
        record: ControlRecord,
        only_if_absent: bool,
    ) -> StoreFuture<'a, (), ControlError> {
        Box::pin(async move {
            let mut state = self.control()?;
            let key = (table.to_owned(), record.pk, record.sk);
            if only_if_absent && state.records.contains_key(&key) {
                return Err(ControlError::Conflict);
            }
            state.records.insert(key, record.body);
            Ok(())
        })
    }

    fn get_record<'a>(
        &'a self,
        table: &'a str,
        pk: &'a str,
        sk: Option<u64>,
    ) -> StoreFuture<'a, Option<ControlRecord>, ControlError> {
        Box::pin(async move {
            let state = self.control()?;
            let fits =
                |(at, of, number): &(String, String, u64)| at == table && of == pk && sk.is_none_or(|sk| sk == *number);
            let found = state.records.iter().rfind(|(key, _)| fits(key));
            Ok(found.map(|((_, pk, sk), body)| ControlRecord { pk: pk.clone(), sk: *sk, body: body.clone() }))
        })
    }

    fn scan_records<'a>(&'a self, table: &'a str) -> StoreFuture<'a, Vec<ControlRecord>, ControlError> {
        Box::pin(async move {
            let state = self.control()?;
            let records = state.records.iter().filter(|((at, _, _), _)| at == table);
            let record = |((_, pk, sk), body): (&(String, String, u64), &String)| ControlRecord {
                pk: pk.clone(),
                sk: *sk,
                body: body.clone(),
            };
            Ok(records.map(record).collect())
        })
    }
}
