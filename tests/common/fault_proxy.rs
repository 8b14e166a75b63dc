//! A proxy before a DynamoDB that does to each call what a script says: refuse it, do a part of it, lose its answer, be late.
//!
//! It speaks HTTP/1.1 over real TCP, so that what the gateway meets is what it would meet: the SDK's connections, time-outs
//! and decoding are all in play. A call's outcome in the store is always the script's choice, never an accident: a call is
//! forwarded whole or in the named part, or not at all, and [`FaultProxy::settled`] waits for what is still to come.

#![allow(unreachable_pub, missing_docs, reason = "a module of test binaries")]
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

#[path = "http_wire.rs"]
mod http_wire;

use http_wire::{Message, Wire};

/// What happens to a call.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Nothing.
    Pass,
    /// It is refused in DynamoDB's words; nothing is done. The reasons are those of throttling, with their resources.
    Refuse { status: u16, kind: &'static str, reasons: Vec<(&'static str, &'static str)> },
    /// A transaction is cancelled because of this item, with this code; nothing is done.
    Cancel { item: usize, code: &'static str },
    /// A BatchWriteItem's requests with these indices are left undone and come back as unprocessed.
    Part { left: Vec<usize> },
    /// A BatchWriteItem's requests with these indices, or the whole of any call, are left undone, and the answer says that they
    /// were done. No DynamoDB does that: it is for the proof of checks.
    Lie { left: Option<Vec<usize>> },
    /// It is done after a while, and answered.
    Slow(Duration),
    /// It is swallowed: not done, never answered, and the connection stays open.
    BlackHole,
    /// The connection is closed; nothing is done.
    Reset,
    /// It is done, and the connection closed instead of an answer.
    LoseAnswer,
    /// It is done, and answered with HTTP 500.
    FailAfter,
    /// The connection is closed, and it is done after a while: behind what comes later.
    ApplyLate(Duration),
}

impl Fault {
    pub fn refuse(kind: &'static str) -> Self {
        Self::Refuse { status: 400, kind, reasons: Vec::new() }
    }

    /// Throttled as a whole, for this reason.
    pub fn throttled(reason: &'static str) -> Self {
        let kind = "ProvisionedThroughputExceededException";
        Self::Refuse { status: 400, kind, reasons: vec![(reason, "arn:aws:dynamodb:us-east-1:1:table/rows")] }
    }

    pub fn internal() -> Self {
        Self::Refuse { status: 500, kind: "InternalServerError", reasons: Vec::new() }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Refuse { kind, .. } => kind,
            Self::Cancel { .. } => "cancel",
            Self::Part { .. } => "part",
            Self::Lie { .. } => "lie",
            Self::Slow(_) => "slow",
            Self::BlackHole => "black hole",
            Self::Reset => "reset",
            Self::LoseAnswer => "lost answer",
            Self::FailAfter => "failed after",
            Self::ApplyLate(_) => "late",
        }
    }
}

/// A call as it arrived.
#[derive(Debug, Clone)]
pub struct Call {
    /// From 1, over all connections.
    pub number: u64,
    /// `BatchWriteItem`.
    pub operation: String,
    /// The table, of which there is one in every call that Forebay makes to write.
    pub table: String,
    pub body: Value,
}

impl Call {
    /// Whether it writes items of a table, and not the catalog's records.
    pub fn writes(&self) -> bool {
        let operations = ["BatchWriteItem", "PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems"];
        operations.contains(&self.operation.as_str()) && !self.table.starts_with("forebay-")
    }

    /// The items that it puts, and the keys that it updates or deletes.
    pub fn items(&self) -> Vec<&Value> {
        let of = |request: &'static str, whole: &'_ Value| -> bool { !whole[request].is_null() };
        let one =
            |write: &'_ Value| -> Option<&'static str> { ["Item", "Key"].into_iter().find(|name| of(name, write)) };
        let requests: Vec<&Value> = match self.operation.as_str() {
            "BatchWriteItem" => self.body["RequestItems"][&self.table].as_array().into_iter().flatten().collect(),
            "TransactWriteItems" => self.body["TransactItems"].as_array().into_iter().flatten().collect(),
            _ => return one(&self.body).map(|name| &self.body[name]).into_iter().collect(),
        };
        let inner = |request: &'_ Value| request.as_object().and_then(|kinds| kinds.keys().next().cloned());
        requests
            .into_iter()
            .filter_map(|request| {
                let write = &request[&inner(request)?];
                Some(&write[one(write)?])
            })
            .collect()
    }
}

