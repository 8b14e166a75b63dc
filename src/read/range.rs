//! Ranges: the rows under one partition key in the order of the sort key, a page at a time.
//!
//! A [`RangeRows`] is pulled: it asks the store for a page only when somebody wants its rows, so a reader who stops reading
//! stops the reading. A table with write shards keeps a key's rows in several places, each in order; they are merged, and
//! rows that two places have are taken from the newer one. What the store does not say ends the range as an error: a range
//! that ends well is whole. Expired and deleted rows are left out. The caller is `api::read`.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering as Memory};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::{Instant, timeout_at};

use super::backoff::Backoff;
use super::point::{PointReader, Unavailable, item_bytes, wait};
use super::sort_key::SortKey;
use crate::limits::{RANGE_BUFFER_BYTES, RANGE_CONCURRENT_CALLS, RANGE_FIRST_ITEM_BYTES, RANGE_MESSAGE_BYTES};
use crate::payload::decode::{DecodeError, Decoded, RowDecoder};
use crate::proto::v1::Row;
use crate::store::{Attr, Item, KeyAttrs, QueryPage, QueryRange, ReadError, SortRange, Store};

/// A range to read.
#[derive(Debug, Clone)]
pub struct RangeRead {
    /// The DynamoDB table.
    pub dynamodb_table: Arc<str>,
    /// The partition key's attribute.
    pub partition_attribute: String,
    /// The stored partition keys under which the rows are, the older ones first. One, but for write shards.
    pub places: Vec<Attr>,
    /// The sort key's attribute.
    pub sort_attribute: String,
    /// The smallest sort key, included.
    pub from: Option<Attr>,
    /// The greatest sort key, excluded.
    pub to: Option<Attr>,
    /// The greatest sort key first.
    pub descending: bool,
    /// At most so many rows.
    pub limit: Option<u64>,
    /// The attributes to fetch, the key's among them; empty for all.
    pub attributes: Arc<[String]>,
    /// Strongly consistent.
    pub strong: bool,
}

/// How long a range may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For the pages that are fetched at once.
    pub page: Duration,
    /// For all of it.
    pub until: Option<Instant>,
}

impl Patience {
    /// Whether the time for all of it has passed.
    pub fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }
}

/// Why a range ended before its end.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RangeError {
    /// It is not known what comes next.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The next item does not fit the schema.
    #[error("the item after {rows} rows of the range does not fit the schema: {error}")]
    Undecodable {
        /// The rows before it.
        rows: u64,
        /// What does not fit.
        error: DecodeError,
    },
}

impl PointReader {
    /// The rows of a range; nothing is fetched yet.
    pub fn range(&self, read: RangeRead) -> RangeRows {
        RangeRows::new(self.store().clone(), read)
    }
}

/// The rows of a range, as they are pulled.
pub struct RangeRows {
    store: Arc<dyn Store>,
    read: RangeRead,
    /// The bound that is not in the range, which the store would return.
    excluded: Option<SortKey>,
    places: Vec<Place>,
    /// The first row at hand of each place that has one.
    heads: BinaryHeap<Head>,
    /// Places that have none and are not at their end: what comes next is not known before they are fetched.
    dry: usize,
    last: Option<SortKey>,
    /// Rows given out.
    rows: u64,
    failed: Option<RangeError>,
    /// Fetched so far, to guess how large the items to come are.
    items_seen: usize,
    bytes_seen: usize,
}

impl std::fmt::Debug for RangeRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RangeRows")
            .field("places", &self.places.len())
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

/// One partition key.
struct Place {
    partition: Attr,
    /// What is at hand behind its head.
    items: VecDeque<(SortKey, Item)>,
    next: Next,
    /// Pages fetched.
    pages: u32,
    /// Items of the page before.
    page_items: usize,
}

/// Where the next page of a place begins.
enum Next {
    Start,
    After(KeyAttrs),
    End,
}

/// The first row at hand of a place.
struct Head {
    key: SortKey,
    item: Item,
    place: usize,
    descending: bool,
}

