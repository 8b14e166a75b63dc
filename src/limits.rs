//! Every number that the code must respect or has chosen, with its source.
//!
//! A leaf: imports nothing. "DynamoDB" as a source means the service's published quotas; "chosen" means ours to change.

use std::time::Duration;

/// Operations in one BatchWriteItem (DynamoDB).
pub const BATCH_WRITE_MAX_OPERATIONS: usize = 25;
/// Bytes in one BatchWriteItem request (DynamoDB: 16 MB); we stay below by a margin for names and framing.
pub const BATCH_WRITE_MAX_BYTES: usize = 15 * 1024 * 1024;
/// Keys in one BatchGetItem (DynamoDB).
pub const BATCH_GET_MAX_KEYS: usize = 100;
/// Largest item, by DynamoDB's own size rule (DynamoDB: 400 KB).
pub const ITEM_MAX_BYTES: usize = 400 * 1024;
/// Longest partition key value (DynamoDB).
pub const PARTITION_KEY_MAX_BYTES: usize = 2048;
/// Longest sort key value (DynamoDB).
pub const SORT_KEY_MAX_BYTES: usize = 1024;
/// Write shards of one partition key (chosen: two hexadecimal digits; 256,000 write units a second of one key).
pub const WRITE_SHARDS_MAX: u32 = 256;
/// Deepest nesting of lists and maps (DynamoDB).
pub const NESTING_MAX_LEVELS: usize = 32;
/// Significant digits of a number (DynamoDB).
pub const NUMBER_MAX_DIGITS: usize = 38;
/// Smallest decimal exponent of a number's leading digit: 1E-130 (DynamoDB).
pub const NUMBER_MIN_EXPONENT: i32 = -130;
/// Largest decimal exponent of a number's leading digit: 9.99E+125 (DynamoDB).
pub const NUMBER_MAX_EXPONENT: i32 = 125;
/// Longest map key, by DynamoDB's attribute-name rule.
pub const MAP_KEY_MAX_BYTES: usize = 65_535;
/// Longest key attribute name (DynamoDB: 255 bytes); used for every column name, so that any column could be a key.
pub const COLUMN_NAME_MAX_BYTES: usize = 255;