/// Decides over calls, in the order in which they arrive.
type Script = Box<dyn FnMut(&Call) -> Fault + Send>;

struct Shared {
    to: SocketAddr,
    script: Mutex<Script>,
    calls: AtomicU64,
    writes: AtomicU64,
    /// Calls between their arrival and their end in the store.
    under_way: AtomicUsize,
    fired: Mutex<BTreeMap<&'static str, u64>>,
}

/// A running proxy. It stops when it is dropped.
pub struct FaultProxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    away: watch::Sender<bool>,
    _accepting: AbortOnDropHandle<()>,
}

impl FaultProxy {
    /// Starts before the DynamoDB at this URL, and passes everything on.
    pub async fn start(to: &str) -> Self {
        let to = to.strip_prefix("http://").and_then(|address| address.parse().ok()).expect("a plain URL");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            to,
            script: Mutex::new(Box::new(|_| Fault::Pass)),
            calls: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            under_way: AtomicUsize::new(0),
            fired: Mutex::default(),
        });
        let (away, is_away) = watch::channel(false);
        let accepting = AbortOnDropHandle::new(tokio::spawn(accept(listener, address, Arc::clone(&shared), is_away)));
        Self { address, shared, away, _accepting: accepting }
    }

    pub fn endpoint_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on.
    pub fn script(&self, script: impl FnMut(&Call) -> Fault + Send + 'static) {
        *self.shared.script.lock().unwrap() = Box::new(script);
    }

    /// From now on, for writes of items; other calls pass.
    pub fn script_writes(&self, mut script: impl FnMut(&Call) -> Fault + Send + 'static) {
        self.script(move |call| if call.writes() { script(call) } else { Fault::Pass });
    }

    pub fn pass(&self) {
        self.script(|_| Fault::Pass);
    }

    /// Nobody listens, and all connections are gone; or the other way round.
    pub fn set_away(&self, away: bool) {
        self.away.send_replace(away);
    }

    /// Writes that have arrived.
    pub fn writes(&self) -> u64 {
        self.shared.writes.load(Ordering::SeqCst)
    }

    /// How often each kind of fault was done to a call.
    pub fn fired(&self) -> BTreeMap<&'static str, u64> {
        self.shared.fired.lock().unwrap().clone()
    }

    /// Waits until the store has all that it will get of the calls that arrived.
    pub async fn settled(&self) {
        let settled = async {
            while self.shared.under_way.load(Ordering::SeqCst) > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), settled).await.expect("late calls are done");
    }
}

/// Counts a call as under way.
struct UnderWay(Arc<Shared>);

impl UnderWay {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.under_way.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(shared))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn accept(mut listener: TcpListener, address: SocketAddr, shared: Arc<Shared>, mut away: watch::Receiver<bool>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (near, _) = accepted.expect("a connection");
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    // The gateway gives up on calls, and the store may be gone at the end of a test.
                    let _ended = serve(near, &shared).await;
                });
            }
            changed = away.changed() => {
                if changed.is_err() {
                    return;
                }
                if !*away.borrow_and_update() {
                    continue;
                }
                drop(listener);
                connections.shutdown().await;
                if away.wait_for(|away| !away).await.is_err() {
                    return;
                }
                listener = TcpListener::bind(address).await.expect("the port is still free");
            }
        }
    }
}

/// One connection of the gateway's.
async fn serve(near: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    let (mut near, mut far) = (Wire::new(near), None);
    while let Some(request) = near.read().await? {
        let call = call(&request, shared);
        let under_way = UnderWay::new(shared);
        let fault = (shared.script.lock().unwrap())(&call);
        *shared.fired.lock().unwrap().entry(fault.name()).or_default() += 1;
        let answer = match fault {
            Fault::Pass => forward(&mut far, shared.to, &request).await?,
            Fault::Slow(time) => {
                tokio::time::sleep(time).await;
                forward(&mut far, shared.to, &request).await?
            }
            Fault::Refuse { status, kind, reasons } => refusal(status, kind, &reasons),
            Fault::Cancel { item, code } => cancellation(call.items().len(), item, code),
            Fault::Part { left } => part(&mut far, shared.to, &request, &call, &left, true).await?,
            Fault::Lie { left: Some(left) } => part(&mut far, shared.to, &request, &call, &left, false).await?,
            Fault::Lie { left: None } => Message::answer(200, &json!({})),
            Fault::BlackHole => {
                drop(under_way);
                return std::future::pending().await;
            }
            Fault::Reset => return Ok(()),
            Fault::LoseAnswer => return forward(&mut far, shared.to, &request).await.map(|_| ()),
            Fault::FailAfter => {
                forward(&mut far, shared.to, &request).await?;
                refusal(500, "InternalServerError", &[])
            }
            Fault::ApplyLate(time) => {
                let to = shared.to;
                tokio::spawn(async move {
                    tokio::time::sleep(time).await;
                    forward(&mut None, to, &request).await.expect("the store is there until the test ends");
                    drop(under_way);
                });
                return Ok(());
            }
        };
        drop(under_way);
        near.write(&answer).await?;
    }
    Ok(())
}

