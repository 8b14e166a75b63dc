//! Gateways that break their promises, as the store would see them: the judge must find each of them out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay::schema::table::TableDef;
use forebay::sim::SimStore;
use forebay::store::members::Member;
use forebay::store::{
    BatchGetDone, BatchWrite, ControlError, ControlRecord, GetKeys, Item, OneWrite, ReadError, Store, StoreFuture,
    TableDescription, TransactWrite, WriteDone, WriteError, WriteItem, WriteOp,
};
use tokio::time::sleep;

use crate::checker::Rule;
use crate::run::run;

/// What is broken in a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    /// It acks what it has only sent: the write happens later, or never.
    AckBeforeWrite,
    /// It takes unprocessed items for written.
    UnprocessedIgnored,
    /// A newer merge erases the columns of a queued older one.
    NewerMergeErases,
    /// It writes rows that have sequences without looking at them.
    SequencesForgotten,
    /// It writes half of a transaction.
    TornTransactions,
    /// It writes again what was confirmed.
    RepeatsLate,
    /// It says of inserts that there was an item, though it was they who wrote it.
    DeniesInserts,
}

/// A store behind such a gateway's back.
struct Liar {
    store: Arc<SimStore>,
    lie: Lie,
}

impl Liar {
    /// The write happens when it happens.
    fn lets_go(&self, write: StoreFuture<'static, WriteDone, WriteError>) -> Result<WriteDone, WriteError> {
        tokio::spawn(write);
        Ok(WriteDone::default())
    }
}

/// Only the columns of the newest row; `v` names it.
fn erased(item: WriteItem) -> WriteItem {
    let Some(newest) = item.other_members().find(|member| member.name == b"\"v\"") else { return item };
    let keeps = |member: &Member<'_>| member.value == newest.value || member.name == b"\"bad\"";
    let mut json = [b"{", item.key_text()].concat();
    for member in item.other_members().filter(keeps) {
        json.push(b',');
        json.extend_from_slice(member.text);
    }
    json.push(b'}');
    WriteItem::new(item.op, Bytes::from(json), item.key_len)
}