/// Largest gRPC message (chosen: four times tonic's default, because Spark makes 5 MB record batches).
pub const MESSAGE_MAX_BYTES: usize = 16 * 1024 * 1024;
/// Size at which clients slice (chosen: large enough that framing is noise, small enough that a window holds several).
pub const BATCH_TARGET_BYTES: usize = 2 * 1024 * 1024;
/// Rows in one batch (chosen: ten times Spark's default of 10,000).
pub const BATCH_MAX_ROWS: usize = 100_000;
/// Rows in one unary WriteRows (chosen: it answers only when all have an outcome).
pub const WRITE_ROWS_MAX_ROWS: usize = 1_000;
/// Keys in one BatchGetRows (chosen: ten BatchGetItem calls).
pub const READ_MAX_KEYS: usize = 1_000;
/// Bytes that an Arrow batch may unfold to: all buffers after decompression (chosen: 4 messages' worth).
pub const ARROW_MAX_DECODED_BYTES: usize = 4 * MESSAGE_MAX_BYTES;
/// Tables in the flatbuffer of an Arrow schema (chosen: the most columns, each with its type and a few pairs of metadata). A
/// flatbuffer may refer to one table many times, so that few bytes can unfold into many fields.
pub const ARROW_SCHEMA_MAX_TABLES: usize = 64 * 1024;
/// Tables in the flatbuffer of an Arrow batch, whose arrays are no tables (chosen: room for metadata pairs).
pub const ARROW_BATCH_MAX_TABLES: usize = 1024;
/// Outcomes in one Ack (chosen: about 64 KiB of text).
pub const ACK_MAX_OUTCOMES: usize = 500;
/// Coercion rules that a receipt lists (chosen: a table of hundreds of columns, each with a few rules).
pub const RECEIPT_MAX_COERCIONS: usize = 1_000;
/// Rejected rows that a CheckRows answer lists (chosen: examples, and a file's worth of them is what `load` is for).
pub const CHECK_MAX_OUTCOMES: usize = 1_000;
/// Text of what a CheckRows answer lists, in bytes (chosen: fits a client's default limit of 4 MiB for one message).
pub const CHECK_MAX_LISTED_BYTES: usize = 2 * 1024 * 1024;
/// Memory for the keys of a CheckRows sample, in bytes (chosen: 250 bytes for each of the most rows).
pub const CHECK_MAX_KEY_BYTES: usize = 24 * 1024 * 1024;
/// Bytes that one write unit writes (DynamoDB: 1 KB).
pub const WRITE_UNIT_BYTES: u32 = 1024;
/// USD for a million write request units: on demand, standard class, us-east-1 (AWS: "New: Amazon DynamoDB lowers pricing for
/// on-demand throughput and global tables", in effect since 2024-11-01; it was 1.25 before).
pub const WRITE_REQUEST_USD_PER_MILLION: f64 = 0.625;
/// Operators in one update expression (DynamoDB: 300), and so columns of a session that merges, key apart.
pub const MERGE_MAX_COLUMNS: usize = 300;
/// Longest `producer_id` (chosen; a UUID has 36).
pub const PRODUCER_ID_MAX_BYTES: usize = 512;
/// How often the recorded epochs of open sessions' producers are read (chosen: "within seconds").
pub const EPOCH_WATCH_INTERVAL: Duration = Duration::from_secs(2);
/// Attempts at recording an epoch (chosen).
pub const EPOCH_ATTEMPTS: u32 = 4;
/// First pause between them (chosen).
pub const EPOCH_BACKOFF: Duration = Duration::from_millis(50);
/// Rows of an atomic batch (DynamoDB: items of one TransactWriteItems).
pub const ATOMIC_MAX_ROWS: usize = 100;
/// Items of an atomic batch together, in bytes (DynamoDB: 4 MB in one TransactWriteItems).
pub const ATOMIC_MAX_BYTES: usize = 4 * 1024 * 1024;
/// How long a delete hides older rows unless the table says otherwise (protocol).
pub const TOMBSTONE_RETENTION_DEFAULT: Duration = Duration::from_secs(7 * 24 * 3600);
/// The shortest such time (chosen: [`ROW_DEADLINE_MAX`]; a row may wait so long, and must not outlive the tombstone).
pub const TOMBSTONE_RETENTION_MIN: Duration = ROW_DEADLINE_MAX;
/// The longest such time (chosen: ten years).
pub const TOMBSTONE_RETENTION_MAX: Duration = Duration::from_secs(3650 * 24 * 3600);
/// Columns of a table or a session (chosen; Spark tables of features have hundreds).
pub const MAX_COLUMNS: usize = 4_096;