impl Ord for Head {
    /// The greatest comes out of the heap first: the row that is next, and from the newer place where two have it.
    fn cmp(&self, other: &Self) -> Ordering {
        let order = self.key.cmp(&other.key);
        let order = if self.descending { order } else { order.reverse() };
        order.then(self.place.cmp(&other.place))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head {}

impl RangeRows {
    fn new(store: Arc<dyn Store>, read: RangeRead) -> Self {
        let bound = |bound: &Option<Attr>| bound.as_ref().and_then(SortKey::of);
        let (from, excluded) = (bound(&read.from), bound(&read.to));
        // DynamoDB refuses bounds that are the wrong way round; there is nothing between them.
        let empty = matches!((&from, &excluded), (Some(from), Some(to)) if from >= to);
        let places = if empty { &[][..] } else { &read.places };
        let place = |partition: &Attr| {
            let (partition, items) = (partition.clone(), VecDeque::new());
            Place { partition, items, next: Next::Start, pages: 0, page_items: 0 }
        };
        let places: Vec<_> = places.iter().map(place).collect();
        Self {
            store,
            excluded,
            dry: places.len(),
            places,
            heads: BinaryHeap::new(),
            last: None,
            rows: 0,
            failed: None,
            items_seen: 1,
            bytes_seen: RANGE_FIRST_ITEM_BYTES,
            read,
        }
    }

    /// The next rows, at least one; `None` at the end of the range.
    ///
    /// What is at hand is given out before more is fetched. `now_epoch_seconds` decides whether a row has expired.
    pub async fn next_rows(
        &mut self,
        decoder: &RowDecoder<'_>,
        patience: Patience,
        now_epoch_seconds: i64,
    ) -> Result<Option<Vec<Row>>, RangeError> {
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while bytes < RANGE_MESSAGE_BYTES
            && self.failed.is_none()
            && self.read.limit.is_none_or(|limit| self.rows < limit)
        {
            if self.dry > 0 {
                if !rows.is_empty() {
                    break;
                }
                self.failed = self.fetch(patience).await.err().map(RangeError::from);
                continue;
            }
            let Some(Head { key, item, place, .. }) = self.heads.pop() else { break };
            self.advance(place);
            if self.last.as_ref() == Some(&key) || self.excluded.as_ref() == Some(&key) {
                continue;
            }
            self.last = Some(key);
            let item_bytes = item_bytes(&item);
            match decoder.decode(item, now_epoch_seconds) {
                Ok(Decoded::Row(row)) => {
                    rows.push(row);
                    bytes += item_bytes;
                    self.rows += 1;
                }
                Ok(Decoded::Expired | Decoded::Deleted) => {}
                Err(error) => self.failed = Some(RangeError::Undecodable { rows: self.rows, error }),
            }
        }
        // The rows before a failure come first; it is told when the next ones are asked for.
        match &self.failed {
            Some(failed) if rows.is_empty() => Err(failed.clone()),
            _ => Ok((!rows.is_empty()).then_some(rows)),
        }
    }

    /// Makes the next item at hand of a place its head.
    fn advance(&mut self, index: usize) {
        let place = &mut self.places[index];
        match (place.items.pop_front(), &place.next) {
            (Some((key, item)), _) => {
                self.heads.push(Head { key, item, place: index, descending: self.read.descending });
            }
            (None, Next::End) => {}
            (None, _) => self.dry += 1,
        }
    }

    /// Fetches a page of every place that has nothing at hand, and of those that will have nothing soon, so that many places
    /// do not wait for each other in turn.
    async fn fetch(&mut self, patience: Patience) -> Result<(), Unavailable> {
        let until = Instant::now() + patience.page;
        let until = patience.until.map_or(until, |end| end.min(until));
        let mut has_head = vec![false; self.places.len()];
        self.heads.iter().for_each(|head| has_head[head.place] = true);
        let wanted = self.places.iter().enumerate().filter(|(_, place)| place.runs_low()).map(|(index, _)| index);
        // What the first pages show of the items' sizes counts for those that are asked for after them.
        let (items_seen, bytes_seen) = (AtomicUsize::new(self.items_seen), AtomicUsize::new(self.bytes_seen));
        let fetch = |index: usize| {
            let (this, items_seen, bytes_seen) = (&*self, &items_seen, &bytes_seen);
            async move {
                let place = &this.places[index];
                let mean_bytes = bytes_seen.load(Memory::Relaxed) / items_seen.load(Memory::Relaxed);
                let page = this.page(place, this.page_limit(place, mean_bytes), until).await?;
                items_seen.fetch_add(page.items.len(), Memory::Relaxed);
                bytes_seen.fetch_add(page.items.iter().map(item_bytes).sum(), Memory::Relaxed);
                Ok::<_, Unavailable>((index, page))
            }
        };
        let wanted: Vec<_> = wanted.map(fetch).collect();
        let pages: Vec<_> = stream::iter(wanted).buffer_unordered(RANGE_CONCURRENT_CALLS).collect().await;
        (self.items_seen, self.bytes_seen) = (items_seen.into_inner(), bytes_seen.into_inner());
        for page in pages {
            let (index, page) = page?;
            self.places[index].take(page, &self.read.sort_attribute)?;
            if !has_head[index] {
                self.dry -= 1;
                self.advance(index);
            }
        }
        Ok(())
    }

    /// One page of a place. Throttling is waited out.
    async fn page(&self, place: &Place, limit: Option<u32>, until: Instant) -> Result<QueryPage, Unavailable> {
        let RangeRead { from, to, .. } = &self.read;
        let bounds = || SortRange { attribute: self.read.sort_attribute.clone(), from: from.clone(), to: to.clone() };
        let query = QueryRange {
            table: self.read.dynamodb_table.clone(),
            partition: (self.read.partition_attribute.clone(), place.partition.clone()),
            sort: (from.is_some() || to.is_some()).then(bounds),
            attributes: self.read.attributes.clone(),
            strong: self.read.strong,
            descending: self.read.descending,
            limit,
            after: match &place.next {
                Next::After(key) => Some(key.clone()),
                Next::Start | Next::End => None,
            },
        };
        let mut backoff = Backoff::default();
        let mut why = Unavailable::Deadline;
        loop {
            match timeout_at(until, self.store.query(query.clone())).await {
                Err(_elapsed) => return Err(why),
                Ok(Err(throttled @ ReadError::Throttled { .. })) => why = throttled.into(),
                Ok(answer) => return Ok(answer?),
            }
            if !wait(backoff.next_delay(), until).await {
                return Err(why);
            }
        }
    }

    /// How many items a page may have: no more than are wanted, and than memory is meant for.
    fn page_limit(&self, place: &Place, item_bytes: usize) -> Option<u32> {
        // Where a place's first page was not enough (rows in it have expired, say), the pages grow, or a small limit would
        // cost a call for each few of them.
        let wanted = self.read.limit.map(|limit| {
            let excluded = u64::from(self.read.descending && self.read.to.is_some());
            (limit - self.rows).saturating_add(excluded).saturating_mul(1 << place.pages.min(16))
        });
        // DynamoDB's own pages are small enough for one place.
        let fitting =
            (self.places.len() > 1).then(|| (RANGE_BUFFER_BYTES / self.places.len() / item_bytes.max(1)).max(1) as u64);
        let limit = wanted.unwrap_or(u64::MAX).min(fitting.unwrap_or(u64::MAX));
        // A page of more items than that has never been.
        (limit < u64::from(u32::MAX)).then_some(limit as u32)
    }
}

impl Place {
    /// Whether there is more to fetch, and less than a quarter of a page at hand.
    fn runs_low(&self) -> bool {
        !matches!(self.next, Next::End) && self.items.len() * 4 <= self.page_items
    }

    fn take(&mut self, page: QueryPage, sort_attribute: &str) -> Result<(), Unavailable> {
        self.page_items = page.items.len();
        self.pages += 1;
        self.next = page.next.map_or(Next::End, Next::After);
        for item in page.items {
            let Some(key) = item.get(sort_attribute).and_then(SortKey::of) else {
                let message = "an item of the range came back without its sort key".to_owned();
                return Err(ReadError::Unavailable { message }.into());
            };
            self.items.push_back((key, item));
        }
        Ok(())
    }
}