fn call(request: &Message, shared: &Shared) -> Call {
    let body: Value = serde_json::from_slice(&request.body).expect("the gateway sends JSON");
    let operation = request.header("x-amz-target").unwrap_or_default();
    let operation = operation.strip_prefix("DynamoDB_20120810.").unwrap_or_default().to_owned();
    let of_batch = || body["RequestItems"].as_object().and_then(|tables| tables.keys().next().cloned());
    let of_transaction = || body["TransactItems"][0].as_object()?.values().next()?["TableName"].as_str();
    let table = body["TableName"].as_str().or_else(of_transaction).map(str::to_owned);
    let table = table.or_else(of_batch).unwrap_or_default();
    let number = shared.calls.fetch_add(1, Ordering::SeqCst) + 1;
    let call = Call { number, operation, table, body };
    if call.writes() {
        shared.writes.fetch_add(1, Ordering::SeqCst);
    }
    call
}

/// Sends a request on, over the connection that is kept for it.
async fn forward(far: &mut Option<Wire>, to: SocketAddr, request: &Message) -> io::Result<Message> {
    let wire = match far {
        Some(wire) => wire,
        None => far.insert(Wire::new(TcpStream::connect(to).await?)),
    };
    wire.write(request).await?;
    wire.read().await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// Does a part of a batch; an honest answer says what was left.
async fn part(
    far: &mut Option<Wire>,
    to: SocketAddr,
    request: &Message,
    call: &Call,
    left: &[usize],
    honest: bool,
) -> io::Result<Message> {
    assert_eq!(call.operation, "BatchWriteItem", "only batches have parts");
    let all = call.body["RequestItems"][&call.table].as_array().cloned().unwrap_or_default();
    let pick = |is_left: bool| -> Vec<Value> {
        let some = all.iter().enumerate().filter(|(index, _)| left.contains(index) == is_left);
        some.map(|(_, request)| request.clone()).collect()
    };
    let (done, left) = (pick(false), pick(true));
    let mut answer = if done.is_empty() {
        Message::answer(200, &json!({"ConsumedCapacity": [{"TableName": call.table, "CapacityUnits": 0.0}]}))
    } else {
        let mut body = call.body.clone();
        body["RequestItems"][&call.table] = Value::Array(done);
        forward(far, to, &request.with_body(body.to_string().into_bytes())).await?
    };
    let mut body: Value = serde_json::from_slice(&answer.body).expect("the store answers JSON");
    assert_eq!(body["UnprocessedItems"].as_object().map_or(0, serde_json::Map::len), 0, "the emulator does everything");
    if honest && !left.is_empty() {
        body["UnprocessedItems"] = json!({&call.table: left});
    }
    answer = answer.with_body(body.to_string().into_bytes());
    Ok(answer)
}

fn cancellation(items: usize, item: usize, code: &str) -> Message {
    let reason = |index| json!({"Code": if index == item { code } else { "None" }});
    let kind = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException";
    let reasons: Value = (0..items).map(reason).collect();
    Message::answer(400, &json!({"__type": kind, "message": "by the proxy", "CancellationReasons": reasons}))
}

fn refusal(status: u16, kind: &str, reasons: &[(&str, &str)]) -> Message {
    let mut body = json!({"__type": format!("com.amazonaws.dynamodb.v20120810#{kind}"), "message": "by the proxy"});
    if !reasons.is_empty() {
        let reason = |(reason, resource): &(&str, &str)| json!({"reason": reason, "resource": resource});
        body["ThrottlingReasons"] = reasons.iter().map(reason).collect();
    }
    Message::answer(status, &body)
}