/// First window of a session, in bytes (protocol).
pub const WINDOW_MAX_UNACKED_BYTES: u64 = 8 * 1024 * 1024;
/// First window of a session, in batches (protocol).
pub const WINDOW_MAX_UNACKED_BATCHES: u32 = 64;
/// Rows wait this long for DynamoDB unless Open says otherwise (protocol).
pub const ROW_DEADLINE_DEFAULT: Duration = Duration::from_secs(600);
/// The longest `row_deadline` that Open may ask for (chosen).
pub const ROW_DEADLINE_MAX: Duration = Duration::from_secs(3600);
/// In tables with `sequence_by`, rows get an outcome when `row_deadline` passes, and a session waits so much longer for it
/// (chosen: twice the longest attempt that may be under way then).
pub const ROW_DEADLINE_GRACE: Duration = Duration::from_secs(60);
/// Silence before Open (fault 6).
pub const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// Silence in the middle of a message (fault 6).
pub const MESSAGE_STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// A session is told so long before its credential ends (chosen: its client fetches a new token and finishes what is under way).
pub const CREDENTIAL_END_NOTICE: Duration = Duration::from_secs(30);
/// But not before only this part of the time is left that was left when it was opened: a quarter (chosen: some tokens live for
/// a minute).
pub const CREDENTIAL_END_NOTICE_SHARE: u32 = 4;
/// Longest token (chosen: twice the largest that identity providers make; a header list may have 16 KiB).
pub const TOKEN_MAX_BYTES: usize = 8 * 1024;
/// How far an issuer's clock may be from ours (chosen: the least that is common; every token lives so much longer).
pub const TOKEN_LEEWAY: Duration = Duration::from_secs(30);
/// Verified tokens that are remembered (chosen: a few MiB; a client has one at a time).
pub const TOKENS_REMEMBERED: usize = 10_000;
/// For how long (chosen: [`JWKS_REFRESH`]; a key that was taken back verifies nothing for longer).
pub const TOKEN_REMEMBERED: Duration = JWKS_REFRESH;
/// An issuer's keys are fetched anew after this time (chosen: issuers announce new keys hours before they use them).
pub const JWKS_REFRESH: Duration = Duration::from_secs(10 * 60);
/// The shortest time between two fetches of an issuer's keys (chosen: strangers must not make us ask more often).
pub const JWKS_PAUSE: Duration = Duration::from_secs(30);
/// How long an issuer's keys hold while they cannot be fetched (fault 10).
pub const JWKS_KEEP: Duration = Duration::from_secs(24 * 3600);
/// A fetch may take this long (chosen: calls with a new key wait for it).
pub const JWKS_FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest key set (chosen: a hundred keys with their certificates).
pub const JWKS_MAX_BYTES: usize = 256 * 1024;
/// How often a file of keys is read (chosen: as the access file).
pub const JWKS_FILE_INTERVAL: Duration = ACCESS_RELOAD_INTERVAL;
/// The shortest time between two reads of it (chosen: a read costs microseconds).
pub const JWKS_FILE_PAUSE: Duration = Duration::from_secs(1);
/// Shortest RSA modulus (RFC 7518, section 3.3: 2048 bits).
pub const RSA_KEY_MIN_BYTES: usize = 256;
/// A client that reads no acks for this long is cut off (fault 28).
pub const ACK_WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// HTTP/2 keep-alive ping interval (fault 6).
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// HTTP/2 keep-alive ping time-out (fault 6).
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Encoded bytes that are handed to the lanes at once, and for which memory is reserved at once (chosen).
pub const CHUNK_TARGET_BYTES: usize = 1024 * 1024;

