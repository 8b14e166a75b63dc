//! The [`Store`] over the model: waits on tokio's clock between a call's moments. Thin.
//!
//! Made for a paused clock in a single-threaded runtime, where hours pass in seconds and the same seed gives the same run;
//! it works on any. Callers: the simulation's run, and tests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::capacity::{Billing, CapacityConfig};
use super::items::{ItemKey, KeySchema};
use super::model::{Call, CallKind, Journey, JourneyEnd, Model};
use super::values::JsonItem;
use crate::schema::table::{BillingMode, KeyAttributeType, TableDef};
use crate::store::{
    BatchGetDone, BatchWrite, ControlError, ControlRecord, GetKeys, Item, OneWrite, QueryPage, QueryRange, ReadError,
    Store, StoreFuture, TableDescription, TransactWrite, WriteDone, WriteError, WriteItem,
};

/// Bytes of one read unit (DynamoDB: 4 KB, half the price where it need not be the latest).
const READ_UNIT_BYTES: f64 = 4_096.0;

/// A simulated DynamoDB.
#[derive(Debug)]
pub struct SimStore {
    started: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    model: Model,
    /// By control table, partition key and sort key.
    records: BTreeMap<(String, String, u64), String>,
}

impl SimStore {
    /// The model's time starts now.
    pub fn new(model: Model) -> Arc<Self> {
        let state = Mutex::new(State { model, records: BTreeMap::new() });
        Arc::new(Self { started: Instant::now(), state })
    }

    /// The time since the start.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Looks at the model, or changes it, at this moment. Late writes that are due are done before.
    pub fn with<T>(&self, look: impl FnOnce(&mut Model, Duration) -> T) -> T {
        let now = self.now();
        let mut state = self.state();
        state.model.advance(now);
        look(&mut state.model, now)
    }

    /// All items of a table by key; empty where items are not kept or there is no such table.
    pub fn items(&self, table: &str) -> BTreeMap<ItemKey, JsonItem> {
        self.with(|model, _| {
            let items = model.contents(table).and_then(|contents| contents.items());
            items.into_iter().flatten().map(|(key, stored)| (key.clone(), stored.item.clone())).collect()
        })
    }

    /// Does every write that was accepted and is not done yet, however late it would be.
    pub fn finish_late_writes(&self) {
        self.state().model.finish_late_writes();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere is the test's to report, not to be covered by another.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn depart(&self, call: Call<'_>) -> Journey {
        let now = self.now();
        self.state().model.depart(now, call)
    }

    async fn write(
        &self,
        call: Call<'_>,
        arrive: impl FnOnce(&mut Model, Duration, &Journey) -> Result<WriteDone, WriteError>,
    ) -> Result<WriteDone, WriteError> {
        let journey = self.depart(call);
        sleep(journey.there).await;
        let now = self.now();
        let heard = arrive(&mut self.state().model, now, &journey);
        sleep(journey.back).await;
        heard
    }

    /// One read: waits, takes units for what `look` finds, gives it.
    async fn read<T>(
        &self,
        table: &str,
        look: impl FnOnce(&Model) -> Result<(ItemKey, T, usize, bool), ReadError>,
    ) -> Result<T, ReadError> {
        let journey = self.depart(Call { table, bytes: 0, kind: CallKind::Read });
        sleep(journey.there).await;
        let now = self.now();
        let found = {
            let mut state = self.state();
            state.model.advance(now);
            match &journey.end {
                JourneyEnd::Fails(error) => Err(read_error(error.clone())),
                _ => look(&state.model).and_then(|(key, found, bytes, strong)| {
                    let units = (bytes as f64 / READ_UNIT_BYTES).ceil().max(1.0) * if strong { 1.0 } else { 0.5 };
                    state.model.read(now, &journey, table, &key, units).map_err(read_error)?;
                    Ok(found)
                }),
            }
        };
        sleep(journey.back).await;
        match journey.end {
            JourneyEnd::Lost => Err(ReadError::Unavailable { message: "the answer was lost".to_owned() }),
            _ => found,
        }
    }

