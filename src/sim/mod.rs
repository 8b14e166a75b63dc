//! A model of DynamoDB's capacity behaviour, with faults, on virtual time: for tests of the pool, and for
//! `forebay simulate`.
//!
//! [`model`] is pure: time and the seed are passed in. [`store`] is the [`Store`](crate::store::Store) over it, which waits
//! on tokio's clock; paused and in a single-threaded runtime, the same seed gives the same run ([`trace`] proves it).
//!
//! # What is modelled, and after what
//!
//! "Guide" is the DynamoDB Developer Guide, "paper" is *Amazon DynamoDB: A Scalable, Predictably Performant, and Fully Managed
//! NoSQL Database Service* (USENIX ATC 2022), "chosen" is ours where nothing is published.
//!
//! | what | how | after |
//! |---|---|---|
//! | write unit | 1 KB, begun ones count, the larger of the item before and after; a false condition and a delete of nothing cost; a transaction doubles | guide |
//! | item size | the length of its JSON text stands for it | chosen: a few per cent more than DynamoDB's own rule |
//! | partition | 1,000 write and 3,000 read units a second; the bucket holds one second's worth | guide; the second is chosen |
//! | where an item lies | hash of the partition key, then the sort key; ranges of equal size at first | paper |
//! | partitions at first | as few as the capacity needs, unless the scenario says more | guide (older editions) |
//! | provisioned table | one bucket for the whole table, whatever partition uses it: adaptive capacity at once | paper (global admission control), without its few seconds of delay |
//! | burst | 300 s of unused provisioned units are kept, but a partition stays at its limit; none at first | guide; empty at first is chosen, as the worse case |
//! | on demand | twice the previous peak, 4,000 units for a new table; a peak is a minute's mean and counts after 30 minutes; what is beyond is throttled with the reason "key range", because it is beyond what the table's partitions are for | guide; the minute and the step are chosen |
//! | split for heat | a partition at 90 % of its limit for `split_after` (300 s) is halved at the median of its recent writes, also within a partition key, never within an item; a new partition starts with its own bucket | guide says that it happens, paper how the point is found; the time is chosen |
//! | account, on-demand maximum | a bucket each | guide |
//! | index short of capacity | its bucket is short: the table's write is throttled at once and names the index | guide; DynamoDB has a small buffer before that |
//! | BatchWriteItem | items are admitted one by one in random order; those that were not come back without a reason; only if none was admitted it is an exception, with the reason of most of them | guide |
//! | latency | log-normal, a base and a share per KB; throttling is as fast as success; load does not slow it | chosen |
//! | time-to-live | nothing is ever deleted by it | guide: "within a few days" |
//!
//! Not modelled: partitions' growth by size, local indexes, streams, global tables, contention between transactions (it is
//! a fault), connections.

pub mod baselines;
pub mod bucket;
pub mod capacity;
pub mod fault;
pub mod items;
pub mod latency;
pub mod ledger;
pub mod model;
pub mod partitions;
pub mod pool_writer;
pub mod rate_limiter;
pub mod report;
pub mod run;
pub mod scenario;
pub mod session;
pub mod store;
pub mod text;
pub mod trace;
pub mod values;
pub mod workload;

pub use capacity::{Billing, CapacityConfig, IndexConfig};
pub use fault::{Fault, FaultCounts, FaultKind};
pub use items::{ItemKey, KeySchema};
pub use model::{Applied, Model, ModelConfig, Observer};
pub use report::Report;
pub use run::{RunOptions, WriterKind, run};
pub use scenario::Scenario;
pub use store::SimStore;