/// Characters of DynamoDB's words that are kept (chosen: a rule fits, an echoed request does not).
pub const STORE_MESSAGE_MAX_CHARS: usize = 200;
/// How long a connection to DynamoDB may take to come about (chosen; the SDK's own default is 3.1 s).
pub const STORE_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Attempts of one read (chosen).
pub const STORE_READ_ATTEMPTS: u32 = 4;
/// First back-off of a read's retries (chosen: a point read is worth milliseconds).
pub const STORE_READ_BACKOFF: Duration = Duration::from_millis(25);
/// Longest back-off of a read's retries (chosen).
pub const STORE_READ_BACKOFF_MAX: Duration = Duration::from_millis(500);
/// How long one attempt of a control call may take (chosen: CreateTable on AWS may take seconds).
pub const STORE_CONTROL_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a control call may take with all its retries (chosen).
pub const STORE_CONTROL_TIMEOUT: Duration = Duration::from_secs(30);
/// First back-off of a control call's retries (chosen: an unreachable endpoint should be said within a second).
pub const STORE_CONTROL_BACKOFF: Duration = Duration::from_millis(100);
/// How long a table may take to become active, or to be gone (chosen: AWS needs seconds, rarely a minute).
pub const STORE_TABLE_WAIT: Duration = Duration::from_secs(180);
/// First pause between looks at a table that is changing (chosen: local stores are done at once).
pub const STORE_TABLE_POLL: Duration = Duration::from_millis(20);
/// Longest pause between looks at a table that is changing (chosen).
pub const STORE_TABLE_POLL_MAX: Duration = Duration::from_secs(2);
/// Longest projection expression (DynamoDB: 4 KB).
pub const PROJECTION_MAX_BYTES: usize = 4_096;
/// How long a stopping embedded store waits for requests that are still running (chosen).
pub const EMBEDDED_STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// A read without a `grpc-timeout` is given this long (chosen: services that look up features wait for less).
pub const READ_TIMEOUT_DEFAULT: Duration = Duration::from_secs(2);
/// The longest that a read may take, whatever its `grpc-timeout` says (chosen).
pub const READ_TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// A batch answers this long before its deadline with what it has (chosen: an answer has to travel, too).
pub const READ_DEADLINE_MARGIN: Duration = Duration::from_millis(50);
/// BatchGetItem calls of one BatchGetRows that run at once (chosen: all of 1,000 keys in two rounds).
pub const READ_CONCURRENT_CALLS: usize = 5;
/// First ceiling of the wait before unprocessed keys are asked for again (chosen).
pub const READ_BACKOFF_BASE: Duration = Duration::from_millis(20);
/// Last ceiling of that wait (chosen).
pub const READ_BACKOFF_MAX: Duration = Duration::from_millis(500);
/// Bytes of rows in one answer (chosen: a message, less room for its frame). Keys beyond are reported, not dropped.
pub const READ_MAX_ANSWER_BYTES: usize = MESSAGE_MAX_BYTES - 1024 * 1024;
/// Bytes of items after which the rows of a range are sent (chosen: a page of DynamoDB's, and below a client's default limit
/// of 4 MiB for one message).
pub const RANGE_MESSAGE_BYTES: usize = 1024 * 1024;
/// Bytes of items that a range over several write shards means to hold (chosen: one message's worth).
pub const RANGE_BUFFER_BYTES: usize = MESSAGE_MAX_BYTES;
/// The guess at the size of a range's items before any was seen (chosen: a read unit).
pub const RANGE_FIRST_ITEM_BYTES: usize = 4096;
/// Queries of one range that run at once (chosen: 256 write shards in 16 rounds).
pub const RANGE_CONCURRENT_CALLS: usize = 16;
/// How often quotas forget who has been idle (chosen: a hundred thousand names are some 30 MB, and a look at them a few
/// milliseconds).
pub const QUOTA_IDLE_SWEEP: Duration = Duration::from_secs(60);
/// A rate limit may keep a session waiting for this long as plain back-pressure; beyond, its window shrinks (fault 11).
pub const QUOTA_WAIT_QUIET: Duration = Duration::from_millis(250);
/// How often a session's window may be halved because of its rate limit (chosen: 8 MiB to 512 KiB, and 64 batches to 4).
pub const QUOTA_WINDOW_HALVINGS: u32 = 4;
/// A session whose rate limit kept it waiting for less than [`QUOTA_WAIT_QUIET`] for so long gets half of that back (chosen).
pub const QUOTA_WINDOW_GROWS_AFTER: Duration = Duration::from_secs(5);
/// Unary calls in handlers at once, for each core (chosen: a core serves some 30,000 point reads a second, and DynamoDB takes
/// 10 ms: 300 are in handlers when all goes well).
pub const CALLS_PER_CORE: usize = 512;
/// When to come back where there are too many of them (chosen: above what most calls take).
pub const OVERLOAD_RETRY: Duration = Duration::from_millis(200);
/// When to come back for a stream where a principal has as many as it may have (chosen: nobody knows when one ends).
pub const STREAM_RETRY: Duration = Duration::from_secs(1);
/// First wait of a client before it tries again (chosen: above a process restart's jitter, below what people notice).
pub const CLIENT_BACKOFF_BASE: Duration = Duration::from_millis(100);
/// Longest wait of a client between two attempts (chosen).
pub const CLIENT_BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A writer without progress for this long gives up, unless told otherwise (chosen: outlives a rolling restart).
pub const CLIENT_RETRY_FOR: Duration = Duration::from_secs(300);
/// A writer tries this long to open its first call, unless told otherwise (chosen: a wrong port should be noticed).
pub const CLIENT_OPEN_FOR: Duration = Duration::from_secs(10);
/// A connection attempt of a client may take this long (chosen).
pub const CLIENT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A unary call of a client may take this long with all attempts, unless told otherwise (chosen).
pub const CLIENT_CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Making or dropping a table may take this long, with all attempts (chosen: above [`STORE_TABLE_WAIT`]).
pub const CLIENT_TABLE_CHANGE_TIMEOUT: Duration = Duration::from_secs(240);
/// Attempts of a unary call (chosen).
pub const CLIENT_CALL_ATTEMPTS: u32 = 3;
/// How long a client waits for the status after the last message of a call (chosen).
pub const CLIENT_TRAILER_TIMEOUT: Duration = Duration::from_secs(5);