    fn control(&self, table: &str) -> Result<MutexGuard<'_, State>, ControlError> {
        let now = self.now();
        let state = self.state();
        if state.model.is_away(table, now) {
            return Err(ControlError::Unavailable { message: "connection refused".to_owned() });
        }
        Ok(state)
    }
}

fn bytes_of(items: &[WriteItem]) -> usize {
    items.iter().map(|item| item.json.len()).sum()
}

fn read_error(error: WriteError) -> ReadError {
    match error {
        WriteError::Throttled { reason, .. } => ReadError::Throttled { reason },
        WriteError::TableMissing { table } => ReadError::TableMissing { table },
        WriteError::Access { message } => ReadError::Access { message },
        WriteError::Validation { message } => ReadError::Validation { message },
        other => ReadError::Unavailable { message: other.to_string() },
    }
}

fn bad_key() -> ReadError {
    ReadError::Validation { message: "the provided key element does not match the schema".to_owned() }
}

impl Store for SimStore {
    fn batch_write(&self, request: BatchWrite) -> StoreFuture<'_, WriteDone, WriteError> {
        Box::pin(async move {
            let call = Call { table: &request.table, bytes: bytes_of(&request.items), kind: CallKind::Batch };
            self.write(call, |model, at, journey| model.batch_write(at, journey, &request)).await
        })
    }

    fn write_one(&self, request: OneWrite) -> StoreFuture<'_, WriteDone, WriteError> {
        Box::pin(async move {
            let call = Call { table: &request.table, bytes: request.item.json.len(), kind: CallKind::One };
            self.write(call, |model, at, journey| model.write_one(at, journey, &request)).await
        })
    }

    fn transact_write(&self, request: TransactWrite) -> StoreFuture<'_, WriteDone, WriteError> {
        Box::pin(async move {
            let call = Call { table: &request.table, bytes: bytes_of(&request.items), kind: CallKind::Transact };
            self.write(call, |model, at, journey| model.transact_write(at, journey, &request)).await
        })
    }

    fn get(&self, keys: GetKeys) -> StoreFuture<'_, Option<Item>, ReadError> {
        Box::pin(async move {
            self.read(&keys.table, |model| {
                let missing = || ReadError::TableMissing { table: keys.table.to_string() };
                let schema = model.schema(&keys.table).ok_or_else(missing)?;
                let key = keys.keys.first().and_then(|key| schema.key_of_attrs(key)).ok_or_else(bad_key)?;
                let found = model.contents(&keys.table).and_then(|contents| contents.get(&key, &keys.attributes));
                let (item, bytes) = found.map_or((None, 0), |(item, bytes)| (Some(item), bytes));
                Ok((key, item, bytes, keys.strong))
            })
            .await
        })
    }

    fn batch_get(&self, tables: Vec<GetKeys>) -> StoreFuture<'_, BatchGetDone, ReadError> {
        Box::pin(async move {
            let mut done = BatchGetDone::default();
            let (mut throttled, mut asked) = (None, 0);
            for of in tables {
                let (mut items, mut unprocessed) = (Vec::new(), Vec::new());
                asked += of.keys.len();
                for (index, key) in of.keys.iter().enumerate() {
                    let one = GetKeys { keys: vec![key.clone()], ..of.clone() };
                    match self.get(one).await {
                        Ok(item) => items.extend(item),
                        Err(ReadError::Throttled { reason }) => {
                            throttled = Some(reason);
                            unprocessed.push(index);
                        }
                        Err(error) => return Err(error),
                    }
                }
                done.items.push(items);
                done.unprocessed.push(unprocessed);
            }
            match throttled {
                Some(reason) if done.unprocessed.iter().map(Vec::len).sum::<usize>() == asked => {
                    Err(ReadError::Throttled { reason })
                }
                _ => Ok(done),
            }
        })
    }

    fn query(&self, range: QueryRange) -> StoreFuture<'_, QueryPage, ReadError> {
        Box::pin(async move {
            self.read(&range.table, |model| {
                let missing = || ReadError::TableMissing { table: range.table.to_string() };
                let schema = model.schema(&range.table).ok_or_else(missing)?;
                let contents = model.contents(&range.table).ok_or_else(missing)?;
                let partition = super::values::ordered_bytes(&range.partition.1).ok_or_else(bad_key)?;
                let (page, bytes) = contents.query(schema, &range).ok_or_else(bad_key)?;
                let key = ItemKey { partition: partition.into_boxed_slice(), sort: Box::default() };
                Ok((key, page, bytes, range.strong))
            })
            .await
        })
    }

    fn describe_table<'a>(&'a self, table: &'a str) -> StoreFuture<'a, Option<TableDescription>, ControlError> {
        Box::pin(async move {
            let state = self.control(table)?;
            Ok(state.model.schema(table).map(|schema| TableDescription {
                partition: schema.partition.clone(),
                sort: schema.sort.clone(),
                active: true,
                deletion_protection: false,
            }))
        })
    }

    fn create_table<'a>(&'a self, definition: &'a TableDef) -> StoreFuture<'a, (), ControlError> {
        Box::pin(async move {
            let refused =
                |error: crate::schema::types::SchemaError| ControlError::Refused { message: error.to_string() };
            let partition = definition.partition_attribute().map_err(refused)?;
            let sort = definition.sort_attribute().map_err(refused)?;
            let (name, now) = (&definition.dynamodb_table, self.now());
            let mut state = self.control(name)?;
            if state.model.schema(name).is_some() {
                return Err(ControlError::TableExists { table: name.clone() });
            }
            state.model.add_table(name, KeySchema { partition, sort }, capacity_of(definition), now);
            Ok(())
        })
    }

    fn delete_table<'a>(&'a self, table: &'a str) -> StoreFuture<'a, (), ControlError> {
        Box::pin(async move {
            let gone = self.control(table)?.model.remove_table(table);
            gone.then_some(()).ok_or_else(|| ControlError::TableMissing { table: table.to_owned() })
        })
    }

    fn ensure_control_table<'a>(&'a self, table: &'a str) -> StoreFuture<'a, (), ControlError> {
        Box::pin(async move {
            let now = self.now();
            let mut state = self.control(table)?;
            if state.model.schema(table).is_none() {
                let schema = KeySchema::text("pk").with_sort("sk", KeyAttributeType::N);
                state.model.add_table(table, schema, CapacityConfig::on_demand(), now);
            }
            Ok(())
        })
    }

    fn put_record<'a>(
        &'a self,
        table: &'a str,
        record: ControlRecord,
        only_if_absent: bool,
    ) -> StoreFuture<'a, (), ControlError> {
        Box::pin(async move {
            let mut state = self.control(table)?;
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
            let state = self.control(table)?;
            let fits =
                |(at, of, number): &(String, String, u64)| at == table && of == pk && sk.is_none_or(|sk| sk == *number);
            let found = state.records.iter().rfind(|(key, _)| fits(key));
            Ok(found.map(record))
        })
    }

    fn scan_records<'a>(&'a self, table: &'a str) -> StoreFuture<'a, Vec<ControlRecord>, ControlError> {
        Box::pin(async move {
            let state = self.control(table)?;
            Ok(state.records.iter().filter(|((at, _, _), _)| at == table).map(record).collect())
        })
    }
}

fn record(((_, pk, sk), body): (&(String, String, u64), &String)) -> ControlRecord {
    ControlRecord { pk: pk.clone(), sk: *sk, body: body.clone() }
}

fn capacity_of(definition: &TableDef) -> CapacityConfig {
    let options = &definition.dynamodb;
    let mut capacity = match options.billing_mode {
        BillingMode::OnDemand => CapacityConfig::on_demand(),
        BillingMode::Provisioned => CapacityConfig::provisioned(options.provisioned_write_units as f64),
    };
    match &mut capacity.billing {
        Billing::Provisioned { read_units, .. } => *read_units = options.provisioned_read_units as f64,
        Billing::OnDemand { max_write_units, .. } => {
            let maximum = options.max_on_demand_write_units;
            *max_write_units = (maximum > 0).then_some(maximum as f64);
        }
    }
    capacity
}