impl Store for Liar {
    fn batch_write(&self, request: BatchWrite) -> StoreFuture<'_, WriteDone, WriteError> {
        let (store, lie) = (Arc::clone(&self.store), self.lie);
        Box::pin(async move {
            let write = Box::pin({
                let (store, request) = (Arc::clone(&store), request.clone());
                async move { store.batch_write(request).await }
            });
            match lie {
                Lie::AckBeforeWrite => self.lets_go(write),
                Lie::UnprocessedIgnored => write.await.map(|done| WriteDone { unprocessed: Vec::new(), ..done }),
                Lie::RepeatsLate => {
                    let done = write.await;
                    if done.as_ref().is_ok_and(|done| done.unprocessed.is_empty()) {
                        self.lets_go(Box::pin(async move {
                            sleep(Duration::from_secs(7)).await;
                            store.batch_write(request).await
                        }))?;
                    }
                    done
                }
                _ => write.await,
            }
        })
    }

    fn write_one(&self, mut request: OneWrite) -> StoreFuture<'_, WriteDone, WriteError> {
        let (store, lie) = (Arc::clone(&self.store), self.lie);
        Box::pin(async move {
            match lie {
                Lie::AckBeforeWrite => self.lets_go(Box::pin(async move { store.write_one(request).await })),
                Lie::NewerMergeErases if request.item.op == WriteOp::Merge && request.sequence.is_none() => {
                    request.item = erased(request.item);
                    store.write_one(request).await
                }
                Lie::SequencesForgotten => {
                    request.sequence = None;
                    store.write_one(request).await
                }
                Lie::DeniesInserts if request.item.op == WriteOp::Insert => {
                    store.write_one(request).await?;
                    Err(WriteError::Condition { existing: None })
                }
                _ => store.write_one(request).await,
            }
        })
    }

    fn transact_write(&self, mut request: TransactWrite) -> StoreFuture<'_, WriteDone, WriteError> {
        let (store, lie) = (Arc::clone(&self.store), self.lie);
        Box::pin(async move {
            if lie == Lie::AckBeforeWrite {
                return self.lets_go(Box::pin(async move { store.transact_write(request).await }));
            }
            if lie == Lie::TornTransactions {
                request.items.truncate(request.items.len().div_ceil(2));
            }
            store.transact_write(request).await
        })
    }

    fn get(&self, keys: GetKeys) -> StoreFuture<'_, Option<Item>, ReadError> {
        self.store.get(keys)
    }

    fn batch_get(&self, tables: Vec<GetKeys>) -> StoreFuture<'_, BatchGetDone, ReadError> {
        self.store.batch_get(tables)
    }

    fn describe_table<'a>(&'a self, table: &'a str) -> StoreFuture<'a, Option<TableDescription>, ControlError> {
        self.store.describe_table(table)
    }

    fn create_table<'a>(&'a self, definition: &'a TableDef) -> StoreFuture<'a, (), ControlError> {
        self.store.create_table(definition)
    }

    fn delete_table<'a>(&'a self, table: &'a str) -> StoreFuture<'a, (), ControlError> {
        self.store.delete_table(table)
    }

    fn ensure_control_table<'a>(&'a self, table: &'a str) -> StoreFuture<'a, (), ControlError> {
        self.store.ensure_control_table(table)
    }

    fn put_record<'a>(
        &'a self,
        table: &'a str,
        record: ControlRecord,
        only_if_absent: bool,
    ) -> StoreFuture<'a, (), ControlError> {
        self.store.put_record(table, record, only_if_absent)
    }

    fn get_record<'a>(
        &'a self,
        table: &'a str,
        pk: &'a str,
        sk: Option<u64>,
    ) -> StoreFuture<'a, Option<ControlRecord>, ControlError> {
        self.store.get_record(table, pk, sk)
    }

    fn scan_records<'a>(&'a self, table: &'a str) -> StoreFuture<'a, Vec<ControlRecord>, ControlError> {
        self.store.scan_records(table)
    }
}

/// The judge finds this rule broken by a gateway that lies like that, in one of a few runs.
fn is_found_out(lie: Lie, rule: Rule) {
    for seed in 1..=5 {
        let outcome = run(seed, |store| Arc::new(Liar { store, lie }));
        let found = outcome.broken.iter().filter(|broken| broken.rule == rule).count();
        eprintln!("{lie:?}, seed {seed}: {rule:?} {found} times, {} findings in all", outcome.broken.len());
        if found > 0 {
            return;
        }
    }
    panic!("{lie:?} was not found out");
}

#[test]
fn a_gateway_that_acks_before_it_writes_is_found_out() {
    is_found_out(Lie::AckBeforeWrite, Rule::Lost);
}

#[test]
fn a_gateway_that_ignores_unprocessed_items_is_found_out() {
    is_found_out(Lie::UnprocessedIgnored, Rule::Lost);
}

#[test]
fn a_gateway_whose_newer_merge_erases_a_queued_older_one_is_found_out() {
    is_found_out(Lie::NewerMergeErases, Rule::Lost);
}

#[test]
fn a_gateway_that_forgets_sequences_is_found_out() {
    is_found_out(Lie::SequencesForgotten, Rule::Order);
}

#[test]
fn a_gateway_that_writes_half_a_transaction_is_found_out() {
    is_found_out(Lie::TornTransactions, Rule::Torn);
}

#[test]
fn a_gateway_that_repeats_what_is_done_is_found_out() {
    is_found_out(Lie::RepeatsLate, Rule::NotOwed);
}

#[test]
fn a_gateway_that_denies_what_it_wrote_is_found_out() {
    is_found_out(Lie::DeniesInserts, Rule::NotWritten);
}