/// Write calls in flight to the embedded store (chosen: enough that its one lock is never idle).
pub const EMBEDDED_ATTEMPTS_IN_FLIGHT: usize = 8;
/// How long a write call to the embedded store may take (chosen: 25 items wait behind 175 others for a slow disk).
pub const EMBEDDED_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);
/// Write units a second of one partition (DynamoDB). The service's own limit, which nothing but more partitions lifts.
pub const PARTITION_WRITE_UNITS_PER_SECOND: f64 = 1_000.0;
/// Read units a second of one partition (DynamoDB).
pub const PARTITION_READ_UNITS_PER_SECOND: f64 = 3_000.0;
/// Actions in one TransactWriteItems (DynamoDB).
pub const TRANSACTION_MAX_ACTIONS: usize = 100;
/// How long a transaction's token makes its repetition harmless (DynamoDB).
pub const TRANSACTION_TOKEN_VALID: Duration = Duration::from_secs(10 * 60);
/// Write sessions that the status page's board lists (chosen: about a mebibyte of names and numbers).
pub const SESSION_BOARD_MAX_SESSIONS: usize = 4_096;
/// How often the access file is looked at (chosen: "within seconds").
pub const ACCESS_RELOAD_INTERVAL: Duration = Duration::from_secs(5);
/// A new access file is read twice, so far apart, and must be the same: it may be half written (chosen: editors take less).
pub const ACCESS_SETTLE: Duration = Duration::from_millis(100);
/// Largest access file (chosen: tens of thousands of keys).
pub const ACCESS_FILE_MAX_BYTES: u64 = 4 * 1024 * 1024;
/// Longest name of a principal (chosen: an e-mail address or a Kubernetes service account fits).
pub const PRINCIPAL_MAX_BYTES: usize = 256;
/// Sessions that the span of one attempt is linked to (chosen: a collector's own limit is 128, and more tell nothing).
pub const ATTEMPT_LINKS_MAX: usize = 32;
/// How long the end of a process waits for its telemetry to be exported (chosen: a collector nearby takes milliseconds).
pub const OTLP_CLOSE_TIMEOUT: Duration = Duration::from_secs(3);
/// Log lines of one place in the code that are shown in a window; the rest are counted (chosen: enough to see a pattern).
pub const LOG_REPEATS_SHOWN: u32 = 20;
/// That window (chosen: a person who watches sees the count soon).
pub const LOG_REPEATS_WINDOW: Duration = Duration::from_secs(10);
/// Label sets of one metric (OpenTelemetry's own default). What is beyond is counted together, as `other`.
pub const METRIC_LABEL_SETS_MAX: usize = 2_000;

/// Connections that a MiB of `memory_mib` stands for (chosen: 256 KiB each, for TLS, HTTP/2 buffers and half-read frames).
pub const CONNECTIONS_PER_MIB: usize = 4;
/// Open files that connections leave to the store, the logs and the side port (chosen).
pub const RESERVED_OPEN_FILES: usize = 256;
/// How long a TLS handshake may take (chosen: a few round trips of a slow link).
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client whose handshake failed may take to read why (chosen: a round trip).
pub const PARTING_TIMEOUT: Duration = Duration::from_secs(1);
/// What is read of it meanwhile (chosen: a first request).
pub const PARTING_MAX_BYTES: usize = 64 * 1024;
/// TLS handshakes at once (chosen: about 40 KiB each; one more ends the oldest).
pub const TLS_HANDSHAKES_MAX: usize = 512;
/// How often the files of certificates are read again (chosen: as the access file; a rotation is no hurry).
pub const TLS_RELOAD_INTERVAL: Duration = Duration::from_secs(5);
/// How long before its end a certificate is warned about (chosen: cert-manager renews 90-day certificates 30 days before).
pub const TLS_EXPIRY_WARNING: Duration = Duration::from_secs(7 * 24 * 3600);
/// A connection has said HTTP/2's preface and its first frame by then (fault 6).
pub const PREFACE_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after the first of several failures to accept (chosen: file handles come back when connections close).
pub const ACCEPT_BACKOFF: Duration = Duration::from_millis(20);
/// The longest such pause (chosen).
pub const ACCEPT_BACKOFF_MAX: Duration = Duration::from_secs(1);
/// Control frames that one connection may send at once (chosen: a client that opens 256 streams says a few for each).
pub const CONTROL_FRAMES_BURST: u32 = 1_000;
/// Control frames a second beyond those that belong to answers (chosen: keep-alive needs one in seconds).
pub const CONTROL_FRAMES_PER_SECOND: u32 = 100;
/// Control frames that an answer's frame stands for: a window update for the stream, one for the connection, and the ping by
/// which grpc-go, grpc-java and grpc-core measure their bandwidth.
pub const CONTROL_FRAMES_PER_ANSWER_FRAME: u32 = 3;
/// The smallest DATA frame that counts as an answer: a message's prefix and anything at all; a session's first acks have 9
/// bytes. Smaller ones are what a client gets that opens its window by single bytes.
pub const ANSWER_FRAME_MIN_BYTES: u32 = 6;
/// Streams that one connection may reset at once when they have barely begun (chosen: twice the streams of a connection).
pub const YOUNG_RESETS_BURST: u32 = 512;
/// Such resets a second, beyond those that other streams stand for (chosen: hedged reads of a busy client).
pub const YOUNG_RESETS_PER_SECOND: u32 = 100;
/// A stream that lived for twice this long is no rapid reset (chosen: clients that score payments give up after 10 ms, all at
/// once when DynamoDB is slow; and such calls keep to the limit of streams at once, which rapid resets get around).
pub const YOUNG_STREAM_AGE: Duration = Duration::from_millis(5);
/// Pings are answered, but an answer to a ping that was not sent is only ever noise (chosen: 20 of them use up the burst).
pub const UNASKED_PONG_COST: u32 = 50;
/// Wait of a new connection from an address whose last one was closed for a flood; doubles (chosen).
pub const FLOOD_PENALTY: Duration = Duration::from_millis(100);
/// The longest such wait (chosen: below clients' connect time-outs, since others may share the address).
pub const FLOOD_PENALTY_MAX: Duration = Duration::from_secs(2);
/// An address without a flood for this long is forgotten (chosen).
pub const FLOOD_MEMORY: Duration = Duration::from_secs(60);
/// Addresses with floods that are remembered (chosen: 64 bytes each).
pub const FLOOD_ADDRESSES_MAX: usize = 4096;
/// Header list of one request (hyper's default, made ours: a token of 8 KiB and trace context fit).
pub const HEADER_LIST_MAX_BYTES: u32 = 16 * 1024;
/// Streams that were reset before anybody looked at them (h2's default, made ours).
pub const PENDING_RESETS_MAX: usize = 20;
/// Streams of one connection that we reset for what was wrong in them, in its whole life; calls beyond its streams at once are
/// among them (chosen: a quarter of hyper's default, with which such calls cost others four times their p99, measured).
pub const ERROR_RESETS_MAX: usize = 256;
/// Bytes a second that a message must come in with, beyond the first [`MESSAGE_STALL_TIMEOUT`] of waiting (chosen: a slice
/// of 2 MiB in two minutes).
pub const MESSAGE_MIN_BYTES_PER_SECOND: u32 = 16 * 1024;
/// How often a client looks at its token's file (chosen: Kubernetes projects a new one minutes before the old one ends).
pub const CLIENT_TOKEN_RECHECK: Duration = Duration::from_secs(1);
/// Connections to the side port at once (chosen: some scrapers, probes, and people with a page each).
pub const ADMIN_MAX_CONNECTIONS: usize = 128;
/// How long a request's head may take on the side port, and an idle connection may stay (chosen: a page asks once a second).
pub const ADMIN_HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection to the side port may last (chosen: a browser opens another one unnoticed).
pub const ADMIN_CONNECTION_MAX_AGE: Duration = Duration::from_secs(120);
/// A request's head on the side port, in bytes (chosen).
pub const ADMIN_MAX_HEAD_BYTES: usize = 16 * 1024;
